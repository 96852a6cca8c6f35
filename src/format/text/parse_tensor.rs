//! Tensor constants: `float[2] {1, 2}`, external data `float[2] = ["location": "w.bin"]`, and sparse ones.
//!
//! Values stand as the protobuf's typed fields hold them: float16, bfloat16, float8 and float6 as bit patterns, complex
//! numbers as pairs. Elements of 4 and 2 bits are packed into bytes, low bits first; one value an element is read too.

use super::cursor::Cursor;
use super::error::{TextError, TextProblem};
use super::lexer::{TokenKind, is_special_float};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, type_proto};

/// Bits of an element that shares its byte with others, and whether it has a sign.
fn packed(dtype: DataType) -> Option<(u32, bool)> {
    match dtype {
        DataType::Uint4 | DataType::Float4e2m1 => Some((4, false)),
        DataType::Int4 => Some((4, true)),
        DataType::Uint2 => Some((2, false)),
        DataType::Int2 => Some((2, true)),
        _ => None,
    }
}

/// The values that an entry of `int32_data` may have for an element type.
fn int32_range(dtype: DataType) -> (i64, i64, &'static str) {
    match dtype {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX), "int8"),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX), "int16"),
        DataType::Uint8 => (0, i64::from(u8::MAX), "uint8"),
        DataType::Uint16 => (0, i64::from(u16::MAX), "uint16"),
        DataType::Float16 | DataType::Bfloat16 => (0, i64::from(u16::MAX), "16-bit pattern"),
        DataType::Bool => (0, i64::from(u8::MAX), "bool (0 or 1)"),
        DataType::Float6e2m3 | DataType::Float6e3m2 => (0, 63, "6-bit pattern"),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
        DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Float8e8m0 => (0, i64::from(u8::MAX), "8-bit pattern"),
        _ => (i64::from(i8::MIN), i64::from(u8::MAX), "packed byte or element"),
    }
}

/// The value of a float literal of 32 bits, if it has one.
pub(crate) fn float32(literal: &str) -> Option<f32> {
    let magnitude = literal.strip_prefix('-').unwrap_or(literal);
    if let Some(bits) = nan_bits(literal) {
        return u32::try_from(bits)
            .ok()
            .map(f32::from_bits)
            .filter(|value| value.is_nan());
    }
    if magnitude.eq_ignore_ascii_case("nan") {
        let sign = if magnitude.len() < literal.len() {
            1 << 31
        } else {
            0
        };
        return Some(f32::from_bits(0x7fc0_0000 | sign));
    }
    literal
        .parse::<f32>()
        .ok()
        .filter(|value| value.is_finite() || is_special_float(literal))
}

/// The value of a float literal of 64 bits, if it has one.
fn float64(literal: &str) -> Option<f64> {
    let magnitude = literal.strip_prefix('-').unwrap_or(literal);
    if let Some(bits) = nan_bits(literal) {
        return Some(f64::from_bits(bits)).filter(|value| value.is_nan());
    }
    if magnitude.eq_ignore_ascii_case("nan") {
        let sign = if magnitude.len() < literal.len() {
            1 << 63
        } else {
            0
        };
        return Some(f64::from_bits(0x7ff8_0000_0000_0000 | sign));
    }
    literal
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite() || is_special_float(literal))
}

fn nan_bits(literal: &str) -> Option<u64> {
    let digits = literal.strip_prefix("nan(0x")?.strip_suffix(')')?;
    u64::from_str_radix(digits, 16).ok()
}

impl<'a> Cursor<'a> {
    /// The data of a tensor of type `r#type`, in braces or as a list of external data properties.
    pub(crate) fn tensor(&mut self, name: String, r#type: &TypeProto) -> Result<TensorProto, TextError> {
        let (data_type, dims) = self.constant_type(r#type)?;
        let mut tensor = TensorProto {
            name: Some(name),
            data_type: Some(data_type),
            dims,
            ..Default::default()
        };
        if self.at('[') {
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data = self.string_pairs()?;
            return Ok(tensor);
        }
        if !self.at('{') {
            return Err(self.expected("`{` and the tensor's values, or `[` and where they are"));
        }
        let open = self.token().span.start;
        self.advance()?;
        if self.accept('}')? {
            return Ok(tensor);
        }
        let raw = match &self.token().kind {
            TokenKind::Bytes(bytes) if data_type != DataType::String as i32 => Some(bytes.clone()),
            _ => None,
        };
        if let Some(bytes) = raw {
            self.advance()?;
            self.require('}')?;
            tensor.raw_data = Some(bytes.into());
            return Ok(tensor);
        }
        let Ok(dtype) = DataType::try_from(data_type) else {
            return Err(self.expected("the bytes of a tensor of unknown type, as x\"00ff\""));
        };
        let mut found: u64 = 0;
        loop {
            self.element(dtype, &mut tensor)?;
            found += 1;
            if self.accept('}')? {
                break;
            }
            if !self.accept(',')? {
                return Err(self.expected("`,` or `}`"));
            }
        }
        let problem = check_count(dtype, &mut tensor, found).err();
        match problem {
            None => Ok(tensor),
            Some(problem) => Err(self.error_at(open..open + 1, problem)),
        }
    }

    /// The element type and dimensions of a constant: a tensor type whose dimensions are numbers.
    fn constant_type(&self, r#type: &TypeProto) -> Result<(i32, Vec<i64>), TextError> {
        let wrong = || self.error(TextProblem::ConstantShape);
        let (elem_type, shape) = match &r#type.value {
            Some(type_proto::Value::TensorType(tensor)) => (tensor.elem_type, &tensor.shape),
            Some(type_proto::Value::SparseTensorType(tensor)) => (tensor.elem_type, &tensor.shape),
            _ => {
                return Err(self.error(TextProblem::Expected {
                    expected: "a tensor type before a constant".to_owned(),
                    found: "another type".to_owned(),
                }));
            }
        };
        let dims = shape.as_ref().ok_or_else(wrong)?.dim.iter();
        let dims = dims.map(|dim| match dim.value {
            Some(dimension::Value::DimValue(size)) if size >= 0 => Ok(size),
            _ => Err(wrong()),
        });
        Ok((elem_type.unwrap_or_default(), dims.collect::<Result<_, _>>()?))
    }

    fn element(&mut self, dtype: DataType, tensor: &mut TensorProto) -> Result<(), TextError> {
        match dtype {
            DataType::Float | DataType::Complex64 => {
                tensor.float_data.push(self.number("float", float32)?);
            }
            DataType::Double | DataType::Complex128 => {
                tensor.double_data.push(self.number("double", float64)?);
            }
            DataType::Int64 => tensor.int64_data.push(self.whole("int64")?),
            DataType::Uint64 => tensor.uint64_data.push(self.whole("uint64")?),
            DataType::Uint32 => tensor.uint64_data.push(u64::from(self.whole::<u32>("uint32")?)),
            DataType::String => {
                let bytes = self.string_bytes()?;
                tensor.string_data.push(bytes);
            }
            DataType::Undefined => {
                return Err(self.expected("the bytes of a tensor of unknown type, as x\"00ff\""));
            }
            _ => {
                let (least, most, wanted) = int32_range(dtype);
                let span = self.token().clone();
                let value: i64 = self.whole(wanted)?;
                let value = i32::try_from(value)
                    .ok()
                    .filter(|_| (least..=most).contains(&value));
                tensor.int32_data.push(value.ok_or_else(|| {
                    let literal = span.kind.to_string().trim_matches('`').to_owned();
                    self.error_at(span.span, TextProblem::Number { literal, wanted })
                })?);
            }
        }
        Ok(())
    }

    fn whole<T: std::str::FromStr>(&mut self, wanted: &'static str) -> Result<T, TextError> {
        let TokenKind::Integer(literal) = self.token().kind else {
            return Err(self.expected(format!("a value of type {wanted}")));
        };
        let value = literal
            .parse()
            .map_err(|_| self.invalid_number(literal, wanted))?;
        self.advance()?;
        Ok(value)
    }

    fn number<T>(&mut self, wanted: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, TextError> {
        let literal = match self.token().kind {
            TokenKind::Integer(literal) | TokenKind::Float(literal) => literal,
            TokenKind::Identifier(word) if is_special_float(word) => word,
            _ => return Err(self.expected(format!("a value of type {wanted}"))),
        };
        let value = read(literal).ok_or_else(|| self.invalid_number(literal, wanted))?;
        self.advance()?;
        Ok(value)
    }

    /// A string or byte string.
    pub(crate) fn string_bytes(&mut self) -> Result<bytes::Bytes, TextError> {
        let bytes = match &self.token().kind {
            TokenKind::Text(text) => text.as_bytes().to_vec(),
            TokenKind::Bytes(bytes) => bytes.clone(),
            _ => return Err(self.expected("a string")),
        };
        self.advance()?;
        Ok(bytes.into())
    }

    /// `["key": "value", ...]`, which may be empty.
    pub(crate) fn string_pairs(&mut self) -> Result<Vec<StringStringEntryProto>, TextError> {
        self.require('[')?;
        let mut pairs = Vec::new();
        if self.accept(']')? {
            return Ok(pairs);
        }
        loop {
            let key = self.string()?;
            self.require(':')?;
            let value = self.string()?;
            pairs.push(StringStringEntryProto {
                key: Some(key),
                value: Some(value),
            });
            if !self.separator(']')? {
                return Ok(pairs);
            }
        }
    }

    /// `{float[2] {1, 2}, int64[2] {0, 5}}`: the values and indices of a sparse tensor whose values are called `name`.
    pub(crate) fn sparse_tensor(
        &mut self,
        name: String,
        r#type: &TypeProto,
    ) -> Result<SparseTensorProto, TextError> {
        let (_, dims) = self.constant_type(r#type)?;
        self.require('{')?;
        let values = self.sparse_part(name)?;
        self.require(',')?;
        let indices = self.sparse_part(String::new())?;
        self.require('}')?;
        Ok(SparseTensorProto {
            values: Some(values),
            indices: Some(indices),
            dims,
        })
    }

    fn sparse_part(&mut self, default: String) -> Result<TensorProto, TextError> {
        let r#type = self.type_proto()?;
        let name = self
            .optional_name()?
            .map_or(default, std::borrow::Cow::into_owned);
        self.accept('=')?;
        self.tensor(name, &r#type)
    }
}

/// Checks the number of values against the shape, and packs elements of 4 and 2 bits that came one by one.
fn check_count(dtype: DataType, tensor: &mut TensorProto, found: u64) -> Result<(), TextProblem> {
    let elements = tensor.dims.iter().try_fold(1u64, |product, dim| {
        product.checked_mul(u64::try_from(*dim).ok()?)
    });
    let elements = elements.unwrap_or(u64::MAX);
    let expected = match (dtype, packed(dtype)) {
        (DataType::Complex64 | DataType::Complex128, _) => elements.saturating_mul(2),
        (_, Some((bits, signed))) => {
            let per_byte = 8 / bits;
            let whole = elements.div_ceil(u64::from(per_byte));
            if found == elements && found != whole {
                return pack(dtype, tensor, bits, signed);
            }
            whole
        }
        _ => elements,
    };
    if found == expected {
        Ok(())
    } else {
        Err(TextProblem::ElementCount { expected, found })
    }
}

/// Packs `int32_data` with one element an entry into bytes, low bits first.
fn pack(dtype: DataType, tensor: &mut TensorProto, bits: u32, signed: bool) -> Result<(), TextProblem> {
    let (least, most) = if signed {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    };
    if let Some(outside) = tensor
        .int32_data
        .iter()
        .find(|value| !(least..=most).contains(*value))
    {
        let wanted = dtype.as_str_name();
        return Err(TextProblem::Number {
            literal: outside.to_string(),
            wanted,
        });
    }
    let mask = (1 << bits) - 1;
    let per_byte = usize::try_from(8 / bits).unwrap_or(1);
    tensor.int32_data = tensor
        .int32_data
        .chunks(per_byte)
        .map(|chunk| {
            chunk
                .iter()
                .rev()
                .fold(0, |byte, value| byte << bits | value & mask)
        })
        .collect();
    Ok(())
}
