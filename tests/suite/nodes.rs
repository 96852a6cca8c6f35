//! Verification node by node: faults put into quantized models are named, whole models hold, and engines are compared in codes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use secateur::data::{Dataset, Spec};
use secateur::engine::{CompileOptions, Engine, EngineError, Session, TractEngine};
use secateur::format::{self, ReadOptions};
use secateur::ir::{DType, Model, Tensor};
use secateur::verify::{Engines, NodeOptions, NodeReport, Verdict, VerifyOptions, verify, verify_nodes};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    folder.join(name).display().to_string()
}

fn load(name: &str) -> Model {
    format::read(Path::new(&fixture(name)), &ReadOptions::default())
        .unwrap()
        .model
}

/// The model with one of its constants multiplied by `factor`, and `shift` added.
fn with_fault(model: &Model, constant: &str, factor: f64, shift: f64) -> Model {
    let mut model = model.clone();
    let value = model.graph.find_value(constant).unwrap();
    let old = model.graph.constant(value).unwrap();
    let numbers: Vec<f64> = old.to_f64().unwrap().iter().map(|v| v * factor + shift).collect();
    let new = match old.dtype() {
        DType::U8 => {
            let codes: Vec<u8> = numbers.iter().map(|v| *v as u8).collect();
            Tensor::from_slice(old.dims(), &codes).unwrap()
        }
        dtype => Tensor::from_f64(dtype, old.dims(), &numbers).unwrap(),
    };
    model.graph.edit("fault").set_constant(value.node, new).unwrap();
    model
}

/// tract on a model that one constant differs in: an engine that is wrong at one node.
struct Wrong(&'static str);

impl Engine for Wrong {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn release(&self) -> String {
        "wrong".to_owned()
    }

    fn describe(&self) -> String {
        "wrong".to_owned()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        TractEngine.compile(&with_fault(model, self.0, 1.5, 0.0), options)
    }
}

fn judge(reference: &Model, model: &Model, second: &dyn Engine, least_sqnr: Option<f64>) -> NodeReport {
    let path = fixture("data/digits_calib.npz");
    let (spec, base) = Spec::from_path(Path::new(&path)).unwrap();
    let options = VerifyOptions {
        data: Some((
            "test data".to_owned(),
            Arc::new(Dataset::open(&spec, &base, &reference.graph).unwrap()),
        )),
        ..VerifyOptions::default()
    };
    let whole = verify(reference, model, &TractEngine, &options);
    let engines = Engines {
        main: &TractEngine,
        pair: Ok((&TractEngine, second)),
    };
    let nodes = NodeOptions {
        least_sqnr,
        ..NodeOptions::default()
    };
    verify_nodes(reference, model, &whole, engines, &options, &nodes)
}

#[test]
fn a_fault_is_named_where_it_is_and_nowhere_else() {
    let reference = load("digits_cnn.onnx");
    let pairs = load("digits_cnn_qdq_pt_u8s8.onnx");
    let operators = load("digits_cnn_qop_pc_u8u8.onnx");
    let sound = judge(&reference, &pairs, &TractEngine, Some(20.0));
    assert_eq!(sound.errors.nodes, 9, "{sound:?}");
    let inner = |report: &NodeReport| {
        let worst = report
            .errors
            .worst
            .iter()
            .find(|node| node.value != "input")
            .unwrap();
        (worst.node.clone(), worst.sqnr_db.unwrap(), worst.clipped.unwrap())
    };
    assert!(inner(&sound).1 > 20.0, "{sound:?}");
    for (model, constant, factor, shift, node, most) in [
        // The scale of a weight: the result is half as large again.
        (&pairs, "onnx::Conv_53_scale", 1.5, 0.0, "/f/f.6/Conv", 10.0),
        // The zero point of a result: what is below it is cut off.
        (
            &pairs,
            "/f/f.6/Conv_output_0_zero_point",
            0.0,
            0.0,
            "/f/f.6/Conv",
            25.0,
        ),
        (
            &operators,
            "onnx::Conv_50_scale",
            1.5,
            0.0,
            "/f/f.3/Conv_quant",
            10.0,
        ),
    ] {
        let faulty = with_fault(model, constant, factor, shift);
        let report = judge(&reference, &faulty, &TractEngine, Some(most));
        let (worst, sqnr, clipped) = inner(&report);
        assert_eq!(worst, node, "{constant}: {:?}", report.errors.worst);
        assert!(sqnr < most, "{constant}: {sqnr} dB");
        assert_eq!(report.verdict, Verdict::Different);
        assert!(
            report.reasons.iter().any(|reason| reason.contains(node)),
            "{:?}",
            report.reasons
        );
        if factor == 0.0 {
            assert!(clipped > 0.01, "{clipped}");
        }
        // Every other node is as good as before: it got the reference's values.
        let others = report
            .errors
            .worst
            .iter()
            .filter(|other| other.node != node && other.value != "input");
        for other in others {
            assert!(
                other.sqnr_db.unwrap() > 20.0 && other.sqnr_db.unwrap() > sqnr + 5.0,
                "{constant}: {other:?} {shift}"
            );
        }
    }
}

#[test]
fn an_engine_that_is_wrong_at_one_node_is_found_at_that_node() {
    let reference = load("digits_cnn.onnx");
    let pairs = load("digits_cnn_qdq_pt_u8s8.onnx");
    let same = judge(&reference, &pairs, &TractEngine, None);
    assert_eq!(same.verdict, Verdict::Within, "{:?}", same.reasons);
    assert!(
        same.agreement.nodes >= 9 && same.agreement.most_codes.unwrap() <= 1.0,
        "{:?}",
        same.agreement
    );
    let wrong = judge(&reference, &pairs, &Wrong("onnx::Conv_53_scale"), None);
    assert_eq!(wrong.verdict, Verdict::Different);
    assert_eq!(wrong.agreement.worst[0].node, "/f/f.6/Conv");
    assert!(wrong.agreement.worst[0].codes > 1.0);
    let beyond = wrong.agreement.worst.iter().filter(|node| node.codes > 1.0);
    assert_eq!(beyond.count(), 1, "{:?}", wrong.agreement.worst);
}

#[test]
fn the_verb_reports_nodes_and_answers_by_them() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_secateur"))
            .args([
                "verify",
                &fixture("digits_cnn.onnx"),
                &fixture("digits_cnn_qdq_pc_s8s8.onnx"),
            ])
            .args([
                "--data",
                &fixture("data/digits_calib.npz"),
                "--json",
                "--per-node",
            ])
            .args(arguments)
            .output()
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), document)
    };
    let (code, document) = run(&["--worst", "3"]);
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["verdict"], "different");
    assert_eq!(document["per_node"]["verdict"], "within");
    assert_eq!(
        document["per_node"]["errors"]["worst"].as_array().unwrap().len(),
        3
    );
    assert!(document["outputs"][0]["sqnr_db"].as_f64().unwrap() > 20.0);
    assert!(document["outputs"][0]["top1_agreement"].as_f64().unwrap() > 0.98);
    let (code, document) = run(&["--node-sqnr", "39"]);
    assert_eq!(code, Some(1), "{document}");
    assert_eq!(document["per_node"]["verdict"], "different");
}
