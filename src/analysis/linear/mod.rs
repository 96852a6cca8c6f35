//! What a linear layer is: which operand is a weight, on which axes its outputs and its sum lie, and how the weight is reached.
//!
//! `operand` is the table of operators: what one input slot is to its operator. `readers` follows a constant forward, through
//! Identity, Cast, Transpose and the captures of bodies, to every operator that reads it. `origin` follows an operand back to the
//! constant behind it, across graphs, and `hidden` says of one without such a constant what stands between it and its numbers;
//! `codebook` knows codes that are looked up.
//! `product` is Gemm and MatMul seen as one. Every pass that asks for a weight asks here.

mod codebook;
mod hidden;
mod operand;
mod origin;
mod product;
mod readers;

pub use codebook::{codebook, reads_codes};
pub use hidden::{Hidden, hidden};
pub use operand::{Family, Operand, WEIGHTED, operand, weight_slots};
pub use origin::{Origin, origin};
pub use product::{Product, column_bias, product};
pub use readers::{OtherReader, Reading, Readings, readings};
