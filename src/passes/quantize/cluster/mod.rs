//! The pass `cluster`: weights that share few values.
//!
//! [`find`] looks for the weights, [`importance`] says what the error of each element counts for, [`budget`] how many bits each weight
//! gets, and [`written`] puts codes and codebook in its place. The numbers are `quantize::cluster`'s.

mod budget;
mod find;
mod importance;
mod options;
mod written;

use rayon::prelude::*;

use self::find::{Case, failed};
use self::importance::{Importance, Known};
pub use self::options::{Cluster, ClusterForm, CodeType, LayerBits, Weighting};
use self::written::Stored;
use super::weights::WeightError;
use crate::analysis;
use crate::ir::{Model, Tensor};
use crate::passes::distinct::distinct_names;
use crate::passes::left::LeftAlone;
use crate::passes::{About, Change, Context, Needs, Pass, PassError, PassReport, Safety, Selector};
use crate::quantize::{Clustering, Clusters, cluster};

const NAME: &str = "cluster";

impl Pass for Cluster {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.weighting == Weighting::Gram && self.stats.is_none(),
            training: self.weighting == Weighting::Gradients && self.gradient_stats.is_none(),
            ..Needs::default()
        })
    }

    fn data_roles(&self) -> Vec<String> {
        let needs = self.about().needs;
        let samples = needs.calibration.then(|| self.data.clone());
        let labels = needs.training.then(|| self.labelled.clone());
        samples.into_iter().chain(labels).collect()
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("exclude", &self.exclude),
            Selector::new("layers", self.layers.iter().map(|layer| &layer.pattern)),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check()?;
        let original = model.clone();
        let mut report = PassReport::default();
        self.make_ready(model, context, &mut report)?;
        let mut left = LeftAlone::default();
        let options = self.search_options();
        let cases = self.cases(model, &options, context, &mut left)?;
        let importance = match cases.is_empty() {
            true => Importance::None,
            false => Importance::of(self, &original, model, context)?,
        };
        let known: Vec<Option<Known>> = cases
            .iter()
            .map(|case| importance.known(case, &original, model, &mut left))
            .collect();
        let bits = self.dealt(&cases, &known, &mut left);
        let seed = context.seed;
        let found: Vec<Option<Found>> = (&cases, &known, &bits)
            .into_par_iter()
            .map(|(case, known, bits)| Some(self.found(case, known.as_ref(), (*bits)?, seed)))
            .collect();
        let mut done = Done::default();
        for ((case, bits), found) in cases.iter().zip(&bits).zip(found) {
            let (Some(bits), Some(found)) = (bits, found) else {
                continue;
            };
            match found {
                Ok(clusters) => self.write(model, case, (*bits, clusters), &mut left, &mut done)?,
                Err(error) => left.add(case.name.clone(), error.to_string(), ""),
            }
        }
        report.left = left.into_entries();
        if done.details.is_empty() {
            *model = original;
            return Ok(PassReport {
                notes: match cases.is_empty() {
                    true => vec![Self::NOTHING.to_owned()],
                    false => Vec::new(),
                },
                left: report.left,
                ..PassReport::default()
            });
        }
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        analysis::infer(model);
        report.changed = true;
        report.changes.push(done.change());
        Ok(report)
    }
}

/// The values of one weight and the codes of its elements.
type Found = Result<Clusters, WeightError>;

/// What was written.
#[derive(Default)]
struct Done {
    details: Vec<String>,
    elements: u64,
    bits: u64,
}

impl Done {
    fn change(mut self) -> Change {
        let count = self.details.len() as u64;
        if count > 1 {
            let mean = self.bits as f64 / self.elements.max(1) as f64;
            self.details.push(format!("all: {mean:.3} bits a weight"));
        }
        Change {
            rule: "weight shares values".to_owned(),
            count,
            details: self.details,
        }
    }
}

impl Cluster {
    fn found(&self, case: &Case, known: Option<&Known>, bits: u32, seed: u64) -> Found {
        let values = case.tensor.to_f32()?;
        let how = Clustering {
            count: 1usize << bits.clamp(1, 8),
            start: self.initialisation,
            keep_zeros: self.keep_zeros,
            seed,
            dtype: case.tensor.dtype(),
        };
        Ok(cluster(
            &values,
            known.map(|known| known.weights.as_slice()),
            &how,
        )?)
    }

    /// Puts one weight into the model, if that is worth it.
    fn write(
        &self,
        model: &mut Model,
        case: &Case,
        (bits, clusters): (u32, Clusters),
        left: &mut LeftAlone,
        done: &mut Done,
    ) -> Result<(), PassError> {
        let values = clusters.centroids.len();
        let share = match clusters.power > 0.0 {
            true => 100.0 * clusters.error / clusters.power,
            false => 0.0,
        };
        let mut stored_in = String::new();
        match self.form {
            ClusterForm::Lookup => {
                let kind = case.kind(values);
                let stored = Stored::of(case, &clusters, kind).map_err(|error| failed(&case.name, error))?;
                if !stored.pays(case) {
                    left.add(
                        case.name.clone(),
                        "codes and the values that they stand for would take as much as its floats",
                        "",
                    );
                    return Ok(());
                }
                let Some(graph) = model.graph_at_mut(&case.path) else {
                    return Ok(());
                };
                stored
                    .write(&mut graph.edit(NAME), case)
                    .map_err(|error| defect(case, error))?;
                stored_in = format!(" in {}", kind.name());
            }
            ClusterForm::Float => {
                if clusters.error == 0.0 && same_bits(case, &clusters) {
                    left.add(case.name.clone(), "it has as few values already", "");
                    return Ok(());
                }
                let tensor = floats(case, &clusters).map_err(|error| failed(&case.name, error))?;
                let Some(graph) = model.graph_at_mut(&case.path) else {
                    return Ok(());
                };
                graph
                    .edit(NAME)
                    .set_constant(case.target.weight.node, tensor)
                    .map_err(|error| defect(case, error.into()))?;
            }
        }
        done.elements += case.tensor.elements();
        done.bits += case.tensor.elements() * u64::from(bits);
        done.details.push(format!(
            "{}: {values} values, {bits} bits{stored_in}, {share:.3} % of its power lost",
            case.name
        ));
        Ok(())
    }
}

/// An edit that failed is a defect of the pass.
fn defect(case: &Case, error: WeightError) -> PassError {
    match error {
        WeightError::Edit(source) => PassError::Edit { pass: NAME, source },
        other => failed(&case.name, other),
    }
}

/// The weight with the values that its elements share.
fn floats(case: &Case, clusters: &Clusters) -> Result<Tensor, WeightError> {
    let value = |code: &u8| clusters.centroids.get(usize::from(*code)).copied().unwrap_or(0.0);
    let values: Vec<f64> = clusters.codes.iter().map(value).collect();
    let tensor = Tensor::from_f64(case.tensor.dtype(), case.tensor.dims(), &values)?;
    Ok(match case.tensor.meta() {
        Some(meta) => tensor.with_meta(meta.clone()),
        None => tensor,
    })
}

/// Whether the shared values are the weight's own, to the bit.
fn same_bits(case: &Case, clusters: &Clusters) -> bool {
    floats(case, clusters).is_ok_and(|shared| shared.same_as(&case.tensor))
}
