//! Convolution, pooling and resizing.

use secateur::ir::Tensor;

use super::{Case, Generator, Random};

/// Windows over 1 to 3 spatial axes that fit an input.
struct Windows {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
    input: Vec<i64>,
    auto_pad: Option<&'static str>,
}

/// `dilate` allows dilations; pads stay below the kernel, as pooling wants it.
fn windows(r: &Random, rank: usize, dilate: bool) -> Windows {
    let kernel = r.dims(rank, 1, if rank == 3 { 2 } else { 3 });
    let strides = r.dims(rank, 1, 3);
    let dilations: Vec<i64> = if dilate { r.dims(rank, 1, 2) } else { vec![1; rank] };
    let auto_pad = r.pick(&[
        None,
        None,
        None,
        Some("SAME_UPPER"),
        Some("SAME_LOWER"),
        Some("VALID"),
        Some("NOTSET"),
    ]);
    let pads: Vec<i64> = (0..2 * rank).map(|at| r.int(0, kernel[at % rank] - 1)).collect();
    let input = (0..rank)
        .map(|axis| {
            let extent = (kernel[axis] - 1) * dilations[axis] + 1;
            extent + r.int(0, if rank == 1 { 6 } else { 3 })
        })
        .collect();
    Windows {
        kernel,
        strides,
        dilations,
        pads,
        input,
        auto_pad,
    }
}

impl Windows {
    /// The attributes; those at their defaults are sometimes left out.
    fn on(&self, r: &Random, mut case: Case, dilate: bool) -> Case {
        if self.strides.iter().any(|s| *s != 1) || r.bool() {
            case = case.with("strides", self.strides.clone());
        }
        if dilate && (self.dilations.iter().any(|d| *d != 1) || r.bool()) {
            case = case.with("dilations", self.dilations.clone());
        }
        if let Some(mode) = self.auto_pad {
            case = case.with("auto_pad", mode);
        }
        if matches!(self.auto_pad, None | Some("NOTSET")) && self.pads.iter().any(|p| *p != 0) {
            case = case.with("pads", self.pads.clone());
        }
        case
    }
}

fn image(n: i64, channels: i64, spatial: &[i64]) -> Vec<i64> {
    [&[n, channels], spatial].concat()
}

fn conv(r: &Random) -> Case {
    let rank = r.pick(&[1, 1, 2, 2, 3]);
    let mut windows = windows(r, rank, true);
    if windows.auto_pad.is_some_and(|mode| mode.starts_with("SAME")) {
        // Engines disagree about SAME with dilations.
        windows.dilations = vec![1; rank];
    }
    let group = r.pick(&[1, 1, 2, 3]);
    let (per_in, per_out) = (r.int(1, 2), r.int(1, 2));
    let x = image(r.int(1, 2), group * per_in, &windows.input);
    let w = image(group * per_out, per_in, &windows.kernel);
    let mut case = Case::new("Conv", r.pick(&[9, 11, 22]))
        .random(r, &x)
        .random(r, &w);
    if r.bool() {
        case = case.random(r, &[group * per_out]);
    }
    if group != 1 || r.bool() {
        case = case.with("group", group);
    }
    if r.bool() {
        case = case.with("kernel_shape", windows.kernel.clone());
    }
    case = windows.on(r, case, true);
    case.symbolic = false;
    case
}

fn conv_transpose(r: &Random) -> Case {
    let rank = r.pick(&[1, 1, 2, 2, 3]);
    let mut windows = windows(r, rank, true);
    if windows.auto_pad.is_some_and(|mode| mode.starts_with("SAME")) {
        windows.dilations = vec![1; rank];
        // tract wants the kernel to reach over the stride here.
        windows.kernel = (0..rank)
            .map(|axis| windows.strides[axis] + r.int(1, 2))
            .collect();
    }
    let group = r.pick(&[1, 1, 2, 3]);
    let (per_in, per_out) = (r.int(1, 2), r.int(1, 2));
    let spatial: Vec<i64> = r.dims(rank, 2, 4);
    let x = image(r.int(1, 2), group * per_in, &spatial);
    let w = image(group * per_in, per_out, &windows.kernel);
    let mut case = Case::new("ConvTranspose", r.pick(&[9, 11, 22]))
        .random(r, &x)
        .random(r, &w);
    if r.bool() {
        case = case.random(r, &[group * per_out]);
    }
    if group != 1 || r.bool() {
        case = case.with("group", group);
    }
    case = case.with("kernel_shape", windows.kernel.clone());
    if matches!(windows.auto_pad, None | Some("NOTSET")) && r.bool() {
        let extra: Vec<i64> = (0..rank)
            .map(|axis| r.int(0, windows.strides[axis].max(windows.dilations[axis]) - 1))
            .collect();
        case = case.with("output_padding", extra);
    }
    windows.on(r, case, true)
}

fn pool(r: &Random, operator: &str, opsets: &[i64], dilations_since: i64, ceil: bool) -> Case {
    let opset = r.pick(opsets);
    let rank = r.pick(&[1, 1, 2, 2]);
    let dilate = opset >= dilations_since;
    let mut windows = windows(r, rank, dilate);
    if windows.auto_pad.is_some_and(|mode| mode.starts_with("SAME")) {
        windows.dilations = vec![1; rank];
    }
    let x = image(r.int(1, 2), r.int(1, 3), &windows.input);
    let mut case = Case::new(operator, opset)
        .random(r, &x)
        .with("kernel_shape", windows.kernel.clone());
    if ceil && opset >= 10 && r.bool() && matches!(windows.auto_pad, None | Some("NOTSET")) {
        case = case.with("ceil_mode", 1i64);
    }
    windows.on(r, case, dilate)
}

pub(in crate::autodiff) const CONVOLUTION: &[(&str, Generator)] =
    &[("Conv", conv), ("ConvTranspose", conv_transpose)];

pub(in crate::autodiff) const POOLING: &[(&str, Generator)] = &[
    ("AveragePool", |r| {
        let case = pool(r, "AveragePool", &[9, 10, 11, 19], 19, true);
        if r.bool() {
            case.with("count_include_pad", 1i64)
        } else {
            case
        }
    }),
    ("MaxPool", |r| {
        let mut case = pool(r, "MaxPool", &[9, 10, 11, 12, 16, 22], 10, true);
        if r.int(0, 2) == 0 {
            // Windows side by side.
            let kernel = case.operator.ints("kernel_shape").unwrap().to_vec();
            let kept = case
                .operator
                .attributes()
                .iter()
                .filter(|a| a.name != "strides" && a.name != "dilations");
            let kept = kept.cloned().collect();
            case.operator = case
                .operator
                .clone()
                .with_attributes(kept)
                .with("strides", kernel);
        }
        case
    }),
    ("LpPool", |r| {
        let case = pool(r, "LpPool", &[11, 18, 22], 18, false);
        if r.bool() {
            case.with("p", r.int(1, 3))
        } else {
            case
        }
    }),
    ("GlobalAveragePool", |r| {
        let rank = r.int(3, 5) as usize;
        let dims = r.dims(rank, 1, 3);
        Case::new("GlobalAveragePool", r.pick(&[9, 22])).random(r, &dims)
    }),
    ("GlobalMaxPool", |r| {
        let rank = r.int(3, 5) as usize;
        let dims = r.dims(rank, 1, 3);
        Case::new("GlobalMaxPool", r.pick(&[9, 22])).random(r, &dims)
    }),
    ("GlobalLpPool", |r| {
        let rank = r.int(3, 5) as usize;
        let dims = r.dims(rank, 1, 3);
        let case = Case::new("GlobalLpPool", 9).random(r, &dims);
        if r.bool() {
            case.with("p", r.int(1, 3))
        } else {
            case
        }
    }),
];

fn resize(r: &Random) -> Case {
    let opset = r.pick(&[10, 11, 13, 18, 19]);
    let rank = r.pick(&[1, 2]);
    let spatial = r.dims(rank, 2, 4);
    let x = image(r.int(1, 2), r.int(1, 2), &spatial);
    let modes: &[&str] = if opset == 10 {
        &["nearest", "linear"]
    } else {
        &["nearest", "linear", "cubic"]
    };
    let mode = if rank == 2 {
        r.pick(modes)
    } else {
        r.pick(&["nearest", "linear"])
    };
    let mut case = Case::new("Resize", opset).random(r, &x).with("mode", mode);
    // Whole and half sizes, so that scale and size agree exactly.
    let factors: Vec<i64> = r.dims(rank, 1, 3);
    let sizes: Vec<i64> = spatial
        .iter()
        .zip(&factors)
        .map(|(size, factor)| size * factor)
        .collect();
    let scales: Vec<f32> = [1.0, 1.0]
        .into_iter()
        .chain(factors.iter().map(|f| *f as f32))
        .collect();
    let scale_tensor = Tensor::from_slice(&[scales.len() as u64], &scales).unwrap();
    if opset == 10 {
        return case.constant(scale_tensor);
    }
    let coordinates = r.pick(&["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]);
    case = case.with("coordinate_transformation_mode", coordinates);
    if mode == "nearest" {
        case = case.with(
            "nearest_mode",
            r.pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
        );
    }
    if mode == "cubic" && r.bool() {
        case = case.with("cubic_coeff_a", r.pick(&[-0.5f32, -0.75]));
    }
    if mode == "cubic" && r.bool() {
        case = case.with("exclude_outside", 1i64);
    }
    let whole = image(x[0], x[1], &sizes);
    let empty = Tensor::from_slice::<f32>(&[0], &[]).unwrap();
    if r.bool() {
        // The region is optional from opset 13 on.
        let case = if opset == 11 {
            case.constant(empty)
        } else {
            case.none()
        };
        return case.constant(scale_tensor);
    }
    if opset == 11 {
        case.constant(empty.clone()).constant(empty).ints(&whole)
    } else {
        case.none().none().ints(&whole)
    }
}

pub(in crate::autodiff) const RESIZING: &[(&str, Generator)] = &[
    ("Resize", resize),
    ("Upsample", |r| {
        let x = image(r.int(1, 2), r.int(1, 2), &r.dims(2, 2, 3));
        let scales = [1.0, 1.0, r.int(1, 3) as f32, r.int(1, 3) as f32];
        let case = Case::new("Upsample", 9)
            .random(r, &x)
            .with("mode", r.pick(&["nearest", "linear"]));
        case.constant(Tensor::from_slice(&[4], &scales).unwrap())
    }),
];
