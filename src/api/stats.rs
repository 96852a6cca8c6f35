//! Statistics of a model's values over data, for steps that take `stats`.

use std::path::Path;

use regex::RegexSet;

use super::error::Error;
use super::files::MODEL;
use super::merge::join;
use super::model::Model;
use super::options::Options;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::files::read_bytes;
use crate::fold::TractEvaluator;
use crate::ir::{self, Graph};
use crate::passes::{
    Context, Limits, LossKind, collect_gram_statistics, collect_statistics, gradient_statistics,
};
use crate::statistics::gram::GramOptions;
use crate::statistics::{GradientStatistics, Statistics, StatisticsError};

/// What statistics are for.
///
/// # Examples
///
/// ```
/// use secateur::{LossKind, Purpose};
/// let fisher = Purpose::Gradients { loss: LossKind::CrossEntropy, output: None };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// Ranges of activations, for quantization: of the `calibration` data.
    Quantize,
    /// Gradients of a loss with respect to every parameter, sample by sample: of the `training` data, which need labels.
    Gradients {
        /// The loss.
        loss: LossKind,
        /// The output that it sits on; the first if nothing is said.
        output: Option<String>,
    },
    /// Second moments of what layers read, for steps that fit weights to the `calibration` data.
    Gram {
        /// Rows of a layer that one sample gives at most.
        rows_per_sample: usize,
    },
}

/// Statistics, to be written for the option `stats` of a step.
#[derive(Debug)]
pub struct Stats {
    kind: Kind,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Values(Statistics),
    Gradients(GradientStatistics),
}

impl Stats {
    /// Reads a file that [`Stats::write`] wrote.
    ///
    /// # Errors
    ///
    /// `statistics` for what is no such file.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Model, Options, Purpose, Stats, stats};
    /// # let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("ranges.safetensors");
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(4);
    /// stats(&model, &Purpose::Quantize, &Options::new().data("calibration", data))?.write(&path)?;
    /// assert_eq!(Stats::open(&path)?.ranges(), [(0, 4)]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let gradients = read_bytes(path).is_ok_and(|bytes| GradientStatistics::recognises(&bytes));
        let kind = match gradients {
            true => Kind::Gradients(GradientStatistics::read(path)?),
            false => Kind::Values(Statistics::read(path)?),
        };
        Ok(Self {
            kind,
            notes: Vec::new(),
        })
    }

    /// Statistics of the same model and data over other samples, as one: the same as of one run, to the byte.
    ///
    /// # Errors
    ///
    /// `statistics` where a part is of another model, of other data, of another kind, or of samples that are counted already.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Model, Options, Purpose, Stats, stats};
    /// # let folder = tempfile::tempdir().unwrap();
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// for part in 0..2 {
    ///     let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(8).shard(part, 2)?;
    ///     let found = stats(&model, &Purpose::Quantize, &Options::new().data("calibration", data))?;
    ///     found.write(folder.path().join(format!("{part}.safetensors")))?;
    /// }
    /// let parts = ["0", "1"].map(|part| folder.path().join(format!("{part}.safetensors")));
    /// assert_eq!(Stats::merge(&parts)?.ranges(), [(0, 8)]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn merge(parts: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let first = parts.first().and_then(|path| read_bytes(path.as_ref()).ok());
        let kind = match first.is_some_and(|bytes| GradientStatistics::recognises(&bytes)) {
            true => Kind::Gradients(join(
                parts,
                |path| Ok(GradientStatistics::read(path)?),
                |whole, part| Ok(whole.merge(part)?),
            )?),
            false => Kind::Values(join(
                parts,
                |path| Ok(Statistics::read(path)?),
                |whole, part| Ok(whole.merge(part)?),
            )?),
        };
        Ok(Self {
            kind,
            notes: Vec::new(),
        })
    }

    /// The samples that they are of, as ranges `[start, end)` of the data set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Model, Options, Purpose, stats};
    /// let model = Model::open("fixtures/digits_cnn.onnx")?;
    /// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(16);
    /// let found = stats(&model, &Purpose::Quantize, &Options::new().data("calibration", data))?;
    /// assert_eq!(found.ranges(), [(0, 16)]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn ranges(&self) -> &[(u64, u64)] {
        match &self.kind {
            Kind::Values(statistics) => &statistics.ranges,
            Kind::Gradients(statistics) => &statistics.ranges,
        }
    }

    /// How many values they are of.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Model, Options, Purpose, stats};
    /// let model = Model::open("fixtures/digits_cnn.onnx")?;
    /// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(4);
    /// let gram = Purpose::Gram { rows_per_sample: 64 };
    /// assert!(stats(&model, &gram, &Options::new().data("calibration", data))?.values() > 0);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn values(&self) -> usize {
        match &self.kind {
            Kind::Values(statistics) => statistics.values.len().max(statistics.grams.by_key.len()),
            Kind::Gradients(statistics) => statistics.values.len(),
        }
    }

    /// Writes them to a file, in the place of one that exists.
    ///
    /// # Errors
    ///
    /// `statistics` where it cannot be written.
    ///
    /// # Examples
    ///
    /// ```
    /// # use secateur::{Data, Model, Options, Purpose, stats};
    /// # let folder = tempfile::tempdir().unwrap();
    /// let model = Model::open("fixtures/digits_mlp.onnx")?;
    /// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(4);
    /// let found = stats(&model, &Purpose::Quantize, &Options::new().data("calibration", data))?;
    /// found.write(folder.path().join("ranges.safetensors"))?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        match &self.kind {
            Kind::Values(statistics) => statistics.write(path.as_ref())?,
            Kind::Gradients(statistics) => statistics.write(path.as_ref())?,
        }
        Ok(())
    }
}

/// Refuses files that must not be read or written.
pub(crate) fn check_stats(options: &Options, model: Option<&Path>, output: &Path) -> Result<(), Error> {
    let mut files = options.files();
    if let Some(model) = model {
        files.reads(MODEL, model);
    }
    for (_, data) in &options.data {
        data.reads(&mut files);
    }
    files.writes("-o", output);
    files.check()
}

/// Collects statistics of a model's values over data, streamed: memory does not grow with the samples.
///
/// # Errors
///
/// `data-missing`, data that do not fit, an engine that fails, values that are NaN or infinite (`statistics`), a token that was set.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Model, Options, Purpose, stats};
/// let model = Model::open("fixtures/digits_cnn.onnx")?;
/// let data = Data::npz("fixtures/data/digits_calib.npz")?.samples(16);
/// let ranges = stats(&model, &Purpose::Quantize, &Options::new().data("calibration", data))?;
/// assert!(ranges.values() > 5);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn stats(model: &Model, purpose: &Purpose, options: &Options) -> Result<Stats, Error> {
    let engine = options.make_engine()?;
    let found = options.on_threads(|| collect(model, purpose, &*engine, options))?;
    options.admit()?;
    found
}

fn collect(model: &Model, purpose: &Purpose, engine: &dyn Engine, options: &Options) -> Result<Stats, Error> {
    let role = match purpose {
        Purpose::Gradients { .. } => "training",
        Purpose::Quantize | Purpose::Gram { .. } => "calibration",
    };
    let data = options.data_of(&[role])?.ok_or_else(|| {
        Error::new("data-missing", format!("there are no {role} data"))
            .with_hint(format!("give them as the role `{role}`: --data DATA"))
    })?;
    let (spec, base) = data.spec()?;
    let open = |graph: &Graph| Ok(Dataset::open(&spec, &base, graph)?.shared(options.ledger.clone()));
    let tell = |what: &str, done: u64, total: Option<u64>| options.tell(what, done, total);
    let threads = options.threads();
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits {
            max_growth: options.max_growth,
            ..Limits::default()
        },
        keep: RegexSet::empty(),
        seed: options.seed,
        base: base.clone(),
        progress: &tell,
        resources: None,
    };
    let mut notes = Vec::new();
    let kind = match purpose {
        Purpose::Gradients { loss, output } => {
            let objective = loss.objective(output.as_deref());
            let open = |model: &ir::Model| open(&model.graph).map_err(StatisticsError::Data);
            let found = gradient_statistics(&model.model, &objective, open, engine, threads, &tell);
            Kind::Gradients(found.map_err(|error| match error {
                StatisticsError::Autodiff(_) => Error::from(error).in_source(model.origin.path.as_deref()),
                other => other.into(),
            })?)
        }
        Purpose::Gram { rows_per_sample } => {
            let how = GramOptions {
                rows_per_sample: (*rows_per_sample).max(1),
            };
            let found = collect_gram_statistics(&model.model, &context, how, &open, engine, threads);
            let (statistics, report) = found?;
            notes = report.notes;
            Kind::Values(statistics)
        }
        Purpose::Quantize => {
            let mut prepared = model.model.clone();
            let found = collect_statistics(&mut prepared, &context, &open, engine, threads);
            Kind::Values(found?)
        }
    };
    Ok(Stats { kind, notes })
}
