//! What several processes make together, as a file says it.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::data::Data;
use super::super::digests::Digests;
use super::super::error::Error;
use super::super::evaluate::{Evaluation, evaluate};
use super::super::model::Model;
use super::super::options::{Options, Runtime};
use super::super::pipeline::Pipeline;
use super::super::run::Outcome;
use super::super::save::{Destination, write_file};
use super::super::stats::{Purpose, Stats, stats};
use crate::files::read_text;
use crate::passes::LossKind;
use crate::pipeline::{Described, GateError, describe_data};
use crate::schema::{self, Place};
use crate::statistics::gram::GramOptions;
use crate::yaml::Document;

/// Parts that data are cut into if nobody says how many.
const PARTS: usize = 8;

/// What several processes make together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Job {
    /// What is made: `stats` collects statistics, `evaluate` measures a model, `run` runs a pipeline.
    pub(super) job: Kind,
    /// The model. Paths start from the folder of this file.
    pub(super) model: PathBuf,
    /// For `stats`: what the statistics are for.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    purpose: Option<PurposeKind>,
    /// For statistics of gradients: the loss that they are of; cross-entropy if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<LossKind>,
    /// For statistics of gradients: the output that the loss sits on; the first if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_output: Option<String>,
    /// For statistics of kind `gram`: rows of a layer that one sample gives at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows_per_sample: Option<usize>,
    /// For `evaluate`: the model that it is compared with on the same samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    against: Option<PathBuf>,
    /// For `run`: a preset, a file, or a pipeline in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("oneOf" = [{"type": "string"}, {"type": "object"}]))]
    pipeline: Option<Value>,
    /// For `run`: variables of the pipeline, and options of steps as `STEP.OPTION`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    vars: IndexMap<String, Value>,
    /// Data by role: a path, or a description.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(schema_with = "data_schema")]
    data: IndexMap<String, Value>,
    /// For `evaluate` and `run`: what must hold, as on the command line: `accuracy.drop=0.01`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gates: Vec<String>,
    /// For `evaluate`: timed runs of the model, by the process that joins the parts; 20 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_runs: Option<usize>,
    /// What runs models: `tract`, which is built in, or `ort`.
    #[serde(default)]
    engine: EngineKind,
    /// The seed of everything random.
    #[serde(default)]
    seed: u64,
    /// Parts that data are cut into; 8 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    parts: Option<usize>,
    /// Where the result goes: a file of statistics, the figures as JSON, or the model.
    pub(super) output: PathBuf,
    /// For `evaluate`: where the counts behind the figures go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<PathBuf>,
    /// For `evaluate` and `run`: reports, by the ending of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    report: Vec<PathBuf>,
}

/// Data by role, as a pipeline has them.
fn data_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "calibration": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "evaluation": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "training": {"oneOf": [{"type": "string"}, {"type": "object"}]},
        },
        "additionalProperties": false,
    })
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Statistics.
    Stats,
    /// Figures.
    Evaluate,
    /// A model.
    Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum PurposeKind {
    /// Ranges of activations.
    Quantize,
    /// Second moments of what layers read.
    Gram,
    /// Gradients of a loss with respect to every parameter.
    Gradients,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum EngineKind {
    #[default]
    Tract,
    Ort,
}

/// What was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum Made {
    /// Statistics, in the file of the job's `output`.
    Stats(Box<Stats>),
    /// Figures, as JSON in the file of the job's `output`.
    Evaluation(Box<Evaluation>),
    /// What became of a pipeline: an accepted model is in the file of the job's `output`.
    Model(Box<Outcome>),
}

impl Made {
    /// Whether what was made is good enough: see [`Outcome::accepted`] and [`Evaluation::accepted`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use secateur::{Merged, Options, Plan};
    /// match Plan::open("plan")?.merge(&Options::new())? {
    ///     Merged::Made(made) => assert!(made.accepted()),
    ///     Merged::Waiting { missing, .. } => eprintln!("{} tasks are to be done", missing.len()),
    ///     _ => {}
    /// }
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn accepted(&self) -> bool {
        match self {
            Self::Stats(_) => true,
            Self::Evaluation(found) => found.accepted(),
            Self::Model(outcome) => outcome.accepted(),
        }
    }
}

impl Job {
    /// The JSON Schema of a job.
    pub(in crate::api) fn schema() -> Value {
        schema_for!(Self).to_value()
    }

    /// Reads a job from a file.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = read_text(path).map_err(|error| {
            Error::new("read-failed", format!("{}: {error}", path.display())).in_file(path)
        })?;
        let document = Document {
            file: path.display().to_string(),
            text: text.into(),
        };
        let located = document.parse()?;
        let value = located.to_json();
        let root = Self::schema();
        let at = |path: &[Place], is_key: bool, message: String, hint: Option<String>| {
            let spot = located.spot_of(path, is_key).unwrap_or(located.spot);
            Error::from(document.error("plan", spot, message, hint))
        };
        if !value.is_object() {
            return Err(at(
                &[],
                false,
                "a job is a map with `job`, `model` and `output`".to_owned(),
                None,
            ));
        }
        if let Some(fault) = schema::check(&root, &root, &value) {
            return Err(at(&fault.path, fault.is_key, fault.to_string(), fault.hint));
        }
        let job: Self =
            serde_json::from_value(value).map_err(|error| at(&[], false, error.to_string(), None))?;
        match job.fault() {
            Some((key, message)) => Err(at(&[Place::Key(key.to_owned())], true, message, None)),
            None => Ok(job),
        }
    }

    /// The key that does not go with the kind of the job, or that is missing, and why.
    fn fault(&self) -> Option<(&'static str, String)> {
        use Kind::{Evaluate, Run, Stats};
        let own = |kinds: &[Kind]| kinds.contains(&self.job);
        let given = [
            ("for", self.purpose.is_some(), own(&[Stats])),
            ("loss", self.loss.is_some(), own(&[Stats])),
            ("loss-output", self.loss_output.is_some(), own(&[Stats])),
            ("rows-per-sample", self.rows_per_sample.is_some(), own(&[Stats])),
            ("against", self.against.is_some(), own(&[Evaluate])),
            ("latency-runs", self.latency_runs.is_some(), own(&[Evaluate])),
            ("state", self.state.is_some(), own(&[Evaluate])),
            ("pipeline", self.pipeline.is_some(), own(&[Run])),
            ("vars", !self.vars.is_empty(), own(&[Run])),
            ("gates", !self.gates.is_empty(), own(&[Evaluate, Run])),
            ("report", !self.report.is_empty(), own(&[Evaluate, Run])),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, own)| *given && !own) {
            return Some((key, format!("`{key}` means nothing to a job of this kind")));
        }
        if self.job == Run && self.pipeline.is_none() {
            return Some(("job", "a job of kind `run` needs a `pipeline`".to_owned()));
        }
        None
    }

    /// Into how many parts data are cut.
    pub(super) fn parts(&self) -> usize {
        self.parts.unwrap_or(PARTS)
    }

    /// Everything that is written, with names for messages.
    fn outputs(&self) -> Vec<&PathBuf> {
        std::iter::once(&self.output)
            .chain(&self.state)
            .chain(&self.report)
            .collect()
    }

    /// The job with `options` for how it is done: what it says of itself comes first.
    fn options(&self, base: &Path, options: &Options) -> Result<Options, Error> {
        let mut own = Options {
            jobs: options.jobs,
            progress: options.progress.clone(),
            note: options.note.clone(),
            cancel: options.cancel.clone(),
            force: options.force,
            ledger: options.ledger.clone(),
            ..Options::new()
        };
        own.engine = match self.engine {
            EngineKind::Tract => Runtime::Tract,
            EngineKind::Ort => Runtime::OnnxRuntime,
        };
        own.seed = self.seed;
        for (role, described) in &self.data {
            let (spec, base) = describe_data(&Described::Written(described.clone()), base)?;
            own.data.push((Some(role.clone()), Data::described(spec, base)));
        }
        own.evaluation.gates = self
            .gates
            .iter()
            .map(|gate| {
                gate.parse()
                    .map_err(|error: GateError| Error::usage(&format!("gates: {gate}: {error}")))
            })
            .collect::<Result<_, _>>()?;
        if let Some(runs) = self.latency_runs {
            own.evaluation.latency_runs = runs;
        }
        Ok(own)
    }

    /// Does the whole job as one process would, with the ledger of `options`. `writes`: the results are written.
    pub(super) fn run(&self, base: &Path, options: &Options, writes: bool) -> Result<Made, Error> {
        let mut own = self.options(base, options)?;
        let path = base.join(&self.model);
        let model = Model::open(&path)?;
        if writes {
            self.check_outputs(base, &path, &own)?;
            own.reports = self.report.iter().map(|report| base.join(report)).collect();
        } else {
            own.evaluation.latency_runs = 0;
        }
        let output = base.join(&self.output);
        match self.job {
            Kind::Stats => {
                let found = stats(&model, &self.purpose(), &own)?;
                if writes {
                    found.write(&output)?;
                }
                Ok(Made::Stats(Box::new(found)))
            }
            Kind::Evaluate => {
                if let Some(against) = &self.against {
                    own.evaluation.against = Some(Model::open(base.join(against))?);
                }
                let found = evaluate(&model, &own)?;
                if writes {
                    let text = serde_json::to_string_pretty(&found.document()).unwrap_or_default();
                    write_file(&output, format!("{text}\n").as_bytes(), own.force)?;
                    if let Some(state) = &self.state {
                        found.state.write(&base.join(state))?;
                    }
                }
                Ok(Made::Evaluation(Box::new(found)))
            }
            Kind::Run => {
                if writes {
                    own.output = Some(Destination::File(output));
                }
                let outcome = self.pipeline(base)?.run(&model, &own)?;
                Ok(Made::Model(Box::new(outcome)))
            }
        }
    }

    /// What every result of the job depends on beside models and data.
    pub(super) fn context(&self, base: &Path) -> Result<String, Error> {
        if self.job != Kind::Run {
            return Ok(String::new());
        }
        // Data have digests of their own, by work.
        let mut pipeline = self.pipeline(base)?;
        pipeline.inner.data.clear();
        let options = Options::new().seed(self.seed);
        let (digest, _) = Digests::default().key(&pipeline, "", &options)?;
        Ok(digest.to_hex().to_string())
    }

    fn check_outputs(&self, base: &Path, model: &Path, options: &Options) -> Result<(), Error> {
        let mut files = options.files();
        files.reads(super::super::files::MODEL, model);
        for (_, data) in &options.data {
            data.reads(&mut files);
        }
        let outputs: Vec<PathBuf> = self.outputs().into_iter().map(|path| base.join(path)).collect();
        outputs.iter().for_each(|output| files.writes("output", output));
        files.check()
    }

    fn purpose(&self) -> Purpose {
        match self.purpose.unwrap_or(PurposeKind::Quantize) {
            PurposeKind::Quantize => Purpose::Quantize,
            PurposeKind::Gram => Purpose::Gram {
                rows_per_sample: self
                    .rows_per_sample
                    .unwrap_or_else(|| GramOptions::default().rows_per_sample),
            },
            PurposeKind::Gradients => Purpose::Gradients {
                loss: self.loss.unwrap_or(LossKind::CrossEntropy),
                output: self.loss_output.clone(),
            },
        }
    }

    fn pipeline(&self, base: &Path) -> Result<Pipeline, Error> {
        let mut pipeline = match &self.pipeline {
            Some(Value::String(name)) if Pipeline::presets().contains(&name.as_str()) => {
                Pipeline::preset(name)?
            }
            Some(Value::String(path)) => {
                return Pipeline::open_with(base.join(path), self.vars.clone());
            }
            Some(inline) => return Pipeline::inline(inline, base, self.vars.clone()),
            None => return Err(Error::new("plan", "there is no pipeline")),
        };
        for (variable, value) in &self.vars {
            pipeline = pipeline.set(variable, value.clone())?;
        }
        Ok(pipeline)
    }
}
