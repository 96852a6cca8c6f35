//! Readers of one value are given another.

use super::{EditError, Editor};
use crate::ir::name::Name;
use crate::ir::node::{NodeKind, Slot, Use, ValueId};

impl Editor<'_> {
    /// Lets every reader of `old` read `new`. A graph output's name goes over to `new`, as does the name of `old` if `new` has
    /// none. `old` stays, without readers: see [`Editor::remove_unused`].
    pub fn replace(&mut self, old: ValueId, new: ValueId) -> Result<(), EditError> {
        self.replace_where(old, new, |_| true)
    }

    /// Like [`Editor::replace`] for the uses that `filter` accepts.
    pub fn replace_where(
        &mut self,
        old: ValueId,
        new: ValueId,
        filter: impl Fn(Use) -> bool,
    ) -> Result<(), EditError> {
        let (old_value, new_value) = (self.live_value(old)?, self.live_value(new)?);
        if old == new {
            return Ok(());
        }
        if old_value.ty.contradicts(&new_value.ty) {
            return Err(EditError::Type {
                old: self.value_label(old),
                old_type: old_value.ty.to_string(),
                new: self.value_label(new),
                new_type: new_value.ty.to_string(),
            });
        }
        let uses: Vec<Use> = self.graph.uses(old).into_iter().filter(|u| filter(*u)).collect();
        if uses.iter().any(|u| u.node == new.node) {
            return Err(EditError::Cycle {
                old: self.value_label(old),
                new: self.value_label(new),
            });
        }
        let outputs: Vec<u32> = uses
            .iter()
            .filter(|u| u.node == self.graph.sink)
            .filter_map(|u| {
                if let Slot::Input(index) = u.slot {
                    Some(index)
                } else {
                    None
                }
            })
            .collect();
        if let Some(first) = outputs.first() {
            let output = self
                .graph
                .outputs
                .get(*first as usize)
                .map(|o| o.name.clone())
                .unwrap_or_default();
            if !self.can_take_name(new) || outputs.len() > 1 && !self.same_output_names(&outputs) {
                return Err(EditError::OutputName {
                    output: output.to_string(),
                    new: self.value_label(new),
                });
            }
            self.hand_over_name(old, new, output);
        } else if self.graph.value(new).is_some_and(|value| value.name.is_empty())
            && uses.len() == self.graph.use_count(old)
            && !matches!(
                self.live(old.node)?.kind,
                NodeKind::Input(_) | NodeKind::Capture(_)
            )
        {
            let name = self
                .graph
                .value(old)
                .map(|value| value.name.clone())
                .unwrap_or_default();
            self.hand_over_name(old, new, name);
        }
        self.before.push(self.graph.label(old.node));
        for at in uses {
            self.connect(new, at.node, at.slot);
        }
        Ok(())
    }

    /// Whether a value may be given the name of a graph output.
    pub fn can_take_name(&self, value: ValueId) -> bool {
        let named_by_node = self
            .graph
            .get(value.node)
            .is_some_and(|node| matches!(node.kind, NodeKind::Operator(_) | NodeKind::Constant(_)));
        named_by_node && !self.graph.is_graph_output(value)
    }

    fn same_output_names(&self, outputs: &[u32]) -> bool {
        let name = |index: &u32| self.graph.outputs.get(*index as usize).map(|output| &output.name);
        outputs.windows(2).all(|pair| name(&pair[0]) == name(&pair[1]))
    }

    fn hand_over_name(&mut self, old: ValueId, new: ValueId, name: Name) {
        let mut declared = None;
        if let Some(value) = self.value_mut(old) {
            declared = value.declared.take();
            value.name = Name::default();
        }
        let mut previous = Name::default();
        if let Some(value) = self.value_mut(new) {
            previous = std::mem::replace(&mut value.name, name.clone());
            value.declared = declared;
        }
        if !previous.is_empty() {
            self.graph.meta.quantization.rename_value(&previous, &name);
        }
    }
}
