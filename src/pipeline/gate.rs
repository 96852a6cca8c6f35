//! One gate of a pipeline's YAML, with a place for every error.

use std::str::FromStr;

use schemars::schema_for;
use serde_json::{Value, json};

use super::definition::did_you_mean;
use super::gates::{GATES, Gate};
use crate::schema::{self, Fault, nearest};
use crate::yaml::{ConfigError, Document, Key, Located, Spot, Yaml};

/// Why the value of a flag is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Neither of the two forms.
    #[error("{text:?} is not a gate; write NAME.KEY=VALUE, for example accuracy.drop=0.005")]
    Form {
        /// The value.
        text: String,
    },
    /// No name and bounds of a gate.
    #[error("{error}{hint}", hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Config {
        /// What is wrong, and where.
        error: Box<ConfigError>,
    },
}

impl From<ConfigError> for GateError {
    fn from(error: ConfigError) -> Self {
        Self::Config {
            error: Box::new(error),
        }
    }
}

impl FromStr for Gate {
    type Err = GateError;

    /// Reads `NAME.KEY=VALUE`, the flag form of a gate with one bound, or `{NAME: {KEY: VALUE, ...}}` as a pipeline has it.
    fn from_str(text: &str) -> Result<Self, GateError> {
        let document = Document {
            file: "--gate".to_owned(),
            text: text.into(),
        };
        if text.trim_start().starts_with('{') {
            return Ok(gate(&document, &document.parse()?)?);
        }
        let wrong = || GateError::Form {
            text: text.to_owned(),
        };
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let (name, key) = path.split_once('.').ok_or_else(wrong)?;
        let value: f64 = value.trim().parse().map_err(|_| wrong())?;
        let located = Located::of_json(&json!({ name: { key: value } }), Spot::default());
        Ok(gate(&document, &located)?)
    }
}

/// One entry of the list of gates.
pub(super) fn gate(document: &Document, item: &Located) -> Result<Gate, ConfigError> {
    let (key, options) = match &item.value {
        Yaml::Map(entries) => match entries.as_slice() {
            [(key, options)] => (key.clone(), options),
            _ => {
                return Err(document.error(
                    "pipeline-shape",
                    item.spot,
                    "a gate is one name with its bounds",
                    None,
                ));
            }
        },
        Yaml::Text(name) => (
            Key {
                spot: item.spot,
                name: name.clone(),
            },
            item,
        ),
        _ => {
            return Err(document.error(
                "pipeline-shape",
                item.spot,
                format!("a gate is a name, not {}", item.kind()),
                None,
            ));
        }
    };
    let bounds = if matches!(item.value, Yaml::Text(_)) {
        json!({})
    } else {
        options.to_json()
    };
    of_json(&key.name, &bounds).map_err(|wrong| {
        let spot = match &wrong {
            WrongGate::Name { .. } => key.spot,
            WrongGate::Bounds { fault, .. } => {
                let inside = options.spot_of(&fault.path, fault.is_key);
                inside.unwrap_or(key.spot)
            }
            WrongGate::Value { .. } => options.spot,
        };
        document.error(wrong.code(), spot, wrong.to_string(), wrong.hint())
    })
}

/// Why a name with bounds is no gate.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongGate {
    /// Nothing has this name.
    #[error("there is no gate `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// The bounds are not what the schema of the gate allows.
    #[error("gate `{name}`: {fault}")]
    Bounds {
        /// The gate.
        name: String,
        /// What is wrong, and where among the bounds.
        fault: Fault,
    },
    /// The schema allows the bounds and the gate does not.
    #[error("gate `{name}`: {reason}")]
    Value {
        /// The gate.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl WrongGate {
    /// A stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "unknown-gate",
            Self::Bounds { .. } | Self::Value { .. } => "gate-bounds",
        }
    }

    /// What would be right.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Name { name } => Some(did_you_mean(
                nearest(name, GATES),
                &format!("gates are {}", GATES.join(", ")),
            )),
            Self::Bounds { fault, .. } => fault.hint.clone(),
            Self::Value { .. } => None,
        }
    }
}

/// The gate of this name with these bounds.
pub(super) fn of_json(name: &str, bounds: &Value) -> Result<Gate, WrongGate> {
    let name = name.to_owned();
    if !GATES.contains(&name.as_str()) {
        return Err(WrongGate::Name { name });
    }
    let gates = schema_for!(Gate).to_value();
    let of = gates
        .get("oneOf")
        .and_then(|all| all.as_array())
        .into_iter()
        .flatten()
        .find_map(|one| one.get("properties")?.get(&name));
    if let Some(fault) = of.and_then(|of| schema::check(&gates, of, bounds)) {
        return Err(WrongGate::Bounds { name, fault });
    }
    serde_json::from_value(json!({ &name: bounds })).map_err(|error| WrongGate::Value {
        name,
        reason: error.to_string(),
    })
}
