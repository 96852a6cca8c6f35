//! Losses: their values against the definition, their gradients against finite differences.

use secateur::autodiff::{GradientOptions, InputIs, Loss, Wrt, gradients};
use secateur::engine::{RunValue, RunValues};
use secateur::ir::{DType, Tensor};

use super::check::{Case, compile, tensor};
use super::random::Random;

/// The loss of an operator's output by its gradient model; checks the gradients on the way.
fn value(case: &Case, loss: Loss, targets: &Tensor) -> f64 {
    let (model, inputs) = case.model(DType::F64);
    let model = gradients(
        &model,
        &loss,
        &Wrt::Named(case.wanted()),
        &GradientOptions::default(),
    )
    .unwrap();
    let session = compile(&model).unwrap();
    let mut feeds: RunValues = inputs
        .iter()
        .map(|(name, x)| (name.clone(), RunValue::Tensor(x.clone())))
        .collect();
    feeds.insert(loss.input_name().to_owned(), RunValue::Tensor(targets.clone()));
    let base = session.run(&feeds).unwrap();
    let x = &inputs[0].1;
    let (start, slope) = (x.to_f64().unwrap(), tensor(&base, "grad/x0").to_f64().unwrap());
    for at in 0..start.len() {
        let at_step = |step: f64| {
            let mut moved = start.clone();
            moved[at] += step;
            let mut feeds = feeds.clone();
            feeds.insert(
                "x0".into(),
                RunValue::Tensor(Tensor::from_f64(DType::F64, x.dims(), &moved).unwrap()),
            );
            tensor(&session.run(&feeds).unwrap(), "loss")
                .single_f64()
                .unwrap()
        };
        let numeric = (at_step(1e-6) - at_step(-1e-6)) / 2e-6;
        assert!(
            (numeric - slope[at]).abs() < 1e-7,
            "{loss:?} {}: {numeric} and {}",
            case.describe(),
            slope[at]
        );
    }
    tensor(&base, "loss").single_f64().unwrap()
}

fn softmax(z: &[f64]) -> Vec<f64> {
    let top = z.iter().copied().fold(f64::MIN, f64::max);
    let e: Vec<f64> = z.iter().map(|z| (z - top).exp()).collect();
    e.iter().map(|e_i| e_i / e.iter().sum::<f64>()).collect()
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
}

fn cross_entropy(input: InputIs) -> Loss {
    Loss::CrossEntropy { input, axis: None }
}

const LOGITS: [f64; 6] = [0.3, -1.2, 2.0, 0.9, 0.1, -0.4];

#[test]
fn cross_entropy_takes_logits_or_what_softmax_reads() {
    let labels = Tensor::vector_i64(&[2, 0]);
    let expected = -(softmax(&LOGITS[..3])[2].ln() + softmax(&LOGITS[3..])[0].ln()) / 2.0;
    for (operator, opset) in [
        ("Identity", 13),
        ("Softmax", 13),
        ("Softmax", 11),
        ("LogSoftmax", 13),
    ] {
        let mut case = Case::new(operator, opset).varied(&[2, 3], LOGITS.to_vec());
        near(value(&case, cross_entropy(InputIs::Auto), &labels), expected);
        case.symbolic = true;
        near(value(&case, cross_entropy(InputIs::Auto), &labels), expected);
    }
    let probabilities: Vec<f64> = [softmax(&LOGITS[..3]), softmax(&LOGITS[3..])].concat();
    let case = Case::new("Identity", 13).varied(&[2, 3], probabilities);
    near(
        value(&case, cross_entropy(InputIs::Probabilities), &labels),
        expected,
    );
}

#[test]
fn cross_entropy_averages_over_positions() {
    let r = Random::new("positions", 0);
    let case = Case::new("Identity", 13).random(&r, &[2, 3, 2]);
    let super::check::Operand::Varied(_, z) = &case.operands[0] else {
        panic!()
    };
    let at = |n: usize, c: usize, d: usize| z[(n * 3 + c) * 2 + d];
    let labels = Tensor::from_slice(&[2, 2], &[0i64, 1, 2, 2]).unwrap();
    let mut expected = 0.0;
    for (place, label) in [0usize, 1, 2, 2].into_iter().enumerate() {
        let (n, d) = (place / 2, place % 2);
        expected -= softmax(&[at(n, 0, d), at(n, 1, d), at(n, 2, d)])[label].ln() / 4.0;
    }
    near(value(&case, cross_entropy(InputIs::Auto), &labels), expected);
    // The last axis as classes: [2, 3] positions of 2.
    let labels = Tensor::from_slice(&[2, 3], &[0i64, 1, 1, 0, 1, 0]).unwrap();
    let last = Loss::CrossEntropy {
        input: InputIs::Logits,
        axis: Some(-1),
    };
    assert!(value(&case, last, &labels) > 0.0);
}

#[test]
fn a_label_without_a_class_makes_the_loss_undefined() {
    let case = Case::new("Identity", 13).varied(&[2, 3], LOGITS.to_vec());
    let (model, inputs) = case.model(DType::F32);
    let model = gradients(
        &model,
        &cross_entropy(InputIs::Auto),
        &Wrt::Named(case.wanted()),
        &GradientOptions::default(),
    );
    let mut feeds: RunValues = inputs
        .into_iter()
        .map(|(name, x)| (name, RunValue::Tensor(x)))
        .collect();
    feeds.insert("labels".into(), RunValue::Tensor(Tensor::vector_i64(&[1, 3])));
    let result = compile(&model.unwrap()).unwrap().run(&feeds).unwrap();
    assert!(tensor(&result, "loss").single_f64().unwrap().is_nan());
}

#[test]
fn squared_error_and_inner_product_are_what_they_say() {
    let targets = Tensor::from_f64(DType::F64, &[2, 3], &[1.0, 0.0, -1.0, 0.5, 0.5, 2.0]).unwrap();
    let case = Case::new("Identity", 13).varied(&[2, 3], LOGITS.to_vec());
    let pairs = || LOGITS.iter().zip(targets.to_f64().unwrap());
    near(
        value(&case, Loss::MeanSquaredError, &targets),
        pairs().map(|(y, t)| (y - t).powi(2)).sum::<f64>() / 6.0,
    );
    near(
        value(&case, Loss::InnerProduct, &targets),
        pairs().map(|(y, t)| y * t).sum(),
    );
}

#[test]
fn binary_cross_entropy_takes_logits_or_what_sigmoid_reads() {
    let t = [1.0, 0.0, 0.3, 1.0, 0.0, 0.8];
    let targets = Tensor::from_f64(DType::F64, &[2, 3], &t).unwrap();
    let p: Vec<f64> = LOGITS.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
    let expected = -p
        .iter()
        .zip(t)
        .map(|(p, t)| t * p.ln() + (1.0 - t) * (1.0 - p).ln())
        .sum::<f64>()
        / 6.0;
    let loss = |input| Loss::BinaryCrossEntropy { input };
    let logits = Case::new("Identity", 13).varied(&[2, 3], LOGITS.to_vec());
    near(value(&logits, loss(InputIs::Auto), &targets), expected);
    let probabilities = Case::new("Identity", 13).varied(&[2, 3], p);
    near(
        value(&probabilities, loss(InputIs::Probabilities), &targets),
        expected,
    );
    // Sigmoid itself is dead code then: what it reads is compared.
    let sigmoid = Case::new("Sigmoid", 13).varied(&[2, 3], LOGITS.to_vec());
    near(value(&sigmoid, loss(InputIs::Auto), &targets), expected);
}

#[test]
fn distillation_is_the_softened_divergence_from_the_teacher() {
    let teacher = [1.0, 0.2, -0.7, -0.3, 0.4, 0.8];
    let heat = 2.5;
    let soft = |z: &[f64]| softmax(&z.iter().map(|z| z / heat).collect::<Vec<_>>());
    let mut expected = 0.0;
    for row in 0..2 {
        let (t, p) = (
            soft(&teacher[row * 3..row * 3 + 3]),
            soft(&LOGITS[row * 3..row * 3 + 3]),
        );
        expected += t.iter().zip(&p).map(|(t, p)| t * (t / p).ln()).sum::<f64>() * heat * heat / 2.0;
    }
    let loss = |input| Loss::Distillation {
        input,
        axis: None,
        temperature: heat,
    };
    let targets = Tensor::from_f64(DType::F64, &[2, 3], &teacher).unwrap();
    let case = Case::new("Identity", 13).varied(&[2, 3], LOGITS.to_vec());
    near(value(&case, loss(InputIs::Auto), &targets), expected);
    let of = |z: &[f64]| [softmax(&z[..3]), softmax(&z[3..])].concat();
    let targets = Tensor::from_f64(DType::F64, &[2, 3], &of(&teacher)).unwrap();
    let case = Case::new("Softmax", 13).varied(&[2, 3], LOGITS.to_vec());
    near(value(&case, loss(InputIs::Auto), &targets), expected);
    let case = Case::new("Identity", 13).varied(&[2, 3], of(&LOGITS));
    near(value(&case, loss(InputIs::Probabilities), &targets), expected);
}
