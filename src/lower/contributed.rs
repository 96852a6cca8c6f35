//! Fused operators of ONNX Runtime's domain, by their formulas.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("com.microsoft", "Gelu", gelu),
    ("com.microsoft", "BiasGelu", bias_gelu),
    ("com.microsoft", "FastGelu", fast_gelu),
    ("com.microsoft", "QuickGelu", quick_gelu),
    ("com.microsoft", "FusedMatMul", matmul),
    ("com.microsoft", "FusedGemm", gemm),
    ("com.microsoft", "FusedConv", conv),
    ("com.microsoft", "SkipLayerNormalization", skip_normalization),
    (
        "com.microsoft",
        "SkipSimplifiedLayerNormalization",
        skip_root_normalization,
    ),
    ("com.microsoft", "BranchwiseRMSNorm", root_normalization),
];

fn float_input(site: &Site<'_>) -> Option<(ValueId, DType)> {
    let (x, dtype) = (site.input(0)?, site.input_dtype(0)?);
    matches!(dtype, DType::F32 | DType::F16 | DType::F64).then_some((x, dtype))
}

/// x / 2 * (1 + erf(x / sqrt(2))).
fn exact(site: &mut Site<'_>, x: ValueId, dtype: DType) -> Result<ValueId, EditError> {
    let (root, one, half) = (
        site.number(dtype, std::f64::consts::FRAC_1_SQRT_2)?,
        site.number(dtype, 1.0)?,
        site.number(dtype, 0.5)?,
    );
    let scaled = site.op("Mul", &[x, root])?;
    let erf = site.op("Erf", &[scaled])?;
    let gate = site.op("Add", &[erf, one])?;
    let halved = site.op("Mul", &[x, half])?;
    site.op("Mul", &[halved, gate])
}

fn gelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site) else {
        return Ok(false);
    };
    let y = exact(site, x, dtype)?;
    site.replace(0, y)?;
    Ok(true)
}

fn bias_gelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some((x, dtype)), Some(bias)) = (float_input(site), site.input(1)) else {
        return Ok(false);
    };
    let x = site.op("Add", &[x, bias])?;
    let y = exact(site, x, dtype)?;
    site.replace(0, y)?;
    Ok(true)
}

/// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), of x plus the bias.
fn fast_gelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site) else {
        return Ok(false);
    };
    let x = match site.input(1) {
        Some(bias) => site.op("Add", &[x, bias])?,
        None => x,
    };
    let (a, b) = (
        site.number(dtype, 0.044715)?,
        site.number(dtype, (2.0 / std::f64::consts::PI).sqrt())?,
    );
    let (one, half) = (site.number(dtype, 1.0)?, site.number(dtype, 0.5)?);
    let square = site.op("Mul", &[x, x])?;
    let cube = site.op("Mul", &[square, x])?;
    let scaled = site.op("Mul", &[cube, a])?;
    let sum = site.op("Add", &[x, scaled])?;
    let inner = site.op("Mul", &[sum, b])?;
    let tanh = site.op("Tanh", &[inner])?;
    let gate = site.op("Add", &[tanh, one])?;
    let halved = site.op("Mul", &[x, half])?;
    let y = site.op("Mul", &[halved, gate])?;
    site.replace(0, y)?;
    Ok(true)
}

/// x * sigmoid(alpha * x).
fn quick_gelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site) else {
        return Ok(false);
    };
    let alpha = site.float("alpha", 1.702);
    let alpha = site.number(dtype, alpha)?;
    let inner = site.op("Mul", &[x, alpha])?;
    let gate = site.op("Sigmoid", &[inner])?;
    let y = site.op("Mul", &[x, gate])?;
    site.replace(0, y)?;
    Ok(true)
}

/// alpha * a b, either of them transposed in its last two axes.
fn matmul(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some((mut a, dtype)), Some(mut b)) = (float_input(site), site.input(1)) else {
        return Ok(false);
    };
    if site.int("transBatchA", 0) != 0 || site.int("transBatchB", 0) != 0 {
        return Ok(false);
    }
    for (operand, flag) in [(&mut a, "transA"), (&mut b, "transB")] {
        if site.int(flag, 0) != 0 {
            let Some(rank) = site.rank(*operand).filter(|rank| *rank >= 2) else {
                return Ok(false);
            };
            let mut perm: Vec<i64> = (0..rank as i64).collect();
            perm.swap(rank - 1, rank - 2);
            *operand = site.node(Operator::new("Transpose").with("perm", perm), &[*operand])?;
        }
    }
    let alpha = site.float("alpha", 1.0);
    let mut y = site.op("MatMul", &[a, b])?;
    if alpha != 1.0 {
        let alpha = site.number(dtype, alpha)?;
        y = site.op("Mul", &[y, alpha])?;
    }
    site.replace(0, y)?;
    Ok(true)
}

/// The activation that a fused operator names, with its parameters; `None` for one that is not known.
fn activate(site: &mut Site<'_>, value: ValueId, parameters: &[f32]) -> Result<Option<ValueId>, EditError> {
    let name = site.operator.string("activation").unwrap_or("").to_owned();
    let operator = match (name.as_str(), parameters) {
        ("", _) => return Ok(Some(value)),
        ("Relu" | "Sigmoid" | "Tanh", _) => Operator::new(name.as_str()),
        ("LeakyRelu", [alpha]) => Operator::new("LeakyRelu").with("alpha", *alpha),
        ("HardSigmoid", [alpha, beta]) => Operator::new("HardSigmoid")
            .with("alpha", *alpha)
            .with("beta", *beta),
        ("Clip", [low, high]) => return clip(site, value, *low, *high).map(Some),
        _ => return Ok(None),
    };
    site.node(operator, &[value]).map(Some)
}

/// `Clip`, in the form of the opset.
fn clip(site: &mut Site<'_>, value: ValueId, low: f32, high: f32) -> Result<ValueId, EditError> {
    if site.version() < 11 {
        return site.node(Operator::new("Clip").with("min", low).with("max", high), &[value]);
    }
    let dtype = site.dtype(value).unwrap_or(DType::F32);
    let bounds = (
        site.number(dtype, f64::from(low))?,
        site.number(dtype, f64::from(high))?,
    );
    site.op("Clip", &[value, bounds.0, bounds.1])
}

fn gemm(site: &mut Site<'_>) -> Result<bool, EditError> {
    let names = [
        "activation",
        "activation_alpha",
        "activation_beta",
        "activation_gamma",
    ];
    let operator = site.with_attributes(Operator::new("Gemm"), &names);
    let inputs = site.inputs().to_vec();
    let made = site.nodes(operator, &inputs, 1)?;
    let parameters: Vec<f32> = site.operator.float("activation_alpha").into_iter().collect();
    let Some(y) = made.first().copied() else {
        return Ok(false);
    };
    let Some(y) = activate(site, y, &parameters)? else {
        return Ok(false);
    };
    site.replace(0, y)?;
    Ok(true)
}

/// A convolution, plus the fourth input, then the activation.
fn conv(site: &mut Site<'_>) -> Result<bool, EditError> {
    let operator = site.with_attributes(Operator::new("Conv"), &["activation", "activation_params"]);
    let inputs: Vec<Option<ValueId>> = site.inputs().iter().take(3).copied().collect();
    let made = site.nodes(operator, &inputs, 1)?;
    let Some(mut y) = made.first().copied() else {
        return Ok(false);
    };
    if let Some(sum) = site.input(3) {
        y = site.op("Add", &[y, sum])?;
    }
    let parameters = site.operator.floats("activation_params").unwrap_or(&[]).to_vec();
    let Some(y) = activate(site, y, &parameters)? else {
        return Ok(false);
    };
    site.replace(0, y)?;
    Ok(true)
}

/// Layer normalization of input + skip + bias; the fourth output is that sum. Inputs: input, skip, gamma, beta, bias.
fn skip_normalization(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(sum) = skipped(site, 4)? else {
        return Ok(false);
    };
    let mean = site.reduce("ReduceMean", sum, &[-1], true)?;
    let centred = site.op("Sub", &[sum, mean])?;
    let beta = site.input(3);
    normalised(site, sum, centred, beta)
}

/// The same without a mean. Inputs: input, skip, gamma, bias.
fn skip_root_normalization(site: &mut Site<'_>) -> Result<bool, EditError> {
    match skipped(site, 3)? {
        Some(sum) => normalised(site, sum, sum, None),
        None => Ok(false),
    }
}

/// Input + skip + bias of a normalization in float whose statistics nothing reads.
fn skipped(site: &mut Site<'_>, bias: usize) -> Result<Option<ValueId>, EditError> {
    let (Some((x, dtype)), Some(skip), Some(_)) = (float_input(site), site.input(1), site.input(2)) else {
        return Ok(None);
    };
    if site.is_read(1) || site.is_read(2) || dtype != DType::F32 {
        return Ok(None);
    }
    let mut sum = site.op("Add", &[x, skip])?;
    if let Some(bias) = site.input(bias) {
        sum = site.op("Add", &[sum, bias])?;
    }
    Ok(Some(sum))
}

/// The first output: `value` over its root mean square, times gamma, plus beta. The fourth: the sum.
fn normalised(
    site: &mut Site<'_>,
    sum: ValueId,
    value: ValueId,
    beta: Option<ValueId>,
) -> Result<bool, EditError> {
    let Some(gamma) = site.input(2) else {
        return Ok(false);
    };
    let epsilon = site.float("epsilon", 1e-12);
    let normal = over_root(site, value, DType::F32, epsilon)?;
    let mut y = site.op("Mul", &[normal, gamma])?;
    if let Some(beta) = beta {
        y = site.op("Add", &[y, beta])?;
    }
    site.replace(0, y)?;
    site.replace(3, sum)?;
    Ok(true)
}

/// A value over the root of its mean square along the last axis.
fn over_root(site: &mut Site<'_>, value: ValueId, dtype: DType, epsilon: f64) -> Result<ValueId, EditError> {
    let epsilon = site.number(dtype, epsilon)?;
    let square = site.op("Mul", &[value, value])?;
    let mean = site.reduce("ReduceMean", square, &[-1], true)?;
    let shifted = site.op("Add", &[mean, epsilon])?;
    let root = site.op("Sqrt", &[shifted])?;
    site.op("Div", &[value, root])
}

/// x over its root mean square along the last axis, times a scale of that axis alone: one branch. Others are left to the engine.
fn root_normalization(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some((x, dtype)), Some(scale), Some(epsilon)) =
        (float_input(site), site.input(1), site.operator.float("epsilon"))
    else {
        return Ok(false);
    };
    let (Some(shape), Some(own)) = (site.shape(x), site.shape(scale)) else {
        return Ok(false);
    };
    let along = matches!((shape.last(), own.as_slice()), (Some(last), [own]) if last == own);
    if !along || dtype != DType::F32 || site.int("num_branches", 0) > 1 {
        return Ok(false);
    }
    let normal = over_root(site, x, dtype, f64::from(epsilon))?;
    let y = site.op("Mul", &[normal, scale])?;
    site.replace(0, y)?;
    Ok(true)
}
