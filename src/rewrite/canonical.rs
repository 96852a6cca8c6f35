//! One form of an operator's parameters for all opsets.
//!
//! Many parameters began as attributes and became inputs (`Squeeze` axes, `Clip` bounds, `Pad` pads). A rule names them
//! like attributes; the table says where they stand in the opset at hand, when reading and when writing.

use crate::ir::{Attribute, AttributeValue, DType, Graph, Inputs, Name, NodeId, Operator, Tensor};
use crate::ops::{self, AttributeDefault, Schema};

use super::value::{RestItem, Val};

/// What a canonical parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    /// A list of whole numbers, `int64` as an input.
    Ints,
    /// One whole number, `int64` as an input.
    Int,
    /// A number of the element type of the first input.
    Number,
    /// A `float`.
    Float,
    /// Numbers, `float` as an input.
    Floats,
    /// A truth value.
    Bool,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Operator of ONNX's own domain.
    pub(crate) op_type: &'static str,
    /// Name in rules, and that of the attribute before `since`.
    pub(crate) name: &'static str,
    /// The input slot from `since` on.
    pub(crate) slot: usize,
    /// The first opset in which the parameter is an input.
    pub(crate) since: i64,
    pub(crate) kind: ParameterKind,
    /// Value when left out, where there is one.
    pub(crate) default: Option<f64>,
}

const fn row(op_type: &'static str, name: &'static str, slot: usize, since: i64, kind: ParameterKind) -> Row {
    Row {
        op_type,
        name,
        slot,
        since,
        kind,
        default: None,
    }
}

use ParameterKind::{Bool, Float, Floats, Int, Ints, Number};

/// Every parameter that is or was an attribute in some opset and an input in another, and those that rules treat alike.
pub(crate) const TABLE: &[Row] = &[
    row("Clip", "min", 1, 11, Number),
    row("Clip", "max", 2, 11, Number),
    Row {
        default: Some(0.5),
        ..row("Dropout", "ratio", 1, 12, Float)
    },
    Row {
        default: Some(0.0),
        ..row("Dropout", "training_mode", 2, 12, Bool)
    },
    row("Expand", "shape", 1, 8, Ints),
    row("Pad", "pads", 1, 11, Ints),
    Row {
        default: Some(0.0),
        ..row("Pad", "value", 2, 11, Number)
    },
    row("Pad", "axes", 3, 18, Ints),
    row("ReduceL1", "axes", 1, 18, Ints),
    row("ReduceL2", "axes", 1, 18, Ints),
    row("ReduceLogSum", "axes", 1, 18, Ints),
    row("ReduceLogSumExp", "axes", 1, 18, Ints),
    row("ReduceMax", "axes", 1, 18, Ints),
    row("ReduceMean", "axes", 1, 18, Ints),
    row("ReduceMin", "axes", 1, 18, Ints),
    row("ReduceProd", "axes", 1, 18, Ints),
    row("ReduceSum", "axes", 1, 13, Ints),
    row("ReduceSumSquare", "axes", 1, 18, Ints),
    row("Reshape", "shape", 1, 5, Ints),
    row("Slice", "starts", 1, 10, Ints),
    row("Slice", "ends", 2, 10, Ints),
    row("Slice", "axes", 3, 10, Ints),
    row("Slice", "steps", 4, 10, Ints),
    row("Split", "split", 1, 13, Ints),
    row("Squeeze", "axes", 1, 13, Ints),
    row("Tile", "repeats", 1, 6, Ints),
    row("TopK", "k", 1, 10, Int),
    row("Unsqueeze", "axes", 1, 13, Ints),
    row("Upsample", "scales", 1, 9, Floats),
];

/// The row of a parameter.
pub(crate) fn find(domain: &str, op_type: &str, name: &str) -> Option<&'static Row> {
    if !domain.is_empty() {
        return None;
    }
    TABLE
        .iter()
        .find(|row| row.op_type == op_type && row.name == name)
}

fn rows(operator: &Operator) -> &'static [Row] {
    if !operator.domain().is_empty() {
        return &[];
    }
    // The table is sorted by operator (tested), so an operator's rows stand together.
    let start = TABLE.partition_point(|row| row.op_type < &*operator.op_type);
    let length = TABLE
        .iter()
        .skip(start)
        .take_while(|row| operator.op_type == *row.op_type)
        .count();
    TABLE.get(start..start + length).unwrap_or(&[])
}

/// What a parameter is in a node.
#[derive(Debug)]
pub(crate) enum Parameter {
    /// A constant, a default, or [`Val::Absent`].
    Known(Val),
    /// Computed by the graph.
    Computed,
    /// A reference to an attribute of the enclosing function, or a constant of a form that no rule reads.
    Opaque,
}

/// An operator node in canonical form.
pub(crate) struct View<'g> {
    graph: &'g Graph,
    pub(crate) operator: &'g Operator,
    schema: Option<&'static Schema>,
    pub(crate) inputs: Inputs,
    version: i64,
    rows: &'static [Row],
}

impl<'g> View<'g> {
    /// The view of an operator node in a graph whose opset for the operator's domain is `version`.
    pub(crate) fn new(graph: &'g Graph, node: NodeId, version: i64) -> Option<Self> {
        let operator = graph.operator(node)?;
        let schema = ops::schema(operator.domain(), &operator.op_type, version);
        Some(Self {
            graph,
            operator,
            schema,
            inputs: graph.inputs_of(node),
            version,
            rows: rows(operator),
        })
    }

    /// The parameter with this name; inputs before slot `positional` are operands and no parameters.
    pub(crate) fn parameter(&self, name: &str, positional: usize) -> Parameter {
        if let Some(row) = self.rows.iter().find(|row| row.name == name) {
            if self.version >= row.since {
                if row.slot < positional {
                    return Parameter::Opaque;
                }
                return match self.inputs.get(row.slot).copied().flatten() {
                    None => {
                        Parameter::Known(row.default.map_or(Val::Absent, |value| default(row.kind, value)))
                    }
                    Some(value) => match self.graph.constant(value) {
                        None => Parameter::Computed,
                        Some(tensor) => read(row.kind, tensor).map_or(Parameter::Opaque, Parameter::Known),
                    },
                };
            }
            return match self.operator.attribute(name) {
                Some(AttributeValue::Reference(..)) => Parameter::Opaque,
                Some(value) => Parameter::Known(Val::from_attribute(value)),
                None => Parameter::Known(
                    self.schema_default(name)
                        .or(row.default.map(|v| default(row.kind, v)))
                        .unwrap_or(Val::Absent),
                ),
            };
        }
        match self.operator.attribute(name) {
            Some(AttributeValue::Reference(..)) => Parameter::Opaque,
            Some(value) => Parameter::Known(Val::from_attribute(value)),
            None => Parameter::Known(self.schema_default(name).unwrap_or(Val::Absent)),
        }
    }

    fn schema_default(&self, name: &str) -> Option<Val> {
        self.schema?.attribute(name)?.default.as_ref().map(default_value)
    }

    /// Whether every attribute and every canonical input from slot `positional` on that `named` does not list has its
    /// default value. Answers the first that has not.
    pub(crate) fn others_are_default(
        &self,
        named: &dyn Fn(&str) -> bool,
        positional: usize,
    ) -> Result<(), Name> {
        for attribute in self.operator.attributes() {
            if !named(&attribute.name) && !self.is_default(attribute) {
                return Err(attribute.name.clone());
            }
        }
        for (slot, input) in self.inputs.iter().enumerate().skip(positional) {
            let Some(value) = input else { continue };
            match self.row_of_slot(slot) {
                Some(row) if named(row.name) => {}
                Some(row) => {
                    let known = self
                        .graph
                        .constant(*value)
                        .and_then(|tensor| read(row.kind, tensor));
                    if !known.is_some_and(|known| {
                        row.default.is_some_and(|d| known.same_as(&default(row.kind, d)))
                    }) {
                        return Err(row.name.into());
                    }
                }
                None => {
                    return Err(self
                        .schema
                        .and_then(|s| s.input(slot))
                        .map_or("input", |p| p.name)
                        .into());
                }
            }
        }
        Ok(())
    }

    fn row_of_slot(&self, slot: usize) -> Option<&'static Row> {
        self.rows
            .iter()
            .find(|row| row.slot == slot && self.version >= row.since)
    }

    fn is_default(&self, attribute: &Attribute) -> bool {
        let value = match &attribute.value {
            AttributeValue::Reference(..) => return false,
            value => Val::from_attribute(value),
        };
        if let Some(default) = self.schema_default(&attribute.name) {
            return default.same_as(&value);
        }
        // Defaults that depend on the rank, and so stand in no table.
        match (&*attribute.name, &value) {
            ("strides" | "dilations", Val::Ints(values)) => values.iter().all(|v| *v == 1),
            ("pads" | "output_padding", Val::Ints(values)) => values.iter().all(|v| *v == 0),
            _ => false,
        }
    }

    /// The attributes and canonical inputs that `named` does not list, for `<*rest>`.
    /// An error names an input that is no parameter.
    pub(crate) fn rest(
        &self,
        named: &dyn Fn(&str) -> bool,
        positional: usize,
    ) -> Result<Vec<RestItem>, Name> {
        let mut items: Vec<RestItem> = Vec::new();
        for attribute in self.operator.attributes().iter().filter(|a| !named(&a.name)) {
            let canonical = self.rows.iter().any(|row| attribute.name == *row.name);
            items.push(match &attribute.value {
                AttributeValue::Reference(..) => RestItem::Attribute(attribute.clone()),
                value if canonical => RestItem::Parameter(attribute.name.clone(), Val::from_attribute(value)),
                _ => RestItem::Attribute(attribute.clone()),
            });
        }
        for (slot, input) in self.inputs.iter().enumerate().skip(positional) {
            let Some(value) = input else { continue };
            let Some(row) = self.row_of_slot(slot) else {
                return Err(self
                    .schema
                    .and_then(|s| s.input(slot))
                    .map_or("input", |p| p.name)
                    .into());
            };
            if named(row.name) {
                continue;
            }
            items.push(
                match self
                    .graph
                    .constant(*value)
                    .and_then(|tensor| read(row.kind, tensor))
                {
                    Some(known) => RestItem::Parameter(row.name.into(), known),
                    None => RestItem::Input(row.name.into(), *value),
                },
            );
        }
        Ok(items)
    }
}

fn default(kind: ParameterKind, value: f64) -> Val {
    match kind {
        Bool => Val::Bool(value != 0.0),
        Int => Val::Int(value as i64),
        _ => Val::Float(value),
    }
}

/// A default of the operator table.
pub(crate) fn default_value(default: &AttributeDefault) -> Val {
    match default {
        AttributeDefault::Int(value) => Val::Int(*value),
        AttributeDefault::Float(value) => Val::Float(f64::from(*value)),
        AttributeDefault::String(text) => Val::Text((*text).to_owned()),
        AttributeDefault::Ints(values) => Val::Ints(values.clone()),
        AttributeDefault::Floats(values) => Val::Floats(values.iter().map(|v| f64::from(*v)).collect()),
        AttributeDefault::Strings(_) => Val::Absent,
    }
}

/// A constant input as a parameter; `None` if it cannot be said exactly.
fn read(kind: ParameterKind, tensor: &Tensor) -> Option<Val> {
    /// More elements than any list of axes or pads has.
    const MOST: u64 = 4096;
    if tensor.elements() > MOST {
        return None;
    }
    Some(match kind {
        Ints => Val::Ints(tensor.to_i64().ok()?),
        Int => Val::Int(tensor.single_i64()?),
        Bool => Val::Bool(tensor.single_i64()? != 0),
        Floats => Val::Floats(tensor.to_f64().ok()?),
        Float => Val::Float(tensor.single_f64()?),
        Number if tensor.dtype().is_integer() => {
            let value = tensor.single_i64()?;
            let exact = value.unsigned_abs() <= 1 << 53 && tensor.dtype() != DType::U64;
            return exact.then_some(Val::Int(value));
        }
        Number => Val::Float(tensor.single_f64()?),
    })
}

/// Where a parameter goes in a new operator.
pub(crate) enum Placed {
    Attribute(Attribute),
    Input(usize, Tensor),
    /// Absent: neither attribute nor input.
    Nothing,
}

/// Writes a parameter in the form of opset `version`; `dtype` is the element type of the operator's first input.
/// `None` if this opset cannot say it.
pub(crate) fn place(row: &Row, version: i64, value: &Val, dtype: Option<DType>) -> Option<Placed> {
    if value.is_absent() {
        return Some(Placed::Nothing);
    }
    if version < row.since {
        let known = ops::schema("", row.op_type, version)?
            .attribute(row.name)
            .is_some();
        let default = row.default.map(|v| default(row.kind, v));
        if !known {
            return default
                .is_some_and(|default| default.same_as(value))
                .then_some(Placed::Nothing);
        }
        let value = match (row.kind, value) {
            (Ints, Val::Ints(values)) => AttributeValue::Ints(values.clone()),
            (Floats, Val::Floats(values)) => {
                AttributeValue::Floats(values.iter().map(|v| *v as f32).collect())
            }
            (Int | Bool, value) => AttributeValue::Int(value.int()?),
            (Number | Float, value) => AttributeValue::Float(value.number()? as f32),
            _ => return None,
        };
        return Some(Placed::Attribute(Attribute::new(row.name, value)));
    }
    let tensor = match (row.kind, value) {
        (Ints, Val::Ints(values)) => Tensor::vector_i64(values),
        (Int, value) => Tensor::vector_i64(&[value.int()?]),
        (Bool, value) => Tensor::from_bools(&[], &[value.number()? != 0.0]).ok()?,
        (Float, value) => Tensor::scalar(value.number()? as f32),
        (Floats, Val::Floats(values)) => Tensor::from_f64(DType::F32, &[values.len() as u64], values).ok()?,
        (Number, value) => number_tensor(value, dtype?)?,
        _ => return None,
    };
    Some(Placed::Input(row.slot, tensor))
}

/// A number as a rank-0 tensor of an element type, if that type holds it: floats round, integers must be whole.
pub(crate) fn number_tensor(value: &Val, dtype: DType) -> Option<Tensor> {
    let number = value.number()?;
    if matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return Tensor::from_f64(dtype, &[], &[number]).ok();
    }
    if dtype == DType::Bool {
        return match value {
            Val::Bool(value) => Tensor::from_bools(&[], &[*value]).ok(),
            _ => None,
        };
    }
    let whole = match value {
        Val::Int(value) => *value,
        Val::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => *value as i64,
        _ => return None,
    };
    let (low, high) = dtype.integer_range()?;
    if i128::from(whole) < low || i128::from(whole) > high || dtype.is_packed() {
        return None;
    }
    let bytes = whole.to_le_bytes();
    Tensor::from_raw(dtype, [], bytes.get(..dtype.bits() / 8)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_operator_table() {
        assert!(TABLE.windows(2).all(|pair| pair[0].op_type <= pair[1].op_type));
        for row in TABLE {
            let schema = ops::schema("", row.op_type, row.since).unwrap();
            assert!(schema.inputs.len() > row.slot, "{} {}", row.op_type, row.name);
            assert!(
                schema.attribute(row.name).is_none(),
                "{} {}",
                row.op_type,
                row.name
            );
            let before = ops::schema("", row.op_type, row.since - 1);
            let same = |p: &ops::Parameter| p.name == schema.inputs[row.slot].name;
            assert!(
                before.is_none_or(|b| !b.inputs.get(row.slot).is_some_and(same)),
                "{} {}",
                row.op_type,
                row.name
            );
        }
    }

    #[test]
    fn numbers_take_the_element_type_or_are_refused() {
        assert_eq!(
            number_tensor(&Val::Float(0.5), DType::F16).unwrap().single_f64(),
            Some(0.5)
        );
        assert_eq!(
            number_tensor(&Val::Float(3.0), DType::I8).unwrap().single_i64(),
            Some(3)
        );
        assert!(number_tensor(&Val::Float(0.5), DType::I32).is_none());
        assert!(number_tensor(&Val::Int(300), DType::U8).is_none());
    }

    #[test]
    fn parameters_are_written_in_the_form_of_the_opset() {
        let axes = find("", "Squeeze", "axes").unwrap();
        assert!(matches!(
            place(axes, 11, &Val::Ints(vec![1]), None),
            Some(Placed::Attribute(_))
        ));
        assert!(matches!(
            place(axes, 13, &Val::Ints(vec![1]), None),
            Some(Placed::Input(1, _))
        ));
        let steps = find("", "Slice", "steps").unwrap();
        assert!(place(steps, 9, &Val::Ints(vec![2]), None).is_none());
    }
}
