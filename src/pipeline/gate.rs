//! One gate of a pipeline's YAML, with a place for every error.

use serde_json::json;

use super::definition::did_you_mean;
use super::gates::{GATES, Gate};
use super::nearest::nearest;
use super::yaml::{ConfigError, Document, Key, Located, Yaml};

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
    serde_json::from_value(json!({ &key.name: bounds })).map_err(|error| {
        let misspelt = options
            .entries()
            .unwrap_or_default()
            .iter()
            .find(|(entry, _)| error.to_string().contains(&format!("`{}`", entry.name)));
        let spot = misspelt.map_or(options.spot, |(entry, _)| entry.spot);
        document.error("gate-bounds", spot, format!("gate `{}`: {error}", key.name), None)
    })
}
