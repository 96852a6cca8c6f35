//! A model that computes a loss and its gradients.

use schemars::JsonSchema;
use serde::Serialize;

use super::error::Error;
use super::model::Model;
use super::save::{Destination, Saved};
use crate::analysis;
use crate::autodiff::{self, GradientOptions, Loss, Wrt};

/// Makes a model that computes a loss and its gradients out of plain ONNX operators. Its inputs are those of `model` and `labels`
/// (cross-entropy) or `targets`; its outputs are `loss`, the mean over the batch, and `grad/NAME` for each wanted value.
///
/// # Errors
///
/// An operator without a gradient (`autodiff-operator`) or another that stands in the way: [`Error::node`] says which. Sizes that have
/// to be known (`autodiff-unknown-type`), a wanted value that is not there.
///
/// # Examples
///
/// ```
/// use secateur::{GradientOptions, InputIs, Loss, Model, Wrt, gradients};
/// let model = Model::open("fixtures/digits_mlp.onnx")?;
/// let loss = Loss::CrossEntropy { input: InputIs::Auto, axis: None };
/// let made = gradients(&model, &loss, &Wrt::Parameters, &GradientOptions::default())?;
/// assert_eq!(made.outputs()[0].name, "loss");
/// assert!(made.outputs()[1].name.starts_with("grad/"));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn gradients(model: &Model, loss: &Loss, wrt: &Wrt, options: &GradientOptions) -> Result<Model, Error> {
    let file = model.origin.path.as_deref();
    let made = autodiff::gradients(&model.model, loss, wrt, options)
        .map_err(|error| Error::from(error).in_source(file))?;
    match analysis::check(&made)
        .err()
        .and_then(|errors| errors.into_iter().next())
    {
        Some(error) => Err(error.into()),
        None => Ok(model.derived(made, true)),
    }
}

/// What `gradients` wrote.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Document")]
pub(crate) struct GradientDocument {
    /// The file written.
    pub(crate) output: String,
    /// Every file written: the model and its external data.
    pub(crate) files: Vec<String>,
    /// Inputs of the gradient model.
    pub(crate) inputs: Vec<String>,
    /// Outputs of the gradient model.
    pub(crate) outputs: Vec<String>,
    /// Its operators.
    pub(crate) nodes: usize,
}

impl GradientDocument {
    pub(crate) fn of(made: &Model, output: &Destination, saved: Saved) -> Self {
        let graph = &made.model.graph;
        Self {
            output: output.name(),
            files: saved.files,
            inputs: graph.inputs().iter().map(|id| graph.label(*id)).collect(),
            outputs: graph
                .outputs()
                .iter()
                .map(|output| output.name.to_string())
                .collect(),
            nodes: graph.operator_count(),
        }
    }
}
