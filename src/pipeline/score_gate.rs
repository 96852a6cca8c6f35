//! Gates on scores of classes, by the figure itself or by its interval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::figure_gate::decide;
use super::gates::{Decision, GateReport, Judged};
use crate::evaluate::{Interval, wilson};

/// Bounds on a score between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ScoreGate {
    /// The smallest score that is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The largest loss against the input model that is accepted, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// Decide by the unfavourable end of the interval at this confidence instead of by the point estimate (accuracy only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// A score as it is judged: with its loss, and the intervals of both where they are known.
struct Scored {
    name: &'static str,
    score: f64,
    drop: Option<f64>,
    interval: Option<Interval>,
    drop_interval: Option<Interval>,
    samples: u64,
}

impl ScoreGate {
    pub(super) fn missing(name: &str, judged: &Judged<'_>) -> GateReport {
        let why = judged.reason.unwrap_or("the evaluation data has no class labels");
        GateReport::broken(name, format!("{name} is not known: {why}"))
    }

    pub(super) fn judge_accuracy(&self, judged: &Judged<'_>) -> GateReport {
        let Some((figures, accuracy)) = judged
            .figures
            .and_then(|figures| Some((figures, figures.accuracy?)))
        else {
            return Self::missing("accuracy", judged);
        };
        let confidence = self.confidence.unwrap_or(0.95);
        let table = judged.state.and_then(|state| state.classification.as_ref());
        let paired = judged.state.and_then(|state| state.paired.as_ref());
        self.judge(&Scored {
            name: "accuracy",
            score: accuracy,
            drop: figures.against.as_ref().and_then(|against| against.drop),
            interval: table.map(|table| wilson(table.correct(), table.samples(), confidence)),
            drop_interval: paired.map(|paired| paired.drop_interval(confidence)),
            samples: figures.samples,
        })
    }

    pub(super) fn judge_f1(&self, judged: &Judged<'_>) -> GateReport {
        let Some((figures, f1)) = judged.figures.and_then(|figures| Some((figures, figures.f1?))) else {
            return Self::missing("f1", judged);
        };
        let drop = figures
            .against
            .as_ref()
            .and_then(|against| against.f1)
            .map(|reference| reference - f1);
        self.judge(&Scored {
            name: "f1",
            score: f1,
            drop,
            interval: None,
            drop_interval: None,
            samples: figures.samples,
        })
    }

    fn judge(&self, on: &Scored) -> GateReport {
        let (name, score) = (on.name, on.score);
        let shown = |interval: Option<Interval>| {
            interval.map_or(String::new(), |interval| {
                format!(" (interval {:.4} to {:.4})", interval.low, interval.high)
            })
        };
        let confidence = self.confidence.unwrap_or(0.95);
        let judged = |value: f64, interval: Option<Interval>, bound: f64, at_least: bool, message: String| {
            let interval = interval.filter(|_| self.confidence.is_some());
            let outcome = decide(value, interval, bound, at_least, on.samples);
            GateReport {
                name: name.to_owned(),
                passed: outcome.decision == Decision::Passed,
                decision: outcome.decision,
                more_samples: outcome.more_samples,
                value: Some(value),
                bound: Some(bound),
                message: format!("{message}{}", outcome.words(confidence, on.samples)),
            }
        };
        let mut reports = Vec::new();
        if let Some(bound) = self.at_least {
            let message = format!(
                "{name} is {score:.4}{}, at least {bound} is accepted",
                shown(on.interval)
            );
            reports.push(judged(score, on.interval, bound, true, message));
        }
        if let Some(bound) = self.drop {
            let Some(drop) = on.drop else {
                let message = format!("the loss of {name} is not known: the input was not evaluated");
                return GateReport::plain(name, false, Some(score), Some(bound), message);
            };
            let message = format!(
                "{name} is {score:.4}, a loss of {drop:.4}{}, at most {bound} is accepted",
                shown(on.drop_interval)
            );
            reports.push(judged(drop, on.drop_interval, bound, false, message));
        }
        if let Some(failed) = reports.iter().position(|report| !report.passed) {
            return reports.swap_remove(failed);
        }
        let message = reports
            .iter()
            .map(|report| report.message.clone())
            .collect::<Vec<_>>()
            .join("; ");
        match reports.pop() {
            Some(last) => GateReport { message, ..last },
            None => {
                let message = format!(
                    "{name} is {score:.4}{}; the gate has no bound",
                    shown(on.interval)
                );
                GateReport::plain(name, true, Some(score), None, message)
            }
        }
    }
}
