//! Functions of one element and of broadcast operands.

use secateur::ir::Tensor;

use super::{Case, Generator, Random, count};
use crate::autodiff::check::unsigned;

/// An operator of one input with values in a range.
fn unary(r: &Random, operator: &str, opsets: &[i64], low: f64, high: f64) -> Case {
    let rank = r.int(0, 3) as usize;
    let dims = r.dims(rank, 1, 4);
    let mut case = Case::new(operator, r.pick(opsets)).within(r, &dims, low, high);
    case.symbolic = r.bool() && rank > 0;
    case
}

pub(in crate::autodiff) const ELEMENTWISE: &[(&str, Generator)] = &[
    ("Cast", |r| {
        // Within one float type: the comparison needs no coarser one.
        let dims = r.dims(2, 1, 4);
        Case::new("Cast", r.pick(&[9, 13, 19]))
            .with("to", 1i64)
            .random(r, &dims)
    }),
    ("CastLike", |r| {
        let dims = r.dims(2, 1, 4);
        let like = r.uniform(0.0, 1.0);
        Case::new("CastLike", r.pick(&[15, 19]))
            .random(r, &dims)
            .fixed(&[1], vec![like])
    }),
    ("Dropout", |r| {
        let opset = r.pick(&[9, 12, 13]);
        let dims = r.dims(2, 1, 4);
        let case = Case::new("Dropout", opset).random(r, &dims);
        if opset >= 12 && r.bool() {
            return case
                .constant(Tensor::scalar(0.25f32))
                .constant(Tensor::from_bools(&[], &[false]).unwrap());
        }
        case
    }),
    ("Abs", |r| unary(r, "Abs", &[9, 13], -2.0, 2.0)),
    ("Acos", |r| unary(r, "Acos", &[9, 22], -0.8, 0.8)),
    ("Acosh", |r| unary(r, "Acosh", &[9, 22], 1.3, 3.0)),
    ("Asin", |r| unary(r, "Asin", &[9, 22], -0.8, 0.8)),
    ("Asinh", |r| unary(r, "Asinh", &[9, 22], -2.0, 2.0)),
    ("Atan", |r| unary(r, "Atan", &[9, 22], -2.0, 2.0)),
    ("Atanh", |r| unary(r, "Atanh", &[9, 22], -0.8, 0.8)),
    ("Cos", |r| unary(r, "Cos", &[9, 22], -3.0, 3.0)),
    ("Cosh", |r| unary(r, "Cosh", &[9, 22], -2.0, 2.0)),
    ("Erf", |r| unary(r, "Erf", &[9, 13], -2.0, 2.0)),
    ("Exp", |r| unary(r, "Exp", &[9, 13], -2.0, 2.0)),
    ("Identity", |r| unary(r, "Identity", &[9, 13, 16], -2.0, 2.0)),
    ("Log", |r| unary(r, "Log", &[9, 13], 0.3, 3.0)),
    ("Neg", |r| unary(r, "Neg", &[9, 13], -2.0, 2.0)),
    ("Reciprocal", |r| unary(r, "Reciprocal", &[9, 13], 0.4, 3.0)),
    ("Sin", |r| unary(r, "Sin", &[9, 22], -3.0, 3.0)),
    ("Sinh", |r| unary(r, "Sinh", &[9, 22], -2.0, 2.0)),
    ("Sqrt", |r| unary(r, "Sqrt", &[9, 13], 0.3, 3.0)),
    ("Tan", |r| unary(r, "Tan", &[9, 22], -1.0, 1.0)),
    ("Tanh", |r| unary(r, "Tanh", &[9, 13], -2.0, 2.0)),
];

/// With each attribute given or left out.
fn parameters(r: &Random, mut case: Case, attributes: &[(&str, f64, f64)]) -> Case {
    for (name, low, high) in attributes {
        if r.bool() {
            case = case.with(name, r.uniform(*low, *high) as f32);
        }
    }
    case
}

pub(in crate::autodiff) const ACTIVATIONS: &[(&str, Generator)] = &[
    ("Celu", |r| {
        let case = unary(r, "Celu", &[12], -2.0, 2.0);
        parameters(r, case, &[("alpha", 0.5, 2.0)])
    }),
    ("Clip", |r| {
        let opset = r.pick(&[9, 11, 12, 13]);
        let dims = r.dims(2, 1, 4);
        let (low, high) = (r.uniform(-1.5, -0.3), r.uniform(0.3, 1.5));
        let mut case = Case::new("Clip", opset).random(r, &dims);
        let (with_low, with_high) = (r.bool(), r.bool());
        if opset < 11 {
            if with_low {
                case = case.with("min", low as f32);
            }
            return if with_high {
                case.with("max", high as f32)
            } else {
                case
            };
        }
        case = match with_low {
            true => case.varied(&[], vec![low]),
            false => case.none(),
        };
        if with_high {
            case.varied(&[], vec![high])
        } else {
            case
        }
    }),
    ("Elu", |r| {
        let case = unary(r, "Elu", &[9, 22], -2.0, 2.0);
        parameters(r, case, &[("alpha", 0.5, 2.0)])
    }),
    ("Gelu", |r| {
        let case = unary(r, "Gelu", &[20], -3.0, 3.0);
        match r.int(0, 2) {
            0 => case,
            1 => case.with("approximate", "none"),
            _ => case.with("approximate", "tanh"),
        }
    }),
    ("HardSigmoid", |r| {
        let case = unary(r, "HardSigmoid", &[9, 22], -4.0, 4.0);
        parameters(r, case, &[("alpha", 0.1, 0.6), ("beta", 0.2, 0.7)])
    }),
    ("HardSwish", |r| unary(r, "HardSwish", &[14, 22], -5.0, 5.0)),
    ("LeakyRelu", |r| {
        let case = unary(r, "LeakyRelu", &[9, 16], -2.0, 2.0);
        parameters(r, case, &[("alpha", 0.05, 0.5)])
    }),
    ("Mish", |r| unary(r, "Mish", &[18, 22], -3.0, 3.0)),
    ("PRelu", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 2, 4);
        let slope = r.narrower(&dims);
        Case::new("PRelu", r.pick(&[9, 16]))
            .random(r, &dims)
            .within(r, &slope, -1.0, 1.0)
    }),
    ("Relu", |r| unary(r, "Relu", &[9, 13, 14], -2.0, 2.0)),
    ("Selu", |r| {
        let case = unary(r, "Selu", &[9, 22], -2.0, 2.0);
        parameters(r, case, &[("alpha", 0.5, 2.0), ("gamma", 0.5, 2.0)])
    }),
    ("Shrink", |r| {
        let case = unary(r, "Shrink", &[9], -2.0, 2.0);
        parameters(r, case, &[("lambd", 0.2, 0.9), ("bias", -0.5, 0.5)])
    }),
    ("Sigmoid", |r| unary(r, "Sigmoid", &[9, 13], -3.0, 3.0)),
    ("Softplus", |r| unary(r, "Softplus", &[9, 22], -3.0, 3.0)),
    ("Softsign", |r| unary(r, "Softsign", &[9, 22], -2.0, 2.0)),
    ("Swish", |r| unary(r, "Swish", &[24], -3.0, 3.0)),
    ("ThresholdedRelu", |r| {
        let case = unary(r, "ThresholdedRelu", &[10, 22], -3.0, 3.0);
        parameters(r, case, &[("alpha", 0.2, 1.5)])
    }),
];

/// Two or more operands that broadcast; `ranges` are used in turn.
fn broadcast(r: &Random, operator: &str, opsets: &[i64], operands: usize, ranges: &[(f64, f64)]) -> Case {
    let rank = r.int(1, 3) as usize;
    let full = r.dims(rank, 2, 3);
    let whole = r.int(0, operands as i64 - 1) as usize;
    let mut case = Case::new(operator, r.pick(opsets));
    for index in 0..operands {
        let dims = if index == whole {
            full.clone()
        } else {
            r.narrower(&full)
        };
        let (low, high) = ranges[index % ranges.len()];
        case = case.within(r, &dims, low, high);
    }
    case
}

pub(in crate::autodiff) const ARITHMETIC: &[(&str, Generator)] = &[
    ("Add", |r| broadcast(r, "Add", &[9, 13, 14], 2, &[(-2.0, 2.0)])),
    ("Sub", |r| broadcast(r, "Sub", &[9, 13, 14], 2, &[(-2.0, 2.0)])),
    ("Mul", |r| broadcast(r, "Mul", &[9, 13, 14], 2, &[(-2.0, 2.0)])),
    ("Div", |r| {
        broadcast(r, "Div", &[9, 13, 14], 2, &[(-2.0, 2.0), (0.5, 2.0)])
    }),
    ("Pow", |r| match r.int(0, 2) {
        0 => {
            let dims = r.dims(2, 1, 4);
            let exponent = r.pick(&[2.0, 3.0, 0.5, -1.0, 1.7, 1.0]);
            Case::new("Pow", r.pick(&[9, 12, 13, 15]))
                .within(r, &dims, 0.3, 2.0)
                .fixed(&[], vec![exponent])
        }
        1 => {
            // Whole powers of negative numbers.
            let dims = r.dims(2, 1, 4);
            let exponent = r.pick(&[2.0, 3.0, 4.0]);
            Case::new("Pow", r.pick(&[9, 12, 13, 15]))
                .random(r, &dims)
                .fixed(&[], vec![exponent])
        }
        _ => broadcast(r, "Pow", &[9, 12, 13, 15], 2, &[(0.4, 2.0), (-2.0, 2.0)]),
    }),
    ("Max", |r| {
        let operands = r.int(1, 4) as usize;
        broadcast(r, "Max", &[9, 12, 13], operands, &[(-2.0, 2.0)])
    }),
    ("Min", |r| {
        let operands = r.int(1, 4) as usize;
        broadcast(r, "Min", &[9, 12, 13], operands, &[(-2.0, 2.0)])
    }),
    ("Mean", |r| {
        let operands = r.int(1, 4) as usize;
        broadcast(r, "Mean", &[9, 13], operands, &[(-2.0, 2.0)])
    }),
    ("Sum", |r| {
        let operands = r.int(1, 4) as usize;
        broadcast(r, "Sum", &[9, 13], operands, &[(-2.0, 2.0)])
    }),
    ("Mod", |r| {
        broadcast(r, "Mod", &[10, 13], 2, &[(-4.0, 4.0), (0.8, 1.7)]).with("fmod", 1i64)
    }),
    ("Where", |r| {
        let dims = r.dims(2, 2, 3);
        let narrow = r.narrower(&dims);
        let flags: Vec<bool> = (0..count(&narrow)).map(|_| r.bool()).collect();
        let condition = Tensor::from_bools(&unsigned(&narrow), &flags).unwrap();
        let case = Case::new("Where", r.pick(&[9, 16]));
        let case = if r.bool() {
            case.constant(condition)
        } else {
            case.fed(condition)
        };
        let other = r.narrower(&dims);
        let (a, b) = if r.bool() { (dims, other) } else { (other, dims) };
        case.random(r, &a).random(r, &b)
    }),
];
