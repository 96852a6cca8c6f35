//! What a user may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finetune::Optimizer;
use crate::passes::Until;
use crate::passes::train::{Finetune, LossKind, TrainingLoss};

/// Removes whole channels, neurons, heads and hidden units, so that the model gets smaller and faster in every runtime.
///
/// A solver over all tensor axes finds the units that can only be removed together, for any topology: residual connections,
/// concatenations, depthwise and grouped convolutions, channel shuffles, attention, recurrent layers. Units are ranked by a
/// criterion, and a share of each layer's goes. Inputs and outputs keep their shapes. Every result is compared with the
/// original in which the same units are masked; a difference is an error and nothing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PruneChannels {
    /// Share of the units that go, 0 to 1; not used with a target.
    pub ratio: f64,
    /// How units are ranked.
    pub criterion: Criterion,
    /// The norm that `magnitude` and `lamp` take.
    pub norm: Norm,
    /// Whether each layer loses the same share, or the whole model loses its lowest units.
    pub scope: Scope,
    /// Multiply-accumulates that may remain, as a share of the model's.
    pub target_macs: Option<f64>,
    /// Time of one run that may remain, as a share of the model's: the fastest of several runs in the engine, on one thread. Measured,
    /// so another run may choose differently; `history` and `replay` keep a choice.
    pub target_latency: Option<f64>,
    /// Bytes of constants that may remain, as a share of the model's.
    pub target_bytes: Option<f64>,
    /// What `target-macs` and `target-bytes` are shares of.
    pub relative_to: Baseline,
    /// Rounds in which the model is cut: units are ranked anew, and with `refit` layers refitted, after each. Every round takes the
    /// same share of what it finds, so that all together reach the ratio or the target.
    pub iterations: u32,
    /// Trains what is left after each round but the last, on the features of the model that the run started with. What is left after the
    /// last round is for a step `finetune` of its own, with more epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover: Option<Recover>,
    /// The number of units kept in a layer is a multiple of this.
    pub round_to: u32,
    /// Fewest units kept in a layer.
    pub min_keep: u32,
    /// Greatest share of a layer's units that may go, in all rounds together.
    pub max_ratio: f64,
    /// Layers to leave alone: patterns over the names of weights and of the nodes that read them.
    pub keep: Vec<String>,
    /// What goes where an axis was split, as in attention: whole heads or the same dimensions of every head.
    pub attention: AttentionUnits,
    /// Seed of the `random` criterion and of the samples for the comparison; the run's own by default.
    pub seed: Option<u64>,
    /// Search for the most that may go so that bounds hold: `map.drop<=0.005`, `accuracy.drop<=0.01`, or gates with their bounds; with
    /// bounds on size, multiply-accumulates or latency alone, for the least that has to. `ratio`, `target-macs` or `target-bytes` is
    /// then the most that goes. Every other sample of the evaluation data chooses, the rest confirms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Where to write the pipeline that gives the same model without the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "write"))]
    pub write_pipeline: Option<PathBuf>,
    /// Where to write which units went, as JSON.
    #[schemars(extend("x-file" = "write"))]
    pub history: Option<PathBuf>,
    /// Removes what this file lists instead of ranking units.
    #[schemars(extend("x-file" = "read"))]
    pub replay: Option<PathBuf>,
    /// Then refits the weights of the layers that lost inputs to calibration data by least squares, so that the inputs that stay
    /// make up for those that went. Needs no labels.
    pub refit: bool,
    /// Whether `refit` does all layers at once or one after the other.
    pub refit_order: RefitOrder,
    /// The role of the data for `refit` and the criteria `reconstruction` and `wanda`.
    pub data: String,
    /// The role of the labelled data for the criteria that take gradients.
    pub training: String,
    /// The loss that gradients are of.
    pub loss: LossKind,
    /// The output that the loss sits on; the first one by default.
    pub loss_output: Option<String>,
}

impl Default for PruneChannels {
    fn default() -> Self {
        Self {
            ratio: 0.3,
            criterion: Criterion::default(),
            norm: Norm::default(),
            scope: Scope::default(),
            target_macs: None,
            target_latency: None,
            target_bytes: None,
            relative_to: Baseline::default(),
            iterations: 1,
            recover: None,
            round_to: 1,
            min_keep: 1,
            max_ratio: 0.95,
            keep: Vec::new(),
            attention: AttentionUnits::default(),
            seed: None,
            until: None,
            write_pipeline: None,
            history: None,
            replay: None,
            refit: false,
            refit_order: RefitOrder::default(),
            data: "calibration".to_owned(),
            training: "training".to_owned(),
            loss: LossKind::default(),
            loss_output: None,
        }
    }
}

/// What a share is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The model that the step gets.
    #[default]
    Step,
    /// The model that the run began with: steps before that make it smaller, as `prune-blocks`, count.
    Run,
}

/// Training between rounds: feature mimicry by Adam, on the data of `data`, which need no labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Recover {
    /// Passes over the data.
    pub epochs: u32,
    /// Samples a step.
    pub batch: u64,
    /// Of the first step after a warm-up of a tenth of all; it falls to zero along a half cosine.
    pub learning_rate: f64,
    /// The values that are compared, as in `finetune`.
    pub features: Vec<String>,
}

impl Default for Recover {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch: 32,
            learning_rate: 0.0003,
            features: Vec::new(),
        }
    }
}

impl Recover {
    /// The pass that does it, on the data of a role.
    pub(super) fn pass(&self, data: &str) -> Finetune {
        Finetune {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            warmup: 0.1,
            optimizer: Optimizer::Adam,
            validation: 0.0,
            data: data.to_owned(),
            loss: TrainingLoss::Features,
            features: self.features.clone(),
            ..Finetune::default()
        }
    }
}

/// How units are ranked. A unit's score is the mean over the constants that it cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The norm of the parameters that go.
    #[default]
    Magnitude,
    /// The size of the scale of BatchNormalization; `magnitude` for layers without one.
    BatchNorm,
    /// The squared magnitude over the sum of those of all units of the layer that are no smaller (layer-adaptive magnitude).
    Lamp,
    /// The sum of distances to the other units of the layer (filters near their geometric median go).
    Fpgm,
    /// What the layers that read the unit lose of their outputs after the best refit, on calibration data, when units go one
    /// after the other, the cheapest first; `magnitude` for units that no such layer reads. Needs no labels.
    Reconstruction,
    /// The sum of `|w|` times the root mean square of what `w` multiplies, over the weights that read the unit (Sun et al. 2024);
    /// `magnitude` for units that no such layer reads. Needs no labels.
    Wanda,
    /// `Σ |E g|`: the gradient of the loss over the parameters that go. Near zero everywhere in a model that has converged.
    Gradient,
    /// `Σ E |g·θ|`, the first-order change of the loss (Molchanov et al. 2019). Takes labels.
    Taylor,
    /// `½ Σ θ² E g²`, the second-order change of the loss under the empirical Fisher information (Theis et al. 2018). Takes labels.
    Fisher,
    /// At random.
    Random,
}

/// The order in which layers are refitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefitOrder {
    /// All at once, after one pass over the data, as if every layer still read what it did.
    #[default]
    AtOnce,
    /// One after the other, after a pass over the data for each: every layer, those without a cut included, makes up for the error
    /// of the layers before it, too. Slower, and better where there are enough samples: few are fitted too closely.
    OneByOne,
}

/// A norm of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Sum of sizes.
    L1,
    /// Root of the sum of squares.
    #[default]
    L2,
}

/// What units are ranked against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The units of the same layer.
    #[default]
    Layer,
    /// All units. Scores that estimate a loss (`reconstruction`, `taylor`, `fisher`) are compared as they are, or per multiply-accumulate or byte
    /// that the unit frees under such a target; others are divided by the mean of their layer.
    Global,
}

/// What goes where an axis was split into two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionUnits {
    /// Whichever has more units to choose from.
    #[default]
    Finest,
    /// Whole blocks, such as attention heads, where they can go.
    Heads,
}
