//! The operators of ONNX Runtime's domain `com.microsoft` that its own tools write into models. They have no schema here, so
//! each rule sets element types, too.

use super::super::call::{Call, Facts, Rule};
use super::{convolution, matmul, normalise, quantize};
use crate::ir::{DType, Dim};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BiasGelu", like_first),
    ("BranchwiseRMSNorm", like_first),
    ("DequantizeLinear", quantize::dequantize),
    ("DynamicQuantizeMatMul", |c, f| {
        f.dtype(0, Some(DType::F32));
        matmul::matmul(c, f, 0, 1)
    }),
    ("FastGelu", like_first),
    ("FusedConv", |c, f| {
        f.dtype(0, c.dtype(0));
        convolution::conv(c, f)
    }),
    ("FusedGemm", |c, f| {
        f.dtype(0, c.dtype(0));
        matmul::gemm(c, f)
    }),
    ("FusedMatMul", fused_matmul),
    ("GatherBlockQuantized", gathered_blocks),
    ("Gelu", like_first),
    ("MatMulInteger16", |c, f| {
        f.dtype(0, Some(DType::I32));
        matmul::matmul(c, f, 0, 1)
    }),
    ("MatMulIntegerToFloat", |c, f| {
        f.dtype(0, c.dtype(2));
        matmul::matmul(c, f, 0, 1)
    }),
    ("MatMulNBits", matmul_bits),
    ("MultiHeadAttention", |c, f| {
        f.dtype(0, c.dtype(0));
        // Rows of query and value; the other forms pack several operands into one.
        let (query, value) = (c.shape(0)?, c.shape(2)?);
        if let ([batch, length, _], [_, _, width]) = (query.as_slice(), value.as_slice()) {
            f.shape(0, [batch.clone(), length.clone(), width.clone()]);
        }
        Some(())
    }),
    ("QGemm", |c, f| {
        // Without an output scale the result stays float.
        f.dtype(0, if c.has(7) { c.dtype(8) } else { Some(DType::F32) });
        let side = |input: usize, name: &str, axis: usize| {
            c.dim(input, if c.int_or(name, 0) != 0 { 1 - axis } else { axis })
        };
        f.shape(0, [side(0, "transA", 0), side(3, "transB", 1)]);
        Some(())
    }),
    ("QLinearAdd", qlinear_binary),
    ("QLinearAveragePool", |c, f| {
        f.dtype(0, c.dtype(0));
        if c.int_or("channels_last", 0) != 0 {
            return None;
        }
        super::pooling::pool(c, f)
    }),
    ("QLinearConcat", qlinear_concat),
    ("QLinearGlobalAveragePool", |c, f| {
        f.dtype(0, c.dtype(0));
        let last = c.int_or("channels_last", 0) != 0;
        let shape = c.shape(0)?;
        let kept = |axis: usize| axis == 0 || if last { axis + 1 == shape.len() } else { axis == 1 };
        f.shape(
            0,
            shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| if kept(axis) { dim.clone() } else { Dim::Fixed(1) }),
        );
        Some(())
    }),
    ("QLinearLeakyRelu", like_first),
    ("QLinearMul", qlinear_binary),
    ("QLinearSigmoid", like_first),
    ("QLinearSoftmax", like_first),
    ("QuantizeLinear", quantize::quantize),
    ("QuickGelu", like_first),
    ("SimplifiedLayerNormalization", |c, f| {
        f.dtype(0, c.dtype(0));
        normalise::layer(c, f)
    }),
    ("SkipLayerNormalization", skip),
    ("SkipSimplifiedLayerNormalization", skip),
];

pub(super) fn like_first(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.whole(0, call.ty(0)?.clone());
    Some(())
}

/// A, A scale, A zero point, B, B scale, B zero point, output scale, output zero point.
fn qlinear_binary(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(0));
    facts.shape(0, super::broadcast::shapes(call.shape(0)?, call.shape(3)?));
    Some(())
}

/// Output scale and zero point, then (tensor, scale, zero point) each.
fn qlinear_concat(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(1));
    let tensors = (2..call.inputs.len()).step_by(3);
    let mut shape = call.shape(2)?.clone();
    let at = super::super::call::axis(call.int("axis")?, shape.len())?;
    *shape.get_mut(at)? = tensors.fold(Dim::Fixed(0), |sum, input| sum.add(&call.dim(input, at)));
    facts.shape(0, shape);
    Some(())
}

fn fused_matmul(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(0));
    if call.int_or("transBatchA", 0) != 0 || call.int_or("transBatchB", 0) != 0 {
        return None;
    }
    let side = |input: usize, name: &str| {
        let mut shape = call.shape(input)?.clone();
        let rank = shape.len();
        if call.int_or(name, 0) != 0 && rank >= 2 {
            shape.swap(rank - 1, rank - 2);
        }
        Some(shape)
    };
    facts.shape(0, matmul::product(&side(0, "transA")?, &side(1, "transB")?)?);
    Some(())
}

/// `[..., K]` times packed weights of N columns.
/// The data's shape with that of the indices in the place of the gathered axis; unsigned bytes hold several codes along the last axis.
fn gathered_blocks(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(2));
    let data = call.shape(0)?;
    let rank = data.len() as i64;
    let axis = call.int_or("gather_axis", 0);
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    let packed = match call.dtype(0)? {
        DType::U8 => 8 / call.int_or("bits", 4).clamp(1, 8),
        _ => 1,
    };
    let mut dims: Vec<Dim> = data.to_vec();
    if packed > 1 {
        let last = dims.last_mut()?;
        *last = match last {
            Dim::Fixed(size) => Dim::Fixed(size.checked_mul(packed)?),
            _ => return None,
        };
    }
    let indices = call.shape(1)?.to_vec();
    let (before, after) = (dims.get(..axis)?, dims.get(axis + 1..)?);
    let shape: Vec<Dim> = before.iter().chain(&indices).chain(after).cloned().collect();
    facts.shape(0, shape);
    Some(())
}

fn matmul_bits(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(0));
    let (_, outer) = call.shape(0)?.split_last()?;
    facts.shape(0, outer.iter().cloned().chain([Dim::Fixed(call.int("N")?)]));
    Some(())
}

/// Output, mean, inverse deviation, and the sum that was normalised.
fn skip(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(0));
    facts.dtype(3, call.dtype(0));
    facts.shape(0, call.shape(0)?.iter().cloned());
    facts.shape(3, call.shape(0)?.iter().cloned());
    Some(())
}
