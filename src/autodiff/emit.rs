//! The graph that is being made, and the values in it as formulas see them.
//!
//! A [`Var`] is a value with its element type and symbolic shape. Formulas combine vars and cannot fail: what cannot be
//! emitted is recorded once as a [`Fault`], and the caller asks for it when the formula is done.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::ir::{
    DType, Dim, Graph, GraphBuilder, Input, NodeId, Operator, Shape, Tensor, Value, ValueId, ValueType,
};

/// Why a formula could not be emitted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The form of the operator has no rule.
    Form(String),
    /// A size that the formula needs as a number is symbolic.
    Symbolic(String),
}

impl Fault {
    /// The reason as an error says it.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Form(reason) => reason,
            Self::Symbolic(what) => format!("{what} must be a number; bind the model's sizes"),
        }
    }
}

/// Makes a graph.
pub(super) struct Emitter {
    /// The opset of ONNX's own operators.
    pub(super) opset: i64,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    builder: GraphBuilder,
    known: HashMap<ValueId, (DType, Shape)>,
    constants: HashMap<(DType, Vec<u64>, Vec<u8>), ValueId>,
    shapes: HashMap<ValueId, ValueId>,
    /// Where each symbolic size can be read: a value and an axis.
    extents: Vec<(Dim, ValueId, usize)>,
    /// Operators of the forward pass, in the order in which they run.
    tape: Vec<NodeId>,
    recording: bool,
    fault: Option<Fault>,
}

/// A value of the graph that is being made.
#[derive(Clone)]
pub(super) struct Var<'e> {
    pub(super) e: &'e Emitter,
    pub(super) id: ValueId,
    pub(super) dtype: DType,
    pub(super) shape: Shape,
}

impl Emitter {
    pub(super) fn new(opset: i64) -> Self {
        Self {
            opset,
            state: RefCell::new(State::default()),
        }
    }

    /// Gives access to the graph so far. Formulas must not be emitted inside.
    pub(super) fn build<T>(&self, change: impl FnOnce(&mut GraphBuilder) -> T) -> T {
        change(&mut self.state.borrow_mut().builder)
    }

    /// Reads the graph so far.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Graph) -> T) -> T {
        look(self.state.borrow().builder.graph())
    }

    /// The finished graph.
    pub(super) fn finish(self) -> Graph {
        self.state.into_inner().builder.finish()
    }

    /// Records why the formula at hand cannot be emitted; the first reason counts.
    pub(super) fn fault(&self, fault: Fault) {
        self.state.borrow_mut().fault.get_or_insert(fault);
    }

    /// The reason recorded since the last call.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.state.borrow_mut().fault.take()
    }

    /// Whether operators are put on the tape from now on.
    pub(super) fn record(&self, on: bool) {
        self.state.borrow_mut().recording = on;
    }

    /// Puts an operator on the tape that was added by hand.
    pub(super) fn log(&self, node: NodeId) {
        let mut state = self.state.borrow_mut();
        if state.recording {
            state.tape.push(node);
        }
    }

    /// The operators of the forward pass so far.
    pub(super) fn tape(&self) -> Vec<NodeId> {
        self.state.borrow().tape.clone()
    }

    /// Makes a value's type known. Its symbolic sizes can be read at run time from then on.
    pub(super) fn know(&self, id: ValueId, dtype: DType, shape: Shape) -> Var<'_> {
        let mut state = self.state.borrow_mut();
        for (axis, dim) in shape.iter().enumerate() {
            if matches!(dim, Dim::Expr(_)) && !state.extents.iter().any(|(known, ..)| known == dim) {
                state.extents.push((dim.clone(), id, axis));
            }
        }
        state.known.insert(id, (dtype, shape.clone()));
        Var {
            e: self,
            id,
            dtype,
            shape,
        }
    }

    /// The value as a var, if its type is known.
    pub(super) fn var(&self, id: ValueId) -> Option<Var<'_>> {
        let state = self.state.borrow();
        let (dtype, shape) = state.known.get(&id)?;
        Some(Var {
            e: self,
            id,
            dtype: *dtype,
            shape: shape.clone(),
        })
    }

    /// A graph input.
    pub(super) fn input(&self, name: &str, dtype: DType, shape: Shape) -> Var<'_> {
        let declared = crate::analysis::public_type(&ValueType::tensor(dtype, Some(shape.clone())));
        let index = self.read(|graph| graph.inputs().len()) as u32;
        let id = self.build(|b| {
            b.input(
                Value::typed(name, declared),
                Input {
                    index,
                    ..Input::default()
                },
            )
        });
        self.know(id, dtype, shape)
    }

    /// A constant; equal ones are one initializer.
    pub(super) fn constant(&self, tensor: Tensor) -> Var<'_> {
        let shape = tensor.dims().iter().map(|dim| Dim::Fixed(*dim as i64)).collect();
        let dtype = tensor.dtype();
        let bytes = tensor.raw().map(|raw| raw.into_owned()).unwrap_or_default();
        let key = (dtype, tensor.dims().to_vec(), bytes);
        let known = self.state.borrow().constants.get(&key).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.build(|b| b.initializer("", tensor));
            self.state.borrow_mut().constants.insert(key, id);
            id
        });
        self.know(id, dtype, shape)
    }

    /// An `int64` vector.
    pub(super) fn ints(&self, values: &[i64]) -> Var<'_> {
        self.constant(Tensor::vector_i64(values))
    }

    /// Numbers of a float type in a fixed shape; the lengths must agree.
    pub(super) fn floats(&self, dtype: DType, dims: &[i64], values: &[f64]) -> Var<'_> {
        let dims: Vec<u64> = dims.iter().map(|dim| *dim as u64).collect();
        match Tensor::from_f64(dtype, &dims, values) {
            Ok(tensor) => self.constant(tensor),
            Err(error) => {
                self.fault(Fault::Form(error.to_string()));
                self.ints(&[])
            }
        }
    }

    /// A number as a rank-0 tensor of a float type.
    pub(super) fn scalar(&self, dtype: DType, value: f64) -> Var<'_> {
        self.floats(dtype, &[], &[value])
    }

    /// The elements of a constant.
    pub(super) fn tensor(&self, id: ValueId) -> Option<Tensor> {
        self.read(|graph| graph.constant(id).cloned())
    }

    /// The elements of an integer value, when they are known as numbers: a constant, or computed from known sizes.
    pub(super) fn numbers(&self, id: ValueId) -> Option<Vec<i64>> {
        self.read(|graph| {
            if let Some(tensor) = graph.constant(id) {
                return tensor.to_i64().ok();
            }
            graph
                .value(id)?
                .content
                .as_ref()?
                .elements
                .iter()
                .map(Dim::fixed)
                .collect()
        })
    }

    /// Emits an operator; one var an output.
    pub(super) fn emit<'e>(
        &'e self,
        operator: Operator,
        inputs: &[Option<&Var<'e>>],
        outputs: Vec<(DType, Shape)>,
    ) -> Vec<Var<'e>> {
        let ids: Vec<Option<ValueId>> = inputs.iter().map(|input| input.map(|var| var.id)).collect();
        let values = outputs
            .iter()
            .map(|(dtype, shape)| Value::typed("", ValueType::tensor(*dtype, Some(shape.clone()))))
            .collect();
        let node = self.build(|b| b.node(operator, &ids, values));
        self.log(node);
        let var = |(index, (dtype, shape))| self.know(ValueId::new(node, index), dtype, shape);
        outputs.into_iter().enumerate().map(var).collect()
    }

    /// Emits an operator with one output.
    pub(super) fn one<'e>(
        &'e self,
        operator: Operator,
        inputs: &[&Var<'e>],
        dtype: DType,
        shape: impl IntoIterator<Item = Dim>,
    ) -> Var<'e> {
        let inputs: Vec<Option<&Var<'e>>> = inputs.iter().map(|var| Some(*var)).collect();
        let shape: Shape = shape.into_iter().collect();
        match self.emit(operator, &inputs, vec![(dtype, shape)]).pop() {
            Some(var) => var,
            None => self.ints(&[]),
        }
    }

    /// A size as an `int64` vector of one element, read at run time where it is symbolic.
    pub(super) fn size(&self, dim: &Dim) -> Var<'_> {
        if let Dim::Fixed(size) = dim {
            return self.ints(&[*size]);
        }
        let found = self
            .state
            .borrow()
            .extents
            .iter()
            .find(|(known, ..)| known == dim)
            .map(|(_, id, axis)| (*id, *axis));
        let Some((id, axis)) = found else {
            self.fault(Fault::Symbolic(format!("the size {dim}")));
            return self.ints(&[0]);
        };
        let Some(source) = self.var(id) else {
            return self.ints(&[0]);
        };
        let shape = source.shape_vector();
        self.one(
            Operator::new("Gather").with("axis", 0i64),
            &[&shape, &self.ints(&[axis as i64])],
            DType::I64,
            [Dim::Fixed(1)],
        )
    }

    /// Sizes as an `int64` vector.
    pub(super) fn sizes(&self, dims: &[Dim]) -> Var<'_> {
        let fixed: Option<Vec<i64>> = dims.iter().map(Dim::fixed).collect();
        if let Some(fixed) = fixed {
            return self.ints(&fixed);
        }
        let parts: Vec<Var<'_>> = dims.iter().map(|dim| self.size(dim)).collect();
        match parts.as_slice() {
            [only] => only.clone(),
            _ => {
                let parts: Vec<&Var<'_>> = parts.iter().collect();
                self.one(
                    Operator::new("Concat").with("axis", 0i64),
                    &parts,
                    DType::I64,
                    [Dim::Fixed(dims.len() as i64)],
                )
            }
        }
    }

    /// The product of sizes as a rank-0 float.
    pub(super) fn count(&self, dtype: DType, dims: &[Dim]) -> Var<'_> {
        let fixed: i64 = dims.iter().filter_map(Dim::fixed).product();
        let constant = self.scalar(dtype, fixed as f64);
        dims.iter()
            .filter(|dim| dim.fixed().is_none())
            .fold(constant, |product, dim| {
                product * self.size(dim).squeeze(&[0]).cast(dtype)
            })
    }
}

impl<'e> Var<'e> {
    /// Number of axes.
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// A dimension; unknown past the end.
    pub(super) fn dim(&self, axis: usize) -> Dim {
        self.shape.get(axis).cloned().unwrap_or(Dim::Unknown)
    }

    /// A dimension as a number; a fault where it is symbolic.
    pub(super) fn fixed(&self, axis: usize) -> i64 {
        match self.dim(axis).fixed() {
            Some(size) => size,
            None => {
                self.e.fault(Fault::Symbolic(format!(
                    "axis {axis} of a tensor of shape {}",
                    shown(&self.shape)
                )));
                1
            }
        }
    }

    /// The dimensions from `first` on as numbers; a fault where one is symbolic.
    pub(super) fn fixed_from(&self, first: usize) -> Vec<i64> {
        (first..self.rank()).map(|axis| self.fixed(axis)).collect()
    }

    /// The same value, known to have another var's shape.
    pub(super) fn shaped_like(mut self, other: &Var<'e>) -> Var<'e> {
        self.shape = other.shape.clone();
        self
    }

    /// The shape at run time, as an `int64` vector.
    pub(super) fn shape_vector(&self) -> Var<'e> {
        let e = self.e;
        let fixed: Option<Vec<i64>> = self.shape.iter().map(Dim::fixed).collect();
        if let Some(fixed) = fixed {
            return e.ints(&fixed);
        }
        let known = e.state.borrow().shapes.get(&self.id).copied();
        if let Some(known) = known.and_then(|id| e.var(id)) {
            return known;
        }
        let shape = e.one(
            Operator::new("Shape"),
            &[self],
            DType::I64,
            [Dim::Fixed(self.rank() as i64)],
        );
        e.state.borrow_mut().shapes.insert(self.id, shape.id);
        shape
    }
}

/// A shape in a message.
pub(super) fn shown(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// A shape of numbers.
pub(super) fn dims(sizes: &[i64]) -> Shape {
    sizes.iter().map(|size| Dim::Fixed(*size)).collect()
}
