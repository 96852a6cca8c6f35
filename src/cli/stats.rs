//! `stats MODEL --for quantize|gradients|gram`: statistics of values, gradients or layer inputs over data, in one file; `stats merge` joins the parts of several machines.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::global::Global;
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{
    Data, Error, GramOptions, LossKind, PreprocessSpec, Purpose, Shard, Stats, check_parts, check_stats,
    stats,
};
use crate::report::sanitise;

/// Collect statistics of a model's values over data, for steps that take `stats`
///
/// Parts of the data may be collected apart (`--shard 0/4`) and merged: to the bytes of one run, in any order.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    merge: Option<Verb>,
    /// The model; `-` is stdin
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// What the statistics are for
    #[arg(long = "for", value_enum, default_value_t = PurposeName::Quantize)]
    purpose: PurposeName,
    /// The loss that gradients are of
    #[arg(long, value_enum, default_value_t = LossName::CrossEntropy)]
    loss: LossName,
    /// The output that the loss sits on [default: the first]
    #[arg(long, value_name = "NAME")]
    loss_output: Option<String>,
    /// The data: .npz, a folder of images or ONNX test sets, a description in YAML, as a file or in place
    #[arg(long, value_name = "DATA", required = true)]
    data: Option<String>,
    /// How pixels become values: a preset such as torchvision or yolo, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = PreprocessSpec::parse)]
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
enum PurposeName {
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

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    if let Some(Verb::Merge(merge)) = &arguments.merge {
        return join(global, merge);
    }
    let (Some(path), Some(data), Some(output)) = (&arguments.model, &arguments.data, &arguments.output)
    else {
        return Err(Error::usage("a model, --data and -o are needed"));
    };
    let (_, mut data) = Data::flag(data)?;
    if let Some(preprocess) = &arguments.preprocess {
        data = data.preprocessed(preprocess.clone());
    }
    if let Some(shard) = arguments.shard {
        data = data.sharded(shard);
    }
    let progress = Progress::new(global);
    let mut options = global.options().progress(progress.teller());
    options.data.push((None, data));
    check_stats(&options, Some(path), output)?;
    global.limit_threads();
    let model = model::read(global, path)?;
    let purpose = match arguments.purpose {
        PurposeName::Quantize => Purpose::Quantize,
        PurposeName::Gram => Purpose::Gram {
            rows_per_sample: arguments.rows_per_sample,
        },
        PurposeName::Gradients => Purpose::Gradients {
            loss: match arguments.loss {
                LossName::CrossEntropy => LossKind::CrossEntropy,
                LossName::MeanSquaredError => LossKind::MeanSquaredError,
                LossName::BinaryCrossEntropy => LossKind::BinaryCrossEntropy,
            },
            output: arguments.loss_output.clone(),
        },
    };
    let found = stats(&model, &purpose, &options)?;
    drop(progress);
    if global.quiet == 0 {
        found
            .notes
            .iter()
            .for_each(|note| terminal::note(&format!("left out: {}", sanitise(note))));
    }
    found.write(output)?;
    finish(global, &found, output);
    Ok(Answer::Done)
}

fn join(global: &Global, merge: &Merge) -> Result<Answer, Error> {
    check_parts(global.files(), &merge.parts, Some(("-o", &merge.output)))?;
    let whole = Stats::merge(&merge.parts)?;
    whole.write(&merge.output)?;
    finish(global, &whole, &merge.output);
    Ok(Answer::Done)
}

pub(super) fn finish(global: &Global, found: &Stats, output: &Path) {
    let (ranges, values) = (found.ranges(), found.values());
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
}
