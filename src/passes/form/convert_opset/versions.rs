//! Opset imports and the IR version that goes with them.

use super::PassReport;
use crate::ir::{DType, Model, NodeKind, ValueType};

/// Sets the version of ONNX's own domain in the model and its functions to what `version` makes of it.
pub(super) fn set(model: &mut Model, version: impl Fn(i64) -> i64) {
    let functions = model
        .functions
        .iter_mut()
        .map(|function| &mut function.opset_imports);
    let imports = std::iter::once(&mut model.opset_imports).chain(functions);
    for import in imports.flatten().filter(|import| import.domain().is_empty()) {
        import.version = import.version.map(&version);
    }
}

/// Says which versions became which.
pub(super) fn report(before: &[i64], model: &Model, report: &mut PassReport) {
    let functions = model.functions.iter().map(|function| &function.opset_imports);
    let after = std::iter::once(&model.opset_imports)
        .chain(functions)
        .filter_map(|imports| crate::ir::opset_version(imports, ""));
    for (from, to) in before.iter().zip(after).filter(|(from, to)| **from != *to) {
        report.add(&format!("opset {from} -> {to}"), 1);
    }
}

/// First opset of each IR version, from the version table of the specification.
const FIRST_OPSET: [(i64, i64); 11] = [
    (1, 3),
    (9, 4),
    (10, 5),
    (11, 6),
    (12, 7),
    (15, 8),
    (19, 9),
    (21, 10),
    (23, 11),
    (24, 12),
    (25, 13),
];

/// The IR version that an opset came with.
fn of_opset(opset: i64) -> i64 {
    FIRST_OPSET
        .iter()
        .rev()
        .find(|(first, _)| *first <= opset)
        .map_or(3, |(_, ir)| *ir)
}

/// Raises the IR version to the one that the opset came with, as readers may refuse a newer opset in an older one, or lowers it
/// for an older opset as far as the model allows.
pub(super) fn adapt_ir_version(model: &mut Model, from: i64, to: i64) {
    let own = model.ir_version();
    // From IR version 4 on, an initializer that is listed as an input may be overridden; an older file lists all of them.
    if own < 4 {
        return;
    }
    if to < from {
        let lowest = of_opset(to).max(needed(model)).max(4);
        model.header.ir_version = Some(own.min(lowest));
    } else {
        model.header.ir_version = Some(own.max(of_opset(to)));
    }
}

/// The oldest IR version that has everything in the model.
fn needed(model: &Model) -> i64 {
    let mut needed = 4;
    if !model.functions.is_empty() {
        needed = 8;
    }
    if model.functions.iter().any(|f| f.header.overload.is_some()) {
        needed = 10;
    }
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for node in graph.node_ids().filter_map(|id| graph.get(id)) {
            let meta = node.meta.as_deref();
            if meta.is_some_and(|meta| meta.overload.is_some() || !meta.metadata.is_empty()) {
                needed = needed.max(10);
            }
            if meta.is_some_and(|meta| !meta.device_configurations.is_empty()) {
                needed = needed.max(11);
            }
            if matches!(&node.kind, NodeKind::Constant(constant) if constant.tensor.is_none()) {
                needed = needed.max(5);
            }
            for value in node.outputs() {
                needed = needed.max(of_type(&value.ty));
            }
        }
    }
    needed
}

/// The first IR version that has a type.
fn of_type(ty: &ValueType) -> i64 {
    match ty {
        ValueType::Optional(_) => 8,
        ValueType::Sequence(inner) => of_type(inner),
        other => match other.dtype() {
            None => 4,
            Some(dtype) if dtype.bits() >= 8 && !dtype.name().starts_with("float8") => 4,
            Some(dtype) if dtype.name().starts_with("float8") && !dtype.name().contains("e8m0") => 9,
            Some(DType::I4 | DType::U4) => 10,
            Some(dtype) if dtype.name().starts_with("float4") => 11,
            Some(_) => 13,
        },
    }
}
