//! Layers made wider and models made deeper without other outputs.

use secateur::passes::{Deepen, Shares, Widen};

use super::*;

/// A convolution with normalisation, a residual sum, a depthwise convolution, and a flattened product.
const NET: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[1,2,6,6] x) => (float[1,3] y) {
  w1 = Constant <value = float[4,2,3,3] {
    0.1, -0.2, 0.3, 0.4, -0.5, 0.6, 0.7, 0.8, -0.9, 0.11, 0.12, -0.13, 0.14, 0.15, -0.16, 0.17, 0.18, 0.19,
    -0.1, 0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8, 0.9, 0.21, -0.22, 0.23, 0.24, -0.25, 0.26, 0.27, 0.28, -0.29,
    0.5, 0.2, -0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9, -0.31, 0.32, 0.33, -0.34, 0.35, 0.36, 0.37, -0.38, 0.39,
    -0.5, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9, 0.41, 0.42, -0.43, 0.44, -0.45, 0.46, 0.47, 0.48, 0.49 }> ()
  scale = Constant <value = float[4] {1.0, 2.0, 0.5, 1.5}> ()
  bias = Constant <value = float[4] {0.1, -0.2, 0.3, 0.0}> ()
  mean = Constant <value = float[4] {0.0, 0.1, 0.2, 0.3}> ()
  var = Constant <value = float[4] {1.0, 0.5, 2.0, 1.0}> ()
  wd = Constant <value = float[4,1,1,1] {0.5, -1.5, 2.0, 1.0}> ()
  axes = Constant <value = int64[2] {2, 3}> ()
  wf = Constant <value = float[16,3] {
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9, 1.0, -1.1, 1.2, 0.3, 0.1, 0.2, -0.4,
    0.1, 0.2, 0.3, 0.4, -0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, -1.2, 0.3, 0.1, 0.2, 0.4,
    0.1, -0.2, 0.3, 0.4, 0.5, 0.6, 0.7, -0.8, 0.9, 1.0, 1.1, 1.2, 0.3, -0.1, 0.2, 0.4 }> ()
  c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1)
  n = BatchNormalization (c, scale, bias, mean, var)
  r = Relu (n)
  d = Conv <group = 4, kernel_shape = [1, 1]> (r, wd)
  s = Add (r, d)
  p = MaxPool <kernel_shape = [3, 3], strides = [3, 3]> (s)
  f = Flatten (p)
  y = MatMul (f, wf)
}"#;

fn close(before: &Model, after: &Model) {
    let (expected, found) = (outputs(before).unwrap(), outputs(after).unwrap());
    for (name, value) in &expected {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (value, &found[name]) else {
            panic!("{name}")
        };
        let (a, b) = (a.to_f64().unwrap(), b.to_f64().unwrap());
        let most = a.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        assert!(most > 0.01, "{name} is next to nothing");
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * most),
            "{name}: {a:?} {b:?}"
        );
    }
}

fn size(model: &Model, name: &str) -> Vec<u64> {
    let id = model.graph.find_value(name).unwrap();
    model.graph.constant(id).unwrap().dims().to_vec()
}

#[test]
fn a_wider_layer_takes_what_is_tied_to_it_along_and_computes_the_same() {
    for shares in [Shares::Random, Shares::Equal] {
        let before = model(NET);
        let mut after = before.clone();
        let pass = Widen {
            shares,
            ..Widen::default()
        };
        let report = run_pass(&pass, &mut after, &Setting::default()).unwrap();
        secateur::analysis::check(&after).unwrap();
        assert!(
            report.notes.iter().all(|note| !note.contains("not compared")),
            "{report:?}"
        );
        assert_eq!(size(&after, "w1"), [6, 2, 3, 3]);
        assert_eq!(size(&after, "var"), [6]);
        assert_eq!(size(&after, "wd"), [6, 1, 1, 1]);
        assert_eq!(size(&after, "wf"), [24, 3]);
        let depthwise = after.graph.find_value("d").unwrap().node;
        assert_eq!(after.graph.operator(depthwise).unwrap().int("group"), Some(6));
        close(&before, &after);
    }
}

#[test]
fn sizes_follow_ratio_and_rounding_and_patterns_choose_layers() {
    for (ratio, round_to, layers, expected) in [
        (1.0, 8, vec![], Some(8)),
        (2.0, 1, vec!["^w1$"], Some(8)),
        (2.25, 1, vec!["^c$"], Some(9)),
        (1.0, 1, vec![], None),
        (2.0, 1, vec!["no such layer"], None),
        // A name of what sums over the units is not meant.
        (2.0, 1, vec!["^wf$"], None),
    ] {
        let before = model(NET);
        let mut after = before.clone();
        let pass = Widen {
            ratio,
            round_to,
            layers: layers.iter().map(|text: &&str| (*text).to_owned()).collect(),
            ..Widen::default()
        };
        let report = run_pass(&pass, &mut after, &Setting::default()).unwrap();
        let widened = report.changes.iter().any(|change| change.rule == "layer widened");
        assert_eq!(
            widened,
            expected.is_some(),
            "{ratio} {round_to} {layers:?}: {report:?}"
        );
        assert_eq!(size(&after, "w1")[0], expected.unwrap_or(4));
        close(&before, &after);
    }
}

#[test]
fn what_copies_would_change_stays_and_is_named() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
    g (float[2,3] x) => (float[2,2] y) {
      w = Constant <value = float[3,4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> ()
      v = Constant <value = float[4,2] {1, -2, 3, 4, -5, 6, 7, 8}> ()
      last = Constant <value = int64[1] {1}> ()
      h = MatMul (x, w)
      m = ReduceMean <axes = [1]> (h)
      z = Sub (h, m)
      y = MatMul (z, v)
    }"#;
    let mut after = model(text);
    let before = lines(&after);
    let report = run_pass(&Widen::default(), &mut after, &Setting::default()).unwrap();
    assert!(!report.changed);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("ReduceMean") && note.contains("sums over it without weights")),
        "{report:?}"
    );
    assert_eq!(lines(&after).len(), before.len());
    for (ratio, round_to) in [(0.5, 1), (f64::NAN, 1), (65.0, 1), (1.5, 0)] {
        let pass = Widen {
            ratio,
            round_to,
            ..Widen::default()
        };
        assert!(matches!(
            run_pass(&pass, &mut after, &Setting::default()),
            Err(PassError::Option { .. })
        ));
    }
}

#[test]
fn the_same_seed_gives_the_same_copies() {
    let (mut one, mut two) = (model(NET), model(NET));
    run_pass(&Widen::default(), &mut one, &Setting::default()).unwrap();
    run_pass(&Widen::default(), &mut two, &Setting::default()).unwrap();
    assert_eq!(lines(&one), lines(&two));
}

#[test]
fn identity_layers_leave_outputs_as_they_are_bit_for_bit() {
    for (pass, layers) in [
        (Deepen::default(), 1),
        (
            Deepen {
                count: 2,
                kernel: 1,
                ..Deepen::default()
            },
            2,
        ),
    ] {
        let before = model(NET);
        let mut after = before.clone();
        let report = run_pass(&pass, &mut after, &Setting::default()).unwrap();
        secateur::analysis::check(&after).unwrap();
        assert!(report.notes.is_empty(), "{report:?}");
        let added = report
            .changes
            .iter()
            .find(|change| change.rule == "layer added")
            .unwrap();
        assert_eq!(added.count, layers);
        assert_eq!(
            after.graph.operator_count(),
            before.graph.operator_count() + 2 * layers as usize
        );
        same_outputs(&before, &after, NET);
        // Both readers of the activation read the new layer.
        let (relu, sum) = (
            after.graph.find_value("r").unwrap(),
            after.graph.find_value("s").unwrap(),
        );
        assert!(!after.graph.inputs_of(sum.node).contains(&Some(relu)));
    }
}

#[test]
fn a_sequence_gets_a_product_and_an_output_of_the_model_nothing() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
    g (float[5,1,2] x) => (float[5,1,1,3] y, float[5,1,2] z) {
      w = Constant <value = float[1,9,2] {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9}> ()
      r = Constant <value = float[1,9,3] {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9,
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}> ()
      h = GRU <hidden_size = 3> (x, w, r)
      y = Neg (h)
      z = Relu (x)
    }"#;
    let before = model(text);
    let mut after = before.clone();
    let report = run_pass(&Deepen::default(), &mut after, &Setting::default()).unwrap();
    assert_eq!(report.notes, ["z stays: it is an output of the model"]);
    assert_eq!(size(&after, "h_deeper_1.weight"), [3, 3]);
    same_outputs(&before, &after, text);
    let none = Deepen {
        layers: vec!["nothing".to_owned()],
        ..Deepen::default()
    };
    assert!(!run_pass(&none, &mut after, &Setting::default()).unwrap().changed);
    for (count, kernel) in [(0, 3), (17, 3), (1, 2), (1, 33)] {
        let pass = Deepen {
            count,
            kernel,
            ..Deepen::default()
        };
        assert!(matches!(
            run_pass(&pass, &mut after, &Setting::default()),
            Err(PassError::Option { .. })
        ));
    }
}
