//! One gate of a pipeline's YAML, with a place for every error.

use std::str::FromStr;

use schemars::schema_for;
use serde_json::json;

use super::definition::did_you_mean;
use super::gates::{GATES, Gate};
use crate::schema::{self, nearest};
use crate::yaml::{ConfigError, Document, Key, Located, Yaml};

impl FromStr for Gate {
    type Err = String;

    /// Reads `NAME.KEY=VALUE`, the flag form of a gate with one bound, or `{NAME: {KEY: VALUE, ...}}` as a pipeline has it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let document = Document {
                file: "--gate".to_owned(),
                text: text.into(),
            };
            let located = document.parse().map_err(|error| error.to_string())?;
            return gate(&document, &located).map_err(|error| error.to_string());
        }
        let wrong =
            || format!("{text:?} is not a gate; write NAME.KEY=VALUE, for example accuracy.drop=0.005");
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let (name, key) = path.split_once('.').ok_or_else(wrong)?;
        let value: f64 = value.trim().parse().map_err(|_| wrong())?;
        let document = json!({ name: { key: value } });
        serde_json::from_value(document).map_err(|error| format!("{text:?}: {error}"))
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
    if !GATES.contains(&key.name.as_str()) {
        let hint = did_you_mean(
            nearest(&key.name, GATES),
            &format!("gates are {}", GATES.join(", ")),
        );
        return Err(document.error(
            "unknown-gate",
            key.spot,
            format!("there is no gate `{}`", key.name),
            Some(hint),
        ));
    }
    let bounds = if matches!(item.value, Yaml::Text(_)) {
        json!({})
    } else {
        options.to_json()
    };
    let gates = schema_for!(Gate).to_value();
    let of = gates
        .get("oneOf")
        .and_then(|all| all.as_array())
        .into_iter()
        .flatten()
        .find_map(|one| one.get("properties")?.get(&key.name));
    if let Some(fault) = of.and_then(|of| schema::check(&gates, of, &bounds)) {
        let spot = options.spot_of(&fault.path, fault.is_key).unwrap_or(key.spot);
        let message = format!("gate `{}`: {fault}", key.name);
        return Err(document.error("gate-bounds", spot, message, fault.hint));
    }
    serde_json::from_value(json!({ &key.name: bounds })).map_err(|error| {
        document.error(
            "gate-bounds",
            options.spot,
            format!("gate `{}`: {error}", key.name),
            None,
        )
    })
}
