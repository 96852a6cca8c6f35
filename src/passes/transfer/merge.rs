//! The pass `transfer-merge`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis;
use crate::axes::solve;
use crate::ir::{EditError, Graph, Model, NodeId, Tensor, TensorError, ValueId};
use crate::passes::simplify::InlineFunctions;
use crate::passes::train::growth::{option, same};
use crate::passes::{
    About, Change, Context, Needs, Pass, PassError, PassReport, ResourceError, Resources, Safety, prepare,
};
use crate::transfer::merge::{MergeMethod, linear, slerp, task_arithmetic, threshold, ties};
use crate::transfer::pairing::pair;
use crate::transfer::permutation::align;

const NAME: &str = "transfer-merge";

/// Merges the weights of models that have the same graph: copies of one model trained apart.
///
/// The graph, and everything but the weights, is that of the first model. Nodes correspond by their order, or by the names of their
/// results; names of weights do not matter. Models whose graphs differ are refused with the first node that does, and so are constants
/// that differ and are no floats. With `align`, channels, neurons and hidden units of the other models are first put in the order
/// that makes their weights most alike to the first model's, which does not change what those models compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TransferMerge {
    /// The other models.
    #[schemars(extend("x-file" = "read"))]
    pub with: Vec<PathBuf>,
    /// How weights are merged.
    pub method: MergeMethod,
    /// What each model counts, the first one first; all the same by default. `linear` and `slerp` divide by their sum.
    pub weights: Vec<f64>,
    /// The model that all were trained from, for `task-arithmetic` and `ties`.
    #[schemars(extend("x-file" = "read"))]
    pub base: Option<PathBuf>,
    /// What the merged differences from the base are multiplied with.
    pub scale: f64,
    /// Share of the differences of each model that `ties` keeps: the largest.
    pub density: f64,
    /// Put the units of the other models in the order of the first one's.
    pub align: bool,
}

impl Default for TransferMerge {
    fn default() -> Self {
        Self {
            with: Vec::new(),
            method: MergeMethod::default(),
            weights: Vec::new(),
            base: None,
            scale: 1.0,
            density: 0.2,
            align: false,
        }
    }
}

/// Weights of a model by the constants of the first one that they correspond to.
type Weights = BTreeMap<NodeId, Tensor>;

impl Pass for TransferMerge {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::SOURCE)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        self.check_options()?;
        let resources = context.resources(NAME, "there is nothing to read the other models with")?;
        let mut report = self.prepared(model, context)?;
        let mut others = Vec::with_capacity(self.with.len());
        for path in &self.with {
            others.push(self.read(path, model, resources, context)?);
        }
        let base = match &self.base {
            Some(path) => Some(self.read(path, model, resources, context)?),
            None => None,
        };
        if self.align {
            self.align(model, &mut others, context, &mut report)?;
        }
        self.merge(model, &others, base.as_ref(), &mut report)?;
        Ok(report)
    }
}

fn broken(graph: &Graph, id: NodeId) -> impl Fn(TensorError) -> PassError {
    let node = name(graph, id);
    move |source| PassError::Model {
        pass: NAME,
        node: node.clone(),
        message: source.to_string(),
    }
}

fn name(graph: &Graph, id: NodeId) -> String {
    graph
        .value(ValueId::new(id, 0))
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

impl TransferMerge {
    fn check_options(&self) -> Result<(), PassError> {
        let wrong = |message: String| Err(option(NAME, message));
        let count = self.with.len() + 1;
        if count < 2 {
            return wrong("with: there is no other model".to_owned());
        }
        if !self.weights.is_empty() && self.weights.len() != count {
            return wrong(format!(
                "weights: {} numbers for {count} models",
                self.weights.len()
            ));
        }
        if let Some(weight) = self.weights.iter().find(|weight| !weight.is_finite()) {
            return wrong(format!("weights: {weight} is no weight"));
        }
        let means = matches!(self.method, MergeMethod::Linear | MergeMethod::Slerp);
        if means && self.shares(count).iter().sum::<f64>().abs() < 1e-9 {
            return wrong("weights: they are divided by their sum, which is 0".to_owned());
        }
        if self.method == MergeMethod::Slerp && count != 2 {
            return wrong(format!(
                "method: slerp is between 2 models, and there are {count}"
            ));
        }
        match (means, &self.base) {
            (false, None) => return wrong("base: the model that all were trained from is needed".to_owned()),
            (true, Some(_)) => return wrong("base: only task-arithmetic and ties take one".to_owned()),
            _ => {}
        }
        if !self.scale.is_finite() {
            return wrong(format!("scale: {} is no factor", self.scale));
        }
        if !(self.density > 0.0 && self.density <= 1.0) {
            return wrong(format!("density: {} is not in 0 to 1", self.density));
        }
        Ok(())
    }

    fn shares(&self, count: usize) -> Vec<f64> {
        match self.weights.is_empty() {
            true => vec![1.0; count],
            false => self.weights.clone(),
        }
    }

    /// Functions are written out, so that their weights are among the others; the solver wants shape arithmetic folded.
    fn prepared(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        if !model.functions.is_empty() {
            report.merge(InlineFunctions::default().run(model, context)?);
        }
        if self.align {
            report.merge(prepare::fold(model, context)?);
        }
        analysis::infer(model);
        Ok(report)
    }

    fn read(
        &self,
        path: &Path,
        model: &Model,
        resources: &dyn Resources,
        context: &Context<'_>,
    ) -> Result<Weights, PassError> {
        let mut other = resources.model(path).map_err(resource)?;
        self.prepared(&mut other, context)?;
        if model.opset() != other.opset() {
            let version = |model: &Model| {
                model
                    .opset()
                    .map_or("none".to_owned(), |version| version.to_string())
            };
            return Err(resource(format!(
                "{}: its opset is {}, and that of the first model {}; `convert-opset` makes them one",
                path.display(),
                version(&other),
                version(model)
            )));
        }
        let pairs = pair(&model.graph, &other.graph)
            .map_err(|error| resource(format!("{}: it has another graph: {error}", path.display())))?;
        let mut weights = Weights::new();
        for (id, counterpart) in pairs {
            let (Some(mine), Some(theirs)) = (
                model.graph.constant(ValueId::new(id, 0)),
                other.graph.constant(ValueId::new(counterpart, 0)),
            ) else {
                continue;
            };
            if mine.dtype().is_float() && !mine.dtype().is_packed() && mine.to_f64().is_ok() {
                weights.insert(id, theirs.clone());
            } else if !mine.same_as(theirs) {
                return Err(resource(format!(
                    "{}: {} holds {} and differs from {}; only floats are merged",
                    path.display(),
                    name(&other.graph, counterpart),
                    theirs.dtype(),
                    name(&model.graph, id)
                )));
            }
        }
        Ok(weights)
    }

    fn align(
        &self,
        model: &Model,
        others: &mut [Weights],
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let solution = solve(model);
        for (weights, path) in others.iter_mut().zip(&self.with) {
            let aligned = align(model, &solution, weights)
                .map_err(|source| resource(format!("{}: {source}", path.display())))?;
            let details: Vec<String> = aligned
                .moved
                .iter()
                .map(|(first, count)| format!("{}: {count} units of {first}", path.display()))
                .collect();
            if !details.is_empty() {
                // Reordering must not change what the model computes: the rules that say so are checked on numbers.
                let before = with_weights(model, weights)?;
                let after = with_weights(model, &aligned.tensors)?;
                same(NAME, &before, &after, context, report)?;
            }
            for (first, reason) in aligned.left {
                let note = format!("units of {first} are not put in order: {reason}");
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
            }
            report.changes.push(Change {
                rule: "units put in order".to_owned(),
                count: aligned.moved.iter().map(|(_, count)| *count as u64).sum(),
                details,
            });
            *weights = aligned.tensors;
        }
        Ok(())
    }

    fn merge(
        &self,
        model: &mut Model,
        others: &[Weights],
        base: Option<&Weights>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let shares = self.shares(others.len() + 1);
        let ids: Vec<NodeId> = match others.first() {
            Some(first) => first.keys().copied().collect(),
            None => Vec::new(),
        };
        let thresholds = match (self.method, base) {
            (MergeMethod::Ties, Some(base)) => self.thresholds(model, others, base)?,
            _ => Vec::new(),
        };
        let mut merged = Vec::new();
        let (mut elements, mut equal) = (0u64, 0u64);
        for id in ids {
            let graph = &model.graph;
            let Some(own) = graph.constant(ValueId::new(id, 0)) else {
                continue;
            };
            let tensors: Vec<&Tensor> = std::iter::once(own)
                .chain(others.iter().filter_map(|weights| weights.get(&id)))
                .collect();
            let start = base.and_then(|weights| weights.get(&id));
            if tensors
                .iter()
                .copied()
                .chain(start)
                .all(|tensor| tensor.same_as(own))
            {
                equal += 1;
                continue;
            }
            let failed = broken(graph, id);
            let values: Vec<Vec<f64>> = tensors
                .iter()
                .map(|tensor| tensor.to_f64())
                .collect::<Result<_, _>>()
                .map_err(&failed)?;
            let start = start
                .map(Tensor::to_f64)
                .transpose()
                .map_err(&failed)?
                .unwrap_or_default();
            let result = match (self.method, values.as_slice()) {
                (MergeMethod::Slerp, [a, b]) => {
                    let sum: f64 = shares.iter().sum();
                    slerp(a, b, shares.get(1).copied().unwrap_or(0.5 * sum) / sum)
                }
                (MergeMethod::TaskArithmetic, values) => task_arithmetic(&start, values, &shares, self.scale),
                (MergeMethod::Ties, values) => ties(&start, values, &shares, &thresholds, self.scale),
                (_, values) => linear(values, &shares),
            };
            elements += own.elements();
            let tensor = Tensor::from_f64(own.dtype(), own.dims(), &result).map_err(&failed)?;
            if !tensor.same_as(own) {
                merged.push((id, tensor));
            }
        }
        let count = merged.len() as u64;
        let edit = |source: EditError| PassError::Edit { pass: NAME, source };
        let mut editor = model.graph.edit(NAME);
        for (id, tensor) in merged {
            editor.set_constant(id, tensor).map_err(edit)?;
        }
        drop(editor);
        analysis::infer(model);
        report.changed |= count > 0;
        report.changes.push(Change {
            rule: "weight merged".to_owned(),
            count,
            details: vec![format!(
                "{elements} elements of {} models; {equal} constants are the same in all",
                shares.len()
            )],
        });
        Ok(())
    }

    /// For each model the size that its differences from the base need.
    fn thresholds(&self, model: &Model, others: &[Weights], base: &Weights) -> Result<Vec<f64>, PassError> {
        let mut thresholds = Vec::with_capacity(others.len() + 1);
        for number in 0..=others.len() {
            let mut sizes: Vec<f32> = Vec::new();
            for (id, start) in base {
                let own = model.graph.constant(ValueId::new(*id, 0));
                let tensor = match number.checked_sub(1) {
                    None => own,
                    Some(other) => others.get(other).and_then(|weights| weights.get(id)),
                };
                let Some(tensor) = tensor.filter(|tensor| !tensor.same_as(start)) else {
                    // Constants that nobody trains are no part of the share.
                    continue;
                };
                let failed = broken(&model.graph, *id);
                let (values, start) = (
                    tensor.to_f64().map_err(&failed)?,
                    start.to_f64().map_err(&failed)?,
                );
                sizes.extend(
                    values
                        .iter()
                        .zip(&start)
                        .map(|(value, start)| (value - start).abs() as f32),
                );
            }
            thresholds.push(threshold(&mut sizes, self.density));
        }
        Ok(thresholds)
    }
}

/// The model with other weights.
fn with_weights(model: &Model, weights: &Weights) -> Result<Model, PassError> {
    let mut other = model.clone();
    let mut editor = other.graph.edit(NAME);
    for (id, tensor) in weights {
        editor
            .set_constant(*id, tensor.clone())
            .map_err(|source| PassError::Edit { pass: NAME, source })?;
    }
    drop(editor);
    analysis::infer(&mut other);
    Ok(other)
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
