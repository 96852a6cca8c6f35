//! What options of passes say of a search that runs them more than once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bounds that the result of a step has to keep, as they are written. The pass itself leaves them alone: a pipeline reads them, and
/// searches among what the pass makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Until(pub Value);

impl JsonSchema for Until {
    fn schema_name() -> Cow<'static, str> {
        "Until".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["array", "string", "object"],
            "items": { "type": ["string", "object"] },
            "additionalProperties": { "type": "object" },
            "examples": ["map.drop<=0.005"],
        })
    }
}
