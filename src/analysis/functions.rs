//! Calls of model-local functions: a body is inferred once for all calls with the same types and attributes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use indexmap::IndexSet;

use super::bodies::{hide_inputs, join, seed};
use super::call::{Call, Facts};
use super::infer::{Driver, Scope, count, fuel};
use crate::ir::{AttributeValue, Function, Graph, GraphPath, Imports, Name, NodeId, Operator, ValueType};
use crate::proto;

/// Calls within calls.
const MAX_DEPTH: usize = 32;

type Key = (String, String, String);

/// The functions of a model, and the types they have been called with.
pub(super) struct Functions<'m> {
    list: &'m [Function],
    index: HashMap<Key, usize>,
    /// Nodes of each function, those of bodies included.
    nodes: Vec<usize>,
    called_with: RefCell<Vec<Option<Vec<ValueType>>>>,
    /// What each function has been found to give, by the types it was called with.
    found: RefCell<Vec<HashMap<String, Vec<Found>>>>,
    /// Nodes that are inferred before further calls stay unknown: calls with other types each may nest exponentially.
    budget: Cell<usize>,
}

/// The outputs of one call, for others like it.
struct Found {
    types: Vec<ValueType>,
    attributes: Vec<(Name, AttributeValue)>,
    /// Calls around it: a call that is nested deeper knows less.
    depth: usize,
    outputs: Vec<ValueType>,
}

impl<'m> Functions<'m> {
    pub(super) fn new(list: &'m [Function]) -> Self {
        let mut index = HashMap::new();
        for (at, function) in list.iter().enumerate() {
            let header = &function.header;
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            index
                .entry((text(&header.domain), text(&header.name), text(&header.overload)))
                .or_insert(at);
        }
        let nodes: Vec<usize> = list.iter().map(|function| count(&function.graph)).collect();
        let budget = fuel(nodes.iter().sum());
        Self {
            list,
            index,
            nodes,
            called_with: RefCell::new(vec![None; list.len()]),
            found: RefCell::new(list.iter().map(|_| HashMap::new()).collect()),
            budget: Cell::new(budget),
        }
    }

    /// Nodes of all functions, those of bodies included.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.iter().sum()
    }

    /// The function that a node calls.
    pub(super) fn find(&self, graph: &Graph, id: NodeId) -> Option<usize> {
        if self.list.is_empty() {
            return None;
        }
        let node = graph.get(id)?;
        let operator = node.operator()?;
        let overload = node
            .meta
            .as_ref()
            .and_then(|meta| meta.overload.as_deref())
            .unwrap_or("")
            .to_owned();
        self.index
            .get(&(
                operator.domain().to_owned(),
                operator.op_type.to_string(),
                overload,
            ))
            .copied()
    }

    /// Gives the inputs of a function's own graph the types that all its calls agree on.
    pub(super) fn seed(&self, index: usize, graph: &mut Graph) {
        let called_with = self.called_with.borrow();
        if let Some(Some(types)) = called_with.get(index) {
            seed(graph, types);
        }
    }

    fn note_call(&self, index: usize, types: &[ValueType]) {
        if let Some(known) = self.called_with.borrow_mut().get_mut(index) {
            *known = Some(match known.take() {
                None => types.to_vec(),
                Some(known) => known
                    .iter()
                    .enumerate()
                    .map(|(at, ty)| types.get(at).map_or(ValueType::Unknown, |other| join(ty, other)))
                    .collect(),
            });
        }
    }
}

/// A function as one call has it.
pub(super) struct Called<'m> {
    /// The function's graph with the types and attributes of the call.
    pub(super) graph: Graph,
    /// The function's own.
    pub(super) imports: &'m Imports,
}

impl<'m> Functions<'m> {
    /// A function as a call has it; `None` where too many nodes have been inferred already.
    pub(super) fn called(&self, index: usize, call: &Call<'_>) -> Option<Called<'m>> {
        let function = self.list.get(index)?;
        let nodes = self.nodes.get(index).copied().unwrap_or(0);
        self.budget.set(self.budget.get().checked_sub(nodes)?);
        let mut graph = function.graph.clone();
        seed(&mut graph, &types_of(function, call));
        bind_attributes(&mut graph, call.operator, &function.header);
        let mut driver = Driver {
            functions: Some(self),
            contradictions: IndexSet::new(),
            fuel: fuel(nodes),
        };
        let scope = Scope {
            imports: &function.opset_imports,
            path: GraphPath::function(index),
            depth: 1,
        };
        driver.graph(&mut graph, &scope);
        Some(Called {
            graph,
            imports: &function.opset_imports,
        })
    }

    /// A text that is the same for calls with the same types and attributes; `None` for attributes that are not compared.
    pub(super) fn key(&self, index: usize, call: &Call<'_>) -> Option<String> {
        let types = types_of(self.list.get(index)?, call);
        Some(format!("{index} {} {:?}", summary(&types), plain(call.operator)?))
    }
}

/// The types that a function's inputs have in a call.
fn types_of(function: &Function, call: &Call<'_>) -> Vec<ValueType> {
    (0..function.graph.inputs().len())
        .map(|input| call.ty(input).cloned().unwrap_or(ValueType::Unknown))
        .collect()
}

impl Functions<'_> {
    /// What a call like this one has given.
    fn recall(
        &self,
        index: usize,
        types: &[ValueType],
        operator: &Operator,
        depth: usize,
    ) -> Option<Vec<ValueType>> {
        let found = self.found.borrow();
        let attributes = operator.attributes();
        let alike = |known: &&Found| {
            known.depth == depth
                && known.types == types
                && known.attributes.len() == attributes.len()
                && known
                    .attributes
                    .iter()
                    .zip(attributes)
                    .all(|((name, value), other)| *name == other.name && same(value, &other.value))
        };
        let candidates = found.get(index)?.get(&summary(types))?;
        Some(candidates.iter().find(alike)?.outputs.clone())
    }

    fn keep(
        &self,
        index: usize,
        types: Vec<ValueType>,
        operator: &Operator,
        depth: usize,
        outputs: Vec<ValueType>,
    ) {
        let Some(attributes) = plain(operator) else {
            return;
        };
        if let Some(found) = self.found.borrow_mut().get_mut(index) {
            found.entry(summary(&types)).or_default().push(Found {
                types,
                attributes,
                depth,
                outputs,
            });
        }
    }
}

/// A text that calls with the same types share.
fn summary(types: &[ValueType]) -> String {
    types.iter().map(|ty| format!("{ty};")).collect()
}

impl Driver<'_> {
    /// The outputs of a call.
    pub(super) fn call_function(&mut self, index: usize, call: &Call<'_>, scope: &Scope<'_>) -> Facts {
        let mut facts = Facts::new(call.outputs);
        let Some(functions) = self.functions else {
            return facts;
        };
        let Some(function) = functions.list.get(index) else {
            return facts;
        };
        let types = types_of(function, call);
        functions.note_call(index, &types);
        if let Some(outputs) = functions.recall(index, &types, call.operator, scope.depth) {
            for (output, ty) in outputs.into_iter().enumerate() {
                facts.whole(output, ty);
            }
            return facts;
        }
        let nodes = functions.nodes.get(index).copied().unwrap_or(0);
        let Some(rest) = functions.budget.get().checked_sub(nodes) else {
            return facts;
        };
        if scope.depth >= MAX_DEPTH {
            return facts;
        }
        functions.budget.set(rest);
        let mut graph = function.graph.clone();
        seed(&mut graph, &types);
        bind_attributes(&mut graph, call.operator, &function.header);
        let mark = self.contradictions.len();
        let inner = Scope {
            imports: &function.opset_imports,
            path: GraphPath::function(index),
            depth: scope.depth + 1,
        };
        self.graph(&mut graph, &inner);
        self.contradictions.truncate(mark);
        let outputs: Vec<ValueType> = graph
            .output_values()
            .into_iter()
            .map(|value| value.map_or(ValueType::Unknown, |value| hide_inputs(graph.ty(value), &graph)))
            .collect();
        for (output, ty) in outputs
            .iter()
            .enumerate()
            .filter(|(_, ty)| **ty != ValueType::Unknown)
        {
            facts.whole(output, ty.clone());
        }
        functions.keep(index, types, call.operator, scope.depth, outputs);
        facts
    }
}

/// The attributes of a call; `None` if one is of a kind that calls are not compared by.
fn plain(operator: &Operator) -> Option<Vec<(Name, AttributeValue)>> {
    operator
        .attributes()
        .iter()
        .map(|attribute| {
            same(&attribute.value, &attribute.value)
                .then(|| (attribute.name.clone(), attribute.value.clone()))
        })
        .collect()
}

/// Whether two attributes are of a kind that is compared here, and the same.
fn same(a: &AttributeValue, b: &AttributeValue) -> bool {
    use AttributeValue::{Float, Floats, Int, Ints, String, Strings};
    match (a, b) {
        (Int(a), Int(b)) => a == b,
        (Float(a), Float(b)) => a.to_bits() == b.to_bits(),
        (String(a), String(b)) => a == b,
        (Ints(a), Ints(b)) => a == b,
        (Floats(a), Floats(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        (Strings(a), Strings(b)) => a == b,
        _ => false,
    }
}

/// Puts the values of a call, or the function's defaults, in place of references to the function's attributes.
fn bind_attributes(graph: &mut Graph, call: &Operator, header: &proto::FunctionProto) {
    for id in graph.node_ids().collect::<Vec<_>>() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let references: Vec<(Name, Option<AttributeValue>)> = operator
            .attributes()
            .iter()
            .filter_map(|attribute| match &attribute.value {
                AttributeValue::Reference(name, _) => {
                    let value = call.attribute(name).cloned().or_else(|| default(header, name));
                    Some((attribute.name.clone(), value))
                }
                _ => None,
            })
            .collect();
        let bodies: Vec<_> = operator.bodies().map(|(body, _)| body).collect();
        for (name, value) in references {
            let mut editor = graph.edit("bind");
            // The node is live and an operator, so neither edit can fail.
            let _ = match value {
                Some(value) => editor.set_attribute(id, name, value),
                None => editor.remove_attribute(id, &name),
            };
        }
        for body in bodies {
            if let Some(body) = graph.body_mut(id, body) {
                bind_attributes(body, call, header);
            }
        }
    }
}

/// The default of a function's attribute, for the kinds that shapes depend on.
fn default(header: &proto::FunctionProto, name: &str) -> Option<AttributeValue> {
    let attribute = header
        .attribute_proto
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some(name))?;
    Some(match attribute.r#type? {
        1 => AttributeValue::Float(attribute.f?),
        2 => AttributeValue::Int(attribute.i?),
        3 => AttributeValue::String(attribute.s.clone()?),
        6 => AttributeValue::Floats(attribute.floats.clone()),
        7 => AttributeValue::Ints(attribute.ints.clone()),
        8 => AttributeValue::Strings(attribute.strings.clone()),
        _ => return None,
    })
}
