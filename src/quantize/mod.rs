//! Quantization: integer codes for real numbers, how ranges are found, and what of it an engine makes use of.
//!
//! `kind`, `parameters` and `codes` are the numeric core and agree with ONNX Runtime's quantizer and kernels bit for bit;
//! `histogram` and `range` turn streamed values into ranges; `cluster` lets weights share few values.
//! Knows the IR; the passes that insert Q/DQ pairs build on it.

mod adaround;
mod cluster;
mod codes;
mod extremes;
mod histogram;
mod kind;
mod parameters;
mod range;
mod rate;
mod reconstruct;
mod runs;
mod saturation;
mod sensitivity;
mod weights;

pub use adaround::adaround;
pub use cluster::{Clustering, Clusters, MOST_CLUSTERS, Start, cluster, cluster_errors};
pub use codes::{
    bias_codes, dequantize, dequantize_tensor, pack, quantize, quantize_tensor, quantize_tensor_within,
    quantize_within,
};
pub use extremes::{extremes, sum};
pub use histogram::Histogram;
pub use kind::{Granularity, Kind};
pub use parameters::{Parameters, QuantizeError, Scheme, parameters, weight_scale_for_bias};
pub use range::{Calibrator, calibrated_range, energy_cut_off};
pub use rate::{Order, Trade, Traded};
pub(crate) use reconstruct::damped;
pub use reconstruct::{Grid, descend, gptq, nearest, output_error, search_scales, shrinkage};
pub use saturation::{Fitted, fit_pairs, worst_coded_pair, worst_pair};
pub use sensitivity::{CodedRow, Unit, allocate, code_row, normalised};
pub use weights::{scale_dims, tensor_parameters};
