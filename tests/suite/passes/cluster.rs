//! Weights that share values: what they become, that the graph computes what floats with these values compute, zeros, bits and reasons.

use std::collections::BTreeMap;
use std::path::Path;

use secateur::analysis::linear;
use secateur::data::{Dataset, Spec};
use secateur::ir::Graph;
use secateur::passes::{Cluster, ClusterForm, CodeType, LayerBits, ResourceError, Simplify, Weighting};
use secateur::quantize::Start;

use super::rounding::fixture;
use super::*;

/// Labelled digits for every role.
pub(super) struct Labelled;

impl Resources for Labelled {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec = Spec {
            npz: Some(fixture("data/digits_calib.npz")),
            labels: Some("y".to_owned()),
            ..Spec::default()
        };
        Dataset::open(&spec, Path::new(""), graph).map_err(ResourceError::from)
    }

    fn jobs(&self) -> usize {
        2
    }
}

pub(super) fn cluster(bits: f64) -> Cluster {
    Cluster {
        bits,
        ..Cluster::default()
    }
}

/// Numbers of a weight; every eighth is zero where `zeros`.
fn list(count: usize, seed: f32, zeros: bool) -> String {
    let value = |at: usize| match zeros && at.is_multiple_of(8) {
        true => 0.0,
        false => (at as f32 * 1.37 + seed).sin() + 0.3 * (at as f32 * 0.11 + seed).cos(),
    };
    let all: Vec<String> = (0..count).map(|at| value(at).to_string()).collect();
    all.join(", ")
}

/// A convolution, a product on the right, a Gemm that transposes, and a table that is gathered and multiplied with.
fn network(opset: u32) -> String {
    let ir = if opset >= 21 { 10 } else { 8 };
    format!(
        r#"<ir_version: {ir}, opset_import: ["" : {opset}]>
        m (float[2, 4, 6, 6] x, int64[3] i) => (float[2, 24] y, float[3, 16] r, float[2, 16] t) <float[16, 4, 3, 3] k = {{{}}}, float[16, 32] w = {{{}}},
          float[24, 32] g = {{{}}}, float[16, 16] e = {{{}}}> {{
          c = Conv (x, k) a = Relu (c) p = GlobalAveragePool (a) f = Flatten (p)
          h = MatMul (f, w) s = Relu (h) y = Gemm <transB = 1> (s, g) r = Gather (e, i) t = MatMul (f, e)
        }}"#,
        list(16 * 4 * 9, 0.0, false),
        list(16 * 32, 1.0, true),
        list(24 * 32, 2.0, false),
        list(16 * 16, 3.0, false),
    )
}

pub(super) fn run(pass: &Cluster, model: &Model) -> (Model, PassReport) {
    let mut made = model.clone();
    let report = run_with(pass, &mut made, &Setting::default(), Some(&Labelled))
        .unwrap_or_else(|error| panic!("{error}"));
    secateur::analysis::check(&made).unwrap_or_else(|errors| panic!("{errors:?}"));
    lines(&made);
    (made, report)
}

fn constant(graph: &Graph, name: &str) -> Tensor {
    let value = graph.find_value(name).unwrap_or_else(|| panic!("no {name}"));
    graph
        .constant(value)
        .unwrap_or_else(|| panic!("{name} is no constant"))
        .clone()
}

/// Codes and codebook of each weight of the main graph, by the names that they begin with.
pub(super) fn shared(model: &Model) -> BTreeMap<String, (Tensor, Tensor)> {
    let graph = &model.graph;
    let mut found = BTreeMap::new();
    for id in graph.node_ids() {
        let Some(book) = linear::codebook(graph, id) else {
            continue;
        };
        let name = graph.value(book).unwrap().name.to_string();
        let name = name.strip_suffix("_codebook").unwrap().to_owned();
        let codes = constant(graph, &format!("{name}_codes"));
        found.insert(name, (codes, graph.constant(book).unwrap().clone()));
    }
    found
}

fn looked_up((codes, book): &(Tensor, Tensor)) -> Vec<f64> {
    let book = book.to_f64().unwrap();
    codes
        .to_i64()
        .unwrap()
        .into_iter()
        .map(|code| book[code as usize])
        .collect()
}

/// The model with the values that its weights share as floats.
fn as_floats(before: &Model, made: &Model) -> Model {
    let mut floats = before.clone();
    for (name, one) in shared(made) {
        let weight = floats.graph.find_value(&name).unwrap();
        let tensor = constant(&floats.graph, &name);
        let tensor = Tensor::from_f64(tensor.dtype(), tensor.dims(), &looked_up(&one)).unwrap();
        floats
            .graph
            .edit("test")
            .set_constant(weight.node, tensor)
            .unwrap();
    }
    floats
}

fn same_as_floats(before: &Model, made: &Model) {
    let lowered = |model: &Model| secateur::lower::for_engine(model, &TractEngine).unwrap();
    assert!(outputs(&lowered(made)).is_some(), "it does not run");
    same_outputs(&lowered(&as_floats(before, made)), &lowered(made), "clustered");
}

fn changed(report: &PassReport) -> &secateur::passes::Change {
    let change = |change: &&secateur::passes::Change| change.rule == "weight shares values";
    report.changes.iter().find(change).unwrap()
}

#[test]
fn weights_become_codes_and_compute_what_floats_with_their_values_compute() {
    for (opset, bits, codes, dtype) in [
        (17, 4.0, CodeType::Auto, DType::U8),
        (21, 4.0, CodeType::Auto, DType::U4),
        (21, 5.0, CodeType::Uint4, DType::U8),
        (21, 2.0, CodeType::Uint8, DType::U8),
        (17, 3.0, CodeType::Uint4, DType::U4),
        (11, 6.0, CodeType::Auto, DType::U8),
    ] {
        let before = model(&network(opset));
        let pass = Cluster {
            codes,
            ..cluster(bits)
        };
        let (made, report) = run(&pass, &before);
        let found = shared(&made);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["e", "g", "k", "w"],
            "{report:#?}"
        );
        assert_eq!(changed(&report).count, 4);
        for (name, (codes, book)) in &found {
            // Rows of a table are gathered as whole bytes.
            let expected = if name == "e" { DType::U8 } else { dtype };
            assert_eq!(codes.dtype(), expected, "{name} at opset {opset}");
            assert!(book.elements() <= 1 << bits as u32, "{name}");
            assert_eq!(codes.dims(), constant(&before.graph, name).dims());
        }
        same_as_floats(&before, &made);
        let (bytes, fewer) = (
            secateur::passes::file_bytes(&before),
            secateur::passes::file_bytes(&made),
        );
        assert!(fewer.unwrap() < bytes.unwrap());
        // What is looked up keeps its name and is no constant any more.
        let w = made.graph.find_value("w").unwrap();
        assert!(linear::codebook(&made.graph, w.node).is_some());
        if codes == CodeType::Uint4 {
            assert_eq!(made.opset(), Some(21));
        }
    }
}

#[test]
fn rows_of_a_table_are_gathered_as_codes() {
    let (made, _) = run(&cluster(4.0), &model(&network(17)));
    let text = lines(&made).join("\n");
    assert!(text.contains("r_codes = Gather (e_codes, i)"), "{text}");
    assert!(text.contains("r = Gather (e_codebook, r_indices)"), "{text}");
    assert!(text.contains("t = MatMul (f, e)"), "{text}");
}

#[test]
fn the_float_form_has_the_same_values_and_no_new_node() {
    let before = model(&network(17));
    let pass = Cluster {
        form: ClusterForm::Float,
        ..cluster(3.0)
    };
    let (floats, report) = run(&pass, &before);
    let (codes, _) = run(&cluster(3.0), &before);
    for (name, one) in shared(&codes) {
        assert_eq!(
            constant(&floats.graph, &name).to_f64().unwrap(),
            looked_up(&one),
            "{name}"
        );
    }
    assert_eq!(floats.graph.node_ids().count(), before.graph.node_ids().count());
    assert_eq!(changed(&report).count, 4);
    let (_, again) = run(&pass, &floats);
    assert!(!again.changed);
    assert!(said(&again).contains("it has as few values already"), "{again:?}");
}

#[test]
fn zeros_stay_zero_and_nothing_else_becomes_zero() {
    let before = model(&network(17));
    let w = constant(&before.graph, "w").to_f64().unwrap();
    for initialisation in [Start::Exact, Start::Linear, Start::Density, Start::KmeansPlusPlus] {
        for bits in [1.0, 4.0] {
            let pass = Cluster {
                initialisation,
                ..cluster(bits)
            };
            let found = looked_up(&shared(&run(&pass, &before).0)["w"]);
            for (before, after) in w.iter().zip(&found) {
                assert_eq!(*before == 0.0, *after == 0.0, "{initialisation:?} {bits}");
            }
        }
    }
    let free = Cluster {
        keep_zeros: false,
        ..cluster(2.0)
    };
    let found = looked_up(&shared(&run(&free, &before).0)["w"]);
    assert!(found.iter().all(|value| *value != 0.0));
}

#[test]
fn threads_change_nothing() {
    let before = model(&network(17));
    let passes = [
        cluster(4.0),
        cluster(3.3),
        Cluster {
            initialisation: Start::KmeansPlusPlus,
            ..cluster(3.0)
        },
    ];
    for pass in passes {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| secateur::ir::model_digest(&run(&pass, &before).0))
        };
        assert_eq!(on(1), on(3), "{pass:?}");
    }
}

#[test]
fn a_mean_is_dealt_where_bits_lower_the_error_most() {
    // `w` has five values, `g` very many.
    let values = |at: usize| ["0.5", "-1", "2", "0.25", "-3"][at % 5];
    let few: Vec<&str> = (0..40 * 40).map(values).collect();
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[2, 40] x) => (float[2, 40] y) <float[40, 40] w = {{{}}}, float[40, 40] g = {{{}}}> {{ h = MatMul (x, w) s = Relu (h) y = MatMul (s, g) }}"#,
        few.join(", "),
        list(1600, 0.7, false),
    );
    let before = model(&text);
    let (made, report) = run(&cluster(4.5), &before);
    let found = shared(&made);
    assert_eq!(found["w"].1.elements(), 5);
    assert_eq!(
        looked_up(&found["w"]),
        constant(&before.graph, "w").to_f64().unwrap()
    );
    let details = &changed(&report).details;
    assert!(
        details[0].starts_with("w: 5 values, 3 bits in uint8, 0.000 %"),
        "{details:?}"
    );
    assert!(details[1].starts_with("g: 64 values, 6 bits"), "{details:?}");
    assert_eq!(details[2], "all: 4.500 bits a weight");
    // A layer with bits of its own has no part in the mean.
    let pass = Cluster {
        layers: vec![LayerBits {
            pattern: "^w$".to_owned(),
            bits: Some(1),
        }],
        ..cluster(5.5)
    };
    let (made, _) = run(&pass, &before);
    assert_eq!(
        (shared(&made)["w"].1.elements(), shared(&made)["g"].1.elements()),
        (2, 32)
    );
    same_as_floats(&before, &made);
}

#[test]
fn what_is_left_alone_has_its_reason() {
    let before = model(&network(17));
    let pass = Cluster {
        minimum_elements: 300,
        exclude: vec!["^h$".to_owned()],
        layers: vec![LayerBits {
            pattern: "^k$".to_owned(),
            bits: None,
        }],
        ..cluster(4.0)
    };
    let (made, report) = run(&pass, &before);
    assert_eq!(shared(&made).keys().collect::<Vec<_>>(), ["g"]);
    for reason in [
        "its weight has few elements",
        "excluded (h)",
        "so `layers` says (c)",
    ] {
        assert!(said(&report).contains(reason), "{reason}: {}", said(&report));
    }
    let mut kept = before.clone();
    let report = run_pass(&cluster(4.0), &mut kept, &keep(&["^y$"])).unwrap();
    assert!(
        said(&report).contains("protected by keep (y)"),
        "{}",
        said(&report)
    );
    // Codes of 8 bits and 256 floats are no less than 256 floats.
    let small = model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]> m (float[2, 16] x) => (float[2, 16] y) <float[16, 16] w = {{{}}}> {{ y = MatMul (x, w) }}"#,
        list(256, 0.0, false)
    ));
    let (same, report) = run(&cluster(8.0), &small);
    assert_eq!(lines(&same), lines(&small));
    assert!(!report.changed && report.changes.is_empty());
    assert!(
        said(&report).contains("would take as much as its floats"),
        "{report:?}"
    );
    let infinite = model(
        r#"<ir_version: 8, opset_import: ["" : 17]> m (float[2, 2] x) => (float[2, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }"#,
    );
    let mut infinite = infinite;
    let weight = infinite.graph.find_value("w").unwrap();
    let tensor = Tensor::from_slice(&[2, 2], &[1f32, f32::NAN, 2.0, 3.0]).unwrap();
    infinite
        .graph
        .edit("test")
        .set_constant(weight.node, tensor)
        .unwrap();
    let pass = Cluster {
        minimum_elements: 1,
        ..cluster(1.0)
    };
    let (_, report) = run(&pass, &infinite);
    assert!(
        !report.changed && said(&report).contains("is not finite"),
        "{report:?}"
    );
    let none = check_untouched(
        &cluster(4.0),
        r#"<ir_version: 8, opset_import: ["" : 17]> m (float[2, 2] x) => (float[2, 2] y) { y = Relu (x) }"#,
        &Setting::default(),
    );
    assert!(said(&none).contains("nothing to share values"), "{}", said(&none));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |pass: Cluster| {
        let mut model = model(&network(17));
        run_pass(&pass, &mut model, &Setting::default())
            .unwrap_err()
            .to_string()
    };
    let layer = |pattern: &str, bits| {
        vec![LayerBits {
            pattern: pattern.to_owned(),
            bits,
        }]
    };
    for (pass, expected) in [
        (cluster(0.5), "bits: 0.5 is not in 1 to 8"),
        (cluster(f64::NAN), "bits: NaN is not in 1 to 8"),
        (
            Cluster {
                layers: layer("w", Some(9)),
                ..cluster(4.0)
            },
            "layers: 9 bits for w are not 1 to 8",
        ),
        (
            Cluster {
                layers: layer("(", Some(2)),
                ..cluster(4.0)
            },
            "layers: \"(\" is not a regular expression",
        ),
        (
            Cluster {
                exclude: vec!["(".to_owned()],
                ..cluster(4.0)
            },
            "exclude: \"(\" is not a regular expression",
        ),
        (
            Cluster {
                operators: vec!["Softmax".to_owned()],
                ..cluster(4.0)
            },
            "operators: Softmax is none of MatMul",
        ),
        (
            Cluster {
                form: ClusterForm::Float,
                codes: CodeType::Uint4,
                ..cluster(4.0)
            },
            "codes: form: float has none",
        ),
        (
            Cluster {
                stats: Some("a".into()),
                ..cluster(4.0)
            },
            "stats: only weighting: gram",
        ),
        (
            Cluster {
                gradient_stats: Some("a".into()),
                ..cluster(4.0)
            },
            "gradient-stats: only weighting: gradients",
        ),
        (
            Cluster {
                weighting: Weighting::Gram,
                ..cluster(4.0)
            },
            "needs calibration data or stats",
        ),
        (
            Cluster {
                weighting: Weighting::Gradients,
                ..cluster(4.0)
            },
            "weighting: gradients needs labelled data",
        ),
    ] {
        let message = refused(pass);
        assert!(
            message.starts_with("cluster: ") && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn shared_weights_stand_once_and_bodies_and_functions_look_up_too() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        m (bool p, float[2, 16] x) => (float[2, 16] y, float[2, 16] z, float[2, 16] q) <float[16, 16] w = {{{0}}}, float[16, 16] o = {{{1}}}> {{
            a = MatMul (x, w)
            n = Transpose (w)
            z = MatMul (x, n)
            y = If (p) <
                then_branch = t () => (float[2, 16] u) {{ h = MatMul (a, w) u = MatMul (h, o) }},
                else_branch = e () => (float[2, 16] v) <float[16, 16] own = {{{1}}}> {{ v = MatMul (a, own) }}
            >
            q = my.Product (a)
        }}
        <domain: "my", opset_import: ["" : 17]> Product (l) => (o) {{ c = Constant <value = float[16, 16] {{{0}}}> () o = MatMul (l, c) }}"#,
        list(256, 0.0, false),
        list(256, 1.0, false),
    );
    let before = model(&text);
    let pass = Cluster {
        prepare: false,
        ..cluster(3.0)
    };
    let (made, report) = run(&pass, &before);
    assert_eq!(changed(&report).count, 4, "{report:#?}");
    let found = shared(&made);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["o", "w"]);
    let lookups = |graph: &Graph| {
        let ids = graph.node_ids();
        ids.filter(|id| linear::codebook(graph, *id).is_some()).count()
    };
    let paths = made.graph_paths();
    let all: Vec<usize> = paths
        .iter()
        .map(|path| lookups(made.graph_at(path).unwrap()))
        .collect();
    assert_eq!(all.iter().sum::<usize>(), 4, "{all:?}");
    assert_eq!(all[0], 2);
}

#[test]
fn weights_of_half_precision_keep_their_type() {
    for (dtype, name) in [(DType::F16, "float16"), (DType::BF16, "bfloat16")] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            m (float[2, 24] x) => (float[2, 24] y) <{name}[24, 24] w = {{{}}}> {{ c = Cast <to = 1> (w) y = MatMul (x, c) }}"#,
            vec!["15360"; 576].join(", ")
        );
        let mut before = model(&text);
        let weight = before.graph.find_value("w").unwrap();
        let values: Vec<f64> = (0..576).map(|at| (f64::from(at) * 0.37).sin()).collect();
        let tensor = Tensor::from_f64(dtype, &[24, 24], &values).unwrap();
        before
            .graph
            .edit("test")
            .set_constant(weight.node, tensor)
            .unwrap();
        let pass = Cluster {
            prepare: false,
            ..cluster(4.0)
        };
        let (made, report) = run(&pass, &before);
        let found = shared(&made);
        assert_eq!(found["w"].1.dtype(), dtype, "{report:?}");
        same_as_floats(&before, &made);
    }
}

#[test]
fn simplify_leaves_codes_as_they_are_whatever_the_file_may_grow_to() {
    for opset in [17, 21] {
        let (made, _) = run(&cluster(4.0), &model(&network(opset)));
        let mut again = made.clone();
        run_pass(&Simplify::default(), &mut again, &growth(100.0)).unwrap();
        assert_eq!(lines(&again), lines(&made));
        let mut twice = made.clone();
        let report = run_pass(&cluster(2.0), &mut twice, &Setting::default()).unwrap();
        assert!(!report.changed, "{report:?}");
        assert!(
            said(&report).contains("its weight is codes already"),
            "{}",
            said(&report)
        );
    }
}
