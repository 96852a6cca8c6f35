//! Elements of tensors as numbers: how many bits, and what those bits mean.

use super::Damaged;

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    /// A whole number of 4, 8, 16, 32 or 64 bits.
    Integer {
        /// Its bits.
        bits: u32,
    },
    /// A sign, an exponent and a fraction.
    Float {
        /// Bits of the exponent.
        exponent: u32,
        /// Bits of the fraction.
        fraction: u32,
    },
}

/// How elements lie: an element has its like in the other columns of its row, in the other rows of its column, and, in a convolution, at
/// the same place of the kernel before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Elements of a row: all dimensions but the first.
    pub(crate) row: u64,
    /// Elements of a kernel: all dimensions but the first two.
    pub(crate) kernel: u64,
}

impl Shape {
    /// The shape of a tensor with these dimensions; one row, where they are no weight's.
    pub(crate) fn of(dims: &[u64]) -> Self {
        let product = |dims: &[u64]| {
            dims.iter()
                .fold(1u64, |product, dim| product.saturating_mul((*dim).max(1)))
        };
        Self {
            row: product(dims.get(1..).unwrap_or_default()),
            kernel: product(dims.get(2..).unwrap_or_default()),
        }
    }
}

impl ElementType {
    /// The elements of an ONNX data type; bytes for one that has none of a fixed size.
    pub(crate) fn from_onnx(data_type: i32) -> Self {
        let integer = |bits| Self::Integer { bits };
        let float = |exponent, fraction| Self::Float { exponent, fraction };
        match data_type {
            1 | 14 => float(8, 23),
            11 | 15 => float(11, 52),
            10 => float(5, 10),
            16 => float(8, 7),
            17 | 18 => float(4, 3),
            19 | 20 => float(5, 2),
            4 | 5 => integer(16),
            6 | 12 => integer(32),
            7 | 13 => integer(64),
            21 | 22 => integer(4),
            _ => integer(8),
        }
    }

    /// Bits of an element.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Integer { bits } => bits,
            Self::Float { exponent, fraction } => 1 + exponent + fraction,
        }
    }

    /// How many elements these bytes are.
    pub(crate) fn count(self, bytes: usize) -> Option<usize> {
        let bits = self.bits() as usize;
        if bits == 4 {
            return bytes.checked_mul(2);
        }
        bytes.is_multiple_of(bits / 8).then_some(bytes / (bits / 8))
    }

    /// The elements in bytes, little-endian, the low half of a byte first.
    pub(crate) fn read(self, bytes: &[u8]) -> Vec<u64> {
        match self.bits() {
            4 => bytes
                .iter()
                .flat_map(|byte| [u64::from(byte & 15), u64::from(byte >> 4)])
                .collect(),
            8 => bytes.iter().map(|byte| u64::from(*byte)).collect(),
            16 => words(bytes, u16::from_le_bytes),
            32 => words(bytes, u32::from_le_bytes),
            _ => words(bytes, u64::from_le_bytes),
        }
    }

    /// The bytes of elements.
    pub(crate) fn write(self, elements: &[u64]) -> Vec<u8> {
        match self.bits() {
            4 => elements
                .chunks(2)
                .map(|pair| (pair[0] & 15) as u8 | (pair.get(1).map_or(0, |high| high & 15) as u8) << 4)
                .collect(),
            8 => elements.iter().map(|element| *element as u8).collect(),
            16 => bytes_of(elements, |element| (element as u16).to_le_bytes()),
            32 => bytes_of(elements, |element| (element as u32).to_le_bytes()),
            _ => bytes_of(elements, u64::to_le_bytes),
        }
    }

    /// All ones in the bits of an element.
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// A number that an element may be.
    pub(crate) fn check(self, element: u64) -> Result<u64, Damaged> {
        if element & !self.mask() == 0 {
            Ok(element)
        } else {
            Err(Damaged("an element has more bits than its type"))
        }
    }
}

fn words<const N: usize, T: Into<u64>>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<u64> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| from(*chunk).into()).collect()
}

fn bytes_of<const N: usize>(elements: &[u64], to: impl Fn(u64) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; elements.len() * N];
    let (chunks, _) = bytes.as_chunks_mut::<N>();
    for (chunk, element) in chunks.iter_mut().zip(elements) {
        *chunk = to(*element);
    }
    bytes
}
