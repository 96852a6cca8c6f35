//! One operator with the axes of what it reads and gives: what the rules work on.

use smallvec::SmallVec;

use super::elements::{Axis, Elements};
use super::pins::Pin;
use super::sizes;
use crate::ir::{Dim, Graph, Inputs, NodeId, Operator, Shape, Tensor, ValueId};

/// The axes of one value.
pub(super) type Axes = SmallVec<[Axis; 4]>;

/// Says how the axes of an operator's inputs and outputs depend on each other. `None` for a form that it does not know:
/// then everything that the operator reads is pinned.
pub(super) type RuleFn = fn(&mut Rule<'_>) -> Option<()>;

/// A place where elements of an axis are summed up, without a constant that could be zero there: where the reference of the
/// oracle masks.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) node: NodeId,
    pub(super) slot: usize,
    pub(super) axis: usize,
    pub(super) kind: SumKind,
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SumKind {
    /// A sum: removed elements count as zero.
    Sum,
    /// A mean: the reference divides by the number of kept elements.
    Mean,
    /// LayerNormalization: mean and variance over the kept elements.
    LayerNorm,
    /// RMS normalisation: the mean square over the kept elements.
    RmsNorm,
}

/// What the solver gathers.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    pub(super) elements: Elements,
    pub(super) pins: Vec<Pin>,
    pub(super) sums: Vec<Sum>,
    /// Axes by node index and output; `None` for a value of unknown rank.
    pub(super) axes: Vec<Vec<Option<Axes>>>,
}

impl Gathered {
    pub(super) fn axes_of(&self, value: ValueId) -> Option<&Axes> {
        self.axes
            .get(value.node.index())?
            .get(value.output as usize)?
            .as_ref()
    }

    pub(super) fn pin(&mut self, axis: Axis, pin: Pin) {
        if !axis.is_free() {
            return;
        }
        let reason = self.pins.len() as u32;
        self.pins.push(pin);
        for element in axis.elements() {
            self.elements.pin(element, reason);
        }
    }
}

/// One operator under a rule.
pub(super) struct Rule<'a> {
    pub(super) gathered: &'a mut Gathered,
    pub(super) graph: &'a Graph,
    pub(super) id: NodeId,
    pub(super) operator: &'a Operator,
    /// Opset version of the operator's domain.
    pub(super) version: i64,
    pub(super) inputs: Inputs,
    pub(super) outputs: Vec<Option<Axes>>,
    /// Input slots whose axes the rule has looked at.
    pub(super) seen: u64,
}

impl<'a> Rule<'a> {
    pub(super) fn has(&self, slot: usize) -> bool {
        self.value(slot).is_some()
    }

    pub(super) fn value(&self, slot: usize) -> Option<ValueId> {
        self.inputs.get(slot).copied().flatten()
    }

    /// The axes of an input; `None` if it is left out or of unknown rank.
    pub(super) fn axes(&mut self, slot: usize) -> Option<Axes> {
        self.see(slot);
        self.gathered.axes_of(self.value(slot)?).cloned()
    }

    pub(super) fn axis(&mut self, slot: usize, axis: usize) -> Option<Axis> {
        self.see(slot);
        self.gathered.axes_of(self.value(slot)?)?.get(axis).copied()
    }

    fn see(&mut self, slot: usize) {
        self.seen |= u32::try_from(slot)
            .ok()
            .and_then(|slot| 1u64.checked_shl(slot))
            .unwrap_or(0);
    }

    /// Pins the axes of inputs that the rule has not looked at: operands that say how the operator works.
    pub(super) fn pin_unseen(&mut self) {
        for slot in 0..self.inputs.len().min(64) {
            if self.seen >> slot & 1 == 0 {
                self.pin_all(slot, "the operand says how the operator works");
            }
        }
    }

    pub(super) fn shape(&self, slot: usize) -> Option<&'a Shape> {
        self.graph.ty(self.value(slot)?).shape()
    }

    pub(super) fn dim(&self, slot: usize, axis: usize) -> Option<&'a Dim> {
        self.shape(slot)?.get(axis)
    }

    pub(super) fn size(&self, slot: usize, axis: usize) -> Option<usize> {
        usize::try_from(self.dim(slot, axis)?.fixed()?).ok()
    }

    pub(super) fn output_shape(&self, output: usize) -> Option<&'a Shape> {
        self.graph.ty(ValueId::new(self.id, output)).shape()
    }

    pub(super) fn tensor(&self, slot: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.value(slot)?)
    }

    /// The elements of an input of rank 0 or 1, when each is a known number.
    pub(super) fn numbers(&self, slot: usize) -> Option<Vec<i64>> {
        let value = self.value(slot)?;
        if let Some(tensor) = self.graph.constant(value) {
            return if tensor.rank() <= 1 {
                tensor.to_i64().ok()
            } else {
                None
            };
        }
        self.graph
            .value(value)?
            .content
            .as_ref()?
            .elements
            .iter()
            .map(Dim::fixed)
            .collect()
    }

    /// The elements of an input of rank 0 or 1, each known or not.
    pub(super) fn contents(&self, slot: usize) -> Option<Vec<Dim>> {
        sizes::contents(self.graph, self.value(slot)?)
    }

    /// Numbers from an attribute or, in newer forms, from an input: `Some(None)` where both are left out.
    pub(super) fn list(&self, attribute: &str, slot: usize) -> Option<Option<Vec<i64>>> {
        if let Some(list) = self.operator.ints(attribute) {
            return Some(Some(list.to_vec()));
        }
        if self.has(slot) {
            self.numbers(slot).map(Some)
        } else {
            Some(None)
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.operator.int(name).unwrap_or(default)
    }

    /// An axis counted from the end when negative.
    pub(super) fn at(&self, axis: i64, rank: usize) -> Option<usize> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(at).ok().filter(|at| *at < rank)
    }

    /// New elements for an axis of this size; an axis of one element stays fixed.
    pub(super) fn fresh(&mut self, len: usize) -> Axis {
        if len > 1 {
            self.gathered.elements.fresh(len)
        } else {
            Axis::Fixed
        }
    }

    fn pin_of(&self, slot: usize, axis: usize, reason: &'static str) -> Pin {
        let value = self
            .value(slot)
            .and_then(|value| self.graph.value(value))
            .map_or("", |value| value.name.as_str());
        Pin {
            operator: self.operator.op_type.to_string(),
            node: self.graph.label(self.id),
            value: value.to_owned(),
            axis,
            reason,
        }
    }

    /// Pins an axis of an input.
    pub(super) fn pin(&mut self, slot: usize, axis: usize, reason: &'static str) {
        if let Some(found) = self.axis(slot, axis) {
            self.pin_axis(found, slot, axis, reason);
        }
    }

    /// Pins elements; messages name an axis of an input.
    pub(super) fn pin_axis(&mut self, found: Axis, slot: usize, axis: usize, reason: &'static str) {
        if found.is_free() {
            let pin = self.pin_of(slot, axis, reason);
            self.gathered.pin(found, pin);
        }
    }

    /// Pins every axis of an input.
    pub(super) fn pin_all(&mut self, slot: usize, reason: &'static str) {
        for axis in 0..self.axes(slot).map_or(0, |axes| axes.len()) {
            self.pin(slot, axis, reason);
        }
    }

    /// Two axes that lose the same elements; messages name an axis of an input.
    pub(super) fn same(&mut self, a: Axis, b: Axis, slot: usize, axis: usize) {
        match (a, b) {
            (Axis::Free { start: x, len: n }, Axis::Free { start: y, len: m }) if n == m => {
                if x != y {
                    for at in 0..n {
                        self.gathered.elements.union(x + at, y + at);
                    }
                }
            }
            (Axis::Fixed, Axis::Fixed) => {}
            _ => {
                self.pin_axis(a, slot, axis, "what it is combined with keeps its size");
                self.pin_axis(b, slot, axis, "what it is combined with keeps its size");
            }
        }
    }

    /// An axis of an input that loses the same elements as `with`.
    pub(super) fn tie(&mut self, with: Axis, slot: usize, axis: usize) {
        if let Some(found) = self.axis(slot, axis) {
            self.same(found, with, slot, axis);
        }
    }

    /// Ties an axis to its factors, outermost first, with their sizes; messages name an axis of an input.
    pub(super) fn product(&mut self, whole: Axis, factors: &[(usize, Axis)], slot: usize, axis: usize) {
        let size = factors
            .iter()
            .try_fold(1usize, |product, (size, _)| product.checked_mul(*size));
        let sized = factors
            .iter()
            .all(|(size, factor)| factor.count().is_none_or(|count| count == *size));
        let free = factors.iter().any(|(_, factor)| factor.is_free());
        if free && sized && size.is_some() && whole.count() == size {
            self.gathered.elements.product(whole, factors);
            return;
        }
        for found in factors.iter().map(|(_, factor)| *factor).chain([whole]) {
            self.pin_axis(
                found,
                slot,
                axis,
                "a part of the axis it is joined with keeps its size",
            );
        }
    }

    /// The axes of values that are broadcast together, right-aligned, in a result of this rank.
    pub(super) fn broadcast(&mut self, slots: &[usize], skip_last: usize) -> Option<Axes> {
        let mut rank = 0;
        for slot in slots {
            rank = rank.max(self.axes(*slot)?.len().saturating_sub(skip_last));
        }
        let mut result: Axes = Axes::from_elem(Axis::Fixed, rank);
        for (at, target) in result.iter_mut().enumerate() {
            let mut found: Option<Axis> = None;
            for slot in slots {
                let axes = self.axes(*slot)?;
                let own = axes.len().saturating_sub(skip_last);
                let Some(axis) = (at + own).checked_sub(rank) else {
                    continue;
                };
                if self.dim(*slot, axis)?.fixed() == Some(1) {
                    continue;
                }
                let Some(mine) = axes.get(axis).copied() else {
                    continue;
                };
                match found {
                    None => found = Some(mine),
                    Some(other) => {
                        self.same(mine, other, *slot, axis);
                        if !mine.is_free() {
                            found = Some(mine);
                        }
                    }
                }
            }
            *target = found.unwrap_or(Axis::Fixed);
        }
        Some(result)
    }

    /// The axes of an output. A size that contradicts what inference found pins the axis.
    pub(super) fn set(&mut self, output: usize, axes: impl IntoIterator<Item = Axis>) {
        let mut axes: Axes = axes.into_iter().collect();
        let Some(shape) = self.output_shape(output) else {
            return self.put(output, axes);
        };
        if shape.len() != axes.len() {
            for (at, axis) in axes.iter().enumerate() {
                self.pin_axis(*axis, 0, at, "the rank of its result is not what was expected");
            }
            return;
        }
        for (at, (axis, dim)) in axes.iter_mut().zip(shape).enumerate() {
            if let (Some(len), Some(size)) = (axis.count(), dim.fixed())
                && len as i64 != size
            {
                self.pin_axis(*axis, 0, at, "the size of its result is not what was expected");
                *axis = Axis::Fixed;
            }
        }
        self.put(output, axes);
    }

    fn put(&mut self, output: usize, axes: Axes) {
        if let Some(slot) = self.outputs.get_mut(output) {
            *slot = Some(axes);
        }
    }

    /// Notes that an axis of an input is summed up.
    pub(super) fn sum(&mut self, slot: usize, axis: usize, kind: SumKind) {
        if self.axis(slot, axis).is_some_and(Axis::is_free) {
            self.gathered.sums.push(Sum {
                node: self.id,
                slot,
                axis,
                kind,
            });
        }
    }
}
