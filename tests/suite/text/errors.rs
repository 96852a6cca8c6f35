//! What is refused, where, and what would have been right.

use secateur::format::text::{parse_graph, parse_model, print_model};

use super::whole;

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
