//! Types: `float[N, 3, ?]`, `seq(...)`, `map(key, ...)`, `optional(...)`, `sparse_tensor(...)`, `opaque(...)`.
//!
//! `float` is a scalar, `float[]` a tensor of unknown rank.

use super::cursor::Cursor;
use super::error::TextError;
use super::lexer::TokenKind;
use super::names::{element_type, starts_type, undefined_element_type};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

impl Cursor<'_> {
    /// True if a type starts here.
    pub(crate) fn at_type(&self) -> bool {
        let TokenKind::Identifier(word) = self.token().kind else {
            return false;
        };
        // `undefined` is a type only before its shape or a name, so that a value may be called so.
        starts_type(word)
            || undefined_element_type(word).is_some()
                && matches!(
                    self.following(),
                    TokenKind::Symbol('[') | TokenKind::Identifier(_) | TokenKind::Text(_)
                )
    }

    /// A type.
    pub(crate) fn type_proto(&mut self) -> Result<TypeProto, TextError> {
        let TokenKind::Identifier(word) = self.token().kind else {
            return Err(self.expected("a type"));
        };
        let value = match word {
            "seq" => type_proto::Value::SequenceType(Box::new(type_proto::Sequence {
                elem_type: Some(Box::new(self.enclosed_type()?)),
            })),
            "optional" => type_proto::Value::OptionalType(Box::new(type_proto::Optional {
                elem_type: Some(Box::new(self.enclosed_type()?)),
            })),
            "map" => {
                self.advance()?;
                self.require('(')?;
                let key_type = Some(self.element_type()?);
                self.require(',')?;
                let value_type = Some(Box::new(self.nested(Self::type_proto)?));
                self.require(')')?;
                type_proto::Value::MapType(Box::new(type_proto::Map { key_type, value_type }))
            }
            "sparse_tensor" => {
                self.advance()?;
                self.require('(')?;
                let elem_type = Some(self.element_type()?);
                let shape = self.shape()?;
                self.require(')')?;
                type_proto::Value::SparseTensorType(type_proto::SparseTensor { elem_type, shape })
            }
            "opaque" => type_proto::Value::OpaqueType(self.opaque()?),
            _ => {
                let elem_type = Some(self.element_type()?);
                type_proto::Value::TensorType(type_proto::Tensor {
                    elem_type,
                    shape: self.shape()?,
                })
            }
        };
        Ok(TypeProto {
            value: Some(value),
            denotation: None,
        })
    }

    fn enclosed_type(&mut self) -> Result<TypeProto, TextError> {
        self.advance()?;
        self.require('(')?;
        let inner = self.nested(Self::type_proto)?;
        self.require(')')?;
        Ok(inner)
    }

    fn element_type(&mut self) -> Result<i32, TextError> {
        let number = match self.token().kind {
            TokenKind::Identifier(word) => element_type(word).or_else(|| undefined_element_type(word)),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected("an element type such as float or int64"))?;
        self.advance()?;
        Ok(number)
    }

    /// The shape after an element type: none for `[]`, rank 0 where no bracket stands.
    fn shape(&mut self) -> Result<Option<TensorShapeProto>, TextError> {
        let mut dim = Vec::new();
        if self.accept('[')? {
            if self.accept(']')? {
                return Ok(None);
            }
            loop {
                dim.push(Dimension {
                    value: self.dimension()?,
                    denotation: None,
                });
                if !self.separator(']')? {
                    break;
                }
            }
        }
        Ok(Some(TensorShapeProto { dim }))
    }

    fn dimension(&mut self) -> Result<Option<dimension::Value>, TextError> {
        if self.accept('?')? {
            return Ok(None);
        }
        if let Some(symbol) = self.optional_name()? {
            return Ok(Some(dimension::Value::DimParam(symbol.into_owned())));
        }
        if !matches!(self.token().kind, TokenKind::Integer(_)) {
            return Err(self.expected("a dimension: a number, a name or `?`"));
        }
        Ok(Some(dimension::Value::DimValue(self.integer()?)))
    }

    fn opaque(&mut self) -> Result<type_proto::Opaque, TextError> {
        self.advance()?;
        self.require('(')?;
        if self.accept(')')? {
            return Ok(type_proto::Opaque {
                domain: None,
                name: None,
            });
        }
        let mut first = self.name("the name of an opaque type")?;
        while self.accept('.')? {
            first.push('.');
            first.push_str(&self.name("the rest of the name")?);
        }
        let opaque = if self.accept(',')? {
            let name = self.name("the name of an opaque type")?;
            type_proto::Opaque {
                domain: Some(first),
                name: Some(name),
            }
        } else {
            type_proto::Opaque {
                domain: None,
                name: Some(first),
            }
        };
        self.require(')')?;
        Ok(opaque)
    }

    /// A value's name after its type, which may be left out.
    pub(crate) fn value_info(&mut self) -> Result<ValueInfoProto, TextError> {
        let r#type = if self.at_type() {
            Some(self.type_proto()?)
        } else {
            None
        };
        let expected = if r#type.is_some() {
            "a value name"
        } else {
            "a type or a value name"
        };
        let name = self.name(expected)?;
        Ok(ValueInfoProto {
            name: Some(name),
            r#type,
            ..Default::default()
        })
    }

    /// Values between `open` and `close`, separated by commas; none may stand there.
    pub(crate) fn value_infos(&mut self, open: char, close: char) -> Result<Vec<ValueInfoProto>, TextError> {
        self.require(open)?;
        let mut values = Vec::new();
        if self.accept(close)? {
            return Ok(values);
        }
        loop {
            values.push(self.value_info()?);
            if !self.separator(close)? {
                return Ok(values);
            }
        }
    }
}
