//! Biases that make up for the mean error of rounded weights: `b + alpha * (W - Ŵ) mean(x)` (Nagel et al. 2019, section 4.2, with
//! means from data).

use ndarray::{Array3, Axis};

use super::rounding::Rows;
use super::target::WeightTarget;
use super::{WeightError, suffixed};
use crate::ir::{DType, Editor, Graph, NodeId, NodeKind, Tensor, ValueId};

/// The slot of the bias in Conv and Gemm.
const SLOT: usize = 2;

/// Where the mean error of one reader of a weight goes.
pub(in crate::passes::quantize) struct Place {
    node: NodeId,
    bias: Option<ValueId>,
    values: Vec<f64>,
    /// What the operator multiplies the product with.
    alpha: f64,
}

/// The biases of all readers of a weight; `None` if one of them cannot have one.
pub(in crate::passes::quantize) fn places(graph: &Graph, target: &WeightTarget) -> Option<Vec<Place>> {
    target
        .readers
        .iter()
        .map(|reader| {
            let direct = reader.straight && reader.operand.slot == 1;
            place(graph, reader.node, target).filter(|_| direct)
        })
        .collect()
}

fn place(graph: &Graph, node: NodeId, target: &WeightTarget) -> Option<Place> {
    let operator = graph.operator(node)?;
    let alpha = match &*operator.op_type {
        "Conv" => 1.0,
        "Gemm" if operator.float("beta").unwrap_or(1.0) == 1.0 => operator.float("alpha").unwrap_or(1.0),
        _ => return None,
    };
    let channels = *graph.constant(target.weight)?.dims().get(target.channel_axis)?;
    let bias = graph.input(node, SLOT);
    let values = match bias {
        None => vec![0.0; channels as usize],
        Some(value) => {
            let own = matches!(
                graph.get(value.node).map(|node| &node.kind),
                Some(NodeKind::Constant(_))
            );
            let tensor = graph.constant(value).filter(|_| own)?;
            if tensor.dtype() != DType::F32 || tensor.dims() != [channels] {
                return None;
            }
            tensor.to_f64().ok()?
        }
    };
    Some(Place {
        node,
        bias,
        values,
        alpha: f64::from(alpha),
    })
}

/// Moves the biases by the mean of what the readers lose through `apart`, `[groups, outputs, columns]`. Answers how many moved.
pub(super) fn correct(
    editor: &mut Editor<'_>,
    places: &[Place],
    rows: &Rows<'_>,
    apart: &Array3<f64>,
) -> Result<u64, WeightError> {
    let mut corrected = 0;
    for place in places {
        let Some((_, means)) = rows.means.iter().find(|(node, _)| *node == place.node) else {
            continue;
        };
        let lost: Vec<f64> = apart
            .axis_iter(Axis(0))
            .zip(means)
            .flat_map(|(apart, mean)| apart.dot(mean).to_vec())
            .collect();
        if lost.len() != place.values.len() || lost.iter().all(|value| *value == 0.0) {
            continue;
        }
        let moved: Vec<f64> = place
            .values
            .iter()
            .zip(&lost)
            .map(|(bias, lost)| bias + place.alpha * lost)
            .collect();
        let graph = editor.graph();
        let name = match place.bias.and_then(|bias| graph.value(bias)) {
            Some(bias) => suffixed(&bias.name, "corrected"),
            None => suffixed(&graph.label(place.node), "bias"),
        };
        let tensor = Tensor::from_f64(DType::F32, &[moved.len() as u64], &moved)?;
        let fresh = editor.add_constant(name, tensor);
        editor.set_input(place.node, SLOT, Some(fresh))?;
        if let Some(bias) = place.bias {
            editor.remove_unused(bias.node);
        }
        corrected += 1;
    }
    Ok(corrected)
}
