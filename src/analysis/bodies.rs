//! If, Loop, Scan and SequenceMap: their bodies are inferred with the types of the values they get.

use std::sync::Arc;

use super::call::{Call, Facts};
use super::infer::{Driver, Scope, filled};
use super::shapes::control::{self, Results};
use crate::ir::{
    BodyIndex, Dim, Graph, NodeId, ShapeContent, Tensor, TensorType, ValueId, ValueType, opset_version,
};

/// Depth of bodies within bodies up to which loops are inferred again until the types of their state are stable.
const MAX_STABLE_DEPTH: usize = 3;
/// Rounds until the state of a loop counts as unknown. The types of one value can only widen a few times.
const MAX_ROUNDS: usize = 4;

/// What the graph around a body knows of a captured value.
struct Captured {
    ty: ValueType,
    content: Option<Arc<ShapeContent>>,
    tensor: Option<Tensor>,
}

impl Driver<'_> {
    /// The outputs of an operator with bodies. The bodies themselves get their types, too.
    pub(super) fn with_bodies(&mut self, graph: &mut Graph, id: NodeId, scope: &Scope<'_>) -> Facts {
        let Some(operator) = graph.operator(id) else {
            return Facts::new(0);
        };
        let version = opset_version(scope.imports, operator.domain()).unwrap_or(0);
        let bodies: Vec<BodyIndex> = operator.bodies().map(|(body, _)| body).collect();
        let captured: Vec<Option<Captured>> = graph
            .captures_of(id)
            .into_iter()
            .map(|v| Some(captured(graph, v?)))
            .collect();
        let Some(plan) = Call::of(graph, id, version).map(|call| control::plan(&call)) else {
            return Facts::new(0);
        };
        let mut facts = Facts::new(graph.get(id).map_or(0, |node| node.outputs().len()));
        let exhausted = self.fuel == 0;
        let mut seeds = if exhausted {
            control::no_state(&plan)
        } else {
            plan.seeds.clone()
        };
        let mut rounds = 0;
        let results = loop {
            let mark = self.contradictions.len();
            let mut inferred = Vec::with_capacity(bodies.len());
            for body in &bodies {
                let Some(mut inner) = graph.body(id, *body).cloned() else {
                    continue;
                };
                let inner_scope = Scope {
                    imports: scope.imports,
                    path: scope.path.body(id, *body),
                    depth: scope.depth + 1,
                };
                self.fuel = self.fuel.saturating_sub(inner.node_ids().count());
                set_captures(&mut inner, &captured);
                seed(&mut inner, &seeds);
                self.graph(&mut inner, &inner_scope);
                inferred.push((*body, inner));
            }
            // Only operators with one body carry a state.
            let widened = match inferred.as_slice() {
                [(_, body)] => control::widened(&plan, &seeds, body),
                _ => None,
            };
            if let Some(widened) = widened.filter(|_| !exhausted) {
                self.contradictions.truncate(mark);
                rounds += 1;
                seeds = if rounds >= MAX_ROUNDS || scope.depth >= MAX_STABLE_DEPTH {
                    control::unknown_state(&plan, &widened)
                } else {
                    widened
                };
                if rounds <= MAX_ROUNDS {
                    continue;
                }
            }
            break inferred;
        };
        if let Some(call) = Call::of(graph, id, version) {
            let named: Vec<Results<'_>> = results
                .iter()
                .map(|(body, inner)| Results {
                    attribute: call
                        .operator
                        .attributes()
                        .get(body.attribute)
                        .map_or("", |attribute| &attribute.name),
                    body: inner,
                })
                .collect();
            control::outputs(&call, &plan, &named, &mut facts);
        }
        for (body, inner) in results {
            if let Some(slot) = graph.body_mut(id, body) {
                *slot = inner;
            }
        }
        facts
    }
}

fn captured(graph: &Graph, id: ValueId) -> Captured {
    let argument = super::call::Argument::of(graph, id);
    Captured {
        ty: argument.ty.into_owned(),
        content: graph.value(id).and_then(|value| value.content.clone()),
        tensor: argument.tensor.cloned(),
    }
}

/// Tells the capture nodes of a body what the graph around it knows.
fn set_captures(body: &mut Graph, captured: &[Option<Captured>]) {
    let captures: Vec<(NodeId, u32)> = body.captures().collect();
    for (id, index) in captures {
        match captured.get(index as usize).and_then(Option::as_ref) {
            Some(outer) => {
                body.set_facts(ValueId::new(id, 0), outer.ty.clone(), outer.content.clone());
                body.set_captured_constant(id, outer.tensor.clone());
            }
            None => body.set_captured_constant(id, None),
        }
    }
}

/// Gives graph inputs these types. What they leave open is filled in from the declarations, but for symbols: the file's
/// names for dimensions of a body or function say nothing outside of it.
pub(super) fn seed(graph: &mut Graph, types: &[ValueType]) {
    let inputs = graph.inputs().to_vec();
    for (at, id) in inputs.into_iter().enumerate() {
        let value = ValueId::new(id, 0);
        let declared = numbers_only(graph.ty(value));
        let ty = match types.get(at) {
            Some(ty) if !ty.contradicts(&declared) => filled(ty.clone(), declared),
            Some(ty) => ty.clone(),
            None => declared,
        };
        graph.set_facts(value, ty, None);
    }
}

fn numbers_only(ty: &ValueType) -> ValueType {
    map_dims(ty, &|dim| match dim {
        Dim::Fixed(value) => Dim::Fixed(*value),
        _ => Dim::Unknown,
    })
}

/// The type with each dimension mapped.
pub(super) fn map_dims(ty: &ValueType, map: &dyn Fn(&Dim) -> Dim) -> ValueType {
    let tensor = |tensor: &TensorType| TensorType {
        dtype: tensor.dtype,
        shape: tensor.shape.as_ref().map(|shape| shape.iter().map(map).collect()),
    };
    match ty {
        ValueType::Tensor(t) => ValueType::Tensor(tensor(t)),
        ValueType::Sparse(t) => ValueType::Sparse(tensor(t)),
        ValueType::Sequence(element) => ValueType::Sequence(Box::new(map_dims(element, map))),
        ValueType::Optional(element) => ValueType::Optional(Box::new(map_dims(element, map))),
        ValueType::Map(key, value) => ValueType::Map(*key, Box::new(map_dims(value, map))),
        other => other.clone(),
    }
}

/// The type without what depends on unnamed dimensions of the graph's inputs: in another call or iteration they differ.
pub(super) fn hide_inputs(ty: &ValueType, graph: &Graph) -> ValueType {
    let prefixes: Vec<String> = graph
        .inputs()
        .iter()
        .filter_map(|id| graph.value(ValueId::new(*id, 0)))
        .map(|value| super::symbols::private_prefix(&value.name))
        .collect();
    map_dims(ty, &|dim| {
        let mut local = false;
        dim.for_each_symbol(&mut |name| {
            local |= prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        });
        if local { Dim::Unknown } else { dim.clone() }
    })
}

/// What holds of a value that has the one type or the other.
pub(super) fn join(a: &ValueType, b: &ValueType) -> ValueType {
    let tensor = |a: &TensorType, b: &TensorType| TensorType {
        dtype: a.dtype.filter(|dtype| b.dtype == Some(*dtype)),
        shape: match (&a.shape, &b.shape) {
            (Some(a), Some(b)) if a.len() == b.len() => Some(
                a.iter()
                    .zip(b)
                    .map(|(a, b)| if a.same(b) { a.clone() } else { Dim::Unknown })
                    .collect(),
            ),
            _ => None,
        },
    };
    match (a, b) {
        (ValueType::Tensor(a), ValueType::Tensor(b)) => ValueType::Tensor(tensor(a, b)),
        (ValueType::Sparse(a), ValueType::Sparse(b)) => ValueType::Sparse(tensor(a, b)),
        (ValueType::Sequence(a), ValueType::Sequence(b)) => ValueType::Sequence(Box::new(join(a, b))),
        (ValueType::Optional(a), ValueType::Optional(b)) => ValueType::Optional(Box::new(join(a, b))),
        (ValueType::Map(ka, a), ValueType::Map(kb, b)) if ka == kb => {
            ValueType::Map(*ka, Box::new(join(a, b)))
        }
        (ValueType::Opaque, ValueType::Opaque) => ValueType::Opaque,
        _ => ValueType::Unknown,
    }
}
