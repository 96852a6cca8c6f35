//! Schemas in words: what is allowed, and an example of it.

use serde_json::{Map, Value, json};

use super::{alternatives, follow, listed, types};

/// Fields that are named of a map; the rest are counted.
const NAMED: usize = 12;

/// What a schema allows, in words.
pub fn allowed(root: &Value, schema: &Value) -> String {
    describe(root, schema, 0)
}

fn describe(root: &Value, schema: &Value, depth: usize) -> String {
    let found = alternatives(root, schema);
    let mut words: Vec<&str> = found.iter().flat_map(|one| listed(one)).collect();
    words.dedup();
    let mut parts: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for one in found.iter().filter(|one| listed(one).is_empty()) {
        let part = plain(root, one, depth);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    either(&parts)
}

/// `a`, `a or b`, `a, b or c`.
fn either(parts: &[String]) -> String {
    match parts {
        [] => "any value".to_owned(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

/// One alternative without words of its own.
fn plain(root: &Value, schema: &Value, depth: usize) -> String {
    let kinds: Vec<String> = types(schema)
        .into_iter()
        .map(|kind| match kind {
            "boolean" => "true or false".to_owned(),
            "integer" => number(schema, "a whole number"),
            "number" => number(schema, "a number"),
            "string" => "a text".to_owned(),
            "array" => list(root, schema, depth),
            "object" => map(root, schema, depth),
            other => format!("a value of type {other}"),
        })
        .collect();
    either(&kinds)
}

fn number(schema: &Value, what: &str) -> String {
    let bound = |key: &str| schema.get(key).filter(|bound| bound.is_number()).map(flow);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
        (Some(low), None) => format!("{what} of at least {low}"),
        (None, Some(high)) => format!("{what} of at most {high}"),
        (None, None) => what.to_owned(),
    }
}

fn list(root: &Value, schema: &Value, depth: usize) -> String {
    if let Some(items) = schema.get("prefixItems").and_then(Value::as_array) {
        let parts: Vec<String> = items.iter().map(|item| describe(root, item, depth + 1)).collect();
        return format!("a list of {}: {}", parts.len(), parts.join(", "));
    }
    match schema.get("items") {
        Some(items) if depth < 2 => {
            let what = describe(root, items, depth + 1);
            match schema.get("minItems").and_then(Value::as_u64) {
                Some(count) if schema.get("maxItems").and_then(Value::as_u64) == Some(count) => {
                    format!("a list of {count}, each {what}")
                }
                _ => format!("a list, each {what}"),
            }
        }
        _ => "a list".to_owned(),
    }
}

fn map(root: &Value, schema: &Value, depth: usize) -> String {
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(properties) = properties.filter(|properties| !properties.is_empty()) {
        // A map of one required field is how a choice that takes a value is written.
        if let (1, Some((name, of))) = (properties.len(), properties.iter().next())
            && depth < 2
        {
            return format!("{{{name}: {}}}", describe(root, of, depth + 1));
        }
        let mut names: Vec<&str> = properties.keys().map(String::as_str).take(NAMED).collect();
        if properties.len() > NAMED {
            names.push("...");
        }
        return format!("a map with {}", names.join(", "));
    }
    match schema.get("additionalProperties") {
        Some(of) if of.is_object() && depth < 2 => {
            format!(
                "a map from names to values, each {}",
                describe(root, of, depth + 1)
            )
        }
        _ => "a map".to_owned(),
    }
}

/// A value that a schema allows: an example that it gives, its default, or one made up.
pub fn example(root: &Value, schema: &Value) -> Value {
    made_up(root, schema, 0)
}

fn made_up(root: &Value, schema: &Value, depth: usize) -> Value {
    let own = |schema: &Value| {
        let given = schema.get("examples").and_then(|examples| examples.get(0));
        let default = schema.get("default").filter(|default| {
            !default.is_null() && **default != json!([]) && **default != json!({}) && **default != json!("")
        });
        given.or(default).cloned()
    };
    if let Some(value) = own(schema).or_else(|| own(follow(root, schema))) {
        return value;
    }
    let found = alternatives(root, schema);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    if let Some(value) = own(first) {
        return value;
    }
    if let Some(word) = listed(first).first() {
        return json!(word);
    }
    let below = |schema: &Value| {
        if depth < 6 {
            made_up(root, schema, depth + 1)
        } else {
            Value::Null
        }
    };
    let least = first.get("minimum").and_then(Value::as_f64).unwrap_or(0.0);
    match types(first).first().copied() {
        Some("boolean") => json!(true),
        Some("integer") => json!((least as i64).max(1)),
        Some("number") => json!(least.max(0.5)),
        Some("string") => json!("NAME"),
        Some("array") => match first.get("prefixItems").and_then(Value::as_array) {
            Some(items) => items.iter().map(below).collect(),
            None => {
                let count = first.get("minItems").and_then(Value::as_u64).unwrap_or(1).max(1);
                let item = first.get("items").map_or(Value::Null, below);
                Value::Array(vec![item; usize::try_from(count).unwrap_or(1).min(4)])
            }
        },
        Some("object") => {
            let properties = first.get("properties").and_then(Value::as_object);
            let required: Vec<&str> = first
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut map: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .filter(|(name, _)| required.contains(&name.as_str()))
                .map(|(name, of)| (name.clone(), below(of)))
                .collect();
            if map.is_empty()
                && let Some((name, of)) = properties.and_then(|properties| properties.iter().next())
            {
                map.insert(name.clone(), below(of));
            }
            if map.is_empty()
                && let Some(of) = first.get("additionalProperties").filter(|of| of.is_object())
            {
                map.insert("NAME".to_owned(), below(of));
            }
            Value::Object(map)
        }
        _ => Value::Null,
    }
}

/// A value as YAML on one line.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{}: {}", word(name), flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::String(text) => word(text),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    }
}

/// A text, in quotes where YAML would take it for something else.
fn word(text: &str) -> String {
    let is_plain = text
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+'))
        && text.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_');
    if is_plain && !matches!(text, "true" | "false" | "null") {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}
