//! Candidates that are values of one option of a pass, from the cheapest.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::climb::{Choice, Found, Ladder, Made};
use super::ground::{Ground, Told};
use super::report::Searched;
use crate::passes::{Pass, PassError};

/// The values of the option, for passes that read their options as `P`.
pub(super) struct ValueLadder<'a, P> {
    ground: &'a Ground<'a>,
    option: &'static str,
    values: Vec<f64>,
    /// A candidate in words.
    words: fn(option: &str, value: f64) -> String,
    pass: std::marker::PhantomData<P>,
}

impl<'a, P: Pass + DeserializeOwned> ValueLadder<'a, P> {
    pub(super) fn new(
        ground: &'a Ground<'a>,
        option: &'static str,
        values: Vec<f64>,
        words: fn(&str, f64) -> String,
    ) -> Self {
        Self {
            ground,
            option,
            values,
            words,
            pass: std::marker::PhantomData,
        }
    }

    fn value(&self, choice: &[usize]) -> f64 {
        let at = choice.first().copied().unwrap_or_default();
        self.values.get(at).copied().unwrap_or_default()
    }

    fn options(&self, choice: &[usize]) -> Map<String, Value> {
        let mut options = self.ground.options.clone();
        options.insert(self.option.to_owned(), self.value(choice).into());
        options
    }
}

impl<P: Pass + DeserializeOwned> Ladder for ValueLadder<'_, P> {
    fn rungs(&self) -> usize {
        self.values.len()
    }

    fn choice(&self, rung: usize) -> Choice {
        vec![rung]
    }

    fn words(&self, choice: &[usize]) -> String {
        (self.words)(self.option, self.value(choice))
    }

    fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
        let options = Value::Object(self.options(choice));
        let pass: P =
            serde_json::from_value(options).map_err(|error| self.ground.wrong(error.to_string()))?;
        let mut model = self.ground.input.clone();
        let report = pass.run(&mut model, self.ground.context)?;
        Ok(Made { model, report })
    }

    fn likely_low(&self) -> bool {
        false
    }
}

impl<P: Pass + DeserializeOwned> Told for ValueLadder<'_, P> {
    fn step(&self, choice: &[usize]) -> (String, Map<String, Value>) {
        (self.ground.pass.to_owned(), self.options(choice))
    }

    fn tell(&self, _: &Found, _: &mut Searched) {}
}
