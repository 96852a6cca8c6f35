//! Inferred types against the recorded outputs of the ONNX node tests, and symbolic shapes against both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use secateur::analysis::infer;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{DType, Dim, Model, ValueType};
use secateur::proto;

use super::corpus;

/// A recorded value: its type, and the elements of an integer tensor of rank 0 or 1.
#[derive(Clone, Debug)]
struct Recorded {
    ty: ValueType,
    elements: Option<Vec<i64>>,
    proto: Option<proto::TensorProto>,
}

fn recorded(path: &Path, declared: &proto::TypeProto) -> Option<Recorded> {
    use proto::type_proto::Value;
    let bytes = Bytes::from(std::fs::read(path).ok()?);
    match declared.value.as_ref()? {
        Value::TensorType(_) => {
            let tensor = proto::TensorProto::decode(bytes).ok()?;
            let dims = tensor.dims.iter().copied().map(Dim::Fixed).collect();
            let ty = ValueType::tensor(DType::from_onnx(tensor.data_type?), Some(dims));
            let lifted =
                secateur::format::tensor_from_proto(tensor.clone(), &ExternalFiles::default(), &String::new)
                    .ok()?;
            let elements = if lifted.rank() <= 1 {
                lifted.to_i64().ok()
            } else {
                None
            };
            Some(Recorded {
                ty,
                elements,
                proto: Some(tensor),
            })
        }
        Value::SequenceType(_) => Some(Recorded {
            ty: ValueType::Sequence(Box::default()),
            elements: None,
            proto: None,
        }),
        _ => None,
    }
}

/// One node test.
struct Case {
    name: String,
    model: proto::ModelProto,
    inputs: Vec<Option<Recorded>>,
    outputs: Vec<Option<Recorded>>,
}

fn cases() -> Vec<Case> {
    corpus::node_tests().iter().map(case).collect()
}

fn case(path: &PathBuf) -> Case {
    let folder = path.parent().unwrap();
    let model = proto::ModelProto::decode(Bytes::from(std::fs::read(path).unwrap())).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let read = |infos: &[proto::ValueInfoProto], stem: &str| {
        let file = |index: usize| folder.join("test_data_set_0").join(format!("{stem}_{index}.pb"));
        infos
            .iter()
            .enumerate()
            .map(|(index, info)| recorded(&file(index), info.r#type.as_ref()?))
            .collect::<Vec<_>>()
    };
    let (inputs, outputs) = (read(&graph.input, "input"), read(&graph.output, "output"));
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        model,
        inputs,
        outputs,
    }
}

/// How much of the dims and types was known, by operator.
#[derive(Default)]
struct Coverage {
    outputs: usize,
    complete: usize,
    dims: usize,
    known: usize,
    typed: usize,
}

fn print(title: &str, coverage: &BTreeMap<String, Coverage>) {
    let sum = |of: fn(&Coverage) -> usize| coverage.values().map(of).sum::<usize>();
    let (outputs, complete) = (sum(|c| c.outputs), sum(|c| c.complete));
    println!(
        "{title}: {complete} of {outputs} tensor outputs complete ({:.1} %), {} of {} dims known, {} element types known",
        100.0 * complete as f64 / outputs.max(1) as f64,
        sum(|c| c.known),
        sum(|c| c.dims),
        sum(|c| c.typed),
    );
    for (operator, c) in coverage.iter().filter(|(_, c)| c.complete < c.outputs) {
        println!(
            "  {operator}: {} of {} outputs, {} of {} dims, {} types",
            c.complete, c.outputs, c.known, c.dims, c.typed
        );
    }
}

/// Infers every case after `change`, and compares each output with what was recorded; `sizes` gives symbols their values.
fn compare(title: &str, change: impl Fn(&Case, &mut proto::ModelProto), share: f64) {
    let mut coverage: BTreeMap<String, Coverage> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let mut proto = case.model.clone();
        // Declared types of outputs and intermediate values would answer the question.
        let graph = proto.graph.as_mut().unwrap();
        graph.value_info.clear();
        change(&case, &mut proto);
        let operator = case
            .model
            .graph
            .as_ref()
            .unwrap()
            .node
            .first()
            .map_or(String::new(), |node| node.op_type().to_owned());
        let mut model = match lift(proto, &ExternalFiles::default()) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        infer(&mut model);
        check_outputs(&case, &model, coverage.entry(operator).or_default(), &mut wrong);
    }
    print(title, &coverage);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let outputs: usize = coverage.values().map(|c| c.outputs).sum();
    corpus::ran(outputs, 1800);
    let complete: usize = coverage.values().map(|c| c.complete).sum();
    assert!(
        outputs == 0 || complete as f64 >= share * outputs as f64,
        "{title}: {complete} of {outputs}"
    );
}

fn check_outputs(case: &Case, model: &Model, coverage: &mut Coverage, wrong: &mut Vec<String>) {
    let sizes = |name: &str| -> Option<i64> {
        let (input, axis) = match name.strip_prefix("size_") {
            Some(rest) => {
                let (input, axis) = rest.split_once('_')?;
                (input.parse().ok()?, axis)
            }
            // A declared size of 0 stands for an unknown one and gets a private symbol.
            None => {
                let (input, axis) = name.strip_prefix('?')?.strip_suffix(']')?.rsplit_once('[')?;
                (
                    case.model
                        .graph
                        .as_ref()?
                        .input
                        .iter()
                        .position(|info| info.name() == input)?,
                    axis,
                )
            }
        };
        case.inputs
            .get(input)?
            .as_ref()?
            .ty
            .fixed_shape()?
            .get(axis.parse::<usize>().ok()?)
            .copied()
    };
    for (index, (value, expected)) in model
        .graph
        .output_values()
        .into_iter()
        .zip(&case.outputs)
        .enumerate()
    {
        let (Some(value), Some(expected)) = (value, expected) else {
            continue;
        };
        let found = model.graph.ty(value);
        let label = format!(
            "{} output {index}: found {found}, recorded {}",
            case.name, expected.ty
        );
        if let (ValueType::Sequence(_), ValueType::Sequence(_) | ValueType::Unknown) = (&expected.ty, found) {
            continue;
        }
        let Some(dims) = expected.ty.fixed_shape() else {
            wrong.push(label);
            continue;
        };
        coverage.outputs += 1;
        coverage.dims += dims.len();
        coverage.typed += usize::from(found.dtype().is_some());
        if found.contradicts(&ValueType::tensor(expected.ty.dtype(), None)) {
            wrong.push(label);
            continue;
        }
        let Some(shape) = found.shape() else { continue };
        if shape.len() != dims.len() {
            wrong.push(label);
            continue;
        }
        let known = shape.iter().filter(|dim| dim.is_known()).count();
        coverage.known += known;
        coverage.complete += usize::from(known == dims.len() && found.dtype().is_some());
        let evaluates = |dim: &Dim, expected: i64| !dim.is_known() || dim.evaluate(&sizes) == Some(expected);
        if !shape.iter().zip(&dims).all(|(dim, size)| evaluates(dim, *size)) {
            wrong.push(label.clone());
        }
        let content = model.graph.value(value).and_then(|value| value.content.clone());
        if let (Some(content), Some(elements)) = (content, &expected.elements) {
            let same = content.elements.len() == elements.len()
                && content.scalar == dims.is_empty()
                && content
                    .elements
                    .iter()
                    .zip(elements)
                    .all(|(dim, element)| evaluates(dim, *element));
            if !same {
                wrong.push(format!(
                    "{label}: content {:?}, recorded {elements:?}",
                    content.elements
                ));
            }
        }
    }
}

/// Makes the inputs that `which` accepts initializers with the recorded data.
fn make_constant(case: &Case, model: &mut proto::ModelProto, which: impl Fn(&Recorded) -> bool) {
    let graph = model.graph.as_mut().unwrap();
    let mut kept = Vec::new();
    for (info, recorded) in std::mem::take(&mut graph.input).into_iter().zip(&case.inputs) {
        match recorded
            .as_ref()
            .filter(|recorded| which(recorded))
            .and_then(|recorded| recorded.proto.clone())
        {
            Some(mut tensor) => {
                tensor.name = info.name.clone();
                graph.initializer.push(tensor);
            }
            None => kept.push(info),
        }
    }
    graph.input = kept;
}

/// Gives each dimension of each tensor input a symbol of its own.
fn make_symbolic(case: &Case, model: &mut proto::ModelProto) {
    use proto::tensor_shape_proto::{Dimension, dimension};
    let names: Vec<_> = case
        .model
        .graph
        .as_ref()
        .unwrap()
        .input
        .iter()
        .map(|info| info.name().to_owned())
        .collect();
    for info in &mut model.graph.as_mut().unwrap().input {
        let input = names.iter().position(|name| name == info.name()).unwrap();
        let Some(recorded) = &case.inputs[input] else {
            continue;
        };
        let Some(rank) = recorded.ty.rank() else { continue };
        let Some(proto::type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|ty| ty.value.as_mut())
        else {
            continue;
        };
        let symbol = |axis: usize| Dimension {
            value: Some(dimension::Value::DimParam(format!("size_{input}_{axis}"))),
            ..Dimension::default()
        };
        tensor.shape = Some(proto::TensorShapeProto {
            dim: (0..rank).map(symbol).collect(),
        });
    }
}

fn is_integer_list(recorded: &Recorded) -> bool {
    recorded.elements.is_some()
}

#[test]
fn node_tests_with_declared_inputs_agree_with_the_recorded_outputs() {
    compare("declared inputs", |_, _| {}, 0.84);
}

#[test]
fn node_tests_with_constant_inputs_agree_with_the_recorded_outputs() {
    compare(
        "constant inputs",
        |case, model| make_constant(case, model, |_| true),
        0.95,
    );
}

#[test]
fn node_tests_with_symbolic_inputs_agree_with_the_recorded_outputs() {
    compare("symbolic inputs", make_symbolic, 0.67);
}

#[test]
fn node_tests_with_symbolic_data_and_constant_sizes_agree_with_the_recorded_outputs() {
    let change = |case: &Case, model: &mut proto::ModelProto| {
        make_constant(case, model, is_integer_list);
        make_symbolic(case, model);
    };
    compare("symbolic inputs, constant sizes", change, 0.81);
}

#[test]
fn a_chain_of_32_000_nodes_is_inferred_in_one_pass() {
    use secateur::ir::{GraphBuilder, GraphOutput, Input, Operator, Value};
    let mut builder = GraphBuilder::new();
    let ty = ValueType::tensor(
        DType::F32,
        Some([Dim::symbol("N"), Dim::Fixed(8)].into_iter().collect()),
    );
    let mut value = builder.input(Value::typed("x", ty.clone()), Input::default());
    let bias = builder.initializer(
        "bias",
        secateur::ir::Tensor::from_slice(&[8], &[0f32; 8]).unwrap(),
    );
    for index in 0..32_000 {
        let (operator, inputs) = if index % 2 == 0 {
            ("Add", vec![Some(value), Some(bias)])
        } else {
            ("Relu", vec![Some(value)])
        };
        let node = builder.node(
            Operator::new(operator),
            &inputs,
            vec![Value::named(format!("v{index}"))],
        );
        value = secateur::ir::ValueId::new(node, 0);
    }
    builder.output(
        GraphOutput {
            name: "v31999".into(),
            ..GraphOutput::default()
        },
        Some(value),
    );
    let mut model = Model {
        header: Box::default(),
        opset_imports: vec![secateur::ir::OpsetImport {
            domain: None,
            version: Some(17),
        }]
        .into(),
        metadata: Vec::new(),
        graph: builder.finish(),
        functions: Vec::new(),
    };
    let start = std::time::Instant::now();
    infer(&mut model);
    println!("32,000 nodes: {:?}", start.elapsed());
    assert_eq!(model.graph.ty(value), &ty);
}
