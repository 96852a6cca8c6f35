//! `ci RESULT...`: stored results held against the last accepted ones.

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::{Answer, terminal};
use crate::api::{Error, Form, hold};
use crate::report::table::Style;

/// Hold stored results against the last accepted ones, whose figures stand in a file of the repository
///
/// The results are what run, verify or evaluate wrote with --report FILE.json or printed under --json; the name of a file says which
/// accepted result it is held against. A result fails that was not accepted itself, in which a figure is worse than the accepted one (larger
/// bytes or MACs, a lower accuracy or mAP, a longer time as a share of the reference's), that no longer has a figure, or that the file
/// does not know. Exit status 0: all hold. 1: one does not.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Stored results
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// The file of the last accepted figures
    #[arg(long, value_name = "FILE", default_value = "secateur.lock")]
    baseline: PathBuf,
    /// Take these results for accepted from now on, if each is accepted itself: writes the file
    #[arg(long)]
    update: bool,
    /// By which share a figure may be worse, for example bytes=0.01 [default: 0, and 0.1 for the latency ratio]
    #[arg(long = "allow", value_name = "FIGURE=SHARE", value_parser = pair)]
    allowed: Vec<(String, f64)>,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut files = global.files();
    for result in &arguments.results {
        files.reads("a stored result", result);
    }
    if arguments.update {
        files.continues("--baseline", &arguments.baseline);
    } else {
        files.reads("the baseline", &arguments.baseline);
    }
    files.check()?;
    let found = hold(
        &arguments.results,
        &arguments.baseline,
        &arguments.allowed,
        arguments.update,
    )?;
    match global.form() {
        Some(Form::Github) => terminal::answer(&found.to_github()),
        Some(Form::Junit) => terminal::answer(&found.to_junit()?),
        Some(_) => terminal::answer(&found.to_text(Style::Markdown)),
        None if global.json => terminal::json(&found),
        None if global.quiet == 0 => terminal::answer(&found.to_text(Style::Terminal)),
        None => {}
    }
    Ok(if found.holds { Answer::Done } else { Answer::No })
}

/// Reads `FIGURE=SHARE`.
fn pair(text: &str) -> Result<(String, f64), String> {
    let wrong = || "write FIGURE=SHARE, for example bytes=0.01".to_owned();
    let (figure, share) = text.rsplit_once('=').ok_or_else(wrong)?;
    let share: f64 = share.parse().map_err(|_| wrong())?;
    if figure.is_empty() || !(0.0..=10.0).contains(&share) {
        return Err(wrong());
    }
    Ok((figure.to_owned(), share))
}
