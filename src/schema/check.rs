//! A value against a schema.

use serde_json::{Map, Value};

use super::nearest::nearest;
use super::words::{allowed, example, flow};
use super::{alternatives, follow, listed, types};

/// A step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, from 0.
    Item(usize),
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, from the outermost value inwards.
    pub path: Vec<Place>,
    /// Whether the last key itself is what is wrong, and not its value.
    pub is_key: bool,
    /// What is wrong and what is allowed.
    pub message: String,
    /// What may have been meant, or an example.
    pub hint: Option<String>,
}

impl Fault {
    /// The place as a user would write it: `images.preprocess.crop`, `layers[0].match`; empty for the value itself.
    pub fn place(&self) -> String {
        let mut text = String::new();
        for place in &self.path {
            match place {
                Place::Key(key) if text.is_empty() => text.push_str(key),
                Place::Key(key) => text.push_str(&format!(".{key}")),
                Place::Item(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    fn under(mut self, place: Place) -> Self {
        self.path.insert(0, place);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.place())?;
        }
        f.write_str(&self.message)
    }
}

/// The longest text of a value that a message quotes.
const QUOTED: usize = 60;

/// What is wrong with `value` where `schema`, a part of `root`, holds; `None` if it is as the schema says.
pub fn check(root: &Value, schema: &Value, value: &Value) -> Option<Fault> {
    let followed = follow(root, schema);
    let nullable = value.is_null() && allows_null(root, followed, 0);
    if nullable {
        return None;
    }
    let found = alternatives(root, schema);
    let mut faults = Vec::new();
    for one in &found {
        match single(root, one, value) {
            None => return None,
            Some(fault) => faults.push(fault),
        }
    }
    if found.is_empty() {
        return None;
    }
    // A fault inside the one alternative that the value was meant for says more than a list of all of them.
    let mut inner = faults.into_iter().flatten();
    match (inner.next(), inner.next()) {
        (Some(fault), None) => Some(fault),
        _ => Some(whole(root, schema, value)),
    }
}

fn allows_null(root: &Value, schema: &Value, depth: usize) -> bool {
    let schema = follow(root, schema);
    let own = match schema.get("type") {
        Some(Value::String(one)) => one == "null",
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some("null")),
        _ => false,
    };
    own || depth < 8
        && ["anyOf", "oneOf"].iter().any(|key| {
            let inner = schema.get(key).and_then(Value::as_array);
            inner
                .into_iter()
                .flatten()
                .any(|one| allows_null(root, one, depth + 1))
        })
}

/// The value as a whole is not what is allowed.
fn whole(root: &Value, schema: &Value, value: &Value) -> Fault {
    let found = alternatives(root, schema);
    let mut hint = None;
    if let Value::String(text) = value {
        // A choice that takes a value, without it.
        let takes = found.iter().find_map(|one| {
            one.get("properties")?.get(text).map(|of| {
                flow(&Value::Object(Map::from_iter([(
                    text.clone(),
                    example(root, of),
                )])))
            })
        });
        let words: Vec<&str> = found.iter().flat_map(|one| listed(one)).collect();
        hint = takes
            .map(|example| format!("`{text}` takes a value, for example {example}"))
            .or_else(|| nearest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?")));
    }
    let hint = hint.or_else(|| match example(root, schema) {
        Value::Null => None,
        example => Some(format!("for example {}", flow(&example))),
    });
    let mut quoted = match value {
        Value::Object(_) => "a map".to_owned(),
        other => flow(other),
    };
    if quoted.chars().count() > QUOTED {
        quoted = quoted.chars().take(QUOTED).collect::<String>() + "...";
    }
    Fault {
        path: Vec::new(),
        is_key: false,
        message: format!(
            "{quoted} is not allowed here; allowed is {}",
            allowed(root, schema)
        ),
        hint,
    }
}

/// What is wrong under one alternative: nothing; the value is of another kind (`Some(None)`); or a fault inside it.
fn single(root: &Value, schema: &Value, value: &Value) -> Option<Option<Fault>> {
    let words = listed(schema);
    if !words.is_empty() {
        return match value {
            Value::String(text) if words.contains(&text.as_str()) => None,
            _ => Some(None),
        };
    }
    let kinds = types(schema);
    if kinds.is_empty() {
        return None;
    }
    let is = |kind: &str| kinds.contains(&kind);
    match value {
        Value::Bool(_) if is("boolean") => None,
        Value::String(_) if is("string") => None,
        Value::Number(number) if is("number") || is("integer") && number.as_f64().is_some_and(is_whole) => {
            if in_bounds(schema, number.as_f64().unwrap_or(0.0)) {
                None
            } else {
                Some(Some(whole(root, schema, value)))
            }
        }
        Value::Array(items) if is("array") => list(root, schema, items, value).map(Some),
        Value::Object(entries) if is("object") => map(root, schema, entries).map(Some),
        _ => Some(None),
    }
}

fn is_whole(value: f64) -> bool {
    value.fract() == 0.0
}

fn in_bounds(schema: &Value, value: f64) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    bound("minimum").is_none_or(|low| value >= low) && bound("maximum").is_none_or(|high| value <= high)
}

fn list(root: &Value, schema: &Value, items: &[Value], value: &Value) -> Option<Fault> {
    let count = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|count| usize::try_from(count).ok())
    };
    let prefix = schema.get("prefixItems").and_then(Value::as_array);
    let wrong_count = count("minItems").is_some_and(|least| items.len() < least)
        || count("maxItems").is_some_and(|most| items.len() > most);
    if wrong_count {
        return Some(whole(root, schema, value));
    }
    items.iter().enumerate().find_map(|(index, item)| {
        let of = prefix
            .and_then(|prefix| prefix.get(index))
            .or_else(|| schema.get("items"))?;
        check(root, of, item).map(|fault| fault.under(Place::Item(index)))
    })
}

fn map(root: &Value, schema: &Value, entries: &Map<String, Value>) -> Option<Fault> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let rest = schema.get("additionalProperties");
    for (name, value) in entries {
        let known = properties.and_then(|properties| properties.get(name));
        match (known, rest) {
            (Some(of), _) => {
                if let Some(fault) = check(root, of, value) {
                    return Some(fault.under(Place::Key(name.clone())));
                }
            }
            (None, Some(Value::Bool(false))) => return Some(unknown(name, properties)),
            (None, Some(of)) if of.is_object() => {
                if let Some(fault) = check(root, of, value) {
                    return Some(fault.under(Place::Key(name.clone())));
                }
            }
            _ => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    let missing = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| !entries.contains_key(*name))?;
    let of = properties.and_then(|properties| properties.get(missing));
    Some(Fault {
        path: Vec::new(),
        is_key: false,
        message: format!(
            "`{missing}` is missing{}",
            of.map(|of| format!("; it is {}", allowed(root, of)))
                .unwrap_or_default()
        ),
        hint: of.map(|of| {
            let entry = Map::from_iter([(missing.to_owned(), example(root, of))]);
            format!("for example {}", flow(&Value::Object(entry)))
        }),
    })
}

fn unknown(name: &str, properties: Option<&Map<String, Value>>) -> Fault {
    let names: Vec<&str> = properties
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    Fault {
        path: vec![Place::Key(name.to_owned())],
        is_key: true,
        message: format!("there is no `{name}` here; possible are {}", names.join(", ")),
        hint: nearest(name, names.iter().copied()).map(|name| format!("did you mean `{name}`?")),
    }
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, schema_for};
    use serde_json::json;

    use super::*;

    /// Options of all forms.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Options {
        how: How,
        ratio: Option<f64>,
        count: u32,
        names: Vec<String>,
        crop: Option<[u32; 2]>,
        sizes: std::collections::BTreeMap<String, i64>,
        several: Vec<Inner>,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case")]
    #[allow(dead_code)]
    enum How {
        /// The extremes.
        MinMax,
        /// A part.
        Percentile(#[schemars(example = 99.9)] f64),
    }

    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        #[schemars(rename = "match")]
        pattern: String,
    }

    fn fault(option: &str, value: Value) -> Option<(String, String, String)> {
        let schema = schema_for!(Options).to_value();
        let of = &schema["properties"][option];
        check(&schema, of, &value).map(|fault| {
            (
                fault.place(),
                fault.message.clone(),
                fault.hint.unwrap_or_default(),
            )
        })
    }

    #[test]
    fn what_is_allowed_has_no_fault() {
        for (option, value) in [
            ("how", json!("min-max")),
            ("how", json!({"percentile": 99})),
            ("ratio", json!(null)),
            ("ratio", json!(1)),
            ("count", json!(3)),
            ("count", json!(3.0)),
            ("names", json!(["a", "b"])),
            ("crop", json!([224, 224])),
            ("sizes", json!({"batch": 4})),
            ("several", json!([{"match": "a"}])),
        ] {
            assert_eq!(fault(option, value.clone()), None, "{option} {value}");
        }
    }

    #[test]
    fn faults_say_what_is_allowed_in_plain_words() {
        for (option, value, place, words) in [
            (
                "how",
                json!("percentile"),
                "",
                vec!["`percentile` takes a value", "{percentile: "],
            ),
            (
                "how",
                json!("min-mx"),
                "",
                vec![
                    "min-mx",
                    "min-max or {percentile: a number}",
                    "did you mean `min-max`?",
                ],
            ),
            (
                "how",
                json!({"percentile": "lots"}),
                "percentile",
                vec!["lots", "a number"],
            ),
            ("how", json!(3), "", vec!["3 is not allowed", "min-max"]),
            (
                "ratio",
                json!("lots"),
                "",
                vec!["lots is not allowed", "a number", "for example"],
            ),
            (
                "count",
                json!(-1),
                "",
                vec!["-1 is not allowed", "a whole number of at least 0"],
            ),
            (
                "count",
                json!(1.5),
                "",
                vec!["1.5 is not allowed", "a whole number"],
            ),
            ("count", json!(null), "", vec!["nothing is not allowed"]),
            (
                "names",
                json!("a"),
                "",
                vec!["a is not allowed", "a list, each a text"],
            ),
            ("names", json!([1]), "[0]", vec!["1 is not allowed", "a text"]),
            (
                "crop",
                json!(224),
                "",
                vec!["224 is not allowed", "a list of 2, each a whole number"],
            ),
            (
                "crop",
                json!([224]),
                "",
                vec!["[224] is not allowed", "a list of 2"],
            ),
            (
                "sizes",
                json!({"batch": "x"}),
                "batch",
                vec!["x is not allowed", "a whole number"],
            ),
            (
                "several",
                json!([{"mtch": "a"}]),
                "[0].mtch",
                vec!["there is no `mtch`", "did you mean `match`?"],
            ),
            ("several", json!([{}]), "[0]", vec!["`match` is missing"]),
        ] {
            let (at, message, hint) = fault(option, value.clone()).unwrap();
            assert_eq!(at, place, "{option} {value}: {message}");
            for word in words {
                assert!(
                    message.contains(word) || hint.contains(word),
                    "{option} {value}: no `{word}` in {message} / {hint}"
                );
            }
            for word in ["variant", "untagged", "f64", "u32", "expected"] {
                assert!(!message.contains(word), "{message}");
            }
        }
    }
}
