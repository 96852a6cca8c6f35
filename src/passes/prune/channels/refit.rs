//! Least-squares refit after a cut: the weights of layers are moved so that the inputs that stay make up for those that went
//! (He et al. 2017, section 3.1, in closed form from second moments alone).
//!
//! A layer with weights `W` read the rows `x`; in the cut model a layer with weights `V` reads the rows `y` in their place. `V` gets
//! `(W C[x,y] - V C[y,y]) (C[y,y] + λ diag(C[y,y]))⁻¹` added, and the bias `W μ_x - (V + ΔV) μ_y` more than it had with all inputs.
//! `λ` shrinks correlations as far as the number of samples asks, and pulls towards the cut weights, not towards zero: what few
//! samples say moves little.
//!
//! At once, `y` are the inputs of the original that stay: the second moments of the original are all it takes, and only layers that
//! lost inputs are refitted. One by one, `y` are what the cut model, refitted up to there, really feeds the layer: the error that came
//! down from the layers before is made up for, too, and every layer takes part.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array1, Array2, Axis as Along};

use super::evidence::{Evidence, damp};
use super::options::RefitOrder as Order;
use crate::axes::{Removal, Solution};
use crate::ir::{DType, EditError, Editor, Graph, Model, NodeId, Tensor, TensorError};
use crate::linalg::{Cholesky, LinalgError};
use crate::passes::prune::bias::{Bias, LayerError};
use crate::passes::{Context, PassError, PassReport, ResourceError};
use crate::statistics::gram::{self, GramOptions, Layer};
use crate::transfer::region::extract;

const NAME: &str = "prune-channels";

/// What can go wrong with one layer.
#[derive(Debug, thiserror::Error)]
enum RefitError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Moments(#[from] LinalgError),
}

impl From<LayerError> for RefitError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Edit(error) => Self::Edit(error),
            LayerError::Tensor(error) => Self::Tensor(error),
        }
    }
}

/// A layer of the original that the cut model has, too.
struct Kept {
    layer: Layer,
    /// Input channels that stay; `None` if all do.
    stay: Option<Vec<usize>>,
    /// Output channels that stay.
    outputs: Vec<usize>,
}

impl Kept {
    /// The columns of the input channels that stay.
    fn columns(&self) -> Vec<usize> {
        let taps = self.layer.taps();
        match &self.stay {
            None => (0..self.layer.columns).collect(),
            Some(stay) => stay
                .iter()
                .flat_map(|channel| channel * taps..(channel + 1) * taps)
                .collect(),
        }
    }
}

/// What a refit takes: moments of the rows `x` of the original and of the rows `y` in their place.
struct Fit {
    /// `C[x,y]` and `C[y,y]`: covariances, or second moments where the layer has no bias to move.
    cross: Array2<f64>,
    own: Array2<f64>,
    mean: Array1<f64>,
    own_mean: Array1<f64>,
    shrinkage: f64,
}

/// Refits the layers of `cut`, which is `model` without what `removal` names.
pub(super) fn refit(
    model: &Model,
    cut: &mut Model,
    (solution, removal): (&Solution, &Removal),
    evidence: &Evidence,
    (order, role): (Order, &str),
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let kept = kept(&model.graph, solution, removal, evidence, report);
    let refitted = match order {
        Order::AtOnce => at_once(model, cut, &kept, evidence, report)?,
        Order::OneByOne => one_by_one(model, cut, &kept, evidence, role, context, report)?,
    };
    report.add("layer refitted", refitted);
    Ok(())
}

/// Refits the layers that lost inputs to what the original says of the inputs that stay.
fn at_once(
    model: &Model,
    cut: &mut Model,
    kept: &[Kept],
    evidence: &Evidence,
    report: &mut PassReport,
) -> Result<u64, PassError> {
    let mut editor = cut.graph.edit(NAME);
    let mut refitted = 0;
    for one in kept.iter().filter(|one| one.stay.is_some()) {
        let Some(moments) = evidence.moments(&one.layer) else {
            leave(report, &one.layer, "no rows reach it");
            continue;
        };
        let columns = one.columns();
        let place = Bias::of(editor.graph(), &one.layer, one.outputs.len());
        let covariance = moments.covariance();
        let shrinkage = evidence.shrinkage(moments.rows, &covariance);
        let second = match place {
            Bias::Nowhere => moments.second_moment(),
            _ => covariance,
        };
        let cross = second.select(Along(1), &columns);
        let mean = moments.mean();
        let fit = Fit {
            own: cross.select(Along(0), &columns),
            cross,
            own_mean: mean.select(Along(0), &columns),
            mean,
            shrinkage,
        };
        match adjust(&mut editor, &model.graph, one, &place, &fit) {
            Ok(()) => refitted += 1,
            Err(error) => failed(report, &one.layer, error)?,
        }
    }
    Ok(refitted)
}

/// Refits every layer in the order of the graph to what the model, cut and refitted so far, feeds it. Layers that do not depend on
/// each other share a pass over the data. Layers of one chain cannot: each would make up for the same error.
fn one_by_one(
    model: &Model,
    cut: &mut Model,
    kept: &[Kept],
    evidence: &Evidence,
    role: &str,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<u64, PassError> {
    let resources = context.resources(NAME, "refit needs data and an engine")?;
    let data = resources.data(role, &model.graph).map_err(resource)?;
    let engine = resources.engine().map_err(resource)?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let now: BTreeMap<NodeId, Layer> = gram::layers(&cut.graph)
        .0
        .into_iter()
        .map(|layer| (layer.node, layer))
        .collect();
    let mut levels: BTreeMap<usize, Vec<(&Kept, &Layer)>> = BTreeMap::new();
    let level = levels_of(&cut.graph, |node| now.contains_key(&node));
    for one in kept {
        let layer = now
            .get(&one.layer.node)
            .filter(|layer| layer.weight == one.layer.weight && layer.columns == one.columns().len());
        match (layer, evidence.moments(&one.layer)) {
            (Some(layer), Some(_)) => {
                let at = level.get(&layer.node).copied().unwrap_or(0);
                levels.entry(at).or_default().push((one, layer));
            }
            _ if one.stay.is_some() => leave(report, &one.layer, "no rows reach it"),
            _ => {}
        }
    }
    let mut refitted = 0;
    let count = levels.len();
    for (stage, chunk) in levels.into_values().enumerate() {
        let layers: Vec<(Layer, Layer)> = chunk
            .iter()
            .map(|(one, layer)| (one.layer.clone(), (*layer).clone()))
            .collect();
        let progress = |done: u64| {
            let what = format!("refit, stage {} of {count}", stage + 1);
            (context.progress)(&what, done.saturating_sub(samples.start), Some(total));
        };
        let before = |model: &Model, layers: Vec<&Layer>| {
            let names: BTreeSet<&str> = layers.iter().map(|layer| layer.input_name()).collect();
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            // What cannot be cut out is run as a whole, so that the data fits.
            extract(model, &[], &names)
                .ok()
                .filter(|part| part.graph.inputs().len() == model.graph.inputs().len())
                .unwrap_or_else(|| model.clone())
        };
        let parts = (
            before(model, layers.iter().map(|(layer, _)| layer).collect()),
            before(cut, layers.iter().map(|(_, layer)| layer).collect()),
        );
        let options = GramOptions::default();
        let jobs = resources.jobs();
        let moments = gram::collect_cross(
            (&parts.0, &parts.1),
            &layers,
            options,
            &data,
            engine,
            jobs,
            &progress,
        )
        .map_err(resource)?;
        let mut editor = cut.graph.edit(NAME);
        for ((one, _), moments) in chunk.iter().zip(&moments) {
            let place = Bias::of(editor.graph(), &one.layer, one.outputs.len());
            let own = moments.own.covariance();
            let shrinkage = evidence.shrinkage(moments.own.rows, &own);
            let (cross, own) = match place {
                Bias::Nowhere => (moments.second_moment(), moments.own.second_moment()),
                _ => (moments.covariance(), own),
            };
            let fit = Fit {
                cross,
                own,
                mean: moments.mean(),
                own_mean: moments.own.mean(),
                shrinkage,
            };
            match adjust(&mut editor, &model.graph, one, &place, &fit) {
                Ok(()) => refitted += 1,
                Err(error) => failed(report, &one.layer, error)?,
            }
        }
    }
    Ok(refitted)
}

/// For each chosen node how many chosen nodes there are on the longest way to it.
fn levels_of(graph: &Graph, chosen: impl Fn(NodeId) -> bool) -> BTreeMap<NodeId, usize> {
    let mut levels: BTreeMap<NodeId, usize> = BTreeMap::new();
    for id in graph.topological_order() {
        let reads = graph
            .inputs_of(id)
            .into_iter()
            .flatten()
            .chain(graph.captures_of(id).into_iter().flatten());
        let before = reads
            .filter_map(|value| Some(levels.get(&value.node)? + usize::from(chosen(value.node))))
            .max();
        levels.insert(id, before.unwrap_or(0));
    }
    levels
}

fn leave(report: &mut PassReport, layer: &Layer, reason: &str) {
    report
        .notes
        .push(format!("{} is not refitted: {reason}", layer.label));
}

fn failed(report: &mut PassReport, layer: &Layer, error: RefitError) -> Result<(), PassError> {
    match error {
        RefitError::Edit(source) => Err(PassError::Edit { pass: NAME, source }),
        other => {
            leave(report, layer, &other.to_string());
            Ok(())
        }
    }
}

/// The layers that can be refitted, with the reasons of those that lost inputs and cannot.
fn kept(
    graph: &Graph,
    solution: &Solution,
    removal: &Removal,
    evidence: &Evidence,
    report: &mut PassReport,
) -> Vec<Kept> {
    let mut found = Vec::new();
    for layer in evidence.layers() {
        let axes = solution.axes(layer.weight).unwrap_or_default();
        let output = layer.output_axis();
        let kept = |axis: usize| -> Option<Vec<usize>> {
            let kept = axes.get(axis).and_then(|axis| removal.kept(*axis))?;
            Some(kept.into_iter().map(|at| at as usize).collect())
        };
        let stay = kept(1 - output.min(1));
        let reason = match (layer.groups, graph.uses(layer.weight).len()) {
            (1, 1) => None,
            (1, _) => Some("its weight has other readers"),
            _ => Some("its groups lost inputs one by one"),
        };
        match reason {
            Some(reason) if stay.is_some() => leave(report, layer, reason),
            Some(_) => {}
            None => found.push(Kept {
                outputs: kept(output).unwrap_or_else(|| (0..layer.outputs).collect()),
                layer: layer.clone(),
                stay,
            }),
        }
    }
    found
}

/// Moves the weights and the bias of a layer of the cut model; `original` has the layer with all its inputs.
fn adjust(
    editor: &mut Editor<'_>,
    original: &Graph,
    kept: &Kept,
    place: &Bias,
    fit: &Fit,
) -> Result<(), RefitError> {
    let layer = &kept.layer;
    let missing = || TensorError::Type {
        expected: "a float weight",
        found: DType::F32,
    };
    let tensor = original.constant(layer.weight).ok_or_else(missing)?;
    let target = editor.graph().constant(layer.weight).ok_or_else(missing)?.clone();
    let whole = layer.matrices(tensor)?;
    let weights = whole.index_axis(Along(0), 0).select(Along(0), &kept.outputs);
    let cut = weights.select(Along(1), &kept.columns());
    // [y, outputs]
    let error = fit.cross.t().dot(&weights.t()) - fit.own.dot(&cut.t());
    let mut own = fit.own.clone();
    damp(&mut own, fit.shrinkage);
    let change = Cholesky::new(own)?.solve(error.view())?;
    let fitted: Array2<f64> = cut + change.t();
    if fitted.iter().any(|value| !value.is_finite()) || fitted.len() as u64 != target.elements() {
        return Err(missing().into());
    }
    let flat: Vec<f64> = match layer.output_axis() {
        0 => fitted.iter().copied().collect(),
        _ => fitted.t().iter().copied().collect(),
    };
    let fresh = Tensor::from_f64(target.dtype(), target.dims(), &flat)?;
    let shift = weights.dot(&fit.mean) - fitted.dot(&fit.own_mean);
    if !matches!(place, Bias::Nowhere) {
        let name = original
            .value(layer.weight)
            .map(|value| format!("{}_bias", value.name));
        place.add(
            editor,
            layer.node,
            &shift.to_vec(),
            (target.dtype(), &name.unwrap_or_default()),
        )?;
    }
    editor.set_constant(layer.weight.node, fresh)?;
    Ok(())
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
