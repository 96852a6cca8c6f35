//! The names that element types and attribute types have in the text.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;

/// Element types and their names.
const ELEMENT_TYPES: [(DataType, &str); 28] = [
    (DataType::Float, "float"),
    (DataType::Uint8, "uint8"),
    (DataType::Int8, "int8"),
    (DataType::Uint16, "uint16"),
    (DataType::Int16, "int16"),
    (DataType::Int32, "int32"),
    (DataType::Int64, "int64"),
    (DataType::String, "string"),
    (DataType::Bool, "bool"),
    (DataType::Float16, "float16"),
    (DataType::Double, "double"),
    (DataType::Uint32, "uint32"),
    (DataType::Uint64, "uint64"),
    (DataType::Complex64, "complex64"),
    (DataType::Complex128, "complex128"),
    (DataType::Bfloat16, "bfloat16"),
    (DataType::Float8e4m3fn, "float8e4m3fn"),
    (DataType::Float8e4m3fnuz, "float8e4m3fnuz"),
    (DataType::Float8e5m2, "float8e5m2"),
    (DataType::Float8e5m2fnuz, "float8e5m2fnuz"),
    (DataType::Uint4, "uint4"),
    (DataType::Int4, "int4"),
    (DataType::Float4e2m1, "float4e2m1"),
    (DataType::Float8e8m0, "float8e8m0"),
    (DataType::Uint2, "uint2"),
    (DataType::Int2, "int2"),
    (DataType::Float6e2m3, "float6e2m3"),
    (DataType::Float6e3m2, "float6e3m2"),
];

/// The name of an element type that the table does not have is this word and, unless it is 0, its number.
const UNDEFINED: &str = "undefined";

/// Attribute types and their names.
const ATTRIBUTE_TYPES: [(AttributeType, &str); 14] = [
    (AttributeType::Float, "float"),
    (AttributeType::Int, "int"),
    (AttributeType::String, "string"),
    (AttributeType::Tensor, "tensor"),
    (AttributeType::Graph, "graph"),
    (AttributeType::SparseTensor, "sparse_tensor"),
    (AttributeType::TypeProto, "type_proto"),
    (AttributeType::Floats, "floats"),
    (AttributeType::Ints, "ints"),
    (AttributeType::Strings, "strings"),
    (AttributeType::Tensors, "tensors"),
    (AttributeType::Graphs, "graphs"),
    (AttributeType::SparseTensors, "sparse_tensors"),
    (AttributeType::TypeProtos, "type_protos"),
];

/// The number of the element type called `name`.
pub(crate) fn element_type(name: &str) -> Option<i32> {
    ELEMENT_TYPES
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(dtype, _)| *dtype as i32)
}

/// The number in an element type's name that the table does not have: `undefined` or `undefined99`.
pub(crate) fn undefined_element_type(name: &str) -> Option<i32> {
    let number = name.strip_prefix(UNDEFINED)?;
    if number.is_empty() {
        Some(0)
    } else {
        number.parse().ok().filter(|number| *number > 0)
    }
}

/// The name of the element type `number`.
pub(crate) fn element_type_name(number: i32) -> String {
    match ELEMENT_TYPES.iter().find(|(dtype, _)| *dtype as i32 == number) {
        Some((_, name)) => (*name).to_owned(),
        None if number == 0 => UNDEFINED.to_owned(),
        None => format!("{UNDEFINED}{number}"),
    }
}

/// The attribute type called `name`.
pub(crate) fn attribute_type(name: &str) -> Option<AttributeType> {
    ATTRIBUTE_TYPES
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(kind, _)| *kind)
}

/// The name of an attribute type.
pub(crate) fn attribute_type_name(kind: AttributeType) -> &'static str {
    ATTRIBUTE_TYPES
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or(UNDEFINED, |(_, name)| name)
}

/// True if a type starts with `name`, so that a value of this name needs quotes where a type may stand.
pub(crate) fn starts_type(name: &str) -> bool {
    element_type(name).is_some() || matches!(name, "seq" | "map" | "optional" | "sparse_tensor" | "opaque")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_one_name() {
        for number in 0..40 {
            let name = element_type_name(number);
            let read = element_type(&name).or_else(|| undefined_element_type(&name));
            assert_eq!(read, Some(number), "{name}");
            assert_eq!(
                name.starts_with(UNDEFINED),
                DataType::try_from(number).is_err() || number == 0
            );
        }
        assert_eq!(undefined_element_type("undefined0"), None);
        assert_eq!(undefined_element_type("undefinedx"), None);
    }

    #[test]
    fn every_attribute_type_has_one_name() {
        for (kind, name) in ATTRIBUTE_TYPES {
            assert_eq!(
                (attribute_type(name), attribute_type_name(kind)),
                (Some(kind), name)
            );
        }
        for number in 1..=14 {
            assert!(
                ATTRIBUTE_TYPES.iter().any(|(kind, _)| *kind as i32 == number),
                "{number}"
            );
        }
        assert_eq!(attribute_type("undefined"), None);
    }
}
