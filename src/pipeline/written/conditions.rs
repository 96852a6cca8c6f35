//! `when` of a step: whether it is done.

use serde_json::Value;

use super::variables::{Values, put, value_of};
use crate::schema::flow;
use crate::yaml::{ConfigError, Document, Key, Located, Yaml};

/// The key of the condition.
pub(super) const WHEN: &str = "when";

/// Texts that look like a boolean and are none in YAML 1.2.
const DOUBTFUL: [&str; 6] = ["no", "off", "n", "yes", "on", "y"];

/// The variables that the condition of a step compares.
pub(super) fn compared(item: &Located) -> &[(Key, Located)] {
    match item.get(WHEN).map(|(_, condition)| condition) {
        Some(condition) if matches!(condition.value, Yaml::Map(_)) => condition.entries().unwrap_or_default(),
        _ => &[],
    }
}

/// Whether a value leaves a step out: nothing, `false` and 0 do.
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Whether a condition holds: a map of variables and the values that they may have, or one value that is not off.
pub(super) fn holds(document: &Document, condition: &Located, values: &Values) -> Result<bool, ConfigError> {
    let Yaml::Map(entries) = &condition.value else {
        let value = put(document, condition, values)?;
        if let Yaml::Text(text) = &value.value
            && DOUBTFUL.contains(&text.to_lowercase().as_str())
        {
            let message = format!("`{text}` is a text, and no boolean");
            let hint = "write true or false".to_owned();
            return Err(document.error("pipeline-shape", condition.spot, message, Some(hint)));
        }
        return Ok(!is_off(&value.to_json()));
    };
    for (key, allowed) in entries {
        let value = value_of(document, key.spot, &key.name, values)?;
        let allowed = put(document, allowed, values)?.to_json();
        let fits = match &allowed {
            Value::Array(all) => all.iter().any(|one| same(one, value)),
            one => same(one, value),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two values are the same; numbers are whatever their form.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => flow(one) == flow(other) && one.is_string() == other.is_string(),
    }
}
