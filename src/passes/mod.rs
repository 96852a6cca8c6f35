//! Native passes: what a rewrite rule cannot say. One file (or folder) a pass, in the wing of what it is for.
//!
//! A pass is a struct whose fields are its options: their doc comments are its documentation, its help text, its JSON Schema
//! and its page in the book. It sees the IR, never bytes or paths.
//!
//! What every pass is held to and given stands here, and so does what several wings share. A wing reaches another one through what that
//! wing's `mod.rs` shows; arrows between wings go one way: `form` uses `simplify`, `prune` uses `train`, `quantize` and `transfer` use
//! these four and never each other.

mod distinct;
mod encoded_size;
mod form;
mod interface;
mod kept;
mod layer_patterns;
mod left;
mod pass;
mod prepare;
pub mod prune;
mod quantize;
pub mod registry;
mod resources;
mod scope;
mod select;
mod simplify;
mod train;
mod transfer;
mod until;

pub(crate) use distinct::distinct_names;
pub use encoded_size::{file_bytes, readable_bytes};
pub use form::{
    Bake, BakedClasses, Bind, BindDefaults, CleanNames, ConvertFloat, ConvertOpset, DropOutputs, Extract,
    Half, NamePart, Rename, Size, align_models, overridable,
};
pub use interface::Interface;
pub use kept::Kept;
pub use left::{Left, Reason, left_alone, reasons, unchanged};
pub use pass::{
    About, Aim, Change, Context, HeadTraining, Limits, Needs, Pass, PassError, PassReport, PlannedNode,
    ReportFile, Requirement, Runs, Safety, Times, TrainedClass,
};
pub use prune::{
    Basis, BlockCriterion, Factorize, PruneBlocks, PruneChannels, PruneWeights, Update, WeightCriterion,
    WeightScope,
};
pub use quantize::{
    Awq, BitsBy, Cluster, ClusterForm, CodeType, Compress, CorrectBias, Equalize, Form, Heads, Importance,
    IntegerForm, LayerBits, LayerPrecision, LayerTypes, Precision, PrecisionRung, Profile, QuantizableLayer,
    Quantize, QuantizeDynamic, QuantizeStart, QuantizeWeights, Rounding, Saturation, SearchPrecision,
    Sensitivity, SmoothQuant, Target, Weighting, Widths, collect_gram_statistics, collect_statistics,
    quantized_operators,
};
pub use resources::{ResourceError, Resources};
pub use select::{Selector, unmatched};
pub use simplify::{
    DeduplicateInitializers, EliminateCommonSubexpressions, EliminateDeadCode, FoldConstants,
    InlineFunctions, Simplify,
};
pub use train::{Deepen, Finetune, LossKind, Masks, Shares, TrainingLoss, Widen, gradient_statistics};
pub use transfer::{
    Chain, FeatureCut, HeadMethod, MatchBy, MergeLora, TransferFeatures, TransferMerge, TransferParameters,
    TransferStructure,
};
pub use until::Until;
