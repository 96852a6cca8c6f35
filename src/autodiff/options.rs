//! What to differentiate, with respect to what, and how the result is laid out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the differentiated output holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputIs {
    /// Probabilities when the graph ends in Softmax, LogSoftmax (cross-entropy, distillation) or Sigmoid (binary
    /// cross-entropy), else logits.
    #[default]
    Auto,
    /// Scores before Softmax or Sigmoid.
    Logits,
    /// Probabilities, above 0.
    Probabilities,
}

/// A loss: a scalar, the mean over the batch and every other position of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross-entropy against the input `labels`, `int64` in the output's shape without the class axis. A label that names no
    /// class makes the loss and every gradient NaN.
    CrossEntropy {
        /// Logits or probabilities.
        input: InputIs,
        /// The class axis; without one that of the Softmax at the end, else 1 (the last one of a vector).
        axis: Option<i64>,
    },
    /// Mean of (y - `targets`)² over every element.
    MeanSquaredError,
    /// Mean over every element of the cross-entropy of Bernoulli variables with the probabilities `targets`.
    BinaryCrossEntropy {
        /// Logits or probabilities.
        input: InputIs,
    },
    /// T² · KL(teacher ‖ model), both softened by the temperature T. `targets` are the teacher's outputs: logits or
    /// probabilities as the model's own.
    Distillation {
        /// Logits or probabilities.
        input: InputIs,
        /// The class axis, as for [`Loss::CrossEntropy`].
        axis: Option<i64>,
        /// T, above 0.
        temperature: f64,
    },
    /// Σ y · `targets`: the gradients are the vector-Jacobian product of `targets`.
    InnerProduct,
}

impl Loss {
    /// The loss as it is named on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross-entropy",
            Self::MeanSquaredError => "mean-squared-error",
            Self::BinaryCrossEntropy { .. } => "binary-cross-entropy",
            Self::Distillation { .. } => "distillation",
            Self::InnerProduct => "inner-product",
        }
    }

    /// The name of the input that the loss adds to the model.
    pub fn input_name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "labels",
            _ => "targets",
        }
    }
}

/// The values to differentiate with respect to.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Wrt {
    /// Every float initializer that the loss depends on, except means and variances of BatchNormalization and inputs through
    /// which nothing is differentiable.
    #[default]
    Parameters,
    /// These values: initializers, constants, graph inputs or intermediate values.
    Named(Vec<String>),
}

/// How gradients are laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientOptions {
    /// The output that the loss sits on; the first one without a name.
    pub output: Option<String>,
    /// Sizes for symbolic dimensions of the inputs (`batch`, or `x[0]` for an unnamed one). The result has these sizes.
    pub sizes: BTreeMap<String, i64>,
    /// Makes each wanted initializer a graph input of the same name, without a default: one graph then serves every step of an
    /// optimisation. (An input with a default would be a constant for some engines.)
    pub weights_as_inputs: bool,
    /// Also returns the differentiated output, under its own name.
    pub keep_output: bool,
    /// Returns the loss and no gradients; the inputs are the same.
    pub loss_only: bool,
}
