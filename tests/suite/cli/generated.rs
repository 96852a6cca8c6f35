//! Documents that are made from the program and committed. `UPDATE=1 cargo test` renews them.

use super::super::committed;

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    let pages = secateur::cli::reference();
    for (path, text) in &pages {
        committed(path, text);
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = format!("docs/cli/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(
            pages.iter().any(|(path, _)| *path == name),
            "{name} is the page of no verb"
        );
    }
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
