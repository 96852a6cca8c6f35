//! The integration tests, in one binary: a module for each area.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    unreachable_pub
)]

mod analysis;
mod architecture;
mod autodiff;
mod axes;
mod check;
mod circles;
mod cli;
mod codes;
mod corpus;
mod engine_corpus;
mod engine_nodes;
mod engines;
mod errors;
mod evaluate;
mod face;
mod fold;
mod format;
mod judging;
mod lint;
mod lowering;
mod malice;
mod mutation;
mod node_tests;
mod nodes;
mod operators;
mod passes;
mod pipeline;
mod rewriting;
mod rules;
mod shapes;
mod shapes_hostile;
mod specials;
mod stream;
mod text;

/// Compares a committed document with what it is made from; `UPDATE=1` renews it.
fn committed(path: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{path} is stale: UPDATE=1 cargo test renews it");
}
