//! Candidates of `compress`: bits a weight.

use serde_json::{Map, Value};

use super::climb::{Choice, Found, Ladder, Made};
use super::report::Searched;
use super::search::{Ground, Told};
use crate::passes::{Compress, Pass, PassError};

/// Candidates, from the fewest bits to the most that codes have.
const RUNGS: usize = 29;
/// The fewest bits.
const FEWEST: f64 = 1.0;
/// Between two candidates.
const APART: f64 = 0.25;

/// Numbers of bits.
pub(super) struct BitsLadder<'a> {
    ground: &'a Ground<'a>,
}

impl<'a> BitsLadder<'a> {
    pub(super) fn new(ground: &'a Ground<'a>) -> Result<Self, PassError> {
        let options: Compress = ground.read()?;
        if options.bits.is_some() || options.ratio.is_some() || options.max_bytes.is_some() {
            let message = "until: it looks for the bits itself; leave out bits, ratio and max-bytes";
            return Err(ground.wrong(message.to_owned()));
        }
        Ok(Self { ground })
    }

    fn bits(choice: &[usize]) -> f64 {
        FEWEST + APART * choice.first().copied().unwrap_or_default() as f64
    }

    fn options(&self, choice: &[usize]) -> Map<String, Value> {
        let mut options = self.ground.options.clone();
        options.insert("bits".to_owned(), Self::bits(choice).into());
        options
    }
}

impl Ladder for BitsLadder<'_> {
    fn rungs(&self) -> usize {
        RUNGS
    }

    fn choice(&self, rung: usize) -> Choice {
        vec![rung]
    }

    fn words(&self, choice: &[usize]) -> String {
        format!("{} bits a weight", Self::bits(choice))
    }

    fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
        let options = Value::Object(self.options(choice));
        let pass: Compress =
            serde_json::from_value(options).map_err(|error| self.ground.wrong(error.to_string()))?;
        let mut model = self.ground.input.clone();
        let report = pass.run(&mut model, self.ground.context)?;
        Ok(Made { model, report })
    }

    fn likely_low(&self) -> bool {
        false
    }
}

impl Told for BitsLadder<'_> {
    fn step(&self, choice: &[usize]) -> (String, Map<String, Value>) {
        (self.ground.pass.to_owned(), self.options(choice))
    }

    fn tell(&self, _: &Found, _: &mut Searched) {}
}
