//! Candidates of `compress`: bits a weight.

use super::ground::Ground;
use super::values::ValueLadder;
use crate::passes::{Compress, PassError};

/// Candidates, from the fewest bits to the most that codes have.
const RUNGS: usize = 29;
/// The fewest bits.
const FEWEST: f64 = 1.0;
/// Between two candidates.
const APART: f64 = 0.25;

/// Numbers of bits.
pub(super) fn ladder<'a>(ground: &'a Ground<'a>) -> Result<ValueLadder<'a, Compress>, PassError> {
    let options: Compress = ground.read()?;
    if options.bits.is_some() || options.ratio.is_some() || options.max_bytes.is_some() {
        let message = "until: it looks for the bits itself; leave out bits, ratio and max-bytes";
        return Err(ground.wrong(message.to_owned()));
    }
    let values = (0..RUNGS).map(|rung| FEWEST + APART * rung as f64).collect();
    Ok(ValueLadder::new(ground, "bits", values, |_, bits| {
        format!("{bits} bits a weight")
    }))
}
