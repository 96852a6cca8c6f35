//! The operator table: what the ONNX specification says about each operator, as data.
//!
//! Knows the IR and nothing above it. Shapes, gradients, pruning and quantization keep their own knowledge per operator
//! family beside their own code; here is only what every concern shares.

mod check;
mod codes;
mod schema;
mod types;

pub use check::{check, lacking, newest_version};
pub use codes::works_on_codes;
pub use schema::{
    AttributeDefault, AttributeSchema, Parameter, Schema, Traits, operator_names, schema, schemas,
};
pub use types::TypeSet;

/// ONNX operators whose results are elements of their inputs, at most with the other sign: they are right on values that a wider
/// type carries.
const PICKS_ELEMENTS: &[&str] = &[
    "Abs",
    "Compress",
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Max",
    "Min",
    "Neg",
    "Pad",
    "Relu",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// ONNX operators whose result has the elements of the first operand in their order, under another shape or the same.
const VIEWS: [&str; 5] = ["Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// Whether the result of the ONNX operator has the elements of its first operand in their order.
pub fn is_view(op_type: &str) -> bool {
    VIEWS.contains(&op_type)
}

/// Whether every result of the ONNX operator is an element of its inputs, or such an element with the other sign.
pub fn picks_elements(op_type: &str) -> bool {
    PICKS_ELEMENTS.binary_search(&op_type).is_ok()
}
