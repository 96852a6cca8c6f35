//! Judging whether a model is well formed, as far as the IR alone can tell: names, order, slots, captures, opset imports,
//! functions, declared types. What the operator table says is judged by [`crate::ops::check`], and
//! [`crate::analysis::check`] does everything at once, types included.

mod error;
mod functions;
mod graph;
mod sparse;

pub use error::{CheckError, Problem};

use std::collections::BTreeMap;

use super::imports::OpsetImport;
use super::model::{GraphPath, Model};

/// The newest IR version that this crate knows.
pub const NEWEST_IR_VERSION: i64 = 14;

/// Checks the structure of a model. An error for each problem, in the order of graphs and nodes.
pub fn check(model: &Model) -> Result<(), Vec<CheckError>> {
    let mut errors = Vec::new();
    if !(1..=NEWEST_IR_VERSION).contains(&model.ir_version()) {
        errors.push(CheckError::of_model(Problem::UnsupportedIrVersion {
            version: model.ir_version(),
        }));
    }
    // Before IR version 3 the operators' version was part of the IR version.
    if model.opset_imports.is_empty() && model.ir_version() >= 3 {
        errors.push(CheckError::of_model(Problem::MissingOpsetImport {
            domain: String::new(),
        }));
    }
    imports(&model.opset_imports, &mut errors);
    functions::check(model, &mut errors);
    let roots = std::iter::once((GraphPath::MAIN, &model.graph)).chain(
        model
            .functions
            .iter()
            .enumerate()
            .map(|(index, f)| (GraphPath::function(index), &f.graph)),
    );
    for (path, graph) in roots {
        let mut scopes: Vec<graph::Scope> = Vec::new();
        graph::check(model, graph, &path, None, &mut scopes, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Checks that the nodes of each graph stand in topological order, as a file must have them. For models as read: a
/// rewrite leaves the order to the writer.
pub fn check_sorted(model: &Model) -> Result<(), Vec<CheckError>> {
    let mut errors = Vec::new();
    for path in model.graph_paths() {
        if let Some(graph) = model.graph_at(&path) {
            graph::sorted(graph, &path, &mut errors);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// One domain may be imported again, but not in another version.
fn imports(imports: &[OpsetImport], errors: &mut Vec<CheckError>) {
    let mut versions: BTreeMap<&str, i64> = BTreeMap::new();
    for import in imports {
        let version = import.version.unwrap_or(0);
        let known = *versions.entry(import.domain()).or_insert(version);
        if known != version {
            let domain = import.domain().to_owned();
            errors.push(CheckError::of_model(Problem::ConflictingOpsetImport {
                domain,
                versions: (known, version),
            }));
        }
    }
}
