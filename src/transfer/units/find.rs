//! Finding the units of a graph.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Layout, Part, Role, Unit, output_channels, squeezed};
use crate::ir::{DType, Graph, NodeId, NodeKind, Operator, Slot, Tensor, ValueId};

/// The constant that a value is, through Identity nodes.
pub fn constant_behind(graph: &Graph, mut value: ValueId) -> Option<(ValueId, &Tensor)> {
    loop {
        match &graph.get(value.node)?.kind {
            NodeKind::Constant(constant) => return Some((value, constant.tensor.as_ref()?)),
            NodeKind::Operator(operator) if operator.is("Identity") => value = graph.input(value.node, 0)?,
            _ => return None,
        }
    }
}

/// The Transpose of a matrix that is a constant, whose result a value is.
fn transposed_constant(graph: &Graph, value: ValueId) -> Option<NodeId> {
    let operator = graph
        .operator(value.node)
        .filter(|operator| operator.is("Transpose"))?;
    let (_, tensor) = constant_behind(graph, graph.input(value.node, 0)?)?;
    let swaps = operator.ints("perm").is_none_or(|perm| perm == [1, 0]);
    (tensor.rank() == 2 && swaps).then_some(value.node)
}

/// A weight as a slot reads it.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The constant.
    pub constant: ValueId,
    /// The node that has to read another constant for another weight: the operator, or the Transpose before it.
    pub node: NodeId,
    /// Its slot.
    pub slot: usize,
    /// The elements.
    pub tensor: Tensor,
    /// Whether a Transpose of a matrix is on the way.
    pub transposed: bool,
}

/// The weight behind a slot, through Identity and, if asked for, the Transpose of a matrix.
pub fn weight_behind(graph: &Graph, node: NodeId, slot: usize, transposes: bool) -> Option<Behind> {
    let value = graph.input(node, slot)?;
    let through = transposed_constant(graph, value).filter(|_| transposes);
    let (node, slot) = match through {
        Some(transpose) => (transpose, 0),
        None => (node, slot),
    };
    let (constant, tensor) = constant_behind(graph, graph.input(node, slot)?)?;
    Some(Behind {
        constant,
        node,
        slot,
        tensor: tensor.clone(),
        transposed: through.is_some(),
    })
}

/// Units of the main graph in topological order.
pub fn find(graph: &Graph) -> Vec<Unit> {
    let mut finder = Finder {
        graph,
        taken: BTreeSet::new(),
    };
    let order = graph.topological_order();
    let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
    // Operators with a fixed reading of their weights take the nodes behind them before those are read on their own.
    for (at, id) in order.iter().enumerate() {
        if let Some(unit) = finder.operator(*id) {
            units.insert(at, unit);
        }
    }
    for (at, id) in order.iter().enumerate() {
        if !finder.taken.contains(id)
            && let Some(unit) = finder.scaled(*id)
        {
            units.insert(at, unit);
        }
    }
    for (at, id) in order.iter().enumerate() {
        if !finder.taken.contains(id)
            && let Some(unit) = finder.constant(*id)
        {
            units.insert(at, unit);
        }
    }
    units.into_values().collect()
}

/// Whether a weight slot of some operator reads a value that is computed from constants alone, which folding would show.
pub fn hides_weights(graph: &Graph) -> bool {
    let slots: &[(&str, &[usize])] = &[
        ("Conv", &[1]),
        ("ConvTranspose", &[1]),
        ("Gemm", &[1]),
        ("MatMul", &[1]),
        ("LSTM", &[1, 2, 3]),
        ("GRU", &[1, 2, 3]),
        ("RNN", &[1, 2, 3]),
    ];
    let mut constant: BTreeMap<NodeId, bool> = BTreeMap::new();
    for id in graph.topological_order() {
        let fixed = match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Constant(_)) => true,
            Some(NodeKind::Operator(operator)) => {
                let read = |slot: &usize| graph.input(id, *slot);
                let known = |value: ValueId| constant.get(&value.node) == Some(&true);
                let weights = slots
                    .iter()
                    .find(|(name, _)| operator.is(name))
                    .map_or(&[][..], |(_, slots)| slots);
                let hidden = |value: ValueId| {
                    known(value)
                        && constant_behind(graph, value).is_none()
                        && transposed_constant(graph, value).is_none()
                };
                if weights.iter().filter_map(read).any(hidden) {
                    return true;
                }
                !operator.has_bodies()
                    && graph.inputs_of(id).into_iter().flatten().count() > 0
                    && graph.inputs_of(id).into_iter().flatten().all(known)
            }
            _ => false,
        };
        constant.insert(id, fixed);
    }
    false
}

/// Constants of these operators are settings and not weights.
const SETTINGS: [&str; 22] = [
    "Resize",
    "Upsample",
    "Clip",
    "Pow",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "ConstantOfShape",
    "Range",
    "OneHot",
    "TopK",
    "Pad",
    "NonMaxSuppression",
    "Identity",
    "Dropout",
    "Equal",
    "Greater",
    "Less",
];

/// Whether constants of an operator are settings and not weights.
pub fn is_setting(operator: &Operator) -> bool {
    operator.domain().is_empty() && SETTINGS.contains(&&*operator.op_type)
}

struct Finder<'g> {
    graph: &'g Graph,
    taken: BTreeSet<NodeId>,
}

impl<'g> Finder<'g> {
    /// A weight in a slot: float, and more than one number.
    fn weight(&self, node: NodeId, slot: usize, role: Role) -> Option<Part> {
        let (constant, tensor) = constant_behind(self.graph, self.graph.input(node, slot)?)?;
        let plain = matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16);
        if !plain || tensor.elements() == 0 {
            return None;
        }
        Some(Part {
            role,
            node,
            slot,
            constant,
            name: self
                .graph
                .value(constant)
                .map(|value| value.name.to_string())
                .unwrap_or_default(),
            tensor: tensor.clone(),
            layout: Layout::PLAIN,
        })
    }

    fn unit(&self, kind: Kind, node: NodeId, parts: Vec<Part>) -> Unit {
        let used: BTreeSet<usize> = parts
            .iter()
            .filter(|part| part.node == node)
            .map(|part| part.slot)
            .collect();
        let inputs = self.graph.inputs_of(node);
        let reads = inputs
            .iter()
            .enumerate()
            .filter(|(slot, value)| value.is_some() && !used.contains(slot))
            .map(|(slot, _)| (node, Slot::Input(slot as u32)))
            .collect();
        let operator = self.graph.operator(node);
        Unit {
            kind,
            node,
            name: self.graph.label(node),
            operator: operator.map(|op| op.op_type.to_string()).unwrap_or_default(),
            group: operator
                .and_then(|op| op.int("group"))
                .and_then(|group| u64::try_from(group).ok())
                .unwrap_or(1)
                .max(1),
            parts,
            epsilon: None,
            reads,
            output: ValueId::new(node, 0),
        }
    }

    fn operator(&mut self, id: NodeId) -> Option<Unit> {
        let operator = self.graph.operator(id)?;
        if !matches!(operator.domain(), "" | "com.microsoft") {
            return None;
        }
        let parts = |slots: &[(usize, Role)]| -> Vec<Part> {
            slots
                .iter()
                .filter_map(|(slot, role)| self.weight(id, *slot, *role))
                .collect()
        };
        let has = |parts: &[Part], role: Role| parts.iter().any(|part| part.role == role);
        let unit = match &*operator.op_type {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" if operator.domain().is_empty() => {
                return self.linear(id, operator);
            }
            "LSTM" | "GRU" | "RNN" => {
                let slots = [
                    (1, Role::Weight),
                    (2, Role::Recurrence),
                    (3, Role::Bias),
                    (7, Role::Peephole),
                ];
                let parts = parts(&slots);
                if !has(&parts, Role::Weight) || !has(&parts, Role::Recurrence) {
                    return None;
                }
                self.unit(Kind::Recurrent(meaning(operator)), id, parts)
            }
            "Gather" => {
                let parts = parts(&[(0, Role::Weight)]);
                let table = parts.first().is_some_and(|part| part.tensor.rank() >= 2);
                if !table || operator.int("axis").unwrap_or(0) != 0 {
                    return None;
                }
                self.unit(Kind::Embedding, id, parts)
            }
            "BatchNormalization" => {
                let parts = batch_norm(self, id)?;
                let mut unit = self.unit(Kind::BatchNorm, id, parts);
                unit.epsilon = Some(f64::from(operator.float("epsilon").unwrap_or(1e-5)));
                if self.taken.contains(&id) {
                    return None;
                }
                unit
            }
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
                let parts = parts(&[(1, Role::Scale), (2, Role::Offset)]);
                if !has(&parts, Role::Scale) {
                    return None;
                }
                self.unit(Kind::Norm("features"), id, parts)
            }
            name @ ("InstanceNormalization" | "GroupNormalization") => {
                let parts = parts(&[(1, Role::Scale), (2, Role::Offset)]);
                if !has(&parts, Role::Scale) {
                    return None;
                }
                let kind = if name.starts_with('I') {
                    "instance"
                } else {
                    "group"
                };
                self.unit(Kind::Norm(kind), id, parts)
            }
            "PRelu" => {
                let parts = parts(&[(1, Role::Scale)]);
                if parts.is_empty() {
                    return None;
                }
                self.unit(Kind::Norm("slope"), id, parts)
            }
            _ => return None,
        };
        self.taken.insert(id);
        Some(unit)
    }

    fn linear(&mut self, id: NodeId, operator: &Operator) -> Option<Unit> {
        // A weight that is also an embedding is read through a Transpose.
        let through = transposed_constant(self.graph, self.graph.input(id, 1)?);
        let mut weight = match through {
            Some(transpose) => self.weight(transpose, 0, Role::Weight)?,
            None => self.weight(id, 1, Role::Weight)?,
        };
        let convolution = operator.is("Conv") || operator.is("ConvTranspose");
        if convolution != (weight.tensor.rank() >= 3) || weight.tensor.rank() < 2 {
            return None;
        }
        let kind = match operator.is("ConvTranspose") {
            true => Kind::Transposed,
            false => Kind::Linear,
        };
        let mut bias = None;
        if operator.is("Gemm") {
            weight.layout = Layout {
                transposed: operator.int("transB").unwrap_or(0) == 0,
                factor: f64::from(operator.float("alpha").unwrap_or(1.0)),
            };
            bias = self.weight(id, 2, Role::Bias);
            if let Some(bias) = &mut bias {
                bias.layout.factor = f64::from(operator.float("beta").unwrap_or(1.0));
            }
            // A bias that is computed is no weight, and one that is there in another form is not read twice.
            if bias.is_none() && self.graph.input(id, 2).is_some() {
                return None;
            }
        } else if operator.is("MatMul") {
            weight.layout.transposed = true;
        } else {
            bias = self.weight(id, 2, Role::Bias);
            if bias.is_none() && self.graph.input(id, 2).is_some() {
                return None;
            }
        }
        weight.layout.transposed ^= through.is_some();
        let mut unit = self.unit(kind, id, vec![weight]);
        unit.reads = vec![(id, Slot::Input(0))];
        let outputs = output_channels(&unit);
        if let Some(bias) = bias {
            if bias.tensor.elements() != outputs {
                return None;
            }
            unit.parts.push(bias);
        }
        self.taken.insert(id);
        self.taken.extend(through);
        if unit.part(Role::Bias).is_none()
            && let Some(add) = self.only_reader(unit.output, "Add")
            && let Some(bias) = self.added(add, unit.output, outputs, convolution)
        {
            unit.parts.push(bias);
            unit.output = ValueId::new(add, 0);
            self.taken.insert(add);
        }
        let channels_second = convolution || self.graph.ty(unit.output).rank() == Some(2);
        if channels_second
            && let Some(norm) = self.only_reader(unit.output, "BatchNormalization")
            && self.graph.input(norm, 0) == Some(unit.output)
            && let Some(parts) = batch_norm(self, norm)
            && parts.iter().all(|part| part.tensor.elements() == outputs)
            && let Some(operator) = self.graph.operator(norm)
        {
            unit.epsilon = Some(f64::from(operator.float("epsilon").unwrap_or(1e-5)));
            unit.parts.extend(parts);
            unit.output = ValueId::new(norm, 0);
            self.taken.insert(norm);
        }
        Some(unit)
    }

    /// The only reader of a value that no one else sees, if it is such an operator.
    fn only_reader(&self, value: ValueId, op_type: &str) -> Option<NodeId> {
        if self.graph.use_count(value) != 1 || self.graph.is_graph_output(value) {
            return None;
        }
        let reader = self.graph.uses(value).first()?.node;
        (self.graph.operator(reader)?.is(op_type) && !self.taken.contains(&reader)).then_some(reader)
    }

    /// The constant of an Add, if it is one number an output channel.
    fn added(&self, add: NodeId, data: ValueId, outputs: u64, convolution: bool) -> Option<Part> {
        let slot = usize::from(self.graph.input(add, 0) == Some(data));
        let part = self.weight(add, slot, Role::Bias)?;
        let dims = part.tensor.dims();
        let channel = match (convolution, self.graph.ty(data).rank()) {
            (true, Some(rank)) => (dims.len() + 1).checked_sub(rank)?,
            (true, None) => return None,
            (false, _) => dims.len().checked_sub(1)?,
        };
        (outputs > 1 && part.tensor.elements() == outputs && dims.get(channel) == Some(&outputs))
            .then_some(part)
    }

    /// A Mul by constants and an Add of constants of the same form: a normalisation written out.
    fn scaled(&mut self, id: NodeId) -> Option<Unit> {
        if !self.graph.operator(id)?.is("Mul") {
            return None;
        }
        let slot = (0..2).find(|slot| self.weight(id, *slot, Role::Scale).is_some())?;
        let scale = self.weight(id, slot, Role::Scale)?;
        let add = self.only_reader(ValueId::new(id, 0), "Add")?;
        let other = usize::from(self.graph.input(add, 0) == Some(ValueId::new(id, 0)));
        let offset = self.weight(add, other, Role::Offset)?;
        if scale.tensor.elements() < 2 || squeezed(scale.tensor.dims()) != squeezed(offset.tensor.dims()) {
            return None;
        }
        let mut unit = self.unit(Kind::Norm("features"), id, vec![scale, offset]);
        unit.output = ValueId::new(add, 0);
        self.taken.extend([id, add]);
        Some(unit)
    }

    /// A constant that takes part in the computation by itself.
    fn constant(&mut self, id: NodeId) -> Option<Unit> {
        let operator = self.graph.operator(id)?;
        if is_setting(operator) || !operator.domain().is_empty() || operator.has_bodies() {
            return None;
        }
        let commutes = matches!(
            &*operator.op_type,
            "Add" | "Mul" | "Max" | "Min" | "Sum" | "Concat"
        );
        let mut parts = Vec::new();
        for slot in 0..operator.input_count() {
            if let Some(part) = self.weight(id, slot, Role::Value)
                && part.tensor.elements() > 1
                && is_trained(&part.tensor)
            {
                parts.push(part);
            }
        }
        if parts.len() != 1 {
            return None;
        }
        let slot = parts.first().map_or(0, |part| part.slot);
        let kind = match commutes {
            true => operator.op_type.to_string(),
            false => format!("{} {slot}", operator.op_type),
        };
        self.taken.insert(id);
        Some(self.unit(Kind::Constant(kind), id, parts))
    }
}

/// The four weights of a batch normalisation that is not in training mode.
fn batch_norm(finder: &Finder<'_>, id: NodeId) -> Option<Vec<Part>> {
    let operator = finder.graph.operator(id)?;
    let outputs = finder.graph.get(id)?.outputs();
    if operator.int("training_mode").unwrap_or(0) != 0 || outputs.iter().skip(1).any(|value| !value.omitted) {
        return None;
    }
    let roles = [
        (1, Role::Scale),
        (2, Role::Offset),
        (3, Role::Mean),
        (4, Role::Variance),
    ];
    roles
        .into_iter()
        .map(|(slot, role)| finder.weight(id, slot, role))
        .collect()
}

/// Masks hold infinities or numbers that stand for them, and are no weights.
fn is_trained(tensor: &Tensor) -> bool {
    tensor
        .to_f64()
        .is_ok_and(|values| values.iter().all(|value| value.abs() < 1e4))
}

/// The attributes that say what a recurrent operator's numbers mean.
fn meaning(operator: &Operator) -> String {
    let word = |name: &str, default: &str| operator.string(name).unwrap_or(default).to_ascii_lowercase();
    format!(
        "{} {} {} {}",
        operator.op_type,
        word("direction", "forward"),
        operator.int("linear_before_reset").unwrap_or(0),
        operator.int("input_forget").unwrap_or(0)
    )
}
