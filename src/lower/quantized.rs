//! Quantization: ONNX's pair of operators goes to the engine's own kernels, quantized arithmetic of ONNX Runtime's domain and
//! the forms of ONNX's that tract refuses become dequantize, compute, quantize.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "QuantizeLinear", quantize),
    ("com.microsoft", "QuantizeLinear", quantize),
    ("", "DequantizeLinear", dequantize),
    ("com.microsoft", "DequantizeLinear", dequantize),
    ("", "QLinearMatMul", matmul),
    ("com.microsoft", "QLinearAdd", add),
    ("com.microsoft", "QLinearMul", multiply),
    ("com.microsoft", "QLinearSigmoid", sigmoid),
    ("com.microsoft", "QLinearLeakyRelu", leaky_relu),
    ("com.microsoft", "QLinearGlobalAveragePool", global_average),
    ("com.microsoft", "QLinearAveragePool", average),
    ("com.microsoft", "QLinearConcat", concat),
    ("com.microsoft", "QLinearSoftmax", softmax),
    ("com.microsoft", "QGemm", gemm),
];

/// Types that the kernels quantize to and from.
fn known(dtype: DType) -> bool {
    dtype.is_integer() && dtype.bits() <= 16
        || dtype.is_float() && dtype.bits() <= 8 && dtype != DType::F8E8M0
}

fn quantize(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(scale)) = (site.input(0), site.input(1)) else {
        return Ok(false);
    };
    let zero = site.input(2);
    let declared = i32::try_from(site.int("output_dtype", 0))
        .ok()
        .and_then(DType::from_onnx);
    let to = match (zero, declared) {
        (Some(zero), _) => match site.dtype(zero) {
            Some(dtype) => dtype,
            None => return Ok(false),
        },
        (None, Some(dtype)) => dtype,
        (None, None) => DType::U8,
    };
    let precise = |dtype: Option<DType>| matches!(dtype, Some(DType::F32 | DType::F16 | DType::BF16));
    if !known(to) || !precise(site.dtype(x)) || !precise(site.dtype(scale)) || site.int("precision", 0) != 0 {
        return Ok(false);
    }
    let operator = site.with_attributes(
        Operator::new("EngineQuantizeLinear").in_domain(ENGINE_DOMAIN),
        &["output_dtype", "precision"],
    );
    let operator = operator.with("to", i64::from(to.onnx()));
    let made = site.nodes(operator, &[Some(x), Some(scale), zero], 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}

fn dequantize(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(scale)) = (site.input(0), site.input(1)) else {
        return Ok(false);
    };
    let readable = |dtype: DType| known(dtype) || dtype == DType::I32;
    if !site.dtype(x).is_some_and(readable) {
        return Ok(false);
    }
    let declared = i32::try_from(site.int("output_dtype", 0))
        .ok()
        .and_then(DType::from_onnx);
    let to = declared.or(site.dtype(scale));
    // A result of a type that tract lacks has to be rounded to it.
    if !matches!(to, Some(DType::F32 | DType::F16)) {
        return Ok(false);
    }
    let mut operator = site.with_attributes(
        Operator::new("EngineDequantizeLinear").in_domain(ENGINE_DOMAIN),
        &["output_dtype"],
    );
    if let Some(dtype) = declared {
        operator = operator.with("to", i64::from(dtype.onnx()));
    }
    let made = site.nodes(operator, &[Some(x), Some(scale), site.input(2)], 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}

/// The number behind a quantized input whose scale and zero point stand in the next two slots.
fn real(site: &mut Site<'_>, at: usize) -> Result<Option<ValueId>, EditError> {
    let slots = [site.input(at), site.input(at + 1), site.input(at + 2)];
    real_of(site, slots, 1)
}

fn real_of(
    site: &mut Site<'_>,
    slots: [Option<ValueId>; 3],
    axis: i64,
) -> Result<Option<ValueId>, EditError> {
    let [Some(x), Some(scale), zero] = slots else {
        return Ok(None);
    };
    let operator = Operator::new("EngineDequantizeLinear")
        .in_domain(ENGINE_DOMAIN)
        .with("axis", axis);
    Ok(site
        .nodes(operator, &[Some(x), Some(scale), zero], 1)?
        .first()
        .copied())
}

/// Quantizes a result by the scale and zero point in these slots, into the type of the output.
fn finish(site: &mut Site<'_>, value: ValueId, scale: usize, zero: usize) -> Result<bool, EditError> {
    let (scale, zero) = (site.input(scale), site.input(zero));
    let dtype = zero.and_then(|zero| site.dtype(zero)).or(site.input_dtype(0));
    let (Some(scale), Some(dtype)) = (scale, dtype.filter(|dtype| known(*dtype))) else {
        return Ok(false);
    };
    let operator = Operator::new("EngineQuantizeLinear")
        .in_domain(ENGINE_DOMAIN)
        .with("to", i64::from(dtype.onnx()));
    let made = site.nodes(operator, &[Some(value), Some(scale), zero], 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}

/// tract multiplies bytes with scales of type float; other types go through numbers.
fn matmul(site: &mut Site<'_>) -> Result<bool, EditError> {
    let byte = |dtype: Option<DType>| matches!(dtype, Some(DType::U8 | DType::I8));
    if site.input_dtype(1) == Some(DType::F32) && byte(site.input_dtype(0)) && byte(site.input_dtype(3)) {
        return Ok(false);
    }
    let Some(rank) = site.input(3).and_then(|b| site.rank(b)) else {
        return Ok(false);
    };
    let b_slots = [site.input(3), site.input(4), site.input(5)];
    let (Some(a), Some(b)) = (real(site, 0)?, real_of(site, b_slots, rank as i64 - 1)?) else {
        return Ok(false);
    };
    let y = site.op("MatMul", &[a, b])?;
    finish(site, y, 6, 7)
}

fn binary(site: &mut Site<'_>, op_type: &str) -> Result<bool, EditError> {
    let (Some(a), Some(b)) = (real(site, 0)?, real(site, 3)?) else {
        return Ok(false);
    };
    let y = site.op(op_type, &[a, b])?;
    finish(site, y, 6, 7)
}

fn add(site: &mut Site<'_>) -> Result<bool, EditError> {
    binary(site, "Add")
}

fn multiply(site: &mut Site<'_>) -> Result<bool, EditError> {
    binary(site, "Mul")
}

fn sigmoid(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = real(site, 0)? else { return Ok(false) };
    let y = site.op("Sigmoid", &[x])?;
    finish(site, y, 3, 4)
}

fn leaky_relu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(x) = real(site, 0)? else { return Ok(false) };
    let alpha = site.operator.float("alpha").unwrap_or(0.01);
    let y = site.node(Operator::new("LeakyRelu").with("alpha", alpha), &[x])?;
    finish(site, y, 3, 4)
}

fn global_average(site: &mut Site<'_>) -> Result<bool, EditError> {
    if site.int("channels_last", 0) != 0 {
        return Ok(false);
    }
    let Some(x) = real(site, 0)? else { return Ok(false) };
    let y = site.op("GlobalAveragePool", &[x])?;
    finish(site, y, 3, 4)
}

fn average(site: &mut Site<'_>) -> Result<bool, EditError> {
    if site.int("channels_last", 0) != 0 {
        return Ok(false);
    }
    let Some(x) = real(site, 0)? else { return Ok(false) };
    let operator = site.with_attributes(Operator::new("AveragePool"), &["channels_last"]);
    let y = site.node(operator, &[x])?;
    finish(site, y, 3, 4)
}

/// Scale and zero point of the result first, then three slots a part.
fn concat(site: &mut Site<'_>) -> Result<bool, EditError> {
    let count = site.inputs().len();
    if count < 5 || !(count - 2).is_multiple_of(3) || site.output_dtype(0).or(site.input_dtype(2)).is_none() {
        return Ok(false);
    }
    let mut parts = Vec::new();
    for at in (2..count).step_by(3) {
        let Some(part) = real(site, at)? else {
            return Ok(false);
        };
        parts.push(part);
    }
    let operator = site.with_attributes(Operator::new("Concat"), &[]);
    let y = site.node(operator, &parts)?;
    finish(site, y, 0, 1)
}

fn softmax(site: &mut Site<'_>) -> Result<bool, EditError> {
    // Before opset 13 the axis splits the shape in two instead of naming one axis.
    let axis = site.int("axis", -1);
    let last = site
        .input(0)
        .and_then(|x| site.rank(x))
        .map(|rank| rank as i64 - 1);
    if site.int("opset", 0) < 13 && axis != -1 && Some(axis) != last {
        return Ok(false);
    }
    let Some(x) = real(site, 0)? else { return Ok(false) };
    let y = site.node(
        Operator::new("Softmax").with("axis", if axis == -1 { last.unwrap_or(-1) } else { axis }),
        &[x],
    )?;
    finish(site, y, 3, 4)
}

/// A, B and an int32 C whose scale is the product of theirs; without a scale of its own, the result is float.
fn gemm(site: &mut Site<'_>) -> Result<bool, EditError> {
    let transposed = site.int("transB", 0) != 0;
    let b_slots = [site.input(3), site.input(4), site.input(5)];
    let (Some(a), Some(b)) = (real(site, 0)?, real_of(site, b_slots, i64::from(!transposed))?) else {
        return Ok(false);
    };
    let gemm = Operator::new("Gemm")
        .with("transA", site.int("transA", 0))
        .with("transB", i64::from(transposed))
        .with("alpha", site.operator.float("alpha").unwrap_or(1.0));
    let y = match site.input(6) {
        None => site.node(gemm, &[a, b])?,
        Some(c) => {
            let (Some(a_scale), Some(b_scale)) = (site.input(1), site.input(4)) else {
                return Ok(false);
            };
            let alpha = site.float("alpha", 1.0);
            let product = site.op("Mul", &[a_scale, b_scale])?;
            let alpha = site.number(DType::F32, alpha)?;
            let scale = site.op("Mul", &[product, alpha])?;
            let c = site.cast(c, DType::F32)?;
            let c = site.op("Mul", &[c, scale])?;
            site.node(gemm, &[a, b, c])?
        }
    };
    if site.input(7).is_none() {
        site.replace(0, y)?;
        return Ok(true);
    }
    finish(site, y, 7, 8)
}
