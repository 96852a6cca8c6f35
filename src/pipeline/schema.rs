//! JSON Schema of a pipeline, put together from the passes' own schemas.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::gates::Gate;
use crate::passes::registry;

/// The schema of pipeline files.
pub fn pipeline_schema() -> Value {
    let mut definitions = Map::new();
    let mut alternatives = Vec::new();
    for entry in registry::entries() {
        let mut schema = entry.schema.as_value().clone();
        hoist(&mut schema, &mut definitions);
        if let Some(object) = schema.as_object_mut() {
            object.insert("type".to_owned(), json!(["object", "null"]));
        }
        alternatives.push(json!({
            "type": "object",
            "description": entry.summary(),
            "properties": { entry.name: schema },
            "required": [entry.name],
            "additionalProperties": false,
        }));
        alternatives.push(json!({ "const": entry.name, "description": entry.summary() }));
    }
    let mut gate = schema_for!(Gate).to_value();
    hoist(&mut gate, &mut definitions);
    definitions.insert(
        "Step".to_owned(),
        json!({ "description": "A pass, with its options.", "anyOf": alternatives }),
    );
    definitions.insert("Gate".to_owned(), gate);
    definitions.insert(
        "Data".to_owned(),
        json!({ "description": "Where samples come from and how they become inputs.", "type": ["object", "string"] }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "secateur pipeline",
        "description": "Steps that rewrite an ONNX model, and conditions on the result.",
        "type": "object",
        "additionalProperties": false,
        "required": ["steps"],
        "properties": {
            "version": { "const": super::definition::VERSION, "description": "Version of this format." },
            "bind": {
                "description": "Sizes for symbolic dimensions, by name or as `input[axis]`; the output model has them.",
                "type": "object",
                "additionalProperties": { "type": "integer", "minimum": 0 },
            },
            "keep": {
                "description": "Regular expressions: nodes and values with a matching name are neither removed nor changed.",
                "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
            },
            "data": {
                "description": "Data by role.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "calibration": { "$ref": "#/$defs/Data" },
                    "evaluation": { "$ref": "#/$defs/Data" },
                    "training": { "$ref": "#/$defs/Data" },
                },
            },
            "steps": { "description": "What is done, in order.", "type": "array", "items": { "$ref": "#/$defs/Step" } },
            "gates": {
                "description": "What the result must satisfy; otherwise nothing is written.",
                "type": "array",
                "items": { "$ref": "#/$defs/Gate" },
            },
        },
        "$defs": definitions,
    })
}

/// Moves a schema's own definitions to the shared ones and drops what only a whole document has.
fn hoist(schema: &mut Value, definitions: &mut Map<String, Value>) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("$schema");
    object.remove("title");
    if let Some(Value::Object(own)) = object.remove("$defs") {
        for (name, definition) in own {
            definitions.entry(name).or_insert(definition);
        }
    }
}
