//! Documents that are made from the program and committed. `UPDATE=1 cargo test` renews them.

use super::super::committed;

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    committed("docs/cli.md", &secateur::cli::reference());
}

#[test]
fn the_page_on_data_is_up_to_date() {
    committed("docs/data.md", &secateur::data::page());
}

#[test]
fn the_schema_of_pipelines_is_up_to_date() {
    let schema = serde_json::to_string_pretty(&secateur::pipeline::pipeline_schema()).unwrap() + "\n";
    committed("docs/pipeline.schema.json", &schema);
}
