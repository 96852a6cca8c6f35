//! What a user may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::update::Update;
use crate::passes::train::LossKind;

/// Sets the weights that matter least to zero: unstructured, or N of each M.
///
/// Shapes stay as they are: the file shrinks once it is compressed, and runtimes gain only where they have sparse kernels (2:4).
/// `prune-channels` is what makes a model faster everywhere. Weights of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN
/// are pruned, transposed and shared ones too; biases are not. A weight that is zero already counts as pruned. Criteria with
/// gradients take labels (`training` data, or a file that `secateur stats --for gradients` wrote), and `wanda` takes samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PruneWeights {
    /// Share of the weights that are zero afterwards, 0 to 1; 0.5 where nothing else is asked for.
    pub sparsity: Option<f64>,
    /// Weights whose score is below this become zero, however many they are.
    pub threshold: Option<f64>,
    /// N:M along the dimension that is summed over (input channels, for convolutions), for example `2:4`: of each M weights
    /// the N that matter most stay. Layers whose size is no multiple of M are left alone.
    pub pattern: Option<String>,
    /// How weights are ranked.
    pub criterion: Criterion,
    /// What a weight is ranked against.
    pub scope: Scope,
    /// What becomes of the weights that stay.
    pub update: Update,
    /// Gram matrices of this very model for `update: obs`, as `secateur stats --for gram` writes them; else they are collected on
    /// `calibration` data.
    #[schemars(extend("x-file" = "read"))]
    pub gram_stats: Option<PathBuf>,
    /// Greatest share of a layer that may become zero, so that no scope or threshold empties one.
    pub max_sparsity: f64,
    /// Operators whose weights are pruned.
    pub operators: Vec<String>,
    /// Layers to leave alone: patterns over the names of weights and of the nodes that read them.
    pub keep: Vec<String>,
    /// Gradient statistics of this very model, as `secateur stats --for gradients` writes them; else they are collected.
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
    /// The role of the data; `training` for criteria with gradients and `calibration` for `wanda` by default.
    pub data: Option<String>,
    /// The loss that gradients are of.
    pub loss: LossKind,
    /// The output that the loss sits on; the first one by default.
    pub loss_output: Option<String>,
    /// Where to write the masks: an npz with a boolean array for each weight, true where it stays.
    #[schemars(extend("x-file" = "write"))]
    pub masks: Option<PathBuf>,
    /// Seed of the `random` criterion; the run's own by default.
    pub random_seed: Option<u64>,
}

impl Default for PruneWeights {
    fn default() -> Self {
        Self {
            sparsity: None,
            threshold: None,
            pattern: None,
            criterion: Criterion::default(),
            scope: Scope::default(),
            update: Update::default(),
            gram_stats: None,
            max_sparsity: 0.99,
            operators: OPERATORS.map(str::to_owned).to_vec(),
            keep: Vec::new(),
            stats: None,
            data: None,
            loss: LossKind::default(),
            loss_output: None,
            masks: None,
            random_seed: None,
        }
    }
}

/// Operators that have weights.
pub(super) const OPERATORS: [&str; 7] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"];

/// How weights are ranked. θ is a weight, g the gradient of one sample's loss, E the mean over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// |θ|.
    #[default]
    Magnitude,
    /// |E g|, the gradient of the loss over the data. Near zero everywhere in a model that has converged.
    Gradient,
    /// E |g·θ|, the first-order change of the loss (Molchanov et al. 2017). Recommended where labels are at hand.
    Taylor,
    /// ½ θ² E g², the second-order change of the loss under the empirical Fisher information (Theis et al. 2018).
    Fisher,
    /// |θ|·‖x‖₂ with the norm of the input that the weight multiplies, over the samples (Sun et al. 2023, who rank within
    /// an output: `scope: output`).
    Wanda,
    /// At random.
    Random,
}

/// What a weight is ranked against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The weights of the same output channel.
    Output,
    /// The weights of the same layer.
    #[default]
    Layer,
    /// All weights of the model.
    Global,
}

/// N kept of each M.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) kept: usize,
    pub(super) of: usize,
}

impl Pattern {
    /// Reads `N:M`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kept, of) = text.split_once(':')?;
        let (kept, of) = (kept.trim().parse().ok()?, of.trim().parse().ok()?);
        (kept >= 1 && kept < of && of <= 1024).then_some(Self { kept, of })
    }
}
