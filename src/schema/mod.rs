//! Values that users write, judged by the JSON Schema of what they are for: what is wrong, where, what is allowed instead, and an
//! example, in words of YAML and not of the types behind them. Pipelines, flags and descriptions of data all use it.

mod check;
mod nearest;
mod patterns;
mod words;

pub use check::{Fault, Place, check};
pub use nearest::nearest;
pub use patterns::{PatternError, pattern, patterns};
pub use words::{allowed, example, flow};

use serde_json::Value;

/// A field of a map, or of a map in it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Its name, behind those of the maps around it: `images.folder`.
    pub place: String,
    /// Its schema.
    pub schema: &'a Value,
}

/// Every field of a schema, and of the maps in it, in the order of the schema.
pub fn fields<'a>(root: &'a Value, schema: &'a Value) -> Vec<Field<'a>> {
    fn collect<'a>(
        root: &'a Value,
        schema: &'a Value,
        place: &str,
        depth: usize,
        found: &mut Vec<Field<'a>>,
    ) {
        for one in alternatives(root, schema) {
            let properties = one.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let place = match place {
                    "" => name.clone(),
                    outer => format!("{outer}.{name}"),
                };
                if found.iter().any(|field| field.place == place) {
                    continue;
                }
                found.push(Field {
                    place: place.clone(),
                    schema,
                });
                if depth < 6 {
                    collect(root, schema, &place, depth + 1, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    collect(root, schema, "", 0, &mut found);
    found
}

/// A schema with its references followed.
fn follow<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    // References of a schema that schemars makes do not go in circles; the bound is for schemas that are not.
    for _ in 0..16 {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|target| root.pointer(target.trim_start_matches('#')));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The alternatives of a schema, those inside alternatives too and `null` left out; the schema itself where it has none.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    fn collect<'a>(root: &'a Value, schema: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
        let schema = follow(root, schema);
        let inner = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| schema.get(key)?.as_array());
        match inner.filter(|_| depth < 8) {
            Some(inner) => inner.iter().for_each(|one| collect(root, one, depth + 1, found)),
            None if schema.get("type").and_then(Value::as_str) == Some("null") => {}
            None => found.push(schema),
        }
    }
    let mut found = Vec::new();
    collect(root, schema, 0, &mut found);
    found
}

/// The types that a schema allows, `null` aside; none where it says nothing about it.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => Vec::new(),
    }
}

/// The words that a schema lists.
fn listed(schema: &Value) -> Vec<&str> {
    let several = schema.get("enum").and_then(Value::as_array);
    several
        .into_iter()
        .flatten()
        .chain(schema.get("const"))
        .filter_map(Value::as_str)
        .collect()
}
