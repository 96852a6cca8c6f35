//! Operators that tract computes in float whatever type they have: attributes and statistics that are floats there. double is computed
//! in double, as ONNX Runtime does, and integers by integers.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "Gelu", gelu),
    ("", "Gemm", gemm),
    ("", "GroupNormalization", group_normalization),
    ("", "LayerNormalization", layer_normalization),
    ("", "LeakyRelu", leaky_relu),
    ("", "Softmax", softmax),
];

fn double(site: &Site<'_>) -> Option<ValueId> {
    site.input(0).filter(|_| site.input_dtype(0) == Some(DType::F64))
}

/// x · (1 + erf(x/√2)) / 2.
fn gelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = double(site) else { return Ok(false) };
    if site.operator.string("approximate").unwrap_or("none") != "none" {
        return Ok(false);
    }
    let numbers = [std::f64::consts::FRAC_1_SQRT_2, 1.0, 0.5];
    let [slope, one, half] = numbers.map(|number| site.number(DType::F64, number));
    let inner = site.op("Mul", &[x, slope?])?;
    let erf = site.op("Erf", &[inner])?;
    let gate = site.op("Add", &[erf, one?])?;
    let product = site.op("Mul", &[x, gate])?;
    let y = site.op("Mul", &[product, half?])?;
    site.replace(0, y)?;
    Ok(true)
}

/// alpha · A · B + beta · C with factors of the operands' type.
fn gemm(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(mut a), Some(mut b), Some(dtype)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    let (alpha, beta) = (site.float("alpha", 1.0), site.float("beta", 1.0));
    let whole = alpha.fract() == 0.0 && beta.fract() == 0.0;
    let concerned = match dtype {
        DType::F64 => true,
        dtype => dtype.is_integer() && whole,
    };
    if !concerned {
        return Ok(false);
    }
    for (operand, flag) in [(&mut a, "transA"), (&mut b, "transB")] {
        if site.int(flag, 0) != 0 {
            let turn = Operator::new("Transpose").with("perm", vec![1, 0]);
            *operand = site.node(turn, &[*operand])?;
        }
    }
    let product = site.op("MatMul", &[a, b])?;
    let mut y = times(site, product, alpha, dtype)?;
    if let Some(c) = site.input(2).filter(|_| beta != 0.0) {
        let c = times(site, c, beta, dtype)?;
        y = site.op("Add", &[y, c])?;
    }
    site.replace(0, y)?;
    Ok(true)
}

fn times(site: &mut Site<'_>, value: ValueId, factor: f64, dtype: DType) -> Result<ValueId, EditError> {
    if factor == 1.0 {
        return Ok(value);
    }
    let factor = site.number(dtype, factor)?;
    site.op("Mul", &[value, factor])
}

/// Each group of channels with mean 0 and variance 1, then a scale and an offset by channel, before opset 21 by group.
fn group_normalization(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(scale), Some(bias)) = (double(site), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let Some(rank) = site.rank(x).filter(|rank| *rank >= 2) else {
        return Ok(false);
    };
    let groups = site.int("num_groups", 1);
    let to = site.ints(&[0, groups, -1]);
    let grouped = site.op("Reshape", &[x, to])?;
    let mut y = standard(site, grouped, &[2])?;
    let by_group = site.version() < 21;
    if by_group {
        y = affine(site, y, scale, bias, 1)?;
    }
    let shape = site.op("Shape", &[x])?;
    y = site.op("Reshape", &[y, shape])?;
    if !by_group {
        y = affine(site, y, scale, bias, rank - 2)?;
    }
    site.replace(0, y)?;
    Ok(true)
}

/// (x − μ) / √(σ² + ε) over `axes`.
fn standard(site: &mut Site<'_>, x: ValueId, axes: &[i64]) -> Result<ValueId, EditError> {
    let epsilon = site.float("epsilon", 1e-5);
    let epsilon = site.number(DType::F64, epsilon)?;
    let mean = site.reduce("ReduceMean", x, axes, true)?;
    let centred = site.op("Sub", &[x, mean])?;
    let square = site.op("Mul", &[centred, centred])?;
    let variance = site.reduce("ReduceMean", square, axes, true)?;
    let shifted = site.op("Add", &[variance, epsilon])?;
    let deviation = site.op("Sqrt", &[shifted])?;
    site.op("Div", &[centred, deviation])
}

/// x · scale + bias by the elements of an axis that so many others follow.
fn affine(
    site: &mut Site<'_>,
    x: ValueId,
    scale: ValueId,
    bias: ValueId,
    behind: usize,
) -> Result<ValueId, EditError> {
    let axes: Vec<i64> = (1..=behind as i64).collect();
    let mut vectors = [scale, bias];
    if !axes.is_empty() {
        for vector in &mut vectors {
            *vector = site.fold_axes("Unsqueeze", *vector, &axes)?;
        }
    }
    let [scale, bias] = vectors;
    let product = site.op("Mul", &[x, scale])?;
    site.op("Add", &[product, bias])
}

/// Statistics in double; where they are outputs, of the type that the operator declares.
fn layer_normalization(site: &mut Site<'_>) -> Result<bool, EditError> {
    let stash = i64::from(DType::F64.onnx());
    if double(site).is_none() || site.int("stash_type", 1) == stash {
        return Ok(false);
    }
    let inputs = site.inputs().to_vec();
    let outputs = site.output_count();
    let operator = Operator::new("LayerNormalization");
    let operator = site
        .with_attributes(operator, &["stash_type"])
        .with("stash_type", stash);
    let made = site.nodes(operator, &inputs, outputs)?;
    for (index, mut value) in made.into_iter().enumerate() {
        if !site.is_read(index) {
            continue;
        }
        match site.output_dtype(index) {
            Some(DType::F64) => {}
            Some(dtype) => value = site.cast(value, dtype)?,
            None => return Ok(false),
        }
        site.replace(index, value)?;
    }
    Ok(true)
}

fn leaky_relu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = double(site) else { return Ok(false) };
    let alpha = site.float("alpha", 0.01);
    let (alpha, zero) = (site.number(DType::F64, alpha)?, site.number(DType::F64, 0.0)?);
    let negative = site.op("Less", &[x, zero])?;
    let scaled = site.op("Mul", &[x, alpha])?;
    let y = site.op("Where", &[negative, scaled, x])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Over one axis; tract's own, which sums doubles as they come, ends in a panic where there are none.
fn softmax(site: &mut Site<'_>) -> Result<bool, EditError> {
    const ONE_AXIS: i64 = 13;
    let Some(x) = double(site).filter(|_| site.version() >= ONE_AXIS) else {
        return Ok(false);
    };
    let axes = [site.int("axis", -1)];
    let most = site.reduce("ReduceMax", x, &axes, true)?;
    let less = site.op("Sub", &[x, most])?;
    let exp = site.op("Exp", &[less])?;
    let sum = site.reduce("ReduceSum", exp, &axes, true)?;
    let y = site.op("Div", &[exp, sum])?;
    site.replace(0, y)?;
    Ok(true)
}
