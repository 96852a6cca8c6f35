//! Last products of models whose answers have parts: what `quantize` does about them, and when it takes a product for one.

use secateur::passes::{Heads, LayerTypes, Profile, Quantize, Runs};
use secateur::quantize::Kind;

use super::quantizing::check_near;
use super::*;

fn numbers(count: usize, seed: usize) -> String {
    let values = (0..count).map(|i| format!("{:.2}", (((i + seed) * 37 % 41) as f64 - 20.0) / 25.0));
    values.collect::<Vec<_>>().join(",")
}

/// A backbone of one convolution in front of `rest`, which reads `r`.
fn behind_backbone(outputs: &str, constants: &str, rest: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,8,8] x) => ({outputs})
<float[8,2,3,3] w = {{{}}}, float[2,8,1,1] p = {{{}}}, float[2,8,1,1] q = {{{}}}{constants}> {{
  [backbone] a = Conv<pads = [1,1,1,1]>(x, w)
  r = Relu(a)
{rest}
}}"#,
        numbers(144, 0),
        numbers(16, 3),
        numbers(16, 8),
    )
}

fn two_scales() -> String {
    behind_backbone(
        "float[1,160] y",
        ", int64[2] flat = {1,-1}",
        r#"  [fine] f = Conv(r, p)
  m = MaxPool<kernel_shape = [2,2], strides = [2,2]>(r)
  [coarse] c = Conv(m, q)
  s = Sigmoid(f)
  f2 = Reshape(s, flat)
  c2 = Reshape(c, flat)
  y = Concat<axis = 1>(f2, c2)"#,
    )
}

fn runs(report: &PassReport, node: &str) -> (Runs, String) {
    let found = report.nodes.iter().find(|found| found.node == node);
    let found = found.unwrap_or_else(|| panic!("no {node}: {report:#?}"));
    (found.runs, found.why.clone())
}

fn quantize() -> Quantize {
    Quantize {
        equalize: false,
        ..Quantize::default()
    }
}

#[test]
fn several_last_convolutions_stay_float_and_the_plan_says_why() {
    let (_, report) = check_near(&quantize(), &two_scales(), 0.05);
    for head in ["fine", "coarse"] {
        let (how, why) = runs(&report, head);
        assert_eq!(how, Runs::Float);
        assert!(why.contains("heads: codes"), "{why}");
    }
    assert_eq!(runs(&report, "backbone").0, Runs::Integer);
    let said = report
        .left
        .iter()
        .filter(|left| left.why.contains("heads: codes"));
    assert_eq!(said.count(), 2, "{report:#?}");
}

#[test]
fn they_are_codes_on_request_and_where_an_entry_of_layers_decides() {
    let codes = Quantize {
        heads: Heads::Codes,
        ..quantize()
    };
    let (_, report) = check_near(&codes, &two_scales(), 0.1);
    assert_eq!(runs(&report, "fine").0, Runs::Integer);
    assert_eq!(runs(&report, "coarse").0, Runs::Integer);
    let entry = LayerTypes {
        pattern: "^fine$".to_owned(),
        precision: None,
        activations: Some(Kind::Uint8),
        per_channel: None,
        block: None,
    };
    let named = Quantize {
        layers: vec![entry],
        ..quantize()
    };
    let (_, report) = check_near(&named, &two_scales(), 0.1);
    assert_eq!(runs(&report, "fine").0, Runs::Integer);
    assert_eq!(runs(&report, "coarse").0, Runs::Float);
}

#[test]
fn one_answer_of_one_kind_has_no_heads() {
    let text = behind_backbone(
        "float[1,2,8,8] y",
        "",
        "  [last] f = Conv(r, p)\n  y = Sigmoid(f)",
    );
    let (_, report) = check_near(&quantize(), &text, 0.1);
    assert_eq!(runs(&report, "last").0, Runs::Integer);
}

#[test]
fn one_convolution_that_is_cut_into_parts_is_a_head() {
    let text = behind_backbone(
        "float[1,1,8,8] y, float[1,1,8,8] z",
        "",
        "  [last] f = Conv(r, p)\n  y, b = Split<axis = 1, num_outputs = 2>(f)\n  z = Exp(b)",
    )
    .replace(", num_outputs = 2", "");
    let (_, report) = check_near(&quantize(), &text, 0.25);
    assert_eq!(runs(&report, "last").0, Runs::Float);
}

#[test]
fn the_mean_of_a_distribution_belongs_to_the_head() {
    let text = behind_backbone(
        "float[1,1,8,8] y, float[1,2,8,8] z",
        ", float[1,2,1,1] places = {0.0,1.0}",
        r#"  [boxes] f = Conv(r, p)
  s = Softmax<axis = 1>(f)
  [mean] y = Conv(s, places)
  [scores] z = Conv(r, q)"#,
    );
    let (_, report) = check_near(&quantize(), &text, 0.05);
    for head in ["boxes", "mean", "scores"] {
        assert_eq!(runs(&report, head).0, Runs::Float, "{head}");
    }
}

#[test]
fn heads_that_are_most_of_the_work_are_codes() {
    let text = behind_backbone(
        "float[1,8,8,8] y, float[1,8,8,8] z",
        &format!(
            ", float[8,8,3,3] u = {{{}}}, float[8,8,3,3] v = {{{}}}",
            numbers(576, 1),
            numbers(576, 5)
        ),
        "  [one] y = Conv<pads = [1,1,1,1]>(r, u)\n  [other] z = Conv<pads = [1,1,1,1]>(r, v)",
    );
    let (_, report) = check_near(&quantize(), &text, 0.1);
    assert_eq!(runs(&report, "one").0, Runs::Integer);
    assert_eq!(runs(&report, "other").0, Runs::Integer);
    let said = report.notes.iter().find(|note| note.contains("2 last products"));
    assert!(
        said.is_some_and(|note| note.contains("89 % of the")),
        "{report:#?}"
    );
}

#[test]
fn what_other_domains_and_bodies_do_to_a_result_is_not_taken_for_an_answer() {
    let text = behind_backbone(
        "float[1,2,8,8] y, float[1,2,8,8] z",
        ", bool t = {1}",
        r#"  [one] f = Conv(r, p)
  [other] z = Conv(r, q)
  y = If(t) <
    then_branch = a () => (float[1,2,8,8] u) { u = Sigmoid(f) },
    else_branch = b () => (float[1,2,8,8] v) { v = Identity(f) }
  >"#,
    );
    let pass = Quantize {
        prepare: false,
        ..quantize()
    };
    let (_, report) = check_near(&pass, &text, 0.1);
    assert_eq!(runs(&report, "one").0, Runs::Integer);
    assert_eq!(runs(&report, "other").0, Runs::Integer);
}

#[test]
fn where_every_value_has_a_pair_heads_have_16_bits() {
    let pass = Quantize {
        profile: Profile::Qnn,
        ..quantize()
    };
    let (model, report) = check_near(&pass, &two_scales(), 0.05);
    assert_eq!(runs(&report, "fine").0, Runs::Integer);
    let graph = &model.graph;
    let kinds_behind = |name: &str| {
        let value = graph.find_value(name).unwrap();
        let pairs = graph.uses(value).into_iter().filter_map(|found| {
            let operator = graph.operator(found.node)?;
            let zero = graph.constant(graph.input(found.node, 2)?)?;
            operator.is("QuantizeLinear").then(|| zero.dtype())
        });
        pairs.collect::<Vec<_>>()
    };
    assert_eq!(kinds_behind("f"), [DType::U16]);
    assert_eq!(kinds_behind("c"), [DType::U16]);
    assert!(kinds_behind("x").contains(&DType::U8));
}
