//! Tensor constants. Elements are printed as the typed fields of the protobuf hold them, wherever they are stored.

use super::lexer::is_identifier;
use super::names::element_type_name;
use super::printer::Printer;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{SparseTensorProto, StringStringEntryProto, TensorProto};

impl Printer<'_> {
    /// `float[2] name = {1, 2}`
    pub(super) fn initializer(&mut self, tensor: &TensorProto) {
        self.tensor(tensor, Some(tensor.name()), true);
    }

    /// `float[2] name {1, 2}`. The name means nothing here, and onnx reads it only as an identifier: others are left out.
    pub(super) fn attribute_tensor(&mut self, tensor: &TensorProto) {
        self.tensor(
            tensor,
            Some(tensor.name()).filter(|name| is_identifier(name)),
            false,
        );
    }

    fn tensor(&mut self, tensor: &TensorProto, name: Option<&str>, initializer: bool) {
        self.constant_type(tensor.data_type(), &tensor.dims);
        let external = tensor.data_location() == DataLocation::External;
        if let Some(name) = name {
            self.push(" ");
            self.name(name);
        }
        // Without a name, only the equals sign tells external data from a shape.
        self.push(if initializer || external { " = " } else { " " });
        if external {
            self.string_pairs(&tensor.external_data);
        } else if let Some(raw) = &tensor.raw_data {
            self.raw_data(tensor, raw);
        } else {
            self.typed_data(tensor);
        }
    }

    fn constant_type(&mut self, data_type: i32, dims: &[i64]) {
        self.push(&element_type_name(data_type));
        for (index, dim) in dims.iter().enumerate() {
            self.push(if index == 0 { "[" } else { "," });
            self.display(dim);
        }
        if !dims.is_empty() {
            self.push("]");
        }
    }

    pub(super) fn string_pairs(&mut self, pairs: &[StringStringEntryProto]) {
        self.list("[", "]", pairs, |printer, pair| {
            printer.quoted(pair.key());
            printer.push(": ");
            printer.quoted(pair.value());
        });
    }

    fn typed_data(&mut self, tensor: &TensorProto) {
        let Ok(dtype) = DataType::try_from(tensor.data_type()) else {
            self.push("{}");
            return;
        };
        match dtype {
            DataType::Float | DataType::Complex64 => {
                self.values(tensor.float_data.iter(), |p, v| p.float32(*v))
            }
            DataType::Double | DataType::Complex128 => {
                self.values(tensor.double_data.iter(), |p, v| p.float64(*v))
            }
            DataType::Int64 => self.values(tensor.int64_data.iter(), |p, v| p.display(v)),
            DataType::Uint64 => self.values(tensor.uint64_data.iter(), |p, v| p.display(v)),
            // Only the low bits of an entry are the element.
            DataType::Uint32 => self.values(tensor.uint64_data.iter(), |p, v| {
                p.display(*v & u64::from(u32::MAX))
            }),
            DataType::String => self.values(tensor.string_data.iter(), |p, v| p.bytes(v)),
            DataType::Int32 => self.values(tensor.int32_data.iter(), |p, v| p.display(v)),
            DataType::Int8 => self.low_bytes(tensor, |p, [a, ..]| p.display(i8::from_le_bytes([a]))),
            DataType::Int16 => self.low_bytes(tensor, |p, [a, b, ..]| p.display(i16::from_le_bytes([a, b]))),
            DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => {
                self.low_bytes(tensor, |p, [a, b, ..]| p.display(u16::from_le_bytes([a, b])));
            }
            DataType::Float6e2m3 | DataType::Float6e3m2 => {
                self.low_bytes(tensor, |p, [a, ..]| p.display(a & 63))
            }
            DataType::Undefined => self.push("{}"),
            DataType::Uint8
            | DataType::Bool
            | DataType::Uint4
            | DataType::Int4
            | DataType::Uint2
            | DataType::Int2
            | DataType::Float4e2m1
            | DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float8e8m0 => self.low_bytes(tensor, |p, [a, ..]| p.display(a)),
        }
    }

    fn low_bytes(&mut self, tensor: &TensorProto, mut print: impl FnMut(&mut Self, [u8; 4])) {
        self.values(tensor.int32_data.iter(), |printer, value| {
            print(printer, value.to_le_bytes())
        });
    }

    /// Bytes whose number fits the shape, element by element; others as they are.
    fn raw_data(&mut self, tensor: &TensorProto, raw: &[u8]) {
        let elements = tensor.dims.iter().try_fold(1usize, |product, dim| {
            product.checked_mul(usize::try_from(*dim).ok()?)
        });
        let dtype = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
        let bits: usize = match dtype {
            DataType::Undefined | DataType::String => 0,
            DataType::Uint2 | DataType::Int2 => 2,
            DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1 => 4,
            DataType::Float6e2m3 | DataType::Float6e3m2 => 6,
            DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
            DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
            DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64 => 64,
            DataType::Complex128 => 128,
            _ => 8,
        };
        let needed = elements
            .and_then(|elements| elements.checked_mul(bits))
            .map(|bits| bits.div_ceil(8));
        if bits == 0 || needed != Some(raw.len()) {
            self.raw_bytes(raw);
            return;
        }
        match dtype {
            DataType::Float | DataType::Complex64 => {
                self.chunks(raw, |p, v| p.float32(f32::from_le_bytes(v)))
            }
            DataType::Double | DataType::Complex128 => {
                self.chunks(raw, |p, v| p.float64(f64::from_le_bytes(v)))
            }
            DataType::Int64 => self.chunks(raw, |p, v| p.display(i64::from_le_bytes(v))),
            DataType::Uint64 => self.chunks(raw, |p, v| p.display(u64::from_le_bytes(v))),
            DataType::Int32 => self.chunks(raw, |p, v| p.display(i32::from_le_bytes(v))),
            DataType::Uint32 => self.chunks(raw, |p, v| p.display(u32::from_le_bytes(v))),
            DataType::Int16 => self.chunks(raw, |p, v| p.display(i16::from_le_bytes(v))),
            DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => {
                self.chunks(raw, |p, v| p.display(u16::from_le_bytes(v)));
            }
            DataType::Int8 => self.chunks(raw, |p, v| p.display(i8::from_le_bytes(v))),
            DataType::Float6e2m3 | DataType::Float6e3m2 => {
                let codes = 0..elements.unwrap_or_default();
                self.values(codes, |printer, index| printer.display(six_bits(raw, index)));
            }
            _ => self.values(raw.iter(), |printer, byte| printer.display(byte)),
        }
    }

    fn chunks<const N: usize>(&mut self, raw: &[u8], mut print: impl FnMut(&mut Self, [u8; N])) {
        let (elements, _) = raw.as_chunks::<N>();
        self.values(elements.iter(), |printer, bytes| print(printer, *bytes));
    }

    fn raw_bytes(&mut self, raw: &[u8]) {
        let shown = self.options.max_elements.unwrap_or(usize::MAX).min(raw.len());
        self.push("{");
        self.hexadecimal(raw.get(..shown).unwrap_or(raw));
        self.push(if shown < raw.len() { "...}" } else { "}" });
    }

    /// `sparse_tensor(float[9]) name = {float[1] {1}, int64[1] {4}}`
    pub(super) fn sparse_tensor(&mut self, sparse: &SparseTensorProto, initializer: bool) {
        let missing = TensorProto::default();
        let values = sparse.values.as_ref().unwrap_or(&missing);
        let indices = sparse.indices.as_ref().unwrap_or(&missing);
        self.push("sparse_tensor(");
        self.constant_type(values.data_type(), &sparse.dims);
        self.push(")");
        if initializer {
            self.push(" ");
            self.name(values.name());
            self.push(" =");
        }
        self.push(" {");
        self.tensor(values, present(values.name()), false);
        self.push(", ");
        self.tensor(indices, present(indices.name()), false);
        self.push("}");
    }
}

fn present(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}

/// The code of element `index` in a stream of 6-bit codes, low bits first.
fn six_bits(raw: &[u8], index: usize) -> u8 {
    let byte = |at: usize| u16::from(raw.get(at).copied().unwrap_or_default());
    let position = index * 6;
    let pair = byte(position / 8) | byte(position / 8 + 1) << 8;
    let [low, _] = (pair >> (position % 8)).to_le_bytes();
    low & 63
}
