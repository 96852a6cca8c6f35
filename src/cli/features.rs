//! `features MODEL --data D -o FILE`: what a model computes at one value for each sample, in one npz file.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::global::Global;
use super::progress::Progress;
use super::{Answer, engines, model, options, terminal};
use crate::api::{Error, MODEL};
use crate::data::{Dataset, PreprocessSpec, Shard, Spec};
use crate::features::{Stage, write_features};
use crate::passes::FeatureCut;

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
    #[arg(long, value_name = "PREPROCESS", value_parser = options::preprocess)]
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
    let mut files = global.files();
    files.reads(MODEL, &arguments.model);
    files.reads_data(&arguments.data);
    files.writes("-o", output);
    files.check()?;
    let engine = engines::engine(global)?;
    let loaded = model::read(global, &arguments.model)?;
    let cut = FeatureCut::new(&loaded.model, &arguments.at)?;
    let (mut spec, base) = Spec::from_flag(&arguments.data)?;
    if let Some(preprocess) = &arguments.preprocess {
        spec = spec.with_preprocess(preprocess.clone());
    }
    spec.shard = arguments.shard.or(spec.shard);
    let data = Dataset::open(&spec, &base, &cut.model.graph)?;
    let failed = |error: crate::features::FeatureError| Error::new("features", error.to_string());
    let stage = Stage::compile(&cut.model, &cut.name, &*engine).map_err(failed)?;
    let progress = Progress::new(global);
    let range = data.sample_range();
    let total = range.end - range.start;
    let tell = |done: u64| progress.tell("computing features", done, Some(total));
    global.limit_threads();
    let written = write_features(&stage, &data, global.threads(), output, &tell).map_err(failed)?;
    drop(progress);
    if global.json {
        terminal::json(&Document {
            value: cut.name,
            samples: written.samples,
            features: written.width,
            labels: written.labelled,
            output: output.display().to_string(),
        });
    } else if global.quiet == 0 {
        terminal::answer(&format!(
            "{} features at {} of {} samples{}: {}",
            written.width,
            cut.name,
            written.samples,
            if written.labelled { ", with labels" } else { "" },
            output.display()
        ));
    }
    Ok(Answer::Done)
}
