//! Constant tensors: a shape, an element type and bytes that are shared, never copied on clone.

mod numbers;

pub use numbers::to_odd;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::dtype::DType;
use super::name::Name;
use crate::proto;

/// Concrete dimensions of a tensor.
pub type Dims = SmallVec<[u64; 4]>;

/// A constant tensor. Cloning shares the data: a weight in a memory-mapped file stays there.
///
/// The storage remembers how the file wrote the data (`raw_data`, one of the typed fields, external data), so that an
/// untouched tensor is written back byte for byte.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    dims: Dims,
    data: TensorData,
    meta: Option<Arc<TensorMeta>>,
}

/// Where the elements are.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Neither `raw_data` nor a typed field is present: only right for a tensor without elements.
    Absent,
    /// Little-endian elements, packed types packed from the lowest bits up (`raw_data` or external data).
    Raw(Bytes),
    /// `float_data`.
    Float(Arc<[f32]>),
    /// `int32_data`: also the carrier of 8- and 16-bit, packed and boolean elements.
    Int32(Arc<[i32]>),
    /// `int64_data`.
    Int64(Arc<[i64]>),
    /// `double_data`.
    Double(Arc<[f64]>),
    /// `uint64_data`: also the carrier of `uint32`.
    Uint64(Arc<[u64]>),
    /// `string_data`.
    Strings(Arc<[Bytes]>),
}

/// What a `TensorProto` carries beside type, shape and elements; kept so that it survives a rewrite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorMeta {
    /// The name of a tensor that stands in an attribute; an initializer is named by its value.
    pub name: Option<Name>,
    /// Documentation.
    pub doc_string: Option<String>,
    /// `metadata_props`.
    pub metadata: Vec<proto::StringStringEntryProto>,
    /// Whether and how `data_location` was written.
    pub data_location: Option<i32>,
    /// The entries of `external_data`, in file order; empty unless the data is external.
    pub external: Vec<proto::StringStringEntryProto>,
}

/// A tensor that does not hold what it declares, or that is asked for what it does not hold.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum TensorError {
    /// The number of elements does not fit 64 bits.
    #[error("the product of the dimensions {dims:?} overflows")]
    Overflow {
        /// The declared dimensions.
        dims: Vec<u64>,
    },
    /// The data is shorter or longer than the declared shape and type.
    #[error("{dtype} tensor of shape {dims:?} needs {expected} {unit}, its data has {found}")]
    Length {
        /// Declared element type.
        dtype: DType,
        /// Declared dimensions.
        dims: Vec<u64>,
        /// What the shape asks for.
        expected: u64,
        /// What is there.
        found: u64,
        /// `bytes` or `elements`.
        unit: &'static str,
    },
    /// The data stands in a field that this element type does not use.
    #[error("{dtype} data cannot stand in {field}")]
    Field {
        /// Declared element type.
        dtype: DType,
        /// The protobuf field.
        field: &'static str,
    },
    /// The elements are of another type than asked for.
    #[error("the tensor holds {found}, not {expected}")]
    Type {
        /// What was asked for.
        expected: &'static str,
        /// What is there.
        found: DType,
    },
}

/// A Rust type that is the in-memory form of one ONNX element type.
pub trait Element: bytemuck::Pod + PartialEq + Send + Sync + 'static {
    /// The ONNX element type.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),*) => { $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })* };
}
element!(f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64);

impl Tensor {
    /// A tensor over existing storage; the length of the data is checked against type and shape.
    pub fn new(
        dtype: DType,
        dims: Dims,
        data: TensorData,
        meta: Option<TensorMeta>,
    ) -> Result<Self, TensorError> {
        let tensor = Self {
            dtype,
            dims,
            data,
            meta: meta.filter(|m| *m != TensorMeta::default()).map(Arc::new),
        };
        tensor.validate()?;
        Ok(tensor)
    }

    /// A tensor over little-endian bytes.
    pub fn from_raw(
        dtype: DType,
        dims: impl IntoIterator<Item = u64>,
        data: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        Self::new(
            dtype,
            dims.into_iter().collect(),
            TensorData::Raw(data.into()),
            None,
        )
    }

    /// A tensor of Rust numbers in row-major order.
    pub fn from_slice<T: Element>(dims: &[u64], values: &[T]) -> Result<Self, TensorError> {
        Self::from_raw(T::DTYPE, dims.iter().copied(), to_little_endian(values))
    }

    /// A tensor of these numbers, which become its data without a copy where the machine is little-endian.
    pub fn from_vec<T: Element>(dims: &[u64], values: Vec<T>) -> Result<Self, TensorError> {
        struct Owned<T>(Vec<T>);
        impl<T: Element> AsRef<[u8]> for Owned<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        let bytes = if cfg!(target_endian = "little") {
            Bytes::from_owner(Owned(values))
        } else {
            to_little_endian(&values)
        };
        Self::from_raw(T::DTYPE, dims.iter().copied(), bytes)
    }

    /// Whether no element is infinite or undefined; true of what holds no floats.
    pub fn is_finite(&self) -> bool {
        /// Elements that are looked at at once, without a branch between them.
        const RUN: usize = 4096;
        match self.dtype {
            DType::F32 => self.view::<f32>().is_ok_and(|values| {
                let finite = |run: &[f32]| run.iter().fold(true, |all, value| all & value.is_finite());
                values.chunks(RUN).all(finite)
            }),
            dtype if dtype.is_float() => self
                .to_f64()
                .is_ok_and(|values| values.iter().all(|value| value.is_finite())),
            _ => true,
        }
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self {
            dtype: T::DTYPE,
            dims: Dims::new(),
            data: TensorData::Raw(to_little_endian(&[value])),
            meta: None,
        }
    }

    /// A rank-1 `int64` tensor: the form of shapes, axes and pads.
    pub fn vector_i64(values: &[i64]) -> Self {
        Self {
            dtype: DType::I64,
            dims: SmallVec::from_slice(&[values.len() as u64]),
            data: TensorData::Raw(to_little_endian(values)),
            meta: None,
        }
    }

    /// A tensor of booleans.
    pub fn from_bools(dims: &[u64], values: &[bool]) -> Result<Self, TensorError> {
        Self::from_raw(
            DType::Bool,
            dims.iter().copied(),
            values.iter().map(|v| *v as u8).collect::<Vec<u8>>(),
        )
    }

    /// A tensor of strings.
    pub fn from_strings(dims: &[u64], values: impl IntoIterator<Item = Bytes>) -> Result<Self, TensorError> {
        Self::new(
            DType::String,
            SmallVec::from_slice(dims),
            TensorData::Strings(values.into_iter().collect()),
            None,
        )
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Storage as read from the file.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Name, documentation, metadata and external-data entries.
    pub fn meta(&self) -> Option<&TensorMeta> {
        self.meta.as_deref()
    }

    /// The same elements with other metadata.
    pub fn with_meta(mut self, meta: TensorMeta) -> Self {
        self.meta = Some(meta).filter(|m| *m != TensorMeta::default()).map(Arc::new);
        self
    }

    /// The same elements in another shape of the same size.
    pub fn reshaped(&self, dims: &[u64]) -> Result<Self, TensorError> {
        Self::new(self.dtype, SmallVec::from_slice(dims), self.data.clone(), None)
    }

    /// Bytes that the elements take in memory and, raw, in a file. For strings the sum of their lengths.
    pub fn byte_len(&self) -> u64 {
        match &self.data {
            TensorData::Strings(strings) => strings.iter().map(|s| s.len() as u64).sum(),
            _ => self.dtype.byte_len(self.elements()).unwrap_or(0),
        }
    }

    /// The elements as little-endian bytes: borrowed when the file holds them raw, converted from typed fields otherwise.
    /// Packed types stay packed. An error for strings.
    pub fn raw(&self) -> Result<Cow<'_, [u8]>, TensorError> {
        Ok(match &self.data {
            TensorData::Raw(bytes) => Cow::Borrowed(bytes),
            TensorData::Absent => Cow::Borrowed(&[]),
            TensorData::Strings(_) => {
                return Err(TensorError::Type {
                    expected: "numbers",
                    found: self.dtype,
                });
            }
            _ => Cow::Owned(self.typed_as_bytes()),
        })
    }

    /// The elements as little-endian `Bytes`, shared with the file when it holds them raw.
    pub fn raw_bytes(&self) -> Result<Bytes, TensorError> {
        match &self.data {
            TensorData::Raw(bytes) => Ok(bytes.clone()),
            _ => Ok(Bytes::from(self.raw()?.into_owned())),
        }
    }

    /// The elements as Rust numbers; borrowed when type, byte order and alignment allow it.
    pub fn view<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if self.dtype != T::DTYPE {
            return Err(TensorError::Type {
                expected: T::DTYPE.name(),
                found: self.dtype,
            });
        }
        Ok(match self.raw()? {
            Cow::Borrowed(bytes) => from_little_endian(bytes),
            Cow::Owned(bytes) => Cow::Owned(from_little_endian::<T>(&bytes).into_owned()),
        })
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Result<&[Bytes], TensorError> {
        match &self.data {
            TensorData::Strings(strings) => Ok(strings),
            TensorData::Absent if self.dtype == DType::String => Ok(&[]),
            _ => Err(TensorError::Type {
                expected: "string",
                found: self.dtype,
            }),
        }
    }

    /// Whether both have the same type, shape and bits, however they are stored.
    pub fn same_as(&self, other: &Tensor) -> bool {
        if self.dtype != other.dtype || self.dims != other.dims {
            return false;
        }
        if self.dtype == DType::String {
            return matches!((self.strings(), other.strings()), (Ok(a), Ok(b)) if a == b);
        }
        match (self.raw(), other.raw()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }

    /// Whether both share one allocation or one range of one mapped file.
    pub fn shares_data_with(&self, other: &Tensor) -> bool {
        match (&self.data, &other.data) {
            (TensorData::Raw(a), TensorData::Raw(b)) => a.as_ptr() == b.as_ptr() && a.len() == b.len(),
            _ => false,
        }
    }

    fn validate(&self) -> Result<(), TensorError> {
        let dims = || self.dims.to_vec();
        let elements = self
            .dims
            .iter()
            .try_fold(1u64, |product, dim| product.checked_mul(*dim))
            .ok_or_else(|| TensorError::Overflow { dims: dims() })?;
        let length = |expected: u64, found: usize, unit: &'static str| {
            if expected == found as u64 {
                Ok(())
            } else {
                Err(TensorError::Length {
                    dtype: self.dtype,
                    dims: dims(),
                    expected,
                    found: found as u64,
                    unit,
                })
            }
        };
        let field = |field: &'static str| TensorError::Field {
            dtype: self.dtype,
            field,
        };
        use DType::*;
        match &self.data {
            TensorData::Absent => length(elements, 0, "elements"),
            TensorData::Strings(strings) if self.dtype == String => {
                length(elements, strings.len(), "elements")
            }
            TensorData::Strings(_) => Err(field("string_data")),
            TensorData::Raw(_) if self.dtype == String => Err(field("raw_data")),
            TensorData::Raw(bytes) => {
                let expected = self
                    .dtype
                    .byte_len(elements)
                    .ok_or_else(|| TensorError::Overflow { dims: dims() })?;
                length(expected, bytes.len(), "bytes")
            }
            TensorData::Float(values) => match self.dtype {
                F32 => length(elements, values.len(), "elements"),
                Complex64 => length(elements.saturating_mul(2), values.len(), "elements"),
                _ => Err(field("float_data")),
            },
            TensorData::Double(values) => match self.dtype {
                F64 => length(elements, values.len(), "elements"),
                Complex128 => length(elements.saturating_mul(2), values.len(), "elements"),
                _ => Err(field("double_data")),
            },
            TensorData::Int64(values) if self.dtype == I64 => length(elements, values.len(), "elements"),
            TensorData::Int64(_) => Err(field("int64_data")),
            TensorData::Uint64(values) if matches!(self.dtype, U64 | U32) => {
                length(elements, values.len(), "elements")
            }
            TensorData::Uint64(_) => Err(field("uint64_data")),
            TensorData::Int32(values) => match self.dtype {
                I32 | I16 | I8 | U16 | U8 | Bool | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2
                | F8E5M2FNUZ | F8E8M0 => length(elements, values.len(), "elements"),
                packed if packed.is_packed() => {
                    let bytes = packed.byte_len(elements).unwrap_or(u64::MAX);
                    length(bytes, values.len(), "elements")
                }
                _ => Err(field("int32_data")),
            },
        }
    }

    fn typed_as_bytes(&self) -> Vec<u8> {
        fn narrow<S: Copy, const N: usize>(values: &[S], to: impl Fn(S) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|v| to(*v)).collect()
        }
        match &self.data {
            TensorData::Float(values) => narrow(values, f32::to_le_bytes),
            TensorData::Double(values) => narrow(values, f64::to_le_bytes),
            TensorData::Int64(values) => narrow(values, i64::to_le_bytes),
            TensorData::Uint64(values) if self.dtype == DType::U32 => {
                narrow(values, |v| (v as u32).to_le_bytes())
            }
            TensorData::Uint64(values) => narrow(values, u64::to_le_bytes),
            TensorData::Int32(values) => match self.dtype.bits() {
                32 => narrow(values, i32::to_le_bytes),
                16 => narrow(values, |v| (v as u16).to_le_bytes()),
                _ => narrow(values, |v| [v as u8]),
            },
            TensorData::Raw(_) | TensorData::Absent | TensorData::Strings(_) => Vec::new(),
        }
    }
}

/// Copies numbers into little-endian bytes.
pub fn to_little_endian<T: Element>(values: &[T]) -> Bytes {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    if cfg!(target_endian = "little") {
        return Bytes::copy_from_slice(bytes);
    }
    let size = size_of::<T>().max(1);
    Bytes::from(
        bytes
            .chunks(size)
            .flat_map(|chunk| chunk.iter().rev().copied())
            .collect::<Vec<u8>>(),
    )
}

fn from_little_endian<T: Element>(bytes: &[u8]) -> Cow<'_, [T]> {
    if cfg!(target_endian = "little")
        && let Ok(slice) = bytemuck::try_cast_slice::<u8, T>(bytes)
    {
        return Cow::Borrowed(slice);
    }
    let size = size_of::<T>().max(1);
    let mut buffer = vec![T::zeroed(); bytes.len() / size];
    let target: &mut [u8] = bytemuck::cast_slice_mut(&mut buffer);
    let length = target.len();
    target.copy_from_slice(&bytes[..length]);
    if cfg!(target_endian = "big") {
        target.chunks_mut(size).for_each(<[u8]>::reverse);
    }
    Cow::Owned(buffer)
}

/// Element `index` of a stream of `bits`-wide elements packed from the lowest bits up.
pub fn packed_bits(raw: &[u8], bits: usize, index: usize) -> u32 {
    let start = index * bits;
    let byte = |at: usize| raw.get(at).copied().unwrap_or(0) as u32;
    let window = byte(start / 8) | byte(start / 8 + 1) << 8;
    (window >> (start % 8)) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_against_type_and_shape() {
        assert!(Tensor::from_raw(DType::F32, [2, 3], vec![0u8; 24]).is_ok());
        assert!(matches!(
            Tensor::from_raw(DType::F32, [2, 3], vec![0u8; 23]),
            Err(TensorError::Length { .. })
        ));
        assert!(matches!(
            Tensor::from_raw(DType::F32, [1 << 40, 1 << 40], vec![]),
            Err(TensorError::Overflow { .. })
        ));
        let ints = TensorData::Int32(Arc::from([1, 2]));
        assert!(matches!(
            Tensor::new(DType::F32, Dims::from_slice(&[2]), ints, None),
            Err(TensorError::Field { .. })
        ));
    }

    #[test]
    fn typed_fields_and_raw_bytes_hold_the_same_numbers() {
        let typed = Tensor::new(
            DType::F16,
            Dims::from_slice(&[2]),
            TensorData::Int32(Arc::from([0x3c00, 0xc000])),
            None,
        )
        .unwrap();
        assert_eq!(typed.to_f64().unwrap(), [1.0, -2.0]);
        let raw = Tensor::from_f64(DType::F16, &[2], &[1.0, -2.0]).unwrap();
        assert!(typed.same_as(&raw));
    }

    #[test]
    fn packed_elements_come_lowest_bits_first() {
        let t = Tensor::from_raw(DType::I4, [3], vec![0xf7u8, 0x08]).unwrap();
        assert_eq!(t.to_i64().unwrap(), [7, -1, -8]);
        let t = Tensor::from_raw(DType::U2, [4], vec![0b11_10_01_00u8]).unwrap();
        assert_eq!(t.to_i64().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn views_of_unaligned_bytes_copy_and_agree() {
        let bytes = Bytes::from([0u8].into_iter().chain(1.5f32.to_le_bytes()).collect::<Vec<_>>()).slice(1..);
        let t = Tensor::from_raw(DType::F32, [1], bytes).unwrap();
        assert_eq!(t.view::<f32>().unwrap().as_ref(), [1.5]);
        assert_eq!(
            t.view::<i32>().unwrap_err(),
            TensorError::Type {
                expected: "int32",
                found: DType::F32
            }
        );
    }
}
