//! The pass `finetune`: trains the parameters of a model further.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::LossKind;
use crate::autodiff::{InputIs, Loss};
use crate::data::Augment;
use crate::finetune::{self, FEATURES, FinetuneError, Mimic, Optimizer, Teacher, Training, finetune};
use crate::ir::{DType, Model};
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ResourceError, Resources, Safety, Selector,
};
use crate::schema;
use crate::statistics::Objective;

const NAME: &str = "finetune";

/// What becomes of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Masks {
    /// A zero in a parameter of two or more dimensions stays zero, so that what was pruned stays pruned.
    #[default]
    HoldZeros,
    /// Everything is trained.
    None,
}

/// What a model is trained by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingLoss {
    /// Of class scores against class labels.
    #[default]
    CrossEntropy,
    /// Mean of the squared differences from float targets.
    MeanSquaredError,
    /// Of independent probabilities against float targets.
    BinaryCrossEntropy,
    /// T² · KL from the class probabilities of a teacher, both softened by the temperature T (Hinton et al. 2015). The data need
    /// no labels.
    Distillation,
    /// Mean over values inside of the squared difference from the teacher's, relative to the teacher's own square (feature mimicking,
    /// Romero et al. 2015, Wang et al. 2022). The data need no labels.
    Features,
}

impl TrainingLoss {
    /// Whether the targets are another model's.
    fn has_teacher(self) -> bool {
        matches!(self, Self::Distillation | Self::Features)
    }
}

/// Trains a model further, so that it recovers from pruning: on labels, or without any on what the model before puts out.
///
/// Gradients are computed by the model's own gradient graph in the engine; no training framework is needed. The float32
/// initializers that the loss depends on are trained, and the graph stays as it is. BatchNormalization stays in inference mode:
/// its means and variances are not trained and not updated. The learning rate falls to zero along a half cosine. Samples held
/// out for validation say when to stop, and the model gets the parameters with the lowest loss on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Finetune {
    /// Passes over the data.
    pub epochs: u32,
    /// Samples a step.
    pub batch: u64,
    /// Of the first step, or of the last one of the warm-up.
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate rises in a line.
    pub warmup: f64,
    /// How parameters move.
    pub optimizer: Optimizer,
    /// Momentum of `sgd`.
    pub momentum: f64,
    /// Decay of parameters, relative to the learning rate.
    pub weight_decay: f64,
    /// What of moving averages of the parameters stays with each step, as 0.99: the model gets the averages. With 0 it gets the
    /// parameters of the last step.
    pub average: f64,
    /// What becomes of zeros.
    pub masks: Masks,
    /// An npz with a boolean array for each of some parameters, as `prune-weights` writes it under `masks`: where it is false the
    /// parameter becomes zero and stays zero.
    #[schemars(extend("x-file" = "read"))]
    pub masks_from: Option<PathBuf>,
    /// Share of the samples that are held out.
    pub validation: f64,
    /// Epochs without a lower loss on them before training stops.
    pub patience: u32,
    /// The role of the data.
    pub data: String,
    /// The loss.
    pub loss: TrainingLoss,
    /// The teacher of the losses `distillation` and `features`, a model file; by default the model that the pipeline started with.
    #[schemars(extend("x-file" = "read"))]
    pub teacher: Option<PathBuf>,
    /// T of the loss `distillation`.
    pub temperature: f64,
    /// The values that the loss `features` compares: patterns over their names, or over those of the nodes that compute them. By default
    /// what the last layers before the outputs read, before it is averaged; where pruning cut that, the nearest before it that the
    /// teacher has with the same shape, and the outputs.
    pub features: Vec<String>,
    /// The output that the loss sits on; the first one by default.
    pub loss_output: Option<String>,
    /// A file that is written after each epoch: a run that was ended goes on from it and ends with the same result.
    #[schemars(extend("x-file" = "state"))]
    pub checkpoint: Option<PathBuf>,
    /// Parameters that stay as they are: patterns over names.
    pub freeze: Vec<String>,
    /// How images are varied in each epoch, where the description of the data does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Seed of the order of samples; the run's own by default.
    pub shuffle_seed: Option<u64>,
}

impl Default for Finetune {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch: 64,
            learning_rate: 0.01,
            warmup: 0.0,
            optimizer: Optimizer::default(),
            momentum: 0.9,
            weight_decay: 0.0,
            average: 0.0,
            masks: Masks::default(),
            masks_from: None,
            validation: 0.05,
            patience: 3,
            data: "training".to_owned(),
            loss: TrainingLoss::default(),
            teacher: None,
            temperature: 2.0,
            features: Vec::new(),
            loss_output: None,
            checkpoint: None,
            freeze: Vec::new(),
            augment: None,
            shuffle_seed: None,
        }
    }
}

impl Pass for Finetune {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::TRAINING)
    }

    fn data_roles(&self) -> Vec<String> {
        vec![self.data.clone()]
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("freeze", &self.freeze),
            Selector::new("features", &self.features),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let option = |message: String| PassError::Option { pass: NAME, message };
        self.check()?;
        let frozen = schema::patterns(&self.freeze).map_err(|error| option(format!("freeze: {error}")))?;
        let frozen = |name: &str| frozen.is_match(name) || context.keeps(name);
        let resources = context.resources(NAME, "needs data and an engine")?;
        let mut data = resources.data(&self.data, &model.graph).map_err(resource)?;
        if let Some(augment) = &self.augment {
            data = data.augmented(augment).map_err(resource)?;
        }
        let objective = self.objective();
        let loaded = match &self.teacher {
            Some(path) if self.loss.has_teacher() => Some(resources.model(path).map_err(resource)?),
            _ => None,
        };
        let teacher = match self.loss.has_teacher() {
            true => Some(Teacher {
                model: loaded
                    .as_ref()
                    .or_else(|| resources.original())
                    .ok_or_else(|| resource("teacher: there is no model to learn from"))?,
                output: self.loss_output.as_deref(),
            }),
            false => None,
        };
        let features =
            schema::patterns(&self.features).map_err(|error| option(format!("features: {error}")))?;
        let masks = match &self.masks_from {
            Some(path) => read_masks(resources, path).map_err(resource)?,
            None => finetune::Masks::new(),
        };
        let checkpoint = self.checkpoint.as_ref().map(|path| context.base.join(path));
        let training = Training {
            objective: &objective,
            teacher,
            mimic: (self.loss == TrainingLoss::Features).then(|| Mimic {
                wanted: Some(&features).filter(|patterns| !patterns.is_empty()),
            }),
            optimizer: self.optimizer,
            learning_rate: self.learning_rate,
            warmup: self.warmup,
            average: self.average,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            epochs: self.epochs,
            batch: self.batch,
            validation: self.validation,
            patience: self.patience,
            seed: self.shuffle_seed.unwrap_or(context.seed),
            hold_zeros: self.masks == Masks::HoldZeros,
            masks: &masks,
            frozen: &frozen,
            checkpoint: checkpoint.as_deref(),
            jobs: resources.jobs(),
        };
        let progress = |done: u64, total: u64| (context.progress)("training", done, Some(total));
        let engine = resources.engine().map_err(resource)?;
        let outcome = finetune(model, &data, engine, &training, &progress).map_err(|error| match error {
            FinetuneError::Edit(source) => PassError::Edit { pass: NAME, source },
            other => resource(other),
        })?;
        Ok(self.report(&outcome, !masks.is_empty()))
    }
}

impl Finetune {
    fn report(&self, outcome: &finetune::Outcome, masked: bool) -> PassReport {
        let mut report = PassReport {
            changed: outcome.best > 0 || masked,
            ..PassReport::default()
        };
        if !outcome.features.is_empty() {
            let features = outcome.features.join(", ");
            report.notes.push(format!("learnt from the teacher: {features}"));
        }
        let before = outcome.before.map(|loss| format!("before: held out {loss:.5}"));
        let epochs = outcome
            .epochs
            .iter()
            .enumerate()
            .map(|(at, epoch)| match epoch.validation {
                Some(validation) => format!(
                    "epoch {}: loss {:.5}, held out {validation:.5}",
                    at + 1,
                    epoch.loss
                ),
                None => format!("epoch {}: loss {:.5}", at + 1, epoch.loss),
            });
        report.changes.push(Change {
            rule: "parameter trained".to_owned(),
            count: if outcome.best > 0 {
                outcome.parameters.len() as u64
            } else {
                0
            },
            details: before.into_iter().chain(epochs).collect(),
        });
        if outcome.best == 0 {
            report
                .notes
                .push("no epoch lowered the loss on the samples held out: nothing is changed".to_owned());
        }
        report
    }

    /// Refuses options that make no sense.
    fn check(&self) -> Result<(), PassError> {
        let option = |message: String| PassError::Option { pass: NAME, message };
        if self.batch == 0 {
            return Err(option("batch: there is no step without a sample".to_owned()));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(option(format!(
                "learning-rate: {} is not above 0",
                self.learning_rate
            )));
        }
        for (name, value) in [
            ("momentum", self.momentum),
            ("validation", self.validation),
            ("warmup", self.warmup),
            ("average", self.average),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(option(format!("{name}: {value} is not in 0 to below 1")));
            }
        }
        if !self.loss.has_teacher() && self.teacher.is_some() {
            return Err(option(
                "teacher: only the losses distillation and features have one".to_owned(),
            ));
        }
        if self.loss != TrainingLoss::Features && !self.features.is_empty() {
            return Err(option("features: only the loss features takes them".to_owned()));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(option(format!(
                "temperature: {} is not above 0",
                self.temperature
            )));
        }
        Ok(())
    }

    fn objective(&self) -> Objective {
        let kind = match self.loss {
            TrainingLoss::CrossEntropy => LossKind::CrossEntropy,
            TrainingLoss::MeanSquaredError => LossKind::MeanSquaredError,
            TrainingLoss::BinaryCrossEntropy => LossKind::BinaryCrossEntropy,
            TrainingLoss::Features => {
                return Objective {
                    loss: Loss::MeanSquaredError,
                    output: Some(FEATURES.to_owned()),
                };
            }
            TrainingLoss::Distillation => {
                return Objective {
                    loss: Loss::Distillation {
                        input: InputIs::Auto,
                        axis: None,
                        temperature: self.temperature,
                    },
                    output: self.loss_output.clone(),
                };
            }
        };
        kind.objective(self.loss_output.as_deref())
    }
}

/// The boolean arrays of a file.
fn read_masks(resources: &dyn Resources, path: &Path) -> Result<finetune::Masks, ResourceError> {
    let mut masks = finetune::Masks::new();
    for (name, tensor) in resources.tensors(path)? {
        let wrong = |error: ResourceError| ResourceError::of(format!("{}: {name}", path.display()), error);
        if tensor.dtype() != DType::Bool {
            return Err(wrong(
                format!("a mask is boolean, this array holds {}", tensor.dtype()).into(),
            ));
        }
        let values = tensor.to_i64().map_err(|error| wrong(error.into()))?;
        masks.insert(name, values.into_iter().map(|value| value != 0).collect());
    }
    Ok(masks)
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
