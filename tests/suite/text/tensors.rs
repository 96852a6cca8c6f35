//! Tensor constants of every element type.

use prost::Message as _;
use secateur::format::text::{parse_graph, print_node};
use secateur::proto::{AttributeProto, NodeProto, TensorProto};

use super::{attribute, equal, whole};

/// The tensor that the text `constant` stands for.
fn tensor(constant: &str) -> TensorProto {
    attribute(&format!("a = {constant}"))
        .t
        .unwrap_or_else(|| panic!("no tensor: {constant}"))
}

#[test]
fn tensors_of_every_element_type_are_read_into_their_typed_field() {
    for (text, field) in [
        ("float[3] {1, -inf, nan}", "float_data"),
        ("complex64[1] {1, 2}", "float_data"),
        ("double[2] {1e300, -0.0}", "double_data"),
        ("complex128[1] {1, 2}", "double_data"),
        ("int64[2] {-9223372036854775808, 1}", "int64_data"),
        ("uint64[1] {18446744073709551615}", "uint64_data"),
        ("uint32[1] {4294967295}", "uint64_data"),
        ("int32[1] {-2147483648}", "int32_data"),
        ("int16[1] {-32768}", "int32_data"),
        ("int8[1] {-128}", "int32_data"),
        ("uint16[1] {65535}", "int32_data"),
        ("uint8[1] {255}", "int32_data"),
        ("bool[2] {0, 1}", "int32_data"),
        ("float16[1] {15360}", "int32_data"),
        ("bfloat16[1] {65535}", "int32_data"),
        ("float8e4m3fn[1] {255}", "int32_data"),
        ("float8e4m3fnuz[1] {1}", "int32_data"),
        ("float8e5m2[1] {1}", "int32_data"),
        ("float8e5m2fnuz[1] {1}", "int32_data"),
        ("float8e8m0[1] {1}", "int32_data"),
        ("float6e2m3[2] {1, 63}", "int32_data"),
        ("float6e3m2[1] {1}", "int32_data"),
        ("float4e2m1[3] {33, 3}", "int32_data"),
        ("int4[3] {225, 3}", "int32_data"),
        ("uint4[2] {255}", "int32_data"),
        ("int2[5] {228, 1}", "int32_data"),
        ("uint2[4] {228}", "int32_data"),
        ("string[2] {\"a\", x\"ff\"}", "string_data"),
        ("float[2,0] {}", ""),
    ] {
        let read = tensor(text);
        let lengths = [
            (read.float_data.len(), "float_data"),
            (read.double_data.len(), "double_data"),
            (read.int64_data.len(), "int64_data"),
            (read.uint64_data.len(), "uint64_data"),
            (read.int32_data.len(), "int32_data"),
            (read.string_data.len(), "string_data"),
        ];
        let filled: Vec<_> = lengths
            .iter()
            .filter(|(length, _)| *length > 0)
            .map(|(_, name)| *name)
            .collect();
        assert_eq!(filled.join(" "), field, "{text}");
        assert!(read.raw_data.is_none(), "{text}");
    }
}

#[test]
fn elements_that_share_a_byte_may_be_written_one_by_one() {
    for (text, entries) in [
        ("int4[3] {1, -2, 3}", vec![0xe1, 0x03]),
        ("uint4[2] {15, 1}", vec![0x1f]),
        ("int2[5] {0, 1, -2, -1, 1}", vec![0xe4, 0x01]),
        ("uint2[4] {3, 2, 1, 0}", vec![0x1b]),
        ("int4[1] {-1}", vec![-1]),
    ] {
        assert_eq!(tensor(text).int32_data, entries, "{text}");
    }
}

#[test]
fn raw_data_prints_as_elements() {
    for (dtype, dims, raw, printed) in [
        (
            1,
            vec![2],
            vec![0, 0, 128, 63, 1, 0, 128, 255],
            "float[2] {1.0, nan(0xff800001)}",
        ),
        (1, vec![], vec![0, 0, 192, 127], "float {nan}"),
        (3, vec![2], vec![255, 1], "int8[2] {-1, 1}"),
        (9, vec![2], vec![0, 1], "bool[2] {0, 1}"),
        (10, vec![1], vec![0, 60], "float16[1] {15360}"),
        (12, vec![1], vec![255; 4], "uint32[1] {4294967295}"),
        (
            14,
            vec![1],
            vec![0, 0, 128, 63, 0, 0, 0, 64],
            "complex64[1] {1.0, 2.0}",
        ),
        (22, vec![3], vec![0xe1, 3], "int4[3] {225, 3}"),
        (25, vec![3], vec![0x1b], "uint2[3] {27}"),
        // Codes 1, 2, 3, 4 and 63 in a stream of six bits each.
        (
            27,
            vec![5],
            vec![0x81, 0x30, 0x10, 0x3f],
            "float6e2m3[5] {1, 2, 3, 4, 63}",
        ),
        // Bytes that do not fit the shape are kept as they are.
        (1, vec![2], vec![1, 2, 3], "float[2] {x\"010203\"}"),
        (99, vec![1], vec![1], "undefined99[1] {x\"01\"}"),
        (1, vec![0], vec![], "float[0] {}"),
    ] {
        let raw_data = Some(raw.into());
        let tensor = TensorProto {
            data_type: Some(dtype),
            dims,
            raw_data,
            ..Default::default()
        };
        let attribute = AttributeProto {
            name: Some("a".into()),
            t: Some(tensor),
            ..Default::default()
        };
        let node = NodeProto {
            op_type: Some("A".into()),
            attribute: vec![attribute],
            ..Default::default()
        };
        assert_eq!(print_node(&node, &whole()), format!("= A <a = {printed}> ()"));
        let back = tensor_of(printed);
        assert_eq!(
            normal_tensor(&back),
            normal_tensor(node.attribute[0].t.as_ref().unwrap()),
            "{printed}"
        );
    }
}

fn tensor_of(constant: &str) -> TensorProto {
    // A type without a name is read only before a shape, so that it stands in a graph.
    let graph = parse_graph(&format!(
        "g () => () <{} > {{}}",
        constant.replacen(" {", " t = {", 1)
    ));
    graph.unwrap_or_else(|error| panic!("{error}")).initializer[0].clone()
}

fn normal_tensor(tensor: &TensorProto) -> Vec<u8> {
    let mut tensor = TensorProto {
        name: None,
        ..tensor.clone()
    };
    equal::tensor(&mut tensor);
    tensor.encode_to_vec()
}
