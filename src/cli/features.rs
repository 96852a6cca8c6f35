//! `features MODEL --data D -o FILE`: what a model computes at one value for each sample, in one npz file.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::global::Global;
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{Data, Error, PreprocessSpec, Shard, check_stats, features};

/// Compute features of samples: what a model has at one value
///
/// The file has the array `features`, float32, a row a sample; all axes behind the batch become one. `labels` are there if the data
/// has them.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    model: PathBuf,
    /// The value; `auto` is what the last Gemm or MatMul with constant weights reads
    #[arg(long, value_name = "VALUE", default_value = "auto")]
    at: String,
    /// The data: .npz, a folder of images or ONNX test sets, a description in YAML, as a file or in place
    #[arg(long, value_name = "DATA")]
    data: String,
    /// How pixels become values: a preset such as torchvision or yolo, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = PreprocessSpec::parse)]
    preprocess: Option<PreprocessSpec>,
    /// Use part I of N of the data, I counted from 0
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Where the features go
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Document {
    value: String,
    samples: u64,
    features: u64,
    labels: bool,
    output: String,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let output = &arguments.output;
    let (_, mut data) = Data::flag(&arguments.data)?;
    if let Some(preprocess) = &arguments.preprocess {
        data = data.preprocessed(preprocess.clone());
    }
    if let Some(shard) = arguments.shard {
        data = data.sharded(shard);
    }
    let progress = Progress::new(global);
    let mut options = global.options().progress(progress.teller());
    options.data.push((None, data));
    check_stats(&options, Some(&arguments.model), output)?;
    global.limit_threads();
    let loaded = model::read(global, &arguments.model)?;
    let written = features(&loaded, &arguments.at, output, &options)?;
    drop(progress);
    if global.json {
        terminal::json(&Document {
            value: written.value,
            samples: written.samples,
            features: written.width,
            labels: written.labelled,
            output: output.display().to_string(),
        });
    } else if global.quiet == 0 {
        terminal::answer(&format!(
            "{} features at {} of {} samples{}: {}",
            written.width,
            written.value,
            written.samples,
            if written.labelled { ", with labels" } else { "" },
            output.display()
        ));
    }
    Ok(Answer::Done)
}
