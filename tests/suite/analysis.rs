//! What inference finds out in models written as ONNX text: symbols, sizes, bodies, functions, declarations; liveness and cost.

use bytes::Bytes;
use secateur::analysis::{
    check, check_as_read, cost, infer, infer_node, is_private_symbol, is_pure, needed, public_type,
};
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{Graph, Model, NodeId, NodeKind, Operator, ShapeContent, Tensor, Value, ValueId};

/// A model whose main graph is `main`, with further text (functions) behind it.
fn model(main: &str, functions: &str) -> Model {
    let header = r#"<ir_version: 10, opset_import: ["" : 21, "f" : 1, "com.microsoft" : 1]>"#;
    let text = format!("{header}\n{main}\n{functions}");
    let proto = parse_model(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    lift(proto, &ExternalFiles::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn inferred(main: &str) -> Model {
    let mut model = model(main, "");
    infer(&mut model);
    model
}

fn type_of(graph: &Graph, name: &str) -> String {
    let value = graph
        .find_value(name)
        .unwrap_or_else(|| panic!("no value {name}"));
    graph.ty(value).to_string()
}

fn content_of(graph: &Graph, name: &str) -> String {
    let value = graph.value(graph.find_value(name).unwrap()).unwrap();
    match value.content.as_deref() {
        None => "nothing".to_owned(),
        Some(ShapeContent { elements, .. }) => elements
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// Checks the type of `y` for each graph body, given inputs `x` and a type of `y` that says nothing.
#[track_caller]
fn types(input: &str, cases: &[(&str, &str)]) {
    for (nodes, expected) in cases {
        let model = inferred(&format!("g ({input}) => (y) {{ {nodes} }}"));
        assert_eq!(type_of(&model.graph, "y"), *expected, "{nodes}");
    }
}

#[test]
fn symbolic_sizes_are_computed() {
    types(
        "float[N, 3, H, W] x, float[8, 3, 3, 3] w",
        &[
            (
                "y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)",
                "float[N, 8, floor((H + 1)/(2)), floor((W + 1)/(2))]",
            ),
            ("y = Flatten (x)", "float[N, 3*H*W]"),
            ("y = GlobalAveragePool (x)", "float[N, 3, 1, 1]"),
            ("y = Concat <axis = 0> (x, x)", "float[2*N, 3, H, W]"),
            ("y = DepthToSpace <blocksize = 1> (x)", "float[N, 3, H, W]"),
            (
                "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)",
                "float[N, 3, floor((H)/(2)), floor((W)/(2))]",
            ),
            ("y = Transpose <perm = [0, 2, 3, 1]> (x)", "float[N, H, W, 3]"),
            ("y = ReduceMean <keepdims = 0> (x)", "float"),
            (
                "s = Constant <value = float[4] {1, 1, 2, 2}> () y = Resize (x, , s)",
                "float[N, 3, 2*H, 2*W]",
            ),
            (
                "s = Constant <value_ints = [0, -1]> () y = Reshape (x, s)",
                "float[N, 3*H*W]",
            ),
            (
                "b = Constant <value_ints = [1]> () e = Constant <value_ints = [9223372036854775807]> () a = Constant <value_ints = [2]> () y = Slice (x, b, e, a)",
                "float[N, 3, max(0, H - 1), W]",
            ),
            ("y = LSTM <hidden_size = 5> (x, w, w)", "float[N, 1, 3, 5]"),
            ("y = Unknown (x)", "?"),
            ("u = Unknown (x) y = Add (x, u)", "float[..]"),
        ],
    );
}

#[test]
fn sizes_are_followed_through_the_operators_that_compute_them() {
    let cases = [
        ("s = Shape (x)", "N 3 H W"),
        (
            "a = Shape (x) i = Constant <value_ints = [0, 2]> () s = Gather (a, i)",
            "N H",
        ),
        (
            "a = Shape <start = -2> (x) s = ReduceProd <keepdims = 0> (a)",
            "H*W",
        ),
        ("s = Size (x)", "3*H*N*W"),
        (
            "a = Shape (x) two = Constant <value_int = 2> () b = Mul (a, two) s = Div (b, two)",
            "N 3 H W",
        ),
        (
            "a = Shape <start = 2> (x) k = Constant <value_ints = [7]> () m = Mod (a, k) d = Sub (a, m) s = Mod (d, k)",
            "0 0",
        ),
        (
            "a = Shape <end = 2> (x) c = Cast <to = 1> (a) h = Constant <value_float = 2.0> () d = Mul (c, h) f = Floor (d) s = Cast <to = 7> (f)",
            "2*N 6",
        ),
        (
            "a = Shape (x) b = ConstantOfShape <value = int64[1] {1}> (a) s = Shape (b)",
            "N 3 H W",
        ),
        (
            "a = Shape (x) n = Constant <value_ints = [-1]> () e = Equal (a, n) s = Where (e, n, a)",
            "N 3 H W",
        ),
        (
            "z = Constant <value_int = 0> () l = Constant <value_int = 4> () d = Constant <value_int = 2> () s = Range (z, l, d)",
            "0 2",
        ),
        (
            "a = Shape (x) p = Constant <value_ints = [2, 2]> () q = Reshape (a, p) t = Transpose (q) f = Constant <value_ints = [-1]> () s = Reshape (t, f)",
            "N H 3 W",
        ),
        (
            "a = Shape (x) s1, s2 = Split <num_outputs = 2> (a) s = Concat <axis = 0> (s2, s1)",
            "H W N 3",
        ),
        (
            "a = Shape (x) u = Unsqueeze (a, z) z = Constant <value_ints = [0]> () s = Squeeze (u, z)",
            "N 3 H W",
        ),
        (
            "a = Shape (x) b = Max (a, o) o = Constant <value_int = 5> () s = Min (b, o)",
            "5 5 5 5",
        ),
    ];
    for (nodes, expected) in cases {
        let model = inferred(&format!("g (float[N, 3, H, W] x) => (s) {{ {nodes} }}"));
        assert_eq!(content_of(&model.graph, "s"), expected, "{nodes}");
    }
}

#[test]
fn unnamed_sizes_of_inputs_are_equal_to_themselves_and_stay_private() {
    let model =
        inferred("g (float[?, 4] x, float[?, 4] z) => (y, u) { a = Relu (x) y = Add (x, a) u = Add (x, z) }");
    let graph = &model.graph;
    let ty = graph.ty(graph.find_value("y").unwrap());
    let symbol = ty.shape().unwrap()[0].as_symbol().unwrap();
    assert!(is_private_symbol(symbol));
    assert_eq!(public_type(ty).to_string(), "float[?, 4]");
    assert_eq!(type_of(graph, "u"), "float[?, 4]");
    // The declaration itself stays as it was.
    assert_eq!(type_of(graph, "x"), "float[?, 4]");
}

#[test]
fn declarations_fill_gaps_and_never_win() {
    let text = "g (float[N, 4] x) => (float[N, 5] y) <float[N, 7] a, float[N, 2] u> { a = Relu (x) u = f.Opaque (a) y = Neg (a) }";
    let mut model = model(text, "");
    let report = infer(&mut model);
    assert_eq!(type_of(&model.graph, "a"), "float[N, 4]");
    assert_eq!(type_of(&model.graph, "u"), "float[N, 2]");
    let found: Vec<_> = report
        .contradictions
        .iter()
        .map(|c| (&*c.value, &*c.declared, &*c.inferred))
        .collect();
    assert_eq!(
        found,
        [
            ("a", "float[N, 7]", "float[N, 4]"),
            ("y", "float[N, 5]", "float[N, 4]")
        ]
    );
}

fn body<'m>(model: &'m Model, op_type: &str) -> (&'m Graph, NodeId) {
    let graph = &model.graph;
    let owner = graph
        .node_ids()
        .find(|id| graph.operator(*id).is_some_and(|operator| operator.is(op_type)))
        .unwrap();
    let (index, body) = graph.operator(owner).unwrap().bodies().next().unwrap();
    assert_eq!(index.index, 0);
    (body, owner)
}

#[test]
fn bodies_know_what_they_capture_and_branches_are_joined() {
    let text = "g (bool c, float[N, 4] x) => (y) {
        k = Constant <value_ints = [0]> ()
        y = If (c) <
            then_branch = t () => (float p) { p = Unsqueeze (x, k) },
            else_branch = e () => (float q) { r = Neg (x) q = Unsqueeze (r, k) }>
    }";
    let model = inferred(text);
    assert_eq!(type_of(&model.graph, "y"), "float[1, N, 4]");
    let (then, _) = body(&model, "If");
    let capture = then.find_value("k").unwrap();
    assert!(matches!(
        then.get(capture.node).unwrap().kind,
        NodeKind::Capture(_)
    ));
    assert_eq!(then.constant(capture).unwrap().to_i64().unwrap(), [0]);
    assert_eq!(type_of(then, "p"), "float[1, N, 4]");
}

#[test]
fn the_state_of_a_loop_widens_until_it_is_stable() {
    let text = "g (int64 n, float[1, D] x) => (s, t, all) {
        yes = Constant <value = bool {1}> ()
        s, t, all = Loop (n, yes, x, x) <body = b (int64 i, bool c, float[?, ?] a, float[?, ?] k) => (bool c2, float a2, float k2, float o) {
            c2 = Identity (c)
            a2 = Concat <axis = 0> (a, x)
            k2 = Relu (k)
            o = Identity (k)
        }>
    }";
    let model = inferred(text);
    // One grows with each iteration, the other keeps its shape; there are as many scanned slices as iterations.
    assert_eq!(type_of(&model.graph, "s"), "float[?, D]");
    assert_eq!(type_of(&model.graph, "t"), "float[1, D]");
    assert_eq!(type_of(&model.graph, "all"), "float[?, 1, D]");
    let text = text
        .replace("int64 n, ", "")
        .replace("yes =", "n = Constant <value_int = 6> () yes =");
    assert_eq!(type_of(&inferred(&text).graph, "all"), "float[6, 1, D]");
}

#[test]
fn scan_takes_an_axis_away_and_gives_one_back() {
    let text = "g (float[H] h, float[T, N] x) => (s, all) {
        s, all = Scan (h, x) <num_scan_inputs = 1, scan_output_axes = [1],
            body = b (float a, float e) => (float a2, float o) { a2 = Relu (a) o = Neg (e) }>
    }";
    let model = inferred(text);
    assert_eq!(type_of(&model.graph, "s"), "float[H]");
    assert_eq!(type_of(&model.graph, "all"), "float[N, T]");
    assert_eq!(type_of(body(&model, "Scan").0, "o"), "float[N]");
}

const CASTS: &str = "<domain: \"f\", opset_import: [\"\" : 21]> cast <to> (x) => (y) { y = Cast <to: int = @to> (x) }
    <domain: \"f\", opset_import: [\"\" : 21, \"f\" : 1]> outer <kind> (x) => (y) { y = f.cast <to: int = @kind> (x) }";
const HALVE: &str = "<domain: \"f\", opset_import: [\"\" : 21]> halve <at> (x) => (y) { y, z = Split <axis: int = @at, num_outputs = 2> (x) }";

#[test]
fn a_function_is_inferred_with_the_types_and_attributes_of_each_call() {
    let main =
        "g (float[N, 4] a, int64[6, 8] b) => (p, q) { p = f.halve <at = 1> (a) q = f.halve <at = 0> (b) }";
    let mut model = model(main, HALVE);
    infer(&mut model);
    assert_eq!(type_of(&model.graph, "p"), "float[N, 2]");
    assert_eq!(type_of(&model.graph, "q"), "int64[3, 8]");
    // In the function itself only what all calls agree on holds.
    assert_eq!(type_of(&model.functions[0].graph, "x"), "?[?, ?]");
}

#[test]
fn a_new_node_is_inferred_by_itself() {
    let mut model = inferred("g (float[N, 4] x) => (y) { y = Relu (x) }");
    let imports = model.opset_imports.clone();
    let graph = &mut model.graph;
    let y = graph.find_value("y").unwrap();
    let mut edit = graph.edit("test");
    let axes = edit.add_constant("axes", Tensor::vector_i64(&[0]));
    let unsqueeze = Operator::new("Unsqueeze");
    let node = edit
        .add_operator(y.node, unsqueeze, &[Some(y), Some(axes)], vec![Value::named("u")])
        .unwrap();
    drop(edit);
    infer_node(graph, node, &imports);
    assert_eq!(graph.ty(ValueId::new(node, 0)).to_string(), "float[1, N, 4]");
}

#[test]
fn needed_nodes_are_those_that_outputs_depend_on() {
    let text = "g (bool c, float x) => (y) {
        a = Relu (x) dead = Neg (a) also = Exp (dead) r = RandomNormal <shape = [1]> ()
        y = If (c) <then_branch = t () => (float p) { p = Abs (a) }, else_branch = e () => (float q) { q = RandomNormalLike (x) }>
    }";
    let model = inferred(text);
    let graph = &model.graph;
    let node = |name: &str| graph.find_value(name).unwrap().node;
    let needed = needed(graph);
    assert!(
        ["a", "x", "y", "c"]
            .iter()
            .all(|name| needed.contains(&node(name)))
    );
    assert!(
        ["dead", "also", "r"]
            .iter()
            .all(|name| !needed.contains(&node(name)))
    );
    // The If has a random operator in a branch.
    assert_eq!(
        [
            is_pure(graph, node("a")),
            is_pure(graph, node("r")),
            is_pure(graph, node("y"))
        ],
        [true, false, false]
    );
}

#[test]
fn cost_counts_shared_weights_once_and_binds_symbols() {
    let text =
        "g (float[N, 3, 8, 8] x) => (y) <float[16, 3, 3, 3] w = {KERNEL}, float[16, 10] m = {MATRIX}> {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)
        p = GlobalAveragePool (c)
        s = Constant <value_ints = [0, -1]> ()
        f = Reshape (p, s)
        y = MatMul (f, m)
    }";
    let numbers = |count: usize| vec!["1"; count].join(", ");
    let text = text
        .replace("KERNEL", &numbers(16 * 27))
        .replace("MATRIX", &numbers(160));
    let model = inferred(&text);
    let found = cost(&model, &|_| None);
    assert_eq!((found.nodes, found.parameters), (4, 16 * 27 + 160));
    assert_eq!(found.macs, Some(16 * 64 * 27 + 160));
    let batch = cost(&model, &|name| (name == "N").then_some(5));
    assert_eq!(batch.macs, Some(5 * (16 * 64 * 27 + 160)));
    let labels: Vec<_> = found
        .by_node
        .iter()
        .map(|node| (&*node.op_type, node.macs))
        .collect();
    assert_eq!(labels, [("Conv", Some(16 * 64 * 27)), ("MatMul", Some(160))]);
}

#[test]
fn cost_counts_every_query_with_every_key_and_says_where_it_cannot_count() {
    let macs = |text: &str| {
        let mut model = secateur::format::lift(
            secateur::format::text::parse_model(&format!(
                "<ir_version: 10, opset_import: [\"\" : 27]> {text}"
            ))
            .unwrap(),
            &secateur::format::ExternalFiles::default(),
        )
        .unwrap();
        infer(&mut model);
        cost(&model, &|_| None).macs
    };
    let heads = "g (float[2, 3, 4, 8] q, float[2, 3, 5, 8] k, float[2, 3, 5, 6] v) => (y) { y = Attention (q, k, v) }";
    assert_eq!(macs(heads), Some(2 * 3 * 4 * 5 * (8 + 6)));
    let packed = "g (float[2, 4, 24] q, float[2, 5, 24] k, float[2, 5, 18] v) => (y) {
        y = Attention <q_num_heads = 3, kv_num_heads = 3> (q, k, v) }";
    assert_eq!(macs(packed), macs(heads));
    let linear = "g (float[2, 4, 24] q, float[2, 4, 24] k, float[2, 4, 18] v) => (y) {
        y = LinearAttention <q_num_heads = 3, kv_num_heads = 3> (q, k, v) }";
    assert_eq!(macs(linear), None);
}

/// Calls of one function with other sizes, an attribute that decides about sizes, and a call within a call.
#[test]
fn cost_counts_functions_by_each_of_their_calls() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2, 8] x, float[8, 16] v, float[16, 4] w) => (float[2, 4] y, float[16, 16] z) {
          h = local.layer (x, v)
          y = local.twice (h, w)
          z = local.turned <way: int = 1> (v)
        }
        <domain: "local", opset_import: ["" : 17]> layer (a, b) => (c) { p = MatMul (a, b)  c = Relu (p) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]> twice (a, b) => (c) {
          p = local.layer (a, b)  q = local.layer (a, b)  c = Add (p, q) }
        <domain: "local", opset_import: ["" : 17]> turned <way> (a) => (d) {
          e = Gemm <transA: int = @way> (a, a)  d = Identity (e) }"#;
    let message = secateur::format::text::parse_model(text).unwrap();
    let mut model = secateur::format::lift(message, &secateur::format::ExternalFiles::default()).unwrap();
    infer(&mut model);
    let found = cost(&model, &|_| None);
    let calls: Vec<_> = found
        .by_node
        .iter()
        .map(|node| (&*node.op_type, node.macs))
        .collect();
    let (layer, twice, turned) = (2 * 8 * 16, 2 * 2 * 16 * 4, 16 * 16 * 8);
    assert_eq!(
        calls,
        [
            ("layer", Some(layer)),
            ("twice", Some(twice)),
            ("turned", Some(turned))
        ]
    );
    assert_eq!(found.macs, Some(layer + twice + turned));
    // Nodes are those of the file.
    assert_eq!(found.nodes, 3 + 2 + 3 + 2);
}

#[track_caller]
fn refused(model: &Model, code: &str) {
    let codes: Vec<_> = check(model)
        .err()
        .into_iter()
        .flatten()
        .map(|error| error.code())
        .collect();
    assert_eq!(codes.first(), Some(&code), "{codes:?}");
}

#[test]
fn checks_name_what_is_wrong() {
    let cases = [
        ("g (float[N] x) => (float[N] y) { y = Relu (x) }", "ok"),
        ("g (float[N] x) => (int64[N] y) { y = Relu (x) }", "type-mismatch"),
        (
            "g (float[N] x, int64[N] z) => (y) { y = Add (x, z) }",
            "type-mismatch",
        ),
        // A wrong shape is a warning of inference.
        ("g (float[4] x) => (float[5] y) { y = Relu (x) }", "ok"),
        (
            "g (float[N] x) => (y) { y = Relu <alpha = 1.0> (x) }",
            "unknown-attribute",
        ),
        (
            "g (float[N] x) => (y) { y = Concat <axis = 1.5> (x) }",
            "attribute-type",
        ),
        ("g (float[N] x) => (y) { y = Add (x) }", "wrong-arity"),
        (
            "g (float[N] x) => (y) { y = Upsample (x, x) }",
            "deprecated-operator",
        ),
        ("g (float[N] x) => (y) { y = Frobnicate (x) }", "unknown-operator"),
        (
            "g (float[N] x) => (y) { y = other.Frobnicate (x) }",
            "missing-opset-import",
        ),
        (
            "g (float[N] x) => (y) { y = com.microsoft.Frobnicate <any = 1> (x, x) }",
            "ok",
        ),
        ("g (float[N] x) => (y) { y = Neg (y) }", "cycle"),
        // What refers to an attribute that a call leaves out is left out itself, where it may be.
        ("g (float[N] x) => (y) { y = f.halve (x) }", "ok"),
        ("g (float[N] x) => (y) { y = f.cast (x) }", "missing-attribute"),
        ("g (float[N] x) => (y) { y = f.outer (x) }", "missing-attribute"),
        ("g (float[N] x) => (y) { y = f.outer <kind = 7> (x) }", "ok"),
    ];
    for (text, expected) in cases {
        let model = model(text, &format!("{HALVE} {CASTS}"));
        match expected {
            "ok" => assert_eq!(check(&model), Ok(()), "{text}"),
            code => refused(&model, code),
        }
    }
}

#[test]
fn order_is_only_asked_of_files_and_names_only_of_files() {
    let mut model = model("g (float[N] x) => (y) { y = Neg (a) a = Relu (x) }", "");
    assert_eq!(check(&model), Ok(()));
    let codes: Vec<_> = check_as_read(&model)
        .unwrap_err()
        .iter()
        .map(|error| error.code())
        .collect();
    assert_eq!(codes, ["not-sorted"]);
    let y = model.graph.find_value("a").unwrap();
    let mut edit = model.graph.edit("test");
    edit.add_operator(y.node, Operator::new("Exp"), &[Some(y)], vec![Value::default()])
        .unwrap();
    drop(edit);
    assert_eq!(check(&model), Ok(()));
}

/// Loops within loops, each of which lets its state grow: what is known of it must not be looked for anew in each of the loops
/// around.
#[test]
fn loops_within_loops_are_inferred_in_time() {
    let nested = |levels: usize| {
        let mut body = "b0 = Concat <axis = 0> (s0, x)".to_owned();
        for level in 1..=levels {
            let inner = level - 1;
            body = format!(
                "b{level} = Loop (n, yes, s{level}) <body = g{level} (int64 i{level}, bool c{level}, float[?] s{inner}) => (bool d{level}, float[?] b{inner}) {{ d{level} = Identity (c{level}) {body} }}>"
            );
        }
        format!(
            "m (float[1] x, int64 n, bool yes) => (float[?] y) {{ s{levels} = Identity (x) {body} y = Identity (b{levels}) }}"
        )
    };
    let started = std::time::Instant::now();
    let model = inferred(&nested(24));
    assert_eq!(type_of(&model.graph, "y"), "float[?]");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn exponential_calls_end() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malice/exponential-functions.onnx");
    let proto = prost::Message::decode(Bytes::from(std::fs::read(path).unwrap())).unwrap();
    let mut model = lift(proto, &ExternalFiles::default()).unwrap();
    let start = std::time::Instant::now();
    infer(&mut model);
    assert!(start.elapsed().as_secs() < 1, "{:?}", start.elapsed());
}
