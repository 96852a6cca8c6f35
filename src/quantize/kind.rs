//! Types that codes are stored in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::{DType, Operator};

/// A type of codes: an integer, or a float of 8 bits, whose codes are its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Uint8,
    Int8,
    Uint16,
    Int16,
    Uint4,
    Int4,
    Uint2,
    Int2,
    Float8e4m3fn,
    Float8e4m3fnuz,
    Float8e5m2,
    Float8e5m2fnuz,
}

/// How many scales a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One scale.
    PerTensor,
    /// One scale an index of this axis.
    PerChannel(usize),
    /// One scale a block of `size` elements along `axis`.
    Blocked {
        /// The axis that is cut into blocks.
        axis: usize,
        /// Elements a block; the last one may be shorter.
        size: usize,
    },
}

impl Granularity {
    /// The same for a tensor of these dimensions as DequantizeLinear can say it: the scale of a vector in one block would be a vector of one,
    /// by which runtimes understand one scale for the tensor.
    pub fn stored(self, dims: &[u64]) -> Self {
        match (self, dims) {
            (Self::Blocked { size, .. }, [length]) if *length <= size as u64 => Self::PerTensor,
            _ => self,
        }
    }

    /// The DequantizeLinear that reads scales laid out so.
    pub fn dequantize_linear(self) -> Operator {
        let operator = Operator::new("DequantizeLinear");
        match self {
            Self::PerTensor => operator,
            Self::PerChannel(axis) => operator.with("axis", axis as i64),
            Self::Blocked { axis, size } => {
                operator.with("axis", axis as i64).with("block_size", size as i64)
            }
        }
    }
}

impl Kind {
    /// The ONNX element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Uint8 => DType::U8,
            Self::Int8 => DType::I8,
            Self::Uint16 => DType::U16,
            Self::Int16 => DType::I16,
            Self::Uint4 => DType::U4,
            Self::Int4 => DType::I4,
            Self::Uint2 => DType::U2,
            Self::Int2 => DType::I2,
            Self::Float8e4m3fn => DType::F8E4M3FN,
            Self::Float8e4m3fnuz => DType::F8E4M3FNUZ,
            Self::Float8e5m2 => DType::F8E5M2,
            Self::Float8e5m2fnuz => DType::F8E5M2FNUZ,
        }
    }

    /// The name of the type in ONNX text and in options.
    pub fn name(self) -> &'static str {
        self.dtype().name()
    }

    /// Whether codes are small floats: unevenly spaced, with zero in their middle.
    pub fn is_float(self) -> bool {
        self.dtype().is_float()
    }

    /// The largest finite value of a float type.
    pub fn largest(self) -> Option<f32> {
        match self {
            Self::Float8e4m3fn => Some(448.0),
            Self::Float8e4m3fnuz => Some(240.0),
            Self::Float8e5m2 | Self::Float8e5m2fnuz => Some(57344.0),
            _ => None,
        }
    }

    /// The first opset whose QuantizeLinear and DequantizeLinear have the type, `blocked` or not.
    pub fn opset(self, blocked: bool) -> i64 {
        match self {
            Self::Int2 | Self::Uint2 => 25,
            Self::Int8 | Self::Uint8 if !blocked => 13,
            kind if kind.is_float() && !blocked => 19,
            _ => 21,
        }
    }

    /// Whether codes may be negative.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Int8 | Self::Int16 | Self::Int4 | Self::Int2)
    }

    /// Bits a code.
    pub fn bits(self) -> u32 {
        self.dtype().bits() as u32
    }

    /// Lowest and highest code of the type; of a float type, the bytes there are.
    pub fn limits(self) -> (i32, i32) {
        let bits = self.bits();
        if self.is_signed() {
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            (0, (1 << bits) - 1)
        }
    }

    /// Lowest and highest code that a range is spread over. Symmetric codes of a signed 8- or 16-bit type leave out the lowest
    /// one, so that zero is in the middle; `reduced` saves one bit for kernels that add pairs of products in 16 bits.
    pub fn code_range(self, symmetric: bool, reduced: bool) -> (i32, i32) {
        if reduced {
            return match self {
                Self::Uint8 => (0, 127),
                Self::Int8 => (-64, 64),
                Self::Uint16 => (0, 32767),
                Self::Int16 => (-16384, 16384),
                Self::Uint4 => (0, 7),
                Self::Int4 => (-4, 3),
                Self::Uint2 => (0, 1),
                Self::Int2 => (-1, 0),
                _ => self.limits(),
            };
        }
        match self {
            Self::Int8 if symmetric => (-127, 127),
            Self::Int16 if symmetric => (-32767, 32767),
            _ => self.limits(),
        }
    }
}
