//! Model-local functions of two models in one.

use std::collections::{BTreeMap, BTreeSet};

use super::SpliceError;
use crate::format::{self, ExternalFiles};
use crate::ir::{EditError, Function, Graph, GraphBuilder, Imports, Model, Name, NodeId};
use crate::proto;

/// What calls name: domain (ONNX's own as the empty text), name and overload.
type Key = (String, String, String);

/// The functions that calls in a model may name.
pub(super) struct Calls {
    known: BTreeSet<Key>,
}

impl Calls {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            known: model.functions.iter().map(key).collect(),
        }
    }

    /// Whether the node calls a function.
    pub(super) fn has(&self, graph: &Graph, id: NodeId) -> bool {
        called(graph, id).is_some_and(|key| self.known.contains(&key))
    }

    /// Refuses operators of the runtime that would become calls of a function of `target`.
    pub(super) fn check_foreign(&self, graph: &Graph, target: &Model) -> Result<(), SpliceError> {
        let others = Calls::of(target);
        if others.known.is_empty() {
            return Ok(());
        }
        for id in graph.topological_order() {
            let Some(key) = called(graph, id) else { continue };
            if others.known.contains(&key) && !self.known.contains(&key) {
                return Err(SpliceError::Function {
                    node: graph.label(id),
                    operator: key.1,
                });
            }
        }
        Ok(())
    }
}

fn key(function: &Function) -> Key {
    let header = &function.header;
    let domain = header.domain.as_deref().filter(|domain| *domain != "ai.onnx");
    (
        domain.unwrap_or("").to_owned(),
        header.name.clone().unwrap_or_default(),
        header.overload.clone().unwrap_or_default(),
    )
}

fn called(graph: &Graph, id: NodeId) -> Option<Key> {
    let node = graph.get(id)?;
    let operator = node.operator()?;
    let overload = node.meta.as_ref().and_then(|meta| meta.overload.as_deref());
    Some((
        operator.domain().to_owned(),
        operator.op_type.to_string(),
        overload.unwrap_or("").to_owned(),
    ))
}

/// What [`merge`] answers.
pub(super) struct Merged {
    /// Functions that the target needs beside its own.
    pub(super) added: Vec<Function>,
    /// Their names.
    pub(super) names: Vec<String>,
}

/// The functions of `part` that `target` has not. A function whose key means something else in the target is renamed, in
/// every call of the part, too.
pub(super) fn merge(target: &Model, part: &mut Model, prefix: &str) -> Result<Merged, SpliceError> {
    let mut merged = Merged {
        added: Vec::new(),
        names: Vec::new(),
    };
    if part.functions.is_empty() {
        return Ok(merged);
    }
    let own: BTreeMap<Key, &Function> = target.functions.iter().map(|f| (key(f), f)).collect();
    let mut used: BTreeSet<Key> = own.keys().cloned().collect();
    for path in target.graph_paths() {
        if let Some(graph) = target.graph_at(&path) {
            used.extend(graph.node_ids().filter_map(|id| called(graph, id)));
        }
    }
    let inner: BTreeSet<Key> = part.functions.iter().map(key).collect();
    let messages = messages(&part.functions)?;
    let mut same = BTreeSet::new();
    for (function, message) in part.functions.iter().zip(&messages) {
        if let Some(known) = own.get(&key(function))
            && self::messages(std::slice::from_ref(*known))?.first() == Some(message)
        {
            same.insert(key(function));
        }
    }
    // A function is the target's own only if all that it calls is, too.
    while let Some(other) = part
        .functions
        .iter()
        .find(|function| same.contains(&key(function)) && calls_beyond(&function.graph, &inner, &same))
    {
        same.remove(&key(other));
    }
    let mut renamed: BTreeMap<Key, Name> = BTreeMap::new();
    for function in &part.functions {
        let key = key(function);
        if same.contains(&key) || !used.contains(&key) {
            continue;
        }
        let mut name = format!("{prefix}_{}", key.1);
        let mut number = 0u64;
        let clashes = |name: &str| {
            let wanted = (key.0.clone(), name.to_owned(), key.2.clone());
            used.contains(&wanted) || inner.contains(&wanted)
        };
        while clashes(&name) {
            number += 1;
            name = format!("{prefix}_{}_{number}", key.1);
        }
        renamed.insert(key, Name::from(name));
    }
    for path in part.graph_paths() {
        if let Some(graph) = part.graph_at_mut(&path) {
            rename_calls(graph, &renamed)?;
        }
    }
    for function in &part.functions {
        let key = key(function);
        if same.contains(&key) {
            continue;
        }
        let mut function = function.clone();
        if let Some(name) = renamed.get(&key) {
            function.header.name = Some(name.to_string());
        }
        merged
            .names
            .push(function.header.name.clone().unwrap_or_default());
        merged.added.push(function);
    }
    Ok(merged)
}

/// Whether the graph calls a function of the part that is not among `same`.
fn calls_beyond(graph: &Graph, inner: &BTreeSet<Key>, same: &BTreeSet<Key>) -> bool {
    graph.node_ids().any(|id| {
        let bodies = graph
            .operator(id)
            .into_iter()
            .flat_map(|operator| operator.bodies());
        called(graph, id).is_some_and(|key| inner.contains(&key) && !same.contains(&key))
            || bodies
                .into_iter()
                .any(|(_, body)| calls_beyond(body, inner, same))
    })
}

fn rename_calls(graph: &mut Graph, renamed: &BTreeMap<Key, Name>) -> Result<(), EditError> {
    let calls: Vec<(NodeId, Option<Name>, Name)> = graph
        .node_ids()
        .filter_map(|id| {
            let name = renamed.get(&called(graph, id)?)?;
            Some((id, graph.operator(id)?.written_domain.clone(), name.clone()))
        })
        .collect();
    let mut editor = graph.edit("splice");
    for (id, domain, name) in calls {
        editor.set_operator_type(id, domain, name)?;
    }
    Ok(())
}

/// Functions as a file has them.
fn messages(functions: &[Function]) -> Result<Vec<proto::FunctionProto>, SpliceError> {
    let model = Model {
        header: Box::default(),
        opset_imports: Imports::default(),
        metadata: Vec::new(),
        graph: GraphBuilder::new().finish(),
        functions: functions.to_vec(),
    };
    Ok(format::model_to_proto(&model, &ExternalFiles::default())?.functions)
}
