//! Integer types that codes are stored in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::DType;

/// An integer type for codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

    /// Lowest and highest code of the type.
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
            };
        }
        match self {
            Self::Int8 if symmetric => (-127, 127),
            Self::Int16 if symmetric => (-32767, 32767),
            _ => self.limits(),
        }
    }
}
