//! `stats MODEL --for quantize|gradients|gram`: statistics of values, gradients or layer inputs over data, in one file; `stats merge` joins the parts of several machines.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use regex::RegexSet;
use serde::Serialize;

use super::failure::Failure;
use super::global::Global;
use super::outputs::{MODEL, Outputs};
use super::progress::Progress;
use super::{Answer, engines, model, options, terminal};
use crate::data::{Dataset, PreprocessSpec, Shard, Spec};
use crate::files::read_bytes;
use crate::fold::TractEvaluator;
use crate::ir::{Graph, Model};
use crate::passes::{
    Context, Limits, LossKind, collect_gram_statistics, collect_statistics, gradient_statistics,
};
use crate::report::sanitise;
use crate::statistics::gram::GramOptions;
use crate::statistics::{GradientStatistics, Statistics, StatisticsError};

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
    /// The loss that gradients are of
    #[arg(long, value_enum, default_value_t = LossName::CrossEntropy)]
    loss: LossName,
    /// The output that the loss sits on [default: the first]
    #[arg(long, value_name = "NAME")]
    loss_output: Option<String>,
    /// The data: .npz, a folder of images or ONNX test sets, a description in YAML, as a file or in place
    #[arg(long, value_name = "DATA", required = true)]
    data: Option<String>,
    /// How pixels become values: torchvision, efficientnet-lite, mnist, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = options::preprocess)]
    preprocess: Option<PreprocessSpec>,
    /// Use part I of N of the data, I counted from 0
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Rows of a layer that one sample gives at most, for `gram`
    #[arg(long, value_name = "N", default_value_t = GramOptions::default().rows_per_sample)]
    rows_per_sample: usize,
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
    /// Gradients of a loss with respect to every parameter, sample by sample: for `prune-weights` and others that take labels
    Gradients,
    /// Second moments of what layers read: for steps that fit weights to data
    Gram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LossName {
    /// Of class scores against class labels
    CrossEntropy,
    /// Mean of the squared differences from float targets
    MeanSquaredError,
    /// Of independent probabilities against float targets
    BinaryCrossEntropy,
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
    let mut files = Outputs::new(global);
    files.reads(MODEL, path);
    files.reads_data(data);
    files.writes("-o", output);
    files.check()?;
    let engine = engines::engine(global)?;
    let mut model = model::read(global, path)?.model;
    let (mut spec, base) = Spec::from_flag(data)?;
    if let Some(preprocess) = &arguments.preprocess {
        spec = spec.with_preprocess(preprocess.clone());
    }
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
    if arguments.purpose == Purpose::Gradients {
        let loss = match arguments.loss {
            LossName::CrossEntropy => LossKind::CrossEntropy,
            LossName::MeanSquaredError => LossKind::MeanSquaredError,
            LossName::BinaryCrossEntropy => LossKind::BinaryCrossEntropy,
        };
        let objective = loss.objective(arguments.loss_output.as_deref());
        let open = |model: &Model| open(&model.graph);
        let statistics = gradient_statistics(&model, &objective, open, &*engine, global.threads(), &tell)
            .map_err(|error| match error {
                StatisticsError::Autodiff(error) => Failure::from(error).in_file(path),
                other => Failure::new("statistics", other.to_string()),
            })?;
        drop(progress);
        statistics.write(output).map_err(failed)?;
        return Ok(finish(
            global,
            &statistics.ranges,
            statistics.values.len(),
            output,
        ));
    }
    let threads = global.threads();
    let mut left_out = Vec::new();
    let statistics = if arguments.purpose == Purpose::Gram {
        let options = GramOptions {
            rows_per_sample: arguments.rows_per_sample.max(1),
        };
        collect_gram_statistics(&model, &context, options, &open, &*engine, threads).map(
            |(statistics, report)| {
                left_out = report.notes;
                statistics
            },
        )
    } else {
        collect_statistics(&mut model, &context, &open, &*engine, threads)
    };
    let statistics = statistics.map_err(|error| Failure::new("statistics", error.to_string()))?;
    drop(progress);
    if global.quiet == 0 {
        left_out
            .iter()
            .for_each(|note| terminal::note(&format!("left out: {}", sanitise(note))));
    }
    statistics.write(output).map_err(failed)?;
    Ok(finish(
        global,
        &statistics.ranges,
        statistics.values.len().max(statistics.grams.by_key.len()),
        output,
    ))
}

fn join(global: &Global, merge: &Merge) -> Result<Answer, Failure> {
    let mut files = Outputs::new(global);
    merge.parts.iter().for_each(|part| files.reads("a part", part));
    files.writes("-o", &merge.output);
    files.check()?;
    let first = merge.parts.first().and_then(|path| read_bytes(path).ok());
    if first.is_some_and(|bytes| GradientStatistics::recognises(&bytes)) {
        return join_gradients(global, merge);
    }
    let mut whole: Option<Statistics> = None;
    for path in &merge.parts {
        let part = Statistics::read(path).map_err(failed)?;
        match &mut whole {
            Some(whole) => whole.merge(&part).map_err(|error| failed(error).in_file(path))?,
            None => whole = Some(part),
        }
    }
    let whole = whole.ok_or_else(|| Failure::usage("there is nothing to merge"))?;
    whole.write(&merge.output).map_err(failed)?;
    let values = whole.values.len().max(whole.grams.by_key.len());
    Ok(finish(global, &whole.ranges, values, &merge.output))
}

fn join_gradients(global: &Global, merge: &Merge) -> Result<Answer, Failure> {
    let mut whole: Option<GradientStatistics> = None;
    for path in &merge.parts {
        let part = GradientStatistics::read(path).map_err(failed)?;
        match &mut whole {
            Some(whole) => whole.merge(&part).map_err(|error| failed(error).in_file(path))?,
            None => whole = Some(part),
        }
    }
    let whole = whole.ok_or_else(|| Failure::usage("there is nothing to merge"))?;
    whole.write(&merge.output).map_err(failed)?;
    Ok(finish(global, &whole.ranges, whole.values.len(), &merge.output))
}

fn failed(error: crate::statistics::StatisticsFileError) -> Failure {
    Failure::new("statistics", error.to_string())
}

fn finish(global: &Global, ranges: &[(u64, u64)], values: usize, output: &Path) -> Answer {
    let samples = ranges.iter().map(|(start, end)| end - start).sum();
    if global.json {
        terminal::json(&Document {
            samples,
            ranges,
            values,
            output: output.display().to_string(),
        });
    } else if global.quiet == 0 {
        terminal::answer(&format!(
            "{values} values over {samples} samples: {}",
            output.display()
        ));
    }
    Answer::Done
}
