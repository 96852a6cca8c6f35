//! What names of a rule stand for during a match: values of the graph, parameters, lists, constants.

use std::borrow::Cow;

use crate::ir::{Attribute, AttributeValue, Name, Tensor, ValueId};

/// What an expression of a rule is worth.
#[derive(Clone, Debug)]
pub(crate) enum Val {
    /// An optional input or parameter that is not there.
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    /// A value of the graph.
    Value(ValueId),
    /// The operands that a `*name` took; `None` for one that is left out.
    Values(Vec<Option<ValueId>>),
    /// A constant that the replacement computed.
    Tensor(Tensor),
    /// Output `1` of the new node `0` of the plan.
    New(usize, usize),
    /// An attribute of a kind that no helper looks into.
    Other(AttributeValue),
    /// The attributes that a `<*name>` took.
    Rest(Vec<RestItem>),
}

/// An attribute or canonical parameter that a `<*name>` took.
#[derive(Clone, Debug)]
pub(crate) enum RestItem {
    /// An attribute that stays one, references of functions included.
    Attribute(Attribute),
    /// A canonical parameter that is a constant.
    Parameter(Name, Val),
    /// A canonical parameter that is computed.
    Input(Name, ValueId),
}

impl RestItem {
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Attribute(attribute) => &attribute.name,
            Self::Parameter(name, _) | Self::Input(name, _) => name,
        }
    }
}

/// Why a clause could not be answered with yes, in the words of a report.
pub(crate) type Reason = Cow<'static, str>;

impl Val {
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Ints(_) | Self::Floats(_) => "a list",
            Self::Value(_) | Self::New(..) => "a value",
            Self::Values(_) => "values",
            Self::Tensor(_) => "a constant",
            Self::Other(_) => "an attribute",
            Self::Rest(_) => "attributes",
        }
    }

    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// The list of whole numbers, if it is one.
    pub(crate) fn ints(&self) -> Option<&[i64]> {
        match self {
            Self::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// An attribute's value as a rule sees it.
    pub(crate) fn from_attribute(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::Int(value) => Self::Int(*value),
            AttributeValue::Float(value) => Self::Float(f64::from(*value)),
            AttributeValue::Ints(values) => Self::Ints(values.clone()),
            AttributeValue::Floats(values) => Self::Floats(values.iter().map(|v| f64::from(*v)).collect()),
            AttributeValue::String(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Other(value.clone()),
            },
            other => Self::Other(other.clone()),
        }
    }

    /// Equality of parameters: numbers by value, lists element by element.
    pub(crate) fn same_as(&self, other: &Val) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Ints(a), Self::Ints(b)) => a == b,
            (Self::Floats(a), Self::Floats(b)) => a == b,
            (Self::Ints(a), Self::Floats(b)) | (Self::Floats(b), Self::Ints(a)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| *a as f64 == *b)
            }
            (Self::Value(a), Self::Value(b)) => a == b,
            (Self::Values(a), Self::Values(b)) => a == b,
            (Self::Other(a), Self::Other(b)) => a.same_as(b),
            (Self::Int(a), Self::Int(b)) => a == b,
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        }
    }
}
