//! One operator with what is known of its inputs, as the shape rules see it.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::content;
use crate::ir::{
    DType, Dim, Graph, NodeId, NodeKind, Operator, Shape, ShapeContent, Tensor, TensorType, ValueId,
    ValueType,
};
use crate::ops::{Schema, schema};

/// Most elements that a tensor of known length may have for its unknown elements to be listed.
const MAX_LISTED: i64 = 64;

/// What is known of one input.
#[derive(Clone, Debug)]
pub(super) struct Argument<'a> {
    pub(super) ty: Cow<'a, ValueType>,
    pub(super) content: Option<&'a ShapeContent>,
    pub(super) tensor: Option<&'a Tensor>,
}

/// One operator and its arguments.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) operator: &'a Operator,
    /// Opset version of the operator's domain.
    pub(super) version: i64,
    /// The form in force, for operators of the table.
    pub(super) schema: Option<&'static Schema>,
    pub(super) inputs: SmallVec<[Option<Argument<'a>>; 6]>,
    /// Output slots, omitted ones included.
    pub(super) outputs: usize,
}

/// What a rule finds out about one output. The element type comes from the schema where the rule does not set it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fact {
    pub(super) dtype: Option<DType>,
    pub(super) shape: Option<Shape>,
    /// The whole type, for what is no dense tensor or is passed on as it is.
    pub(super) whole: Option<ValueType>,
    pub(super) content: Option<ShapeContent>,
}

/// What a rule finds out about the outputs, one entry an output slot.
#[derive(Clone, Debug)]
pub(super) struct Facts(pub(super) SmallVec<[Fact; 2]>);

/// Infers the outputs of one operator. Answers `None` as soon as something that it needs is unknown; what it has set
/// until then holds.
pub(super) type Rule = fn(&Call<'_>, &mut Facts) -> Option<()>;

impl Facts {
    pub(super) fn new(outputs: usize) -> Self {
        Self(smallvec![Fact::default(); outputs])
    }

    pub(super) fn shape(&mut self, output: usize, shape: impl IntoIterator<Item = Dim>) {
        if let Some(fact) = self.0.get_mut(output) {
            fact.shape = Some(shape.into_iter().map(size).collect());
        }
    }

    pub(super) fn dtype(&mut self, output: usize, dtype: Option<DType>) {
        if let Some(fact) = self.0.get_mut(output)
            && dtype.is_some()
        {
            fact.dtype = dtype;
        }
    }

    pub(super) fn whole(&mut self, output: usize, ty: ValueType) {
        if let Some(fact) = self.0.get_mut(output) {
            fact.whole = Some(ty);
        }
    }

    pub(super) fn content(&mut self, output: usize, content: ShapeContent) {
        // The bound keeps chains of Concat and Tile from doubling without end.
        if let Some(fact) = self.0.get_mut(output)
            && content.elements.len() <= content::MAX_ELEMENTS
            && content::says_something(&content)
        {
            fact.content = Some(content);
        }
    }

    /// Sets content and the shape that follows from it.
    pub(super) fn sizes(&mut self, output: usize, content: ShapeContent) {
        let shape = if content.scalar {
            None
        } else {
            Some(Dim::Fixed(content.elements.len() as i64))
        };
        self.shape(output, shape);
        self.content(output, content);
    }
}

/// A dimension; a number that cannot be one is unknown.
pub(super) fn size(dim: Dim) -> Dim {
    match dim {
        Dim::Fixed(value) if value < 0 => Dim::Unknown,
        other => other,
    }
}

/// The product of dimensions.
pub(super) fn product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> Dim {
    let mut result = Dim::Fixed(1);
    let mut unknown = false;
    for dim in dims {
        match dim {
            Dim::Fixed(0) => return Dim::Fixed(0),
            Dim::Unknown => unknown = true,
            known => result = result.mul(known),
        }
    }
    if unknown { Dim::Unknown } else { result }
}

/// An axis counted from the end when negative; `None` out of range.
pub(super) fn axis(value: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let at = if value < 0 {
        value.checked_add(rank)?
    } else {
        value
    };
    (0..rank).contains(&at).then_some(at as usize)
}

impl<'a> Call<'a> {
    /// The operator `id` with its arguments as the graph knows them.
    pub(super) fn of(graph: &'a Graph, id: NodeId, version: i64) -> Option<Self> {
        let node = graph.get(id)?;
        let operator = node.operator()?;
        let inputs = graph
            .inputs_of(id)
            .into_iter()
            .map(|value| Some(Argument::of(graph, value?)))
            .collect();
        let schema = schema(operator.domain(), &operator.op_type, version);
        Some(Self {
            operator,
            version,
            schema,
            inputs,
            outputs: node.outputs().len(),
        })
    }

    pub(super) fn argument(&self, input: usize) -> Option<&Argument<'a>> {
        self.inputs.get(input)?.as_ref()
    }

    pub(super) fn has(&self, input: usize) -> bool {
        self.argument(input).is_some()
    }

    pub(super) fn ty(&self, input: usize) -> Option<&ValueType> {
        Some(&self.argument(input)?.ty)
    }

    pub(super) fn dtype(&self, input: usize) -> Option<DType> {
        self.ty(input)?.dtype()
    }

    pub(super) fn shape(&self, input: usize) -> Option<&Shape> {
        self.ty(input)?.shape()
    }

    pub(super) fn rank(&self, input: usize) -> Option<usize> {
        self.shape(input).map(|shape| shape.len())
    }

    /// A dimension of an input; unknown where the shape is.
    pub(super) fn dim(&self, input: usize, axis: usize) -> Dim {
        self.shape(input)
            .and_then(|shape| shape.get(axis))
            .cloned()
            .unwrap_or(Dim::Unknown)
    }

    /// The type of the elements of a sequence or optional.
    pub(super) fn element_type(&self, input: usize) -> Option<&ValueType> {
        match self.ty(input)? {
            ValueType::Sequence(element) | ValueType::Optional(element) => Some(element),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, input: usize) -> Option<&'a Tensor> {
        self.argument(input)?.tensor
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.operator.int(name)
    }

    pub(super) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.operator.int(name).unwrap_or(default)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.operator.ints(name)
    }

    /// The elements of an input of rank 0 or 1 whose length is known; each may be unknown.
    pub(super) fn sizes(&self, input: usize) -> Option<Cow<'a, ShapeContent>> {
        let argument = self.argument(input)?;
        if let Some(tensor) = argument.tensor {
            return content::of_tensor(tensor).map(Cow::Owned);
        }
        if let Some(content) = argument.content {
            let flat = argument.ty.rank().is_none_or(|rank| rank <= 1);
            return flat.then_some(Cow::Borrowed(content));
        }
        match argument.ty.shape()?.as_slice() {
            [] => Some(Cow::Owned(content::scalar(Dim::Unknown))),
            [Dim::Fixed(count)] if (0..=MAX_LISTED).contains(count) => {
                Some(Cow::Owned(content::vector(vec![Dim::Unknown; *count as usize])))
            }
            _ => None,
        }
    }

    /// Dimensions and elements, in row-major order, of a small input of any rank.
    pub(super) fn listed(&self, input: usize) -> Option<(Vec<usize>, Cow<'a, [Dim]>)> {
        let argument = self.argument(input)?;
        let dims: Vec<usize> = argument
            .ty
            .fixed_shape()?
            .into_iter()
            .map(|dim| usize::try_from(dim).ok())
            .collect::<Option<_>>()?;
        let elements = match (argument.tensor, argument.content) {
            (Some(tensor), _) => Cow::Owned(content::of_any_rank(tensor)?),
            (None, Some(content)) => Cow::Borrowed(content.elements.as_slice()),
            (None, None) => Cow::Owned(self.sizes(input)?.into_owned().elements),
        };
        let count = dims
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        (count == elements.len()).then_some((dims, elements))
    }

    /// The elements of an input, when each is a number.
    pub(super) fn numbers(&self, input: usize) -> Option<Vec<i64>> {
        if let Some(tensor) = self.tensor(input) {
            return if tensor.rank() <= 1 {
                tensor.to_i64().ok()
            } else {
                None
            };
        }
        self.sizes(input)?.elements.iter().map(Dim::fixed).collect()
    }

    /// The single element of an input.
    pub(super) fn single(&self, input: usize) -> Option<Dim> {
        match self.sizes(input)?.elements.as_slice() {
            [element] => Some(element.clone()),
            _ => None,
        }
    }

    /// Axes from an attribute or, in newer forms, from an input. `None` if they are not known, `Some(None)` if left out.
    pub(super) fn axes(&self, name: &str, input: usize) -> Option<Option<Vec<i64>>> {
        if let Some(axes) = self.ints(name) {
            return Some(Some(axes.to_vec()));
        }
        if self.has(input) {
            self.numbers(input).map(Some)
        } else {
            Some(None)
        }
    }

    /// The element types of the schema: a concrete type, the one type that a variable may stand for, or the element type
    /// of an input with the same variable.
    pub(super) fn element_types(&self, facts: &mut Facts) {
        let Some(schema) = self.schema else { return };
        for (slot, fact) in facts.0.iter_mut().enumerate() {
            if fact.whole.is_some() || fact.dtype.is_some() {
                continue;
            }
            let Some(parameter) = schema.output(slot) else {
                continue;
            };
            if let Some(dtype) = schema.type_set(parameter.ty).and_then(|set| set.only_dtype()) {
                fact.dtype = Some(dtype);
                continue;
            }
            if !parameter.homogeneous {
                continue;
            }
            fact.dtype = self.inputs.iter().enumerate().find_map(|(input, argument)| {
                let formal = schema.input(input)?;
                if formal.ty != parameter.ty || !formal.homogeneous {
                    return None;
                }
                argument.as_ref()?.ty.dtype()
            });
        }
    }
}

impl<'a> Argument<'a> {
    pub(super) fn of(graph: &'a Graph, id: ValueId) -> Self {
        let value = graph.value(id);
        let ty = match graph.get(id.node).map(|node| &node.kind) {
            Some(NodeKind::Input(_)) => match value {
                Some(value) => super::symbols::with_private_symbols(&value.name, &value.ty),
                None => Cow::Owned(ValueType::Unknown),
            },
            _ => Cow::Borrowed(graph.ty(id)),
        };
        Self {
            ty,
            content: value.and_then(|value| value.content.as_deref()),
            tensor: graph.constant(id),
        }
    }
}

impl Fact {
    /// The type and content of the output.
    pub(super) fn finish(self) -> (ValueType, Option<ShapeContent>) {
        match self.whole {
            Some(ty) => (ty, self.content),
            None if self.dtype.is_none() && self.shape.is_none() => (ValueType::Unknown, None),
            None => (
                ValueType::Tensor(TensorType {
                    dtype: self.dtype,
                    shape: self.shape,
                }),
                self.content,
            ),
        }
    }
}
