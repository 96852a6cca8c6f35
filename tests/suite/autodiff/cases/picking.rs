//! Gathering, scattering, softmax and reductions.

use secateur::ir::Tensor;

use super::{Case, Generator, Random, count};
use crate::autodiff::check::unsigned;

fn indices(r: &Random, dims: &[i64], size: i64, negative: bool) -> Tensor {
    let values: Vec<i64> = (0..count(dims))
        .map(|_| {
            if negative {
                r.int(-size, size - 1)
            } else {
                r.int(0, size - 1)
            }
        })
        .collect();
    Tensor::from_slice(&unsigned(dims), &values).unwrap()
}

/// A constant, or the same fed at run time.
fn either(r: &Random, case: Case, tensor: Tensor) -> Case {
    if r.bool() {
        case.constant(tensor)
    } else {
        case.fed(tensor)
    }
}

pub(in crate::autodiff) const PICKING: &[(&str, Generator)] = &[
    ("Gather", |r| {
        let opset = r.pick(&[9, 11, 13, 16]);
        let rank = r.int(1, 3) as usize;
        let mut dims = r.dims(rank, 1, 4);
        let axis = r.int(0, rank as i64 - 1);
        if r.int(0, 3) == 0 {
            // Enough rows to scatter.
            dims[axis as usize] = 70;
        }
        let shape = r.dims(r.pick(&[0, 1, 1, 2]), 1, 3);
        let picked = indices(r, &shape, dims[axis as usize], opset >= 11);
        let case = Case::new("Gather", opset).random(r, &dims).with("axis", axis);
        either(r, case, picked)
    }),
    ("GatherElements", |r| {
        let opset = r.pick(&[11, 13, 16]);
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 1, 4);
        let axis = r.int(0, rank as i64 - 1);
        let mut shape: Vec<i64> = dims.iter().map(|dim| r.int(1, *dim)).collect();
        shape[axis as usize] = r.int(1, 4);
        let picked = indices(r, &shape, dims[axis as usize], true);
        let case = Case::new("GatherElements", opset)
            .random(r, &dims)
            .with("axis", axis);
        either(r, case, picked)
    }),
    ("GatherND", |r| {
        let dims = r.dims(3, 2, 3);
        let depth = r.int(1, 3);
        let tuples = r.int(1, 4);
        let values: Vec<i64> = (0..tuples)
            .flat_map(|_| {
                (0..depth as usize)
                    .map(|axis| r.int(0, dims[axis] - 1))
                    .collect::<Vec<_>>()
            })
            .collect();
        let picked = Tensor::from_slice(&unsigned(&[tuples, depth]), &values).unwrap();
        let case = Case::new("GatherND", r.pick(&[16, 18])).random(r, &dims);
        either(r, case, picked)
    }),
    ("ScatterElements", |r| {
        let opset = r.pick(&[11, 13, 16, 18]);
        let dims = r.dims(2, 2, 4);
        let axis = r.int(0, 1) as usize;
        // Different places along the axis, so that the order of writing does not matter.
        let rows = r.int(1, dims[axis]);
        let mut shape = dims.clone();
        shape[axis] = rows;
        let places = r.order(dims[axis] as usize);
        let values: Vec<i64> = (0..count(&shape))
            .map(|at| {
                let along = if axis == 0 {
                    at as i64 / shape[1]
                } else {
                    at as i64 % shape[1]
                };
                places[along as usize]
            })
            .collect();
        let places = Tensor::from_slice(&unsigned(&shape), &values).unwrap();
        let case = Case::new("ScatterElements", opset)
            .random(r, &dims)
            .with("axis", axis as i64);
        let case = if opset >= 16 && r.bool() {
            case.with("reduction", "add")
        } else {
            case
        };
        either(r, case, places).random(r, &shape)
    }),
    ("ScatterND", |r| {
        let opset = r.pick(&[11, 13, 16, 18]);
        let dims = r.dims(2, 3, 4);
        let places: Vec<i64> = r.order(dims[0] as usize).into_iter().take(2).collect();
        let case = Case::new("ScatterND", opset).random(r, &dims);
        let case = if opset >= 16 && r.bool() {
            case.with("reduction", "add")
        } else {
            case
        };
        either(r, case, Tensor::from_slice(&[2, 1], &places).unwrap()).random(r, &[2, dims[1]])
    }),
    ("TopK", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 2, 4);
        let axis = r.int(0, rank as i64 - 1);
        let k = r.int(1, dims[axis as usize]);
        let case = Case::new("TopK", r.pick(&[11, 24]))
            .random(r, &dims)
            .ints(&[k])
            .with("axis", axis);
        let case = if r.bool() {
            case.with("largest", 0i64)
        } else {
            case
        };
        case.outputs(2, 0)
    }),
    ("Softmax", |r| softmax(r, "Softmax")),
    ("LogSoftmax", |r| softmax(r, "LogSoftmax")),
];

fn softmax(r: &Random, operator: &str) -> Case {
    let opset = r.pick(&[9, 11, 13]);
    let rank = r.int(1, 4) as usize;
    let dims = r.dims(rank, 1, 3);
    let case = Case::new(operator, opset).random(r, &dims);
    if rank >= 2 && r.int(0, 3) == 0 {
        return case;
    }
    let low = if opset >= 11 { -(rank as i64) } else { 0 };
    case.with("axis", r.int(low, rank as i64 - 1))
}

/// A reduction whose axes are an input from `since` on.
fn reduce(r: &Random, operator: &str, since: i64, low: f64, high: f64) -> Case {
    let opset = r.pick(&[9, 11, 13, 18]);
    let rank = r.int(1, 4) as usize;
    let dims = r.dims(rank, 1, 3);
    let mut case = Case::new(operator, opset).within(r, &dims, low, high);
    let count = r.int(1, rank as i64) as usize;
    let mut axes: Vec<i64> = r.order(rank).into_iter().take(count).collect();
    if opset >= 11 && r.bool() {
        axes.iter_mut().for_each(|axis| *axis -= rank as i64);
    }
    if r.bool() {
        case = case.with("keepdims", r.int(0, 1));
    }
    match r.int(0, 4) {
        0 if opset >= since => case.with("noop_with_empty_axes", 1i64),
        0 => case,
        _ if opset >= since => case.ints(&axes),
        _ => case.with("axes", axes),
    }
}

pub(in crate::autodiff) const REDUCTIONS: &[(&str, Generator)] = &[
    ("ReduceL1", |r| reduce(r, "ReduceL1", 18, -2.0, 2.0)),
    ("ReduceL2", |r| reduce(r, "ReduceL2", 18, -2.0, 2.0)),
    ("ReduceLogSum", |r| reduce(r, "ReduceLogSum", 18, 0.3, 2.0)),
    ("ReduceLogSumExp", |r| reduce(r, "ReduceLogSumExp", 18, -2.0, 2.0)),
    ("ReduceMax", |r| reduce(r, "ReduceMax", 18, -2.0, 2.0)),
    ("ReduceMean", |r| reduce(r, "ReduceMean", 18, -2.0, 2.0)),
    ("ReduceMin", |r| reduce(r, "ReduceMin", 18, -2.0, 2.0)),
    ("ReduceProd", |r| {
        let mut case = reduce(r, "ReduceProd", 18, -2.0, 2.0);
        if r.bool() {
            // A zero among the factors.
            if let Some(crate::autodiff::check::Operand::Varied(_, values)) = case.operands.first_mut() {
                values[0] = 0.0;
            }
        }
        case
    }),
    ("ReduceSum", |r| reduce(r, "ReduceSum", 13, -2.0, 2.0)),
    ("ReduceSumSquare", |r| reduce(r, "ReduceSumSquare", 18, -2.0, 2.0)),
];
