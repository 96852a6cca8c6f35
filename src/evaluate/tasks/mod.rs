//! Figures of tasks whose answers are more than a class: boxes, keypoints, masks, vectors, texts, tokens.
//!
//! Each task keeps what each sample contributed ([`TaskState`]), so that parts of a data set merge to the byte, an interval can be
//! drawn by resampling, and the images a model lost most on can be shown. A task is one file that has
//!
//! - a state: serialisable, ordered by sample, with `count` for one sample and `merge` for another part;
//! - [`Measured`]: the figures of one model over those samples, each counted any number of times;
//! - `figures`: both models' figures and what the task's own words say of the difference, as [`TaskFigures`].

mod coco;
mod detection;
mod embedding;
mod guess;
mod layout;
mod resample;
mod segmentation;
mod signals;
mod state;
mod suppression;
mod text;
mod tokens;
#[cfg(test)]
mod trial;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

pub use coco::Found;
pub(super) use detection::read_boxes;
pub use detection::{Detection, Fate, Fates, Image};
pub use embedding::Embedding;
pub(super) use resample::{Measured, compared, named, of_all};
pub use segmentation::Segmentation;
pub use signals::Signals;
pub(super) use state::Reader;
pub use state::{Counts, TaskState};
pub use text::Texts;
pub use tokens::Tokens;

use super::EvaluateError;
use super::statistics::Interval;
use crate::data::{Frame, TaskKind, Truth};

/// One sample on its way into a state.
pub(super) struct Sample<'a> {
    /// Global index.
    pub(super) index: u64,
    /// What is true of it; `None` where the reference's answer is the truth.
    pub(super) truth: Option<&'a Truth>,
    /// How its image became the input, where it is an image.
    pub(super) frame: Option<Frame>,
    /// Integer labels of this sample with their dimensions, where the labels are an array.
    pub(super) labels: Option<(Vec<usize>, Vec<i64>)>,
    /// Float labels of this sample, where the labels are an array.
    pub(super) targets: Option<Vec<f64>>,
}

/// What a model answered for one sample: its outputs in order, without the batch axis.
pub(super) struct Answer {
    pub(super) outputs: Vec<Output>,
}

/// One output for one sample.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) name: String,
    /// Dimensions without the batch axis.
    pub(super) dims: Vec<usize>,
    /// Elements in row-major order.
    pub(super) values: Vec<f64>,
    /// Whether the elements are integers or truth values.
    pub(super) integer: bool,
}

impl Answer {
    /// The output of this name, or the first.
    pub(super) fn output(&self, name: Option<&str>) -> Result<&Output, EvaluateError> {
        let found = match name {
            Some(name) => self.outputs.iter().find(|output| output.name == name),
            None => self.outputs.first(),
        };
        found.ok_or_else(|| EvaluateError::Output {
            output: name.unwrap_or_default().to_owned(),
            problem: format!(
                "does not exist; the model has {}",
                self.outputs
                    .iter()
                    .map(|output| output.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })
    }
}

/// Figures by name, in the order in which they are shown; `None` where there is nothing to judge.
pub type Named = IndexMap<String, Option<f64>>;

/// The figures of a task.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TaskFigures {
    /// The task.
    pub task: TaskKind,
    /// Whether the answers of the reference model are the truth.
    pub labels_from_reference: bool,
    /// The model's figures.
    pub figures: Named,
    /// 95 % intervals of those that have one, by resampling the samples.
    pub intervals: IndexMap<String, Interval>,
    /// The reference's figures on the same samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Named>,
    /// What each figure lost against the reference: positive is worse, whichever direction is the better one.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub drops: Named,
    /// 95 % intervals of the losses, by resampling the same samples of both.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub drop_intervals: IndexMap<String, Interval>,
    /// By class: number, name, figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_class: Vec<ClassFigures>,
    /// What the model lost and what is new, in the task's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ClassFigures {
    /// Its number.
    pub class: i64,
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often it is true: boxes, pixels.
    pub support: u64,
    /// Its figures.
    pub figures: Named,
}
