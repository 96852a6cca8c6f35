//! Model-local functions: unique, not recursive.

use std::collections::HashSet;

use super::{CheckError, Problem};
use crate::ir::{FunctionIndex, FunctionKey, Graph, GraphPath, Model, Operator};

pub(super) fn check(model: &Model, errors: &mut Vec<CheckError>) {
    let mut seen: HashSet<FunctionKey<'_>> = HashSet::new();
    for (at, function) in model.functions.iter().enumerate() {
        let path = GraphPath::function(at);
        super::imports(&function.opset_imports, errors);
        let key = FunctionKey::of(function);
        if key.name.is_empty() {
            errors.push(CheckError::of_graph(
                &path,
                Problem::MissingName { what: "the function" },
            ));
        }
        if !seen.insert(key) {
            errors.push(CheckError::of_graph(
                &path,
                Problem::DuplicateFunction {
                    function: key.to_string(),
                },
            ));
        }
    }
    recursion(model, errors);
}

/// Functions that a graph and its bodies call.
fn calls(graph: &Graph, index: &FunctionIndex<'_>, found: &mut HashSet<usize>) {
    for id in graph.node_ids() {
        found.extend(index.place_called_by(graph, id));
        for (_, body) in graph.operator(id).into_iter().flat_map(Operator::bodies) {
            calls(body, index, found);
        }
    }
}

/// Takes away functions that call nothing, until only those on or before a circle of calls are left.
fn recursion(model: &Model, errors: &mut Vec<CheckError>) {
    let index = model.function_index();
    let called: Vec<HashSet<usize>> = model
        .functions
        .iter()
        .map(|function| {
            let mut found = HashSet::new();
            calls(&function.graph, &index, &mut found);
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
            let function = FunctionKey::of(function).to_string();
            errors.push(CheckError::of_graph(
                &GraphPath::function(at),
                Problem::RecursiveFunction { function },
            ));
        }
    }
}
