//! What `verify` calls different, and what it does not: small parts of outputs, models that do not run, sizes at the edge, values at
//! thresholds, interfaces.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use secateur::engine::{CompileOptions, Engine, EngineError, RunValues, Session, TractEngine};
use secateur::evaluate::{State, StateSubject, Task};
use secateur::fold::TractEvaluator;
use secateur::format::{ExternalFiles, lift, text};
use secateur::ir::Model;
use secateur::passes::Limits;
use secateur::pipeline::{self, Pipeline, RunOptions, StepResources, Unchanged};
use secateur::verify::{Verdict, VerifyOptions, VerifyReport, verify};

fn model(text: &str) -> Model {
    let text = format!("<ir_version: 10, opset_import: [\"\" : 21]> g {text}");
    lift(
        text::parse_model(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
        &ExternalFiles::default(),
    )
    .unwrap()
}

fn judged(reference: &str, model_text: &str) -> VerifyReport {
    verify(
        &model(reference),
        &model(model_text),
        &TractEngine,
        &VerifyOptions::default(),
    )
}

/// `verify_small_scores`: pixels of magnitude 600 and scores below 1 in one output, along `axis`; scores from `weight` * x.
fn detector(axis: usize, weight: f64) -> String {
    let (shape, out) = if axis == 1 {
        ("float[N,16,100]", "float[N,32,100]")
    } else {
        ("float[N,100,16]", "float[N,100,32]")
    };
    format!(
        "({shape} x) => ({out} y) <float k = {{600.0}}, float w = {{{weight:?}}}> \
         {{ b = Mul(x, k) v = Mul(x, w) s = Sigmoid(v) y = Concat<axis = {axis}>(b, s) }}"
    )
}

#[test]
fn verify_small_scores_are_judged_by_their_own_scale_and_named() {
    for axis in [1, 2] {
        let reference = detector(axis, 1.0);
        for weight in [1.2, 1.02, 1.002] {
            let found = judged(&reference, &detector(axis, weight));
            assert_eq!(found.verdict, Verdict::Different, "axis {axis}, {weight}");
            let parts = &found.outputs[0].parts;
            assert_eq!(parts.len(), 1, "{parts:?}");
            assert_eq!((parts[0].axis, parts[0].from, parts[0].to), (axis, 16, 31));
        }
        // What float rounds is no difference.
        assert_eq!(
            judged(&reference, &detector(axis, 1.000_000_2)).verdict,
            Verdict::Within
        );
    }
}

#[test]
fn dead_and_cancelling_channels_raise_no_alarm() {
    // The second half of the channels is the difference of two large sums that agree but for rounding.
    let net = |sum: &str| {
        format!(
            "(float[N,8,64] x) => (float[N,16,64] y) <float k = {{1000.1}}> \
             {{ a = Mul(x, k) {sum} d = Sub(s, t) r = Relu(d) y = Concat<axis = 1>(a, r) }}"
        )
    };
    let found = judged(
        &net("b = Add(a, x) s = Add(b, a) c = Add(x, a) t = Add(a, c)"),
        &net("b = Add(a, a) s = Add(b, x) t = Add(x, b)"),
    );
    assert!(
        matches!(found.verdict, Verdict::Equal | Verdict::Within),
        "{found:?}"
    );
}

/// The pairs of `reliability-0.1.0/verify`, and one more of each kind: models that differ in one thing.
#[test]
fn models_that_differ_in_one_thing_are_told_apart() {
    let pairs = [
        (
            "argmax_ties",
            "(float[N,8] x) => (int64[N] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }",
            "(float[N,8] x) => (int64[N] y) { y = ArgMax<axis = 1, keepdims = 0, select_last_index = 1>(x) }",
        ),
        (
            "f16_overflow",
            "(float16[N,4] x) => (float16[N,4] y) { y = Mul(x, x) }",
            "(float16[N,4] x) => (float16[N,4] y) <float c = {65504}> \
             { a = Cast<to = 1>(x) b = Mul(a, a) d = Min(b, c) y = Cast<to = 10>(d) }",
        ),
        (
            "int_overflow",
            "(int32[N,4] x) => (int32[N,4] y) <int32 k = {1}> { y = Add(x, k) }",
            "(int32[N,4] x) => (int32[N,4] y) <float o = {1}> { a = Cast<to = 1>(x) b = Add(a, o) y = Cast<to = 6>(b) }",
        ),
        (
            "large_1e4",
            "(float[N,8] x) => (float[N,8] y) { y = Identity(x) }",
            "(float[N,8] x) => (float[N,8] y) <float l = {-10000}, float h = {10000}> { y = Clip(x, l, h) }",
        ),
        (
            "len_gt_16",
            "(float[N,S] x) => (float[N,S] y) { y = Identity(x) }",
            "(float[N,S] x) => (float[N,T] y) <int64[1] a = {0}, int64[1] b = {16}, int64[1] c = {1}> \
             { y = Slice(x, a, b, c) }",
        ),
        (
            "out_order",
            "(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Abs(x) }",
            "(float[N,4] x) => (float[N,4] z, float[N,4] y) { y = Relu(x) z = Abs(x) }",
        ),
        (
            "small_output_beside_large",
            "(float[N,4] x) => (float[N,8] y) <float k = {1e+06}> { a = Mul(x, k) y = Concat<axis = 1>(a, x) }",
            "(float[N,4] x) => (float[N,8] y) <float k = {1e+06}> \
             { n = Neg(x) a = Mul(x, k) y = Concat<axis = 1>(a, n) }",
        ),
        (
            "softplus_large",
            "(float[N,4] x) => (float[N,4] y) { y = Softplus(x) }",
            "(float[N,4] x) => (float[N,4] y) <float o = {1}> { e = Exp(x) a = Add(e, o) y = Log(a) }",
        ),
        (
            "uint8_wrap",
            "(uint8[N,4] x) => (uint8[N,4] y) { y = Add(x, x) }",
            "(uint8[N,4] x) => (uint8[N,4] y) <int32 m = {255}> \
             { a = Cast<to = 6>(x) b = Add(a, a) c = Min(b, m) y = Cast<to = 2>(c) }",
        ),
        (
            "small_threshold",
            "(float[N,8] x) => (bool[N,8] y) <float c = {3.25}> { y = Greater(x, c) }",
            "(float[N,8] x) => (bool[N,8] y) <float c = {3.25}> { y = GreaterOrEqual(x, c) }",
        ),
        (
            "halves",
            "(float[N,8] x) => (float[N,8] y) { y = Round(x) }",
            "(float[N,8] x) => (float[N,8] y) <float h = {0.5}> { a = Add(x, h) y = Floor(a) }",
        ),
    ];
    for (name, reference, model) in pairs {
        let found = judged(reference, model);
        // Where rounding alone decides, the verdict is that this part is not checked.
        if name == "uint8_wrap" {
            // An engine built with checks of overflow does not run the reference on large numbers.
            let found = judged(reference, model).verdict;
            assert!(
                matches!(found, Verdict::Different | Verdict::NotChecked),
                "{found}"
            );
            continue;
        }
        let wanted = if ["argmax_ties", "small_threshold", "halves"].contains(&name) {
            Verdict::NotChecked
        } else {
            Verdict::Different
        };
        assert_eq!(found.verdict, wanted, "{name}: {found:?}");
        if wanted == Verdict::NotChecked {
            assert!(found.not_checked[0].reason.contains("not compared"), "{found:?}");
        }
        assert_eq!(judged(reference, reference).verdict, Verdict::Equal, "{name}");
    }
}

fn verdict(reference: &str, model: &str) -> Verdict {
    judged(reference, model).verdict
}

/// Whole numbers, divided by 41 and multiplied by it: some are off by a rounding, which no rounding of the inputs shows.
#[test]
fn truth_that_hangs_on_rounding_on_the_way_is_no_difference() {
    let head = "(int32[N,16] x) => (bool[N,16] y) <float k = {41}";
    let reference = format!("{head}> {{ f = Cast<to = 1>(x) d = Div(f, k) m = Mul(d, k) y = Less(m, f) }}");
    let same = format!("{head}> {{ f = Cast<to = 1>(x) y = Less(f, f) }}");
    assert!(matches!(
        verdict(&reference, &same),
        Verdict::Within | Verdict::NotChecked
    ));
    // 4 / 41 and 5 / 41 are far from both thresholds.
    let below = |threshold: &str| {
        format!("{head}, float c = {{{threshold}}}> {{ f = Cast<to = 1>(x) d = Div(f, k) y = Less(d, c) }}")
    };
    assert_eq!(verdict(&below("0.11"), &below("0.13")), Verdict::Different);
    // Whole numbers that are added are not rounded, so that a tie of theirs is none by chance.
    let counted = |operator: &str| {
        format!(
            "{head}> {{ f = Cast<to = 1>(x) d = Add(f, f) g = Add(d, d) m = Sub(g, k) y = {operator}(m, f) }}"
        )
    };
    assert_eq!(
        verdict(&counted("Equal"), &counted("Greater")),
        Verdict::Different
    );
}

/// Each time a form that rounds, overflows or ends at a pole in another way, and one that is another function.
#[test]
fn what_rounding_leaves_unknown_is_no_difference_and_other_functions_are() {
    let half = |body: &str| {
        format!("(float16[N,8] x) => (float16[N,8] y) <float f = {{1}}> {{ o = Cast<to = 10>(f) {body} }}")
    };
    let norm = |body: &str| format!("(float16[N,8] x) => (float16[N,1] y) <int64[1] a = {{1}}> {{ {body} }}");
    let over = |sum: &str, scale: &str| {
        format!(
            "(float[N,8] x) => (float[N,8] y) <float b = {{-1.4931729}}, float c = {{-0.8550177}}, float s = {{-2.3481906}}, \
             float k = {{{scale}}}> {{ {sum} n = Add(d, k) y = Div(n, d) }}"
        )
    };
    let cases = [
        (
            "squares that overflow in float16",
            norm("q = Mul(x, x) s = ReduceSum(q, a) y = Sqrt(s)"),
            norm("y = ReduceL2(x, a)"),
            norm("y = ReduceL1(x, a)"),
        ),
        (
            "the tails of softplus in float16",
            half("e = Exp(x) s = Add(e, o) y = Log(s)"),
            half("y = Softplus(x)"),
            half("y = Elu(x)"),
        ),
        (
            "the tail of the logarithm of softmax in float16",
            half("p = Softmax(x) l = Log(p) y = Mul(l, l)"),
            half("l = LogSoftmax(x) y = Mul(l, l)"),
            half("l = LogSoftmax(x) y = Neg(l)"),
        ),
        (
            "next to a pole",
            over("e = Add(x, b) d = Add(e, c)", "0.8"),
            over("d = Add(x, s)", "0.8"),
            over("d = Add(x, s)", "0.9"),
        ),
    ];
    for (name, reference, same, other) in cases {
        assert_ne!(verdict(&reference, &same), Verdict::Different, "{name}");
        assert_eq!(verdict(&reference, &other), Verdict::Different, "{name}");
    }
}

#[test]
fn what_hangs_on_an_overflow_of_the_reference_is_not_checked() {
    let parts = |threshold: &str| {
        format!(
            "(float[N,8] x) => (bool[N,8] y) <float c = {{{threshold}}}, int64[1] a = {{1}}> \
             {{ e = Exp(x) s = ReduceSum(e, a) p = Div(e, s) y = LessOrEqual(p, c) }}"
        )
    };
    let whole = |threshold: &str| {
        format!(
            "(float[N,8] x) => (bool[N,8] y) <float c = {{{threshold}}}> {{ p = Softmax(x) y = LessOrEqual(p, c) }}"
        )
    };
    assert_eq!(verdict(&parts("3"), &whole("3")), Verdict::NotChecked);
    assert_eq!(verdict(&parts("0.2"), &whole("0.1")), Verdict::Different);
    // float16: squares of large numbers are infinite, and the quotient by their root is 0.
    let half = |body: &str| {
        format!(
            "(float16[N,8] x) => (float16[N,8] y) <float e = {{0.001}}, float t = {{1.5}}, int64[1] a = {{1}}> {{ {body} }}"
        )
    };
    let reference = half(
        "h = Cast<to = 10>(e) k = Cast<to = 10>(t) q = Mul(x, x) m = ReduceMean(q, a) v = Add(m, h) r = Sqrt(v) \
         n = Div(x, r) y = Mul(n, k)",
    );
    let wide = |end: &str| {
        half(&format!(
            "f = Cast<to = 1>(x) q = Mul(f, f) m = ReduceMean(q, a) v = Add(m, e) r = Sqrt(v) n = Div(f, r) z = Mul(n, t) \
             {end}"
        ))
    };
    assert_eq!(
        verdict(&reference, &wide("y = Cast<to = 10>(z)")),
        Verdict::NotChecked
    );
    assert_eq!(
        verdict(&reference, &wide("b = Abs(z) y = Cast<to = 10>(b)")),
        Verdict::Different
    );
    // A pole is no overflow.
    let guarded = "(float[N,8] x) => (float[N,8] y) <float z = {0}> { p = Equal(x, z) r = Reciprocal(x) y = Where(p, z, r) }";
    let bare = "(float[N,8] x) => (float[N,8] y) { y = Reciprocal(x) }";
    assert_eq!(verdict(guarded, bare), Verdict::Different);
}

#[test]
fn chaos_all_is_not_checked_from_zeros_alone() {
    let found = judged(
        "(float[N,8] x) => (float[N,8] y) <float k = {1e+07}> { a = Mul(x, k) y = Sin(a) }",
        "(float[N,8] x) => (float[N,8] y) <float k = {1e+07}> { a = Mul(x, k) b = Sin(a) y = Neg(b) }",
    );
    assert!(
        matches!(found.verdict, Verdict::NotChecked | Verdict::Different),
        "{found:?}"
    );
    assert!(found.sensitive > 0);
}

#[test]
fn empty_batch_hw_is_tried_without_a_sample() {
    let reference = "(float[N,3,H,W] x) => (float[N,L,3] y) <int64[1] m = {-1}, int64[1] t = {3}> \
                     { n = Shape<start = 0, end = 1>(x) h = Shape<start = 2, end = 3>(x) w = Shape<start = 3, end = 4>(x) \
                     l = Mul(h, w) q = Concat<axis = 0>(n, t, l) f = Reshape(x, q) y = Transpose<perm = [0, 2, 1]>(f) }";
    let found = judged(reference, reference);
    assert_eq!(found.verdict, Verdict::Equal);
    for size in [0, 1] {
        assert!(
            found
                .sizes
                .iter()
                .chain(&found.further_sizes)
                .any(|sizes| sizes.get("N") == Some(&size)),
            "N = {size}: {:?}",
            found.further_sizes
        );
    }
    let computed = "(float[N,3,H,W] x) => (float[N,L,3] y) <int64[3] q = {0, 3, -1}> \
                    { f = Reshape(x, q) y = Transpose<perm = [0, 2, 1]>(f) }";
    let found = judged(reference, computed);
    assert_eq!(found.verdict, Verdict::Different, "{found:?}");
}

#[test]
fn verify_false_alarm_slice_is_no_difference() {
    // A start far beyond the end of an axis takes nothing.
    let cut = |start: &str| {
        format!(
            "(int64[4] x) => (int64[n] y) <int64[1] s = {{{start}}}, int64[1] e = {{9223372036854775807}}, \
             int64[1] a = {{0}}, int64[1] t = {{1}}> {{ y = Slice(x, s, e, a, t) }}"
        )
    };
    for start in ["1099511627776", "5"] {
        assert_eq!(judged(&cut(start), &cut("4")).verdict, Verdict::Equal, "{start}");
    }
    assert_eq!(
        judged(&cut("1099511627776"), &cut("3")).verdict,
        Verdict::Different
    );
}

/// What an engine answers for models with an operator.
enum Answer {
    Fails,
    Lacks,
    Hangs,
}

/// tract, but for models with a Neg.
struct WithoutNeg(Answer);

impl Engine for WithoutNeg {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn release(&self) -> String {
        "without Neg".to_owned()
    }

    fn describe(&self) -> String {
        "without Neg".to_owned()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        let graph = &model.graph;
        let has = graph
            .node_ids()
            .any(|id| graph.operator(id).is_some_and(|op| op.is("Neg")));
        let engine = "tract";
        match (&self.0, has) {
            (_, false) => TractEngine.compile(model, options),
            (Answer::Fails, true) => Err(EngineError::Failed {
                engine,
                reason: "no".to_owned(),
            }),
            (Answer::Lacks, true) => Err(EngineError::Unsupported {
                engine,
                operator: "Neg".to_owned(),
                node: None,
                reason: "no".to_owned(),
            }),
            (Answer::Hangs, true) => Err(EngineError::TimedOut {
                engine,
                at: "compiling",
                seconds: 15.0,
                node: None,
            }),
        }
    }
}

#[test]
fn a_result_that_does_not_run_is_different_and_one_that_the_engine_lacks_is_not_checked() {
    let plain = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }";
    let negated = "(float[N,4] x) => (float[N,4] y) { a = Neg(x) b = Neg(a) y = Relu(b) }";
    for (answer, wanted) in [
        (Answer::Fails, Verdict::Different),
        (Answer::Lacks, Verdict::NotChecked),
        (Answer::Hangs, Verdict::NotChecked),
    ] {
        let engine = WithoutNeg(answer);
        let judge = |a: &str, b: &str| verify(&model(a), &model(b), &engine, &VerifyOptions::default());
        let found = judge(plain, negated);
        assert_eq!(found.verdict, wanted, "{found:?}");
        assert_eq!(found.does_not_run, wanted == Verdict::Different);
        // A reference that does not run says nothing about the model.
        assert_eq!(judge(negated, plain).verdict, Verdict::NotChecked);
    }
    let hung = verify(
        &model(plain),
        &model(negated),
        &WithoutNeg(Answer::Hangs),
        &VerifyOptions::default(),
    );
    assert!(
        hung.not_checked[0]
            .reason
            .contains("took longer than 15 s at compiling"),
        "{hung:?}"
    );
}

#[test]
fn contradictory_shapes_never_reach_an_engine() {
    // `invalid_add_hangs`, with sizes that only a run fixes.
    let blocks = |count: usize| {
        let mut text = String::from("(float[N,4,H,W] x) => (float[a,b,c,d] y) <float[4,4,3,3] w = {");
        text.push_str(&vec!["0.1"; 144].join(", "));
        text.push_str("}> { v0 = Relu(x) ");
        for at in 0..count {
            text.push_str(&format!(
                "c{at} = Conv<pads = [{pads}]>(v{at}, w) v{next} = Add(c{at}, v{at}) ",
                pads = if at == 1 { "0, 0, 0, 0" } else { "1, 1, 1, 1" },
                next = at + 1
            ));
        }
        text.push_str(&format!("y = Relu(v{count}) }}"));
        text
    };
    let found = judged(&blocks(8), &blocks(8));
    assert_eq!(found.verdict, Verdict::NotChecked);
    assert!(
        found.not_checked[0].reason.contains("do not broadcast"),
        "{found:?}"
    );
    let found = judged(
        "(float[N,4,H,W] x) => (float[a,b,c,d] y) { y = Relu(x) }",
        &blocks(8),
    );
    assert_eq!(found.verdict, Verdict::Different);
    assert!(found.reason.unwrap().contains("v2 (Add)"));
}

#[test]
fn outputs_are_paired_by_position_and_a_lost_batch_is_said() {
    let two = "(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Abs(x) }";
    let renamed = "(float[N,4] i) => (float[N,4] a, float[N,4] b) { a = Relu(i) b = Abs(i) }";
    let map = |pairs: &[(&str, &str)]| VerifyOptions {
        map: pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect(),
        ..VerifyOptions::default()
    };
    let judge = |options: &VerifyOptions| verify(&model(two), &model(renamed), &TractEngine, options).verdict;
    assert_eq!(judge(&map(&[("y", "a"), ("z", "b")])), Verdict::Equal);
    assert_eq!(judge(&map(&[("0", "0"), ("1", "1")])), Verdict::Equal);
    assert_eq!(judge(&map(&[("y", "b"), ("z", "a")])), Verdict::Different);
    assert_eq!(judge(&map(&[])), Verdict::Different);
    let fixed = "(float[1,4] x) => (float[1,4] y) { y = Relu(x) }";
    let free = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }";
    let strict = VerifyOptions {
        every_size: true,
        ..VerifyOptions::default()
    };
    let found = verify(&model(free), &model(fixed), &TractEngine, &strict);
    assert_eq!(found.verdict, Verdict::Within);
    assert!(found.notes[0].contains("fixed to 1"), "{found:?}");
}

#[test]
fn no_model_that_runs_has_contradictory_shapes() {
    use secateur::analysis::conflicts;
    use secateur::format::{self, ReadOptions};

    use super::corpus;

    let mut looked_at = 0;
    let mut alarms = Vec::new();
    for path in corpus::node_tests()
        .into_iter()
        .chain(corpus::models())
        .chain(corpus::architectures())
    {
        // What cannot be read has tests of its own.
        let Ok(loaded) = format::read(&path, &ReadOptions::default()) else {
            continue;
        };
        looked_at += 1;
        let found = conflicts(&loaded.model);
        alarms.extend(
            found
                .iter()
                .map(|conflict| format!("{}: {conflict}", path.display())),
        );
    }
    assert!(
        alarms.is_empty(),
        "{} of {looked_at} models: {alarms:#?}",
        alarms.len()
    );
    corpus::ran(looked_at, 1900);
}

/// tract, counting what is compiled and run.
struct Counting {
    compiled: AtomicUsize,
    runs: Arc<AtomicUsize>,
}

struct Counted(Box<dyn Session>, Arc<AtomicUsize>);

impl Session for Counted {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.run(inputs)
    }
}

impl Engine for Counting {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn release(&self) -> String {
        TractEngine.release()
    }

    fn describe(&self) -> String {
        TractEngine.describe()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        self.compiled.fetch_add(1, Ordering::SeqCst);
        let session = TractEngine.compile(model, options)?;
        Ok(Box::new(Counted(session, Arc::clone(&self.runs))))
    }
}

/// A pipeline with gates on labelled data: both models are compiled once for the end, and run once on each batch, the accuracy that the
/// gate sees is that of `evaluate`, and the comparison has seen the same samples.
#[test]
fn comparison_and_gates_share_one_run_over_the_evaluation_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let loaded =
        secateur::format::read(root.join("fixtures/digits_cnn_bn.onnx"), &Default::default()).unwrap();
    let pipeline = Pipeline::parse(
        "gates.yaml",
        "steps: [simplify, { quantize-weights: { type: int8, minimum-elements: 0 } }]\n\
         data: { evaluation: { npz: fixtures/data/digits_test.npz, labels: y, batch: 50 } }\n\
         gates: [{ accuracy: { at-least: 0.9, drop: 0.02 } }]",
        root,
    )
    .unwrap();
    let engine = Counting {
        compiled: AtomicUsize::new(0),
        runs: Arc::default(),
    };
    let resources = StepResources {
        engine: Some(&engine),
        data: &pipeline.data,
        base: &pipeline.base,
        original: Some(&loaded.model),
        jobs: 2,
        strict: false,
        ledger: None,
    };
    let options = RunOptions {
        evaluator: &TractEvaluator,
        engine: Some(&engine),
        verify: VerifyOptions::default(),
        limits: Limits::default(),
        keep: Vec::new(),
        seed: 0,
        provenance: true,
        macs: true,
        resources: Some(&resources),
        progress: &|_, _, _| {},
        node_errors: false,
        cancel: None,
        reuse: None,
        unchanged: Unchanged::Refused,
    };
    let outcome = pipeline::run(&pipeline, &loaded.model, &loaded.origin, &options).unwrap();
    let report = outcome.report;
    assert!(report.accepted, "{:?} {:?}", report.gates, report.warnings);
    let data =
        secateur::pipeline::open_data(&pipeline.data["evaluation"], root, &loaded.model.graph).unwrap();
    let batches = data.batches().count();
    assert!(batches > 3);
    let verified = report.verify.unwrap();
    assert_eq!(verified.samples, batches as u64);
    // A short batch at the end has a shape of its own, for which the models are compiled once more.
    let shapes = 1 + usize::from(!data.samples().is_multiple_of(50));
    assert_eq!(engine.compiled.load(Ordering::SeqCst), 2 * shapes);
    // What rounding explains is found by running the reference again, where outputs differ by more than the tolerance.
    let explaining = engine.runs.load(Ordering::SeqCst) - 2 * batches;
    let alone = Task {
        engine: &TractEngine,
        data: &data,
        output: None,
        threshold: 0.5,
        jobs: 2,
        latency_runs: 0,
        progress: &|_| {},
    };
    let mut state = State::new(StateSubject::default());
    let figures = alone
        .figures(&outcome.model, Some(&loaded.model), &mut state, None)
        .unwrap();
    let evaluated = report.evaluation.unwrap();
    assert_eq!(evaluated.samples, figures.samples);
    assert_eq!(evaluated.accuracy, figures.accuracy);
    assert_eq!(
        evaluated.against.unwrap().accuracy,
        figures.against.unwrap().accuracy
    );
    println!("{explaining} runs to explain rounding");
}

/// Pairs of numbers by index; those of row `other` are off by one.
fn table(rows: usize, other: Option<usize>) -> String {
    let row = |at: usize| {
        let off = f64::from(u8::from(Some(at) == other));
        format!("{:?}, {:?}", at as f64 * 0.5 + off, off - at as f64)
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("float[{}, 2] e = {{{}}}", rows.len(), rows.join(", "))
}

/// `emb_row`: whichever operator reads a table, every row of it is read, also by an input of fixed size and by coordinates.
#[test]
fn every_row_of_a_table_is_read() {
    let forms = [
        ("int64[N] i", "float[N, 2] y", "y = Gather(e, i)"),
        (
            "int32[N, T] i",
            "float[N, T, 2] y",
            "c = Cast<to = 7>(i) y = Gather(e, c)",
        ),
        ("int64[4] i", "float[4, 2] y", "y = Gather(e, i)"),
        ("int64[N, 1] i", "float[N, 2] y", "y = GatherND(e, i)"),
        ("int64[N, 2] i", "float[N] y", "y = GatherND(e, i)"),
        (
            "int64[N] i",
            "float[N, 2] y",
            "h = OneHot(i, d, v) y = MatMul(h, e)",
        ),
    ];
    for (input, output, body) in forms {
        let form = |other| {
            format!(
                "({input}) => ({output}) <{}, int64 d = {{1000}}, float[2] v = {{0, 1}}> {{ {body} }}",
                table(1000, other)
            )
        };
        let found = judged(&form(None), &form(Some(777)));
        assert_eq!(found.verdict, Verdict::Different, "{input} {body}: {found:?}");
        let found = judged(&form(None), &form(None));
        assert_eq!(found.verdict, Verdict::Equal, "{input} {body}: {found:?}");
        assert!(found.notes.is_empty(), "{input} {body}: {found:?}");
    }
}

#[test]
fn rows_that_no_sample_reads_are_counted() {
    // One index a sample, and no size that is free.
    let one = |other| {
        format!(
            "(int64[1] i) => (float[1, 2] y) <{}> {{ y = Gather(e, i) }}",
            table(5000, other)
        )
    };
    let found = judged(&one(None), &one(None));
    assert_eq!(found.verdict, Verdict::Equal, "{found:?}");
    assert_eq!(found.notes.len(), 1, "{found:?}");
    assert!(
        found.notes[0].contains("of the 5000 rows that input i picks from were read"),
        "{found:?}"
    );
    assert!(found.samples > 256 && found.samples < 300, "{found:?}");
    // The first row that no sample has read is among those that are read.
    assert_eq!(judged(&one(None), &one(Some(1))).verdict, Verdict::Different);
}

/// `str`: the words that either model compares with.
#[test]
fn strings_are_drawn_from_the_constants_of_both_models() {
    let equal = |word: &str| {
        format!("(string[N] s) => (bool[N] y) <string[1] k = {{\"{word}\"}}> {{ y = Equal(s, k) }}")
    };
    let fixed = |word: &str| equal(word).replace("[N]", "[1]");
    assert_eq!(verdict(&equal("abc"), &equal("abd")), Verdict::Different);
    assert_eq!(verdict(&equal("abc"), &equal("abc")), Verdict::Equal);
    assert_eq!(verdict(&fixed("abc"), &fixed("abd")), Verdict::Different);
    assert_eq!(verdict(&fixed("abc"), &fixed("abc")), Verdict::Equal);
    let never = "(string[N] s) => (bool[N] y) { a = Equal(s, s) y = Not(a) }";
    assert_eq!(verdict(never, &equal("abc")), Verdict::Different);
    assert_eq!(verdict(&equal("abc"), never), Verdict::Different);
}

/// `overr_init2`: what a caller gives in place of a default counts, where both models take it.
#[test]
fn inputs_with_a_default_get_other_values_too() {
    let sum = |read: &str, b: &str| {
        format!(
            "(float[N,4] x, float[4] b = {{{b}}}) => (float[N,4] y) <float[4] c = {{1, 2, 0, -4}}> {{ y = Add(x, {read}) }}"
        )
    };
    let default = "1, 2, 0, -4";
    let found = judged(&sum("b", default), &sum("c", default));
    assert_eq!(found.verdict, Verdict::Different, "{found:?}");
    assert!(!found.does_not_run && found.reason.is_none(), "{found:?}");
    let worst = found.worst.unwrap();
    assert!(worst.contains_key("b"), "{:?}", worst.keys());
    let found = judged(&sum("b", default), &sum("b", default));
    assert_eq!(found.verdict, Verdict::Equal, "{found:?}");
    assert!(found.notes.is_empty(), "{found:?}");
    // Defaults that differ are seen where they are left as they are.
    assert_eq!(
        verdict(&sum("b", default), &sum("b", "1, 2, 3, -4")),
        Verdict::Different
    );
    // A model without the input bakes its default in.
    let bound = "(float[N,4] x) => (float[N,4] y) <float[4] b = {1, 2, 0, -4}> { y = Add(x, b) }";
    assert_eq!(verdict(&sum("b", default), bound), Verdict::Equal);
}

#[test]
fn a_default_that_makes_a_shape_stays_and_that_is_said() {
    let shaped = "(float[N,4] x, int64[2] s = {-1, 2}, float[4] b = {1, 2, 3, 4}) => (float[M,2] y) \
                  { a = Add(x, b) y = Reshape(a, s) }";
    let found = judged(shaped, shaped);
    assert_eq!(found.verdict, Verdict::Equal, "{found:?}");
    assert_eq!(
        found.notes,
        ["held at their default in every sample: s"],
        "{found:?}"
    );
    // A float that becomes a size is no number to change.
    let sized =
        "(float[N,4] x, float[2] s = {-1, 2}) => (float[M,2] y) { c = Cast<to = 7>(s) y = Reshape(x, c) }";
    let found = judged(sized, sized);
    assert_eq!(found.verdict, Verdict::Equal, "{found:?}");
    assert_eq!(found.notes.len(), 1, "{found:?}");
}
