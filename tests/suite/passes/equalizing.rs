//! Ranges of channels evened out between convolutions: the function stays.

use secateur::passes::Equalize;

use super::quantizing::{CONVOLUTIONS, check_near, operators};

#[test]
fn equalized_convolutions_compute_the_same_with_even_ranges() {
    let (after, report) = check_near(
        &Equalize {
            prepare: false,
            ..Equalize::default()
        },
        CONVOLUTIONS,
        1e-5,
    );
    assert_eq!(
        report.changes.iter().find(|c| c.rule == "channel").unwrap().count,
        2
    );
    let value = |name: &str| {
        let id = after.graph.find_value(name).unwrap();
        after.graph.constant(id).unwrap().to_f64().unwrap()
    };
    let (w, v) = (value("w"), value("v"));
    assert!(
        (w[0].abs() - v[0].abs().max(v[2].abs())).abs() < 1e-2,
        "{w:?} {v:?}"
    );
    assert!(
        (w[2].abs().max(w[3].abs()) - v[1].abs().max(v[3].abs())).abs() < 1e-2,
        "{w:?} {v:?}"
    );
}

/// A trunk that two branches are added to: `p`, `s` and `t` share their two channels, the second of which is small.
const RESIDUAL: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,1,3,3] y)
<float[2,2,1,1] a = {4.0,-2.0,0.1,0.2}, float[2] b = {0.5,0.1},
 float[2,2,1,1] c = {0.1,3.0,-0.02,0.05}, float[2] d = {0.0,-0.05},
 float[1,2,1,1] e = {0.2,5.0}> {
  p = Conv(x, a, b)
  q = Relu(p)
  r = Conv(q, c, d)
  s = Add(q, r)
  t = MaxPool<kernel_shape = [1, 1]>(s)
  y = Conv(t, e)
}"#;

#[test]
fn channels_tied_by_additions_go_equally_far_and_compute_the_same() {
    let pass = Equalize {
        pairs: false,
        prepare: false,
        ..Equalize::default()
    };
    let (after, report) = check_near(&pass, RESIDUAL, 1e-5);
    let count = |rule: &str| {
        let found = report.changes.iter().find(|change| change.rule == rule);
        found.map_or(0, |change| change.count)
    };
    assert_eq!(
        (count("residual group"), count("channel"), count("pair")),
        (1, 4, 0)
    );
    // What the second channel was short of, its readers make good: both channels count alike in what is read now.
    let value = |name: &str| {
        let id = after.graph.find_value(name).unwrap();
        after.graph.constant(id).unwrap().to_f64().unwrap()
    };
    let (a, c, e) = (value("a"), value("c"), value("e"));
    let factor = a[0] / 4.0;
    for (found, expected) in [(c[0], 0.1), (c[1], 3.0 * factor * factor), (e[0], 0.2 / factor)] {
        assert!(
            (found - expected).abs() < 1e-5,
            "{found} {expected} {a:?} {c:?} {e:?}"
        );
    }
    assert!((a[2] / 0.1 * factor - 1.0).abs() < 1e-5 && factor < 1.0, "{a:?}");
}

#[test]
fn additions_that_something_else_reads_are_not_evened_out() {
    let text = RESIDUAL.replace("y = Conv(t, e)", "u = Sigmoid(t)\n  y = Conv(u, e)");
    let pass = Equalize {
        pairs: false,
        prepare: false,
        ..Equalize::default()
    };
    let (after, report) = check_near(&pass, &text, 0.0);
    assert!(!report.changed);
    assert_eq!(operators(&after).len(), 7);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("reads it and is no convolution")),
        "{:?}",
        report.notes
    );
}
