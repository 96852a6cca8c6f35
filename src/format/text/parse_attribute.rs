//! Attributes: `axis = 1`, `pads: ints = []`, `alpha: float = @alpha`, `body = g (...) => (...) {...}`.

use super::cursor::Cursor;
use super::error::{TextError, TextProblem};
use super::lexer::{TokenKind, is_special_float};
use super::names::{attribute_type, attribute_type_name};
use super::parse_tensor::float32;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, SparseTensorProto, TensorProto, TypeProto, type_proto};

/// The value of an attribute.
#[derive(Debug)]
pub(crate) enum AttributeValue {
    /// `1.5`
    Float(f32),
    /// `1`
    Int(i64),
    /// `"text"`
    String(bytes::Bytes),
    /// `float[2] {1, 2}`
    Tensor(Box<TensorProto>),
    /// `name (inputs) => (outputs) { nodes }`
    Graph(Box<GraphProto>),
    /// `sparse_tensor(float[9]) {float[1] {1}, int64[1] {4}}`
    SparseTensor(Box<SparseTensorProto>),
    /// `float[N]`
    Type(Box<TypeProto>),
    /// `@name`, an attribute of the surrounding function.
    Reference(String),
}

impl AttributeValue {
    /// The attribute type of a single value and of a list of such values; none for a reference.
    fn types(&self) -> Option<(AttributeType, AttributeType)> {
        Some(match self {
            Self::Float(_) => (AttributeType::Float, AttributeType::Floats),
            Self::Int(_) => (AttributeType::Int, AttributeType::Ints),
            Self::String(_) => (AttributeType::String, AttributeType::Strings),
            Self::Tensor(_) => (AttributeType::Tensor, AttributeType::Tensors),
            Self::Graph(_) => (AttributeType::Graph, AttributeType::Graphs),
            Self::SparseTensor(_) => (AttributeType::SparseTensor, AttributeType::SparseTensors),
            Self::Type(_) => (AttributeType::TypeProto, AttributeType::TypeProtos),
            Self::Reference(_) => return None,
        })
    }

    fn store(self, attribute: &mut AttributeProto) {
        match self {
            Self::Float(value) => attribute.f = Some(value),
            Self::Int(value) => attribute.i = Some(value),
            Self::String(value) => attribute.s = Some(value),
            Self::Tensor(value) => attribute.t = Some(*value),
            Self::Graph(value) => attribute.g = Some(*value),
            Self::SparseTensor(value) => attribute.sparse_tensor = Some(*value),
            Self::Type(value) => attribute.tp = Some(*value),
            Self::Reference(name) => attribute.ref_attr_name = Some(name),
        }
    }

    fn append(self, attribute: &mut AttributeProto) {
        match self {
            Self::Float(value) => attribute.floats.push(value),
            Self::Int(value) => attribute.ints.push(value),
            Self::String(value) => attribute.strings.push(value),
            Self::Tensor(value) => attribute.tensors.push(*value),
            Self::Graph(value) => attribute.graphs.push(*value),
            Self::SparseTensor(value) => attribute.sparse_tensors.push(*value),
            Self::Type(value) => attribute.type_protos.push(*value),
            Self::Reference(_) => {}
        }
    }
}

/// The type of the values in a list attribute.
fn item_type(list: AttributeType) -> Option<AttributeType> {
    Some(match list {
        AttributeType::Floats => AttributeType::Float,
        AttributeType::Ints => AttributeType::Int,
        AttributeType::Strings => AttributeType::String,
        AttributeType::Tensors => AttributeType::Tensor,
        AttributeType::Graphs => AttributeType::Graph,
        AttributeType::SparseTensors => AttributeType::SparseTensor,
        AttributeType::TypeProtos => AttributeType::TypeProto,
        _ => return None,
    })
}

impl Cursor<'_> {
    /// `<name = value, ...>`, if it stands here.
    pub(crate) fn attributes(&mut self) -> Result<Vec<AttributeProto>, TextError> {
        let mut attributes = Vec::new();
        if self.accept('<')? {
            loop {
                let name = self.name("an attribute name")?;
                attributes.push(self.attribute(name)?);
                if !self.separator('>')? {
                    break;
                }
            }
        }
        Ok(attributes)
    }

    /// The type and value of the attribute `name`.
    pub(crate) fn attribute(&mut self, name: String) -> Result<AttributeProto, TextError> {
        let declared = if self.accept(':')? {
            Some(self.attribute_type()?)
        } else {
            None
        };
        self.require('=')?;
        let mut attribute = AttributeProto {
            name: Some(name),
            r#type: declared.map(|kind| kind as i32),
            ..Default::default()
        };
        if self.at('[') {
            self.attribute_list(&mut attribute, declared)?;
            return Ok(attribute);
        }
        let start = self.token().span.clone();
        let value = self.attribute_value(declared)?;
        if let Some((found, _)) = value.types() {
            if let Some(declared) = declared.filter(|declared| *declared != found) {
                return Err(self.error_at(start, mismatch(&attribute, declared, found)));
            }
            attribute.r#type = Some(found as i32);
        }
        value.store(&mut attribute);
        Ok(attribute)
    }

    fn attribute_type(&mut self) -> Result<AttributeType, TextError> {
        let kind = match self.token().kind {
            TokenKind::Identifier(word) => attribute_type(word),
            _ => None,
        };
        let kind = kind.ok_or_else(|| self.expected("an attribute type such as int, floats or tensor"))?;
        self.advance()?;
        Ok(kind)
    }

    fn attribute_list(
        &mut self,
        attribute: &mut AttributeProto,
        declared: Option<AttributeType>,
    ) -> Result<(), TextError> {
        let open = self.token().span.clone();
        let name = attribute.name.clone().unwrap_or_default();
        self.require('[')?;
        let mut list = declared;
        if let Some(declared) = declared.filter(|declared| item_type(*declared).is_none()) {
            let found = "a list";
            return Err(self.error_at(
                open,
                TextProblem::AttributeType {
                    name,
                    declared: attribute_type_name(declared),
                    found,
                },
            ));
        }
        if self.at(']') && list.is_none() {
            return Err(self.error_at(open, TextProblem::UntypedEmptyList { name }));
        }
        if self.accept(']')? {
            return Ok(());
        }
        loop {
            let start = self.token().span.clone();
            let value = self.attribute_value(list.and_then(item_type))?;
            let Some((found, many)) = value.types() else {
                return Err(self.error_at(
                    start,
                    TextProblem::Expected {
                        expected: "a value; a list is referred to as a whole".to_owned(),
                        found: "a reference".to_owned(),
                    },
                ));
            };
            let wanted = *list.get_or_insert(many);
            if wanted != many {
                let wanted = item_type(wanted).unwrap_or(wanted);
                return Err(self.error_at(start, mismatch(attribute, wanted, found)));
            }
            attribute.r#type = Some(many as i32);
            value.append(attribute);
            if !self.separator(']')? {
                return Ok(());
            }
        }
    }

    /// One attribute value; an integer is a float where `wanted` says so.
    pub(crate) fn attribute_value(
        &mut self,
        wanted: Option<AttributeType>,
    ) -> Result<AttributeValue, TextError> {
        if self.at_type() {
            return self.typed_value();
        }
        match &self.token().kind {
            TokenKind::Identifier(word) if is_special_float(word) => self.float_value(),
            TokenKind::Float(_) => self.float_value(),
            TokenKind::Integer(_) if wanted == Some(AttributeType::Float) => self.float_value(),
            TokenKind::Integer(_) => Ok(AttributeValue::Int(self.integer()?)),
            TokenKind::Identifier(_) => self.graph_value(),
            // A body's name may need quotes.
            TokenKind::Text(_) if self.following() == TokenKind::Symbol('(') => self.graph_value(),
            TokenKind::Text(_) | TokenKind::Bytes(_) => Ok(AttributeValue::String(self.string_bytes()?)),
            TokenKind::Symbol('@') => {
                self.advance()?;
                Ok(AttributeValue::Reference(
                    self.name("the name of the function's attribute")?,
                ))
            }
            _ => Err(self.expected("an attribute value")),
        }
    }

    fn graph_value(&mut self) -> Result<AttributeValue, TextError> {
        Ok(AttributeValue::Graph(Box::new(self.nested(Self::graph)?)))
    }

    fn float_value(&mut self) -> Result<AttributeValue, TextError> {
        let (TokenKind::Float(literal) | TokenKind::Integer(literal) | TokenKind::Identifier(literal)) =
            self.token().kind
        else {
            return Err(self.expected("a number"));
        };
        let value = float32(literal).ok_or_else(|| self.invalid_number(literal, "float"))?;
        self.advance()?;
        Ok(AttributeValue::Float(value))
    }

    /// A type alone, or a tensor of that type.
    fn typed_value(&mut self) -> Result<AttributeValue, TextError> {
        let r#type = self.type_proto()?;
        let constant = match &self.token().kind {
            TokenKind::Symbol('{' | '=') | TokenKind::Identifier(_) | TokenKind::Text(_) => true,
            // `[` would be taken for a shape after a scalar type; after a shape it is external data without its `=`.
            _ => false,
        };
        if !constant {
            return Ok(AttributeValue::Type(Box::new(r#type)));
        }
        let name = self
            .optional_name()?
            .map_or_else(String::new, std::borrow::Cow::into_owned);
        self.accept('=')?;
        if matches!(r#type.value, Some(type_proto::Value::SparseTensorType(_))) {
            return Ok(AttributeValue::SparseTensor(Box::new(
                self.sparse_tensor(name, &r#type)?,
            )));
        }
        Ok(AttributeValue::Tensor(Box::new(self.tensor(name, &r#type)?)))
    }
}

fn mismatch(attribute: &AttributeProto, declared: AttributeType, found: AttributeType) -> TextProblem {
    TextProblem::AttributeType {
        name: attribute.name.clone().unwrap_or_default(),
        declared: attribute_type_name(declared),
        found: attribute_type_name(found),
    }
}
