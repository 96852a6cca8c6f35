//! What is known of a model without running it: types, symbolic shapes, the elements of shape-valued tensors, which
//! nodes are needed, and what the model costs.
//!
//! [`infer()`] goes over a whole model, [`infer_node`] over one new node. Knowledge per operator lives in `shapes`, one file an
//! operator family. An operator that is not known gives unknown types downstream, never an error. Nothing else in this
//! crate guesses a shape. Depends on [`crate::ops`] and [`crate::ir`].

mod adopt;
pub mod batch;
mod bodies;
mod call;
mod check;
mod conflicts;
mod content;
mod cost;
mod dimensions;
mod functions;
mod graph_name;
mod infer;
pub mod linear;
mod liveness;
mod shapes;
mod symbols;

pub use adopt::{Notice, adopt};
pub use check::{check, check_as_read, check_types};
pub use conflicts::{Conflict, conflicts};
pub use cost::{Cost, NodeCost, cost, counted_operators, is_uncounted};
pub use dimensions::{Dimensions, Place, SizesError};
pub use graph_name::graph_name;
pub use infer::{Contradiction, InferReport, infer, infer_node};
pub use liveness::{is_pure, needed};
pub use shapes::operators as operators_with_shapes;
pub use symbols::{is_private_symbol, public_type};
