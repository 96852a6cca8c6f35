//! Gates: what a result must satisfy, or nothing is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::figure_gate::FigureGate;
use super::outputs_gate::OutputsGate;
use super::score_gate::ScoreGate;
use crate::evaluate::{Figures, State};
use crate::verify::VerifyReport;

/// A condition on the result of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Gate {
    /// How near the outputs must be to those of the input model.
    Outputs(OutputsGate),
    /// The size of the file with its external data, as a share of the input's.
    Size(Share),
    /// The number of nodes, as a share of the input's.
    Nodes(Share),
    /// The number of multiply-accumulate operations, as a share of the input's.
    Macs(Share),
    /// The accuracy on the evaluation data.
    Accuracy(ScoreGate),
    /// The macro F1 on the evaluation data.
    F1(ScoreGate),
    /// Mean average precision over IoU 0.50 to 0.95 on the evaluation data.
    Map(FigureGate),
    /// Average precision at IoU 0.50.
    Map50(FigureGate),
    /// Average precision at IoU 0.75.
    Map75(FigureGate),
    /// Average recall with 100 boxes an image.
    Ar100(FigureGate),
    /// Share of the boxes that the input finds which the result finds, too.
    Found(FigureGate),
    /// Share of the result's boxes that the input does not find.
    New(FigureGate),
    /// Average precision of keypoints by their similarity.
    OksMap(FigureGate),
    /// Mean intersection over union of the classes of pixels.
    Miou(FigureGate),
    /// Share of the pixels whose class is right.
    PixelAccuracy(FigureGate),
    /// Mean Dice coefficient of the classes of pixels.
    Dice(FigureGate),
    /// Mean cosine of the vectors to those of the input.
    Cosine(FigureGate),
    /// Smallest cosine of the vectors to those of the input.
    CosineMin(FigureGate),
    /// Rank correlation of the similarities of pairs with those of the input.
    Spearman(FigureGate),
    /// Share of the true pairs that are accepted at the false acceptance rate of the data.
    Tar(FigureGate),
    /// Errors a character.
    Cer(FigureGate),
    /// Errors a word.
    Wer(FigureGate),
    /// Share of the texts that are right as a whole.
    Exact(FigureGate),
    /// Perplexity of the next token.
    Perplexity(FigureGate),
    /// Divergence of the predictions of the next token from the input's, in nats.
    Kl(FigureGate),
    /// Share of the positions at which both predict the same token.
    #[serde(rename = "top1-agreement")]
    Top1Agreement(FigureGate),
    /// The median time of a run, as a share of the input's, both measured in turn in the same process.
    Latency(Share),
}

/// What gates are judged on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged<'a> {
    /// The input model.
    pub before: Weight,
    /// The result.
    pub after: Weight,
    /// The comparison of outputs.
    pub verify: Option<&'a VerifyReport>,
    /// Figures of the result on the evaluation data, with the input model as reference; or why there are none.
    pub figures: Option<&'a Figures>,
    /// Counts behind the figures, for intervals.
    pub state: Option<&'a State>,
    /// Why there are no figures.
    pub reason: Option<&'a str>,
}

/// A share of what the input model has: 1.0 is as much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Share {
    /// The largest share that is accepted.
    pub at_most: f64,
}

/// What a model amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Weight {
    /// Operators, those in bodies and functions included, Constant nodes not.
    pub nodes: u64,
    /// Bytes of the file with its external data.
    pub bytes: u64,
    /// Elements of float and quantized constants.
    pub parameters: u64,
    /// Multiply-accumulate operations of one run, where the sizes are known.
    pub macs: Option<u64>,
    /// Version of ONNX's own operators.
    pub opset: Option<i64>,
}

/// What a gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateReport {
    /// Gate name.
    pub name: String,
    /// Whether the result satisfies it.
    pub passed: bool,
    /// The same, with what the samples do not decide.
    pub decision: Decision,
    /// About how many more samples would decide, where these do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_samples: Option<u64>,
    /// The figure that decided; `null` if there is none.
    pub value: Option<f64>,
    /// The bound.
    pub bound: Option<f64>,
    /// In words.
    pub message: String,
}

/// What a gate says of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It holds.
    Passed,
    /// There are too few samples to tell, at the confidence that is asked for. Not accepted.
    Undecided,
    /// It does not hold.
    Broken,
}

impl GateReport {
    /// One that does not hold, without a figure.
    pub(super) fn broken(name: &str, message: String) -> Self {
        Self::plain(name, false, None, None, message)
    }

    /// One that is decided by a figure itself.
    pub(super) fn plain(
        name: &str,
        passed: bool,
        value: Option<f64>,
        bound: Option<f64>,
        message: String,
    ) -> Self {
        Self {
            name: name.to_owned(),
            passed,
            decision: if passed {
                Decision::Passed
            } else {
                Decision::Broken
            },
            more_samples: None,
            value,
            bound,
            message,
        }
    }
}

/// Names of all gates, for hints.
pub(super) const GATES: [&str; 27] = [
    "outputs",
    "size",
    "nodes",
    "macs",
    "accuracy",
    "f1",
    "map",
    "map50",
    "map75",
    "ar100",
    "found",
    "new",
    "oks-map",
    "miou",
    "pixel-accuracy",
    "dice",
    "cosine",
    "cosine-min",
    "spearman",
    "tar",
    "cer",
    "wer",
    "exact",
    "perplexity",
    "kl",
    "top1-agreement",
    "latency",
];

impl Gate {
    /// The name in pipelines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Outputs(_) => "outputs",
            Self::Size(_) => "size",
            Self::Nodes(_) => "nodes",
            Self::Macs(_) => "macs",
            Self::Accuracy(_) => "accuracy",
            Self::F1(_) => "f1",
            Self::Latency(_) => "latency",
            Self::Map(_) => "map",
            Self::Map50(_) => "map50",
            Self::Map75(_) => "map75",
            Self::Ar100(_) => "ar100",
            Self::Found(_) => "found",
            Self::New(_) => "new",
            Self::OksMap(_) => "oks-map",
            Self::Miou(_) => "miou",
            Self::PixelAccuracy(_) => "pixel-accuracy",
            Self::Dice(_) => "dice",
            Self::Cosine(_) => "cosine",
            Self::CosineMin(_) => "cosine-min",
            Self::Spearman(_) => "spearman",
            Self::Tar(_) => "tar",
            Self::Cer(_) => "cer",
            Self::Wer(_) => "wer",
            Self::Exact(_) => "exact",
            Self::Perplexity(_) => "perplexity",
            Self::Kl(_) => "kl",
            Self::Top1Agreement(_) => "top1-agreement",
        }
    }

    /// The bounds, where it is on a figure of a task.
    fn figure(&self) -> Option<&FigureGate> {
        match self {
            Self::Map(gate)
            | Self::Map50(gate)
            | Self::Map75(gate)
            | Self::Ar100(gate)
            | Self::Found(gate)
            | Self::New(gate)
            | Self::OksMap(gate)
            | Self::Miou(gate)
            | Self::PixelAccuracy(gate)
            | Self::Dice(gate)
            | Self::Cosine(gate)
            | Self::CosineMin(gate)
            | Self::Spearman(gate)
            | Self::Tar(gate)
            | Self::Cer(gate)
            | Self::Wer(gate)
            | Self::Exact(gate)
            | Self::Perplexity(gate)
            | Self::Kl(gate)
            | Self::Top1Agreement(gate) => Some(gate),
            _ => None,
        }
    }

    /// Whether the gate needs the result and the input to run on the evaluation data.
    pub fn needs_evaluation(&self) -> bool {
        matches!(self, Self::Accuracy(_) | Self::F1(_) | Self::Latency(_)) || self.figure().is_some()
    }

    /// Whether the bound is on what a model costs, not on how well it does.
    pub fn is_budget(&self) -> bool {
        matches!(
            self,
            Self::Size(_) | Self::Nodes(_) | Self::Macs(_) | Self::Latency(_)
        )
    }

    /// Whether that data must have labels.
    pub fn needs_labels(&self) -> bool {
        matches!(self, Self::Accuracy(_) | Self::F1(_))
    }

    /// Judges a result.
    pub fn judge(&self, judged: &Judged<'_>) -> GateReport {
        let (before, after) = (&judged.before, &judged.after);
        if let Some(gate) = self.figure() {
            return gate.judge(self.name(), judged);
        }
        match self {
            Self::Outputs(gate) => gate.judge(judged.verify),
            Self::Size(share) => share.judge("size", Some(before.bytes), Some(after.bytes)),
            Self::Nodes(share) => share.judge("nodes", Some(before.nodes), Some(after.nodes)),
            Self::Macs(share) => share.judge("macs", before.macs, after.macs),
            Self::Accuracy(gate) => gate.judge_accuracy(judged),
            Self::F1(gate) => gate.judge_f1(judged),
            Self::Latency(share) => share.judge_latency(judged),
            _ => GateReport::broken(self.name(), "there is no such figure".to_owned()),
        }
    }
}

impl Share {
    fn judge_latency(&self, judged: &Judged<'_>) -> GateReport {
        let times = judged
            .figures
            .and_then(|figures| Some((figures.against.as_ref()?.latency_ms?.p50, figures.latency_ms?.p50)));
        let Some((before, after)) = times.filter(|(before, _)| *before > 0.0) else {
            return ScoreGate::missing("latency", judged);
        };
        let share = after / before;
        let passed = share <= self.at_most;
        let relation = if passed { "at most" } else { "above" };
        let note = judged.figures.and_then(|figures| figures.latency_note.as_ref());
        let note = note.map_or(String::new(), |note| format!("; {note}"));
        let message = format!(
            "latency is {share:.3} of the input's ({after:.3} ms of {before:.3} ms, medians), {relation} {}{note}",
            self.at_most
        );
        GateReport::plain("latency", passed, Some(share), Some(self.at_most), message)
    }

    fn judge(&self, name: &str, before: Option<u64>, after: Option<u64>) -> GateReport {
        let bound = Some(self.at_most);
        let (Some(before), Some(after)) = (before, after) else {
            let message = format!("{name} is not known: sizes are symbolic; bind them");
            return GateReport::plain(name, false, None, bound, message);
        };
        // Nothing is no share of anything, and nothing is at most nothing.
        let share = if before == 0 {
            if after == 0 { 0.0 } else { f64::INFINITY }
        } else {
            after as f64 / before as f64
        };
        let passed = share <= self.at_most;
        let relation = if passed { "at most" } else { "above" };
        let message = format!(
            "{name} is {share:.4} of the input's ({after} of {before}), {relation} {}",
            self.at_most
        );
        GateReport::plain(
            name,
            passed,
            Some(share).filter(|v| v.is_finite()),
            bound,
            message,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Verdict;

    fn weight(nodes: u64, bytes: u64) -> Weight {
        Weight {
            nodes,
            bytes,
            parameters: 0,
            macs: None,
            opset: None,
        }
    }

    fn judged(before: Weight, after: Weight, verify: Option<&VerifyReport>) -> Judged<'_> {
        Judged {
            before,
            after,
            verify,
            ..Judged::default()
        }
    }

    #[test]
    fn scores_are_judged_by_the_point_or_by_the_interval() {
        let mut state = State::new(crate::evaluate::StateSubject::default());
        let mut table = crate::evaluate::Classification::new(Some(2));
        let mut paired = crate::evaluate::Paired::default();
        for index in 0..100 {
            table.count(0, i64::from(index < 10));
            paired.count(Some(0), i64::from(index < 10), i64::from(index < 8));
        }
        state.classification = Some(table.clone());
        state.reference = Some(table);
        state.paired = Some(paired);
        let figures = Figures::of(&state);
        let on = Judged {
            figures: Some(&figures),
            state: Some(&state),
            ..Judged::default()
        };
        let gate = |at_least, drop, confidence| {
            Gate::Accuracy(ScoreGate {
                at_least,
                drop,
                confidence,
            })
            .judge(&on)
            .passed
        };
        assert!(gate(Some(0.9), None, None) && !gate(Some(0.91), None, None));
        assert!(!gate(Some(0.9), None, Some(0.95)) && gate(Some(0.8), None, Some(0.95)));
        assert!(gate(None, Some(0.02), None) && !gate(None, Some(0.019), None));
        assert!(!gate(None, Some(0.02), Some(0.95)));
        let nothing = Judged {
            reason: Some("no data"),
            ..Judged::default()
        };
        assert!(!Gate::F1(ScoreGate::default()).judge(&nothing).passed);
        assert!(!Gate::Latency(Share { at_most: 9.0 }).judge(&on).passed);
    }

    fn verified(verdict: Verdict, cosine: Option<f64>) -> VerifyReport {
        let output = crate::verify::OutputFigures {
            name: "y".into(),
            verdict,
            max_abs: Some(0.5),
            max_rel: None,
            mean_abs: Some(0.1),
            cosine,
            sqnr_db: Some(20.0),
            top1_agreement: None,
            elements: 1,
            differing: 1,
            undefined: 0,
            reason: None,
            parts: Vec::new(),
        };
        VerifyReport {
            latency: None,
            verdict,
            engine: "tract".into(),
            samples: 1,
            inputs: "synthetic".into(),
            planned: 1,
            cut_short: false,
            sensitive: 0,
            not_checked: Vec::new(),
            outputs: vec![output],
            sizes: Vec::new(),
            further_sizes: Vec::new(),
            notes: Vec::new(),
            does_not_run: false,
            reason: None,
            worst: None,
        }
    }

    #[test]
    fn shares_are_of_the_input() {
        let gate = Gate::Size(Share { at_most: 0.5 });
        assert!(gate.judge(&judged(weight(1, 100), weight(1, 50), None)).passed);
        assert!(!gate.judge(&judged(weight(1, 100), weight(1, 51), None)).passed);
        assert!(
            !Gate::Macs(Share { at_most: 2.0 })
                .judge(&judged(weight(1, 1), weight(1, 1), None))
                .passed
        );
    }

    #[test]
    fn outputs_must_be_checked_and_within_every_bound() {
        let gate = |gate: OutputsGate, verify: Option<&VerifyReport>| {
            Gate::Outputs(gate)
                .judge(&judged(weight(1, 1), weight(1, 1), verify))
                .passed
        };
        let cosine = OutputsGate {
            cosine: Some(0.99),
            ..OutputsGate::default()
        };
        assert!(!gate(cosine.clone(), None));
        assert!(!gate(
            cosine.clone(),
            Some(&verified(Verdict::NotChecked, Some(1.0)))
        ));
        assert!(gate(
            cosine.clone(),
            Some(&verified(Verdict::Different, Some(0.995)))
        ));
        assert!(!gate(
            cosine.clone(),
            Some(&verified(Verdict::Different, Some(0.98)))
        ));
        assert!(!gate(cosine.clone(), Some(&verified(Verdict::Different, None))));
        assert!(gate(cosine, Some(&verified(Verdict::Equal, None))));
        let error = OutputsGate {
            max_abs: Some(0.4),
            ..OutputsGate::default()
        };
        assert!(!gate(error, Some(&verified(Verdict::Within, Some(1.0)))));
        let strict = OutputsGate {
            verdict: Some(Verdict::Within),
            ..OutputsGate::default()
        };
        assert!(!gate(strict, Some(&verified(Verdict::Different, Some(1.0)))));
    }
}
