//! `diff A B`: what differs between two models, without running them.

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::{Answer, model, terminal};
use crate::api::{Error, difference, write_difference};
use crate::report::table;

/// Show what differs between two models: interface, operators, nodes, constants
///
/// Compares by names and runs nothing; `verify` compares what models compute. Exit status 0: no difference. 1: some.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The first model; `-` is stdin
    a: PathBuf,
    /// The second model
    b: PathBuf,
    /// Write a report: a page with both graphs (.html) or JSON by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut files = global.files();
    files.reads("the first model", &arguments.a);
    files.reads("the second model", &arguments.b);
    for report in &arguments.report {
        files.writes("--report", report);
    }
    files.check()?;
    let a = model::read_to_show(global, &arguments.a)?;
    let b = model::read_to_show(global, &arguments.b)?;
    let found = difference(&a, &b);
    let mut options = global.options();
    options.reports.clone_from(&arguments.report);
    write_difference(&a, &b, &options)?;
    if global.json {
        terminal::json(&found);
    } else {
        terminal::answer(&table::difference(&found));
    }
    Ok(if found.same { Answer::Done } else { Answer::No })
}
