//! Arbitrary texts and values.

use proptest::prelude::*;
use secateur::format::text::{
    parse_function, parse_graph, parse_model, parse_nodes, print_function, print_graph, print_model,
    print_node,
};
use secateur::proto::attribute_proto::AttributeType;
use secateur::proto::{AttributeProto, NodeProto, TensorProto};

use super::{equal, round_trip, whole};

fn token() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "<",
        ">",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "=",
        "=>",
        ".",
        "...",
        "@",
        "?",
        "*",
        "-",
        "\"",
        "\\",
        "#",
        "\n",
        "g",
        "x",
        "float",
        "seq",
        "map",
        "optional",
        "sparse_tensor",
        "opaque",
        "undefined",
        "inf",
        "-inf",
        "nan(0x7fc00001)",
        "x\"00\"",
        "\"s\"",
        "1",
        "-2",
        "1.5",
        "ir_version",
        "opset_import",
        "ints",
        "int4",
        "string",
        "y = A (x)",
        "g () => () {",
        "<a = ",
        "float[2] w = {1, 2}",
        "é",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => ".{0,3}"]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(tokens in prop::collection::vec(token(), 0..60), glue in "[ ]?") {
        let text = tokens.join(&glue);
        for result in [
            parse_model(&text).map(|model| print_model(&model, &whole())),
            parse_graph(&text).map(|graph| print_graph(&graph, &whole())),
            parse_function(&text).map(|function| print_function(&function, &whole())),
            parse_nodes(&text).map(|nodes| nodes.iter().map(|node| print_node(node, &whole())).collect()),
        ] {
            if let Err(error) = result {
                prop_assert!(error.line() >= 1 && error.column() >= 1 && error.span().end <= text.len());
            }
        }
    }

    #[test]
    fn a_damaged_text_is_read_or_refused_without_a_panic(at in 0usize..400, with in token()) {
        let text = "<ir_version: 8, opset_import: [\"\": 17], metadata_props: [\"a\": \"b\"]> g (float[N,\"a b\"] x, seq(map(int64, float[])) m, \
            float[2] w = {1, 2}) => (float y) <int4[3] q = {1, -2, 3}, float[1] e = [\"location\": \"f\"], int64[?] v> \
            { [n] y = a.b.Op:o <i = 1, f: float = @f, t = float {nan}, s = [\"x\", \"y\"], g = b () => () { z = Op () }> (x, \"\") } f <a, b = 1> (x) => (y) {}";
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let damaged = format!("{}{with}{}", &text[..at], &text[at..]);
        if let Ok(model) = parse_model(&damaged) {
            round_trip("damaged", &model);
        }
    }

    #[test]
    fn every_float_keeps_its_bits(single in any::<u32>(), double in any::<u64>()) {
        for (dtype, raw) in [(1, single.to_le_bytes().to_vec()), (11, double.to_le_bytes().to_vec())] {
            let tensor = TensorProto { data_type: Some(dtype), raw_data: Some(raw.clone().into()), ..Default::default() };
            let attribute = AttributeProto { name: Some("a".into()), t: Some(tensor), ..Default::default() };
            let node = NodeProto { op_type: Some("A".into()), attribute: vec![attribute], ..Default::default() };
            let back = parse_nodes(&print_node(&node, &whole())).unwrap();
            let mut back = back[0].attribute[0].t.clone().unwrap();
            equal::tensor(&mut back);
            prop_assert_eq!(back.raw_data.unwrap().to_vec(), raw);
        }
    }

    #[test]
    fn every_name_and_string_survives(name in ".*", bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let attribute = AttributeProto {
            name: Some(name.clone()),
            s: Some(bytes.into()),
            r#type: Some(AttributeType::String as i32),
            ..Default::default()
        };
        let node = NodeProto {
            name: Some(name.clone()).filter(|name| !name.is_empty()),
            op_type: Some(format!("A{name}")),
            domain: Some(name.clone()),
            input: vec![name.clone(), String::new()],
            output: vec![name],
            attribute: vec![attribute],
            ..Default::default()
        };
        prop_assert_eq!(parse_nodes(&print_node(&node, &whole())).unwrap(), vec![node]);
    }
}
