//! Attributes whose numbers are out of range: no engine means anything by them, and some loop or take all memory.

use super::super::call::{Call, axis};
use super::bad_axis;
use crate::ir::AttributeValue;

/// Which numbers an attribute may have.
#[derive(Clone, Copy, Debug)]
enum Range {
    /// An axis of this input, the number of axes being so many more than its rank.
    Axis(usize, usize),
    /// An axis of a tensor that has as many more axes as the attribute lists.
    NewAxis,
    /// An axis of this input where scales go along it.
    ScaleAxis,
    /// From here to the largest number.
    From(i64),
    /// Up to the largest number either way.
    Any,
    /// From here to here.
    Within(i64, i64),
    /// Leading axes that both inputs share.
    SharedAxes,
    /// As many as the node has outputs.
    Outputs,
    /// Some of the node's inputs, but for those before opset 9's form.
    ScanInputs,
}

use Range::{Any, Axis, From, NewAxis, Outputs, ScaleAxis, ScanInputs, SharedAxes, Within};

/// Beyond this no size, step or count means anything: tensors have fewer elements along an axis.
const LARGEST: i64 = i32::MAX as i64;

/// Attribute, the operators for which the row holds (none: all others of ONNX's domain that have it), range.
const TABLE: &[(&str, &[&str], Range)] = &[
    ("axes", &["Unsqueeze"], NewAxis),
    ("axes", &[], Axis(0, 0)),
    ("axis", &["Flatten", "OneHot"], Axis(0, 1)),
    ("axis", &["DequantizeLinear", "QuantizeLinear"], ScaleAxis),
    ("axis", &[], Axis(0, 0)),
    ("batch_axis", &[], Within(0, 1)),
    ("batch_dims", &[], SharedAxes),
    ("block_size", &[], From(0)),
    ("blocksize", &[], From(1)),
    ("dilations", &[], From(1)),
    ("group", &[], From(1)),
    ("hidden_size", &[], From(1)),
    ("k", &["TopK"], From(0)),
    ("k", &[], Any),
    ("kernel_shape", &[], From(1)),
    ("kv_num_heads", &[], From(1)),
    ("max_gram_length", &[], From(1)),
    ("max_skip_count", &[], From(0)),
    ("min_gram_length", &[], From(1)),
    ("num_groups", &[], From(1)),
    ("num_heads", &[], From(0)),
    ("num_outputs", &[], Outputs),
    ("num_scan_inputs", &[], ScanInputs),
    ("offset_group", &[], From(1)),
    ("output_height", &[], From(1)),
    ("output_padding", &[], From(0)),
    ("output_shape", &[], From(0)),
    ("output_width", &[], From(1)),
    ("pads", &[], Any),
    ("q_num_heads", &[], From(1)),
    ("rotary_embedding_dim", &[], From(0)),
    ("sample_size", &[], From(0)),
    ("sampling_ratio", &[], From(0)),
    ("scan_input_directions", &[], Within(0, 1)),
    ("scan_output_directions", &[], Within(0, 1)),
    ("size", &[], From(1)),
    ("split", &[], From(0)),
    ("strides", &[], From(1)),
    ("time_axis", &[], Within(0, 1)),
];

/// The first attribute of an operator of ONNX's domain that is out of range, in words.
pub(super) fn out_of_range(call: &Call<'_>) -> Option<String> {
    let schema = call.schema?;
    call.operator.attributes().iter().find_map(|attribute| {
        let name = attribute.name.as_str();
        let numbers: &[i64] = match &attribute.value {
            AttributeValue::Int(number) => std::slice::from_ref(number),
            AttributeValue::Ints(numbers) => numbers,
            _ => return None,
        };
        schema.attribute(name)?;
        let operator = call.operator.op_type.as_str();
        let (_, _, range) = TABLE
            .iter()
            .find(|(known, only, _)| *known == name && (only.is_empty() || only.contains(&operator)))?;
        judge(call, name, numbers, *range)
    })
}

fn judge(call: &Call<'_>, name: &str, numbers: &[i64], range: Range) -> Option<String> {
    let between = |lowest: i64, highest: i64| {
        let odd = numbers
            .iter()
            .find(|number| !(lowest..=highest).contains(number))?;
        Some(format!(
            "{name} {odd} is out of range: it goes from {lowest} to {highest}"
        ))
    };
    let of_rank = |rank: usize, extra: usize| numbers.iter().find_map(|given| bad_axis(*given, rank, extra));
    match range {
        From(lowest) => between(lowest, LARGEST),
        Any => between(-LARGEST, LARGEST),
        Within(lowest, highest) => between(lowest, highest),
        Outputs => between(call.outputs as i64, call.outputs as i64),
        ScanInputs => {
            let before = usize::from(call.version < 9);
            between(1, call.inputs.len().saturating_sub(before) as i64)
        }
        SharedAxes => {
            let shared = call.rank(0)?.min(call.rank(1)?);
            between(0, (shared as i64 - 1).max(0))
        }
        Axis(input, extra) => {
            // Before opset 7 an axis says where the smaller operand begins; before 13 some split the axes in two.
            let splits = call.version < 13
                && ["Hardmax", "LogSoftmax", "Softmax"].contains(&call.operator.op_type.as_str());
            if call.operator.attribute("broadcast").is_some() {
                return None;
            }
            of_rank(call.rank(input)?, extra + usize::from(splits))
        }
        NewAxis => {
            let rank = call.rank(0)? + numbers.len();
            let outside = numbers.iter().find(|given| axis(**given, rank).is_none())?;
            Some(format!(
                "axis {outside} is out of range for a result of rank {rank}"
            ))
        }
        ScaleAxis => {
            let scales = call.shape(1)?;
            let along = scales.len() > 1
                || scales
                    .first()
                    .is_some_and(|size| size.fixed().is_some_and(|size| size > 1));
            along.then(|| of_rank(call.rank(0)?, 0))?
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{operator_names, schemas};

    #[test]
    fn every_row_is_an_attribute_of_the_operators_it_names() {
        let has = |operator: &str, name: &str| {
            schemas("", operator).iter().any(|schema| {
                schema
                    .attribute(name)
                    .is_some_and(|known| known.kind == "int" || known.kind == "ints")
            })
        };
        for (name, only, _) in TABLE {
            for operator in *only {
                assert!(has(operator, name), "{operator} has no {name}");
            }
            assert!(operator_names().any(|operator| has(operator, name)), "{name}");
        }
    }
}
