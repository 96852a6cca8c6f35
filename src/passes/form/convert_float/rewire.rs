//! Puts Casts where the types meet and converts constants and attributes, graph by graph.

use std::collections::{HashMap, HashSet};

use super::constants::{Usage, lower_constant, usage};
use super::decide::{Decisions, TypeAttribute};
use super::{ConvertFloat, NAME};
use crate::ir::edit::Reshape;
use crate::ir::{
    DType, EditError, Editor, Graph, Name, NodeId, NodeKind, Operator, Slot, TensorType, Use, Value, ValueId,
    ValueType,
};
use crate::passes::simplify::splice::Names;

/// What is done to all graphs of a model.
pub(super) struct Rewire<'a> {
    options: &'a ConvertFloat,
    dtype: DType,
    /// Every name of the model: bodies see those of the graphs around them.
    names: Names,
    /// In the graph at hand: constants that have a narrow one beside them.
    lowered: HashMap<ValueId, ValueId>,
    pub(super) casts: u64,
    pub(super) constants: u64,
}

/// The type with another element type.
fn with_dtype(ty: &ValueType, dtype: DType) -> ValueType {
    ValueType::Tensor(TensorType {
        dtype: Some(dtype),
        shape: ty.shape().cloned(),
    })
}

impl<'a> Rewire<'a> {
    pub(super) fn new(options: &'a ConvertFloat, graph: &Graph) -> Self {
        Self {
            options,
            dtype: options.to.dtype(),
            names: Names::of(graph),
            lowered: HashMap::new(),
            casts: 0,
            constants: 0,
        }
    }

    /// Converts the main graph; answers the values whose type changes.
    pub(super) fn main(
        &mut self,
        graph: &mut Graph,
        decisions: &Decisions,
    ) -> Result<Vec<Reshape>, EditError> {
        let mut changes = Vec::new();
        let mut inputs = Vec::new();
        let outputs: Vec<ValueType> = graph.outputs().iter().map(|output| output.ty.clone()).collect();
        if self.options.convert_io {
            for id in graph.inputs().to_vec() {
                let value = ValueId::new(id, 0);
                let ty = graph.ty(value).clone();
                if ty.dtype() != Some(DType::F32) {
                    continue;
                }
                inputs.push(value);
                changes.push(Reshape::Input(id, with_dtype(&ty, self.dtype)));
                if let Some(NodeKind::Input(input)) = graph.get(id).map(|node| &node.kind)
                    && let Some((default, _)) = &input.default
                {
                    let lowered = lower_constant(default, self.dtype, Usage::Number).tensor;
                    changes.push(Reshape::Default(id, lowered));
                }
            }
            for (index, ty) in outputs.iter().enumerate() {
                if ty.dtype() == Some(DType::F32) {
                    changes.push(Reshape::Output(index, with_dtype(ty, self.dtype)));
                }
            }
        }
        let narrow = self.graph(graph, decisions, &inputs, self.options.convert_io)?;
        if self.options.convert_io {
            self.outputs(graph, &outputs, &narrow)?;
        }
        for value in &decisions.outputs {
            let ty = with_dtype(graph.ty(*value), self.dtype);
            changes.push(Reshape::Value(*value, ty));
        }
        Ok(changes)
    }

    /// Converts a body, whose inputs and outputs stay float.
    pub(super) fn body(&mut self, graph: &mut Graph, decisions: &Decisions) -> Result<(), EditError> {
        self.graph(graph, decisions, &[], false).map(|_| ())
    }

    /// Converts a graph; answers the values that are narrow now.
    fn graph(
        &mut self,
        graph: &mut Graph,
        decisions: &Decisions,
        inputs: &[ValueId],
        narrow_outputs: bool,
    ) -> Result<HashSet<ValueId>, EditError> {
        let sink = graph.sink();
        let mut editor = graph.edit(NAME);
        let mut narrow: Vec<ValueId> = decisions.outputs.iter().copied().collect();
        narrow.extend(&decisions.captured);
        narrow.extend(inputs);
        // Readers that want float behind narrow values, while all types are still as they were.
        for value in &narrow {
            let wide = |at: Use| match at.node == sink {
                true => !narrow_outputs,
                false => !decisions.reads_narrow(at),
            };
            if !editor.graph().uses(*value).into_iter().any(wide) {
                continue;
            }
            let ty = editor.graph().ty(*value).clone();
            let cast = self.cast(&mut editor, *value, DType::F32, "float", ty)?;
            editor.replace_where(*value, cast, |at| at.node != cast.node && wide(at))?;
        }
        // Readers that want narrow values behind float ones and constants.
        let narrow: HashSet<ValueId> = narrow.into_iter().collect();
        let mut made: HashMap<(ValueId, Usage), ValueId> = HashMap::new();
        self.lowered.clear();
        let mut wants: Vec<(Use, Usage)> = Vec::new();
        for (node, slots) in &decisions.nodes {
            let op_type = editor
                .graph()
                .operator(*node)
                .map(|operator| operator.op_type.clone());
            for slot in slots {
                let usage = op_type
                    .as_ref()
                    .map_or(Usage::Number, |op_type| usage(op_type, *slot));
                let slot = Slot::Input(*slot as u32);
                wants.push((Use { node: *node, slot }, usage));
            }
        }
        for (node, slot) in &decisions.captures {
            let slot = Slot::Capture(*slot);
            wants.push((Use { node: *node, slot }, Usage::Number));
        }
        for (at, usage) in wants {
            let Some(value) = read_by(editor.graph(), at).filter(|value| !narrow.contains(value)) else {
                continue;
            };
            let new = match made.get(&(value, usage)) {
                Some(known) => *known,
                None => {
                    let new = self.narrowed(&mut editor, value, usage)?;
                    made.insert((value, usage), new);
                    new
                }
            };
            match at.slot {
                Slot::Input(slot) => editor.set_input(at.node, slot as usize, Some(new))?,
                Slot::Capture(slot) => editor.set_capture(at.node, slot, new)?,
            }
            editor.remove_unused(value.node);
        }
        for (node, attribute) in &decisions.attributes {
            match attribute {
                TypeAttribute::To => editor.set_attribute(*node, "to", i64::from(self.dtype.onnx()))?,
                TypeAttribute::Value(tensor) => editor.set_attribute(*node, "value", tensor.clone())?,
            }
        }
        Ok(narrow)
    }

    /// A narrow constant for a constant, a Cast for any other value.
    fn narrowed(
        &mut self,
        editor: &mut Editor<'_>,
        value: ValueId,
        usage: Usage,
    ) -> Result<ValueId, EditError> {
        let node = editor.graph().get(value.node);
        let constant = matches!(node.map(|node| &node.kind), Some(NodeKind::Constant(_)));
        let tensor = editor.graph().constant(value).filter(|_| constant).cloned();
        match tensor {
            Some(tensor) => {
                self.constants += 1;
                let name = self.named(editor.graph(), value, self.options.suffix());
                let new = editor.add_constant(name, lower_constant(&tensor, self.dtype, usage).tensor);
                if usage == Usage::Number {
                    self.lowered.insert(value, new);
                }
                Ok(new)
            }
            None => {
                let ty = with_dtype(editor.graph().ty(value), self.dtype);
                self.cast(editor, value, self.dtype, self.options.suffix(), ty)
            }
        }
    }

    /// Casts of graph outputs that float operators give, and narrow constants that are outputs themselves.
    fn outputs(
        &mut self,
        graph: &mut Graph,
        types: &[ValueType],
        narrow: &HashSet<ValueId>,
    ) -> Result<(), EditError> {
        let sink = graph.sink();
        let values = graph.output_values();
        let mut editor = graph.edit(NAME);
        let mut done: HashSet<ValueId> = HashSet::new();
        for (value, ty) in values.into_iter().zip(types) {
            let Some(value) = value.filter(|value| !narrow.contains(value)) else {
                continue;
            };
            if ty.dtype() != Some(DType::F32) || !done.insert(value) {
                continue;
            }
            // The old type goes with the new value until all types are changed together.
            let old = editor.graph().ty(value).clone();
            let kind = editor.graph().get(value.node).map(|node| &node.kind);
            let constant = matches!(kind, Some(NodeKind::Constant(_)));
            let new = match constant {
                true => {
                    let new = match self.lowered.get(&value) {
                        Some(known) => *known,
                        None => self.narrowed(&mut editor, value, Usage::Number)?,
                    };
                    editor.set_facts(new, old, None)?;
                    new
                }
                false => self.cast(&mut editor, value, self.dtype, self.options.suffix(), old)?,
            };
            editor.replace_where(value, new, |at| at.node == sink)?;
            if constant {
                editor.remove_unused(value.node);
            }
        }
        Ok(())
    }

    fn named(&mut self, graph: &Graph, value: ValueId, suffix: &str) -> Name {
        let stem = graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        self.names.fresh(format!("{stem}_{suffix}"))
    }

    fn cast(
        &mut self,
        editor: &mut Editor<'_>,
        value: ValueId,
        to: DType,
        suffix: &str,
        ty: ValueType,
    ) -> Result<ValueId, EditError> {
        self.casts += 1;
        let name = self.named(editor.graph(), value, suffix);
        let operator = Operator::new("Cast").with("to", i64::from(to.onnx()));
        let near: NodeId = value.node;
        let node = editor.add_operator(near, operator, &[Some(value)], vec![Value::typed(name, ty)])?;
        Ok(ValueId::new(node, 0))
    }
}

/// The value that is read at a place.
fn read_by(graph: &Graph, at: Use) -> Option<ValueId> {
    match at.slot {
        Slot::Input(slot) => graph.input(at.node, slot as usize),
        Slot::Capture(slot) => graph.captures_of(at.node).get(slot as usize).copied().flatten(),
    }
}
