//! One operator that is being rewritten, and the nodes that will stand for it.

use crate::analysis::infer_node;
use crate::ir::{
    AttributeValue, DType, EditError, Graph, Imports, NodeId, Operator, Shape, Tensor, TensorError, Value,
    ValueId, ValueType, opset_version,
};

/// The domain of operators that only the built-in engine has.
pub(super) const ENGINE_DOMAIN: &str = "secateur.engine";

pub(super) struct Site<'m> {
    graph: &'m mut Graph,
    id: NodeId,
    imports: &'m Imports,
    /// The operator as it was.
    pub(super) operator: Operator,
    inputs: Vec<Option<ValueId>>,
    made: Vec<NodeId>,
}

impl<'m> Site<'m> {
    pub(super) fn new(graph: &'m mut Graph, id: NodeId, imports: &'m Imports) -> Self {
        let operator = graph.operator(id).cloned().unwrap_or_else(|| Operator::new(""));
        let inputs = graph.inputs_of(id).to_vec();
        Self {
            graph,
            id,
            imports,
            operator,
            inputs,
            made: Vec::new(),
        }
    }

    /// The version of ONNX's own operators that holds here.
    pub(super) fn version(&self) -> i64 {
        opset_version(self.imports, "").unwrap_or(1)
    }

    /// The value in an input slot.
    pub(super) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// All input slots.
    pub(super) fn inputs(&self) -> &[Option<ValueId>] {
        &self.inputs
    }

    /// The operator that gives a value, and what it reads.
    pub(super) fn source(&self, value: ValueId) -> Option<(&Operator, Vec<Option<ValueId>>)> {
        let operator = self.graph.operator(value.node)?;
        Some((operator, self.graph.inputs_of(value.node).to_vec()))
    }

    pub(super) fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.graph.constant(value)
    }

    /// Whether a value is a constant, or one that is only cast to another type.
    pub(super) fn is_constant(&self, value: ValueId) -> bool {
        let source = match self.graph.operator(value.node) {
            Some(operator) if operator.is("Cast") => self.graph.input(value.node, 0),
            _ => Some(value),
        };
        source.is_some_and(|source| self.graph.constant(source).is_some())
    }

    pub(super) fn dtype(&self, value: ValueId) -> Option<DType> {
        self.graph.ty(value).dtype()
    }

    pub(super) fn shape(&self, value: ValueId) -> Option<Shape> {
        self.graph.ty(value).shape().cloned()
    }

    pub(super) fn rank(&self, value: ValueId) -> Option<usize> {
        self.graph.ty(value).rank()
    }

    /// Element type of an input.
    pub(super) fn input_dtype(&self, index: usize) -> Option<DType> {
        self.dtype(self.input(index)?)
    }

    /// Number of outputs, and whether one of them is there and read.
    pub(super) fn output_count(&self) -> usize {
        self.graph.get(self.id).map_or(0, |node| node.outputs().len())
    }

    pub(super) fn is_read(&self, output: usize) -> bool {
        output < self.output_count() && self.graph.use_count(ValueId::new(self.id, output)) > 0
    }

    /// Element type of an output.
    pub(super) fn output_dtype(&self, output: usize) -> Option<DType> {
        if output >= self.output_count() {
            None
        } else {
            self.dtype(ValueId::new(self.id, output))
        }
    }

    fn origin(&self) -> String {
        format!("lower/{}", self.operator.op_type)
    }

    /// Adds an operator with `outputs` outputs.
    pub(super) fn nodes(
        &mut self,
        operator: Operator,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Vec<ValueId>, EditError> {
        let origin = self.origin();
        let values = vec![Value::default(); outputs];
        let id = self
            .graph
            .edit(origin)
            .add_operator(self.id, operator, inputs, values)?;
        self.made.push(id);
        infer_node(self.graph, id, self.imports);
        Ok((0..outputs).map(|output| ValueId::new(id, output)).collect())
    }

    /// Takes back what was inferred about a value.
    pub(super) fn forget_type(&mut self, value: ValueId) -> Result<(), EditError> {
        let origin = self.origin();
        self.graph.edit(origin).set_facts(value, ValueType::Unknown, None)
    }

    /// Adds an operator with one output.
    pub(super) fn node(&mut self, operator: Operator, inputs: &[ValueId]) -> Result<ValueId, EditError> {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let id = self.nodes(operator, &inputs, 1)?;
        id.first()
            .copied()
            .ok_or_else(|| EditError::NoNode(self.id.index()))
    }

    /// Adds an operator without attributes.
    pub(super) fn op(&mut self, op_type: &str, inputs: &[ValueId]) -> Result<ValueId, EditError> {
        self.node(Operator::new(op_type), inputs)
    }

    /// Adds a constant.
    pub(super) fn tensor(&mut self, tensor: Tensor) -> ValueId {
        let origin = self.origin();
        let value = self.graph.edit(origin).add_constant("", tensor);
        self.made.push(value.node);
        value
    }

    /// A constant vector of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.tensor(Tensor::vector_i64(values))
    }

    /// A constant scalar of an element type.
    pub(super) fn number(&mut self, dtype: DType, value: f64) -> Result<ValueId, EditError> {
        let tensor = scalar(dtype, value).map_err(|_| EditError::NotOperator(self.graph.label(self.id)))?;
        Ok(self.tensor(tensor))
    }

    /// `Cast`.
    pub(super) fn cast(&mut self, value: ValueId, to: DType) -> Result<ValueId, EditError> {
        self.node(Operator::new("Cast").with("to", i64::from(to.onnx())), &[value])
    }

    /// A reduction over `axes`, in the form of the opset.
    pub(super) fn reduce(
        &mut self,
        op_type: &str,
        value: ValueId,
        axes: &[i64],
        keep: bool,
    ) -> Result<ValueId, EditError> {
        let operator = Operator::new(op_type).with("keepdims", i64::from(keep));
        let by_input = self.version() >= if op_type == "ReduceSum" { 13 } else { 18 };
        if axes.is_empty() {
            return self.node(operator, &[value]);
        }
        if by_input {
            let axes = self.ints(axes);
            return self.node(operator, &[value, axes]);
        }
        self.node(operator.with("axes", axes.to_vec()), &[value])
    }

    /// `Squeeze` or `Unsqueeze`, in the form of the opset.
    pub(super) fn fold_axes(
        &mut self,
        op_type: &str,
        value: ValueId,
        axes: &[i64],
    ) -> Result<ValueId, EditError> {
        if self.version() >= 13 {
            let axes = self.ints(axes);
            return self.node(Operator::new(op_type), &[value, axes]);
        }
        self.node(Operator::new(op_type).with("axes", axes.to_vec()), &[value])
    }

    /// `Slice`, in the form of the opset; before opset 10 every step has to be 1.
    pub(super) fn slice(
        &mut self,
        value: ValueId,
        starts: &[i64],
        ends: &[i64],
        axes: &[i64],
        steps: &[i64],
    ) -> Result<ValueId, EditError> {
        if self.version() >= 10 {
            let lists = [starts, ends, axes, steps].map(|list| self.ints(list));
            let [starts, ends, axes, steps] = lists;
            return self.op("Slice", &[value, starts, ends, axes, steps]);
        }
        let operator = Operator::new("Slice")
            .with("starts", starts.to_vec())
            .with("ends", ends.to_vec())
            .with("axes", axes.to_vec());
        self.node(operator, &[value])
    }

    /// An operator of the engine whose result has the type and shape of its operand.
    pub(super) fn like(&mut self, operator: Operator, value: ValueId) -> Result<ValueId, EditError> {
        let made = self.node(operator, &[value])?;
        let ty = self.graph.ty(value).clone();
        let origin = self.origin();
        self.graph.edit(origin).set_facts(made, ty, None)?;
        Ok(made)
    }

    /// One dimension of a value's shape, as a vector of one element.
    pub(super) fn dim(&mut self, value: ValueId, axis: i64) -> Result<ValueId, EditError> {
        let shape = self.op("Shape", &[value])?;
        let axis = self.ints(&[axis]);
        self.node(Operator::new("Gather").with("axis", 0), &[shape, axis])
    }

    /// Vectors joined.
    pub(super) fn join(&mut self, parts: &[ValueId]) -> Result<ValueId, EditError> {
        self.node(Operator::new("Concat").with("axis", 0), parts)
    }

    /// Lets the readers of an output read `value`.
    pub(super) fn replace(&mut self, output: usize, value: ValueId) -> Result<(), EditError> {
        let old = ValueId::new(self.id, output);
        if output >= self.output_count() || self.graph.use_count(old) == 0 {
            return Ok(());
        }
        let origin = self.origin();
        let value = if self.graph.edit(origin.as_str()).can_take_name(value) {
            value
        } else {
            self.op("Identity", &[value])?
        };
        // What is known of the engine's own operators is what is known of those that they stand for: rules for readers ask.
        let ty = self.graph.ty(old).clone();
        if *self.graph.ty(value) == ValueType::Unknown && ty != ValueType::Unknown {
            self.graph.edit(origin.as_str()).set_facts(value, ty, None)?;
        }
        self.graph.edit(origin).replace(old, value)
    }

    /// Removes what nothing reads: the operator if it was rewritten, else what was made for it.
    pub(super) fn finish(self, rewritten: bool) -> bool {
        let origin = self.origin();
        let mut editor = self.graph.edit(origin);
        if rewritten {
            editor.remove_unused(self.id);
        }
        for id in self.made.into_iter().rev() {
            editor.remove_unused(id);
        }
        rewritten
    }

    /// The attributes of the operator but for these, then `more`.
    pub(super) fn with_attributes(&self, base: Operator, drop: &[&str]) -> Operator {
        let kept = self
            .operator
            .attributes()
            .iter()
            .filter(|a| !drop.contains(&&*a.name))
            .cloned()
            .collect();
        base.with_attributes(kept)
    }

    /// A float attribute, or its default.
    pub(super) fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.operator.float(name).unwrap_or(default))
    }

    /// An integer attribute, or its default.
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.operator.int(name).unwrap_or(default)
    }

    /// A list attribute as it is.
    pub(super) fn attribute(&self, name: &str) -> Option<AttributeValue> {
        self.operator.attribute(name).cloned()
    }
}

fn scalar(dtype: DType, value: f64) -> Result<Tensor, TensorError> {
    let whole = value as i64;
    Ok(match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Tensor::from_f64(dtype, &[], &[value])?,
        DType::I64 => Tensor::scalar(whole),
        DType::I32 => Tensor::scalar(whole as i32),
        DType::I16 => Tensor::scalar(whole as i16),
        DType::I8 => Tensor::scalar(whole as i8),
        DType::U64 => Tensor::scalar(whole as u64),
        DType::U32 => Tensor::scalar(whole as u32),
        DType::U16 => Tensor::scalar(whole as u16),
        DType::U8 => Tensor::scalar(whole as u8),
        DType::Bool => Tensor::from_bools(&[], &[value != 0.0])?,
        found => {
            return Err(TensorError::Type {
                expected: "a number",
                found,
            });
        }
    })
}
