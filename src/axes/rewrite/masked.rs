//! The reference of the oracle: the whole model, in which removed elements count for nothing.
//!
//! Every slice of a constant that the removal cuts is zero (a quantized one holds its zero point), so that rows give nothing and
//! columns take nothing. Where elements are summed without such a constant (the product of two activations, a reduction),
//! a mask is multiplied in; a mean divides by the number of kept elements; LayerNormalization and RMSNormalization are written out
//! over the kept elements.

use super::super::elements::Axis;
use super::super::rule::{Sum, SumKind};
use super::super::solve::Solution;
use super::super::units::Removal;
use super::{RewriteError, constants, tensors};
use crate::analysis::infer;
use crate::ir::{DType, Editor, Graph, Model, NodeId, Operator, Slot, Tensor, Value, ValueId};

const ORIGIN: &str = "prune-channels reference";

/// The model with removed elements masked; shapes stay.
pub fn masked(model: &Model, solution: &Solution, removal: &Removal) -> Result<Model, RewriteError> {
    let mut masked = model.clone();
    let old = &model.graph;
    let mut editor = masked.graph.edit(ORIGIN);
    for id in constants(model) {
        let value = ValueId::new(id, 0);
        let (Some(tensor), Some(axes)) = (old.constant(value), solution.axes(value)) else {
            continue;
        };
        if axes.iter().all(|axis| removal.kept(*axis).is_none()) || divides(old, value) {
            continue;
        }
        let removed: Vec<Vec<bool>> = axes
            .iter()
            .map(|axis| {
                axis.elements()
                    .map(|element| removal.is_removed(element))
                    .collect()
            })
            .collect();
        let width = tensor.dtype().bits() / 8;
        let zero = zero_point(old, value);
        let fill = |index: &[usize]| match &zero {
            None => vec![0; width],
            Some((axis, points)) => {
                let at = axis.and_then(|axis| index.get(axis)).copied().unwrap_or(0);
                let point = points.get(at).or(points.first()).copied().unwrap_or(0);
                point.to_le_bytes().get(..width).unwrap_or_default().to_vec()
            }
        };
        let name = old
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        let blanked = tensors::blank(tensor, &removed, &fill)
            .map_err(|source| RewriteError::Tensor { value: name, source })?;
        editor.set_constant(id, blanked)?;
    }
    let mut sums: Vec<&Sum> = solution.sums().iter().collect();
    sums.sort_by_key(|sum| (sum.node, sum.slot));
    for group in sums.chunk_by(|a, b| (a.node, a.slot) == (b.node, b.slot)) {
        mask(&mut editor, old, solution, removal, group)?;
    }
    drop(editor);
    infer(&mut masked);
    Ok(masked)
}

/// Whether a zero in place of the value would be divided by or be a variance.
fn divides(graph: &Graph, value: ValueId) -> bool {
    graph.uses(value).into_iter().any(|used| {
        let op_type = graph
            .operator(used.node)
            .map_or("", |operator| operator.op_type.as_str());
        let Slot::Input(slot) = used.slot else { return true };
        matches!(
            (op_type, slot),
            ("Div" | "Pow" | "Mod", 1)
                | ("QuantizeLinear" | "DequantizeLinear", 1 | 2)
                | ("QLinearConv" | "QLinearMatMul", 1 | 2 | 4..=7)
                | ("ConvInteger" | "MatMulInteger", 2 | 3)
                | ("QGemm", 1 | 2 | 4 | 5 | 7 | 8)
                | ("BatchNormalization", 4)
        )
    })
}

/// The zero point of a quantized constant, and the axis that it goes along if it is no scalar.
fn zero_point(graph: &Graph, value: ValueId) -> Option<(Option<usize>, Vec<i64>)> {
    graph.uses(value).into_iter().find_map(|used| {
        let operator = graph.operator(used.node)?;
        let Slot::Input(slot) = used.slot else { return None };
        let rank = graph.ty(value).rank()? as i64;
        let (point, axis) = match (operator.op_type.as_str(), slot) {
            ("DequantizeLinear", 0) => (2, operator.int("axis").unwrap_or(1)),
            ("QLinearConv", 3) => (5, 0),
            ("QLinearMatMul", 3) => (5, rank - 1),
            ("ConvInteger", 1) => (3, 0),
            ("MatMulInteger", 1) => (3, rank - 1),
            ("QLinearAdd" | "QLinearMul", 0) => (2, 0),
            ("QLinearAdd" | "QLinearMul", 3) => (5, 0),
            ("QGemm", 3) => (
                5,
                if operator.int("transB").unwrap_or(0) != 0 {
                    0
                } else {
                    1
                },
            ),
            _ => return None,
        };
        let points = graph.constant(graph.input(used.node, point)?)?.to_i64().ok()?;
        let axis = if axis < 0 { axis + rank } else { axis };
        let axis = (points.len() > 1).then(|| usize::try_from(axis).ok()).flatten();
        Some((axis, points))
    })
}

/// Multiplies masks into one input of a node, for every summed axis of it.
fn mask(
    editor: &mut Editor<'_>,
    old: &Graph,
    solution: &Solution,
    removal: &Removal,
    sums: &[&Sum],
) -> Result<(), RewriteError> {
    let Some(first) = sums.first() else { return Ok(()) };
    let (node, slot) = (first.node, first.slot);
    let Some(input) = old.input(node, slot) else {
        return Ok(());
    };
    let Some(axes) = solution.axes(input) else {
        return Ok(());
    };
    // What the node reads by now: its producer may have been written out already.
    let Some(current) = editor.graph().input(node, slot) else {
        return Ok(());
    };
    let cut: Vec<(usize, Axis)> = sums
        .iter()
        .filter_map(|sum| Some((sum.axis, *axes.get(sum.axis)?)))
        .filter(|(_, axis)| removal.kept(*axis).is_some())
        .collect();
    let dtype = old.ty(input).dtype();
    let Some(dtype) =
        dtype.filter(|dtype| matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16))
    else {
        return Ok(());
    };
    if cut.is_empty() {
        return Ok(());
    }
    let mut build = Build { editor, node, dtype };
    let mut masks = Vec::new();
    let mut share = 1.0;
    for (at, axis) in &cut {
        let flags: Vec<f64> = axis
            .elements()
            .map(|element| if removal.is_removed(element) { 0.0 } else { 1.0 })
            .collect();
        share *= flags.iter().sum::<f64>() / flags.len() as f64;
        let mut dims = vec![1; axes.len()];
        if let Some(dim) = dims.get_mut(*at) {
            *dim = flags.len() as u64;
        }
        masks.push(build.constant(&dims, &flags)?);
    }
    let apply = |build: &mut Build<'_, '_>, value: ValueId| {
        masks
            .iter()
            .try_fold(value, |value, mask| build.node("Mul", &[value, *mask]))
    };
    let masked = apply(&mut build, current)?;
    let result = ValueId::new(node, 0);
    match first.kind {
        SumKind::Sum => build.editor.set_input(node, slot, Some(masked))?,
        SumKind::Mean => {
            build.editor.set_input(node, slot, Some(masked))?;
            let scale = build.constant(&[], &[1.0 / share])?;
            let scaled = build.node("Mul", &[result, scale])?;
            build
                .editor
                .replace_where(result, scaled, |used| used.node != scaled.node)?;
        }
        SumKind::LayerNorm | SumKind::RmsNorm => {
            let Some(operator) = old.operator(node) else {
                return Ok(());
            };
            let rank = axes.len() as i64;
            let axis = operator.int("axis").unwrap_or(-1);
            let axis = if axis < 0 { axis + rank } else { axis };
            let epsilon = build.constant(&[], &[f64::from(operator.float("epsilon").unwrap_or(1e-5))])?;
            let scale = build.constant(&[], &[1.0 / share])?;
            let over: Vec<i64> = (axis..rank).collect();
            let centred = if first.kind == SumKind::LayerNorm {
                let mean = build.mean(masked, &over, solution.opset)?;
                let mean = build.node("Mul", &[mean, scale])?;
                let centred = build.node("Sub", &[masked, mean])?;
                apply(&mut build, centred)?
            } else {
                masked
            };
            let square = build.node("Mul", &[centred, centred])?;
            let variance = build.mean(square, &over, solution.opset)?;
            let variance = build.node("Mul", &[variance, scale])?;
            let variance = build.node("Add", &[variance, epsilon])?;
            let deviation = build.node("Sqrt", &[variance])?;
            let mut normal = build.node("Div", &[centred, deviation])?;
            for (slot, op_type) in [(1, "Mul"), (2, "Add")] {
                if let Some(parameter) = build.editor.graph().input(node, slot) {
                    normal = build.node(op_type, &[normal, parameter])?;
                }
            }
            build.editor.replace(result, normal)?;
        }
    }
    Ok(())
}

struct Build<'e, 'g> {
    editor: &'e mut Editor<'g>,
    node: NodeId,
    dtype: DType,
}

impl Build<'_, '_> {
    fn constant(&mut self, dims: &[u64], values: &[f64]) -> Result<ValueId, RewriteError> {
        let tensor = Tensor::from_f64(self.dtype, dims, values).map_err(|source| RewriteError::Tensor {
            value: "mask".to_owned(),
            source,
        })?;
        Ok(self.editor.add_constant("", tensor))
    }

    fn node(&mut self, op_type: &str, inputs: &[ValueId]) -> Result<ValueId, RewriteError> {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let node =
            self.editor
                .add_operator(self.node, Operator::new(op_type), &inputs, vec![Value::named("")])?;
        Ok(ValueId::new(node, 0))
    }

    fn mean(&mut self, value: ValueId, over: &[i64], opset: i64) -> Result<ValueId, RewriteError> {
        let (operator, inputs) = if opset >= 18 {
            let axes = self.editor.add_constant("", Tensor::vector_i64(over));
            (Operator::new("ReduceMean"), vec![Some(value), Some(axes)])
        } else {
            (
                Operator::new("ReduceMean").with("axes", over.to_vec()),
                vec![Some(value)],
            )
        };
        let node = self
            .editor
            .add_operator(self.node, operator, &inputs, vec![Value::named("")])?;
        Ok(ValueId::new(node, 0))
    }
}
