//! ONNX's textual syntax, read and written.
//!
//! The syntax is the one of `onnx.parser` and `onnx.printer`: what onnx 1.23 reads as a valid model is read here to the same
//! protobuf, field presence included, and what is written here onnx reads. Three things it cannot say are added, so that
//! printing loses nothing that computes; onnx refuses a text that uses them:
//! - names that are not identifiers in quotes everywhere (`"my-domain".Op`, `<"an attribute" = 1>`, a body's name);
//! - `x"00ff"`, bytes that are not UTF-8, and as the only value of a tensor its raw data; `nan(0x7fc00001)`;
//! - sparse tensors, and element types without a name (`undefined`, `undefined99`).
//!
//! Stricter than onnx: values that do not fit their type, a number of values that does not fit the shape, an empty
//! operator name and text after the end are errors. [`omitted()`] lists what has no place in the syntax at all.
//!
//! The lexer and the cursor's constructs (types, attributes, operator names) are also the base of the rule language.

pub(crate) mod cursor;
mod error;
pub(crate) mod lexer;
mod names;
mod omitted;
pub(crate) mod parse_attribute;
pub(crate) mod parse_graph;
mod parse_model;
mod parse_tensor;
mod parse_type;
mod print_graph;
mod print_model;
mod print_tensor;
mod print_type;
mod printer;

pub use error::{TextError, TextProblem};
pub use omitted::{Omission, omitted};
pub use printer::PrintOptions;

use crate::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};
use cursor::Cursor;
use printer::Printer;

/// Reads a model: header, main graph, functions.
///
/// # Errors
/// The first place where the text is not ONNX text.
pub fn parse_model(text: &str) -> Result<ModelProto, TextError> {
    Cursor::new(text)?.model()
}

/// Reads one graph.
///
/// # Errors
/// The first place where the text is not a graph.
pub fn parse_graph(text: &str) -> Result<GraphProto, TextError> {
    let mut cursor = Cursor::new(text)?;
    let graph = cursor.graph()?;
    cursor.expect_end("the end of the text after the graph")?;
    Ok(graph)
}

/// Reads one function.
///
/// # Errors
/// The first place where the text is not a function.
pub fn parse_function(text: &str) -> Result<FunctionProto, TextError> {
    let mut cursor = Cursor::new(text)?;
    let function = cursor.function()?;
    cursor.expect_end("the end of the text after the function")?;
    Ok(function)
}

/// Reads node statements up to the end of the text.
///
/// # Errors
/// The first place where the text is not a node.
pub fn parse_nodes(text: &str) -> Result<Vec<NodeProto>, TextError> {
    let mut cursor = Cursor::new(text)?;
    let mut nodes = Vec::new();
    while cursor.expect_end("a node").is_err() {
        nodes.push(cursor.node()?);
    }
    Ok(nodes)
}

/// Writes a model. Reading the text gives an equal model, but for what [`omitted()`] lists, which comments at its head name.
#[must_use]
pub fn print_model(model: &ModelProto, options: &PrintOptions) -> String {
    printed(options, |printer| printer.model(model))
}

/// Writes a graph.
#[must_use]
pub fn print_graph(graph: &GraphProto, options: &PrintOptions) -> String {
    printed(options, |printer| printer.graph(graph))
}

/// Writes a function.
#[must_use]
pub fn print_function(function: &FunctionProto, options: &PrintOptions) -> String {
    printed(options, |printer| printer.function(function))
}

/// Writes one node statement, without a line break after it.
#[must_use]
pub fn print_node(node: &NodeProto, options: &PrintOptions) -> String {
    printed(options, |printer| printer.node(node))
}

fn printed(options: &PrintOptions, print: impl FnOnce(&mut Printer<'_>)) -> String {
    let mut printer = Printer::new(options);
    print(&mut printer);
    printer.out
}
