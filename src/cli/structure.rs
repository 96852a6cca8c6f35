//! `search-structure MODEL`: blocks, widths and types of a model, and which structures no other beats.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::options::{self, Comparing};
use super::sweep::Running;
use super::{Answer, terminal};
use crate::api::{Error, Options, StructureSearch};

/// Search smaller structures of a model: fewer residual blocks, narrower layers, integers
///
/// Every structure is made by the preset `prune-recover`, trained a little on the features of the model without labels, and measured on the
/// evaluation data; the better third is trained longer, and the better third of that to the end. The folder gets what a sweep leaves:
/// a record of each, and for the structures that no other beats the model and the pipeline that makes it again. Exit status 1: no
/// structure was accepted. `--write` keeps the search as a sweep for other machines.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder of the results, which may be that of an earlier run
    #[arg(short, long, value_name = "FOLDER", required_unless_present = "write")]
    output: Option<PathBuf>,
    /// Data for a role: `calibration` without labels to learn from, `evaluation` to judge by (`labels: reference` takes the model's answers)
    #[arg(long, value_name = "[ROLE=]DATA")]
    data: Vec<String>,
    /// Shares of the multiply-accumulates that may remain
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_values_t = StructureSearch::default().macs)]
    macs: Vec<f64>,
    /// Numbers of residual blocks that go [default: none, an eighth and a quarter]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    blocks: Vec<u32>,
    /// Types that the result computes in: float, int8
    #[arg(long, value_name = "TYPE", value_delimiter = ',', default_values_t = StructureSearch::default().precision)]
    precision: Vec<String>,
    /// Epochs of the structures that come through
    #[arg(long, default_value_t = StructureSearch::default().epochs)]
    epochs: u32,
    /// Write the search as a sweep and run nothing
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    write: Option<PathBuf>,
    /// Write a report: a page with the front (.html), JSON or Markdown by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    #[command(flatten)]
    comparing: Comparing,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let search = StructureSearch {
        macs: arguments.macs.clone(),
        blocks: Some(arguments.blocks.clone()).filter(|blocks| !blocks.is_empty()),
        precision: arguments.precision.clone(),
        epochs: arguments.epochs,
    };
    let mut files = global.files();
    files.reads("the model", &arguments.model);
    if let Some(path) = &arguments.write {
        files.writes("--write", path);
        files.check()?;
        search.write(&arguments.model, path, global.options().force)?;
        if global.json {
            terminal::json(&json!({ "output": path }));
        } else if global.quiet == 0 {
            terminal::answer(&format!("written: {}", path.display()));
        }
        return Ok(Answer::Done);
    }
    let options = || -> Result<Options, Error> {
        let mut options = arguments.comparing.apply(global.options());
        options.reports.clone_from(&arguments.report);
        options.data.extend(options::data_of(&arguments.data)?);
        Ok(options)
    };
    let running = Running {
        output: arguments.output.as_deref(),
        reports: &arguments.report,
        keep_models: false,
        retry_failed: false,
        dry_run: false,
    };
    running.execute(global, files, &options, &|| search.sweep(&arguments.model))
}
