//! Weights that move between models.

use std::path::Path;

use secateur::data::Dataset;
use secateur::engine::{RunValue, RunValues};
use secateur::ir::{Graph, Model, Tensor};
use secateur::passes::{
    MatchBy, PassError, PassReport, ResourceError, TransferParameters, TransferStructure,
};
use secateur::transfer::adapt::{Adapter, Head};
use secateur::transfer::initialise::Init;
use secateur::transfer::parameters::{Account, Fate};

use super::transferring::values;
use super::*;

/// A second model, or named tensors.
#[derive(Default)]
pub(super) struct Second {
    pub(super) model: Option<Model>,
    pub(super) tensors: Vec<(String, Tensor)>,
}

impl Resources for Second {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, _: &Graph) -> Result<Dataset, ResourceError> {
        Err("no data".into())
    }

    fn model(&self, _: &Path) -> Result<Model, ResourceError> {
        self.model.clone().ok_or_else(|| "no model".into())
    }

    fn tensors(&self, _: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        Ok(self.tensors.clone())
    }

    fn jobs(&self) -> usize {
        1
    }
}

fn by_structure() -> TransferParameters {
    TransferParameters {
        from: "source.onnx".into(),
        matching: MatchBy::Structure,
        ..TransferParameters::default()
    }
}

fn run_on(pass: &TransferParameters, target: &mut Model, source: &str) -> Result<PassReport, PassError> {
    let second = Second {
        model: Some(model(source)),
        ..Second::default()
    };
    run_with(pass, target, &Setting::default(), Some(&second))
}

fn transferred(pass: &TransferParameters, target: &str, source: &str) -> (Model, Account) {
    let mut target = model(target);
    let report = run_on(pass, &mut target, source).unwrap();
    lines(&target);
    (target, report.transfer.unwrap())
}

fn fates(account: &Account) -> Vec<Fate> {
    account.weights.iter().map(|weight| weight.fate).collect()
}

fn ramp(dims: &[u64], step: f32) -> RunValues {
    let count = dims.iter().product::<u64>();
    let numbers: Vec<f32> = (0..count).map(|at| (at as f32 * step).sin() * 2.0).collect();
    RunValues::from([(
        "x".to_owned(),
        RunValue::Tensor(Tensor::from_slice(dims, &numbers).unwrap()),
    )])
}

/// Whether two models give the same `y` but for rounding.
fn agree(a: &Model, b: &Model, dims: &[u64]) {
    let feeds = ramp(dims, 0.37);
    let of = |model: &Model| match &values(model, &feeds, &[])["y"] {
        RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
        other => panic!("{other:?}"),
    };
    let (a, b) = (of(a), of(b));
    assert_eq!(a.len(), b.len());
    let most = a.iter().fold(0f64, |most, value| most.max(value.abs()));
    assert!(most > 0.1);
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-5 * most, "{a} and {b}");
    }
}

const GEMM: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,2] y)
<float[4,3] w = {1, -2, 3, 4, 5, -6, 0.5, 0.25, 2, -1, 1, 7}, float[4] b = {1, 2, 3, 4}, float[2,4] v = {1, 0, 2, -1, 3, 1, -2, 2}> {
  h = Gemm <transB = 1> (x, w, b)
  r = Relu (h)
  y = Gemm <transB = 1> (r, v)
}"#;

#[test]
fn matrix_products_of_any_form_get_the_same_weights() {
    let products = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,2] y)
<float[3,4] one = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, float[4] two = {8, 8, 8, 8}, float[4,2] three = {7, 7, 7, 7, 7, 7, 7, 7}> {
  p = MatMul (x, one)
  h = Add (two, p)
  r = Relu (h)
  y = MatMul (r, three)
}"#;
    let scaled = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,2] y)
<float[3,4] one = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, float[4] two = {8, 8, 8, 8}, float[2,4] three = {7, 7, 7, 7, 7, 7, 7, 7}, float[2] four = {6, 6}> {
  h = Gemm <alpha = 0.5, beta = 4.0> (x, one, two)
  r = Relu (h)
  y = Gemm <transB = 1> (r, three, four)
}"#;
    let convolved = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,2] y)
<float[4,3,1,1] one = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, float[4] two = {8, 8, 8, 8}, float[2,4] three = {7, 7, 7, 7, 7, 7, 7, 7}, int64[2] far = {2, 3}> {
  u = Unsqueeze (x, far)
  h = Conv (u, one, two)
  f = Flatten (h)
  r = Relu (f)
  y = Gemm <transB = 1> (r, three)
}"#;
    let source = model(GEMM);
    for (text, adapted) in [(products, true), (scaled, true), (convolved, true), (GEMM, false)] {
        let (target, account) = transferred(&by_structure(), text, GEMM);
        agree(&source, &target, &[2, 3]);
        assert_eq!(account.share(), 1.0, "{account:?}");
        assert_eq!(fates(&account).contains(&Fate::Adapted), adapted, "{account:?}");
        assert!(account.source.iter().all(|weight| weight.used));
    }
}

#[test]
fn a_bias_that_only_one_side_has_is_added_or_zero_and_said() {
    let with = GEMM.replace("(r, v)", "(r, v, c)").replace(
        "{1, 0, 2, -1, 3, 1, -2, 2}>",
        "{1, 0, 2, -1, 3, 1, -2, 2}, float[2] c = {5, -5}>",
    );
    let (target, account) = transferred(&by_structure(), GEMM, &with);
    agree(&model(&with), &target, &[2, 3]);
    assert!(
        account
            .weights
            .iter()
            .any(|weight| weight.how.iter().any(|how| how.contains("had no bias")))
    );
    let (target, account) = transferred(&by_structure(), &with, GEMM);
    agree(&model(GEMM), &target, &[2, 3]);
    assert!(account.weights.iter().any(|weight| {
        weight
            .how
            .iter()
            .any(|how| how.contains("no bias, so it is zero"))
    }));
}

/// A convolution of each kind with its BatchNormalization.
fn normalised(operator: &str, weight: &str, outputs: u64, epsilon: &str) -> String {
    let each = |numbers: &[&str]| numbers[..outputs as usize].join(", ");
    let list = |numbers: &[&str]| format!("float[{outputs}] {{{}}}", each(numbers)).replace("float", "");
    let of = |numbers: &[&str]| list(numbers).split_once(' ').unwrap().1.to_owned();
    format!(
        r#"<ir_version: 8, opset_import: ["": 17]>
g (float[1,4,3,3] x) => (float[1,{outputs},n,m] y)
<float[{weight}] w, float[{outputs}] s = {}, float[{outputs}] o = {}, float[{outputs}] a = {}, float[{outputs}] v = {}> {{
  h = {operator} (x, w)
  y = BatchNormalization <epsilon = {epsilon}> (h, s, o, a, v)
}}"#,
        of(&["1", "2", "-0.5", "3", "1.5", "0.75"]),
        of(&["0.5", "-1", "2", "0", "1", "-2"]),
        of(&["0.1", "0.2", "-0.3", "1", "2", "-1"]),
        of(&["1", "0.5", "2", "0.25", "3", "1.5"]),
    )
}

fn filled(text: &str, dims: &str, step: f32) -> String {
    let count: u64 = dims.split(',').map(|size| size.parse::<u64>().unwrap()).product();
    let numbers: Vec<String> = (0..count)
        .map(|at| format!("{:.3}", (at as f32 * step).cos()))
        .collect();
    text.replace(
        &format!("float[{dims}] w"),
        &format!("float[{dims}] w = {{{}}}", numbers.join(", ")),
    )
}

#[test]
fn normalisations_fold_and_unfold_for_every_kind_of_convolution() {
    for (operator, weight, outputs) in [
        ("Conv", "6,4,2,2", 6),
        ("Conv <group = 2>", "6,2,2,2", 6),
        ("ConvTranspose", "4,6,2,2", 6),
        ("ConvTranspose <group = 2>", "4,3,2,2", 6),
    ] {
        let unfolded = filled(&normalised(operator, weight, outputs, "0.001"), weight, 0.7);
        let folded = format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
g (float[1,4,3,3] x) => (float[1,{outputs},n,m] y) <float[{weight}] w, float[{outputs}] b = {{{}}}> {{ y = {operator} (x, w, b) }}"#,
            ["0.5", "1", "1.5", "2", "-1", "-2"].join(", ")
        );
        let folded = filled(&folded, weight, 1.9);
        let (target, account) = transferred(&by_structure(), &folded, &unfolded);
        agree(&model(&unfolded), &target, &[1, 4, 3, 3]);
        assert!(
            account
                .weights
                .iter()
                .all(|weight| weight.how == ["batch-norm: BatchNormalization folded in"])
        );
        let (target, account) = transferred(&by_structure(), &unfolded, &folded);
        agree(&model(&folded), &target, &[1, 4, 3, 3]);
        assert_eq!(account.share(), 1.0);
        let other = filled(&normalised(operator, weight, outputs, "0.1"), weight, 0.2);
        let (target, account) = transferred(&by_structure(), &other, &unfolded);
        agree(&model(&unfolded), &target, &[1, 4, 3, 3]);
        assert!(
            account
                .weights
                .iter()
                .any(|weight| weight.how.iter().any(|how| how.contains("epsilon")))
        );
    }
}

#[test]
fn operators_that_share_a_constant_get_one_each_where_their_weights_differ() {
    let shared = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,3] y) <float[3,3] w = {1, 1, 1, 1, 1, 1, 1, 1, 1}> {
  i = Identity (w)
  h = MatMul (x, w)
  t = Tanh (h)
  y = MatMul (t, i)
}"#;
    let apart = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,3] y) <float[3,3] a = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3,3] b = {3, 1, 4, 1, 5, 9, 2, 6, 5}> {
  h = MatMul (x, a)
  t = Tanh (h)
  y = MatMul (t, b)
}"#;
    let (target, _) = transferred(&by_structure(), shared, apart);
    agree(&model(apart), &target, &[2, 3]);
    // The other way the target keeps its two constants, which are equal now.
    let (target, _) = transferred(&by_structure(), apart, shared);
    agree(&model(shared), &target, &[2, 3]);
}

#[test]
fn a_weight_that_is_embedding_and_head_stays_one_or_becomes_two() {
    let tied = |numbers: &str| {
        format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,4] y) <float[4,3] w = {{{numbers}}}> {{
  m = ArgMax <axis = 1, keepdims = 0> (x)
  e = Gather (w, m)
  h = Tanh (e)
  t = Transpose <perm = [1, 0]> (w)
  y = MatMul (h, t)
}}"#
        )
    };
    let apart = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,4] y) <float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3,4] v = {1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6}> {
  m = ArgMax <axis = 1, keepdims = 0> (x)
  e = Gather (w, m)
  h = Tanh (e)
  y = MatMul (h, v)
}"#;
    let (one, two) = (
        tied("1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3"),
        tied("0.5, -1, 2, 0.25, 3, -0.5, 1, 1, -2, 0.75, 0.1, 1"),
    );
    let constants = |model: &Model| model.graph.initializers().len();
    let (target, account) = transferred(&by_structure(), &one, &two);
    agree(&model(&two), &target, &[2, 3]);
    assert_eq!((constants(&target), account.share()), (1, 1.0));
    let (target, _) = transferred(&by_structure(), &one, apart);
    agree(&model(apart), &target, &[2, 3]);
    assert_eq!(constants(&target), 2);
    let (target, _) = transferred(&by_structure(), apart, &two);
    agree(&model(&two), &target, &[2, 3]);
}

#[test]
fn protected_weights_stay() {
    let mut target = model(GEMM);
    let kept = lines(&target);
    let second = Second {
        model: Some(model(
            &GEMM
                .replace("{1, -2, 3", "{9, 9, 9")
                .replace("{1, 0, 2, -1", "{8, 8, 8, 8"),
        )),
        ..Second::default()
    };
    let report = run_with(&by_structure(), &mut target, &keep(&["^v$"]), Some(&second)).unwrap();
    let account = report.transfer.unwrap();
    assert_eq!(fates(&account), [Fate::Loaded, Fate::Loaded, Fate::Left]);
    let v = |lines: &[String]| lines.iter().find(|line| line.starts_with("v: ")).cloned();
    assert_eq!(v(&lines(&target)), v(&kept));
}

#[test]
fn branches_that_are_alike_are_told_apart_by_what_reads_them() {
    let attention = |order: [&str; 3], numbers: [&str; 3]| {
        let line = |name: &str| format!("  {name} = MatMul (x, w{name})\n");
        let weight = |name: &str, number: &str| format!("float[2,2] w{name} = {{{number}, 1, 0.5, -1}}");
        format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
g (float[3,2] x) => (float[3,2] y) <{}, {}, {}> {{
{}  t = Transpose (k)
  s = MatMul (q, t)
  p = Softmax (s)
  y = MatMul (p, v)
}}"#,
            weight("q", numbers[0]),
            weight("k", numbers[1]),
            weight("v", numbers[2]),
            order.map(line).concat(),
        )
    };
    let source = attention(["q", "k", "v"], ["2", "0.3", "-4"]);
    let target = attention(["v", "k", "q"], ["1", "1", "1"]);
    let (target, account) = transferred(&by_structure(), &target, &source);
    agree(&model(&source), &target, &[3, 2]);
    assert!(account.weights.iter().all(|weight| !weight.by_order));
}

#[test]
fn changes_of_the_function_need_permission_and_everything_is_accounted_for() {
    let wider = GEMM.replace("float[2,2] y", "float[2,3] y").replace(
        "float[2,4] v = {1, 0, 2, -1, 3, 1, -2, 2}",
        "float[3,4] v = {1, 0, 2, -1, 3, 1, -2, 2, 1, 1, 1, 1}",
    );
    let (target, account) = transferred(&by_structure(), GEMM, &wider);
    assert_eq!(fates(&account), [Fate::Loaded, Fate::Loaded, Fate::Left]);
    assert!(
        account.weights[2].why.as_ref().unwrap().contains("adapter head"),
        "{account:?}"
    );
    assert!(
        lines(&target)
            .iter()
            .any(|line| line.contains("1 0 2 -1 3 1 -2 2"))
    );
    assert_eq!(account.source.iter().filter(|weight| !weight.used).count(), 1);
    let sliced = TransferParameters {
        adapt: vec![Adapter::Head],
        head: Head::Slice,
        head_offset: 1,
        ..by_structure()
    };
    let (target, _) = transferred(&sliced, GEMM, &wider);
    assert!(
        lines(&target)
            .iter()
            .any(|line| line.contains("3 1 -2 2 1 1 1 1")),
        "{:?}",
        lines(&target)
    );
    let beyond = TransferParameters {
        head_offset: 2,
        ..sliced.clone()
    };
    let (_, account) = transferred(&beyond, GEMM, &wider);
    assert!(
        account.weights[2].why.as_ref().unwrap().contains("2 to 4"),
        "{account:?}"
    );
    let fresh = TransferParameters {
        head: Head::Initialise,
        ..sliced
    };
    let (_, account) = transferred(&fresh, GEMM, &wider);
    assert_eq!(fates(&account)[2], Fate::Initialised);
    assert!((account.share() - 16.0 / 24.0).abs() < 1e-9);
}

#[test]
fn files_load_whole_operators_by_rules_and_gates_are_judged() {
    let tensor = |dims: &[u64], from: f32| {
        let numbers: Vec<f32> = (0..dims.iter().product::<u64>())
            .map(|at| at as f32 + from)
            .collect();
        Tensor::from_slice(dims, &numbers).unwrap()
    };
    let second = Second {
        tensors: vec![
            ("net.b".to_owned(), tensor(&[4], 10.0)),
            ("net.v".to_owned(), tensor(&[2, 4], 20.0)),
            ("net.other".to_owned(), tensor(&[2], 0.0)),
        ],
        ..Second::default()
    };
    let pass = TransferParameters {
        from: "weights.npz".into(),
        rename: vec![(r"^net\.".to_owned(), String::new())],
        require: Some(0.9),
        ..TransferParameters::default()
    };
    let mut target = model(GEMM);
    let report = run_with(&pass, &mut target, &Setting::default(), Some(&second)).unwrap();
    let account = report.transfer.unwrap();
    // The bias alone, without its weight, is not loaded.
    assert_eq!(fates(&account), [Fate::Left, Fate::Left, Fate::Loaded]);
    assert!(
        account
            .source
            .iter()
            .any(|weight| weight.why.as_deref().is_some_and(|why| why.contains("\"w\"")))
    );
    let [requirement] = report.requirements.as_slice() else {
        panic!()
    };
    assert!(!requirement.passed && (requirement.value - 8.0 / 24.0).abs() < 1e-9);
    let twice = TransferParameters {
        rename: vec![(r".*".to_owned(), "one".to_owned())],
        ..pass.clone()
    };
    let refuse = |pass: &TransferParameters| {
        run_with(pass, &mut model(GEMM), &Setting::default(), Some(&second))
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(&twice).contains("\"one\""), "{}", refuse(&twice));
    let structure = TransferParameters {
        matching: MatchBy::Structure,
        ..pass.clone()
    };
    assert!(refuse(&structure).contains("no structure"));
    let share = TransferParameters {
        require: Some(95.0),
        ..pass
    };
    assert!(refuse(&share).contains("from 0 to 1"));
}

#[test]
fn element_types_are_converted() {
    let double = r#"<ir_version: 8, opset_import: ["": 17]>
g (double[2,3] x) => (double[2,3] y) <double[3,3] w = {1, 2, 3, 4, 0.5, 6, 7, 8, 0.25}> { y = MatMul (x, w) }"#;
    let full = double
        .replace("double", "float")
        .replace("{1, 2, 3, 4, 0.5, 6, 7, 8, 0.25}", "{0, 0, 0, 0, 0, 0, 0, 0, 1}");
    let (target, account) = transferred(&by_structure(), &full, double);
    assert!(
        lines(&target)
            .iter()
            .any(|line| line.contains("= 1 2 3 4 0.5 6 7 8")),
        "{:?}",
        lines(&target)
    );
    assert_eq!(account.weights[0].how, ["dtype: double to float"]);
}

#[test]
fn fresh_weights_follow_the_fan_and_an_identity_passes_on() {
    let whole = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[1,4,3,3] x) => (float[1,4,3,3] y)
<float[4,4,3,3] w, float[4] b = {1, 2, 3, 4}, float[4] s = {1, 2, 3, 4}, float[4] o = {1, 2, 3, 4}, float[4] a = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}> {
  h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  y = BatchNormalization <epsilon = 0.0> (h, s, o, a, v)
}"#;
    let whole = filled(whole, "4,4,3,3", 0.3);
    let fresh = |init: Option<Init>| {
        let mut target = model(&whole);
        let pass = TransferStructure {
            init,
            ..TransferStructure::default()
        };
        let report = run_pass(&pass, &mut target, &Setting::default()).unwrap();
        assert!(init == Some(Init::Keep) || report.changes.iter().any(|change| change.count == 6));
        target
    };
    let same = fresh(Some(Init::Identity));
    let feeds = ramp(&[1, 4, 3, 3], 0.37);
    let given = values(&same, &feeds, &[]);
    let (RunValue::Tensor(x), RunValue::Tensor(y)) = (&feeds["x"], &given["y"]) else {
        panic!()
    };
    assert_eq!(x.to_f64().unwrap(), y.to_f64().unwrap());
    assert_eq!(lines(&fresh(Some(Init::Keep))), lines(&model(&whole)));
    let spread = |model: &Model| {
        let value = model.graph.find_value("w").unwrap();
        let values = model.graph.constant(value).unwrap().to_f64().unwrap();
        (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
    };
    let kaiming = spread(&fresh(None));
    assert!((kaiming / (2f64 / 36.0).sqrt() - 1.0).abs() < 0.15, "{kaiming}");
    let xavier = spread(&fresh(Some(Init::Xavier)));
    assert!((xavier / (2f64 / 72.0).sqrt() - 1.0).abs() < 0.15, "{xavier}");
    assert_eq!(lines(&fresh(None)), lines(&fresh(Some(Init::Kaiming))));
    assert_eq!(spread(&fresh(Some(Init::Zeros))), 0.0);
}

#[test]
fn a_part_of_another_model_goes_where_it_is_told() {
    let second = Second {
        model: Some(model(
            &GEMM
                .replace("\"\": 17", "\"\": 13")
                .replace("ir_version: 8", "ir_version: 7"),
        )),
        ..Second::default()
    };
    let text = r#"<ir_version: 9, opset_import: ["": 19]>
g (float[2,3] x) => (float[2,4] y) <float[3,4] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> {
  n = Neg (x)
  h = MatMul (n, w)
  y = Tanh (h)
}"#;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let pass = TransferStructure {
        from: Some("source.onnx".into()),
        inputs: names(&["x"]),
        outputs: names(&["r"]),
        into_inputs: names(&["n"]),
        into_outputs: names(&["h"]),
        ..TransferStructure::default()
    };
    let mut target = model(text);
    let report = run_with(&pass, &mut target, &Setting::default(), Some(&second)).unwrap();
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule == "source converted to opset 19")
    );
    let shown = lines(&target);
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("w: ") || line.starts_with("source/w: ")),
        "{shown:?}"
    );
    assert!(!shown.iter().any(|line| line.contains("MatMul")), "{shown:?}");
    let wrong = TransferStructure {
        into_outputs: names(&["nothing"]),
        ..pass.clone()
    };
    let error = run_with(&wrong, &mut model(text), &Setting::default(), Some(&second)).unwrap_err();
    assert!(error.to_string().contains("\"nothing\""), "{error}");
    let alone = TransferStructure { from: None, ..pass };
    assert!(matches!(
        run_pass(&alone, &mut model(text), &Setting::default()),
        Err(PassError::Option { .. })
    ));
}
