//! ONNX's textual syntax through the public API: what is read, what is refused and where, what is written.

use proptest::prelude::*;
use prost::Message as _;
use secateur::format::text::{
    PrintOptions, omitted, parse_function, parse_graph, parse_model, parse_nodes, print_function,
    print_graph, print_model, print_node,
};
use secateur::proto::attribute_proto::AttributeType;
use secateur::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};

use crate::corpus;
use crate::text_equal::normal;

fn whole() -> PrintOptions {
    PrintOptions::default()
}

/// The only attribute of `y = A <ATTRIBUTE> (x)`.
fn attribute(text: &str) -> AttributeProto {
    let nodes = parse_nodes(&format!("y = A <{text}> (x)")).unwrap_or_else(|error| panic!("{error}"));
    nodes[0].attribute[0].clone()
}

/// The tensor that the text `constant` stands for.
fn tensor(constant: &str) -> TensorProto {
    attribute(&format!("a = {constant}"))
        .t
        .unwrap_or_else(|| panic!("no tensor: {constant}"))
}

#[test]
fn nodes_are_read() {
    // Text of one node, and how it is printed.
    for (text, printed) in [
        ("y=A(x)", "y = A (x)"),
        ("[n] y = A (x)", "[n] y = A (x)"),
        ("[\"a b\"] y = A (x)", "[\"a b\"] y = A (x)"),
        ("[] y = A (x)", "y = A (x)"),
        ("= A ()", "= A ()"),
        ("a, b = A (x, y)", "a, b = A (x, y)"),
        ("a, , c = A (\"\", x)", "a, \"\", c = A (\"\", x)"),
        ("y = A (x,)", "y = A (x)"),
        ("y = A (,)", "y = A (\"\")"),
        ("y = A (,x)", "y = A (\"\", x)"),
        ("\"w/1\" = A (\"x:0\")", "\"w/1\" = A (\"x:0\")"),
        ("y = com.microsoft.A (x)", "y = com.microsoft.A (x)"),
        ("y = .A (x)", "y = A (x)"),
        ("y = a.b.A:over (x)", "y = a.b.A:over (x)"),
        (
            "y = \"my-domain\".\"A op\":\"o.v\" (x)",
            "y = \"my-domain\".\"A op\":\"o.v\" (x)",
        ),
        ("y = A <i = 1> (x)", "y = A <i = 1> (x)"),
        ("y = A (x) <i = 1>", "y = A <i = 1> (x)"),
        (
            "y = A <\"an attribute\" = 1> (x)",
            "y = A <\"an attribute\" = 1> (x)",
        ),
        ("# note\n y # note\n = A (x) # note", "y = A (x)"),
        (
            "y = If (c) <then_branch = t () => (y) { y = A () }, else_branch = e () => (z) { z = B () }>",
            "y = If (c) <\n  then_branch = t () => (y) {\n    y = A ()\n  },\n  else_branch = e () => (z) {\n    z = B ()\n  }\n>",
        ),
    ] {
        let nodes = parse_nodes(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(nodes.len(), 1, "{text}");
        assert_eq!(print_node(&nodes[0], &whole()), printed, "{text}");
        assert_eq!(
            parse_nodes(printed).unwrap(),
            nodes.iter().map(without_empty_name).collect::<Vec<_>>(),
            "{text}"
        );
    }
    assert_eq!(
        parse_nodes("a = A (x) <i = 1> b = B (a)  c = C (b)")
            .unwrap()
            .len(),
        3
    );
    assert!(parse_nodes(" # nothing\n").unwrap().is_empty());
}

fn without_empty_name(node: &NodeProto) -> NodeProto {
    let name = node.name.clone().filter(|name| !name.is_empty());
    NodeProto { name, ..node.clone() }
}

#[test]
fn attributes_are_read_and_printed() {
    // Text, its type, and how it is printed where that differs.
    for (text, kind, printed) in [
        ("a = 1", AttributeType::Int, ""),
        ("a = -9223372036854775808", AttributeType::Int, ""),
        ("a: int = 007", AttributeType::Int, "a = 7"),
        ("a = 1.5", AttributeType::Float, ""),
        ("a = 1.", AttributeType::Float, "a = 1.0"),
        ("a: float = -0", AttributeType::Float, "a = -0.0"),
        ("a = 1E-5", AttributeType::Float, "a = 1e-5"),
        ("a = inf", AttributeType::Float, ""),
        ("a = -Infinity", AttributeType::Float, "a = -inf"),
        ("a = NaN", AttributeType::Float, "a = nan"),
        ("a = -nan", AttributeType::Float, ""),
        ("a = nan(0x7fc00001)", AttributeType::Float, ""),
        (
            r#"a = "é \"q\" \\ \n""#,
            AttributeType::String,
            r#"a = "é \"q\" \\ n""#,
        ),
        ("a = \"\"", AttributeType::String, ""),
        ("a = x\"fF00\"", AttributeType::String, "a = x\"ff00\""),
        ("a = [1, 2]", AttributeType::Ints, ""),
        ("a: ints = []", AttributeType::Ints, ""),
        ("a: floats = [1, 2.5]", AttributeType::Floats, "a = [1.0, 2.5]"),
        ("a = [1.5, 2]", AttributeType::Floats, "a = [1.5, 2.0]"),
        ("a: strings = []", AttributeType::Strings, ""),
        ("a = [\"x\", \"y\"]", AttributeType::Strings, ""),
        ("a: int = @b", AttributeType::Int, ""),
        ("a = @b", AttributeType::Undefined, ""),
        ("a: ints = @\"b c\"", AttributeType::Ints, ""),
        (
            "a = float[2] {1, 2.5}",
            AttributeType::Tensor,
            "a = float[2] {1.0, 2.5}",
        ),
        (
            "a = float[2] t = {1, 2}",
            AttributeType::Tensor,
            "a = float[2] t {1.0, 2.0}",
        ),
        ("a = int64 {7}", AttributeType::Tensor, ""),
        (
            "a = float[2] = [\"location\": \"w\", \"offset\": \"8\"]",
            AttributeType::Tensor,
            "",
        ),
        ("a: tensors = [int8 {1}, int8[0] {}]", AttributeType::Tensors, ""),
        (
            "a = g (float x) => (x) {}",
            AttributeType::Graph,
            "a = g (float x) => (x) {\n  }",
        ),
        (
            "a = inf1 () => () {}",
            AttributeType::Graph,
            "a = inf1 () => () {\n  }",
        ),
        (
            "a = \"a body\" () => () {}",
            AttributeType::Graph,
            "a = \"a body\" () => () {\n  }",
        ),
        (
            "a = \"inf\" () => () {}",
            AttributeType::Graph,
            "a = \"inf\" () => () {\n  }",
        ),
        ("a: graphs = []", AttributeType::Graphs, ""),
        ("a = float", AttributeType::TypeProto, ""),
        ("a = float[]", AttributeType::TypeProto, ""),
        (
            "a = float[N, \"a b\", ?, 3, -1]",
            AttributeType::TypeProto,
            "a = float[N,\"a b\",?,3,-1]",
        ),
        (
            "a = seq(optional(map(int64, float[?])))",
            AttributeType::TypeProto,
            "",
        ),
        ("a = sparse_tensor(float[2])", AttributeType::TypeProto, ""),
        ("a = opaque()", AttributeType::TypeProto, ""),
        ("a = opaque(a.b)", AttributeType::TypeProto, ""),
        ("a = opaque(a.b, c)", AttributeType::TypeProto, ""),
        (
            "a: type_protos = [float[1], int64]",
            AttributeType::TypeProtos,
            "",
        ),
        ("a = undefined[2]", AttributeType::TypeProto, ""),
        ("a = undefined99[2]", AttributeType::TypeProto, ""),
        (
            "a = sparse_tensor(float[9]) {float[2] v {1, 2}, int64[2] {3, 8}}",
            AttributeType::SparseTensor,
            "a = sparse_tensor(float[9]) {float[2] v {1.0, 2.0}, int64[2] {3, 8}}",
        ),
    ] {
        let read = attribute(text);
        assert_eq!(read.r#type(), kind, "{text}");
        let node = NodeProto {
            op_type: Some("A".into()),
            attribute: vec![read.clone()],
            ..Default::default()
        };
        let statement = print_node(&node, &whole());
        let expected = if printed.is_empty() { text } else { printed };
        let inside = statement
            .trim_start_matches("= A")
            .trim_end_matches(" ()")
            .trim()
            .trim_start_matches("()")
            .trim();
        let inside = inside.trim_start_matches('<').trim_end_matches('>').trim();
        assert_eq!(inside, expected, "{text}");
        let again = attribute(inside);
        assert_eq!(again.encode_to_vec(), read.encode_to_vec(), "{text}");
    }
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
    crate::text_equal::tensor(&mut tensor);
    tensor.encode_to_vec()
}

#[test]
fn graphs_are_read() {
    let graph = parse_graph(
        "g (float[N,3] x, float[2] w = {1, 2}, untyped, \"float\", seq(int64) s) => (float[?] y, z)
         <int64[1] i = {4}, float[N,3] v, float[4] e = [\"location\": \"w.bin\"], sparse_tensor(float[9]) p = {float[1] {1}, int64[1] {8}}>
         { y = A (x, w) }",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let names = |values: &[secateur::proto::ValueInfoProto]| {
        values
            .iter()
            .map(|value| value.name().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&graph.input), "x w untyped float s");
    assert_eq!(names(&graph.output), "y z");
    assert_eq!(names(&graph.value_info), "v");
    let constants: Vec<_> = graph.initializer.iter().map(TensorProto::name).collect();
    assert_eq!(constants, ["w", "i", "e"]);
    assert_eq!(graph.sparse_initializer.len(), 1);
    assert!(graph.input[2].r#type.is_none());
    let printed = print_graph(&graph, &whole());
    assert_eq!(parse_graph(&printed).unwrap(), graph, "{printed}");
    assert!(parse_graph("g => () {}").unwrap().input.is_empty());
}

#[test]
fn functions_are_read() {
    let text = "<
  domain: \"my.domain\",
  overload: \"o\",
  opset_import: [\"\": 17, \"my.domain\": 1],
  doc_string: \"what it does\"
>
f <alpha, \"b c\", beta: float = 1.0, axes = [1, 2]> (x, \"seq\") => (y) <float[N] x, float y> {
  y = A <alpha: float = @alpha> (x)
}";
    let function = parse_function(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(function.attribute, ["alpha", "b c"]);
    assert_eq!(function.attribute_proto.len(), 2);
    assert_eq!(function.input, ["x", "seq"]);
    let printed = print_function(&function, &whole());
    assert_eq!(parse_function(&printed).unwrap(), function, "{printed}");
    assert_eq!(printed, text.replace("beta: float = 1.0", "beta = 1.0"));
    let typed = parse_function("f (float[N] x, z) => (float y) <int64 t> {}").unwrap();
    assert_eq!(typed.value_info.len(), 3);
    assert_eq!(typed.input, ["x", "z"]);
}

#[test]
fn a_model_prints_as_it_is_written() {
    let text = "<
  ir_version: 10,
  opset_import: [\"\": 21, \"local\": 1],
  producer_name: \"a \\\"quoted\\\" name\",
  producer_version: \"1\",
  domain: \"d\",
  model_version: 3,
  doc_string: \"two
lines\",
  metadata_props: [\"k\": \"v\", \"\": \"\"]
>
main (float[N,2] x) => (float[N,2] y)
<
  float[2] w = {1.0, 0.1}
>
{
  [first] h = local.f <alpha = 0.5> (x, w)
  y = Loop (\"\", \"\", h) <
    body = step (int64 i, bool c, float[N,2] s) => (bool c, float[N,2] t) {
      t = Identity (s)
    }
  >
}

<
  domain: \"local\",
  opset_import: [\"\": 21]
>
f <alpha> (a, b) => (c) {
  c = Add (a, b)
}
";
    let model = parse_model(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print_model(&model, &whole()), text);
    assert!(omitted(&model).is_empty());
}

#[test]
fn what_the_syntax_cannot_say_is_named_in_a_comment() {
    let mut model = parse_model("g () => () { y = A () }").unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].doc_string = Some("note".into());
    graph.node[0].metadata_props = vec![Default::default(), Default::default()];
    graph.quantization_annotation = vec![Default::default()];
    let printed = print_model(&model, &whole());
    assert!(
        printed.starts_with(
            "# not in this syntax: node doc_string (1)
# not in this syntax: node metadata_props (2)
# not in this syntax: quantization_annotation (1)
g () => () {"
        ),
        "{printed}"
    );
    assert!(parse_model(&printed).is_ok());
}

#[test]
fn an_attribute_tensor_keeps_its_name_only_as_an_identifier() {
    for (name, printed, omissions) in [
        ("value", "= A <a = int8 value {1}> ()", 0),
        ("a/value", "= A <a = int8 {1}> ()", 1),
        ("", "= A <a = int8 {1}> ()", 0),
    ] {
        let mut model = parse_model("g () => () { = A <a = int8 {1}> () }").unwrap();
        let node = &mut model.graph.as_mut().unwrap().node[0];
        node.attribute[0].t.as_mut().unwrap().name = Some(name.into());
        assert_eq!(print_node(node, &whole()), printed);
        assert_eq!(
            omitted(&model)
                .iter()
                .filter(|omission| omission.what == "attribute tensor name")
                .count(),
            omissions
        );
    }
}

#[test]
fn left_out_data_is_marked_and_refused() {
    let text = "y = A <a = int64[4] {1, 2, 3, 4}, b = int8[2] {5, 6}> (x)";
    let nodes = parse_nodes(text).unwrap();
    for (max, expected) in [
        (4, text),
        (2, "y = A <a = int64[4] {1, 2, ...}, b = int8[2] {5, 6}> (x)"),
        (0, "y = A <a = int64[4] {...}, b = int8[2] {...}> (x)"),
    ] {
        let printed = print_node(
            &nodes[0],
            &PrintOptions {
                max_elements: Some(max),
            },
        );
        assert_eq!(printed, expected);
        let code = parse_nodes(&printed).err().map(|error| error.code());
        assert_eq!(code, (max < 4).then_some("text-elided"));
    }
}

#[test]
fn errors_name_the_place_and_what_is_expected() {
    // Text of a model, line:column, and the message.
    for (text, place, message) in [
        ("", "1:1", "expected a graph name, found the end of the text"),
        (
            "<ir_version: x> g () => () {}",
            "1:14",
            "expected an integer, found `x`",
        ),
        (
            "<ir: 1> g () => () {}",
            "1:2",
            "expected ir_version, opset_import,",
        ),
        ("g (float[] x => () {}", "1:14", "expected `,` or `)`, found `=>`"),
        ("g (flaot[2] x) => () {}", "1:9", "expected `,` or `)`, found `[`"),
        (
            "g (float[a.b] x) => () {}",
            "1:11",
            "expected `,` or `]`, found `.`",
        ),
        (
            "g (float[2.5] x) => () {}",
            "1:10",
            "expected a dimension: a number, a name or `?`, found `2.5`",
        ),
        ("g () = > () {}", "1:6", "expected `=>`, found `=`"),
        (
            "g () => () {\n  y = A (x\n}",
            "3:1",
            "expected `,`, `)` or a value name, found `}`",
        ),
        (
            "g () => () {\n  y A (x)\n}",
            "2:5",
            "expected `=` or `,`, found `A`",
        ),
        (
            "g () => () {\n  y = (x)\n}",
            "2:7",
            "expected an operator name, found `(`",
        ),
        (
            "g () => () {\n  y = A <> (x)\n}",
            "2:10",
            "expected an attribute name, found `>`",
        ),
        (
            "g () => () {\n  y = A <a=.5> (x)\n}",
            "2:12",
            "expected an attribute value, found `.`",
        ),
        (
            "g () => () { y = A <a=1e400> (x) }",
            "1:23",
            "1e400 is not a valid float",
        ),
        (
            "g () => () { y = A <a=9223372036854775808> (x) }",
            "1:23",
            "9223372036854775808 is not a valid int64",
        ),
        (
            "g () => () { y = A <a:int=1.0> (x) }",
            "1:27",
            "attribute \"a\" is declared int, but its value is float",
        ),
        (
            "g () => () { y = A <a:ints=1> (x) }",
            "1:28",
            "attribute \"a\" is declared ints, but its value is int",
        ),
        (
            "g () => () { y = A <a:int=[1]> (x) }",
            "1:27",
            "attribute \"a\" is declared int, but its value is a list",
        ),
        (
            "g () => () { y = A <a=[1, 2.5]> (x) }",
            "1:27",
            "attribute \"a\" is declared int, but its value is float",
        ),
        (
            "g () => () { y = A <a=[]> (x) }",
            "1:23",
            "attribute \"a\" is an empty list",
        ),
        (
            "g () => () { y = A <a:ints=[@b]> (x) }",
            "1:29",
            "expected a value; a list is referred to as a whole",
        ),
        (
            "g () => () { y = A <a=int8[1]{300}> (x) }",
            "1:31",
            "300 is not a valid int8",
        ),
        (
            "g () => () { y = A <a=uint32[1]{-1}> (x) }",
            "1:33",
            "-1 is not a valid uint32",
        ),
        (
            "g () => () { y = A <a=float16[1]{1.5}> (x) }",
            "1:34",
            "expected a value of type 16-bit pattern, found `1.5`",
        ),
        (
            "g () => () { y = A <a=int4[3]{1,8,1}> (x) }",
            "1:30",
            "8 is not a valid INT4",
        ),
        (
            "g () => () { y = A <a=float[2,2]{1,2,3}> (x) }",
            "1:33",
            "this tensor's shape needs 4 values, found 3",
        ),
        (
            "g () => () { y = A <a=float[N]{1}> (x) }",
            "1:31",
            "a tensor constant needs a shape of numbers",
        ),
        (
            "g () => () { y = A <a=float[-1]{1}> (x) }",
            "1:32",
            "a tensor constant needs a shape of numbers",
        ),
        (
            "g () => () { y = A <a=seq(float){1}> (x) }",
            "1:33",
            "expected a tensor type before a constant",
        ),
        (
            "g () => () { y = A <a=\"x> (x) }",
            "1:23",
            "this string has no closing quote",
        ),
        (
            "g () => () {} h",
            "1:16",
            "expected `(`, found the end of the text",
        ),
        ("g () => () { § }", "1:14", "unexpected character '§'"),
        (
            "g () => () {",
            "1:13",
            "expected a node or `}`, found the end of the text",
        ),
    ] {
        let error = parse_model(text).expect_err(text);
        assert_eq!(
            format!("{}:{}", error.line(), error.column()),
            place,
            "{text}\n{error}"
        );
        assert!(
            error.problem().to_string().starts_with(message),
            "{text}\n{error}"
        );
        assert!(error.span().end <= text.len());
    }
    assert_eq!(
        parse_graph("g () => () {} g").expect_err("two graphs").column(),
        15
    );
}

#[test]
fn an_error_shows_the_line_and_points_at_it() {
    let error = parse_model("g () => () {\n  y = Add (a b)\n}")
        .expect_err("no comma")
        .in_file("m.txt");
    assert_eq!(
        error.to_string(),
        "m.txt:2:14: expected `,`, `)` or a value name, found `b`\n    y = Add (a b)\n               ^"
    );
    assert_eq!((error.file(), error.code()), (Some("m.txt"), "text-expected"));
    let long = format!("g () => () {{ y = A ({} b c) }}", "a, ".repeat(2000));
    let error = parse_model(&long).expect_err("no comma");
    assert!(error.snippet().len() <= 160 && error.to_string().len() < 600);
}

#[test]
fn nesting_is_bounded() {
    let types = format!(
        "g ({}float{} x) => () {{}}",
        "seq(".repeat(100_000),
        ")".repeat(100_000)
    );
    let bodies = "y = A () <b = g () => () {".repeat(100_000);
    for text in [types, format!("g () => () {{ {bodies}")] {
        assert_eq!(parse_model(&text).expect_err("too deep").code(), "text-too-deep");
    }
    let depth = 30;
    let open = "y = A () <b = g () => () { ".repeat(depth);
    let text = format!("g () => () {{ {open}{} }}", "}> ".repeat(depth));
    let model = parse_model(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parse_model(&print_model(&model, &whole())).unwrap(), model);
}

/// Reads, prints and reads again; panics where the model changed.
fn round_trip(name: &str, model: &ModelProto) {
    let text = print_model(model, &whole());
    let back = parse_model(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (before, after) = (normal(model.clone()), normal(back));
    if before.encode_to_vec() != after.encode_to_vec() {
        let parts = |model: &ModelProto| {
            let graph = model.graph.clone().unwrap_or_default();
            let nodes = graph.node.iter().map(|node| format!("{node:?}"));
            let tensors = graph.initializer.iter().map(|tensor| format!("{tensor:?}"));
            let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
            let functions = model.functions.iter().map(|function| format!("{function:?}"));
            nodes
                .chain(tensors)
                .chain(values.map(|value| format!("{value:?}")))
                .chain(functions)
                .collect::<Vec<_>>()
        };
        let (left, right) = (parts(&before), parts(&after));
        let different = left.iter().zip(&right).find(|(left, right)| left != right);
        panic!("{name} changed: {:.2000}", format!("{different:#?}"));
    }
}

#[test]
fn every_corpus_model_survives_the_text() {
    const LARGEST: u64 = 8 << 20;
    let (mut models, mut large) = (0, 0);
    for path in corpus::models().into_iter().chain(corpus::node_tests()) {
        let name = path.display().to_string();
        if std::fs::metadata(&path).unwrap().len() > LARGEST {
            large += 1;
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        round_trip(&name, &ModelProto::decode(bytes.as_slice()).unwrap());
        models += 1;
    }
    println!("{models} models came back from their text equal, {large} over {LARGEST} bytes skipped");
}

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
            crate::text_equal::tensor(&mut back);
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
