//! Native passes: what a rewrite rule cannot say. One file (or folder) a pass.
//!
//! A pass is a struct whose fields are its options: their doc comments are its documentation, its help text, its JSON Schema
//! and its page in the book. It sees the IR, never bytes or paths.

mod align;
mod bind;
mod bind_defaults;
mod chain;
mod convert_float;
mod convert_opset;
mod correct_bias;
mod deduplicate_initializers;
mod deepen;
mod distinct;
mod eliminate_common_subexpressions;
mod eliminate_dead_code;
mod encoded_size;
mod equalize;
mod extract;
mod finetune;
mod fold_constants;
mod gram_statistics;
mod growth;
mod inline_functions;
mod layer_patterns;
mod left;
mod merge_lora;
mod migrate;
mod objective;
mod pass;
mod plain_gemm;
mod prepare;
pub mod prune_channels;
mod prune_weights;
mod quantize;
mod quantize_dynamic;
mod quantize_weights;
pub mod registry;
mod resources;
mod scope;
mod search_precision;
mod select;
mod simplify;
mod splice;
mod sweep;
mod transfer_features;
mod transfer_merge;
mod transfer_parameters;
mod transfer_structure;
mod widen;

pub use align::align as align_models;
pub use bind::{Bind, Size};
pub use bind_defaults::{BindDefaults, overridable};
pub use chain::Chain;
pub use convert_float::{ConvertFloat, Half};
pub use convert_opset::ConvertOpset;
pub use correct_bias::CorrectBias;
pub use deduplicate_initializers::DeduplicateInitializers;
pub use deepen::Deepen;
pub use eliminate_common_subexpressions::EliminateCommonSubexpressions;
pub use eliminate_dead_code::EliminateDeadCode;
pub use encoded_size::file_bytes;
pub use equalize::Equalize;
pub use extract::Extract;
pub use finetune::{Finetune, Masks, TrainingLoss};
pub use fold_constants::FoldConstants;
pub use gram_statistics::collect_gram_statistics;
pub use inline_functions::InlineFunctions;
pub use left::{Left, Reason, reasons, unchanged};
pub use merge_lora::MergeLora;
pub use migrate::{Awq, SmoothQuant};
pub use objective::{LossKind, gradient_statistics};
pub use pass::{
    About, Aim, Change, Context, HeadTraining, Limits, Needs, Pass, PassError, PassReport, PlannedNode,
    ReportFile, Requirement, Runs, Safety, Times, TrainedClass,
};
pub use prune_channels::PruneChannels;
pub use prune_weights::{Criterion as WeightCriterion, PruneWeights, Scope as WeightScope, Update};
pub use quantize::{
    LayerTypes, Profile, Quantize, Saturation, Target, collect_statistics, operators as quantized_operators,
};
pub use quantize_dynamic::QuantizeDynamic;
pub use quantize_weights::{BitsBy, Form, LayerPrecision, Precision, QuantizeWeights, Rounding, Widths};
pub use resources::{ResourceError, Resources};
pub use search_precision::{SearchPrecision, Sensitivity};
pub use select::{Selector, unmatched};
pub use simplify::Simplify;
pub use transfer_features::{Cut as FeatureCut, Method as HeadMethod, TransferFeatures};
pub use transfer_merge::TransferMerge;
pub use transfer_parameters::{MatchBy, TransferParameters};
pub use transfer_structure::TransferStructure;
pub use widen::{Shares, Widen};
