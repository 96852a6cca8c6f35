//! The figures of an evaluation, as JSON has them.

use schemars::JsonSchema;
use serde::Serialize;

use super::classification::{ClassScores, Classification, Scores};
use super::state::State;
use super::statistics::{Interval, wilson};
use super::tasks::TaskFigures;
use crate::engine::Latency;

/// Classes up to which the confusion table is written out.
const WHOLE_TABLE: usize = 256;

/// Confidence of the intervals that are shown.
const CONFIDENCE: f64 = 0.95;

/// Figures of one model on one data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// Samples counted.
    pub samples: u64,
    /// Share of right predictions.
    pub accuracy: Option<f64>,
    /// 95 % Wilson interval of the accuracy.
    pub accuracy_interval: Option<Interval>,
    /// Share of samples whose class is among the five best.
    pub top5: Option<f64>,
    /// Macro average over the classes that occur.
    pub precision: Option<f64>,
    /// Macro average over the classes that occur.
    pub recall: Option<f64>,
    /// Macro average over the classes that occur.
    pub f1: Option<f64>,
    /// Averages over all samples together.
    pub micro: Option<Scores>,
    /// Averages weighted by the samples of each class.
    pub weighted: Option<Scores>,
    /// A row a true class, a column a predicted one; `null` above 256 classes.
    pub confusion: Option<Vec<Vec<u64>>>,
    /// Nonzero entries of the confusion table: true class, predicted class, count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion_entries: Option<Vec<(i64, i64, u64)>>,
    /// Scores by class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_class: Vec<ClassScores>,
    /// Samples with a NaN or infinite output.
    pub not_finite: u64,
    /// Mean squared error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_squared_error: Option<f64>,
    /// Mean absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_absolute_error: Option<f64>,
    /// Coefficient of determination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// Figures of another task: boxes, masks, vectors, texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskFigures>,
    /// What the task's answers were taken for, where nobody says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Comparison with the reference on the same samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Time of a run.
    pub latency_ms: Option<Latency>,
    /// What the time does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_note: Option<String>,
    /// Samples a second over the whole evaluation, data reading included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// Peak resident memory of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Size of the model file and its external data.
    pub bytes: Option<u64>,
    /// Elements of float and quantized constants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Multiply-accumulate operations of one sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
}

/// A model against a reference.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Against {
    /// Accuracy of the reference.
    pub accuracy: Option<f64>,
    /// Accuracy of the reference minus accuracy of the model.
    pub drop: Option<f64>,
    /// 95 % interval of the drop.
    pub drop_interval: Option<Interval>,
    /// Share of samples on which both predict the same class.
    pub agreement: f64,
    /// Two-sided p-value of McNemar's exact test.
    pub mcnemar_p: Option<f64>,
    /// Samples that only the model gets right, and only the reference.
    pub only_model: u64,
    /// Samples that only the reference gets right.
    pub only_reference: u64,
    /// Macro F1 of the reference.
    pub f1: Option<f64>,
    /// Time of a run of the reference, measured in turn with the model.
    pub latency_ms: Option<Latency>,
    /// Size of the reference.
    pub bytes: Option<u64>,
}

impl Figures {
    /// The figures that follow from a state's counts; latency, memory and size are filled in by whoever measures them.
    pub fn of(state: &State) -> Self {
        let mut figures = Self {
            samples: state.samples(),
            ..Self::default()
        };
        if let Some(table) = &state.classification {
            figures.add_classes(table);
        }
        if let Some(sums) = &state.regression {
            figures.mean_squared_error = Some(sums.mean_squared_error());
            figures.mean_absolute_error = Some(sums.mean_absolute_error());
            figures.r2 = Some(sums.r2());
        }
        figures.task = state.task.as_ref().map(|task| task.figures(CONFIDENCE));
        if let Some(paired) = &state.paired {
            let labelled = state.reference.as_ref().filter(|_| paired.labelled() > 0);
            let counted = labelled.map_or(state.samples(), Classification::samples).max(1);
            figures.against = Some(Against {
                accuracy: labelled.map(Classification::accuracy),
                drop: labelled.map(|_| paired.drop()),
                drop_interval: labelled.map(|_| paired.drop_interval(0.95)),
                agreement: paired.agree as f64 / counted as f64,
                mcnemar_p: labelled.map(|_| paired.mcnemar()),
                only_model: paired.only_model,
                only_reference: paired.only_reference,
                f1: labelled.map(|table| table.macro_average().f1),
                latency_ms: None,
                bytes: None,
            });
        }
        figures
    }

    fn add_classes(&mut self, table: &Classification) {
        let scores = table.macro_average();
        self.accuracy = Some(table.accuracy());
        self.accuracy_interval = Some(wilson(table.correct(), table.samples(), 0.95));
        self.top5 = table.top5_accuracy();
        (self.precision, self.recall, self.f1) =
            (Some(scores.precision), Some(scores.recall), Some(scores.f1));
        self.micro = Some(table.micro_average());
        self.weighted = Some(table.weighted_average());
        self.confusion = table.matrix(WHOLE_TABLE);
        if self.confusion.is_none() {
            self.confusion_entries = Some(table.confusion.iter().map(|((t, p), n)| (*t, *p, *n)).collect());
        }
        self.per_class = table.per_class();
        self.not_finite = table.not_finite;
    }
}
