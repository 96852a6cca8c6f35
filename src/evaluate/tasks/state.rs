//! What the samples of a task contributed, whichever task it is.

use serde::{Deserialize, Serialize};

use super::detection::Detection;
use super::layout::BoxReader;
use super::{Answer, Sample, TaskFigures};
use crate::data::{TaskKind, TaskSetting};
use crate::evaluate::EvaluateError;

/// The state of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Boxes, or keypoints.
    Detection(Detection),
}

/// How the answers of one model are read.
pub(in crate::evaluate) enum Reader {
    /// As boxes.
    Boxes(Box<BoxReader>),
}

impl Reader {
    /// For a model that answered this to a first sample.
    pub(in crate::evaluate) fn of(
        setting: &TaskSetting,
        answer: &Answer,
        sample: &Sample<'_>,
    ) -> Result<Self, EvaluateError> {
        let reader = BoxReader::of(setting, answer, sample.frame.as_ref())?;
        Ok(Self::Boxes(Box::new(reader)))
    }

    /// What was found out by looking at the outputs, if anything.
    pub(in crate::evaluate) fn said(&self) -> Option<String> {
        match self {
            Self::Boxes(reader) => reader.guessed.clone(),
        }
    }
}

impl TaskState {
    /// No samples yet. `from_reference`: what the reference answers is true.
    pub(in crate::evaluate) fn new(setting: &TaskSetting, reader: &Reader, from_reference: bool) -> Self {
        let Reader::Boxes(reader) = reader;
        Self::Detection(Detection::new(setting.kind, &reader.layout, &setting.categories, from_reference))
    }

    /// Adds one sample.
    pub(in crate::evaluate) fn count(
        &mut self,
        sample: &Sample<'_>,
        (reader, model): (&Reader, &Answer),
        reference: Option<(&Reader, &Answer)>,
    ) -> Result<(), EvaluateError> {
        let Self::Detection(state) = self;
        let Reader::Boxes(reader) = reader;
        let reference = reference.map(|(Reader::Boxes(reader), answer)| (&**reader, answer));
        state.count(sample, reader, model, reference)
    }

    /// Adds another part.
    pub(in crate::evaluate) fn merge(&mut self, other: &Self) {
        let (Self::Detection(mine), Self::Detection(other)) = (self, other);
        mine.merge(other);
    }

    /// The figures, with intervals at `confidence`.
    pub fn figures(&self, confidence: f64) -> TaskFigures {
        let Self::Detection(state) = self;
        state.figures(confidence)
    }

    /// The task.
    pub fn kind(&self) -> TaskKind {
        let Self::Detection(state) = self;
        match state.keypoints {
            true => TaskKind::Keypoints,
            false => TaskKind::Detection,
        }
    }
}
