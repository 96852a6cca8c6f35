//! What the error of each weight counts for.

use ndarray::Array3;

use super::find::Case;
use super::{Cluster, NAME, Weighting};
use crate::ir::{GraphPath, Model};
use crate::passes::left::LeftAlone;
use crate::passes::quantize::gradient_source::{GradientSource, Gradients, gradients, is_same};
use crate::passes::quantize::gram_statistics::GramSource;
use crate::passes::quantize::weights::{Moments, collect};
use crate::passes::{Context, PassError};
use crate::quantize::normalised;

/// Where importances come from.
pub(super) enum Importance {
    None,
    Gram(Box<Moments>),
    Gradients(Box<Gradients>),
}

/// The importance of each element of a weight.
pub(super) struct Known {
    /// In the order of the tensor.
    pub(super) weights: Vec<f64>,
    /// What an error of all of them means to the loss, of gradients: their mean.
    pub(super) mean: Option<f64>,
}

impl Importance {
    /// Runs the model over data, or reads statistics. `given` is the model before `prepared` was made of it.
    pub(super) fn of(
        options: &Cluster,
        given: &Model,
        prepared: &Model,
        context: &Context<'_>,
    ) -> Result<Self, PassError> {
        Ok(match options.weighting {
            Weighting::None => Self::None,
            Weighting::Gram => {
                let source = GramSource {
                    pass: NAME,
                    data: &options.data,
                    stats: options.stats.as_deref(),
                };
                Self::Gram(Box::new(collect(
                    source,
                    given,
                    prepared,
                    &options.operators,
                    context,
                )?))
            }
            Weighting::Gradients => {
                let source = GradientSource {
                    pass: NAME,
                    asked_by: "weighting: gradients",
                    labelled: &options.labelled,
                    stats: options.gradient_stats.as_deref(),
                    objective: options.loss.objective(options.loss_output.as_deref()),
                };
                let mut before = given.clone();
                before.name_values();
                Self::Gradients(Box::new(gradients(&source, prepared, &before, context)?))
            }
        })
    }

    /// The importance of the elements of a weight; where it is not known, all of them count alike, and `left` says why.
    pub(super) fn known(
        &self,
        case: &Case,
        given: &Model,
        model: &Model,
        left: &mut LeftAlone,
    ) -> Option<Known> {
        let found = match self {
            Self::None => return None,
            Self::Gram(moments) => of_rows(moments, case),
            Self::Gradients(gradients) => of_gradients(gradients, case, given, model),
        };
        match found {
            Ok(known) => Some(known),
            Err(why) => {
                left.add(
                    case.name.clone(),
                    format!("all of its elements count alike: {why}"),
                    "",
                );
                None
            }
        }
    }
}

fn of_rows(moments: &Moments, case: &Case) -> Result<Known, &'static str> {
    let own = (case.path == GraphPath::MAIN).then_some(moments);
    let rows = own.and_then(|own| own.of(&case.target, false));
    let Some(rows) = rows else {
        return Err(Moments::missing(own, &case.target));
    };
    let layer = rows.layer;
    let size = (layer.groups, layer.outputs, layer.columns);
    let weights = Array3::from_shape_fn(size, |(group, _, column)| {
        let moment = rows.moments.get(group);
        moment
            .and_then(|moment| moment.get((column, column)))
            .copied()
            .unwrap_or(0.0)
    });
    let weights = layer.flat(&weights);
    match weights.len() as u64 == case.tensor.elements() {
        true => Ok(Known { weights, mean: None }),
        false => Err("its layer lays it out in another way"),
    }
}

fn of_gradients(
    gradients: &Gradients,
    case: &Case,
    given: &Model,
    model: &Model,
) -> Result<Known, &'static str> {
    if case.path != GraphPath::MAIN {
        return Err("it is in a body or a function, and gradients are of the main graph");
    }
    if gradients.only_same && !is_same(model, given, case.target.weight, &case.name) {
        return Err("it is not the weight that the statistics are of");
    }
    let statistics = &gradients.statistics;
    let own = statistics.values.get(&case.name);
    let Some(own) = own.filter(|own| own.dims == case.tensor.dims()) else {
        return Err("the loss has no gradient with respect to it");
    };
    let count = statistics.gradients.max(1) as f64;
    let fisher: Vec<f64> = own.squared.iter().map(|sum| sum / count).collect();
    let mean = fisher.iter().sum::<f64>() / fisher.len().max(1) as f64;
    Ok(Known {
        weights: normalised(&fisher),
        mean: Some(mean),
    })
}
