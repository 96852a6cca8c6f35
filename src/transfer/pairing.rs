//! Which constants of two models with the same graph correspond to each other.

use std::collections::{BTreeMap, HashMap};

use crate::ir::{Graph, NodeId, NodeKind, Operator, ValueId};

/// Where two graphs differ first.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum PairError {
    /// The interfaces differ.
    #[error("the models have other {what}: {left} and {right}")]
    Interface {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// Those of the first model.
        left: usize,
        /// Those of the second.
        right: usize,
    },
    /// One graph has a node that the other has not.
    #[error("{node} ({operator}) has no counterpart: the other model ends there")]
    Missing {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// Operators differ.
    #[error("{node} is {operator}, its counterpart {other} is {other_operator}")]
    Operator {
        /// The node of the first model.
        node: String,
        /// Its operator.
        operator: String,
        /// The node of the second.
        other: String,
        /// Its operator.
        other_operator: String,
    },
    /// Attributes differ.
    #[error("{node} and its counterpart {other} differ in the attribute {attribute:?}")]
    Attribute {
        /// The node of the first model.
        node: String,
        /// The node of the second.
        other: String,
        /// The attribute.
        attribute: String,
    },
    /// The nodes read other values.
    #[error("{node} and its counterpart {other} read other values in input {slot}")]
    Input {
        /// The node of the first model.
        node: String,
        /// The node of the second.
        other: String,
        /// The input, counted from 0.
        slot: usize,
    },
    /// A body differs, by structure or by a constant.
    #[error("the bodies of {node} and its counterpart {other} differ: {reason}")]
    Body {
        /// The node of the first model.
        node: String,
        /// The node of the second.
        other: String,
        /// How.
        reason: Box<PairError>,
    },
    /// Bodies read other values of the graph around them.
    #[error("they capture other values")]
    Captures,
    /// A constant of a body has other elements.
    #[error("constant {constant} has other elements")]
    Elements {
        /// The constant of the first model.
        constant: String,
    },
    /// One constant stands for several of the other model.
    #[error("{constant} is shared by nodes whose weights the other model has apart, as {first} and {second}")]
    Shared {
        /// The constant of the first model.
        constant: String,
        /// A constant of the second.
        first: String,
        /// Another one.
        second: String,
    },
    /// Constants have other shapes or types.
    #[error("{constant} is {left}, its counterpart {other} is {right}")]
    Constant {
        /// The constant of the first model.
        constant: String,
        /// Its type.
        left: String,
        /// The constant of the second.
        other: String,
        /// Its type.
        right: String,
    },
}

/// Constants of the second graph by constants of the first.
pub type Pairs = BTreeMap<NodeId, NodeId>;

/// Pairs the constants of two graphs that have the same operators, attributes and connections. Nodes correspond by their order, or
/// else by the names of what they give.
///
/// # Errors
/// The first difference, by order.
pub fn pair(left: &Graph, right: &Graph) -> Result<Pairs, PairError> {
    let (nodes, others) = (operators(left), operators(right));
    let by_order = compare(left, right, &nodes, &others);
    let Err(error) = by_order else { return by_order };
    let named: HashMap<&str, NodeId> = others
        .iter()
        .filter_map(|id| Some((result_name(right, *id)?, *id)))
        .collect();
    let counterparts: Option<Vec<NodeId>> = nodes
        .iter()
        .map(|id| named.get(result_name(left, *id)?).copied())
        .collect();
    match counterparts {
        Some(counterparts) if nodes.len() == others.len() => {
            compare(left, right, &nodes, &counterparts).map_err(|_| error)
        }
        _ => Err(error),
    }
}

fn operators(graph: &Graph) -> Vec<NodeId> {
    graph
        .topological_order()
        .into_iter()
        .filter(|id| graph.operator(*id).is_some())
        .collect()
}

fn result_name(graph: &Graph, id: NodeId) -> Option<&str> {
    let outputs = graph.get(id)?.outputs().iter();
    outputs
        .map(|value| value.name.as_str())
        .find(|name| !name.is_empty())
}

fn name(graph: &Graph, id: NodeId) -> String {
    match graph.get(id).and_then(|node| node.outputs().first()) {
        Some(value) if !value.name.is_empty() => value.name.to_string(),
        _ => graph.label(id),
    }
}

fn is_constant(graph: &Graph, value: ValueId) -> bool {
    matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    )
}

/// Two graphs on the way to their pairs.
struct Pairing<'a> {
    left: &'a Graph,
    right: &'a Graph,
    values: HashMap<ValueId, ValueId>,
    pairs: Pairs,
}

fn compare(left: &Graph, right: &Graph, nodes: &[NodeId], others: &[NodeId]) -> Result<Pairs, PairError> {
    let counts = [
        ("inputs", left.inputs().len(), right.inputs().len()),
        ("outputs", left.outputs().len(), right.outputs().len()),
    ];
    if let Some((what, left, right)) = counts.into_iter().find(|(_, left, right)| left != right) {
        return Err(PairError::Interface { what, left, right });
    }
    let mut pairing = Pairing {
        left,
        right,
        values: HashMap::new(),
        pairs: Pairs::new(),
    };
    for (a, b) in left.inputs().iter().zip(right.inputs()) {
        pairing.values.insert(ValueId::new(*a, 0), ValueId::new(*b, 0));
    }
    for (a, b) in captures(left).into_iter().zip(captures(right)) {
        pairing.values.insert(ValueId::new(a, 0), ValueId::new(b, 0));
    }
    for (at, id) in nodes.iter().enumerate() {
        match others.get(at) {
            Some(other) => pairing.node(*id, *other)?,
            None => {
                return Err(PairError::Missing {
                    node: left.label(*id),
                    operator: operator_name(left, *id),
                });
            }
        }
    }
    if let Some(extra) = others.get(nodes.len()) {
        return Err(PairError::Missing {
            node: right.label(*extra),
            operator: operator_name(right, *extra),
        });
    }
    for (at, (a, b)) in left
        .output_values()
        .into_iter()
        .zip(right.output_values())
        .enumerate()
    {
        let label = |graph: &Graph| {
            graph
                .outputs()
                .get(at)
                .map(|output| output.name.to_string())
                .unwrap_or_default()
        };
        pairing.value(a, b, || PairError::Input {
            node: label(left),
            other: label(right),
            slot: at,
        })?;
    }
    Ok(pairing.pairs)
}

/// What a body captures, by slot.
fn captures(graph: &Graph) -> Vec<NodeId> {
    let mut found: Vec<(u32, NodeId)> = graph.captures().map(|(id, slot)| (slot, id)).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

fn operator_name(graph: &Graph, id: NodeId) -> String {
    graph
        .operator(id)
        .map(|operator| operator.op_type.to_string())
        .unwrap_or_default()
}

impl Pairing<'_> {
    fn node(&mut self, id: NodeId, other: NodeId) -> Result<(), PairError> {
        let (Some(a), Some(b)) = (self.left.operator(id), self.right.operator(other)) else {
            return Ok(());
        };
        let (node, counterpart) = (self.left.label(id), self.right.label(other));
        let outputs = |graph: &Graph, id| graph.get(id).map_or(0, |node| node.outputs().len());
        if a.op_type != b.op_type
            || a.domain() != b.domain()
            || outputs(self.left, id) != outputs(self.right, other)
        {
            return Err(PairError::Operator {
                node,
                operator: a.op_type.to_string(),
                other: counterpart,
                other_operator: b.op_type.to_string(),
            });
        }
        self.attributes(a, b, &node, &counterpart)?;
        let (inputs, others) = (self.left.inputs_of(id), self.right.inputs_of(other));
        let (captured, others_captured) = (self.left.captures_of(id), self.right.captures_of(other));
        let count = inputs.len().max(others.len());
        for slot in 0..count {
            let pick = |list: &crate::ir::Inputs| list.get(slot).copied().flatten();
            self.value(pick(&inputs), pick(&others), || PairError::Input {
                node: node.clone(),
                other: counterpart.clone(),
                slot,
            })?;
        }
        for slot in 0..captured.len().max(others_captured.len()) {
            let pick = |list: &crate::ir::Inputs| list.get(slot).copied().flatten();
            self.value(pick(&captured), pick(&others_captured), || PairError::Body {
                node: node.clone(),
                other: counterpart.clone(),
                reason: Box::new(PairError::Captures),
            })?;
        }
        for output in 0..outputs(self.left, id) {
            self.values
                .insert(ValueId::new(id, output), ValueId::new(other, output));
        }
        Ok(())
    }

    fn attributes(&self, a: &Operator, b: &Operator, node: &str, other: &str) -> Result<(), PairError> {
        let named = |operator: &Operator| -> Vec<String> {
            let mut names: Vec<String> = operator.attributes().iter().map(|a| a.name.to_string()).collect();
            names.sort_unstable();
            names
        };
        let (mine, theirs) = (named(a), named(b));
        let differs = |attribute: &str| PairError::Attribute {
            node: node.to_owned(),
            other: other.to_owned(),
            attribute: attribute.to_owned(),
        };
        let absent = |name: &&String| !mine.contains(name) || !theirs.contains(name);
        if let Some(name) = mine.iter().chain(&theirs).find(absent) {
            return Err(differs(name));
        }
        for attribute in a.attributes() {
            let Some(value) = b.attribute(&attribute.name) else {
                continue;
            };
            let (bodies, others) = (attribute.value.graphs(), value.graphs());
            if bodies.is_empty() && others.is_empty() {
                if !attribute.value.same_as(value) {
                    return Err(differs(&attribute.name));
                }
                continue;
            }
            if bodies.len() != others.len() {
                return Err(differs(&attribute.name));
            }
            for (body, counterpart) in bodies.iter().zip(others) {
                same_body(body, counterpart).map_err(|reason| PairError::Body {
                    node: node.to_owned(),
                    other: other.to_owned(),
                    reason: Box::new(reason),
                })?;
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        a: Option<ValueId>,
        b: Option<ValueId>,
        differs: impl Fn() -> PairError,
    ) -> Result<(), PairError> {
        let (a, b) = match (a, b) {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) => (a, b),
            _ => return Err(differs()),
        };
        if is_constant(self.left, a) != is_constant(self.right, b) {
            return Err(differs());
        }
        if !is_constant(self.left, a) {
            return match self.values.get(&a) == Some(&b) {
                true => Ok(()),
                false => Err(differs()),
            };
        }
        if let Some(known) = self.pairs.insert(a.node, b.node)
            && known != b.node
            && !same_constant(self.right, known, b.node)
        {
            return Err(PairError::Shared {
                constant: name(self.left, a.node),
                first: name(self.right, known),
                second: name(self.right, b.node),
            });
        }
        let (left, right) = (self.left.ty(a), self.right.ty(b));
        let fits = match (self.left.constant(a), self.right.constant(b)) {
            (Some(left), Some(right)) => left.dims() == right.dims() && left.dtype() == right.dtype(),
            (None, None) => true,
            _ => false,
        };
        if !fits {
            return Err(PairError::Constant {
                constant: name(self.left, a.node),
                left: left.to_string(),
                other: name(self.right, b.node),
                right: right.to_string(),
            });
        }
        Ok(())
    }
}

fn same_constant(graph: &Graph, a: NodeId, b: NodeId) -> bool {
    match (
        graph.constant(ValueId::new(a, 0)),
        graph.constant(ValueId::new(b, 0)),
    ) {
        (Some(a), Some(b)) => a.same_as(b),
        _ => false,
    }
}

/// Bodies have to be equal, constants included.
fn same_body(left: &Graph, right: &Graph) -> Result<(), PairError> {
    let pairs = pair(left, right)?;
    for (a, b) in pairs {
        match (
            left.constant(ValueId::new(a, 0)),
            right.constant(ValueId::new(b, 0)),
        ) {
            (Some(x), Some(y)) if x.same_as(y) => {}
            (None, None) => {}
            _ => {
                return Err(PairError::Elements {
                    constant: name(left, a),
                });
            }
        }
    }
    Ok(())
}
