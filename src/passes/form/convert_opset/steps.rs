//! What each change of an operator's form asks for.

use super::site::{Outcome, Site};
use super::{arguments as args, images, semantics};
use crate::ops::Schema;

/// Rewrites one operator from the form before a version into the form of that version.
pub(super) type Adapter = fn(&mut Site<'_>) -> Outcome;

/// How to get from one form of an operator to the next.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The old form means the same in the new version.
    Same,
    /// The operator has to be rewritten, or looked at.
    Adapt(Adapter),
    /// The forms differ and nobody has said how.
    Unknown,
}

/// Operators that lost `consumed_inputs`, which never meant anything for the result, in version 6.
const CONSUMED_INPUTS: &[&str] = &[
    "Abs",
    "Ceil",
    "Dropout",
    "Elu",
    "Exp",
    "Floor",
    "HardSigmoid",
    "InstanceNormalization",
    "LeakyRelu",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Sqrt",
    "Sum",
    "Tanh",
];
/// Operators whose legacy broadcasting (`axis`, `broadcast`) became that of NumPy in version 7.
pub(super) const LEGACY_BROADCAST: &[&str] = &[
    "Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor",
];
/// Reductions whose axes became an input in version 18; that of ReduceSum did in 13.
pub(super) const REDUCTIONS: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
];

/// New attributes whose default is what the operator did before.
const NEUTRAL: &[(&str, &str)] = &[
    ("ArgMax", "select_last_index"),
    ("ArgMin", "select_last_index"),
    ("Attention", "left_window_size"),
    ("Attention", "right_window_size"),
    ("AveragePool", "ceil_mode"),
    ("AveragePool", "count_include_pad"),
    ("AveragePool", "dilations"),
    ("Cast", "round_mode"),
    ("Cast", "saturate"),
    ("CastLike", "round_mode"),
    ("CastLike", "saturate"),
    ("Constant", "sparse_value"),
    ("Constant", "value_float"),
    ("Constant", "value_floats"),
    ("Constant", "value_int"),
    ("Constant", "value_ints"),
    ("Constant", "value_string"),
    ("Constant", "value_strings"),
    ("DepthToSpace", "mode"),
    ("DequantizeLinear", "axis"),
    ("DequantizeLinear", "block_size"),
    ("DequantizeLinear", "output_dtype"),
    ("GRU", "layout"),
    ("GatherND", "batch_dims"),
    ("LSTM", "layout"),
    ("LpPool", "ceil_mode"),
    ("LpPool", "dilations"),
    ("MaxPool", "ceil_mode"),
    ("MaxPool", "dilations"),
    ("MaxPool", "storage_order"),
    ("QuantizeLinear", "axis"),
    ("QuantizeLinear", "block_size"),
    ("QuantizeLinear", "output_dtype"),
    ("QuantizeLinear", "precision"),
    ("QuantizeLinear", "saturate"),
    ("RNN", "layout"),
    // Half-precision Range, where it matters, is newer than the attribute.
    ("Range", "stash_type"),
    ("Reshape", "allowzero"),
    ("Resize", "antialias"),
    ("Resize", "axes"),
    ("Resize", "keep_aspect_ratio_policy"),
    ("ScatterElements", "reduction"),
    ("ScatterND", "reduction"),
    ("Shape", "end"),
    ("Shape", "start"),
    ("SpaceToDepth", "mode"),
    ("TopK", "largest"),
    ("TopK", "sorted"),
];

/// Every other change, by operator and the version that made it.
const ADAPTERS: &[(&str, i64, Adapter)] = &[
    ("Add", 6, args::strip_consumed_inputs),
    ("Attention", 24, semantics::attention_24),
    ("BatchNormalization", 6, args::strip_consumed_inputs),
    ("BatchNormalization", 7, semantics::batch_normalization_7),
    ("BatchNormalization", 9, semantics::batch_normalization_9),
    ("BatchNormalization", 14, semantics::batch_normalization_14),
    ("Cast", 6, args::cast_6),
    ("Clip", 6, args::strip_consumed_inputs),
    ("Clip", 11, args::clip_11),
    ("Concat", 4, args::concat_4),
    ("ConvTranspose", 11, semantics::conv_transpose_11),
    ("DFT", 20, args::dft_20),
    ("Div", 6, args::strip_consumed_inputs),
    ("Dropout", 7, semantics::dropout_7),
    ("Dropout", 10, semantics::dropout_10),
    ("Dropout", 12, args::dropout_12),
    ("GRU", 3, semantics::gru_3),
    ("GRU", 7, args::strip_output_sequence),
    ("Gemm", 7, args::gemm_7),
    ("GlobalLpPool", 2, args::lp_pool_2),
    ("GridSample", 20, images::grid_sample_20),
    ("GroupNormalization", 21, semantics::group_normalization_21),
    ("Hardmax", 13, semantics::softmax_13),
    ("LSTM", 7, args::strip_output_sequence),
    ("LogSoftmax", 13, semantics::softmax_13),
    ("LpPool", 2, args::lp_pool_2),
    ("Mul", 6, args::strip_consumed_inputs),
    ("OneHot", 11, semantics::one_hot_11),
    ("PRelu", 7, args::prelu_7),
    ("Pad", 2, args::pad_2),
    ("Pad", 11, args::pad_11),
    ("RNN", 7, args::strip_output_sequence),
    ("ReduceSum", 13, args::axes_to_input),
    ("Reshape", 5, args::reshape_5),
    ("Resize", 11, images::resize_11),
    ("Resize", 13, images::resize_13),
    ("RoiAlign", 16, images::roi_align_16),
    ("Scan", 9, semantics::scan_9),
    ("Scatter", 11, semantics::scatter_11),
    ("Selu", 6, args::selu_6),
    ("Slice", 10, args::slice_10),
    ("Softmax", 13, semantics::softmax_13),
    ("Split", 2, args::split_2),
    ("Split", 13, args::split_13),
    ("Split", 18, args::split_18),
    ("Squeeze", 13, args::axes_to_input),
    ("Sub", 6, args::strip_consumed_inputs),
    ("Tile", 6, args::tile_6),
    ("TopK", 10, args::top_k_10),
    ("Unsqueeze", 13, args::axes_to_input),
    ("Upsample", 7, images::upsample_7),
    ("Upsample", 9, images::upsample_9),
    ("Upsample", 10, images::upsample_10),
];

/// How to get from `old` to the next form, `new`.
pub(super) fn step(old: &Schema, new: &Schema) -> Step {
    let op_type = new.op_type;
    if let Some((_, _, adapter)) = ADAPTERS
        .iter()
        .find(|(name, since, _)| *name == op_type && *since == new.since)
    {
        return Step::Adapt(*adapter);
    }
    if new.since == 6 && CONSUMED_INPUTS.contains(&op_type) {
        return Step::Adapt(args::strip_consumed_inputs);
    }
    if new.since == 7 && LEGACY_BROADCAST.contains(&op_type) {
        return Step::Adapt(args::broadcast_7);
    }
    if new.since == 18 && REDUCTIONS.contains(&op_type) {
        return Step::Adapt(args::axes_to_input);
    }
    if same_form(old, new) {
        Step::Same
    } else {
        Step::Unknown
    }
}

/// Whether everything that the old form allows is there in the new one, with the same defaults; types may be wider.
fn same_form(old: &Schema, new: &Schema) -> bool {
    let inputs = old
        .inputs
        .iter()
        .zip(&new.inputs)
        .all(|(a, b)| (!a.optional || b.optional) && a.variadic == b.variadic);
    let outputs = old
        .outputs
        .iter()
        .zip(&new.outputs)
        .all(|(a, b)| (!a.optional || b.optional) && a.variadic == b.variadic);
    let kept = old.attributes.iter().all(|a| {
        new.attribute(a.name)
            .is_some_and(|b| a.kind == b.kind && a.default == b.default && (a.required || !b.required))
    });
    let neutral = new
        .attributes
        .iter()
        .filter(|b| old.attribute(b.name).is_none())
        .all(|b| !b.required && NEUTRAL.contains(&(new.op_type, b.name)));
    !new.deprecated
        && inputs
        && outputs
        && kept
        && neutral
        && old.inputs.len() <= new.inputs.len()
        && old.outputs.len() <= new.outputs.len()
        && new
            .inputs
            .iter()
            .skip(old.inputs.len())
            .all(|extra| extra.optional)
        && new
            .outputs
            .iter()
            .skip(old.outputs.len())
            .all(|extra| extra.optional)
        && new.inputs_range.0 <= old.inputs_range.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::schemas;

    fn operators() -> BTreeSet<&'static str> {
        include_str!("../../../ops/onnx.tsv")
            .lines()
            .filter_map(|line| line.strip_prefix('\t'))
            .filter_map(|line| line.split('\t').next())
            .collect()
    }

    #[test]
    fn every_change_of_every_operator_is_the_same_form_or_has_an_adapter() {
        let mut open = Vec::new();
        let mut steps = 0;
        for op_type in operators() {
            for pair in schemas("", op_type).windows(2) {
                steps += 1;
                if matches!(step(&pair[0], &pair[1]), Step::Unknown) {
                    open.push(format!("{op_type} {} -> {}", pair[0].since, pair[1].since));
                }
            }
        }
        assert!(steps > 300, "{steps}");
        assert!(open.is_empty(), "{open:#?}");
    }

    #[test]
    fn the_tables_name_changes_that_exist() {
        for (op_type, since, _) in ADAPTERS {
            assert!(
                schemas("", op_type)
                    .iter()
                    .skip(1)
                    .any(|schema| schema.since == *since),
                "{op_type} {since}"
            );
        }
        for (list, since) in [(CONSUMED_INPUTS, 6), (LEGACY_BROADCAST, 7), (REDUCTIONS, 18)] {
            for op_type in list {
                assert!(
                    schemas("", op_type)
                        .iter()
                        .skip(1)
                        .any(|schema| schema.since == since),
                    "{op_type} {since}"
                );
            }
        }
        for (op_type, attribute) in NEUTRAL {
            let versions = schemas("", op_type);
            let added = versions
                .windows(2)
                .any(|p| p[0].attribute(attribute).is_none() && p[1].attribute(attribute).is_some());
            assert!(added, "{op_type} {attribute}");
        }
    }
}
