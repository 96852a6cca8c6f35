//! A pipeline as a user writes it: read from YAML with a place for every error, and written back.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::gates::Gate;
use super::resources::Described;
use super::until;
use super::written::{Given, Written};
use crate::passes::{Pass, Safety, registry};
use crate::schema::{self, Fault, Place, nearest};
use crate::yaml::{ConfigError, Document, Location};

/// Version of the format that this release reads.
pub const VERSION: i64 = 1;

/// Roles of data in a pipeline.
pub const ROLES: [&str; 3] = ["calibration", "evaluation", "training"];

/// A pipeline that is ready to run.
pub struct Pipeline {
    /// File name or the preset's name.
    pub name: String,
    /// The folder that relative paths in it start from.
    pub base: PathBuf,
    /// Patterns of names that no step may remove or change.
    pub keep: Vec<String>,
    /// Data by role.
    pub data: IndexMap<String, Described>,
    /// Steps in order; sizes under `bind` are the first one.
    pub steps: Vec<Step>,
    /// Conditions on the result.
    pub gates: Vec<Gate>,
    /// The place of each gate that was read from a text; gates without one follow.
    pub(super) gate_places: Vec<Location>,
    /// The files that it includes.
    pub(super) included: Vec<PathBuf>,
}

/// One step: a pass with its options.
pub struct Step {
    /// The pass's name.
    pub name: String,
    /// Options as written.
    pub options: Map<String, Value>,
    /// The pass.
    pub pass: Box<dyn Pass>,
    /// What the result of a search has to keep; without any the pass runs as it is.
    pub until: Vec<Gate>,
    /// Where it stands in the pipeline's text.
    pub spot: Option<Location>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why a step cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// No pass has this name.
    #[error("there is no pass `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest pass.
        nearest: Option<String>,
    },
    /// The pass does not take an option.
    #[error("`{name}` has no option `{option}`")]
    Option {
        /// The pass.
        name: String,
        /// The option.
        option: String,
        /// The nearest option.
        nearest: Option<String>,
    },
    /// An option has a value that it cannot have.
    #[error("`{name}`: option {fault}")]
    Value {
        /// The pass.
        name: String,
        /// What is wrong, and where: the option comes first.
        fault: Box<Fault>,
    },
    /// The options do not go together.
    #[error("`{name}`: {reason}")]
    Options {
        /// The pass.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl StepError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown-pass",
            Self::Option { .. } => "unknown-option",
            Self::Value { .. } | Self::Options { .. } => "option-value",
        }
    }

    /// What would be right.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest, .. } => Some(did_you_mean(
                nearest.as_deref(),
                "`secateur explain` lists the passes",
            )),
            Self::Option { name, nearest, .. } => Some(did_you_mean(
                nearest.as_deref(),
                &format!("`secateur explain {name}` lists its options"),
            )),
            Self::Value { fault, .. } => fault.hint.clone(),
            Self::Options { name, .. } => {
                Some(format!("`secateur explain {name}` says what each option takes"))
            }
        }
    }
}

pub(super) fn did_you_mean(nearest: Option<&str>, otherwise: &str) -> String {
    nearest.map_or_else(|| otherwise.to_owned(), |name| format!("did you mean `{name}`?"))
}

impl Step {
    /// The pass `name` with `options`.
    pub fn new(name: &str, options: Map<String, Value>) -> Result<Self, StepError> {
        let build = |options: &Map<String, Value>| registry::build(name, Value::Object(options.clone()));
        match build(&options) {
            Ok(Some(pass)) => {
                let until = until::of_options(name, &options).map_err(|fault| StepError::Value {
                    name: name.to_owned(),
                    fault: Box::new(fault),
                })?;
                Ok(Self {
                    name: name.to_owned(),
                    options,
                    pass,
                    until,
                    spot: None,
                })
            }
            Ok(None) => {
                let entries = registry::entries();
                let nearest = nearest(name, entries.iter().map(|entry| entry.name)).map(str::to_owned);
                Err(StepError::Unknown {
                    name: name.to_owned(),
                    nearest,
                })
            }
            Err(error) => {
                let known = option_names(name);
                if let Some(option) = options
                    .keys()
                    .find(|key| !known.is_empty() && !known.contains(key))
                {
                    let nearest = nearest(option, known.iter().map(String::as_str)).map(str::to_owned);
                    return Err(StepError::Option {
                        name: name.to_owned(),
                        option: option.clone(),
                        nearest,
                    });
                }
                Err(wrong_value(name, &options, &error.to_string(), build))
            }
        }
    }

    /// Roles of data that the step reads: those of the pass, and evaluation data for a search that judges on them.
    pub fn data_roles(&self) -> Vec<String> {
        let mut roles = self.pass.data_roles();
        if until::needs_evaluation(&self.until) {
            roles.push("evaluation".to_owned());
        }
        roles
    }

    /// All roles of data on which the result of the step may depend: also those that it does without where there are none.
    pub fn read_roles(&self) -> Vec<String> {
        let mut roles = self.data_roles();
        roles.extend(self.pass.optional_roles());
        roles
    }

    /// The step as YAML has it: the name alone when there are no options.
    fn to_json(&self) -> Value {
        if self.options.is_empty() {
            json!(self.name)
        } else {
            json!({ &self.name: self.options })
        }
    }
}

/// Which option has a value that the pass does not take, and what it takes.
fn wrong_value<T>(
    name: &str,
    options: &Map<String, Value>,
    reason: &str,
    build: impl Fn(&Map<String, Value>) -> Result<T, serde_json::Error>,
) -> StepError {
    let schema = registry::entries()
        .iter()
        .find(|entry| entry.name == name)
        .map(|entry| entry.schema.as_value().clone())
        .unwrap_or_default();
    let of = |option: &str| schema.get("properties")?.get(option);
    let faults = options.iter().filter_map(|(option, value)| {
        let mut fault = schema::check(&schema, of(option)?, value)?;
        fault.path.insert(0, Place::Key(option.clone()));
        Some(fault)
    });
    if let Some(fault) = faults.into_iter().next() {
        return StepError::Value {
            name: name.to_owned(),
            fault: Box::new(fault),
        };
    }
    // The option without which the error is gone or another one is the one at fault.
    let at_fault = options.iter().find(|(key, _)| {
        let mut fewer = options.clone();
        fewer.shift_remove(*key);
        build(&fewer).map_or_else(|other| other.to_string() != reason, |_| true)
    });
    match at_fault {
        Some((option, value)) => {
            let own_words = !FOREIGN.iter().any(|word| reason.contains(word));
            let allowed = of(option)
                .map(|of| schema::allowed(&schema, of))
                .unwrap_or_default();
            let message = if own_words {
                reason.to_owned()
            } else {
                format!(
                    "{} is not allowed here; allowed is {allowed}",
                    schema::flow(value)
                )
            };
            let hint = of(option)
                .map(|of| schema::example(&schema, of))
                .filter(|example| !example.is_null())
                .map(|example| format!("for example {}", schema::flow(&example)));
            StepError::Value {
                name: name.to_owned(),
                fault: Box::new(Fault {
                    path: vec![Place::Key(option.clone())],
                    is_key: false,
                    message,
                    hint,
                }),
            }
        }
        None => StepError::Options {
            name: name.to_owned(),
            reason: reason.to_owned(),
        },
    }
}

/// How messages of the parser's library begin, which speak of types that users do not know.
const FOREIGN: [&str; 4] = ["invalid type", "invalid value", "invalid length", "did not match"];

/// Option names of a pass, from its JSON Schema.
pub fn option_names(pass: &str) -> Vec<String> {
    let Some(entry) = registry::entries().iter().find(|entry| entry.name == pass) else {
        return Vec::new();
    };
    let properties = entry.schema.get("properties").and_then(Value::as_object);
    properties
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

impl Pipeline {
    /// A pipeline of these steps.
    pub fn of(name: &str, steps: Vec<Step>) -> Self {
        Self {
            name: name.to_owned(),
            base: PathBuf::new(),
            keep: Vec::new(),
            data: IndexMap::new(),
            steps,
            gates: Vec::new(),
            gate_places: Vec::new(),
            included: Vec::new(),
        }
    }

    /// The preset with this name, if there is one. Variables have their defaults.
    pub fn preset(name: &str) -> Option<Result<Self, ConfigError>> {
        let written = Written::preset(name)?;
        Some(written.and_then(|written| written.alone(&Given::default())))
    }

    /// Reads a pipeline. `file` is what errors call the text; relative paths in it start from `base`. Variables have their defaults.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        Written::parse(file, text, base)?.alone(&Given::default())
    }

    /// What the steps preserve together.
    pub fn safety(&self) -> Safety {
        self.steps
            .iter()
            .map(|step| step.pass.about().safety)
            .max()
            .unwrap_or(Safety::Exact)
    }

    /// The pipeline as YAML, with the line that tells editors which schema holds.
    pub fn to_yaml(&self) -> String {
        let mut document = Map::new();
        document.insert("version".to_owned(), json!(VERSION));
        if !self.keep.is_empty() {
            document.insert("keep".to_owned(), json!(self.keep));
        }
        if !self.data.is_empty() {
            document.insert("data".to_owned(), json!(self.data));
        }
        document.insert("steps".to_owned(), self.steps.iter().map(Step::to_json).collect());
        if !self.gates.is_empty() {
            document.insert("gates".to_owned(), json!(self.gates));
        }
        let body = serde_yaml::to_string(&Value::Object(document)).unwrap_or_default();
        format!("# yaml-language-server: $schema=pipeline.schema.json\n{body}")
    }

    /// A digest of what the pipeline does; comments and layout do not change it.
    pub fn digest(&self) -> String {
        blake3::hash(self.to_yaml().as_bytes()).to_hex().to_string()
    }
}

/// The options of the step `bind` from sizes by name.
pub fn bind_options(sizes: Map<String, Value>) -> Map<String, Value> {
    if sizes.len() == 1 && sizes.get("sizes").is_some_and(Value::is_object) {
        return sizes;
    }
    Map::from_iter([("sizes".to_owned(), Value::Object(sizes))])
}

/// Reads one YAML value; `None` if the text is none.
pub fn parse_value(text: &str) -> Option<Value> {
    let document = Document {
        file: String::new(),
        text: text.into(),
    };
    document.parse().ok().map(|value| value.to_json())
}

#[cfg(test)]
mod tests;
