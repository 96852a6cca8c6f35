//! What the samples of a task contributed, whichever task it is.

use serde::{Deserialize, Serialize};

use super::detection::Detection;
use super::embedding::Embedding;
use super::layout::BoxReader;
use super::segmentation::Segmentation;
use super::signals::Signals;
use super::text::Texts;
use super::tokens::Tokens;
use super::{Answer, Sample, TaskFigures};
use crate::data::{Reading, TaskKind, TaskSetting};
use crate::evaluate::EvaluateError;

/// The state of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskState {
    /// The task.
    pub kind: TaskKind,
    /// Whether what the reference answers is true.
    pub from_reference: bool,
    /// By sample.
    pub counts: Counts,
}

/// What each sample contributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// Boxes, or keypoints.
    Boxes(Detection),
    /// Confusions of the classes of pixels.
    Masks(Segmentation),
    /// Vectors.
    Vectors(Embedding),
    /// Texts.
    Texts(Texts),
    /// Sums over positions.
    Tokens(Tokens),
    /// Ratios of energies.
    Signals(Signals),
}

/// How the answers of one model are read.
pub(in crate::evaluate) enum Reader {
    /// As boxes.
    Boxes(Box<BoxReader>),
    /// As the description says.
    Described,
}

impl Reader {
    /// For a model that answered this to a first sample.
    pub(in crate::evaluate) fn of(
        setting: &TaskSetting,
        answer: &Answer,
        sample: &Sample<'_>,
    ) -> Result<Self, EvaluateError> {
        match &setting.reading {
            Reading::Boxes(spec) => {
                let keypoints = setting.kind == TaskKind::Keypoints;
                let reader = BoxReader::of(spec, keypoints, answer, sample.frame.as_ref())?;
                Ok(Self::Boxes(Box::new(reader)))
            }
            _ => Ok(Self::Described),
        }
    }

    /// What was found out by looking at the outputs, if anything.
    pub(in crate::evaluate) fn said(&self) -> Option<String> {
        match self {
            Self::Boxes(reader) => reader.guessed.clone(),
            Self::Described => None,
        }
    }

    fn boxes(&self) -> Result<&BoxReader, EvaluateError> {
        match self {
            Self::Boxes(reader) => Ok(reader),
            Self::Described => Err(EvaluateError::Task {
                problem: "the answers were not read as boxes".to_owned(),
            }),
        }
    }
}

impl TaskState {
    /// No samples yet. `from_reference`: what the reference answers is true.
    pub(in crate::evaluate) fn new(
        setting: &TaskSetting,
        reader: &Reader,
        from_reference: bool,
    ) -> Result<Self, EvaluateError> {
        let counts = match &setting.reading {
            Reading::Boxes(_) => {
                let layout = &reader.boxes()?.layout;
                Counts::Boxes(Detection::new(setting.kind, layout, &setting.categories))
            }
            Reading::Masks(_) => Counts::Masks(Segmentation::new(setting.categories.clone())),
            Reading::Vectors(options, pairs) => Counts::Vectors(Embedding::new(pairs.clone(), options)),
            Reading::Text(..) => Counts::Texts(Texts::default()),
            Reading::Tokens(_) => Counts::Tokens(Tokens::default()),
            Reading::Signals => Counts::Signals(Signals::default()),
        };
        Ok(Self {
            kind: setting.kind,
            from_reference,
            counts,
        })
    }

    /// Adds one sample.
    pub(in crate::evaluate) fn count(
        &mut self,
        setting: &TaskSetting,
        sample: &Sample<'_>,
        (reader, model): (&Reader, &Answer),
        reference: Option<(&Reader, &Answer)>,
        output: Option<&str>,
    ) -> Result<(), EvaluateError> {
        let other = reference.map(|(_, answer)| answer);
        match (&mut self.counts, &setting.reading) {
            (Counts::Boxes(state), Reading::Boxes(_)) => {
                let reference = match reference {
                    Some((reader, answer)) => Some((reader.boxes()?, answer)),
                    None => None,
                };
                state.count(sample, reader.boxes()?, model, reference)
            }
            (Counts::Masks(state), Reading::Masks(options)) => state.count(sample, model, other, options),
            (Counts::Vectors(state), Reading::Vectors(options, _)) => {
                state.count(sample, model, other, options)
            }
            (Counts::Texts(state), Reading::Text(options, characters)) => {
                state.count(sample, model, other, characters, options)
            }
            (Counts::Tokens(state), Reading::Tokens(options)) => state.count(sample, model, other, options),
            (Counts::Signals(state), Reading::Signals) => {
                state.count(sample, sample.targets.as_deref(), model, other, output)
            }
            _ => Err(EvaluateError::Merge("the counts are of another task".to_owned())),
        }
    }

    /// Adds another part.
    ///
    /// # Errors
    /// When it is of another task.
    pub(in crate::evaluate) fn merge(&mut self, other: &Self) -> Result<(), EvaluateError> {
        match (&mut self.counts, &other.counts) {
            (Counts::Boxes(mine), Counts::Boxes(other)) => mine.merge(other),
            (Counts::Masks(mine), Counts::Masks(other)) => mine.merge(other),
            (Counts::Vectors(mine), Counts::Vectors(other)) => mine.merge(other),
            (Counts::Texts(mine), Counts::Texts(other)) => mine.merge(other),
            (Counts::Tokens(mine), Counts::Tokens(other)) => mine.merge(other),
            (Counts::Signals(mine), Counts::Signals(other)) => mine.merge(other),
            _ => {
                return Err(EvaluateError::Merge(
                    "the parts are of different tasks".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// The figures, with intervals at `confidence`; at 0 there are none, which takes a small part of the time.
    pub fn figures(&self, confidence: f64) -> TaskFigures {
        let from_reference = self.from_reference;
        match &self.counts {
            Counts::Boxes(state) => state.figures(from_reference, confidence),
            Counts::Masks(state) => state.figures(from_reference, confidence),
            Counts::Vectors(state) => state.figures(from_reference, confidence),
            Counts::Texts(state) => state.figures(from_reference, confidence),
            Counts::Tokens(state) => state.figures(from_reference, confidence),
            Counts::Signals(state) => state.figures(from_reference, confidence),
        }
    }

    /// The boxes, where the task has boxes.
    pub fn boxes(&self) -> Option<&Detection> {
        match &self.counts {
            Counts::Boxes(state) => Some(state),
            _ => None,
        }
    }
}
