//! Candidates of `prune-channels`: shares of the units that go, or of what a target leaves.

use serde_json::{Map, Value};

use super::ground::Ground;
use super::values::ValueLadder;
use crate::passes::{PassError, PruneChannels};

/// Candidates between the most that may go and the least.
const RUNGS: usize = 32;

/// The greatest share of the units that goes where the step names none.
const MOST: f64 = 0.95;

/// The options that are varied.
const RATIO: &str = "ratio";
const MACS: &str = "target-macs";
const BYTES: &str = "target-bytes";

/// Values of one option, from the one that removes most. `written` are the options of the step: a ratio or target among them is the
/// most that goes.
pub(super) fn ladder<'a>(
    ground: &'a Ground<'a>,
    written: &Map<String, Value>,
) -> Result<ValueLadder<'a, PruneChannels>, PassError> {
    let options: PruneChannels = ground.read()?;
    if options.target_latency.is_some() || options.replay.is_some() {
        let message = "until: target-latency and replay choose units themselves; bound latency with until: latency<=0.9";
        return Err(ground.wrong(message.to_owned()));
    }
    let (option, from, to) = match (options.target_macs, options.target_bytes) {
        (None, None) if written.contains_key(RATIO) => (RATIO, options.ratio, 0.0),
        (None, None) => (RATIO, MOST, 0.0),
        (Some(target), None) => (MACS, target, 1.0),
        (None, Some(target)) => (BYTES, target, 1.0),
        (Some(_), Some(_)) => {
            return Err(ground.wrong("until: one of target-macs and target-bytes".to_owned()));
        }
    };
    // The last value would remove nothing, and is left out.
    let at = |rung: usize| from + (to - from) * rung as f64 / RUNGS as f64;
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let values = (0..RUNGS).map(|rung| rounded(at(rung))).collect();
    Ok(ValueLadder::new(ground, option, values, |option, value| {
        format!("{option} {value}")
    }))
}
