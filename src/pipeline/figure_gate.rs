//! Gates on the figures of tasks, with what the size of the sample allows to say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gates::{Decision, GateReport, Judged};
use crate::evaluate::{Interval, TaskFigures};

/// Bounds on a figure of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FigureGate {
    /// The smallest value that is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The largest value that is accepted; of `perplexity`, as a share of the input's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The largest loss against the input model that is accepted, absolute, in the direction in which the figure is worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// Decide by the interval at this confidence: what it does not decide is neither accepted nor refused for good, and the gate says
    /// how many more samples would decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// Figures are quotients; half a unit in the last place must not decide.
const SLACK: f64 = 1e-12;

/// Confidence of the intervals that are shown where the gate asks for none.
const USUAL: f64 = 0.95;

/// One bound with what it is judged by.
struct Bound {
    /// What is judged, in words.
    what: String,
    value: f64,
    interval: Option<Interval>,
    bound: f64,
    /// Whether the value must be at least the bound.
    at_least: bool,
}

/// How a bound is met, and how many more samples would tell where these do not.
pub(super) struct Outcome {
    pub(super) decision: Decision,
    pub(super) more_samples: Option<u64>,
}

/// Judges a value by its interval where there is one, else by itself. The width of an interval is taken to shrink with the square root of
/// the samples.
pub(super) fn decide(
    value: f64,
    interval: Option<Interval>,
    bound: f64,
    at_least: bool,
    samples: u64,
) -> Outcome {
    let holds = |value: f64| match at_least {
        true => value >= bound - SLACK,
        false => value <= bound + SLACK,
    };
    let sure = |decision| Outcome {
        decision,
        more_samples: None,
    };
    let Some(interval) = interval else {
        return sure(if holds(value) {
            Decision::Passed
        } else {
            Decision::Broken
        });
    };
    match (holds(interval.low), holds(interval.high)) {
        (true, true) => sure(Decision::Passed),
        (false, false) => sure(Decision::Broken),
        _ => {
            let apart = (value - bound).abs();
            let half = match value >= bound {
                true => value - interval.low,
                false => interval.high - value,
            };
            let needed = samples as f64 * (half / apart).powi(2);
            let more = (apart > SLACK && needed.is_finite())
                .then(|| (needed - samples as f64).ceil().max(1.0) as u64);
            Outcome {
                decision: Decision::Undecided,
                more_samples: more,
            }
        }
    }
}

impl Outcome {
    /// What to add to a message.
    pub(super) fn words(&self, confidence: f64, samples: u64) -> String {
        match (self.decision, self.more_samples) {
            (Decision::Undecided, Some(more)) => format!(
                "; undecided at a confidence of {confidence} with {samples} samples: about {more} more would decide if the value stays as it is"
            ),
            (Decision::Undecided, None) => {
                format!(
                    "; undecided at a confidence of {confidence}: the value is at the bound, more samples have to move it"
                )
            }
            _ => String::new(),
        }
    }
}

impl FigureGate {
    pub(super) fn judge(&self, name: &str, judged: &Judged<'_>) -> GateReport {
        let missing = |why: String| GateReport {
            name: name.to_owned(),
            passed: false,
            decision: Decision::Broken,
            more_samples: None,
            value: None,
            bound: None,
            message: format!("{name} is not known: {why}"),
        };
        let Some(shown) = judged.figures.and_then(|figures| figures.task.as_ref()) else {
            let why = judged
                .reason
                .unwrap_or("the evaluation data have no `task` with this figure");
            return missing(why.to_owned());
        };
        let own = match (
            self.confidence,
            judged.state.and_then(|state| state.task.as_ref()),
        ) {
            (Some(confidence), Some(state)) if confidence != USUAL => Some(state.figures(confidence)),
            _ => None,
        };
        let task = own.as_ref().unwrap_or(shown);
        let Some(value) = task.figures.get(name) else {
            let known: Vec<&str> = task.figures.keys().map(String::as_str).collect();
            return missing(format!("the task has {}", known.join(", ")));
        };
        let Some(value) = *value else {
            return missing("the data say nothing of it".to_owned());
        };
        let samples = judged.figures.map_or(0, |figures| figures.samples);
        let bounds = match self.bounds(name, value, task) {
            Ok(bounds) => bounds,
            Err(why) => return missing(why.to_string()),
        };
        let Some(first) = bounds.first() else {
            return GateReport {
                passed: true,
                decision: Decision::Passed,
                value: Some(value),
                message: format!("{name} is {value:.4}; the gate has no bound"),
                ..missing(String::new())
            };
        };
        let judged = |bound: &Bound| {
            let interval = bound.interval.filter(|_| self.confidence.is_some());
            if self.confidence.is_some() && interval.is_none() {
                let message = format!(
                    "{}, which has no interval: judge it without `confidence`",
                    bound.what
                );
                return GateReport {
                    value: Some(bound.value),
                    bound: Some(bound.bound),
                    message,
                    ..missing(String::new())
                };
            }
            let outcome = decide(bound.value, interval, bound.bound, bound.at_least, samples);
            let relation = if bound.at_least { "at least" } else { "at most" };
            let interval = bound.interval.map_or(String::new(), |i| {
                format!(" (interval {:.4} to {:.4})", i.low, i.high)
            });
            let message = format!(
                "{}{interval}, {relation} {} is accepted{}",
                bound.what,
                bound.bound,
                outcome.words(self.confidence.unwrap_or(USUAL), samples)
            );
            GateReport {
                name: name.to_owned(),
                passed: outcome.decision == Decision::Passed,
                decision: outcome.decision,
                more_samples: outcome.more_samples,
                value: Some(bound.value),
                bound: Some(bound.bound),
                message,
            }
        };
        let reports: Vec<GateReport> = bounds.iter().map(judged).collect();
        let worst = reports.iter().max_by_key(|report| report.decision as u8).cloned();
        match worst {
            Some(worst) if worst.passed && reports.len() > 1 => GateReport {
                message: reports
                    .iter()
                    .map(|r| r.message.clone())
                    .collect::<Vec<_>>()
                    .join("; "),
                ..worst
            },
            Some(worst) => worst,
            None => missing(first.what.clone()),
        }
    }

    fn bounds(&self, name: &str, value: f64, task: &TaskFigures) -> Result<Vec<Bound>, NoReference> {
        let interval = task.intervals.get(name).copied();
        let mut bounds = Vec::new();
        if let Some(bound) = self.at_least {
            bounds.push(Bound {
                what: format!("{name} is {value:.4}"),
                value,
                interval,
                bound,
                at_least: true,
            });
        }
        if let Some(bound) = self.at_most {
            let relative = name == RELATIVE;
            let reference = task
                .reference
                .as_ref()
                .and_then(|figures| figures.get(name).copied().flatten());
            let (what, value, interval) = match (relative, reference) {
                (false, _) => (format!("{name} is {value:.4}"), value, interval),
                (true, Some(reference)) => (
                    format!(
                        "{name} is {:.4} of the input's ({value:.4} of {reference:.4})",
                        value / reference
                    ),
                    value / reference,
                    interval.map(|i| Interval {
                        low: i.low / reference,
                        high: i.high / reference,
                    }),
                ),
                (true, None) => {
                    return Err(NoReference::Share);
                }
            };
            bounds.push(Bound {
                what,
                value,
                interval,
                bound,
                at_least: false,
            });
        }
        if let Some(bound) = self.drop {
            let drop = task.drops.get(name).copied().flatten();
            let drop = drop.ok_or(NoReference::Loss)?;
            bounds.push(Bound {
                what: format!("{name} is {value:.4}, a loss of {drop:.4}"),
                value: drop,
                interval: task.drop_intervals.get(name).copied(),
                bound,
                at_least: false,
            });
        }
        Ok(bounds)
    }
}

/// A bound on what is only known beside the input's figure.
#[derive(Debug, thiserror::Error)]
enum NoReference {
    #[error("`at-most` is a share of the input's, which was not evaluated")]
    Share,
    #[error("its loss is not: the input was not evaluated")]
    Loss,
}

/// The figure whose `at-most` is a share of the input's.
const RELATIVE: &str = "perplexity";

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(value: f64, low: f64, high: f64, bound: f64) -> (Decision, Option<u64>) {
        let outcome = decide(value, Some(Interval { low, high }), bound, false, 80);
        (outcome.decision, outcome.more_samples)
    }

    #[test]
    fn an_interval_around_the_bound_decides_nothing() {
        assert_eq!(decided(0.001, -0.001, 0.003, 0.005), (Decision::Passed, None));
        assert_eq!(decided(0.02, 0.01, 0.03, 0.005), (Decision::Broken, None));
        // The bound is 0.004 away and the interval reaches 0.008: it has to halve, which takes four times the samples.
        assert_eq!(
            decided(0.001, -0.007, 0.009, 0.005),
            (Decision::Undecided, Some(240))
        );
        assert_eq!(decided(0.005, 0.0, 0.01, 0.005), (Decision::Undecided, None));
        assert_eq!(decide(0.1, None, 0.05, true, 80).decision, Decision::Passed);
    }
}
