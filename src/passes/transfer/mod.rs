//! Passes that bring something of one model into another: weights, heads, parts of its graph, adapters, the mean of several models.

mod chain;
mod features;
mod lora;
mod merge;
mod parameters;
mod structure;

pub use chain::Chain;
pub use features::{Cut as FeatureCut, Method as HeadMethod, TransferFeatures};
pub use lora::MergeLora;
pub use merge::TransferMerge;
pub use parameters::{MatchBy, TransferParameters};
pub use structure::TransferStructure;
