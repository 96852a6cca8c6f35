//! Passes that move factors of single channels between what gives a value and the weights that read it: the function stays, the
//! ranges that are quantized change.
//!
//! `sites` finds the values whose channels can be scaled and scales them; `smooth_quant` and `awq` decide by how much.

mod awq;
mod sites;
mod smooth_quant;

pub use awq::Awq;
pub use smooth_quant::SmoothQuant;
