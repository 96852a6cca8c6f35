//! A pipeline as a user writes it: read from YAML with a place for every error, and written back.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::gate::gate;
use super::gates::Gate;
use super::resources::Described;
use super::{presets, until};
use crate::data::Spec;
use crate::passes::{Pass, Safety, registry};
use crate::schema::{self, Fault, Place, nearest};
use crate::yaml::{ConfigError, Document, Key, Located, Spot, Yaml};

/// Version of the format that this release reads.
pub const VERSION: i64 = 1;

const KEYS: [&str; 6] = ["version", "bind", "keep", "data", "steps", "gates"];

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
    /// The text that it was read from, with the places of its steps and gates; `None` where there is none.
    pub(super) source: Option<Source>,
}

/// The text of a pipeline, and where things stand in it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) document: Document,
    /// The place of each gate.
    pub(super) gates: Vec<Spot>,
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
    pub spot: Option<Spot>,
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
            source: None,
        }
    }

    /// The preset with this name, if there is one.
    pub fn preset(name: &str) -> Option<Result<Self, ConfigError>> {
        let text = presets::text(name)?;
        Some(
            Self::parse(&format!("preset {name}"), text, Path::new("")).map(|pipeline| Self {
                name: name.to_owned(),
                ..pipeline
            }),
        )
    }

    /// Reads a pipeline. `file` is what errors call the text; relative paths in it start from `base`.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let document = Document {
            file: file.to_owned(),
            text: text.into(),
        };
        let tree = document.parse()?;
        let entries = match tree.entries() {
            Some(entries) if matches!(tree.value, Yaml::Map(_)) => entries,
            _ => {
                let message = format!("a pipeline is a map with `steps`, not {}", tree.kind());
                return Err(document.error("pipeline-shape", tree.spot, message, None));
            }
        };
        let mut pipeline = Self::of(file, Vec::new());
        pipeline.base = base.to_owned();
        let mut bind = None;
        let mut spots = Vec::new();
        let mut has_steps = false;
        for (key, value) in entries {
            match key.name.as_str() {
                "version" => version(&document, value)?,
                "bind" => bind = Some(step(&document, key, Some(value), "bind")?),
                "keep" => pipeline.keep = texts(&document, value)?,
                "data" => pipeline.data = data(&document, value)?,
                "steps" => {
                    has_steps = true;
                    pipeline.steps = list(&document, value, "steps")?
                        .iter()
                        .map(|item| parse_step(&document, item))
                        .collect::<Result<_, _>>()?;
                }
                "gates" => {
                    let items = list(&document, value, "gates")?;
                    spots = items.iter().map(|item| item.spot).collect();
                    pipeline.gates = items
                        .iter()
                        .map(|item| gate(&document, item))
                        .collect::<Result<_, _>>()?;
                }
                other => {
                    let hint = did_you_mean(
                        nearest(other, KEYS),
                        &format!("a pipeline has {}", KEYS.join(", ")),
                    );
                    return Err(document.error(
                        "unknown-key",
                        key.spot,
                        format!("unknown key `{other}`"),
                        Some(hint),
                    ));
                }
            }
        }
        if !has_steps && bind.is_none() {
            return Err(document.error("pipeline-shape", tree.spot, "a pipeline needs `steps`", None));
        }
        pipeline.steps.splice(0..0, bind);
        pipeline.source = Some(Source {
            document,
            gates: spots,
        });
        Ok(pipeline)
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

fn version(document: &Document, value: &Located) -> Result<(), ConfigError> {
    match value.value {
        Yaml::Integer(VERSION) => Ok(()),
        Yaml::Integer(other) => {
            let hint = format!("this release reads version {VERSION}");
            Err(document.error(
                "pipeline-version",
                value.spot,
                format!("version {other} is not known"),
                Some(hint),
            ))
        }
        _ => Err(document.error(
            "pipeline-version",
            value.spot,
            format!("the version is a number, not {}", value.kind()),
            None,
        )),
    }
}

fn list<'a>(document: &Document, value: &'a Located, key: &str) -> Result<&'a [Located], ConfigError> {
    match &value.value {
        Yaml::List(items) => Ok(items),
        Yaml::Null => Ok(&[]),
        _ => Err(document.error(
            "pipeline-shape",
            value.spot,
            format!("`{key}` is a list, not {}", value.kind()),
            None,
        )),
    }
}

fn texts(document: &Document, value: &Located) -> Result<Vec<String>, ConfigError> {
    let text = |item: &Located| match &item.value {
        Yaml::Text(text) => Ok(text.clone()),
        _ => Err(document.error(
            "pipeline-shape",
            item.spot,
            format!("a pattern is a text, not {}", item.kind()),
            None,
        )),
    };
    match &value.value {
        Yaml::Text(_) => Ok(vec![text(value)?]),
        _ => list(document, value, "keep")?.iter().map(text).collect(),
    }
}

fn data(document: &Document, value: &Located) -> Result<IndexMap<String, Described>, ConfigError> {
    let Some(entries) = value.entries() else {
        return Err(document.error(
            "pipeline-shape",
            value.spot,
            format!("`data` is a map of roles, not {}", value.kind()),
            None,
        ));
    };
    let mut data = IndexMap::new();
    for (key, value) in entries {
        if !ROLES.contains(&key.name.as_str()) {
            let hint = did_you_mean(
                nearest(&key.name, ROLES),
                &format!("roles are {}", ROLES.join(", ")),
            );
            return Err(document.error(
                "unknown-role",
                key.spot,
                format!("unknown role `{}`", key.name),
                Some(hint),
            ));
        }
        match &value.value {
            Yaml::Text(_) => {}
            Yaml::Map(_) => {
                Spec::from_located(document, value)?;
            }
            _ => {
                let message = format!("data are a path or a map, not {}", value.kind());
                return Err(document.error("pipeline-shape", value.spot, message, None));
            }
        }
        data.insert(key.name.clone(), Described::Written(value.to_json()));
    }
    Ok(data)
}

/// `name`, `name:` or `{ name: options }`.
fn parse_step(document: &Document, item: &Located) -> Result<Step, ConfigError> {
    match &item.value {
        Yaml::Text(name) => step(
            document,
            &Key {
                spot: item.spot,
                name: name.clone(),
            },
            None,
            name,
        ),
        Yaml::Map(entries) => match entries.as_slice() {
            [(key, options)] => step(document, key, Some(options), &key.name),
            _ => {
                let hint =
                    "write each step as its own list item; options go below its name, indented".to_owned();
                Err(document.error(
                    "pipeline-shape",
                    item.spot,
                    "a step is one name with its options",
                    Some(hint),
                ))
            }
        },
        _ => Err(document.error(
            "pipeline-shape",
            item.spot,
            format!("a step is a name, not {}", item.kind()),
            None,
        )),
    }
}

fn step(document: &Document, key: &Key, options: Option<&Located>, name: &str) -> Result<Step, ConfigError> {
    let entries = match options {
        None => &[],
        Some(value) => value.entries().ok_or_else(|| {
            document.error(
                "pipeline-shape",
                value.spot,
                format!("the options of `{name}` are a map, not {}", value.kind()),
                None,
            )
        })?,
    };
    let map: Map<String, Value> = entries
        .iter()
        .map(|(key, value)| (key.name.clone(), value.to_json()))
        .collect();
    let map = if name == "bind" { bind_options(map) } else { map };
    let made = Step::new(name, map).map(|step| Step {
        spot: Some(key.spot),
        ..step
    });
    made.map_err(|error| {
        let at = |option: &str| entries.iter().find(|(key, _)| key.name == option);
        let spot = match &error {
            StepError::Unknown { .. } => key.spot,
            StepError::Option { option, .. } => at(option.as_str()).map_or(key.spot, |(key, _)| key.spot),
            StepError::Value { fault, .. } => {
                let mut path = fault.path.as_slice();
                if let (true, [Place::Key(first), rest @ ..]) = (name == "bind", path)
                    && first == "sizes"
                    && at("sizes").is_none()
                {
                    path = rest;
                }
                options
                    .and_then(|options| options.spot_of(path, fault.is_key))
                    .unwrap_or(key.spot)
            }
            StepError::Options { .. } => key.spot,
        };
        document.error(error.code(), spot, error.to_string(), error.hint())
    })
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
