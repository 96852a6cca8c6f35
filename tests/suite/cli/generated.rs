//! Documents that are made from the program and committed. `UPDATE=1 cargo test` renews them.

use std::path::Path;

fn compare(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{path} is stale: UPDATE=1 cargo test renews it"
    );
}

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    compare("docs/cli.md", &secateur::cli::reference());
}

#[test]
fn the_page_on_data_is_up_to_date() {
    compare("docs/data.md", &secateur::data::page());
}

#[test]
fn the_schema_of_pipelines_is_up_to_date() {
    let schema = serde_json::to_string_pretty(&secateur::pipeline::pipeline_schema()).unwrap() + "\n";
    compare("docs/pipeline.schema.json", &schema);
}
