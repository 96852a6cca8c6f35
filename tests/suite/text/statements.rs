//! Nodes, attributes, graphs and functions: what is read, and how it is printed.

use prost::Message as _;
use secateur::format::text::{
    parse_function, parse_graph, parse_nodes, print_function, print_graph, print_node,
};
use secateur::proto::attribute_proto::AttributeType;
use secateur::proto::{NodeProto, TensorProto};

use super::{attribute, whole};

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
