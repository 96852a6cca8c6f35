//! Constant folding: its kernels on small cases, and every one-operator node test against the recorded outputs.

use std::time::Instant;

use secateur::engine::RunValue;
use secateur::fold::TractEvaluator;
use secateur::ir::{DType, Operator, Tensor, opset_version};
use secateur::rewrite::{EvaluateError, Evaluator};

use super::node_tests;

fn evaluate(operator: Operator, version: i64, inputs: &[Option<Tensor>]) -> Result<Tensor, EvaluateError> {
    TractEvaluator
        .evaluate(&operator, version, inputs, 1)
        .map(|mut found| found.remove(0))
}

fn ints(values: &[i64]) -> Option<Tensor> {
    Some(Tensor::vector_i64(values))
}

fn floats(dims: &[u64], values: &[f32]) -> Option<Tensor> {
    Some(Tensor::from_slice(dims, values).unwrap())
}

#[test]
fn shape_arithmetic_is_exact() {
    let op = Operator::new;
    let square = floats(&[2, 3], &[0., 1., 2., 3., 4., 5.]);
    let tail = Operator::new("Shape").with("start", -1);
    for (operator, inputs, expected) in [
        (op("Shape"), vec![square.clone()], vec![2, 3]),
        (tail, vec![square.clone()], vec![3]),
        (op("Size"), vec![square.clone()], vec![6]),
        (op("Gather"), vec![ints(&[5, 6, 7]), ints(&[-1, 0])], vec![7, 5]),
        (
            op("Concat").with("axis", 0),
            vec![ints(&[1, 2]), ints(&[]), ints(&[3])],
            vec![1, 2, 3],
        ),
        (
            op("Add"),
            vec![ints(&[1, 2]), Some(Tensor::scalar(10i64))],
            vec![11, 12],
        ),
        (op("Div"), vec![ints(&[7, -7]), ints(&[2, 2])], vec![3, -3]),
        (
            op("Mod"),
            vec![ints(&[7, -7, 7, -7]), ints(&[3, 3, -3, -3])],
            vec![1, 2, -2, -1],
        ),
        (
            op("Slice"),
            vec![
                ints(&[0, 1, 2, 3, 4]),
                ints(&[-1]),
                ints(&[i64::MIN]),
                ints(&[0]),
                ints(&[-2]),
            ],
            vec![4, 2, 0],
        ),
        (
            op("Slice"),
            vec![ints(&[0, 1, 2]), ints(&[5]), ints(&[9])],
            vec![],
        ),
        (
            op("Slice"),
            vec![ints(&[0, 1, 2]), ints(&[1]), ints(&[i64::MAX])],
            vec![1, 2],
        ),
        (
            op("Range"),
            vec![
                Some(Tensor::scalar(5i64)),
                Some(Tensor::scalar(0i64)),
                Some(Tensor::scalar(-2i64)),
            ],
            vec![5, 3, 1],
        ),
        (
            op("Range"),
            vec![
                Some(Tensor::scalar(5i64)),
                Some(Tensor::scalar(9i64)),
                Some(Tensor::scalar(-2i64)),
            ],
            vec![],
        ),
        (
            op("Squeeze"),
            vec![
                Some(Tensor::from_slice(&[1, 2, 1], &[8i64, 9]).unwrap()),
                ints(&[0, -1]),
            ],
            vec![8, 9],
        ),
        (
            op("Cast").with("to", 7),
            vec![floats(&[3], &[1.9, -1.9, 0.0])],
            vec![1, -1, 0],
        ),
        // Of integers the lowest bits.
        (
            op("Cast").with("to", 3),
            vec![ints(&[128, -129, 5])],
            vec![-128, 127, 5],
        ),
        (op("ReduceProd"), vec![ints(&[2, 3, 4])], vec![24]),
        (op("ArgMax"), vec![floats(&[3], &[1.0, 7.0, 7.0])], vec![1]),
        (op("BitwiseNot"), vec![ints(&[0, 5])], vec![-1, -6]),
        (
            op("GatherND"),
            vec![
                ints(&[5, 6, 7]),
                Some(Tensor::from_slice(&[2, 1], &[-1i64, 0]).unwrap()),
            ],
            vec![7, 5],
        ),
        (op("Tile"), vec![ints(&[1, 2]), ints(&[2])], vec![1, 2, 1, 2]),
        (
            op("CumSum"),
            vec![ints(&[1, 2, 3]), Some(Tensor::scalar(0i64))],
            vec![1, 3, 6],
        ),
    ] {
        let name = operator.op_type.clone();
        assert_eq!(
            evaluate(operator, 17, &inputs).unwrap().to_i64().unwrap(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn results_without_a_meaning_are_refused() {
    for (operator, inputs) in [
        (Operator::new("Add"), vec![ints(&[i64::MAX]), ints(&[1])]),
        (Operator::new("Div"), vec![ints(&[1]), ints(&[0])]),
        (
            Operator::new("Cast").with("to", 6),
            vec![floats(&[1], &[f32::NAN])],
        ),
        (Operator::new("RandomNormalLike"), vec![floats(&[1], &[0.0])]),
        (
            Operator::new("QuantizeLinear"),
            vec![
                floats(&[1], &[0.5]),
                Some(Tensor::scalar(0.1f32)),
                Some(Tensor::scalar(0u8)),
            ],
        ),
        (Operator::new("ReduceMax"), vec![floats(&[1], &[f32::NAN])]),
        (Operator::new("ArgMax"), vec![floats(&[2], &[1.0, f32::NAN])]),
        (
            Operator::new("Clip"),
            vec![ints(&[3]), Some(Tensor::scalar(5i64)), Some(Tensor::scalar(1i64))],
        ),
        (Operator::new("Nonsense"), vec![floats(&[1], &[0.0])]),
        (Operator::new("Gather"), vec![ints(&[1]), ints(&[1])]),
        (Operator::new("Reshape"), vec![ints(&[1, 2, 3]), ints(&[2, -1])]),
    ] {
        let name = operator.op_type.clone();
        assert!(evaluate(operator, 17, &inputs).is_err(), "{name}");
    }
}

#[test]
fn every_permutation_of_axes_moves_every_element_to_its_place() {
    let dims = [3u64, 1, 37, 5];
    let data: Vec<u16> = (0..dims.iter().product::<u64>() as u16).collect();
    let tensor = Tensor::from_slice(&dims, &data).unwrap();
    let strides = [185usize, 185, 5, 1];
    for code in 0..256usize {
        let perm = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
        if (0..4).any(|axis| !perm.contains(&axis)) {
            continue;
        }
        let operator = Operator::new("Transpose").with("perm", perm.map(|axis| axis as i64).to_vec());
        let found = evaluate(operator, 17, &[Some(tensor.clone())]).unwrap();
        let new: Vec<usize> = perm.iter().map(|axis| dims[*axis] as usize).collect();
        let mut expected = Vec::new();
        for a in 0..new[0] {
            for b in 0..new[1] {
                for c in 0..new[2] {
                    for d in 0..new[3] {
                        let place = [a, b, c, d]
                            .iter()
                            .zip(&perm)
                            .map(|(at, axis)| at * strides[*axis])
                            .sum::<usize>();
                        expected.push(data[place]);
                    }
                }
            }
        }
        assert_eq!(found.view::<u16>().unwrap().as_ref(), expected, "{perm:?}");
    }
}

#[test]
fn every_recorded_operator_is_folded_to_its_output_or_refused() {
    let (mut right, mut refused) = (0, 0);
    for test in node_tests::all() {
        let model = test.model();
        let mut operators = model
            .graph
            .node_ids()
            .filter_map(|id| Some((id, model.graph.operator(id)?)));
        let (Some((id, operator)), None) = (operators.next(), operators.next()) else {
            continue;
        };
        let version = opset_version(&model.opset_imports, operator.domain()).unwrap_or(1);
        let outputs = model.graph.get(id).unwrap().outputs();
        for set in test.data_sets(&model) {
            let input = |value: &Option<secateur::ir::ValueId>| match value {
                None => Some(None),
                Some(value) => match set.inputs.get(&*model.graph.value(*value)?.name) {
                    Some(RunValue::Tensor(tensor)) => Some(Some(tensor.clone())),
                    _ => Some(Some(model.graph.constant(*value)?.clone())),
                },
            };
            let Some(inputs) = model
                .graph
                .inputs_of(id)
                .iter()
                .map(input)
                .collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let Ok(found) = TractEvaluator.evaluate(operator, version, &inputs, outputs.len()) else {
                refused += 1;
                continue;
            };
            for (value, found) in outputs.iter().zip(found) {
                let Some(expected) = set.outputs.get(&*value.name) else {
                    continue;
                };
                let difference = node_tests::difference(&RunValue::Tensor(found), expected);
                assert!(
                    difference.is_none(),
                    "{}: {} {difference:?}",
                    test.name,
                    value.name
                );
            }
            right += 1;
        }
    }
    println!("{refused} refused");
    super::corpus::ran(right, 800);
}

#[test]
fn half_precision_casts_round_to_nearest_even() {
    let data = floats(&[3], &[1.0 + 1.0 / 2048.0, 65520.0, f32::NAN]);
    let half = evaluate(
        Operator::new("Cast").with("to", i64::from(DType::F16.onnx())),
        17,
        &[data],
    )
    .unwrap();
    let values = half.to_f64().unwrap();
    assert_eq!(values[..2], [1.0, f64::INFINITY]);
    assert!(values[2].is_nan());
}

#[test]
#[ignore = "a measurement: run by name"]
fn measure_one_node_and_large_transposes() {
    let small = [floats(&[4], &[1., 2., 3., 4.]), floats(&[4], &[1., 2., 3., 4.])];
    let start = Instant::now();
    for _ in 0..10_000 {
        evaluate(Operator::new("Mul"), 17, &small).unwrap();
    }
    println!("Mul of 4 floats in tract: {:?}", start.elapsed() / 10_000);
    let start = Instant::now();
    for _ in 0..100_000 {
        evaluate(Operator::new("Add"), 17, &[ints(&[1, 2]), ints(&[3, 4])]).unwrap();
    }
    println!("Add of 2 integers: {:?}", start.elapsed() / 100_000);
    let large = Some(Tensor::from_slice(&[4096, 4096], &vec![1f32; 4096 * 4096]).unwrap());
    let start = Instant::now();
    evaluate(Operator::new("Transpose"), 17, &[large]).unwrap();
    println!("Transpose of 64 MiB: {:?}", start.elapsed());
}
