//! `report RESULT...`: stored results side by side, as a page.

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::{Answer, terminal};
use crate::api::{Error, compare_files};
use crate::report::sanitise;

/// Put stored results side by side on one page: figures, what got worse, what costs and quality buy each other
///
/// The results are what run, verify or evaluate wrote with --report FILE.json or printed under --json, also on other days and machines.
/// The first one is what the others are measured by.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Stored results, the one to compare with first
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// Write the page to this file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut files = global.files();
    for result in &arguments.results {
        files.reads("a stored result", result);
    }
    files.writes("--output", &arguments.output);
    files.check()?;
    compare_files(&arguments.results, &arguments.output, global.force)?;
    if global.json {
        terminal::json(&serde_json::json!({ "output": arguments.output }));
    } else if global.quiet == 0 {
        terminal::answer(&format!(
            "written: {}",
            sanitise(&arguments.output.display().to_string())
        ));
    }
    Ok(Answer::Done)
}
