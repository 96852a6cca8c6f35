//! What a model computes at one value for each sample.

use std::path::Path;

use super::error::Error;
use super::model::Model;
use super::options::Options;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::features::{Stage, write_features};
use crate::passes::FeatureCut;

/// What [`features()`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// The value that they are of.
    pub value: String,
    /// Samples: rows of the array `features`.
    pub samples: u64,
    /// Numbers of each.
    pub width: u64,
    /// Whether the file has `labels`.
    pub labelled: bool,
}

/// Writes what a model computes at one value for each sample of the `evaluation` data to an npz file: the array `features`, float32,
/// `[samples, width]`, all axes behind the batch as one; `labels`, if the data have them. `at` is the value's name, or `auto` for what
/// the last Gemm or MatMul with constant weights reads.
///
/// # Errors
///
/// `data-missing`, a value that is not there, data that do not fit, an engine that fails, values that are NaN or infinite
/// (`features`), a token that was set.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use secateur::{Data, Model, Options, features};
/// let model = Model::open("fixtures/digits_cnn.onnx")?;
/// let data = Data::npz("fixtures/data/digits_test.npz")?.samples(20);
/// let options = Options::new().data("evaluation", data);
/// let found = features(&model, "auto", folder.path().join("features.npz"), &options)?;
/// assert_eq!(found.samples, 20);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn features(
    model: &Model,
    at: &str,
    output: impl AsRef<Path>,
    options: &Options,
) -> Result<Features, Error> {
    let (engine, output) = (options.make_engine()?, output.as_ref());
    let cut = FeatureCut::new(&model.model, at)?;
    let found = options.on_threads(|| write(&cut, output, &*engine, options))?;
    options.admit()?;
    found
}

fn write(cut: &FeatureCut, output: &Path, engine: &dyn Engine, options: &Options) -> Result<Features, Error> {
    let data = options
        .data_of(&["evaluation", "calibration", "training"])?
        .ok_or_else(|| {
            Error::new("data-missing", "there are no evaluation data")
                .with_hint("give them as the role `evaluation`: --data DATA")
        })?;
    let (spec, base) = data.spec()?;
    let data = Dataset::open(&spec, &base, &cut.model.graph)?;
    let stage = Stage::compile(&cut.model, &cut.name, engine)?;
    let range = data.sample_range();
    let total = range.end - range.start;
    let tell = |done: u64| options.tell("computing features", done, Some(total));
    let written = write_features(&stage, &data, options.threads(), output, &tell)?;
    Ok(Features {
        value: cut.name.clone(),
        samples: written.samples,
        width: written.width,
        labelled: written.labelled,
    })
}
