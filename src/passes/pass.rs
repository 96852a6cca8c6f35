//! What a pass is, what it gets and what it answers.

use std::collections::HashSet;
use std::path::PathBuf;

use bytes::Bytes;
use regex::RegexSet;
use schemars::JsonSchema;
use serde::Serialize;

use super::interface::Interface;
use super::left::{Left, Reason, reasons};
use super::resources::{ResourceError, Resources};
use super::select::Selector;
use crate::engine::{Engine, TractEngine};
use crate::ir::{EditError, Model};
use crate::rewrite::Evaluator;
pub use crate::rewrite::Safety;
use crate::transfer::parameters::Account;

/// What a pass needs beside the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Unlabelled samples.
    pub calibration: bool,
    /// Labelled samples.
    pub training: bool,
    /// A second model.
    pub source: bool,
    /// An engine, though no data.
    pub engine: bool,
}

impl Needs {
    /// Unlabelled samples only.
    pub const CALIBRATION: Self = Self {
        calibration: true,
        ..Self::NOTHING
    };
    /// Labelled samples only.
    pub const TRAINING: Self = Self {
        training: true,
        ..Self::NOTHING
    };
    /// A second model only.
    pub const SOURCE: Self = Self {
        source: true,
        ..Self::NOTHING
    };
    const NOTHING: Self = Self {
        calibration: false,
        training: false,
        source: false,
        engine: false,
    };

    /// Whether the pass runs the model.
    pub fn runs(&self) -> bool {
        self.calibration || self.training || self.engine
    }
}

/// What is known of a pass before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The name in pipelines and on the command line.
    pub name: &'static str,
    /// What the pass preserves with its options.
    pub safety: Safety,
    /// What it needs beside the model.
    pub needs: Needs,
    /// What it is asked for.
    pub aim: Aim,
}

/// What a pass is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Whether there is anything to do: changing nothing is an answer.
    Tidy,
    /// A change that leaves what the model computes as it is, or close to it.
    Change,
    /// A change of what the model computes: other weights, other inputs or outputs.
    Replace,
}

impl About {
    /// A pass that needs nothing but the model.
    pub fn new(name: &'static str, safety: Safety) -> Self {
        Self {
            name,
            safety,
            needs: Needs::default(),
            aim: Aim::Change,
        }
    }

    /// The same pass as one that asks whether there is anything to do.
    pub fn tidying(self) -> Self {
        Self {
            aim: Aim::Tidy,
            ..self
        }
    }

    /// The same pass as one that changes what the model computes.
    pub fn replacing(self) -> Self {
        Self {
            aim: Aim::Replace,
            ..self
        }
    }

    /// The same pass with what it needs.
    pub fn needing(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}

/// Bounds on what passes may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes a folded constant may have beyond its inputs' bytes.
    pub fold_bytes: u64,
    /// Growth of the whole file, as a share of its bytes (0.0: it may not grow). Passes share one budget.
    pub max_growth: f64,
    /// Rewrites before the driver stops; `None` for the default, which grows with the model.
    pub fuel: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fold_bytes: 4 << 20,
            max_growth: 0.0,
            fuel: None,
        }
    }
}

/// What every pass gets.
pub struct Context<'a> {
    /// Evaluates constants.
    pub evaluator: &'a dyn Evaluator,
    /// Bounds.
    pub limits: Limits,
    /// Names of nodes and values that no pass may remove, merge or change.
    pub keep: RegexSet,
    /// Seed of everything random.
    pub seed: u64,
    /// The folder that paths in options are relative to.
    pub base: PathBuf,
    /// Called with a step's progress: done and total, where known.
    pub progress: &'a (dyn Fn(&str, u64, Option<u64>) + Sync),
    /// Data and an engine, for passes that need them.
    pub resources: Option<&'a dyn Resources>,
}

impl<'a> Context<'a> {
    /// What runs models and reads data, for the pass of this name.
    ///
    /// # Errors
    ///
    /// `what`, which says what the pass lacks, if there is none.
    pub fn resources(&self, pass: &'static str, what: &str) -> Result<&'a dyn Resources, PassError> {
        self.resources.ok_or_else(|| PassError::resource(pass, what))
    }

    /// What runs models: the engine that the user chose, or the one that is built in where nobody was asked.
    pub fn engine(&self) -> &'a dyn Engine {
        let chosen = self.resources.and_then(|resources| resources.engine().ok());
        chosen.unwrap_or(&TractEngine)
    }

    /// Whether `name` is protected by a `keep` pattern.
    pub fn keeps(&self, name: &str) -> bool {
        !self.keep.is_empty() && !name.is_empty() && self.keep.is_match(name)
    }
}

/// One kind of change that a pass made, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The rule, or the part of the pass.
    pub rule: String,
    /// How often.
    pub count: u64,
    /// Details for people: node names, sizes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// How a node runs in the engine that a model is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runs {
    /// On integers.
    Integer,
    /// Not at all: the range of the codes implies it.
    Implied,
    /// In float.
    Float,
}

/// What becomes of one node, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedNode {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// How it runs.
    pub runs: Runs,
    /// Why.
    pub why: String,
}

/// What a pass did.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct PassReport {
    /// Whether the model differs from before in any way.
    pub changed: bool,
    /// What was done.
    pub changes: Vec<Change>,
    /// What the user may want to know. `NAME stays: WHY` is read as a reason for which NAME was left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was left alone, why, and what the user can do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
    /// What the user has to know even without asking: a result is worse than it could be. They become warnings of the run.
    #[serde(skip)]
    #[schemars(skip)]
    pub warnings: Vec<String>,
    /// What a changed model is told by even without asking. In JSON it is among the details of the changes.
    #[serde(skip)]
    #[schemars(skip)]
    pub told: Vec<String>,
    /// For passes that plan for an engine: each node, and how it runs there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PlannedNode>,
    /// For passes that move weights between models: what became of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Account>,
    /// For passes that train a head: on what, and how well it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<HeadTraining>,
    /// Bounds that the user set and the pass judged; the result is refused if one does not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
    /// For passes with a target for the time of one run: what was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// Whether the model is another one on purpose, such as one of another batch: what comes after is compared with it.
    #[serde(skip)]
    #[schemars(skip)]
    pub rebased: bool,
    /// For passes that rename inputs or outputs, or leave outputs out: what comes after is compared with a model that is called so.
    #[serde(skip)]
    #[schemars(skip)]
    pub interface: Option<Interface>,
    /// For passes that move factors between layers: the model right after. Values of what comes later stand for its values, not for
    /// those of the input.
    #[serde(skip)]
    #[schemars(skip)]
    pub evened: Option<Box<Model>>,
    /// Files to write once the result is accepted and written itself.
    #[serde(skip)]
    #[schemars(skip)]
    pub files: Vec<ReportFile>,
}

/// How a linear head was trained.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HeadTraining {
    /// Samples that it was trained on.
    pub samples: u64,
    /// Features of each.
    pub features: u64,
    /// Mean cross-entropy on these samples, of a logistic regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// Steps of the search, of a logistic regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Share of these samples whose largest score is that of their class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Classes; none for float targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<TrainedClass>,
}

/// A class of a trained head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TrainedClass {
    /// Its index among the scores.
    pub index: u64,
    /// What the data call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Samples of it.
    pub samples: u64,
}

/// The time of one run of the model before and after a pass, measured side by side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Times {
    /// Milliseconds before.
    pub before_ms: f64,
    /// Milliseconds after.
    pub after_ms: f64,
}

/// A bound on what a pass reaches.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Requirement {
    /// The option that sets it.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was reached.
    pub value: f64,
    /// What is asked for.
    pub bound: f64,
    /// In words.
    pub message: String,
}

/// A file that a pass leaves beside the model, once the result is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub content: Bytes,
}

impl PassReport {
    /// Adds `count` changes of one kind.
    pub fn add(&mut self, rule: &str, count: u64) {
        if count == 0 {
            return;
        }
        self.changed = true;
        match self.changes.iter_mut().find(|change| change.rule == rule) {
            Some(change) => change.count += count,
            None => self.changes.push(Change {
                rule: rule.to_owned(),
                count,
                details: Vec::new(),
            }),
        }
    }

    /// Says that `what` was left alone because of `why`; both as in [`Left`].
    pub fn leave(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left::new(what, why));
    }

    /// The same with what the user can do about it.
    pub fn leave_curable(
        &mut self,
        what: impl Into<String>,
        why: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.left.push(Left::new(what, why).curable(cure));
    }

    /// Why things were left alone, grouped.
    pub fn reasons(&self) -> Vec<Reason> {
        reasons(&self.left, &self.notes)
    }

    /// Adds what another report says.
    pub fn merge(&mut self, other: PassReport) {
        self.changed |= other.changed;
        self.rebased |= other.rebased;
        self.files.extend(other.files);
        self.warnings.extend(other.warnings);
        self.told.extend(other.told);
        self.interface = other.interface.or(self.interface.take());
        self.evened = other.evened.or(self.evened.take());
        self.transfer = other.transfer.or(self.transfer.take());
        self.training = other.training.or(self.training.take());
        self.times = other.times.or(self.times.take());
        self.requirements.extend(other.requirements);
        for change in other.changes {
            match self.changes.iter_mut().find(|known| known.rule == change.rule) {
                Some(known) => {
                    known.count += change.count;
                    known.details.extend(change.details);
                }
                None => self.changes.push(change),
            }
        }
        self.nodes.extend(other.nodes);
        let known: HashSet<&Left> = self.left.iter().collect();
        let new: Vec<Left> = other
            .left
            .into_iter()
            .filter(|one| !known.contains(one))
            .collect();
        self.left.extend(new);
        let known: HashSet<&String> = self.notes.iter().collect();
        let new: Vec<String> = other
            .notes
            .into_iter()
            .filter(|note| !known.contains(note))
            .collect();
        self.notes.extend(new);
    }
}

/// Why a pass could not do its work. The model may be half changed: the pipeline drops it.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An edit broke a law of the IR: a defect of the pass.
    #[error("{pass}: {source}; this is a defect of secateur, please report it with the model")]
    Edit {
        /// Pass name.
        pass: &'static str,
        /// The edit's error.
        source: EditError,
    },
    /// An option does not fit the model or another option.
    #[error("{pass}: {message}")]
    Option {
        /// Pass name.
        pass: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The model is not of the form that the pass needs.
    #[error("{pass}: {node}: {message}")]
    Model {
        /// Pass name.
        pass: &'static str,
        /// Node or value.
        node: String,
        /// What is wrong.
        message: String,
    },
    /// An engine, a data set or another file failed.
    #[error("{pass}: {source}")]
    Resource {
        /// Pass name.
        pass: &'static str,
        /// What failed.
        source: Box<ResourceError>,
    },
}

impl PassError {
    /// What the pass of this name asked for failed.
    pub fn resource(pass: &'static str, error: impl Into<ResourceError>) -> Self {
        Self::Resource {
            pass,
            source: Box::new(error.into()),
        }
    }

    /// A stable code: that of what failed, where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Edit { .. } => "pass-defect",
            Self::Option { .. } => "pass-option",
            Self::Model { .. } => "pass-model",
            Self::Resource { source, .. } => source.code(),
        }
    }

    /// The node or value at fault.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Model { node, .. } => Some(node),
            Self::Resource { source, .. } => source.node(),
            _ => None,
        }
    }
}

/// A native pass.
pub trait Pass: Send + Sync {
    /// Its name, and what it preserves and needs with these options.
    fn about(&self) -> About;

    /// The options that name parts of the model by patterns: a pattern that names nothing is an error of the pipeline.
    fn selectors(&self) -> Vec<Selector> {
        Vec::new()
    }

    /// Roles of data that it reads where there are any, and does without otherwise.
    fn optional_roles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Roles of data that it reads whatever the model is, so that what is missing can be said before anything runs.
    fn data_roles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Changes the model.
    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError>;
}
