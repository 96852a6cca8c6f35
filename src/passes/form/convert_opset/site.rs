//! One operator under conversion.

use crate::ir::{AttributeValue, DType, Graph, NodeId, Operator, Tensor, Value, ValueId, ValueType};

use super::NAME;
use super::obstacle::Obstacle;

/// An operator and the graph around it. Adapters answer why the operator cannot be converted, if so.
pub(super) struct Site<'g> {
    graph: &'g mut Graph,
    id: NodeId,
}

/// What an adapter answers: the reason, if the operator cannot be converted.
pub(super) type Outcome = Result<(), Obstacle>;

fn of_kind(name: &str, kind: &'static str) -> Obstacle {
    Obstacle::Kind {
        name: name.to_owned(),
        kind,
    }
}

impl<'g> Site<'g> {
    pub(super) fn new(graph: &'g mut Graph, id: NodeId) -> Self {
        Self { graph, id }
    }

    fn operator(&self) -> Result<&Operator, Obstacle> {
        self.graph.operator(self.id).ok_or(Obstacle::Gone)
    }

    /// The type of an input.
    pub(super) fn input_type(&self, slot: usize) -> ValueType {
        self.graph
            .input(self.id, slot)
            .map_or(ValueType::Unknown, |value| self.graph.ty(value).clone())
    }

    /// The rank of an input, which the conversion depends on.
    pub(super) fn rank(&self, slot: usize) -> Result<usize, Obstacle> {
        self.input_type(slot)
            .rank()
            .ok_or(Obstacle::Unknown { what: "rank", slot })
    }

    /// The element type of an input, which the conversion depends on.
    pub(super) fn dtype(&self, slot: usize) -> Result<DType, Obstacle> {
        self.input_type(slot).dtype().ok_or(Obstacle::Unknown {
            what: "element type",
            slot,
        })
    }

    /// Whether there is a value in an input slot.
    pub(super) fn has_input(&self, slot: usize) -> bool {
        self.graph.input(self.id, slot).is_some()
    }

    /// The tensor of a constant input.
    pub(super) fn constant(&self, slot: usize) -> Option<Tensor> {
        self.graph.constant(self.graph.input(self.id, slot)?).cloned()
    }

    /// Number of outputs, left-out ones included.
    pub(super) fn outputs(&self) -> usize {
        self.graph.get(self.id).map_or(0, |node| node.outputs().len())
    }

    /// Whether an output is read.
    pub(super) fn reads_output(&self, output: usize) -> bool {
        self.graph.use_count(ValueId::new(self.id, output)) > 0
    }

    /// Whether there are outputs from the one with this index on that are not left out.
    pub(super) fn has_output_from(&self, first: usize) -> bool {
        self.graph
            .get(self.id)
            .is_some_and(|node| node.outputs().iter().skip(first).any(|value| !value.omitted))
    }

    /// An attribute's value; an error if it refers to one of the enclosing function.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<AttributeValue>, Obstacle> {
        match self.operator()?.attribute(name) {
            Some(AttributeValue::Reference(to, _)) => Err(Obstacle::Reference {
                name: name.to_owned(),
                to: to.to_string(),
            }),
            value => Ok(value.cloned()),
        }
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Obstacle> {
        match self.attribute(name)? {
            None => Ok(None),
            Some(AttributeValue::Int(value)) => Ok(Some(value)),
            Some(_) => Err(of_kind(name, "an integer")),
        }
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, Obstacle> {
        match self.attribute(name)? {
            None => Ok(None),
            Some(AttributeValue::Float(value)) => Ok(Some(value)),
            Some(_) => Err(of_kind(name, "a float")),
        }
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Obstacle> {
        match self.attribute(name)? {
            None => Ok(None),
            Some(AttributeValue::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(of_kind(name, "a list of integers")),
        }
    }

    /// A list of floats.
    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Obstacle> {
        match self.attribute(name)? {
            None => Ok(None),
            Some(AttributeValue::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(of_kind(name, "a list of floats")),
        }
    }

    /// A text attribute.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Obstacle> {
        match self.attribute(name)? {
            None => Ok(None),
            Some(AttributeValue::String(value)) => String::from_utf8(value.to_vec())
                .map(Some)
                .map_err(|_| of_kind(name, "UTF-8")),
            Some(_) => Err(of_kind(name, "text")),
        }
    }

    /// The operator type.
    pub(super) fn op_type(&self) -> String {
        self.operator()
            .map_or_else(|_| String::new(), |operator| operator.op_type.to_string())
    }

    /// The names of the attributes.
    pub(super) fn attribute_names(&self) -> Vec<String> {
        let attributes = self.operator().map(Operator::attributes).unwrap_or_default();
        attributes
            .iter()
            .map(|attribute| attribute.name.to_string())
            .collect()
    }

    /// Number of input slots, left-out ones included.
    pub(super) fn inputs(&self) -> usize {
        self.operator().map_or(0, Operator::input_count)
    }

    /// The type of an output.
    pub(super) fn output_type(&self, output: usize) -> ValueType {
        self.graph.ty(ValueId::new(self.id, output)).clone()
    }

    /// Whether an output is there and not left out.
    pub(super) fn has_output(&self, output: usize) -> bool {
        self.graph
            .value(ValueId::new(self.id, output))
            .is_some_and(|value| !value.omitted)
    }

    /// The integers of an input, which the conversion depends on; `name` is what messages call it.
    pub(super) fn numbers(&self, slot: usize, name: &str) -> Result<Vec<i64>, Obstacle> {
        let input = self.graph.input(self.id, slot);
        let known = input.and_then(|value| {
            let constant = self.graph.constant(value).cloned();
            constant.or_else(|| self.graph.value(value)?.content_tensor())
        });
        known
            .and_then(|tensor| tensor.to_i64().ok())
            .ok_or_else(|| Obstacle::Computed {
                name: name.to_owned(),
            })
    }

    /// Leaves an input out, and drops empty slots from the last one on.
    pub(super) fn clear_input(&mut self, slot: usize) -> Outcome {
        if slot < self.inputs() {
            let mut editor = self.graph.edit(NAME);
            editor.set_input(self.id, slot, None)?;
        }
        self.trim_inputs()
    }

    /// Drops empty slots from the last one on.
    pub(super) fn trim_inputs(&mut self) -> Outcome {
        let used = (0..self.inputs())
            .rev()
            .find(|slot| self.has_input(*slot))
            .map_or(0, |slot| slot + 1);
        if used < self.inputs() {
            self.truncate_inputs(used)?;
        }
        Ok(())
    }

    /// Sets an attribute.
    pub(super) fn set(&mut self, name: &str, value: impl Into<AttributeValue>) -> Outcome {
        self.graph
            .edit(NAME)
            .set_attribute(self.id, name, value)
            .map_err(Obstacle::from)
    }

    /// Removes an attribute.
    pub(super) fn strip(&mut self, name: &str) -> Outcome {
        self.graph
            .edit(NAME)
            .remove_attribute(self.id, name)
            .map_err(Obstacle::from)
    }

    /// Makes a constant the value of an input slot.
    pub(super) fn set_input(&mut self, slot: usize, tensor: Tensor) -> Outcome {
        let mut editor = self.graph.edit(NAME);
        let constant = editor.add_constant("", tensor);
        editor
            .set_input(self.id, slot, Some(constant))
            .map_err(Obstacle::from)
    }

    /// Moves the value of one input slot to a later one and leaves the first empty.
    pub(super) fn move_input(&mut self, from: usize, to: usize) -> Outcome {
        let value = self.graph.input(self.id, from);
        let mut editor = self.graph.edit(NAME);
        editor.set_input(self.id, to, value)?;
        editor.set_input(self.id, from, None).map_err(Obstacle::from)
    }

    /// Drops input slots from this one on.
    pub(super) fn truncate_inputs(&mut self, count: usize) -> Outcome {
        self.graph
            .edit(NAME)
            .truncate_inputs(self.id, count)
            .map_err(Obstacle::from)
    }

    /// Turns the operator into another one.
    pub(super) fn become_operator(&mut self, op_type: &str) -> Outcome {
        let domain = self.operator()?.written_domain.clone();
        self.graph
            .edit(NAME)
            .set_operator_type(self.id, domain, op_type)
            .map_err(Obstacle::from)
    }

    /// A new operator that reads an input of this one and constants.
    pub(super) fn derive(
        &mut self,
        operator: Operator,
        slot: usize,
        constants: Vec<Tensor>,
    ) -> Result<ValueId, Obstacle> {
        let value = self
            .graph
            .input(self.id, slot)
            .ok_or(Obstacle::LeftOut { slot })?;
        let mut editor = self.graph.edit(NAME);
        let mut inputs = vec![Some(value)];
        inputs.extend(
            constants
                .into_iter()
                .map(|tensor| Some(editor.add_constant("", tensor))),
        );
        let id = editor.add_operator(self.id, operator, &inputs, vec![Value::default()])?;
        Ok(ValueId::new(id, 0))
    }

    /// A new operator that reads the first two inputs of this one.
    pub(super) fn derive_pair(&mut self, operator: Operator) -> Result<ValueId, Obstacle> {
        let inputs = [self.graph.input(self.id, 0), self.graph.input(self.id, 1)];
        let mut editor = self.graph.edit(NAME);
        let id = editor.add_operator(self.id, operator, &inputs, vec![Value::default()])?;
        Ok(ValueId::new(id, 0))
    }

    /// Puts an operator that also reads these constants behind the first output, as [`Self::append`] does.
    pub(super) fn append_with(&mut self, operator: Operator, constants: Vec<Tensor>) -> Outcome {
        let mut editor = self.graph.edit(NAME);
        let further: Vec<ValueId> = constants
            .into_iter()
            .map(|tensor| editor.add_constant("", tensor))
            .collect();
        drop(editor);
        self.append_reading(operator, &further)
    }

    /// Lets an input slot read another value.
    pub(super) fn read(&mut self, slot: usize, value: ValueId) -> Outcome {
        self.graph
            .edit(NAME)
            .set_input(self.id, slot, Some(value))
            .map_err(Obstacle::from)
    }

    /// Puts an operator that also reads `second` behind the first output: every reader of that one reads the new one.
    pub(super) fn append(&mut self, operator: Operator, second: ValueId) -> Outcome {
        self.append_reading(operator, &[second])
    }

    fn append_reading(&mut self, operator: Operator, further: &[ValueId]) -> Outcome {
        let old = ValueId::new(self.id, 0);
        let ty = self.graph.ty(old).clone();
        let mut editor = self.graph.edit(NAME);
        // Connected to the operator only afterwards, so that the name of the output goes to what the model's readers read.
        let inputs: Vec<Option<ValueId>> = std::iter::once(None)
            .chain(further.iter().copied().map(Some))
            .collect();
        let id = editor.add_operator(self.id, operator, &inputs, vec![Value::default()])?;
        let new = ValueId::new(id, 0);
        editor.replace(old, new)?;
        editor.set_input(id, 0, Some(old))?;
        editor.set_facts(new, ty, None)?;
        editor
            .set_facts(old, ValueType::Unknown, None)
            .map_err(Obstacle::from)
    }
}
