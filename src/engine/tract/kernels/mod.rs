//! tract's register of operators, with operators of our own: some that no file has, which lowering makes and only this engine
//! runs, and some in place of those of tract's that are wrong for some numbers.

mod binary;
mod blocks;
mod cast;
mod flip;
mod log_softmax;
mod mean_of_squares;
mod native;
mod places;
mod pointwise;
mod quantize;
mod round;
mod settle;

use std::sync::LazyLock;

use tract_onnx::Onnx;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use pointwise::{Function, Pointwise};
pub(super) use settle::optimised;

/// The domain of the operators that only the built-in engine knows.
pub(super) const DOMAIN: &str = "secateur.engine";

/// tract's own register.
fn plain() -> &'static Onnx {
    static PLAIN: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);
    &PLAIN
}

static FRAMEWORK: LazyLock<Onnx> = LazyLock::new(|| {
    let mut onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    onnx.op_register.insert("EngineRound", round::build);
    onnx.op_register
        .insert("EngineQuantizeLinear", quantize::build_quantize);
    onnx.op_register
        .insert("EngineDequantizeLinear", quantize::build_dequantize);
    onnx.op_register.insert("EngineFlip", flip::build);
    onnx.op_register.insert("EngineModulo", binary::build_modulo);
    onnx.op_register
        .insert("EngineReverseSequence", flip::build_sequences);
    onnx.op_register
        .insert("EngineRemainder", binary::build_remainder);
    onnx.op_register.insert("Cast", cast::build);
    onnx.op_register.insert("Clip", binary::build_clip);
    onnx.op_register.insert("LogSoftmax", log_softmax::build);
    onnx.op_register.insert("Max", binary::build_max);
    onnx.op_register.insert("Min", binary::build_min);
    onnx.op_register.insert("Relu", binary::build_relu);
    functions(&mut onnx.op_register);
    onnx
});

/// Functions of one number, in place of tract's.
fn functions(register: &mut OnnxOpRegister) {
    register.insert("Acosh", |_, _| built(Function::Acosh));
    register.insert("Asinh", |_, _| built(Function::Asinh));
    register.insert("Celu", |_, node| {
        built(Function::Celu {
            alpha: number(node, "alpha", 1.0)?,
        })
    });
    register.insert("Elu", |_, node| {
        built(Function::Elu {
            alpha: number(node, "alpha", 1.0)?,
        })
    });
    register.insert("Erf", |_, _| built(Function::Erf));
    register.insert("Gelu", gelu);
    register.insert("HardSigmoid", |_, node| {
        built(Function::HardSigmoid {
            alpha: number(node, "alpha", 0.2)?,
            beta: number(node, "beta", 0.5)?,
        })
    });
    register.insert("HardSwish", |_, _| built(Function::HardSwish));
    register.insert("Mish", |_, _| built(Function::Mish));
    register.insert("Round", |_, _| built(Function::Round));
    register.insert("Selu", |_, node| {
        built(Function::Selu {
            alpha: number(node, "alpha", 1.673_263_2)?,
            gamma: number(node, "gamma", 1.050_701)?,
        })
    });
    register.insert("Sigmoid", |_, _| built(Function::Sigmoid));
    register.insert("Softplus", |_, _| built(Function::Softplus));
    register.insert("Swish", |_, _| built(Function::Silu));
    register.insert("Tanh", |_, _| built(Function::Tanh));
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

fn built(function: Function) -> Built {
    Ok((Pointwise::operator(function, false).into_hir(), vec![]))
}

fn number(node: &NodeProto, name: &str, default: f32) -> TractResult<f32> {
    Ok(node.get_attr_opt(name)?.unwrap_or(default))
}

/// Only the approximation is ours.
fn gelu(context: &ParsingContext, node: &NodeProto) -> Built {
    if node.get_attr_opt::<&str>("approximate")? == Some("tanh") {
        return built(Function::GeluTanh);
    }
    let known = plain().op_register.0.get("Gelu").context("tract has no Gelu")?;
    known(context, node)
}

/// The importer with every operator that can be run. Declared intermediate types are ignored: files get them wrong, and
/// tract believes them.
pub(super) fn framework() -> &'static Onnx {
    &FRAMEWORK
}

/// What a node that only widens its constant inputs gives: a dequantization, or float16 cast to float. `None` for other nodes.
pub(super) fn widened(node: &NodeProto, inputs: &[TValue]) -> Option<TractResult<Tensor>> {
    match (node.domain.as_str(), node.op_type.as_str()) {
        (DOMAIN, "EngineDequantizeLinear") => Some(quantize::dequantized(node, inputs)),
        ("", "Cast") => round::widened(node, inputs),
        _ => None,
    }
}
