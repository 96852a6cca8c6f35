//! Model-local functions: unique, not recursive.

use std::collections::{HashMap, HashSet};

use super::{CheckError, Problem};
use crate::ir::{Function, Graph, GraphPath, Model};

/// Domain, name and overload.
type Key = (String, String, String);

pub(super) fn check(model: &Model, errors: &mut Vec<CheckError>) {
    let mut index: HashMap<Key, usize> = HashMap::new();
    for (at, function) in model.functions.iter().enumerate() {
        let path = GraphPath::function(at);
        super::imports(&function.opset_imports, errors);
        let key = key(function);
        if key.1.is_empty() {
            errors.push(CheckError::of_graph(
                &path,
                Problem::MissingName { what: "the function" },
            ));
        }
        let label = label(&key);
        if index.insert(key, at).is_some() {
            errors.push(CheckError::of_graph(
                &path,
                Problem::DuplicateFunction { function: label },
            ));
        }
    }
    recursion(model, &index, errors);
}

fn key(function: &Function) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let header = &function.header;
    let domain = text(&header.domain);
    (
        if domain == "ai.onnx" {
            String::new()
        } else {
            domain
        },
        text(&header.name),
        text(&header.overload),
    )
}

fn label(key: &Key) -> String {
    let (domain, name, overload) = key;
    let suffix = if overload.is_empty() {
        String::new()
    } else {
        format!(":{overload}")
    };
    format!("{domain}.{name}{suffix}")
}

/// Functions that a graph and its bodies call.
fn calls(graph: &Graph, index: &HashMap<Key, usize>, found: &mut HashSet<usize>) {
    for id in graph.node_ids() {
        let Some(node) = graph.get(id) else { continue };
        let Some(operator) = node.operator() else { continue };
        let overload = node
            .meta
            .as_ref()
            .and_then(|meta| meta.overload.as_deref())
            .unwrap_or("");
        let key = (
            operator.domain().to_owned(),
            operator.op_type.to_string(),
            overload.to_owned(),
        );
        found.extend(index.get(&key));
        for (_, body) in operator.bodies() {
            calls(body, index, found);
        }
    }
}

/// Takes away functions that call nothing, until only those on or before a circle of calls are left.
fn recursion(model: &Model, index: &HashMap<Key, usize>, errors: &mut Vec<CheckError>) {
    let called: Vec<HashSet<usize>> = model
        .functions
        .iter()
        .map(|function| {
            let mut found = HashSet::new();
            calls(&function.graph, index, &mut found);
            found
        })
        .collect();
    let mut callers: Vec<Vec<usize>> = vec![Vec::new(); called.len()];
    let mut pending: Vec<usize> = called.iter().map(HashSet::len).collect();
    for (caller, called) in called.iter().enumerate() {
        for at in called {
            if let Some(callers) = callers.get_mut(*at) {
                callers.push(caller);
            }
        }
    }
    let mut ended: Vec<usize> = (0..pending.len())
        .filter(|at| pending.get(*at) == Some(&0))
        .collect();
    while let Some(at) = ended.pop() {
        for caller in callers.get(at).into_iter().flatten() {
            if let Some(left) = pending.get_mut(*caller) {
                *left -= 1;
                if *left == 0 {
                    ended.push(*caller);
                }
            }
        }
    }
    for at in (0..pending.len()).filter(|at| pending.get(*at).is_some_and(|left| *left > 0)) {
        if let Some(function) = model.functions.get(at) {
            let function = label(&key(function));
            errors.push(CheckError::of_graph(
                &GraphPath::function(at),
                Problem::RecursiveFunction { function },
            ));
        }
    }
}
