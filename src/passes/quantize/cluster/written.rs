//! How a weight whose elements share values stands in the graph.

use super::find::{Case, takes_rows};
use crate::ir::{DType, EditError, Editor, NodeId, Operator, Tensor, Value, ValueId, ValueType};
use crate::passes::encoded_size::added_constant;
use crate::passes::quantize::weights::{WeightError, suffixed};
use crate::quantize::{Clusters, Kind, pack};

/// Bytes of a Cast and a Gather beside the names of their values.
const NODES: u64 = 80;

/// Names that stand in them and with the constants: what is read and written.
const NAMES: u64 = 6;

/// Codes and the values that they stand for.
pub(super) struct Stored {
    codes: Tensor,
    codebook: Tensor,
}

impl Stored {
    pub(super) fn of(case: &Case, clusters: &Clusters, kind: Kind) -> Result<Self, WeightError> {
        let codes: Vec<i32> = clusters.codes.iter().map(|code| i32::from(*code)).collect();
        let count = clusters.centroids.len() as u64;
        Ok(Self {
            codes: pack(case.tensor.dims(), &codes, kind)?,
            codebook: Tensor::from_f64(case.tensor.dtype(), &[count], &clusters.centroids)?,
        })
    }

    /// Whether the file becomes smaller.
    pub(super) fn pays(&self, case: &Case) -> bool {
        let in_function = case.path.function.is_some();
        let constant = |name: &str, tensor: &Tensor| added_constant(name, tensor, in_function);
        let name = format!("{}_codebook", case.name);
        let nodes = NODES + NAMES * (name.len() as u64 + 4);
        // Each reader that takes rows has nodes of its own.
        let rows = case
            .target
            .readers
            .iter()
            .filter(|reader| takes_rows(case, reader));
        let nodes = nodes * (1 + rows.count() as u64);
        let before = case.tensor.byte_len();
        constant(&name, &self.codes) + constant(&name, &self.codebook) + nodes < before
    }

    /// Puts codes, codebook and lookups in the place of the weight.
    pub(super) fn write(&self, editor: &mut Editor<'_>, case: &Case) -> Result<(), WeightError> {
        let weight = case.target.weight;
        let codes = editor.add_constant(suffixed(&case.name, "codes"), self.codes.clone());
        let codebook = editor.add_constant(suffixed(&case.name, "codebook"), self.codebook.clone());
        for reader in &case.target.readers {
            // Behind an Identity it reads what the whole weight becomes.
            let own = editor.graph().input(reader.node, 0) == Some(weight);
            if takes_rows(case, reader) && own {
                rows(editor, codes, codebook, reader.node)?;
            }
        }
        if let Some(first) = editor.graph().uses(weight).first().copied() {
            let ty = editor.graph().ty(weight).clone();
            let shape = ty.shape().cloned();
            let indices = Value::typed(
                suffixed(&case.name, "indices"),
                ValueType::tensor(DType::I32, shape),
            );
            // The name of the weight goes over to it.
            let whole = look_up(
                editor,
                first.node,
                (codes, codebook),
                indices,
                Value::typed("", ty),
            )?;
            editor.replace(weight, whole)?;
        }
        editor.remove_unused(weight.node);
        Ok(())
    }
}

/// The values that codes stand for.
fn look_up(
    editor: &mut Editor<'_>,
    near: NodeId,
    (codes, codebook): (ValueId, ValueId),
    indices: Value,
    result: Value,
) -> Result<ValueId, EditError> {
    let cast = Operator::new("Cast").with("to", i64::from(DType::I32.onnx()));
    let cast = editor.add_operator(near, cast, &[Some(codes)], vec![indices])?;
    let inputs = [Some(codebook), Some(ValueId::new(cast, 0))];
    let found = editor.add_operator(near, Operator::new("Gather"), &inputs, vec![result])?;
    Ok(ValueId::new(found, 0))
}

/// In place of a Gather of rows: one of the codes, which are then looked up.
fn rows(editor: &mut Editor<'_>, codes: ValueId, codebook: ValueId, node: NodeId) -> Result<(), WeightError> {
    let output = ValueId::new(node, 0);
    let indices = editor
        .graph()
        .input(node, 1)
        .ok_or(EditError::NoNode(node.index()))?;
    let ty = editor.graph().ty(output).clone();
    let typed = |dtype| ValueType::tensor(dtype, ty.shape().cloned());
    let name = editor.graph().value(output).map(|value| value.name.to_string());
    let name = name.unwrap_or_default();
    let value = |suffix: &str, dtype| Value::typed(suffixed(&name, suffix), typed(dtype));
    let code_type = editor.graph().ty(codes).dtype().unwrap_or(DType::U8);
    let picked = editor.add_operator(
        node,
        Operator::new("Gather"),
        &[Some(codes), Some(indices)],
        vec![value("codes", code_type)],
    )?;
    let picked = (ValueId::new(picked, 0), codebook);
    let result = Value::typed("", ty.clone());
    let found = look_up(editor, node, picked, value("indices", DType::I32), result)?;
    editor.replace(output, found)?;
    editor.remove_unused(node);
    Ok(())
}
