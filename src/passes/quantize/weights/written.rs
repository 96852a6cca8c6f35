//! How a coded weight stands in the graph: codes once, and what each reader reads.

use super::target::{Reader, WeightTarget};
use super::{Coded, WeightError, suffixed};
use crate::ir::{
    DType, Dim, EditError, Editor, Graph, NodeId, Operator, Shape, Slot, Tensor, TensorError, Use, Value,
    ValueId, ValueType, packed_bits,
};
use crate::passes::quantize::plain_gemm::{GemmError, plain};
use crate::quantize::{Granularity, Kind, Parameters, pack, scale_dims};

impl From<GemmError> for WeightError {
    fn from(error: GemmError) -> Self {
        match error {
            GemmError::Edit(source) => Self::Edit(source),
            GemmError::Tensor(source) => Self::Tensor(source),
        }
    }
}

/// The constants that a weight has become, in the graph that held it.
#[derive(Clone, Debug)]
pub(in crate::passes::quantize) struct Stored {
    pub(in crate::passes::quantize) codes: ValueId,
    pub(in crate::passes::quantize) kind: Kind,
    pub(in crate::passes::quantize) dims: Vec<u64>,
    pub(in crate::passes::quantize) granularity: Granularity,
    pub(in crate::passes::quantize) parameters: Vec<Parameters>,
    /// Scales by channel as a vector, in the type that they are read in, where something beside lookups reads them.
    pub(in crate::passes::quantize) scales: Vec<(DType, ValueId)>,
    /// What the weight was called.
    pub(in crate::passes::quantize) name: String,
    /// The opset of the graph.
    pub(in crate::passes::quantize) opset: i64,
}

/// A table whose rows an operator in a body gathers.
pub(super) struct InnerLookup {
    pub(super) stored: Stored,
    pub(super) reader: Reader,
}

/// Whether every reader is a Gemm that transposes the weight: their codes are stored turned, which engines have kernels for.
pub(in crate::passes::quantize) fn is_turned(graph: &Graph, target: &WeightTarget) -> bool {
    let turned = |reader: &Reader| {
        let operator = graph.operator(reader.node);
        reader.is_right_product()
            && operator.is_some_and(|one| one.is("Gemm") && one.int("transB").unwrap_or(0) != 0)
    };
    target.rank == 2 && !target.readers.is_empty() && target.readers.iter().all(turned)
}

/// Transposes codes and scales, and the weight for its readers.
pub(super) fn turn(
    editor: &mut Editor<'_>,
    target: &mut WeightTarget,
    coded: &mut Coded,
) -> Result<(), WeightError> {
    if let Granularity::Blocked { axis, size } = target.granularity()
        && let [rows, columns] = coded.codes.dims()
    {
        let mut dims = [*rows as usize, *columns as usize];
        if let Some(length) = dims.get_mut(axis) {
            *length = length.div_ceil(size.max(1));
        }
        let [rows, columns] = dims;
        let order = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
        coded.parameters = order.filter_map(|at| coded.parameters.get(at).copied()).collect();
    }
    coded.codes = transposed(&coded.codes)?;
    target.channel_axis = 1 - target.channel_axis.min(1);
    target.sum_axis = target.sum_axis.map(|axis| 1 - axis.min(1));
    for reader in &mut target.readers {
        editor.remove_attribute(reader.node, "transB")?;
        let flip = |axis: Option<usize>| axis.map(|axis| 1 - axis.min(1));
        reader.operand.output_axis = flip(reader.operand.output_axis);
        reader.operand.sum_axis = flip(reader.operand.sum_axis);
    }
    Ok(())
}

/// A matrix of codes, transposed.
pub(in crate::passes::quantize) fn transposed(codes: &Tensor) -> Result<Tensor, WeightError> {
    let (rows, columns) = match codes.dims() {
        [rows, columns] => (*rows as usize, *columns as usize),
        _ => return Ok(codes.clone()),
    };
    let raw = codes.raw()?;
    let bits = codes.dtype().bits();
    let order = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    let bytes: Vec<u8> = match bits {
        8 => order.filter_map(|at| raw.get(at).copied()).collect(),
        16 => order
            .filter_map(|at| raw.get(2 * at..2 * at + 2))
            .flatten()
            .copied()
            .collect(),
        _ => {
            let mut bytes = vec![0u8; (rows * columns * bits).div_ceil(8)];
            for (to, from) in order.enumerate() {
                bytes[to * bits / 8] |= (packed_bits(&raw, bits, from) << (to * bits % 8)) as u8;
            }
            bytes
        }
    };
    Ok(Tensor::from_raw(
        codes.dtype(),
        [columns as u64, rows as u64],
        bytes,
    )?)
}

/// Brings each Gemm that has the weight on its right into the form that engines fuse.
pub(super) fn plain_readers(
    editor: &mut Editor<'_>,
    target: &mut WeightTarget,
    coded: &Coded,
) -> Result<(), WeightError> {
    for reader in target
        .readers
        .iter_mut()
        .filter(|reader| reader.is_right_product())
    {
        let axis = reader.operand.output_axis;
        let columns = axis.and_then(|axis| coded.codes.dims().get(axis).copied());
        let (node, _) = plain(editor, reader.node, columns)?;
        reader.node = node;
        reader.at.node = node;
    }
    Ok(())
}

/// Codes once, a DequantizeLinear for each reader, since engines fuse one that has a single reader, and for lookups the rows that
/// they gather. Lookups in bodies are answered: their graphs are others.
pub(super) fn dequantize(
    editor: &mut Editor<'_>,
    target: &WeightTarget,
    (name, opset): (&str, i64),
    coded: &Coded,
) -> Result<Vec<InnerLookup>, WeightError> {
    let mut stored = Stored {
        codes: editor.add_constant(suffixed(name, "quantized"), coded.codes.clone()),
        kind: target.coding.kind,
        dims: coded.codes.dims().to_vec(),
        granularity: target.granularity().stored(coded.codes.dims()),
        parameters: coded.parameters.clone(),
        scales: Vec::new(),
        name: name.to_owned(),
        opset,
    };
    // Lookups come last: they gather from the vectors of scales that other readers have.
    let (lookups, others): (Vec<&Reader>, Vec<&Reader>) = target
        .readers
        .iter()
        .partition(|reader| reader.is_lookup() && (reader.straight || !reader.bodies.is_empty()));
    let mut zeros = None;
    let mut inner = Vec::new();
    let mut done: Vec<Use> = Vec::new();
    for reader in others {
        if done.contains(&reader.at) {
            continue;
        }
        let scale = match stored.vector_of(reader.dtype) {
            Some(scale) => scale,
            None => {
                let scale = editor.add_constant(suffixed(name, "scale"), stored.scales(reader.dtype, None)?);
                stored.scales.push((reader.dtype, scale));
                scale
            }
        };
        let zero = match zeros {
            // Of signed codes zero is what a zero point left out means.
            _ if stored.is_centred() && !reader.is_right_product() => None,
            Some(zeros) => Some(zeros),
            None => {
                let tensor = stored.zeros(None)?;
                Some(*zeros.insert(editor.add_constant(suffixed(name, "zero_point"), tensor)))
            }
        };
        let suffix = match done.len() {
            0 => "dequantized".to_owned(),
            at => format!("dequantized_{at}"),
        };
        let shape: Shape = stored.dims.iter().map(|dim| Dim::Fixed(*dim as i64)).collect();
        let value = Value::typed(
            suffixed(name, &suffix),
            ValueType::tensor(reader.dtype, Some(shape)),
        );
        let inputs: Vec<_> = [stored.codes, scale].into_iter().chain(zero).map(Some).collect();
        let dq = editor.add_operator(
            reader.at.node,
            stored.granularity.dequantize_linear(),
            &inputs,
            vec![value],
        )?;
        let dq = ValueId::new(dq, 0);
        match reader.at.slot {
            Slot::Input(slot) => {
                let before = editor.graph().input(reader.at.node, slot as usize);
                editor.set_input(reader.at.node, slot as usize, Some(dq))?;
                if let Some(before) = before {
                    editor.remove_unused(before.node);
                }
            }
            Slot::Capture(_) => editor.replace_where(target.weight, dq, |at| at == reader.at)?,
        }
        done.push(reader.at);
    }
    for reader in lookups {
        if reader.straight {
            stored.rows(editor, stored.codes, reader.node, reader.dtype)?;
        } else {
            inner.push(InnerLookup {
                stored: Stored {
                    scales: Vec::new(),
                    ..stored.clone()
                },
                reader: reader.clone(),
            });
        }
    }
    if inner.is_empty() {
        editor.remove_unused(target.weight.node);
    }
    if !editor.graph().is_used(stored.codes.node) && inner.is_empty() {
        editor.remove_unused(stored.codes.node);
    }
    Ok(inner)
}

impl Stored {
    /// The vector of scales in a type, where there is one.
    fn vector_of(&self, dtype: DType) -> Option<ValueId> {
        let found = self.scales.iter().find(|(known, _)| *known == dtype);
        found.map(|(_, scale)| *scale)
    }

    fn is_centred(&self) -> bool {
        self.kind.is_signed() && self.parameters.iter().all(|one| one.zero_point == 0)
    }

    /// Scales in the shape that DequantizeLinear takes, or another one.
    fn scales(&self, dtype: DType, dims: Option<&[u64]>) -> Result<Tensor, TensorError> {
        let own = scale_dims(&self.dims, self.granularity);
        let scales: Vec<f64> = self.parameters.iter().map(|one| f64::from(one.scale)).collect();
        Tensor::from_f64(dtype, dims.unwrap_or(&own), &scales)
    }

    fn zeros(&self, dims: Option<&[u64]>) -> Result<Tensor, WeightError> {
        let own = scale_dims(&self.dims, self.granularity);
        let zeros: Vec<i32> = self.parameters.iter().map(|one| one.zero_point).collect();
        Ok(pack(dims.unwrap_or(&own), &zeros, self.kind)?)
    }

    /// In place of a Gather of rows: one of the codes, and what their scales make of them. `codes` is what the graph of `node` calls
    /// the table of codes.
    pub(in crate::passes::quantize) fn rows(
        &self,
        editor: &mut Editor<'_>,
        codes: ValueId,
        node: NodeId,
        dtype: DType,
    ) -> Result<(), WeightError> {
        let output = ValueId::new(node, 0);
        let gone = EditError::NoNode(node.index());
        let indices = editor.graph().input(node, 1).ok_or(gone)?;
        let before = editor.graph().input(node, 0);
        let ty = editor.graph().ty(output).clone();
        let shape = ty.shape().cloned();
        let name = editor.graph().value(output).map(|value| value.name.to_string());
        let name = name.unwrap_or_default();
        let add = |editor: &mut Editor<'_>, operator: Operator, inputs: &[ValueId], suffix: &str, ty| {
            let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
            let value = Value::typed(suffixed(&name, suffix), ty);
            editor
                .add_operator(node, operator, &inputs, vec![value])
                .map(|node| ValueId::new(node, 0))
        };
        let typed = |dtype| ValueType::tensor(dtype, shape.clone());
        let cast = || Operator::new("Cast").with("to", i64::from(dtype.onnx()));
        let gather = || Operator::new("Gather");
        let by_row = matches!(self.granularity, Granularity::PerChannel(_));
        let mut row_dims = vec![1u64; self.dims.len()];
        if let (Some(first), Some(rows)) = (row_dims.first_mut(), self.dims.first()) {
            *first = *rows;
        }
        let coded = add(
            editor,
            gather(),
            &[codes, indices],
            "codes",
            typed(self.kind.dtype()),
        )?;
        let mut real = add(editor, cast(), &[coded], "cast", typed(dtype))?;
        let first = self.parameters.first().map_or(0, |one| one.zero_point);
        let same = self.parameters.iter().all(|one| one.zero_point == first);
        if !same {
            let zeros = editor.add_constant(
                suffixed(&self.name, "row_zero_point"),
                self.zeros(Some(&row_dims))?,
            );
            let zeros = add(editor, gather(), &[zeros, indices], "zeros", ValueType::Unknown)?;
            let zeros = add(editor, cast(), &[zeros], "zeros_cast", ValueType::Unknown)?;
            real = add(
                editor,
                Operator::new("Sub"),
                &[real, zeros],
                "centred",
                typed(dtype),
            )?;
        } else if first != 0 {
            let zero = Tensor::from_f64(dtype, &[], &[f64::from(first)])?;
            let zero = editor.add_constant(suffixed(&self.name, "row_zero_point"), zero);
            real = add(
                editor,
                Operator::new("Sub"),
                &[real, zero],
                "centred",
                typed(dtype),
            )?;
        }
        let shared = self.vector_of(dtype).filter(|_| by_row);
        let dims: Option<&[u64]> = by_row.then_some(&row_dims);
        let mut scale = match shared {
            Some(vector) => vector,
            None => editor.add_constant(suffixed(&self.name, "row_scale"), self.scales(dtype, dims)?),
        };
        if by_row {
            let suffix = "row_scale";
            scale = add(editor, gather(), &[scale, indices], suffix, ValueType::Unknown)?;
        }
        if shared.is_some() {
            // One number for each index, before the axes of a row.
            let axes: Vec<i64> = (1..self.dims.len() as i64).map(|axis| -axis).rev().collect();
            let (unsqueeze, suffix) = (Operator::new("Unsqueeze"), "row_scale_column");
            scale = match self.opset >= 13 {
                true => {
                    let axes = Tensor::vector_i64(&axes);
                    let axes = editor.add_constant(suffixed(&self.name, "row_axes"), axes);
                    add(editor, unsqueeze, &[scale, axes], suffix, ValueType::Unknown)?
                }
                false => {
                    let unsqueeze = unsqueeze.with("axes", axes);
                    add(editor, unsqueeze, &[scale], suffix, ValueType::Unknown)?
                }
            };
        }
        let result = add(editor, Operator::new("Mul"), &[real, scale], "row", ty)?;
        editor.replace(output, result)?;
        editor.remove_unused(node);
        if let Some(before) = before {
            editor.remove_unused(before.node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_are_transposed() {
        for kind in [Kind::Int8, Kind::Int4, Kind::Uint2, Kind::Int16] {
            let codes: Vec<i32> = (0..15).map(|at| at % 2).collect();
            let turned = transposed(&pack(&[3, 5], &codes, kind).unwrap()).unwrap();
            assert_eq!(turned.dims(), [5, 3]);
            let found = turned.to_i64().unwrap();
            for row in 0..3 {
                for column in 0..5 {
                    assert_eq!(
                        found[column * 3 + row],
                        i64::from(codes[row * 5 + column]),
                        "{kind:?}"
                    );
                }
            }
        }
    }
}
