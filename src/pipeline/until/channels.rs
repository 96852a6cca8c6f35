//! Candidates of `prune-channels`: shares of the units that go, or of what a target leaves.

use serde_json::{Map, Value};

use super::climb::{Choice, Found, Ladder, Made};
use super::report::Searched;
use super::search::{Ground, Told};
use crate::passes::{Pass, PassError, PruneChannels};

/// Candidates between the most that may go and the least.
const RUNGS: usize = 32;

/// The greatest share of the units that goes where the step names none.
const MOST: f64 = 0.95;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knob {
    Ratio,
    Macs,
    Bytes,
}

impl Knob {
    fn option(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Macs => "target-macs",
            Self::Bytes => "target-bytes",
        }
    }
}

/// Values of one option, from the one that removes most.
pub(super) struct ChannelLadder<'a> {
    ground: &'a Ground<'a>,
    knob: Knob,
    values: Vec<f64>,
}

impl<'a> ChannelLadder<'a> {
    /// `written` are the options of the step: a ratio or target among them is the most that goes.
    pub(super) fn new(ground: &'a Ground<'a>, written: &Map<String, Value>) -> Result<Self, PassError> {
        let options: PruneChannels = ground.read()?;
        if options.target_latency.is_some() || options.replay.is_some() {
            let message = "until: target-latency and replay choose units themselves; bound latency with until: latency<=0.9";
            return Err(ground.wrong(message.to_owned()));
        }
        let (knob, from, to) = match (options.target_macs, options.target_bytes) {
            (None, None) if written.contains_key(Knob::Ratio.option()) => (Knob::Ratio, options.ratio, 0.0),
            (None, None) => (Knob::Ratio, MOST, 0.0),
            (Some(target), None) => (Knob::Macs, target, 1.0),
            (None, Some(target)) => (Knob::Bytes, target, 1.0),
            (Some(_), Some(_)) => {
                return Err(ground.wrong("until: one of target-macs and target-bytes".to_owned()));
            }
        };
        // The last value would remove nothing, and is left out.
        let at = |rung: usize| from + (to - from) * rung as f64 / RUNGS as f64;
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        Ok(Self {
            ground,
            knob,
            values: (0..RUNGS).map(|rung| rounded(at(rung))).collect(),
        })
    }

    fn value(&self, choice: &[usize]) -> f64 {
        let at = choice.first().copied().unwrap_or_default();
        self.values.get(at).copied().unwrap_or_default()
    }

    fn options(&self, choice: &[usize]) -> Map<String, Value> {
        let mut options = self.ground.options.clone();
        options.insert(self.knob.option().to_owned(), self.value(choice).into());
        options
    }
}

impl Ladder for ChannelLadder<'_> {
    fn rungs(&self) -> usize {
        self.values.len()
    }

    fn choice(&self, rung: usize) -> Choice {
        vec![rung]
    }

    fn words(&self, choice: &[usize]) -> String {
        format!("{} {}", self.knob.option(), self.value(choice))
    }

    fn make(&self, choice: &[usize]) -> Result<Made, PassError> {
        let options = Value::Object(self.options(choice));
        let pass: PruneChannels =
            serde_json::from_value(options).map_err(|error| self.ground.wrong(error.to_string()))?;
        let mut model = self.ground.input.clone();
        let report = pass.run(&mut model, self.ground.context)?;
        Ok(Made { model, report })
    }

    fn likely_low(&self) -> bool {
        false
    }
}

impl Told for ChannelLadder<'_> {
    fn step(&self, choice: &[usize]) -> (String, Map<String, Value>) {
        (self.ground.pass.to_owned(), self.options(choice))
    }

    fn tell(&self, _: &Found, _: &mut Searched) {}
}
