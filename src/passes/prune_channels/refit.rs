//! Least-squares refit after a cut: the weights of each layer that lost inputs are moved so that the inputs that stay make up
//! for those that went (He et al. 2017, section 3.1, in closed form from second moments alone).
//!
//! With `C` the covariance of the rows that a layer reads, `S` the columns that stay and `R` those that went, the weights of the
//! columns that stay get `W_R C[R,S] (C[S,S] + λI)⁻¹` added, and the bias `W_R μ_R` less what the change adds on average. The ridge
//! `λ` shrinks the covariance as far as the number of samples asks, and pulls towards the cut weights, not towards zero: what few
//! samples say moves little.

use ndarray::{Array1, Array2, Axis as Along, s};

use super::evidence::Evidence;
use crate::axes::{Removal, Solution};
use crate::ir::{EditError, Editor, Graph, Model, NodeId, Tensor, TensorError, ValueId};
use crate::linalg::{Cholesky, LinalgError};
use crate::passes::{PassError, PassReport};
use crate::statistics::gram::{Gram, Layer};

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

/// A layer that lost inputs.
struct Lost {
    layer: Layer,
    /// Input channels that stay and that went.
    stay: Vec<usize>,
    went: Vec<usize>,
    /// Output channels that stay.
    outputs: Vec<usize>,
}

impl Lost {
    fn columns(&self, channels: &[usize]) -> Vec<usize> {
        let taps = self.layer.taps();
        channels
            .iter()
            .flat_map(|channel| channel * taps..(channel + 1) * taps)
            .collect()
    }
}

/// Refits the layers of `cut`, which is `model` without what `removal` names, to the calibration data.
pub(super) fn refit(
    model: &Model,
    cut: &mut Model,
    (solution, removal): (&Solution, &Removal),
    evidence: &Evidence,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let lost = lost(&model.graph, solution, removal, evidence, report);
    let mut editor = cut.graph.edit(NAME);
    let mut refitted = 0;
    for one in &lost {
        let Some(moments) = evidence.moments(&one.layer) else {
            report
                .notes
                .push(format!("{} is not refitted: no rows reach it", one.layer.label));
            continue;
        };
        let damping = evidence.damping(moments, &moments.covariance());
        match adjust(&mut editor, &model.graph, one, moments, damping) {
            Ok(()) => refitted += 1,
            Err(RefitError::Edit(source)) => return Err(PassError::Edit { pass: NAME, source }),
            Err(other) => report
                .notes
                .push(format!("{} is not refitted: {other}", one.layer.label)),
        }
    }
    report.add("layer refitted", refitted);
    Ok(())
}

/// Layers whose inputs went in part, with the reasons of those that cannot be refitted.
fn lost(
    graph: &Graph,
    solution: &Solution,
    removal: &Removal,
    evidence: &Evidence,
    report: &mut PassReport,
) -> Vec<Lost> {
    let mut found = Vec::new();
    for layer in evidence.layers() {
        let axes = solution.axes(layer.weight).unwrap_or_default();
        let output = layer.output_axis();
        let kept = |axis: usize| axes.get(axis).and_then(|axis| removal.kept(*axis));
        let Some(stay) = kept(1 - output.min(1)) else {
            continue;
        };
        let mut leave = |reason: &str| {
            report
                .notes
                .push(format!("{} is not refitted: {reason}", layer.label));
        };
        if layer.groups != 1 {
            leave("its groups lost inputs one by one");
            continue;
        }
        if graph.uses(layer.weight).len() != 1 {
            leave("its weight has other readers");
            continue;
        }
        let stay: Vec<usize> = stay.into_iter().map(|at| at as usize).collect();
        let went = (0..layer.channels)
            .filter(|at| stay.binary_search(at).is_err())
            .collect();
        let outputs = match kept(output) {
            Some(outputs) => outputs.into_iter().map(|at| at as usize).collect(),
            None => (0..layer.outputs).collect(),
        };
        found.push(Lost {
            layer: layer.clone(),
            stay,
            went,
            outputs,
        });
    }
    found
}

/// Where the layer's mean error can go.
enum Bias {
    /// A constant that only this layer reads.
    Constant(NodeId),
    /// None yet: the operator takes one.
    Missing(usize),
    /// Nowhere: what the layer puts out is fitted as it is, means included.
    Nowhere,
}

fn bias(graph: &Graph, layer: &Layer, outputs: usize) -> Bias {
    let Some(slot) = layer.bias_slot else {
        return Bias::Nowhere;
    };
    let gemm = graph
        .operator(layer.node)
        .is_some_and(|operator| operator.is("Gemm"));
    let factor = |name: &str| {
        let operator = graph.operator(layer.node);
        operator.and_then(|operator| operator.float(name)).unwrap_or(1.0)
    };
    if gemm && (factor("alpha") != 1.0 || factor("beta") != 1.0) {
        return Bias::Nowhere;
    }
    match graph.input(layer.node, slot) {
        None => Bias::Missing(slot),
        Some(value) => {
            let fits = graph.constant(value).is_some_and(|tensor| {
                tensor.dtype().is_float()
                    && tensor.elements() == outputs as u64
                    && tensor.dims().last() == Some(&(outputs as u64))
            });
            let own = graph.uses(value).len() == 1;
            match fits && own {
                true => Bias::Constant(value.node),
                false => Bias::Nowhere,
            }
        }
    }
}

fn adjust(
    editor: &mut Editor<'_>,
    original: &Graph,
    lost: &Lost,
    moments: &Gram,
    damping: f64,
) -> Result<(), RefitError> {
    let layer = &lost.layer;
    let missing = || TensorError::Type {
        expected: "a float weight",
        found: crate::ir::DType::F32,
    };
    let tensor = original.constant(layer.weight).ok_or_else(missing)?;
    let target = editor.graph().constant(layer.weight).ok_or_else(missing)?.clone();
    let whole = layer.matrices(tensor)?;
    let weights = whole.index_axis(Along(0), 0).select(Along(0), &lost.outputs);
    let (stay, went) = (lost.columns(&lost.stay), lost.columns(&lost.went));
    let place = bias(editor.graph(), layer, lost.outputs.len());
    let second = match place {
        Bias::Nowhere => moments.second_moment(),
        _ => moments.covariance(),
    };
    let rows = second.select(Along(0), &stay);
    let factor = Cholesky::damped(rows.select(Along(1), &stay), damping)?;
    let removed = weights.select(Along(1), &went);
    // [stay, outputs]
    let change = factor.solve(rows.select(Along(1), &went).dot(&removed.t()).view())?;
    let fitted: Array2<f64> = weights.select(Along(1), &stay) + change.t();
    if fitted.iter().any(|value| !value.is_finite()) || fitted.len() as u64 != target.elements() {
        return Err(missing().into());
    }
    let flat: Vec<f64> = match layer.output_axis() {
        0 => fitted.iter().copied().collect(),
        _ => fitted.t().iter().copied().collect(),
    };
    let fresh = Tensor::from_f64(target.dtype(), target.dims(), &flat)?;
    let mean = moments.mean();
    let pick = |columns: &[usize]| -> Array1<f64> { columns.iter().map(|at| mean[*at]).collect() };
    let shift = removed.dot(&pick(&went)) - change.t().dot(&pick(&stay));
    match place {
        Bias::Nowhere => {}
        Bias::Constant(id) => {
            let value = ValueId::new(id, 0);
            let old = editor.graph().constant(value).ok_or_else(missing)?.clone();
            let moved: Vec<f64> = old.to_f64()?.iter().zip(&shift).map(|(a, b)| a + b).collect();
            editor.set_constant(id, Tensor::from_f64(old.dtype(), old.dims(), &moved)?)?;
        }
        Bias::Missing(slot) => {
            let dims = [lost.outputs.len() as u64];
            let tensor = Tensor::from_f64(target.dtype(), &dims, &shift.slice(s![..]).to_vec())?;
            let name = original
                .value(layer.weight)
                .map(|value| format!("{}_bias", value.name))
                .unwrap_or_default();
            let added = editor.add_constant(name, tensor);
            editor.set_input(layer.node, slot, Some(added))?;
        }
    }
    editor.set_constant(layer.weight.node, fresh)?;
    Ok(())
}
