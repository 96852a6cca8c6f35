//! The page on data: examples of every source, and every field from the schema.

use serde_json::Value;

use super::boxes::BoxesSpec;
use super::spec::Spec;
use crate::schema::{allowed, fields};

/// The page, in Markdown: `docs/data.md` and what `secateur explain data` prints.
pub fn page() -> String {
    let schema = Spec::schema();
    let mut text = String::from(include_str!("page.md"));
    text.push_str("\n## Layouts of boxes\n\n| layout | |\n|---|---|\n");
    for (name, layout) in BoxesSpec::layouts().unwrap_or_default() {
        text.push_str(&format!("| `{name}` | {} |\n", layout.about.unwrap_or_default()));
    }
    text.push_str("\n## Fields\n\n| field | value | |\n|---|---|---|\n");
    for field in fields(&schema, &schema) {
        let about = field
            .schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .replace('\n', " ");
        let row = format!(
            "| `{}` | {} | {about} |\n",
            field.place,
            allowed(&schema, field.schema)
        );
        text.push_str(&row);
    }
    text
}
