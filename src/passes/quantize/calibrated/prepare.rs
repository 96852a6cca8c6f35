//! Products as the plan wants them: Gemm in the plain form, weights and biases that are stored in half precision as float constants.

use super::NAME;
use crate::analysis::linear;
use crate::ir::{DType, GraphPath, Model, Name, NodeId, Tensor, ValueId};
use crate::passes::layer_patterns::layer_names;
use crate::passes::quantize::plain_gemm::{GemmError, plain_products};
use crate::passes::{Context, PassError};

/// Changes products of the main graph that no pattern protects. Answers whether it changed any.
pub(super) fn products(model: &mut Model, context: &Context<'_>) -> Result<bool, PassError> {
    let failed = |error: GemmError| match error {
        GemmError::Edit(source) => PassError::Edit { pass: NAME, source },
        GemmError::Tensor(source) => PassError::resource(NAME, source),
    };
    let widened = widen(model, context).map_err(failed)?;
    let keeps = |graph: &crate::ir::Graph, node: NodeId| {
        layer_names(graph, node, false)
            .iter()
            .any(|name| context.keeps(name))
    };
    let plain = plain_products(&mut model.graph, NAME, &keeps).map_err(failed)?;
    Ok(widened + plain > 0)
}

/// Float constants in place of what a Cast makes of ones in half precision, where products alone read those.
fn widen(model: &mut Model, context: &Context<'_>) -> Result<u64, GemmError> {
    let mut found: Vec<(NodeId, usize, ValueId)> = Vec::new();
    let graph = &model.graph;
    for node in graph.topological_order() {
        let Some(operator) = graph.operator(node) else {
            continue;
        };
        let product = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
            .iter()
            .any(|name| operator.is(name));
        if !product
            || layer_names(graph, node, false)
                .iter()
                .any(|name| context.keeps(name))
        {
            continue;
        }
        for slot in [1, 2] {
            let cast = graph
                .input(node, slot)
                .filter(|value| graph.ty(*value).dtype() == Some(DType::F32))
                .and_then(|value| linear::origin(model, &GraphPath::MAIN, value))
                .filter(|origin| origin.cast && origin.axes.iter().copied().eq(0..origin.axes.len()));
            found.extend(cast.map(|origin| (node, slot, origin.value)));
        }
    }
    let readers = |value: ValueId| found.iter().filter(|(_, _, other)| *other == value).count();
    let alone: Vec<(NodeId, usize, ValueId)> = found
        .iter()
        .copied()
        .filter(|(_, slot, value)| {
            let readings = linear::readings(graph, *value);
            // A bias is no weight: it has one reader, in its slot.
            let all = readings.weights.len() + readings.others.len();
            all == readers(*value) && (*slot == 1 || all == 1)
        })
        .collect();
    let mut count = 0;
    for (node, slot, value) in alone {
        let graph = &mut model.graph;
        let Some(tensor) = graph.constant(value).cloned() else {
            continue;
        };
        let name = graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        let before = graph.input(node, slot);
        let shared = before.map_or(0, |before| graph.use_count(before));
        let mut editor = graph.edit(NAME);
        let wide = Tensor::from_slice(tensor.dims(), &tensor.to_f32()?)?;
        let fresh = editor.add_constant(Name::from(format!("{name}_float")), wide);
        // Every reader of one Cast reads the one constant.
        match before {
            Some(before) if shared > 1 => editor.replace(before, fresh)?,
            _ => editor.set_input(node, slot, Some(fresh))?,
        }
        if let Some(before) = before {
            editor.remove_unused(before.node);
        }
        count += 1;
    }
    Ok(count)
}
