//! A graph written down as expressions: each call adds an operator and answers its value.

use crate::format::value_info_of;
use crate::ir::{
    DType, Graph, GraphBuilder, GraphOutput, Input, Name, Operator, Tensor, TensorError, Value, ValueId,
    ValueType,
};

/// A graph in the making. Its values have names that start with `prefix`.
pub(super) struct Ops {
    graph: GraphBuilder,
    prefix: &'static str,
    count: usize,
}

impl Ops {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self {
            graph: GraphBuilder::new(),
            prefix,
            count: 0,
        }
    }

    fn name(&mut self, of: &str) -> Name {
        self.count += 1;
        Name::from(format!("{}/{of}_{}", self.prefix, self.count))
    }

    /// One more input of the graph.
    pub(super) fn input(&mut self, name: &str, ty: ValueType) -> ValueId {
        let index = self.graph.graph().inputs().len() as u32;
        let input = Input {
            index,
            ..Input::default()
        };
        self.graph.input(Value::typed(name, ty), input)
    }

    /// One more input, whose type is denoted as what it stands for (the type denotations of the ONNX specification).
    pub(super) fn denoted_input(&mut self, name: &str, ty: ValueType, denotation: &str) -> ValueId {
        let mut declared = value_info_of(&Name::from(name), &ty);
        if let Some(ty) = &mut declared.r#type {
            ty.denotation = Some(denotation.to_owned());
        }
        let input = Input {
            index: self.graph.graph().inputs().len() as u32,
            declared: Some(declared),
            ..Input::default()
        };
        self.graph.input(Value::typed(name, ty), input)
    }

    /// Gives a value another name.
    pub(super) fn named(&mut self, value: ValueId, name: &str) -> ValueId {
        let node = self.graph.node(
            Operator::new("Identity"),
            &[Some(value)],
            vec![Value::named(name)],
        );
        ValueId::new(node, 0)
    }

    /// One more output of the graph, of this name.
    pub(super) fn output(&mut self, name: &str, value: ValueId, ty: ValueType) {
        let value = self.named(value, name);
        let output = GraphOutput {
            name: Name::from(name),
            declared: None,
            ty,
        };
        self.graph.output(output, Some(value));
    }

    pub(super) fn apply(&mut self, operator: Operator, inputs: &[ValueId]) -> ValueId {
        let name = self.name(&operator.op_type.to_string());
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let node = self.graph.node(operator, &inputs, vec![Value::named(name)]);
        ValueId::new(node, 0)
    }

    pub(super) fn op(&mut self, op_type: &str, inputs: &[ValueId]) -> ValueId {
        self.apply(Operator::new(op_type), inputs)
    }

    /// An operator with two outputs.
    pub(super) fn pair(&mut self, operator: Operator, inputs: &[ValueId]) -> (ValueId, ValueId) {
        let names = [0, 1].map(|_| self.name(&operator.op_type.to_string()));
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let node = self
            .graph
            .node(operator, &inputs, names.map(Value::named).to_vec());
        (ValueId::new(node, 0), ValueId::new(node, 1))
    }

    pub(super) fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.name("constant");
        self.graph.initializer(name, tensor)
    }

    pub(super) fn int(&mut self, value: i64) -> ValueId {
        self.constant(Tensor::scalar(value))
    }

    pub(super) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::vector_i64(values))
    }

    pub(super) fn float(&mut self, value: f32) -> ValueId {
        self.constant(Tensor::scalar(value))
    }

    pub(super) fn double(&mut self, value: f64) -> ValueId {
        self.constant(Tensor::scalar(value))
    }

    pub(super) fn floats(&mut self, dims: &[u64], values: &[f32]) -> Result<ValueId, TensorError> {
        Ok(self.constant(Tensor::from_slice(dims, values)?))
    }

    pub(super) fn doubles(&mut self, dims: &[u64], values: &[f64]) -> Result<ValueId, TensorError> {
        Ok(self.constant(Tensor::from_slice(dims, values)?))
    }

    pub(super) fn cast(&mut self, value: ValueId, to: DType) -> ValueId {
        self.apply(Operator::new("Cast").with("to", i64::from(to.onnx())), &[value])
    }

    pub(super) fn gather(&mut self, value: ValueId, indices: ValueId, axis: i64) -> ValueId {
        self.apply(Operator::new("Gather").with("axis", axis), &[value, indices])
    }

    pub(super) fn reshape(&mut self, value: ValueId, dims: &[i64]) -> ValueId {
        let dims = self.ints(dims);
        self.op("Reshape", &[value, dims])
    }

    pub(super) fn transpose(&mut self, value: ValueId, perm: &[i64]) -> ValueId {
        self.apply(Operator::new("Transpose").with("perm", perm.to_vec()), &[value])
    }

    pub(super) fn unsqueeze(&mut self, value: ValueId, axis: i64) -> ValueId {
        let axes = self.ints(&[axis]);
        self.op("Unsqueeze", &[value, axes])
    }

    pub(super) fn concat(&mut self, values: &[ValueId], axis: i64) -> ValueId {
        match values {
            [one] => *one,
            values => self.apply(Operator::new("Concat").with("axis", axis), values),
        }
    }

    /// Elements `first` up to `end` along `axis`.
    pub(super) fn slice(&mut self, value: ValueId, axis: i64, first: i64, end: i64) -> ValueId {
        let operands = [first, end, axis].map(|at| self.ints(&[at]));
        let [first, end, axis] = operands;
        self.op("Slice", &[value, first, end, axis])
    }

    /// The value, which has to have `size` entries along `axis`: where it has others, the run fails here and not behind in some other way.
    pub(super) fn exactly(&mut self, value: ValueId, axis: i64, size: i64) -> ValueId {
        let size = self.ints(&[size]);
        self.apply(Operator::new("Split").with("axis", axis), &[value, size])
    }

    /// The sum along `axis`.
    pub(super) fn sum(&mut self, value: ValueId, axis: i64, keep: bool) -> ValueId {
        let axes = self.ints(&[axis]);
        let operator = Operator::new("ReduceSum").with("keepdims", i64::from(keep));
        self.apply(operator, &[value, axes])
    }

    pub(super) fn finish(self) -> Graph {
        self.graph.finish()
    }
}
