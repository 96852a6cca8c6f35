//! The way through a graph whose batch was made free: each operator carries it on, or is rewritten so that it does.

use std::collections::BTreeMap;

use super::NAME;
use crate::analysis::infer_node;
use crate::ir::{
    Dim, EditError, Graph, Imports, Name, NodeId, NodeKind, Operator, Shape, Tensor, Value, ValueId,
    ValueType, opset_version,
};

/// The axis that carries the batch: the only one with the symbol, which is a factor of it.
pub(super) fn batch_axis(shape: &Shape, symbol: &Name) -> Option<usize> {
    let mut found = None;
    for (axis, dim) in shape.iter().enumerate().filter(|(_, dim)| has(dim, symbol)) {
        let at = |size: i64| dim.substitute(&|name| (name == symbol.as_str()).then_some(Dim::Fixed(size)));
        if found.is_some() || at(2) != at(1).mul(&Dim::Fixed(2)) || at(3) != at(1).mul(&Dim::Fixed(3)) {
            return None;
        }
        found = Some(axis);
    }
    found
}

fn has(dim: &Dim, symbol: &Name) -> bool {
    let mut found = false;
    dim.for_each_symbol(&mut |name| found |= name == symbol);
    found
}

/// Why an operator does not follow a free batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// An edit broke a law of the IR: a defect of the pass.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A result has the batch nowhere, or not along one axis.
    #[error("{op_type} does not carry the batch on: its result {value} is {ty} for a batch of {batch}")]
    Lost {
        op_type: String,
        value: String,
        ty: Box<ValueType>,
        batch: Name,
    },
    /// What has to be repeated along the batch has no dimension of 1 there.
    #[error("input {slot} does not carry the batch")]
    NotCarried { slot: usize },
    /// The opset has no Expand.
    #[error("input {slot} does not carry the batch, and opset 8 repeats it first")]
    NotRepeated { slot: usize },
    /// The operator has the batch of 1 written into it in a way that cannot be made free.
    #[error("{0}")]
    Form(&'static str),
}

/// The state of the way through the graph.
pub(super) struct Walk<'m> {
    symbol: Name,
    /// The graph with a batch of 1, inferred.
    single: &'m Graph,
    imports: Imports,
    /// An input and its axis that have the batch's size.
    source: Option<(NodeId, usize)>,
    /// The batch's size as a tensor of one element.
    batch: Option<ValueId>,
    expanded: BTreeMap<(ValueId, usize), ValueId>,
    /// Operators that had the batch written into them.
    pub(super) rewritten: u64,
}

impl<'m> Walk<'m> {
    /// `source` is an input and its axis that have the batch's size.
    pub(super) fn new(
        symbol: &Name,
        single: &'m Graph,
        imports: &Imports,
        source: Option<(NodeId, usize)>,
    ) -> Self {
        Self {
            symbol: symbol.clone(),
            single,
            imports: imports.clone(),
            source,
            batch: None,
            expanded: BTreeMap::new(),
            rewritten: 0,
        }
    }

    /// Infers a node's results, after a rewrite where the batch of 1 is written into it.
    pub(super) fn node(&mut self, graph: &mut Graph, id: NodeId) -> Result<(), Obstacle> {
        infer_node(graph, id, &self.imports);
        let Some(operator) = graph.operator(id) else {
            return Ok(());
        };
        let op_type = operator.op_type.to_string();
        let own = operator.domain().is_empty();
        let carried: Vec<Option<usize>> = graph
            .inputs_of(id)
            .into_iter()
            .chain(graph.captures_of(id))
            .map(|value| value.and_then(|value| batch_axis(graph.ty(value).shape()?, &self.symbol)))
            .collect();
        if carried.iter().all(Option::is_none) {
            return Ok(());
        }
        match op_type.as_str() {
            "Reshape" if own => self.reshape(graph, id)?,
            "Concat" if own => self.concat(graph, id, &carried)?,
            "LSTM" | "GRU" | "RNN" if own => self.states(graph, id)?,
            "Resize" if own => self.resize(graph, id)?,
            _ => {}
        }
        self.judge(graph, id, &op_type)
    }

    /// Every result carries the batch along one axis, or holds sizes.
    fn judge(&self, graph: &Graph, id: NodeId, op_type: &str) -> Result<(), Obstacle> {
        let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
        for output in 0..outputs {
            let id = ValueId::new(id, output);
            let Some(value) = graph.value(id).filter(|value| !value.omitted) else {
                continue;
            };
            let sizes = value.content.is_some() || matches!(op_type, "Shape" | "Size");
            let carries = value
                .ty
                .shape()
                .is_some_and(|shape| batch_axis(shape, &self.symbol).is_some());
            if !sizes && !carries && graph.use_count(id) > 0 {
                return Err(Obstacle::Lost {
                    op_type: op_type.to_owned(),
                    value: value.name.to_string(),
                    ty: Box::new(value.ty.clone()),
                    batch: self.symbol.clone(),
                });
            }
        }
        Ok(())
    }

    fn version(&self) -> i64 {
        opset_version(&self.imports, "").unwrap_or(1)
    }

    /// A shape with the batch of 1 in it gets the batch where the 1 was, seen from the front of the memory.
    fn reshape(&mut self, graph: &mut Graph, id: NodeId) -> Result<(), Obstacle> {
        let output = ValueId::new(id, 0);
        let Some(input) = graph.input(id, 0) else {
            return Ok(());
        };
        let unknown = || Obstacle::Form("the shapes of its input and its result are not known");
        let dims = graph.ty(input).shape().cloned().ok_or_else(unknown)?;
        let Some(axis) = batch_axis(&dims, &self.symbol) else {
            return Ok(());
        };
        let one = |dim: &Dim| dim.substitute(&|name| (name == self.symbol.as_str()).then_some(Dim::Fixed(1)));
        let before: Vec<Dim> = dims.iter().map(one).collect();
        let after: Vec<Dim> = self
            .single
            .ty(output)
            .shape()
            .ok_or_else(unknown)?
            .iter()
            .cloned()
            .collect();
        let place = place_of(&before, axis, &after).ok_or(Obstacle::Form(
            "the batch lies across the dimensions of its result",
        ))?;
        let mut wanted = after.clone();
        if let Some(dim) = wanted.get_mut(place) {
            *dim = dim.mul(&Dim::symbol(self.symbol.clone()));
        }
        if graph
            .ty(output)
            .shape()
            .is_some_and(|shape| shape[..] == wanted[..])
        {
            return Ok(());
        }
        let replaceable = graph
            .input(id, 1)
            .and_then(|value| graph.get(value.node))
            .is_some_and(|node| matches!(node.kind, NodeKind::Input(_)));
        let computed = if replaceable {
            "its shape is a graph input, which a caller may replace; --constant-inputs makes a constant of it"
        } else {
            "its shape is computed, and does not follow the batch"
        };
        let written = match graph.input(id, 1) {
            Some(value) => graph
                .constant(value)
                .and_then(|tensor| tensor.to_i64().ok())
                .ok_or(Obstacle::Form(computed))?,
            None => graph
                .operator(id)
                .and_then(|operator| operator.ints("shape"))
                .ok_or(Obstacle::Form(computed))?
                .to_vec(),
        };
        let zeros_copy = graph
            .operator(id)
            .is_some_and(|operator| operator.int("allowzero").unwrap_or(0) == 0);
        let copies = |at: usize| zeros_copy && dims.get(at) == wanted.get(at);
        let free = if copies(place) { 0 } else { -1 };
        let mut sizes = Vec::with_capacity(written.len());
        for (at, size) in written.iter().enumerate() {
            let exact = wanted.get(at).and_then(Dim::fixed);
            sizes.push(match (at == place, *size) {
                (true, _) => free,
                (false, 0) if copies(at) => 0,
                (false, -1) if free == 0 => -1,
                (false, 1..) => *size,
                _ => exact.ok_or(Obstacle::Form("two dimensions of its result are free"))?,
            });
        }
        let tensor = Tensor::vector_i64(&sizes);
        let mut editor = graph.edit(NAME);
        let edited = match self.version() {
            5.. => {
                let constant = editor.add_constant("", tensor);
                editor.set_input(id, 1, Some(constant))
            }
            _ => editor.set_attribute(id, "shape", sizes),
        };
        edited?;
        drop(editor);
        self.rewritten += 1;
        infer_node(graph, id, &self.imports);
        Ok(())
    }

    /// Operands without the batch are repeated along it.
    fn concat(&mut self, graph: &mut Graph, id: NodeId, carried: &[Option<usize>]) -> Result<(), Obstacle> {
        let Some(batch) = carried.iter().copied().flatten().next() else {
            return Ok(());
        };
        let rank = graph
            .inputs_of(id)
            .into_iter()
            .flatten()
            .find_map(|value| graph.ty(value).rank());
        let axis = graph
            .operator(id)
            .and_then(|operator| operator.int("axis"))
            .unwrap_or(1);
        let axis = if axis < 0 {
            axis + rank.unwrap_or(0) as i64
        } else {
            axis
        };
        if usize::try_from(axis).ok() == Some(batch) {
            return Err(Obstacle::Form("Concat joins along the batch"));
        }
        for slot in 0..carried.len() {
            if carried.get(slot).copied().flatten().is_none() {
                self.repeat(graph, id, slot, batch)?;
            }
        }
        Ok(())
    }

    /// Initial states and lengths have one entry for each sample.
    fn states(&mut self, graph: &mut Graph, id: NodeId) -> Result<(), Obstacle> {
        let layout = graph.operator(id).and_then(|operator| operator.int("layout"));
        let state_axis = if layout == Some(1) { 0 } else { 1 };
        for (slot, axis) in [(4, 0), (5, state_axis), (6, state_axis)] {
            let given = graph
                .input(id, slot)
                .and_then(|value| graph.ty(value).shape())
                .is_some_and(|shape| batch_axis(shape, &self.symbol).is_none());
            if given {
                self.repeat(graph, id, slot, axis)?;
            }
        }
        Ok(())
    }

    /// Sizes with the batch of 1 in them.
    fn resize(&mut self, graph: &mut Graph, id: NodeId) -> Result<(), Obstacle> {
        let sizes = graph.input(id, 3).and_then(|value| graph.constant(value));
        let axis = graph
            .input(id, 0)
            .and_then(|value| batch_axis(graph.ty(value).shape()?, &self.symbol));
        let chosen = graph
            .operator(id)
            .is_some_and(|operator| operator.ints("axes").is_some());
        let (Some(sizes), Some(axis), false) = (sizes.and_then(|tensor| tensor.to_i64().ok()), axis, chosen)
        else {
            return Ok(());
        };
        if sizes.get(axis) != Some(&1) {
            return Err(Obstacle::Form("Resize resizes along the batch"));
        }
        let batch = self.batch_size(graph)?;
        let mut editor = graph.edit(NAME);
        let mut parts = Vec::new();
        for part in [sizes.get(..axis), sizes.get(axis + 1..)] {
            parts.push(
                part.filter(|part| !part.is_empty())
                    .map(|part| editor.add_constant("", Tensor::vector_i64(part))),
            );
        }
        let inputs: Vec<Option<ValueId>> = [
            parts.first().copied().flatten(),
            Some(batch),
            parts.last().copied().flatten(),
        ]
        .into_iter()
        .filter(Option::is_some)
        .collect();
        let joined = editor
            .add_operator(
                id,
                Operator::new("Concat").with("axis", 0),
                &inputs,
                vec![Value::default()],
            )
            .and_then(|joined| {
                editor.set_input(id, 3, Some(ValueId::new(joined, 0)))?;
                Ok(joined)
            })?;
        drop(editor);
        infer_node(graph, joined, &self.imports);
        self.rewritten += 1;
        infer_node(graph, id, &self.imports);
        Ok(())
    }

    /// The batch's size, as a tensor of one element.
    fn batch_size(&mut self, graph: &mut Graph) -> Result<ValueId, Obstacle> {
        if let Some(batch) = self.batch {
            return Ok(batch);
        }
        let (input, axis) = self.source.ok_or(Obstacle::Form("the model has no batch"))?;
        let first = graph
            .topological_order()
            .into_iter()
            .find(|id| graph.operator(*id).is_some());
        let near = first.unwrap_or(input);
        let mut editor = graph.edit(NAME);
        let at = editor.add_constant("", Tensor::vector_i64(&[axis as i64]));
        let shape = editor.add_operator(
            near,
            Operator::new("Shape"),
            &[Some(ValueId::new(input, 0))],
            vec![Value::default()],
        )?;
        let inputs = [Some(ValueId::new(shape, 0)), Some(at)];
        let size = editor.add_operator(
            near,
            Operator::new("Gather").with("axis", 0),
            &inputs,
            vec![Value::default()],
        )?;
        drop(editor);
        for id in [at.node, shape, size] {
            infer_node(graph, id, &self.imports);
        }
        self.batch = Some(ValueId::new(size, 0));
        Ok(ValueId::new(size, 0))
    }

    /// Repeats what an input slot reads along the batch.
    fn repeat(&mut self, graph: &mut Graph, id: NodeId, slot: usize, axis: usize) -> Result<(), Obstacle> {
        let Some(value) = graph.input(id, slot) else {
            return Ok(());
        };
        let shape = graph.ty(value).shape().cloned();
        let Some(rank) = shape
            .as_ref()
            .filter(|shape| shape.get(axis).and_then(Dim::fixed) == Some(1))
            .map(|shape| shape.len())
        else {
            return Err(Obstacle::NotCarried { slot });
        };
        if self.version() < 8 {
            return Err(Obstacle::NotRepeated { slot });
        }
        let repeated = match self.expanded.get(&(value, axis)) {
            Some(known) => *known,
            None => {
                let batch = self.batch_size(graph)?;
                let mut editor = graph.edit(NAME);
                let mut inputs = Vec::new();
                for ones in [axis, rank - axis - 1].into_iter().enumerate() {
                    let (place, count) = ones;
                    if count > 0 {
                        inputs.push(Some(editor.add_constant("", Tensor::vector_i64(&vec![1; count]))));
                    }
                    if place == 0 {
                        inputs.push(Some(batch));
                    }
                }
                let concat = Operator::new("Concat").with("axis", 0);
                let shape = editor.add_operator(id, concat, &inputs, vec![Value::default()])?;
                let reads = [Some(value), Some(ValueId::new(shape, 0))];
                let expand =
                    editor.add_operator(id, Operator::new("Expand"), &reads, vec![Value::default()])?;
                drop(editor);
                for new in inputs
                    .iter()
                    .flatten()
                    .map(|value| value.node)
                    .chain([shape, expand])
                {
                    infer_node(graph, new, &self.imports);
                }
                self.expanded.insert((value, axis), ValueId::new(expand, 0));
                ValueId::new(expand, 0)
            }
        };
        graph.edit(NAME).set_input(id, slot, Some(repeated))?;
        self.rewritten += 1;
        infer_node(graph, id, &self.imports);
        Ok(())
    }
}

/// Where a batch before dimension `axis` of `before` stands among those of `after`, which hold the same elements: the dimensions
/// before it hold as many as there. Among several places, the same axis where its size is the same, else the first.
fn place_of(before: &[Dim], axis: usize, after: &[Dim]) -> Option<usize> {
    let product = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |product, dim| product.mul(dim));
    let outer = product(before.get(..axis)?);
    let mut places =
        (0..after.len()).filter(|place| after.get(..*place).is_some_and(|dims| product(dims) == outer));
    let first = places.next()?;
    let same = first == axis || places.any(|place| place == axis);
    Some(if same && before.get(axis) == after.get(axis) {
        axis
    } else {
        first
    })
}
