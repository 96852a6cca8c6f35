//! What a part is, and how a plan says it.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Longest text that stands in a task as it is.
const LONGEST: usize = 80;

/// Something that is cut into parts, with everything that its results depend on.
#[derive(Clone, Debug)]
pub struct Work {
    /// What it is: `gram`, `evaluate`.
    pub name: &'static str,
    /// Digests of models and data, and options, by what they are.
    pub inputs: IndexMap<&'static str, String>,
}

impl Work {
    /// Work of this name on what `inputs` say.
    pub fn new<const N: usize>(name: &'static str, inputs: [(&'static str, String); N]) -> Self {
        let mut work = Self {
            name,
            inputs: IndexMap::new(),
        };
        inputs
            .into_iter()
            .for_each(|(name, value)| work.depends(name, value));
        work
    }

    /// Adds what the results depend on; long texts count by their digest.
    pub fn depends(&mut self, name: &'static str, value: String) {
        let value = match value.len() {
            0..=LONGEST => value,
            _ => format!("blake3:{}", blake3::hash(value.as_bytes()).to_hex()),
        };
        self.inputs.insert(name, value);
    }
}

/// One part of some work.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which it is, counted from 0.
    pub index: usize,
    /// What it is of, in words: `samples 0 to 63`, the name of a layer.
    pub of: String,
}

impl Part {
    /// A hash of everything that the result depends on.
    pub fn key(&self, work: &Work, count: usize) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text(env!("CARGO_PKG_VERSION"));
        text(work.name);
        for (name, value) in &work.inputs {
            text(name);
            text(value);
        }
        text(&self.of);
        text(&format!("{} {count}", self.index));
        hasher.finalize().to_hex().to_string()
    }
}

/// A part as a line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name in the plan: the number of the work in the order of the run, the work, and which part of how many.
    pub id: String,
    /// The stage: tasks of one stage depend on nothing but those of stages before.
    pub stage: u64,
    /// The work.
    pub work: String,
    /// What it is of, in words.
    pub of: String,
    /// Digests and options that the result depends on.
    pub inputs: IndexMap<String, String>,
    /// The hash of all that.
    pub key: String,
    /// The program and its arguments; a scheduler runs it in the folder that holds the plan's folder, or anywhere with its path.
    pub command: Vec<String>,
    /// The file that is there when the task is done, in the plan's folder.
    pub output: String,
}
