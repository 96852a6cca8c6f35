//! Adapters for the way down: what an operator may say in a version and may not before it, said in the older way.

mod arguments;
mod images;
mod semantics;

use super::site::{Outcome, Site};
use super::steps::{LEGACY_BROADCAST, REDUCTIONS};
use arguments as args;

/// Brings what a version allows into the form before it.
pub(super) type Adapter = fn(&mut Site<'_>) -> Outcome;

/// Operators whose axes may be negative from version 11 on.
const NEGATIVE_AXES: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Compress",
    "Concat",
    "Flatten",
    "Hardmax",
    "LogSoftmax",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Softmax",
    "Split",
    "Squeeze",
    "Unsqueeze",
];

/// Every other change that has to be undone, by operator and the version that made it.
const ADAPTERS: &[(&str, i64, Adapter)] = &[
    ("Attention", 24, semantics::attention_24),
    ("AveragePool", 19, args::dilations),
    ("BatchNormalization", 7, args::set_is_test),
    ("BatchNormalization", 14, semantics::batch_normalization_14),
    ("Cast", 6, args::cast_6),
    ("Clip", 11, args::clip_11),
    ("ConvTranspose", 11, semantics::conv_transpose_11),
    ("DFT", 20, args::dft_20),
    ("DequantizeLinear", 13, args::quantization_axis),
    ("DequantizeLinear", 21, args::quantization_blocks),
    ("DequantizeLinear", 23, args::dequantized_type),
    ("Dropout", 7, args::set_is_test),
    ("Dropout", 10, semantics::dropout_10),
    ("Dropout", 12, args::dropout_12),
    ("GRU", 7, args::output_sequence),
    ("Gather", 11, semantics::indices_from_the_front),
    ("Gemm", 7, args::broadcast_gemm),
    ("Gemm", 11, args::gemm_11),
    ("GridSample", 20, images::grid_sample_20),
    ("Hardmax", 13, semantics::softmax_13),
    ("LSTM", 7, args::output_sequence),
    ("LogSoftmax", 13, semantics::softmax_13),
    ("LpPool", 2, args::lp_pool_2),
    ("LpPool", 18, args::dilations),
    ("Max", 8, semantics::equal_shapes),
    ("MaxPool", 10, args::dilations),
    ("Mean", 8, semantics::equal_shapes),
    ("Min", 8, semantics::equal_shapes),
    ("OneHot", 11, semantics::one_hot_11),
    ("PRelu", 7, semantics::prelu_7),
    ("Pad", 2, args::pad_2),
    ("Pad", 11, args::pad_11),
    ("Pad", 18, args::pad_18),
    ("Pad", 19, args::pad_19),
    ("QuantizeLinear", 13, args::quantization_axis),
    ("QuantizeLinear", 21, args::quantization_blocks),
    ("QuantizeLinear", 21, args::quantized_type),
    ("RNN", 7, args::output_sequence),
    ("ReduceSum", 13, args::axes_to_attribute),
    ("Reshape", 5, args::reshape_5),
    ("Reshape", 14, args::reshape_14),
    ("Resize", 11, images::resize_11),
    ("Resize", 13, images::resize_13),
    ("Resize", 18, images::resize_18),
    ("Resize", 19, images::resize_19),
    ("RoiAlign", 16, images::roi_align_16),
    ("Scan", 9, semantics::scan_9),
    ("ScatterElements", 18, semantics::reduction_18),
    ("ScatterND", 18, semantics::reduction_18),
    ("Shape", 15, args::shape_15),
    ("Slice", 10, args::slice_10),
    ("Slice", 11, args::slice_11),
    ("Softmax", 13, semantics::softmax_13),
    ("Split", 13, args::split_13),
    ("Split", 18, args::split_18),
    ("Squeeze", 13, args::axes_input),
    ("Sum", 8, semantics::equal_shapes),
    ("TopK", 10, args::top_k_10),
    ("TopK", 11, args::top_k_11),
    ("Unsqueeze", 13, args::axes_input),
    ("Upsample", 9, images::upsample_9),
];

/// What undoes the change of an operator in a version, in order.
pub(super) fn adapters(op_type: &str, since: i64) -> impl Iterator<Item = Adapter> + '_ {
    let listed = ADAPTERS
        .iter()
        .filter(move |(name, version, _)| *name == op_type && *version == since)
        .map(|(_, _, adapter)| *adapter);
    let families: [(i64, &[&str], Adapter); 3] = [
        (7, LEGACY_BROADCAST, semantics::broadcast_7),
        (11, NEGATIVE_AXES, args::axes_from_the_front),
        (18, REDUCTIONS, args::axes_to_attribute),
    ];
    listed.chain(
        families
            .into_iter()
            .filter(move |(version, names, _)| *version == since && names.contains(&op_type))
            .map(|(_, _, adapter)| adapter),
    )
}

/// What an operator that a version introduces was before.
pub(super) fn before(op_type: &str, since: i64) -> Option<Adapter> {
    match (op_type, since) {
        ("ScatterElements", 11) => Some(semantics::scatter_elements_11),
        ("Resize", 10) => Some(images::resize_10),
        ("HardSwish", 14) => Some(semantics::hard_swish_14),
        ("GreaterOrEqual", 12) => Some(semantics::greater_or_equal_12),
        ("LessOrEqual", 12) => Some(semantics::less_or_equal_12),
        ("CastLike", 15) => Some(semantics::cast_like_15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::schemas;

    #[test]
    fn the_tables_name_changes_that_exist() {
        let families = [(7, LEGACY_BROADCAST), (11, NEGATIVE_AXES), (18, REDUCTIONS)];
        let of_families = families
            .iter()
            .flat_map(|(since, names)| names.iter().map(move |name| (*name, *since)));
        let listed = ADAPTERS.iter().map(|(name, since, _)| (*name, *since));
        for (name, since) in listed.chain(of_families) {
            let versions = schemas("", name);
            assert!(
                versions.iter().skip(1).any(|schema| schema.since == since),
                "{name} {since}"
            );
        }
    }
}
