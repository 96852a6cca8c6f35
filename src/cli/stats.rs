//! `stats MODEL --for quantize`: statistics of values over data, in one file; `stats merge` joins the parts of several machines.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use regex::RegexSet;
use serde::Serialize;

use super::failure::Failure;
use super::global::Global;
use super::progress::Progress;
use super::{Answer, engines, model, terminal};
use crate::data::{Dataset, Shard, Spec};
use crate::fold::TractEvaluator;
use crate::format::FormatError;
use crate::ir::Graph;
use crate::passes::{Context, Limits, collect_statistics};
use crate::statistics::Statistics;

/// Collect statistics of a model's values over data, for steps that take `stats`
///
/// Parts of the data may be collected apart (`--shard 0/4`) and merged: minima, maxima and histograms are those of one run.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    merge: Option<Verb>,
    /// The model; `-` is stdin
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// What the statistics are for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Quantize)]
    purpose: Purpose,
    /// The data (.npz, a folder of ONNX test sets, a description in YAML)
    #[arg(long, value_name = "DATA", required = true)]
    data: Option<PathBuf>,
    /// Use part I of N of the data, I counted from 0
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Where the statistics go
    #[arg(short, long, value_name = "FILE", required = true)]
    output: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Join statistics of the same model and data over other samples
    Merge(Merge),
}

#[derive(Clone, Debug, Args)]
struct Merge {
    /// The parts
    #[arg(required = true)]
    parts: Vec<PathBuf>,
    /// Where the whole goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Ranges of activations
    Quantize,
}

#[derive(Serialize)]
struct Document<'a> {
    samples: u64,
    ranges: &'a [(u64, u64)],
    values: usize,
    output: String,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Failure> {
    if let Some(Verb::Merge(merge)) = &arguments.merge {
        return join(global, merge);
    }
    let (Some(path), Some(data), Some(output)) = (&arguments.model, &arguments.data, &arguments.output)
    else {
        return Err(Failure::usage("a model, --data and -o are needed"));
    };
    refuse_existing(global, output)?;
    let engine = engines::engine(global)?;
    let mut model = model::read(global, path)?.model;
    let (mut spec, base) = Spec::from_path(data)?;
    spec.shard = arguments.shard.or(spec.shard);
    let progress = Progress::new(global);
    let tell = |what: &str, done: u64, total: Option<u64>| progress.tell(what, done, total);
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits {
            max_growth: global.max_growth,
            ..Limits::default()
        },
        keep: RegexSet::empty(),
        seed: global.seed,
        base: base.clone(),
        progress: &tell,
        resources: None,
    };
    let open = |graph: &Graph| Dataset::open(&spec, &base, graph);
    let statistics = collect_statistics(&mut model, &context, &open, &*engine, global.threads())
        .map_err(|error| Failure::new("statistics", error.to_string()))?;
    drop(progress);
    finish(global, &statistics, output)
}

fn join(global: &Global, merge: &Merge) -> Result<Answer, Failure> {
    refuse_existing(global, &merge.output)?;
    let mut whole: Option<Statistics> = None;
    for path in &merge.parts {
        let part = Statistics::read(path).map_err(failed)?;
        match &mut whole {
            Some(whole) => whole.merge(&part).map_err(|error| failed(error).in_file(path))?,
            None => whole = Some(part),
        }
    }
    let whole = whole.ok_or_else(|| Failure::usage("there is nothing to merge"))?;
    finish(global, &whole, &merge.output)
}

fn failed(error: crate::statistics::StatisticsFileError) -> Failure {
    Failure::new("statistics", error.to_string())
}

fn refuse_existing(global: &Global, output: &Path) -> Result<(), Failure> {
    if !global.force && output.symlink_metadata().is_ok() {
        return Err(FormatError::OutputExists {
            path: output.to_owned(),
        }
        .into());
    }
    Ok(())
}

fn finish(global: &Global, statistics: &Statistics, output: &Path) -> Result<Answer, Failure> {
    statistics.write(output).map_err(failed)?;
    let samples = statistics.ranges.iter().map(|(start, end)| end - start).sum();
    if global.json {
        terminal::json(&Document {
            samples,
            ranges: &statistics.ranges,
            values: statistics.values.len(),
            output: output.display().to_string(),
        });
    } else {
        terminal::answer(&format!(
            "{} values over {samples} samples: {}",
            statistics.values.len(),
            output.display()
        ));
    }
    Ok(Answer::Done)
}
