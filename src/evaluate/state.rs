//! The mergeable state of an evaluation: counts and sums over ranges of samples, with digests of what they were taken from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::EvaluateError;
use super::classification::Classification;
use super::regression::Regression;
use super::statistics::Paired;
use super::tasks::TaskState;
use crate::files::{Draft, read_text};

/// Version of the file format.
const FORMAT: u32 = 2;

/// A checkpoint of the state.
pub type Checkpoint<'a> = &'a mut dyn FnMut(&State) -> Result<(), EvaluateError>;

/// Counts over some samples of one data set for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub format: u32,
    /// What the counts are of; parts of other subjects do not merge.
    pub subject: Subject,
    /// Ranges of global sample indices that are counted, ascending and apart.
    pub ranges: Vec<(u64, u64)>,
    /// Class figures.
    pub classification: Option<Classification>,
    /// Value figures.
    pub regression: Option<Regression>,
    /// Comparison with the reference model.
    pub paired: Option<Paired>,
    /// Figures of the reference on the same samples.
    pub reference: Option<Classification>,
    /// What the samples of another task contributed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskState>,
}

/// What was evaluated on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Digest of the model's bytes, external data included.
    pub model: String,
    /// Digest of the reference's bytes.
    pub reference: Option<String>,
    /// Digest of data and preprocessing.
    pub data: String,
    /// Samples of the whole data set.
    pub samples: u64,
    /// Engine.
    pub engine: String,
    /// Output that predictions are read from.
    pub output: String,
    /// Samples a batch.
    pub batch: u64,
}

impl State {
    /// No samples yet.
    pub fn new(subject: Subject) -> Self {
        Self {
            format: FORMAT,
            subject,
            ranges: Vec::new(),
            classification: None,
            regression: None,
            paired: None,
            reference: None,
            task: None,
        }
    }

    /// Samples counted.
    pub fn samples(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether a sample is counted already.
    pub fn covers(&self, sample: u64) -> bool {
        self.ranges
            .iter()
            .any(|(start, end)| (*start..*end).contains(&sample))
    }

    /// Adds a range; it must not overlap those that are there.
    pub fn add_range(&mut self, start: u64, end: u64) -> Result<(), EvaluateError> {
        if let Some((a, b)) = self.ranges.iter().find(|(a, b)| start < *b && *a < end) {
            return Err(EvaluateError::Merge(format!(
                "samples {} to {} are counted twice",
                start.max(*a),
                end.min(*b) - 1
            )));
        }
        self.ranges.push((start, end));
        self.ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.ranges.len());
        for (start, end) in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        self.ranges = joined;
        Ok(())
    }

    /// Adds another part of the same subject.
    pub fn merge(&mut self, other: &State) -> Result<(), EvaluateError> {
        let (a, b) = (&self.subject, &other.subject);
        for (what, same) in [
            ("models", a.model == b.model),
            ("reference models", a.reference == b.reference),
            (
                "data sets or preprocessings",
                a.data == b.data && a.samples == b.samples,
            ),
            ("engines", a.engine == b.engine),
            ("outputs", a.output == b.output),
            ("batch sizes", a.batch == b.batch),
        ] {
            if !same {
                return Err(EvaluateError::Merge(format!("the parts are of different {what}")));
            }
        }
        for (start, end) in &other.ranges {
            self.add_range(*start, *end)?;
        }
        merge_part(
            &mut self.classification,
            &other.classification,
            Classification::merge,
        );
        merge_part(&mut self.regression, &other.regression, Regression::merge);
        merge_part(&mut self.paired, &other.paired, Paired::merge);
        merge_part(&mut self.reference, &other.reference, Classification::merge);
        match (&mut self.task, &other.task) {
            (Some(mine), Some(other)) => mine.merge(other)?,
            (mine @ None, Some(other)) => *mine = Some(other.clone()),
            _ => {}
        }
        Ok(())
    }

    /// The state as a part of shared work.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`State::to_bytes`] made.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, EvaluateError> {
        serde_json::from_slice(bytes).map_err(|error| EvaluateError::Merge(error.to_string()))
    }

    /// Reads a state file.
    pub fn read(path: &Path) -> Result<Self, EvaluateError> {
        let wrong = |reason: String| EvaluateError::State {
            file: path.to_owned(),
            reason,
        };
        let text = read_text(path).map_err(|e| wrong(e.to_string()))?;
        let state: State = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if state.format != FORMAT {
            return Err(wrong(format!("format {} is not {FORMAT}", state.format)));
        }
        Ok(state)
    }

    /// Writes a state file: all or nothing, so that a killed run leaves the state of its last checkpoint.
    pub fn write(&self, path: &Path) -> Result<(), EvaluateError> {
        let wrong = |reason: String| EvaluateError::State {
            file: path.to_owned(),
            reason,
        };
        let text = serde_json::to_string(self).map_err(|e| wrong(e.to_string()))?;
        Draft::write_file(path, text.as_bytes(), true).map_err(|e| wrong(e.to_string()))
    }
}

fn merge_part<T: Clone>(mine: &mut Option<T>, other: &Option<T>, merge: impl Fn(&mut T, &T)) {
    match (mine.as_mut(), other) {
        (Some(mine), Some(other)) => merge(mine, other),
        (None, Some(other)) => *mine = Some(other.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, end: u64) -> State {
        let mut state = State::new(Subject {
            data: "d".to_owned(),
            ..Subject::default()
        });
        state.add_range(start, end).unwrap();
        let mut table = Classification::new(None);
        (start..end).for_each(|i| table.count(i as i64 % 3, 0));
        state.classification = Some(table);
        state
    }

    #[test]
    fn parts_merge_in_any_order_and_never_overlap() {
        let mut a = part(0, 4);
        a.merge(&part(6, 9)).unwrap();
        a.merge(&part(4, 6)).unwrap();
        assert_eq!(a, part(0, 9));
        assert!(matches!(a.merge(&part(8, 10)), Err(EvaluateError::Merge(_))));
        let mut other = part(20, 21);
        other.subject.data = "e".to_owned();
        assert!(matches!(a.merge(&other), Err(EvaluateError::Merge(_))));
    }

    #[test]
    fn a_written_state_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.json");
        part(0, 5).write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), part(0, 5));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(State::read(&path), Err(EvaluateError::State { .. })));
    }
}
