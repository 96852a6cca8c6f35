//! Engines through the public API: shapes, symbols, defaults, exposed values, refusals and threads.

use std::collections::BTreeMap;

use secateur::engine::{
    CompileOptions, Engine, EngineError, OrtEngine, RunValue, RunValues, TractEngine, run_many, run_node,
};
use secateur::ir::{
    DType, Dim, Graph, GraphBuilder, GraphOutput, Input, Model, Operator, OpsetImport, Tensor, Value,
    ValueType,
};

fn model(graph: Graph) -> Model {
    Model {
        header: Box::new(secateur::proto::ModelProto {
            ir_version: Some(8),
            ..Default::default()
        }),
        opset_imports: vec![OpsetImport {
            domain: None,
            version: Some(17),
        }]
        .into(),
        metadata: Vec::new(),
        graph,
        functions: Vec::new(),
    }
}

fn float(dims: &[Dim]) -> ValueType {
    ValueType::tensor(DType::F32, Some(dims.iter().cloned().collect()))
}

/// `sum = x + bias; y = relu(sum)`, x: [N, 2], bias a default of 2 elements that the caller may override.
fn biased() -> Model {
    let mut builder = GraphBuilder::new();
    let ty = float(&[Dim::symbol("N"), Dim::Fixed(2)]);
    let x = builder.input(Value::typed("x", ty.clone()), Input::default());
    let default = Tensor::from_slice(&[2], &[1f32, -1.0]).unwrap();
    let bias = builder.input(
        Value::typed("bias", float(&[Dim::Fixed(2)])),
        Input {
            default: Some((default, 0)),
            ..Input::default()
        },
    );
    let sum = builder.node(
        Operator::new("Add"),
        &[Some(x), Some(bias)],
        vec![Value::typed("sum", ty.clone())],
    );
    let sum = secateur::ir::ValueId::new(sum, 0);
    let y = builder.node(Operator::new("Relu"), &[Some(sum)], vec![Value::named("y")]);
    builder.output(
        GraphOutput {
            name: "y".into(),
            declared: None,
            ty,
        },
        Some(secateur::ir::ValueId::new(y, 0)),
    );
    model(builder.finish())
}

fn values<const N: usize>(items: [(&str, Tensor); N]) -> RunValues {
    items
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), RunValue::Tensor(tensor)))
        .collect()
}

fn floats(values: &RunValues, name: &str) -> Vec<f32> {
    match values.get(name) {
        Some(RunValue::Tensor(tensor)) => tensor.view::<f32>().unwrap().into_owned(),
        other => panic!("{name} is {other:?}"),
    }
}

fn batch(rows: &[[f32; 2]]) -> Tensor {
    Tensor::from_slice(&[rows.len() as u64, 2], rows.as_flattened()).unwrap()
}

#[test]
fn symbols_take_the_sizes_of_each_sample_and_defaults_may_be_overridden() {
    for optimise in [false, true] {
        let options = CompileOptions {
            optimise,
            ..CompileOptions::default()
        };
        let session = TractEngine.compile(&biased(), &options).unwrap();
        let run = |inputs| floats(&session.run(&inputs).unwrap(), "y");
        assert_eq!(run(values([("x", batch(&[[1.0, 5.0]]))])), [2.0, 4.0]);
        assert_eq!(
            run(values([("x", batch(&[[1.0, 5.0], [-3.0, 0.0]]))])),
            [2.0, 4.0, 0.0, 0.0]
        );
        let other = Tensor::from_slice(&[2], &[10f32, 20.0]).unwrap();
        assert_eq!(
            run(values([("x", batch(&[[1.0, 5.0]])), ("bias", other)])),
            [11.0, 25.0]
        );
        assert_eq!(run(values([("x", batch(&[[1.0, 5.0]]))])), [2.0, 4.0]);
    }
}

#[test]
fn exposed_values_come_beside_the_outputs() {
    let options = CompileOptions {
        expose: vec!["sum".into(), "x".into(), "y".into()],
        ..CompileOptions::default()
    };
    let session = TractEngine.compile(&biased(), &options).unwrap();
    let found = session.run(&values([("x", batch(&[[-4.0, 5.0]]))])).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["sum", "x", "y"]);
    assert_eq!(
        (floats(&found, "sum"), floats(&found, "x"), floats(&found, "y")),
        (vec![-3.0, 4.0], vec![-4.0, 5.0], vec![0.0, 4.0])
    );
    let unknown = CompileOptions {
        expose: vec!["nowhere".into()],
        ..CompileOptions::default()
    };
    assert!(
        matches!(TractEngine.compile(&biased(), &unknown), Err(EngineError::Input { name, .. }) if name == "nowhere")
    );
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let bound = CompileOptions {
        symbols: BTreeMap::from([("N".to_owned(), 2)]),
        ..CompileOptions::default()
    };
    let session = TractEngine.compile(&biased(), &bound).unwrap();
    for (inputs, name) in [
        (values([]), "x"),
        (values([("x", batch(&[[1.0, 2.0]]))]), "x"),
        (
            values([("x", Tensor::from_slice(&[2, 2], &[1f64; 4]).unwrap())]),
            "x",
        ),
        (
            values([
                ("x", batch(&[[1.0, 2.0], [3.0, 4.0]])),
                ("z", Tensor::scalar(1f32)),
            ]),
            "z",
        ),
    ] {
        match session.run(&inputs) {
            Err(EngineError::Input { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn threads_share_a_session_and_get_the_same_bits() {
    let session = TractEngine
        .compile(&biased(), &CompileOptions::default())
        .unwrap();
    let samples = || (0..64).map(|i| values([("x", batch(&vec![[i as f32, -0.1 * i as f32]; 1 + i % 3]))]));
    let run = |jobs| {
        let mut results = Vec::new();
        run_many(&*session, samples(), jobs, |_, result| {
            results.push(floats(&result.unwrap(), "y"));
            true
        });
        results
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn operators_that_tract_gets_wrong_are_refused_by_name() {
    let mut builder = GraphBuilder::new();
    let ty = float(&[Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(2), Dim::Fixed(2)]);
    let x = builder.input(Value::typed("x", ty), Input::default());
    let operator = Operator::new("SpaceToDepth")
        .with("blocksize", 2)
        .with("mode", "CRD");
    let y = builder.node(operator, &[Some(x)], vec![Value::named("y")]);
    builder.output(
        GraphOutput {
            name: "y".into(),
            ..GraphOutput::default()
        },
        Some(secateur::ir::ValueId::new(y, 0)),
    );
    match TractEngine.compile(&model(builder.finish()), &CompileOptions::default()) {
        Err(EngineError::Unsupported { operator, node, .. }) => {
            assert_eq!((operator.as_str(), node.as_deref()), ("SpaceToDepth", Some("y")));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn one_operator_runs_on_constants() {
    let axes = Tensor::vector_i64(&[1]);
    let x = batch(&[[1.0, 2.0], [3.0, 4.0]]);
    let sum = run_node(
        &Operator::new("ReduceSum").with("keepdims", 0),
        17,
        &[Some(x), Some(axes)],
        1,
    )
    .unwrap();
    assert_eq!(sum[0].view::<f32>().unwrap().as_ref(), [3.0, 7.0]);
    let split = run_node(
        &Operator::new("Split"),
        13,
        &[Some(batch(&[[1.0, 2.0], [3.0, 4.0]])), None],
        2,
    )
    .unwrap();
    assert_eq!(split[1].view::<f32>().unwrap().as_ref(), [3.0, 4.0]);
    let microsoft = Operator::new("Add").in_domain("com.example");
    assert!(
        matches!(run_node(&microsoft, 1, &[], 1), Err(EngineError::Unsupported { operator, .. }) if operator == "com.example.Add")
    );
}

#[test]
fn the_runtime_of_an_installed_package_agrees_with_tract() {
    let ort = match OrtEngine::load() {
        Ok(ort) => ort,
        Err(EngineError::Unavailable { reason, .. }) => return super::corpus::skip(&reason),
        Err(other) => panic!("{other}"),
    };
    println!("{}", ort.describe());
    let options = CompileOptions {
        expose: vec!["sum".into(), "x".into()],
        threads: 1,
        ..CompileOptions::default()
    };
    let sessions = [
        ort.compile(&biased(), &options).unwrap(),
        TractEngine.compile(&biased(), &options).unwrap(),
    ];
    let samples = || (0..16).map(|i| values([("x", batch(&vec![[i as f32, -0.1 * i as f32]; 1 + i % 3]))]));
    let mut found = Vec::new();
    for (session, jobs) in [(&sessions[0], 1), (&sessions[0], 3), (&sessions[1], 1)] {
        let mut results = Vec::new();
        run_many(&**session, samples(), jobs, |_, result| {
            let result = result.unwrap();
            results.push(["x", "sum", "y"].map(|name| floats(&result, name)));
            true
        });
        found.push(results);
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}
