//! Operands and attributes that name sizes, counts or positions along a cut axis.

use super::super::elements::Axis;
use super::super::sizes::{self, Entry};
use super::super::solve::Solution;
use super::super::units::Removal;
use super::RewriteError;
use crate::ir::{Editor, Graph, NodeId, Operator, Tensor, Value, ValueId};

struct Follow<'a, 'g> {
    editor: Editor<'g>,
    /// The graph as it was.
    old: &'a Graph,
    solution: &'a Solution,
    removal: &'a Removal,
}

/// Lets every operator of `graph`, a copy of `old`, follow the removal.
pub(super) fn follow(
    graph: &mut Graph,
    old: &Graph,
    solution: &Solution,
    removal: &Removal,
    origin: &'static str,
) -> Result<(), RewriteError> {
    let mut follow = Follow {
        editor: graph.edit(origin),
        old,
        solution,
        removal,
    };
    for id in old.topological_order() {
        let Some(operator) = old.operator(id) else {
            continue;
        };
        match (operator.domain(), operator.op_type.as_str()) {
            ("", "Conv" | "ConvInteger") | ("com.microsoft", "FusedConv") => {
                follow.groups(id, operator, 0, 1, 1)?
            }
            ("", "QLinearConv") => follow.groups(id, operator, 0, 3, 1)?,
            ("", "ConvTranspose") => follow.groups(id, operator, usize::MAX, 1, 1)?,
            ("", "GroupNormalization") => follow.group_normalization(id, operator)?,
            ("", "LSTM" | "GRU" | "RNN") => {
                if let Some(size) = follow.new_size(ValueId::new(id, 0), 3) {
                    follow.editor.set_attribute(id, "hidden_size", size)?;
                }
            }
            ("", "Reshape") => follow.reshape(id, operator)?,
            ("", "Expand") => follow.expand(id)?,
            ("", "ConstantOfShape") => follow.entries(id, 0, None)?,
            ("", "Resize") if old.input(id, 3).is_some() && operator.ints("axes").is_none() => {
                follow.entries(id, 3, None)?;
            }
            ("", "Split") => follow.split(id, operator)?,
            ("", "Slice") => follow.slice(id, operator)?,
            ("", "Gather") => follow.gather(id, operator)?,
            _ => {}
        }
    }
    Ok(())
}

impl Follow<'_, '_> {
    fn axis(&self, value: ValueId, axis: usize) -> Option<Axis> {
        self.solution.axes(value)?.get(axis).copied()
    }

    /// The size of an axis after the removal, if it changes.
    fn new_size(&self, value: ValueId, axis: usize) -> Option<i64> {
        let found = self.axis(value, axis)?;
        let len = found.count()?;
        let kept = self.removal.kept_before(found, len);
        (kept != len).then_some(kept as i64)
    }

    fn size(&self, value: ValueId, axis: usize) -> Option<i64> {
        self.new_size(value, axis)
            .or_else(|| self.old.ty(value).shape()?.get(axis)?.fixed())
    }

    fn defect(&self, id: NodeId, reason: &str) -> RewriteError {
        RewriteError::Node {
            operator: self
                .old
                .operator(id)
                .map(|operator| operator.op_type.to_string())
                .unwrap_or_default(),
            node: self.old.label(id),
            reason: reason.to_owned(),
        }
    }

    /// The group count follows from the data's channels over the weights', for ConvTranspose the result's.
    fn groups(
        &mut self,
        id: NodeId,
        operator: &Operator,
        data: usize,
        weights: usize,
        axis: usize,
    ) -> Result<(), RewriteError> {
        if operator.int("group").unwrap_or(1) == 1 {
            return Ok(());
        }
        let channels = match data {
            usize::MAX => self.size(ValueId::new(id, 0), 1),
            slot => self.old.input(id, slot).and_then(|value| self.size(value, 1)),
        };
        let within = self
            .old
            .input(id, weights)
            .and_then(|value| self.size(value, axis));
        match (channels, within) {
            (Some(channels), Some(within)) if within > 0 && channels % within == 0 => {
                if operator.int("group") != Some(channels / within) {
                    self.editor.set_attribute(id, "group", channels / within)?;
                }
                Ok(())
            }
            _ => Err(self.defect(id, "its channels do not divide into groups")),
        }
    }

    fn group_normalization(&mut self, id: NodeId, operator: &Operator) -> Result<(), RewriteError> {
        let Some(data) = self.old.input(id, 0) else {
            return Ok(());
        };
        let Some(channels) = self.new_size(data, 1) else {
            return Ok(());
        };
        let before = self.old.ty(data).shape().and_then(|shape| shape.get(1)?.fixed());
        match (before, operator.int("num_groups")) {
            (Some(before), Some(groups)) if groups > 0 && (channels * groups) % before == 0 => Ok(self
                .editor
                .set_attribute(id, "num_groups", channels * groups / before)?),
            _ => Err(self.defect(id, "its channels do not divide into groups")),
        }
    }

    fn changes(&self, id: NodeId) -> bool {
        let value = ValueId::new(id, 0);
        let count = self.solution.axes(value).map_or(0, <[Axis]>::len);
        (0..count).any(|at| self.new_size(value, at).is_some())
    }

    fn reshape(&mut self, id: NodeId, operator: &Operator) -> Result<(), RewriteError> {
        if !self.changes(id) {
            return Ok(());
        }
        let result = ValueId::new(id, 0);
        let data = self.old.input(id, 0).and_then(|value| self.old.ty(value).shape());
        let (Some(x), Some(y)) = (data, self.old.ty(result).shape()) else {
            return Err(self.defect(id, "its shapes are not known"));
        };
        let zero_copies = operator.int("allowzero").unwrap_or(0) == 0;
        match sizes::reshape_target(x, y, zero_copies, &|at| self.new_size(result, at)) {
            Some(target) if operator.ints("shape").is_some() => {
                Ok(self.editor.set_attribute(id, "shape", target)?)
            }
            Some(target) => self.set_vector(id, 1, &target),
            None => self.entries(id, 1, None),
        }
    }

    fn expand(&mut self, id: NodeId) -> Result<(), RewriteError> {
        if !self.changes(id) {
            return Ok(());
        }
        let result = ValueId::new(id, 0);
        let data = self.old.input(id, 0).and_then(|value| self.old.ty(value).shape());
        let (Some(x), Some(y)) = (data, self.old.ty(result).shape()) else {
            return Err(self.defect(id, "its shapes are not known"));
        };
        match sizes::expand_target(x, y, &|at| self.new_size(result, at)) {
            Some(target) => self.set_vector(id, 1, &target),
            None => self.entries(id, 1, Some(y.len())),
        }
    }

    /// Sets the changed entries of a size operand one by one. `rank` is given where the operand may be shorter than the shape and is
    /// aligned at its end.
    fn entries(&mut self, id: NodeId, slot: usize, rank: Option<usize>) -> Result<(), RewriteError> {
        let result = ValueId::new(id, 0);
        let Some(operand) = self.old.input(id, slot) else {
            return Ok(());
        };
        let rank = rank.unwrap_or_else(|| self.solution.axes(result).map_or(0, <[Axis]>::len));
        let changed: Vec<(usize, i64)> = (0..rank)
            .filter_map(|at| Some((at, self.new_size(result, at)?)))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        if let Some(tensor) = self.old.constant(operand) {
            let Ok(mut list) = tensor.to_i64() else {
                return Err(self.defect(id, "its sizes are no integers"));
            };
            for (at, size) in changed {
                // A shorter operand leaves the leading axes alone; 1 keeps what is there.
                let entry = (at + list.len())
                    .checked_sub(rank)
                    .and_then(|entry| list.get_mut(entry));
                if let Some(entry) = entry.filter(|entry| **entry != 1) {
                    *entry = size;
                }
            }
            return self.set_vector(id, slot, &list);
        }
        let Some(length) = self
            .old
            .ty(operand)
            .fixed_shape()
            .and_then(|shape| shape.first().copied())
        else {
            return Err(self.defect(id, "its size operand has an unknown length"));
        };
        let mut differences = vec![0i64; length as usize];
        for (at, size) in changed {
            let Some(entry) = (at + length as usize).checked_sub(rank) else {
                continue;
            };
            match (sizes::entry(self.old, operand, entry), differences.get_mut(entry)) {
                // In an Expand 1 keeps what is there, in a Reshape 0 and -1 follow.
                (Entry::Tied(..), _) | (Entry::Number(-1..=1), _) => {}
                (Entry::Number(number), Some(slot)) if number > 1 => *slot = size - number,
                _ => return Err(self.defect(id, "its sizes are computed at run time")),
            }
        }
        if differences.iter().any(|difference| *difference != 0) {
            let ty = self.old.ty(operand).clone();
            let constant = self.editor.add_constant("", Tensor::vector_i64(&differences));
            let add = Operator::new("Add");
            let node = self.editor.add_operator(
                id,
                add,
                &[Some(operand), Some(constant)],
                vec![Value::typed("", ty)],
            )?;
            self.editor.set_input(id, slot, Some(ValueId::new(node, 0)))?;
        }
        Ok(())
    }

    /// Gives `id` a constant vector of integers to read, in place of what it reads in `slot`.
    fn set_vector(&mut self, id: NodeId, slot: usize, list: &[i64]) -> Result<(), RewriteError> {
        let tensor = match self
            .old
            .input(id, slot)
            .and_then(|value| self.old.constant(value))
        {
            Some(old) if old.dtype() == crate::ir::DType::I32 => {
                let list: Vec<i32> = list.iter().map(|size| *size as i32).collect();
                Tensor::from_slice(&[list.len() as u64], &list)
                    .map_err(|_| self.defect(id, "its sizes do not fit"))?
            }
            _ => Tensor::vector_i64(list),
        };
        self.set_operand(id, slot, tensor)
    }

    fn set_operand(&mut self, id: NodeId, slot: usize, tensor: Tensor) -> Result<(), RewriteError> {
        if let Some(operand) = self.old.input(id, slot)
            && self
                .editor
                .graph()
                .constant(operand)
                .is_some_and(|old| old.dims() == tensor.dims() && old.dtype() == tensor.dtype())
            && self.editor.graph().use_count(operand) == 1
        {
            return Ok(self.editor.set_constant(operand.node, tensor)?);
        }
        let before = self.old.input(id, slot);
        let constant = self.editor.add_constant("", tensor);
        self.editor.set_input(id, slot, Some(constant))?;
        if let Some(before) = before {
            self.editor.remove_unused(before.node);
        }
        Ok(())
    }

    fn split(&mut self, id: NodeId, operator: &Operator) -> Result<(), RewriteError> {
        let outputs = self.old.get(id).map_or(0, |node| node.outputs().len());
        let Some(data) = self.old.input(id, 0) else {
            return Ok(());
        };
        let rank = self.solution.axes(data).map_or(0, <[Axis]>::len) as i64;
        let axis = operator.int("axis").unwrap_or(0);
        let axis = (if axis < 0 { axis + rank } else { axis }).max(0) as usize;
        if self.new_size(data, axis).is_none() {
            return Ok(());
        }
        let sizes: Option<Vec<i64>> = (0..outputs)
            .map(|output| self.size(ValueId::new(id, output), axis))
            .collect();
        let Some(sizes) = sizes else {
            return Err(self.defect(id, "its parts have unknown sizes"));
        };
        let newest =
            self.old.input(id, 1).is_some() || operator.int("num_outputs").is_some() || self.opset_13();
        if operator.ints("split").is_some() || !newest {
            return Ok(self.editor.set_attribute(id, "split", sizes)?);
        }
        self.editor.remove_attribute(id, "num_outputs")?;
        self.set_vector(id, 1, &sizes)
    }

    /// Whether Split takes its sizes as an operand: known from the schema version in force.
    fn opset_13(&self) -> bool {
        self.solution.opset >= 13
    }

    fn slice(&mut self, id: NodeId, operator: &Operator) -> Result<(), RewriteError> {
        let Some(data) = self.old.input(id, 0) else {
            return Ok(());
        };
        let rank = self.solution.axes(data).map_or(0, <[Axis]>::len);
        let list = |attribute: &str, slot: usize| -> Option<Vec<i64>> {
            match operator.ints(attribute) {
                Some(list) => Some(list.to_vec()),
                None => self.old.constant(self.old.input(id, slot)?)?.to_i64().ok(),
            }
        };
        if !(0..rank).any(|at| self.new_size(data, at).is_some()) {
            return Ok(());
        }
        let (starts, ends) = (list("starts", 1), list("ends", 2));
        let axes =
            list("axes", 3).unwrap_or_else(|| (0..starts.as_ref().map_or(0, Vec::len) as i64).collect());
        let (mut new_starts, mut new_ends) = (starts.clone(), ends);
        let mut changed = false;
        for (index, at) in axes.iter().enumerate() {
            let at = (if *at < 0 { at + rank as i64 } else { *at }).max(0) as usize;
            if self.new_size(data, at).is_none() {
                continue;
            }
            let (Some(axis), Some(len)) = (self.axis(data, at), self.axis(data, at).and_then(Axis::count))
            else {
                continue;
            };
            let Some(start) = starts.as_ref().and_then(|starts| starts.get(index)).copied() else {
                return Err(self.defect(id, "its bounds are computed at run time"));
            };
            let start = (if start < 0 { start + len as i64 } else { start }).clamp(0, len as i64) as usize;
            let part = self
                .axis(ValueId::new(id, 0), at)
                .and_then(Axis::count)
                .unwrap_or(len);
            let from = self.removal.kept_before(axis, start);
            let to = self.removal.kept_before(axis, start + part);
            let slots = (
                new_starts.as_mut().and_then(|list| list.get_mut(index)),
                new_ends.as_mut().and_then(|list| list.get_mut(index)),
            );
            let (Some(first), Some(last)) = slots else {
                return Err(self.defect(id, "its bounds are computed at run time"));
            };
            (*first, *last) = (from as i64, to as i64);
            changed = true;
        }
        let (Some(starts), Some(ends)) = (new_starts, new_ends) else {
            return Ok(());
        };
        if !changed {
            return Ok(());
        }
        if operator.ints("starts").is_some() {
            self.editor.set_attribute(id, "starts", starts)?;
            return Ok(self.editor.set_attribute(id, "ends", ends)?);
        }
        self.set_vector(id, 1, &starts)?;
        self.set_vector(id, 2, &ends)
    }

    /// Constant indices into a cut axis count kept elements only.
    fn gather(&mut self, id: NodeId, operator: &Operator) -> Result<(), RewriteError> {
        let (Some(data), Some(indices)) = (self.old.input(id, 0), self.old.input(id, 1)) else {
            return Ok(());
        };
        let rank = self.solution.axes(data).map_or(0, <[Axis]>::len) as i64;
        let at = operator.int("axis").unwrap_or(0);
        let at = (if at < 0 { at + rank } else { at }).max(0) as usize;
        if self.new_size(data, at).is_none() {
            return Ok(());
        }
        let (Some(axis), Some(tensor)) = (self.axis(data, at), self.old.constant(indices)) else {
            return Err(self.defect(id, "its indices are computed at run time"));
        };
        let len = axis.count().unwrap_or(0) as i64;
        let Ok(list) = tensor.to_i64() else {
            return Err(self.defect(id, "its indices are no integers"));
        };
        let Axis::Free { start, .. } = axis else {
            return Ok(());
        };
        let kept: Vec<i64> = list
            .iter()
            .map(|index| if *index < 0 { index + len } else { *index })
            .filter(|index| !self.removal.is_removed(start + *index as u32))
            .map(|index| self.removal.kept_before(axis, index as usize) as i64)
            .collect();
        let dims: Vec<u64> = if tensor.rank() == 0 {
            Vec::new()
        } else {
            vec![kept.len() as u64]
        };
        let narrow: Vec<i32> = kept.iter().map(|index| *index as i32).collect();
        let new = match tensor.dtype() {
            crate::ir::DType::I32 => Tensor::from_slice(&dims, &narrow),
            _ => Tensor::from_slice(&dims, &kept),
        };
        let new = new.map_err(|_| self.defect(id, "it would pick a removed element"))?;
        self.set_operand(id, 1, new)
    }
}
