//! What readers of models put up with, and what becomes of it: operators that the imported opset lacks are carried through,
//! domains that are used without an import are imported, nodes that are not sorted are sorted by whoever writes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{
    self, CheckError, FunctionIndex, Graph, GraphPath, Model, Name, NodeId, Operator, OpsetImport, Problem,
    opset_version,
};
use crate::ops;

/// Something about a model that is put up with, and that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Stable name; the error's code under `--strict`.
    pub code: &'static str,
    /// What it is and what becomes of it.
    pub message: String,
    /// The first node that it is about.
    pub node: Option<String>,
    /// Whether the model has been changed by taking it on, or will be by writing it.
    pub repaired: bool,
}

/// Takes a model on as it was read. Afterwards each operator is one of the table, of another domain, or opaque.
pub fn adopt(model: &mut Model) -> Vec<Notice> {
    let mut notices = Vec::new();
    order(model, &mut notices);
    imports(model, &mut notices);
    opaque(model, &mut notices);
    notices
}

/// Nodes that stand before what they read: a writer sorts them.
fn order(model: &Model, notices: &mut Vec<Notice>) {
    let errors = ir::check_sorted(model).err().unwrap_or_default();
    let Some(first) = errors.first() else { return };
    let nodes: BTreeSet<(Option<GraphPath>, Option<String>)> = errors
        .iter()
        .map(|error| (error.path.clone(), error.node.clone()))
        .collect();
    let others = match nodes.len() {
        1 => String::new(),
        count => format!(", and so do {} others", count - 1),
    };
    notices.push(Notice {
        code: "not-sorted",
        message: format!("the nodes are not in topological order: {first}{others}; they are sorted"),
        node: first.node.clone(),
        repaired: true,
    });
}

/// The domains that a graph and its bodies use, each with its first node.
fn domains(graph: &Graph, found: &mut BTreeMap<String, String>) {
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        found
            .entry(operator.imported_domain().to_owned())
            .or_insert_with(|| graph.label(id));
        for (_, body) in operator.bodies() {
            domains(body, found);
        }
    }
}

/// Imports what is used without an import. ONNX's own domain is not guessed: what its operators mean depends on the version.
fn imports(model: &mut Model, notices: &mut Vec<Notice>) {
    let mut missing: Vec<(Option<usize>, String, String, i64)> = Vec::new();
    let roots = std::iter::once((None, &model.graph, &model.opset_imports)).chain(
        model
            .functions
            .iter()
            .enumerate()
            .map(|(index, f)| (Some(index), &f.graph, &f.opset_imports)),
    );
    for (function, graph, imports) in roots {
        if imports.is_empty() && function.is_none() {
            continue;
        }
        let mut used = BTreeMap::new();
        domains(graph, &mut used);
        for (domain, node) in used {
            if domain.is_empty() || opset_version(imports, &domain).is_some() {
                continue;
            }
            let version = version_in_use(graph, &domain);
            missing.push((function, domain, node, version));
        }
    }
    for (function, domain, node, version) in missing {
        let import = OpsetImport {
            domain: Some(Name::from(domain.clone())),
            version: Some(version),
        };
        let within = match function {
            None => {
                model.opset_imports.push(import);
                String::new()
            }
            Some(index) => match model.functions.get_mut(index) {
                Some(function) => {
                    function.opset_imports.push(import);
                    let name = function.header.name.as_deref().unwrap_or("");
                    format!("function {name}: ")
                }
                None => continue,
            },
        };
        notices.push(Notice {
            code: "missing-opset-import",
            message: format!(
                "{within}node {node:?} is of the domain {domain:?}, which is not imported; it is imported as version {version}"
            ),
            node: Some(node),
            repaired: true,
        });
    }
}

/// The version to import: the oldest that means the same as the newest for every operator that is used, which is what ONNX
/// Runtime takes; 1 for domains without a table.
fn version_in_use(graph: &Graph, domain: &str) -> i64 {
    let Some(newest) = ops::newest_version(domain) else {
        return 1;
    };
    fn latest(graph: &Graph, domain: &str, newest: i64) -> i64 {
        let own = |id| {
            let operator = graph
                .operator(id)
                .filter(|operator| operator.imported_domain() == domain)?;
            ops::schema(domain, &operator.op_type, newest).map(|schema| schema.since)
        };
        let here = graph.node_ids().filter_map(own).max().unwrap_or(1);
        let inside = graph.node_ids().filter_map(|id| graph.operator(id));
        inside
            .flat_map(Operator::bodies)
            .map(|(_, body)| latest(body, domain, newest))
            .fold(here, i64::max)
    }
    latest(graph, domain, newest)
}

/// Marks the operators that the imported version of their domain lacks.
fn opaque(model: &mut Model, notices: &mut Vec<Notice>) {
    let mut found: Vec<((String, i64, bool), Vec<String>)> = Vec::new();
    let mut marked: Vec<(GraphPath, NodeId)> = Vec::new();
    let functions = model.function_index();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for id in graph.topological_order() {
            let Some(key) = beyond(model, &functions, graph, &path, id) else {
                continue;
            };
            marked.push((path.clone(), id));
            let label = graph.label(id);
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, nodes)) => nodes.push(label),
                None => found.push((key, vec![label])),
            }
        }
    }
    for (path, id) in marked {
        if let Some(graph) = model.graph_at_mut(&path) {
            graph.set_opaque(id, true);
        }
    }
    for ((name, version, withdrawn), nodes) in found {
        let why = if withdrawn {
            "may no longer be used"
        } else {
            "does not exist"
        };
        let count = match nodes.len() {
            1 => "node".to_owned(),
            count => format!("{count} nodes, the first of them"),
        };
        let first = nodes.first().cloned().unwrap_or_default();
        notices.push(Notice {
            code: if withdrawn {
                "deprecated-operator"
            } else {
                "unknown-operator"
            },
            message: format!(
                "the operator {name} {why} in version {version} ({count} {first:?}); it is carried through as it is"
            ),
            node: nodes.into_iter().next(),
            repaired: false,
        });
    }
}

/// Name, imported version and whether it was withdrawn, for an operator that its domain's table lacks.
fn beyond(
    model: &Model,
    functions: &FunctionIndex<'_>,
    graph: &Graph,
    path: &GraphPath,
    id: NodeId,
) -> Option<(String, i64, bool)> {
    let operator = graph.operator(id)?;
    if operator.is_opaque() {
        return None;
    }
    let error = ops::lacking(model, functions, graph, path, id)?;
    let domain = operator.imported_domain();
    let name = match domain {
        "" => operator.op_type.to_string(),
        domain => format!("{domain}.{}", operator.op_type),
    };
    let version = opset_version(model.opsets(path), domain).unwrap_or(1);
    let withdrawn = matches!(error, Problem::DeprecatedOperator { .. });
    Some((name, version, withdrawn))
}

impl From<Notice> for CheckError {
    /// The notice as the error that it is for whoever puts up with nothing.
    fn from(notice: Notice) -> Self {
        let mut error = Self::of_model(Problem::Refused {
            code: notice.code,
            message: notice.message,
        });
        error.node = notice.node;
        error
    }
}
