//! Residual blocks: what is one, what goes first, and what a model without some computes.

use std::path::Path;

use secateur::data::{Dataset, Spec};
use secateur::ir::Graph;
use secateur::passes::prune::blocks::find;
use secateur::passes::{BlockCriterion, PruneBlocks, ResourceError};

use super::*;

/// Synthetic samples.
pub(super) struct Samples(pub(super) u64);

impl Resources for Samples {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec: Spec =
            serde_yaml::from_str(&format!("{{ synthetic: {{}}, samples: {} }}", self.0)).unwrap();
        Dataset::open(&spec, Path::new(""), graph).map_err(ResourceError::from)
    }

    fn describes(&self, _role: &str) -> bool {
        true
    }

    fn jobs(&self) -> usize {
        2
    }
}

/// `x + f·(a x)`, then `+ g·(b ·)`, then a head; the layers of the blocks are `a` and `b`, their factors what they weigh.
fn chain(factors: [f32; 2]) -> Model {
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] y) <float[2, 2] s = {{1, 0.5, -0.5, 1}}, float[2, 2] a = {{{0}, 0, 0, {0}}},
          float[2, 2] b = {{0, {1}, {1}, 0}}, float[2, 2] h = {{1, 0, 0, 2}}> {{
          t = MatMul (x, s) u = MatMul (t, a) v = Add (t, u) p = MatMul (v, b) q = Relu (p) w = Add (q, v) y = MatMul (w, h)
        }}"#,
        factors[0], factors[1],
    ))
}

fn labels(model: &Model) -> Vec<String> {
    let blocks = find(&model.graph).blocks.into_iter();
    blocks
        .map(|block| {
            let value = model.graph.value(ValueId::new(block.add, 0)).unwrap();
            value.name.to_string()
        })
        .collect()
}

fn run(pass: &PruneBlocks, model: &Model) -> (Model, PassReport) {
    let mut cut = model.clone();
    let report = run_with(pass, &mut cut, &Setting::default(), Some(&Samples(16)))
        .unwrap_or_else(|error| panic!("{error}"));
    (cut, report)
}

#[test]
fn blocks_are_found_whichever_summand_they_are() {
    assert_eq!(labels(&chain([1.0, 1.0])), ["v", "w"]);
}

#[test]
fn what_only_looks_like_a_block_is_none() {
    let of = |nodes: &str| {
        model(&format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            m (float[N, 2] x) => (float[N, 2] y) <float[2, 2] a = {{1, 2, 3, 4}}, float[2, 2] b = {{1, 0, 0, 1}}, float[2] c = {{1, 2}},
              float k = {{0.5}}, float[1, 1] z = {{2}}> {{ {nodes} }}"#
        ))
    };
    for (nodes, others) in [
        // A bias.
        ("t = MatMul (x, a) y = Add (t, c)", 0),
        // An activation function.
        (
            "t = MatMul (x, a) u = Mul (t, t) v = Mul (u, k) y = Add (t, v)",
            0,
        ),
        // A projection beside.
        ("t = MatMul (x, a) u = MatMul (x, b) y = Add (t, u)", 1),
        // A value inside that is needed elsewhere.
        (
            "t = MatMul (x, b) u = MatMul (t, a) v = Relu (u) w = Add (t, v) p = Neg (u) y = Mul (w, p)",
            1,
        ),
        // A sum that is stretched.
        (
            "t = MatMul (x, a) u = ReduceMean<axes = [1]> (t) v = MatMul (u, z) y = Add (t, v)",
            0,
        ),
        // Twice the same.
        ("t = MatMul (x, a) y = Add (t, t)", 0),
    ] {
        let found = find(&of(nodes).graph);
        assert_eq!((found.blocks.len(), found.others.len()), (0, others), "{nodes}");
    }
    // Another's shape inside is no value of it.
    let shapes = of(
        "t = MatMul (x, b) u = MatMul (t, a) s = Shape (u) v = Relu (u) w = Add (t, v) y = Reshape (w, s)",
    );
    assert_eq!(labels(&shapes), ["w"]);
}

#[test]
fn the_block_that_changes_features_least_goes_first() {
    for (factors, first) in [([0.01, 1.0], "v"), ([1.0, 0.01], "w")] {
        let whole = chain(factors);
        for criterion in [BlockCriterion::Features, BlockCriterion::Recoverability] {
            let pass = PruneBlocks {
                count: Some(1),
                criterion,
                ..PruneBlocks::default()
            };
            let (cut, report) = run(&pass, &whole);
            let left: Vec<&str> = ["v", "w"].into_iter().filter(|name| *name != first).collect();
            assert_eq!(labels(&cut), left, "{criterion:?}");
            let details = &report
                .changes
                .iter()
                .find(|change| change.rule == "blocks removed")
                .unwrap()
                .details;
            assert!(details[0].contains("4 multiply-accumulates"), "{details:?}");
        }
    }
}

#[test]
fn as_many_go_as_the_target_takes_and_kept_ones_stay() {
    let whole = chain([0.5, 0.5]);
    // Four layers of four multiply-accumulates.
    for (target, left) in [(0.75, 1), (0.5, 0), (1.0, 2)] {
        let pass = PruneBlocks {
            target_macs: Some(target),
            ..PruneBlocks::default()
        };
        let (cut, report) = run(&pass, &whole);
        assert_eq!(labels(&cut).len(), left, "{target}");
        assert_eq!(
            said(&report).contains("without a block less"),
            left == 2,
            "{report:?}"
        );
    }
    let pass = PruneBlocks {
        target_macs: Some(0.1),
        keep: vec!["^q$".to_owned()],
        ..PruneBlocks::default()
    };
    let (cut, report) = run(&pass, &whole);
    assert_eq!(labels(&cut), ["w"]);
    let missed = &report.requirements[0];
    assert!(
        !missed.passed
            && missed
                .message
                .contains("75.0 % of the multiply-accumulates remain"),
        "{report:?}"
    );
    assert_eq!(
        (missed.name.as_str(), missed.value, missed.bound),
        ("target-macs", 0.75, 0.1)
    );
    assert!(said(&report).contains("a keep pattern"), "{report:?}");
}

#[test]
fn outputs_keep_their_names_and_nothing_is_left_behind() {
    let whole = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] t, float[N, 2] y) <float[2, 2] a = {1, 2, 3, 4}, float[2, 2] b = {1, 0, 0, 1}> {
          t = MatMul (x, b) u = MatMul (t, a) y = Add (t, u)
        }"#,
    );
    let pass = PruneBlocks {
        blocks: vec!["^y$".to_owned()],
        ..PruneBlocks::default()
    };
    let (cut, report) = run(&pass, &whole);
    let names: Vec<String> = cut
        .graph
        .outputs()
        .iter()
        .map(|output| output.name.to_string())
        .collect();
    assert_eq!(names, ["t", "y"]);
    assert!(report.changed && cut.graph.find_value("a").is_none());
    assert!(
        !report.notes.iter().any(|note| note.contains("not checked")),
        "{report:?}"
    );
    let none = PruneBlocks {
        blocks: vec!["^t$".to_owned()],
        ..PruneBlocks::default()
    };
    let (same, report) = run(&none, &whole);
    assert!(
        !report.changed && said(&report).contains("name no block"),
        "{report:?}"
    );
    assert_eq!(labels(&same), ["y"]);
}

#[test]
fn what_goes_has_to_be_said_once() {
    for (pass, expected) in [
        (PruneBlocks::default(), "what goes is not said"),
        (
            PruneBlocks {
                count: Some(1),
                target_macs: Some(0.5),
                ..PruneBlocks::default()
            },
            "one of `count`",
        ),
        (
            PruneBlocks {
                target_macs: Some(1.5),
                ..PruneBlocks::default()
            },
            "target-macs",
        ),
        (
            PruneBlocks {
                count: Some(1),
                samples: 0,
                ..PruneBlocks::default()
            },
            "samples",
        ),
    ] {
        let failure = run_with(
            &pass,
            &mut chain([1.0, 1.0]),
            &Setting::default(),
            Some(&Samples(4)),
        )
        .unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

/// fixtures/: an attention and a feed-forward part for each of the two layers of the ViT; of the three blocks of ResNet-8 one has no
/// projection.
#[test]
fn fixtures_have_the_blocks_that_they_are_known_for() {
    for (name, count) in [
        ("digits_vit", 4),
        ("digits_vit_dynamo", 4),
        ("resnet8_cifar10_bn", 1),
        ("digits_mlp", 0),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.onnx"));
        let mut model = secateur::format::read(&path, &Default::default()).unwrap().model;
        infer(&mut model);
        assert_eq!(find(&model.graph).blocks.len(), count, "{name}");
    }
}
