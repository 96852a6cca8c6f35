//! The loss that passes judge or train a model by, and gradient statistics as they need them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::autodiff::{InputIs, Loss, Wrt};
use crate::data::Dataset;
use crate::engine::Engine;
use crate::ir::Model;
use crate::statistics::{GradientStatistics, Objective, StatisticsError, collect_gradients};

/// What a model is judged or trained by. The loss knows by itself whether the output holds logits or probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Of class scores against class labels.
    #[default]
    CrossEntropy,
    /// Mean of the squared differences from float targets.
    MeanSquaredError,
    /// Of independent probabilities against float targets.
    BinaryCrossEntropy,
}

impl LossKind {
    /// The loss, on the output of this name (the first one without).
    pub fn objective(self, output: Option<&str>) -> Objective {
        let input = InputIs::Auto;
        let loss = match self {
            Self::CrossEntropy => Loss::CrossEntropy { input, axis: None },
            Self::MeanSquaredError => Loss::MeanSquaredError,
            Self::BinaryCrossEntropy => Loss::BinaryCrossEntropy { input },
        };
        Objective {
            loss,
            output: output.map(str::to_owned),
        }
    }
}

/// Gradient statistics of every parameter of `model` over the data that `open` answers for it.
///
/// Names the values that have none first, so that the statistics fit the model as a step sees it.
pub fn gradient_statistics<E: From<StatisticsError>>(
    model: &Model,
    objective: &Objective,
    open: impl FnOnce(&Model) -> Result<Dataset, E>,
    engine: &dyn Engine,
    jobs: usize,
    progress: &(dyn Fn(&str, u64, Option<u64>) + Sync),
) -> Result<GradientStatistics, E> {
    let mut named = model.clone();
    named.name_values();
    let data = open(&named)?;
    let total = data.sample_range().end - data.sample_range().start;
    let tell = |done: u64| progress("gradients", done, Some(total));
    Ok(collect_gradients(
        &named,
        objective,
        &Wrt::Parameters,
        &data,
        engine,
        jobs,
        &tell,
    )?)
}
