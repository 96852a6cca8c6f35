//! JSON Schema of a pipeline, put together from the passes' own schemas.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::gates::Gate;
use crate::data::Spec;
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
            if let Some(Value::Object(options)) = object.get_mut("properties") {
                options.values_mut().for_each(or_variable);
            }
        }
        alternatives.push(json!({
            "type": "object",
            "description": entry.summary(),
            "properties": { entry.name: schema, "when": { "$ref": "#/$defs/When" } },
            "required": [entry.name],
            "additionalProperties": false,
        }));
        alternatives.push(json!({ "const": entry.name, "description": entry.summary() }));
    }
    alternatives.push(json!({
        "type": "object",
        "description": "The steps of another file.",
        "properties": { "include": { "type": "string" }, "when": { "$ref": "#/$defs/When" } },
        "required": ["include"],
        "additionalProperties": false,
    }));
    alternatives.push(json!({ "$ref": "#/$defs/Variable" }));
    definitions.extend(of_variables());
    let mut gate = schema_for!(Gate).to_value();
    hoist(&mut gate, &mut definitions);
    definitions.insert(
        "Step".to_owned(),
        json!({ "description": "A pass, with its options.", "anyOf": alternatives }),
    );
    definitions.insert("Gate".to_owned(), gate);
    let mut description = Spec::schema();
    hoist(&mut description, &mut definitions);
    definitions.insert(
        "Data".to_owned(),
        json!({
            "description": "Where samples come from and how they become inputs: a description, or the path of a .npz or .npy file, \
                            of a folder of images or ONNX test sets, or of a description in YAML.",
            "anyOf": [{ "type": "string" }, description],
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "secateur pipeline",
        "description": "Steps that rewrite an ONNX model, and conditions on the result.",
        "type": "object",
        "additionalProperties": false,
        "anyOf": [{ "required": ["steps"] }, { "required": ["include"] }, { "required": ["bind"] }],
        "properties": {
            "version": { "const": super::definition::VERSION, "description": "Version of this format." },
            "include": {
                "description": "Files, or presets, whose steps, data, gates and variables come first. Paths in a file start from its folder.",
                "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
            },
            "vars": {
                "description": "Variables and their values where nobody gives others, for ${NAME}; nothing for one that has to be given.",
                "type": "object",
                "propertyNames": { "pattern": VARIABLE },
            },
            "matrix": {
                "description": "A family: lists of values of variables, and of models under `model`. The pipeline is run with each combination.",
                "type": "object",
                "properties": { "exclude": { "type": "array", "items": { "type": "object" } } },
                "additionalProperties": { "type": "array", "minItems": 1 },
            },
            "bind": {
                "description": "Sizes for symbolic dimensions, by name or as `input[axis]`; the output model has them.",
                "type": "object",
                "additionalProperties": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "$ref": "#/$defs/Variable" }] },
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

/// What a name of a variable is.
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// The definitions of what variables bring.
fn of_variables() -> Map<String, Value> {
    let variable = json!({
        "description": "The value of a variable.",
        "type": "string",
        "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_-]*\\}",
    });
    let when = json!({
        "description": "Whether the step is done: not for nothing, false and 0; or variables and the values that they may have.",
    });
    Map::from_iter([("Variable".to_owned(), variable), ("When".to_owned(), when)])
}

/// Lets a variable stand in the place of a value. What the value is stays where editors look for it.
fn or_variable(schema: &mut Value) {
    let mut own = schema.take();
    let mut outer = Map::new();
    if let Some(object) = own.as_object_mut() {
        for key in ["description", "default"] {
            outer.extend(object.remove(key).map(|value| (key.to_owned(), value)));
        }
    }
    outer.insert("anyOf".to_owned(), json!([own, { "$ref": "#/$defs/Variable" }]));
    *schema = Value::Object(outer);
}

/// Moves a schema's own definitions to the shared ones and drops what only a whole document has. Where another definition has
/// the name already, the own one gets a number.
fn hoist(schema: &mut Value, definitions: &mut Map<String, Value>) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("$schema");
    object.remove("title");
    let Some(Value::Object(mut own)) = object.remove("$defs") else {
        return;
    };
    // A renamed definition makes those that refer to it other ones, too.
    while let Some(name) = own
        .iter()
        .find(|(name, own)| definitions.get(*name).is_some_and(|known| known != *own))
        .map(|(name, _)| name.clone())
    {
        let Some(definition) = own.remove(&name) else {
            break;
        };
        let is_free = |candidate: &String| {
            !own.contains_key(candidate)
                && definitions
                    .get(candidate)
                    .is_none_or(|known| *known == definition)
        };
        let Some(free) = (2..).map(|number| format!("{name}{number}")).find(is_free) else {
            break;
        };
        own.insert(free.clone(), definition);
        let (from, to) = (format!("#/$defs/{name}"), format!("#/$defs/{free}"));
        redirect(schema, &from, &to);
        own.values_mut()
            .for_each(|definition| redirect(definition, &from, &to));
    }
    definitions.extend(own);
}

/// Lets references to one definition lead to another.
fn redirect(schema: &mut Value, from: &str, to: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(target) if key == "$ref" && target == from => *target = to.to_owned(),
                    other => redirect(other, from, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_one_name_and_two_meanings_are_kept_apart() {
        let mut definitions = Map::new();
        let schema = |word: &str| {
            json!({
                "properties": { "by": { "$ref": "#/$defs/Criterion" }, "all": { "$ref": "#/$defs/All" } },
                "$defs": {
                    "Criterion": { "enum": [word] },
                    "All": { "items": { "$ref": "#/$defs/Criterion" } },
                },
            })
        };
        let (mut first, mut second, mut again) = (schema("a"), schema("b"), schema("a"));
        hoist(&mut first, &mut definitions);
        hoist(&mut second, &mut definitions);
        hoist(&mut again, &mut definitions);
        let meaning = |schema: &Value, option: &str| {
            let target = schema["properties"][option]["$ref"].as_str().unwrap();
            definitions[target.trim_start_matches("#/$defs/")].clone()
        };
        assert_eq!(meaning(&first, "by")["enum"][0], "a");
        assert_eq!(meaning(&second, "by")["enum"][0], "b");
        assert_eq!(meaning(&again, "by")["enum"][0], "a");
        let inner = meaning(&second, "all")["items"]["$ref"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(definitions[inner.trim_start_matches("#/$defs/")]["enum"][0], "b");
    }
}
