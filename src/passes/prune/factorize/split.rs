//! The edit of the graph.

use ndarray::{Array2, Array3, Axis};

use super::spectrum::{Candidate, Factors};
use crate::ir::{DType, Editor, Operator, Tensor, TensorError, Value, ValueId};
use crate::passes::prune::bias::LayerError;

/// Attributes of a convolution that the kernel of one element in its place has at their defaults.
const OF_WINDOWS: [&str; 4] = ["auto_pad", "dilations", "pads", "strides"];

/// Gives a layer the product of its factors as its weight: what the two layers have to compute.
pub(super) fn multiply(
    editor: &mut Editor<'_>,
    candidate: &Candidate,
    factors: &Factors,
) -> Result<(), LayerError> {
    let layer = &candidate.layer;
    let product = factors.expand.dot(&factors.reduce).insert_axis(Axis(0));
    let dense: Array3<f64> = product.as_standard_layout().into_owned();
    editor.set_constant(layer.weight.node, layer.tensor(&dense)?)?;
    shift(editor, candidate, factors)
}

/// Puts two layers in the place of one. Results keep their names.
pub(super) fn split(
    editor: &mut Editor<'_>,
    candidate: &Candidate,
    factors: &Factors,
) -> Result<(), LayerError> {
    let layer = &candidate.layer;
    let graph = editor.graph();
    let (Some(operator), Some(weight)) = (graph.operator(layer.node).cloned(), graph.constant(layer.weight))
    else {
        return Ok(());
    };
    let (dtype, rank, spatial) = (
        weight.dtype(),
        factors.expand.ncols() as u64,
        weight.dims().get(2..).unwrap_or(&[]).to_vec(),
    );
    let channels = layer.channels as u64;
    let name_of = |value: ValueId| {
        graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default()
    };
    let (weight_name, output) = (name_of(layer.weight), name_of(ValueId::new(layer.node, 0)));
    let node_name = graph.get(layer.node).and_then(|node| node.name.clone());
    let is_conv = operator.is("Conv");
    let (reduce, expand) = match is_conv {
        true => {
            let ones = vec![1; spatial.len()];
            let dims = |leading: [u64; 2], kernel: &[u64]| [leading.as_slice(), kernel].concat();
            (
                tensor(dtype, &dims([rank, channels], &spatial), &factors.reduce)?,
                tensor(dtype, &dims([layer.outputs as u64, rank], &ones), &factors.expand)?,
            )
        }
        false => (
            matrix(dtype, &factors.reduce, layer.output_axis())?,
            matrix(dtype, &factors.expand, layer.output_axis())?,
        ),
    };
    let first = match &*operator.op_type {
        "Gemm" => Operator::new("Gemm").with("transB", i64::from(layer.output_axis() == 0)),
        _ => Operator::new(operator.op_type.clone()).with_attributes(operator.attributes().to_vec()),
    };
    let reduce = editor.add_constant(format!("{weight_name}_reduce"), reduce);
    let expand = editor.add_constant(format!("{weight_name}_expand"), expand);
    let inputs = [Some(layer.input), Some(reduce)];
    let between = editor.add_operator(
        layer.node,
        first,
        &inputs,
        vec![Value::named(format!("{output}_reduced"))],
    )?;
    if let Some(name) = node_name {
        editor.set_node_name(between, Some(format!("{name}_reduce").into()))?;
    }
    editor.set_input(layer.node, 0, Some(ValueId::new(between, 0)))?;
    editor.set_input(layer.node, 1, Some(expand))?;
    if is_conv {
        for name in OF_WINDOWS {
            editor.remove_attribute(layer.node, name)?;
        }
        editor.set_attribute(layer.node, "kernel_shape", vec![1_i64; spatial.len()])?;
    }
    editor.remove_unused(layer.weight.node);
    shift(editor, candidate, factors)
}

fn shift(editor: &mut Editor<'_>, candidate: &Candidate, factors: &Factors) -> Result<(), LayerError> {
    let Some(by) = &factors.shift else {
        return Ok(());
    };
    let layer = &candidate.layer;
    let name = editor
        .graph()
        .value(ValueId::new(layer.node, 0))
        .map(|value| format!("{}_bias", value.name));
    let name = name.unwrap_or_default();
    candidate.bias.add(editor, layer.node, by, (DType::F32, &name))
}

fn tensor(dtype: DType, dims: &[u64], values: &Array2<f64>) -> Result<Tensor, TensorError> {
    let flat: Vec<f64> = values.iter().copied().collect();
    Tensor::from_f64(dtype, dims, &flat)
}

/// A matrix `[outputs, inputs]` with its outputs along `axis`.
fn matrix(dtype: DType, values: &Array2<f64>, axis: usize) -> Result<Tensor, TensorError> {
    let stored = if axis == 0 { values.view() } else { values.t() };
    let dims = [stored.nrows() as u64, stored.ncols() as u64];
    let flat: Vec<f64> = stored.iter().copied().collect();
    Tensor::from_f64(dtype, &dims, &flat)
}
