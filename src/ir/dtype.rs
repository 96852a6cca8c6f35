//! Element types of ONNX tensors (`TensorProto.DataType`), the packed ones included.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    U8,
    I8,
    U16,
    I16,
    I32,
    I64,
    String,
    Bool,
    F16,
    F64,
    U32,
    U64,
    Complex64,
    Complex128,
    BF16,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    U4,
    I4,
    F4E2M1,
    F8E8M0,
    U2,
    I2,
    F6E2M3,
    F6E3M2,
}

/// One row a type: its number in `TensorProto.DataType`, its name in ONNX text and in reports, and its bits.
const TABLE: [(DType, i32, &str, usize); 28] = [
    (DType::F32, 1, "float", 32),
    (DType::U8, 2, "uint8", 8),
    (DType::I8, 3, "int8", 8),
    (DType::U16, 4, "uint16", 16),
    (DType::I16, 5, "int16", 16),
    (DType::I32, 6, "int32", 32),
    (DType::I64, 7, "int64", 64),
    (DType::String, 8, "string", 0),
    (DType::Bool, 9, "bool", 8),
    (DType::F16, 10, "float16", 16),
    (DType::F64, 11, "double", 64),
    (DType::U32, 12, "uint32", 32),
    (DType::U64, 13, "uint64", 64),
    (DType::Complex64, 14, "complex64", 64),
    (DType::Complex128, 15, "complex128", 128),
    (DType::BF16, 16, "bfloat16", 16),
    (DType::F8E4M3FN, 17, "float8e4m3fn", 8),
    (DType::F8E4M3FNUZ, 18, "float8e4m3fnuz", 8),
    (DType::F8E5M2, 19, "float8e5m2", 8),
    (DType::F8E5M2FNUZ, 20, "float8e5m2fnuz", 8),
    (DType::U4, 21, "uint4", 4),
    (DType::I4, 22, "int4", 4),
    (DType::F4E2M1, 23, "float4e2m1", 4),
    (DType::F8E8M0, 24, "float8e8m0", 8),
    (DType::U2, 25, "uint2", 2),
    (DType::I2, 26, "int2", 2),
    (DType::F6E2M3, 27, "float6e2m3", 6),
    (DType::F6E3M2, 28, "float6e3m2", 6),
];

impl DType {
    fn row(self) -> &'static (DType, i32, &'static str, usize) {
        // The table lists the variants in declaration order (tested), so the discriminant is the row.
        &TABLE[(self as usize) % TABLE.len()]
    }

    /// Every element type, in the order of the ONNX numbers.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type with this `TensorProto.DataType` number.
    pub fn from_onnx(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The `TensorProto.DataType` number.
    pub fn onnx(self) -> i32 {
        self.row().1
    }

    /// The type with this name in ONNX text (`float`, `int64`, `bfloat16` ...).
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// The name in ONNX text.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bits an element takes; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// Whether several elements share a byte.
    pub fn is_packed(self) -> bool {
        matches!(self.bits(), 2 | 4 | 6)
    }

    /// Bytes of `elements` elements in `raw_data`; `None` for strings or on overflow.
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        if self == DType::String {
            return None;
        }
        Some(elements.checked_mul(self.bits() as u64)?.div_ceil(8))
    }

    /// Real floating-point types, of any width.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(
            self,
            F32 | F16
                | F64
                | BF16
                | F8E4M3FN
                | F8E4M3FNUZ
                | F8E5M2
                | F8E5M2FNUZ
                | F4E2M1
                | F8E8M0
                | F6E2M3
                | F6E3M2
        )
    }

    /// Signed or unsigned integers, of any width; not booleans.
    pub fn is_integer(self) -> bool {
        self.is_signed_integer() || self.is_unsigned_integer()
    }

    /// Signed integers.
    pub fn is_signed_integer(self) -> bool {
        use DType::*;
        matches!(self, I8 | I16 | I32 | I64 | I4 | I2)
    }

    /// Unsigned integers.
    pub fn is_unsigned_integer(self) -> bool {
        use DType::*;
        matches!(self, U8 | U16 | U32 | U64 | U4 | U2)
    }

    /// Lowest and highest value of an integer type, as `i128`.
    pub fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.bits() as u32;
        if self.is_signed_integer() {
            Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1))
        } else if self.is_unsigned_integer() {
            Some((0, (1i128 << bits) - 1))
        } else {
            None
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_rows_stand_in_declaration_order_and_round_trip() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(DType::from_onnx(row.0.onnx()), Some(row.0));
            assert_eq!(DType::from_name(row.0.name()), Some(row.0));
        }
    }

    #[test]
    fn packed_types_round_bytes_up() {
        assert_eq!(DType::I4.byte_len(3), Some(2));
        assert_eq!(DType::U2.byte_len(5), Some(2));
        assert_eq!(DType::F6E2M3.byte_len(4), Some(3));
        assert_eq!(DType::F64.byte_len(u64::MAX), None);
        assert_eq!(DType::I4.integer_range(), Some((-8, 7)));
    }
}
