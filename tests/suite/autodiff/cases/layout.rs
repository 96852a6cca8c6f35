//! Operators that move elements: shapes, slices, padding.

use secateur::ir::Tensor;

use super::{Case, Generator, Random};

pub(in crate::autodiff) const SHAPES: &[(&str, Generator)] = &[
    ("Concat", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 1, 3);
        let axis = r.int(0, rank as i64 - 1) as usize;
        let mut case = Case::new("Concat", r.pick(&[9, 11, 13]));
        for _ in 0..r.int(1, 3) {
            let mut dims = dims.clone();
            dims[axis] = r.int(1, 3);
            case = case.random(r, &dims);
        }
        let negative = case.opset >= 11 && r.bool();
        case.with(
            "axis",
            if negative {
                axis as i64 - rank as i64
            } else {
                axis as i64
            },
        )
    }),
    ("CumSum", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 1, 4);
        let axis = r.int(-(rank as i64), rank as i64 - 1);
        let mut case = Case::new("CumSum", r.pick(&[11, 14]))
            .random(r, &dims)
            .constant(Tensor::scalar(axis));
        for flag in ["exclusive", "reverse"] {
            if r.bool() {
                case = case.with(flag, 1i64);
            }
        }
        case
    }),
    ("DepthToSpace", |r| {
        let opset = r.pick(&[9, 11, 13]);
        let block = r.int(1, 3);
        let dims = [r.int(1, 2), block * block * r.int(1, 2), r.int(1, 3), r.int(1, 3)];
        let case = Case::new("DepthToSpace", opset)
            .random(r, &dims)
            .with("blocksize", block);
        if opset >= 11 && r.bool() {
            case.with("mode", r.pick(&["DCR", "CRD"]))
        } else {
            case
        }
    }),
    ("SpaceToDepth", |r| {
        let block = r.int(1, 3);
        let dims = [r.int(1, 2), r.int(1, 2), block * r.int(1, 2), block * r.int(1, 2)];
        Case::new("SpaceToDepth", r.pick(&[9, 13]))
            .random(r, &dims)
            .with("blocksize", block)
    }),
    ("Expand", |r| {
        let full = r.dims(r.pick(&[1, 2, 3]), 2, 3);
        let dims = r.narrower(&full);
        let case = Case::new("Expand", r.pick(&[9, 13])).random(r, &dims);
        // A target of 1 keeps the operand's size.
        let target: Vec<i64> = full
            .iter()
            .map(|dim| if r.int(0, 3) == 0 { 1 } else { *dim })
            .collect();
        case.ints(&target)
    }),
    ("Flatten", |r| {
        let rank = r.int(1, 4) as usize;
        let dims = r.dims(rank, 1, 3);
        Case::new("Flatten", r.pick(&[9, 13]))
            .random(r, &dims)
            .with("axis", r.int(0, rank as i64))
    }),
    ("Reshape", |r| {
        let (a, b, c) = (r.int(1, 3), r.int(1, 3), r.int(1, 3));
        let case = Case::new("Reshape", r.pick(&[9, 13, 14])).random(r, &[a, b, c]);
        let targets = [
            vec![a * b, c],
            vec![-1],
            vec![0, -1],
            vec![c, b, a],
            vec![0, 0, 1, c],
            vec![b, -1],
        ];
        case.ints(&r.pick(&targets))
    }),
    ("ReverseSequence", |r| {
        let dims = r.dims(3, 2, 3);
        let (batch, time) = r.pick(&[(0usize, 1usize), (1, 0)]);
        let lengths: Vec<i64> = (0..dims[batch]).map(|_| r.int(1, dims[time])).collect();
        Case::new("ReverseSequence", 10)
            .random(r, &dims)
            .ints(&lengths)
            .with("batch_axis", batch as i64)
            .with("time_axis", time as i64)
    }),
    ("Split", |r| {
        let opset = r.pick(&[9, 13, 18]);
        let rank = r.int(1, 3) as usize;
        let axis = r.int(0, rank as i64 - 1);
        let sizes = r.dims(r.pick(&[2, 3]), 1, 3);
        let mut dims = r.dims(rank, 1, 3);
        dims[axis as usize] = sizes.iter().sum();
        let count = sizes.len();
        let output = r.int(0, count as i64 - 1) as usize;
        let case = Case::new("Split", opset)
            .random(r, &dims)
            .with("axis", axis)
            .outputs(count, output);
        if opset >= 13 {
            case.ints(&sizes)
        } else {
            case.with("split", sizes)
        }
    }),
    ("Squeeze", |r| {
        let opset = r.pick(&[9, 13]);
        let dims = [1, r.int(2, 3), 1, r.int(1, 3)];
        let case = Case::new("Squeeze", opset).random(r, &dims);
        let axes = r.pick(&[vec![0i64], vec![2], vec![0, 2]]);
        if r.int(0, 5) == 0 && dims[3] > 1 {
            return case;
        }
        if opset >= 13 {
            case.ints(&axes)
        } else {
            case.with("axes", axes)
        }
    }),
    ("Unsqueeze", |r| {
        let opset = r.pick(&[9, 13]);
        let dims = r.dims(2, 1, 3);
        let axes = r.pick(&[vec![0i64], vec![2], vec![0, 3], vec![1, 2]]);
        let case = Case::new("Unsqueeze", opset).random(r, &dims);
        if opset >= 13 {
            case.ints(&axes)
        } else {
            case.with("axes", axes)
        }
    }),
    ("Tile", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 1, 3);
        let repeats = r.dims(rank, 1, 3);
        Case::new("Tile", r.pick(&[9, 13]))
            .random(r, &dims)
            .ints(&repeats)
    }),
    ("Transpose", |r| {
        let rank = r.int(1, 4) as usize;
        let dims = r.dims(rank, 1, 3);
        let case = Case::new("Transpose", r.pick(&[9, 13])).random(r, &dims);
        if r.int(0, 3) == 0 {
            case
        } else {
            case.with("perm", r.order(rank))
        }
    }),
    ("Trilu", |r| {
        let rank = r.int(2, 3) as usize;
        let dims = r.dims(rank, 1, 4);
        let mut case = Case::new("Trilu", 14).random(r, &dims);
        if r.bool() {
            case = case.with("upper", r.int(0, 1));
        }
        if r.bool() {
            case.constant(Tensor::scalar(r.int(-2, 2)))
        } else {
            case
        }
    }),
    ("Range", |r| {
        // Away from where the number of elements changes.
        let (start, delta, count) = (r.uniform(-2.0, 2.0), r.uniform(0.5, 2.0), r.int(1, 5));
        let limit = start + delta * (count as f64 - 0.5);
        let mut case = Case::new("Range", 11)
            .varied(&[], vec![start])
            .fixed(&[], vec![limit])
            .varied(&[], vec![delta]);
        case.length = Some(count as u64);
        case
    }),
    ("Slice", slice),
    ("Pad", pad),
];

fn slice(r: &Random) -> Case {
    let opset = r.pick(&[9, 10, 11, 13]);
    let rank = r.int(1, 3) as usize;
    let dims = r.dims(rank, 2, 6);
    let count = r.int(1, rank as i64) as usize;
    let axes: Vec<i64> = r.order(rank).into_iter().take(count).collect();
    let (mut starts, mut ends, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for axis in &axes {
        let size = dims[*axis as usize];
        let step = if opset < 10 {
            1
        } else {
            r.pick(&[1, 1, 2, 3, -1, -2])
        };
        let (low, high) = (r.int(0, size - 1), r.int(0, size - 1));
        let (low, high) = (low.min(high), low.max(high));
        let (start, end) = if step > 0 {
            (low, high + 1)
        } else {
            (high, low - 1)
        };
        // From the end, or beyond it, when that means the same.
        starts.push(if r.bool() { start - size } else { start });
        ends.push(match r.int(0, 2) {
            0 if step > 0 && end == size => i64::from(i32::MAX),
            1 if step > 0 && end < size => end - size,
            _ if end < 0 => -size - 1,
            _ => end,
        });
        steps.push(step);
    }
    let written: Vec<i64> = if opset >= 10 && r.bool() {
        axes.iter().map(|axis| axis - rank as i64).collect()
    } else {
        axes
    };
    let case = Case::new("Slice", opset).random(r, &dims);
    if opset < 10 {
        return case
            .with("starts", starts)
            .with("ends", ends)
            .with("axes", written);
    }
    let case = case.ints(&starts).ints(&ends).ints(&written);
    if steps.iter().all(|step| *step == 1) && r.bool() {
        case
    } else {
        case.ints(&steps)
    }
}

fn pad(r: &Random) -> Case {
    let opset = r.pick(&[9, 11, 13, 18, 19]);
    let rank = r.int(1, 3) as usize;
    let dims = r.dims(rank, 2, 4);
    let mode = r.pick(&["constant", "constant", "reflect", "edge"]);
    let pads: Vec<i64> = (0..2 * rank)
        .map(|at| match mode {
            "reflect" => r.int(0, dims[at % rank] - 1),
            _ => r.int(0, 2),
        })
        .collect();
    let mut case = Case::new("Pad", opset).random(r, &dims);
    if mode != "constant" || r.bool() {
        case = case.with("mode", mode);
    }
    if opset < 11 {
        return case.with("pads", pads).with("value", 0.3f32);
    }
    case = case.ints(&pads);
    if mode == "constant" && r.bool() {
        return case.varied(&[], vec![0.4]);
    }
    if opset >= 18 && r.bool() {
        let axes: Vec<i64> = (0..rank as i64).collect();
        return case.none().ints(&axes);
    }
    case
}
