//! Candidates of `search-precision`: the rungs on which it gives layers more bits.

use serde_json::{Map, Value};

use super::climb::{Choice, Found, Ladder, Made};
use super::ground::{Ground, Told};
use super::report::Searched;
use crate::passes::{Pass, PassError, PrecisionRung, QuantizeWeights, SearchPrecision};

/// What the pass would try.
pub(super) struct PrecisionLadder<'a> {
    ground: &'a Ground<'a>,
    rungs: Vec<PrecisionRung>,
}

impl<'a> PrecisionLadder<'a> {
    /// Measures every layer once.
    pub(super) fn new(ground: &'a Ground<'a>) -> Result<Self, PassError> {
        let options: SearchPrecision = ground.read()?;
        let rungs = options.rungs(ground.input, ground.context)?;
        if rungs.is_empty() {
            return Err(
                ground.wrong("until: no weight of the chosen operators: nothing to quantize".to_owned())
            );
        }
        Ok(Self { ground, rungs })
    }

    fn rung(&self, choice: &[usize]) -> Option<&PrecisionRung> {
        choice.first().and_then(|at| self.rungs.get(*at))
    }
}

impl Ladder for PrecisionLadder<'_> {
    fn rungs(&self) -> usize {
        self.rungs.len()
    }

    fn choice(&self, rung: usize) -> Choice {
        vec![rung]
    }

    fn words(&self, choice: &[usize]) -> String {
        self.rung(choice)
            .map_or_else(String::new, |rung| rung.words.clone())
    }

    fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
        let mut model = self.ground.input.clone();
        let mut report = match self.rung(choice) {
            Some(rung) => rung.step.run(&mut model, self.ground.context)?,
            None => return Err(self.ground.wrong("until: there is no such candidate".to_owned())),
        };
        report.changes.extend(
            self.rung(choice)
                .into_iter()
                .flat_map(|rung| rung.changes.clone()),
        );
        Ok(Made { model, report })
    }

    fn likely_low(&self) -> bool {
        false
    }
}

impl Told for PrecisionLadder<'_> {
    fn step(&self, choice: &[usize]) -> (String, Map<String, Value>) {
        let defaults = serde_json::to_value(QuantizeWeights::default()).unwrap_or_default();
        let step = self.rung(choice).map(|rung| &rung.step);
        let options = step
            .and_then(|step| serde_json::to_value(step).ok())
            .unwrap_or_default();
        let own = options.as_object().into_iter().flatten();
        let own = own
            .filter(|(name, value)| defaults.get(name.as_str()) != Some(*value))
            .map(|(name, value)| (name.clone(), value.clone()));
        (QuantizeWeights::default().about().name.to_owned(), own.collect())
    }

    fn tell(&self, _: &Found, _: &mut Searched) {}
}
