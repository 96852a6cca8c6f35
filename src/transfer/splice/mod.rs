//! Putting the nodes of one model into another.
//!
//! Both models have to speak the same opset wherever it matters: [`splice`] refuses an operator that means something else in
//! the target, and names it. [`names`] keeps names apart, [`functions`] the model-local functions; [`replace_region`] puts a part
//! in the place of another one.

mod expose;
mod functions;
mod names;
mod replace;

use std::collections::HashMap;

use super::region::RegionError;
use crate::analysis;
use crate::format::ToProtoError;
use crate::ir::{
    EditError, Graph, Imports, Model, Name, NodeId, NodeKind, Operator, OpsetImport, Value, ValueId,
    opset_version,
};
use crate::ops::schema;
use crate::proto;

pub use expose::{expose, free};
use functions::Calls;
use names::Names;
pub use replace::{replace_or_lead, replace_region};

/// First IR version in which an initializer need not be listed among the graph inputs.
const UNLISTED_INITIALIZERS: i64 = 4;

/// Why a part cannot be put into a model.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// The part has another number of inputs.
    #[error("the part has {expected} inputs and {found} values are given for them")]
    Arity {
        /// Inputs of the part.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An input of the part without a default gets nothing.
    #[error("nothing is given for the input {input:?} of the part")]
    Unbound {
        /// The input.
        input: String,
    },
    /// The value does not fit the input.
    #[error("the part's input {input:?} is {expected}, and {value:?} is {found}")]
    Type {
        /// The part's input.
        input: String,
        /// Its type.
        expected: String,
        /// The target's value.
        value: String,
        /// Its type.
        found: String,
    },
    /// An operator means something else in the target.
    #[error(
        "{node}: {operator} has another form in version {part} of the domain {domain:?} than in {target}, which the target imports"
    )]
    Version {
        /// The node of the part.
        node: String,
        /// Its operator.
        operator: String,
        /// The operator's domain.
        domain: String,
        /// The version that the part imports.
        part: i64,
        /// The version that the target imports.
        target: i64,
    },
    /// The part uses an operator of a domain that it does not import.
    #[error("{node}: {operator} is of the domain {domain:?}, which the part does not import")]
    NotImported {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
        /// The domain.
        domain: String,
    },
    /// The target has a model-local function of the name of an operator that the part gets from the runtime.
    #[error("{node}: {operator} is an operator of the runtime in the part and a function in the target")]
    Function {
        /// The node of the part.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// A value that the part should get depends on one that it should give.
    #[error("{input:?} depends on {output:?}: the part cannot read the one and give the other")]
    Cycle {
        /// The value to be read.
        input: String,
        /// The value to be given.
        output: String,
    },
    /// The part has another number of outputs.
    #[error("the part has {found} outputs for {expected} values to be replaced")]
    Outputs {
        /// Values to be replaced.
        expected: usize,
        /// Outputs of the part.
        found: usize,
    },
    /// A value is replaced by one of another type.
    #[error("{value:?} is {expected}, and the part's output {output:?} is {found}")]
    OutputType {
        /// The value to be replaced.
        value: String,
        /// Its type.
        expected: String,
        /// The part's output.
        output: String,
        /// Its type.
        found: String,
    },
    /// A value is not there.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A graph cannot be written, so that it could be compared.
    #[error("a function cannot be compared: {0}")]
    ToProto(#[from] ToProtoError),
    /// An edit broke a law of the IR.
    #[error("{0}; this is a defect of secateur, please report it with the model")]
    Edit(#[from] EditError),
}

/// What [`splice`] did.
#[derive(Clone, Debug, Default)]
pub struct Spliced {
    /// The values of the part's outputs in the target, in order; none once they stand for others.
    pub outputs: Vec<ValueId>,
    /// The new operators, in topological order.
    pub operators: Vec<NodeId>,
    /// Values that got another name, since theirs was taken: name in the part and name in the target.
    pub renamed: Vec<(String, String)>,
    /// Model-local functions that came with the part, by their name in the target.
    pub functions: Vec<String>,
}

/// Puts the main graph of `part` into that of `target`.
///
/// `inputs` says for each input of the part which value of the target stands for it; one with a default may be `None`. Names
/// stay, but one that the target has already becomes `PREFIX/NAME`, with a number where that is taken, too. Functions, imports
/// of domains, quantization annotations and metadata of the part come along; a function or a metadata entry that the target
/// has with another content is renamed in the same way. The IR version becomes the newer one of both. Nothing reads the new
/// values yet: see [`hand_over`].
///
/// An error leaves the target as it was.
pub fn splice(
    target: &mut Model,
    part: &Model,
    inputs: &[Option<ValueId>],
    prefix: &str,
) -> Result<Spliced, SpliceError> {
    check_inputs(target, part, inputs)?;
    let calls = Calls::of(part);
    let mut imports = target.opset_imports.clone();
    check_operators(&part.graph, part, &calls, target, &mut imports)?;
    for function in &part.functions {
        calls.check_foreign(&function.graph, target)?;
    }
    let mut part = part.clone();
    let functions = functions::merge(target, &mut part, prefix)?;
    let mut result = target.clone();
    result.functions.extend(functions.added);
    result.opset_imports = imports;
    if result.ir_version() < part.ir_version() {
        result.header.ir_version = Some(part.ir_version());
    }
    unlist_initializers(&mut result)?;
    let mut names = Names::new(&result.graph, &part.graph, prefix);
    let mut spliced = copy(&mut result.graph, &part.graph, inputs, &mut names, prefix)?;
    annotations(&mut result.graph, &part.graph, &names);
    metadata(&mut result.metadata, &part.metadata, prefix);
    analysis::infer(&mut result);
    spliced.functions = functions.names;
    spliced.renamed = names.renamed();
    *target = result;
    Ok(spliced)
}

/// Lets every reader of `old` but the operators `except` read `new`; where `new` cannot take the name of a graph output,
/// through an Identity.
pub fn hand_over(graph: &mut Graph, old: ValueId, new: ValueId, except: &[NodeId]) -> Result<(), EditError> {
    let mut editor = graph.edit("splice");
    match editor.replace_where(old, new, |at| !except.contains(&at.node)) {
        Err(EditError::OutputName { .. }) => {
            let identity = editor.add_operator(
                old.node,
                Operator::new("Identity"),
                &[Some(new)],
                vec![Value::default()],
            )?;
            editor.replace_where(old, ValueId::new(identity, 0), |at| {
                at.node != identity && !except.contains(&at.node)
            })
        }
        result => result,
    }
}

/// In a model whose IR version has just passed the one that lists every initializer among the inputs, initializers stay
/// constants only if they are not listed.
pub fn unlist_initializers(model: &mut Model) -> Result<(), EditError> {
    if model.ir_version() < UNLISTED_INITIALIZERS {
        return Ok(());
    }
    let listed: Vec<NodeId> = model
        .graph
        .initializers()
        .into_iter()
        .filter(|(_, constant)| constant.listed_input.is_some())
        .map(|(id, _)| id)
        .collect();
    let mut editor = model.graph.edit("splice");
    for id in listed {
        let Some(NodeKind::Constant(constant)) = editor.graph().get(id).map(|node| node.kind.clone()) else {
            continue;
        };
        let old = ValueId::new(id, 0);
        if editor.graph().use_count(old) > 0 {
            let copy = editor.copy_constant(id, Value::default(), *constant);
            editor.replace(old, copy)?;
        }
        editor.remove(id)?;
    }
    Ok(())
}

fn check_inputs(target: &Model, part: &Model, inputs: &[Option<ValueId>]) -> Result<(), SpliceError> {
    if inputs.len() != part.graph.inputs().len() {
        return Err(SpliceError::Arity {
            expected: part.graph.inputs().len(),
            found: inputs.len(),
        });
    }
    for (id, value) in part.graph.inputs().iter().zip(inputs) {
        let own = ValueId::new(*id, 0);
        let input = label(&part.graph, own);
        let Some(value) = value else {
            match part.graph.get(*id).map(|node| &node.kind) {
                Some(NodeKind::Input(declared)) if declared.default.is_some() => continue,
                _ => return Err(SpliceError::Unbound { input }),
            }
        };
        let (expected, found) = (part.graph.ty(own), target.graph.ty(*value));
        if expected.contradicts(found) {
            return Err(SpliceError::Type {
                input,
                expected: expected.to_string(),
                value: label(&target.graph, *value),
                found: found.to_string(),
            });
        }
    }
    Ok(())
}

fn label(graph: &Graph, value: ValueId) -> String {
    match graph.value(value).map(|value| &value.name) {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => format!("output {} of {}", value.output, graph.label(value.node)),
    }
}

/// Whether every operator of the part means the same in the target. Domains that the target lacks are added to `imports`.
fn check_operators(
    graph: &Graph,
    part: &Model,
    calls: &Calls,
    target: &Model,
    imports: &mut Imports,
) -> Result<(), SpliceError> {
    calls.check_foreign(graph, target)?;
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        for (_, body) in operator.bodies() {
            check_operators(body, part, calls, target, imports)?;
        }
        let domain = operator.domain();
        let Some(inside) = opset_version(&part.opset_imports, domain) else {
            return Err(SpliceError::NotImported {
                node: graph.label(id),
                operator: operator.op_type.to_string(),
                domain: domain.to_owned(),
            });
        };
        match opset_version(imports, domain) {
            None => imports.push(OpsetImport {
                domain: Some(Name::from(domain)),
                version: Some(inside),
            }),
            Some(outside) if outside == inside || calls.has(graph, id) => {}
            Some(outside) => {
                let since = |version| schema(domain, &operator.op_type, version).map(|schema| schema.since);
                if since(inside).is_none() || since(inside) != since(outside) {
                    return Err(SpliceError::Version {
                        node: graph.label(id),
                        operator: operator.op_type.to_string(),
                        domain: domain.to_owned(),
                        part: inside,
                        target: outside,
                    });
                }
            }
        }
    }
    Ok(())
}

fn copy(
    graph: &mut Graph,
    part: &Graph,
    inputs: &[Option<ValueId>],
    names: &mut Names,
    prefix: &str,
) -> Result<Spliced, SpliceError> {
    let mut spliced = Spliced::default();
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let near = graph.sink();
    let mut editor = graph.edit("splice");
    for (id, value) in part.inputs().iter().zip(inputs) {
        let own = ValueId::new(*id, 0);
        let default = || match part.get(*id).map(|node| &node.kind) {
            Some(NodeKind::Input(input)) => input.default.as_ref().map(|(tensor, _)| tensor.clone()),
            _ => None,
        };
        if let Some(value) = value {
            copies.insert(own, *value);
        } else if let Some(tensor) = default() {
            let name = part
                .value(own)
                .map(|value| value.name.clone())
                .unwrap_or_default();
            let constant = editor.add_constant(names.outer(&name), tensor);
            copies.insert(own, constant);
        }
    }
    for id in part.topological_order() {
        let Some(node) = part.get(id) else { continue };
        let outputs: Vec<Value> = node
            .outputs()
            .iter()
            .map(|value| Value {
                name: names.outer(&value.name),
                omitted: value.omitted,
                ..Value::default()
            })
            .collect();
        let copy = match &node.kind {
            NodeKind::Constant(constant) => {
                let value = outputs.into_iter().next().unwrap_or_default();
                editor.copy_constant(near, value, (**constant).clone()).node
            }
            NodeKind::Operator(operator) => {
                let mut operator = operator.clone();
                operator.rename_body_values(&mut |name| names.inner(name));
                let copy = editor.copy_operator(near, (part, id), operator, &copies, outputs)?;
                spliced.operators.push(copy);
                copy
            }
            NodeKind::Input(_) | NodeKind::Capture(_) | NodeKind::Output | NodeKind::Removed => continue,
        };
        if let Some(name) = node.name.as_ref().filter(|name| !name.is_empty()) {
            editor.set_node_name(copy, Some(names.node(name, prefix)))?;
        }
        if let Some(meta) = &node.meta {
            editor.set_node_meta(copy, (**meta).clone())?;
        }
        for output in 0..node.outputs().len() {
            copies.insert(ValueId::new(id, output), ValueId::new(copy, output));
        }
    }
    for value in part.output_values() {
        let value = value.and_then(|value| copies.get(&value).copied());
        spliced
            .outputs
            .push(value.ok_or(EditError::NoNode(part.sink().index()))?);
    }
    Ok(spliced)
}

/// Quantization annotations of the part, under the names of the target.
fn annotations(graph: &mut Graph, part: &Graph, names: &Names) {
    let rename = |name: &Option<String>| name.as_deref().map(|name| names.given(name));
    for annotation in part.meta.quantization.iter() {
        let mut annotation = annotation.clone();
        annotation.tensor_name = rename(&annotation.tensor_name);
        for entry in &mut annotation.quant_parameter_tensor_names {
            entry.value = rename(&entry.value);
        }
        graph.meta.quantization.push(annotation);
    }
}

/// Adds metadata entries; one of a key that has another value gets the prefix.
fn metadata(
    own: &mut Vec<proto::StringStringEntryProto>,
    other: &[proto::StringStringEntryProto],
    prefix: &str,
) {
    for entry in other {
        match own.iter().find(|known| known.key == entry.key) {
            None => own.push(entry.clone()),
            Some(known) if known.value == entry.value => {}
            Some(_) => {
                let mut entry = entry.clone();
                entry.key = entry.key.map(|key| format!("{prefix}/{key}"));
                if !own.contains(&entry) {
                    own.push(entry);
                }
            }
        }
    }
}
