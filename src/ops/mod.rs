//! The operator table: what the ONNX specification says about each operator, as data.
//!
//! Knows the IR and nothing above it. Shapes, gradients, pruning and quantization keep their own knowledge per operator
//! family beside their own code; here is only what every concern shares.

mod check;
mod schema;
mod types;

pub use check::{check, newest_version};
pub use schema::{
    AttributeDefault, AttributeSchema, Parameter, Schema, Traits, operator_names, schema, schemas,
};
pub use types::TypeSet;
