//! From protobuf messages to the IR.
//!
//! Everything a file says is kept, so that [`super::model_to_proto`] gives the same bytes back. Names become edges: a value that a body
//! reads from the graph around it becomes a capture slot of the node that owns the body.

mod attribute;
mod error;
mod graph;
mod tensor;
mod types;

use std::cell::RefCell;

use crate::ir::{Function, Imports, Model, Name, OpsetImport};
use crate::proto;

use super::external::ExternalFiles;
use super::limits::{Warning, WarningKind};

pub use error::LiftError;
pub use tensor::tensor_from_proto;
pub use types::type_from_proto;

pub(super) use graph::constant_tensor;

use graph::{GraphSource, Reader};

/// Lifts a model whose external data is mapped in `external`.
pub fn lift(model: proto::ModelProto, external: &ExternalFiles) -> Result<Model, LiftError> {
    lift_noting(model, external, &mut Vec::new())
}

/// [`lift`], which also says what it has put up with.
pub fn lift_noting(
    mut model: proto::ModelProto,
    external: &ExternalFiles,
    warnings: &mut Vec<Warning>,
) -> Result<Model, LiftError> {
    let ir_version = model.ir_version.unwrap_or(0);
    let graph = model.graph.take().ok_or(LiftError::NoGraph)?;
    let context = graph::Context {
        external,
        initializers_are_inputs: (1..4).contains(&ir_version),
        repeated: RefCell::default(),
    };
    let (graph, captures) = graph::lift_graph(GraphSource::from_graph(graph), &context)?;
    refuse_captures(&captures, "the main graph")?;
    let mut functions = Vec::with_capacity(model.functions.len());
    for mut function in std::mem::take(&mut model.functions) {
        let opset_imports = opset_imports(std::mem::take(&mut function.opset_import));
        let label = format!("function {}", function.name.as_deref().unwrap_or(""));
        let (graph, captures) = graph::lift_graph(GraphSource::from_function(&mut function), &context)?;
        refuse_captures(&captures, &label)?;
        functions.push(Function {
            header: Box::new(function),
            opset_imports,
            graph,
        });
    }
    warnings.extend(context.repeated.into_inner().into_iter().map(|at| Warning {
        kind: WarningKind::RepeatedInitializer,
        at,
    }));
    Ok(Model {
        opset_imports: opset_imports(std::mem::take(&mut model.opset_import)),
        metadata: std::mem::take(&mut model.metadata_props),
        header: Box::new(model),
        graph,
        functions,
    })
}

fn refuse_captures(captures: &[(Name, Reader)], within: &str) -> Result<(), LiftError> {
    match captures.first() {
        None => Ok(()),
        Some((value, reader)) if reader.is_output => Err(LiftError::NoOutput {
            value: value.to_string(),
            graph: within.to_owned(),
        }),
        Some((value, reader)) => Err(LiftError::Undefined {
            value: value.to_string(),
            node: reader.label.clone(),
            graph: within.to_owned(),
        }),
    }
}

fn opset_imports(imports: Vec<proto::OperatorSetIdProto>) -> Imports {
    imports
        .into_iter()
        .map(|import| OpsetImport {
            domain: import.domain.map(Name::from),
            version: import.version,
        })
        .collect()
}
