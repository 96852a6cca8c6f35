//! The layout of a printed model, and what printing leaves out.

use secateur::format::text::{PrintOptions, omitted, parse_model, parse_nodes, print_model, print_node};

use super::whole;

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
