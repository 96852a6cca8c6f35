//! Functions of one number that tract's kernels compute wrongly for some numbers: NaN, infinities, large ones, far below zero.
//!
//! float and float16 are computed in blocks by tract's kernels where those are right, and by its exponential, which is right
//! everywhere, where they are not; double by plain formulas.

use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::{math, nn};
use tract_onnx::tract_hir::internal::*;

use super::blocks;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Acosh,
    Asinh,
    Celu {
        alpha: f32,
    },
    /// Elements below `low` become it, then those above `high`.
    Clamp {
        low: f64,
        high: f64,
    },
    Elu {
        alpha: f32,
    },
    Erf,
    GeluTanh,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Mish,
    Round,
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
}

/// A function as an operator of tract.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pointwise {
    pub(super) function: Function,
    /// Until then it stands for tract's own operator, which tract's patterns look for.
    pub(super) settled: bool,
}

impl Eq for Pointwise {}

impl Pointwise {
    /// The operator that computes it.
    pub(super) fn operator(function: Function, settled: bool) -> ElementWiseOp {
        ElementWiseOp(Box::new(Self { function, settled }), None)
    }

    /// The one that computes what an operator of tract's is meant to.
    pub(super) fn instead_of(op: &dyn ElementWiseMiniOp) -> Option<Function> {
        Some(if op.is::<nn::Sigmoid>() {
            Function::Sigmoid
        } else if op.is::<nn::Silu>() {
            Function::Silu
        } else if op.is::<math::Tanh>() {
            Function::Tanh
        } else if op.is::<math::Erf>() {
            Function::Erf
        } else if op.is::<nn::HardSwish>() {
            Function::HardSwish
        } else if let Some(gelu) = op.downcast_ref::<nn::GeluApproximate>() {
            if gelu.fast_impl {
                return None;
            }
            Function::GeluTanh
        } else {
            return None;
        })
    }
}

impl ElementWiseMiniOp for Pointwise {
    fn name(&self) -> String {
        format!("Engine{:?}", self.function)
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _type: Option<DatumType>) -> TractResult<()> {
        let function = self.function;
        let dtype = tensor.datum_type();
        let mut plain = tensor.try_as_plain_ram_mut()?;
        if dtype == f32::datum_type() {
            return in_parts(plain.as_slice_mut::<f32>()?, |part| {
                blocks::floats(function, part)
            });
        }
        if dtype == f16::datum_type() {
            return in_parts(plain.as_slice_mut::<f16>()?, |part| {
                blocks::halves(function, part)
            });
        }
        if dtype == f64::datum_type() {
            return in_parts(plain.as_slice_mut::<f64>()?, |part| {
                part.iter_mut().for_each(|x| *x = function.double(*x));
                Ok(())
            });
        }
        bail!("{} of {dtype:?}", self.name())
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let dtype = model.outlet_fact(node.inputs[0])?.datum_type;
        if self.settled || dtype != f32::datum_type() && dtype != f16::datum_type() {
            return Ok(None);
        }
        let known = match self.function {
            Function::Sigmoid => nn::sigmoid(),
            Function::Tanh => math::tanh(),
            Function::Erf => math::erf(),
            Function::Round => math::round_half_to_even(),
            _ => return Ok(None),
        };
        TypedModelPatch::replace_single_op(model, node, &node.inputs, known).map(Some)
    }
}

fn in_parts<T: Send>(
    elements: &mut [T],
    run: impl Fn(&mut [T]) -> TractResult<()> + Sync + Send,
) -> TractResult<()> {
    let total = elements.len();
    multithread::par_chunks_mut(elements, 1, total, |_, part| run(part))
}

impl Function {
    /// The function of a double, NaN of NaN.
    fn double(self, x: f64) -> f64 {
        match self {
            Self::Acosh => x.acosh(),
            Self::Asinh => x.asinh(),
            Self::Clamp { low, high } => {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            }
            Self::Celu { alpha } => below(x, f64::from(alpha), f64::from(alpha)),
            Self::Elu { alpha } => below(x, f64::from(alpha), 1.0),
            Self::Selu { alpha, gamma } => f64::from(gamma) * below(x, f64::from(alpha), 1.0),
            Self::Erf => erf(x),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x * logistic(2.0 * inner)
            }
            Self::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Mish => x * softplus(x).tanh(),
            Self::Round => x.round_ties_even(),
            Self::Sigmoid => logistic(x),
            Self::Silu => x * logistic(x),
            Self::Softplus => softplus(x),
            Self::Tanh => x.tanh(),
        }
    }
}

/// `scale * (exp(x / width) - 1)` below zero, `x` elsewhere.
fn below(x: f64, scale: f64, width: f64) -> f64 {
    if x < 0.0 { scale * (x / width).exp_m1() } else { x }
}

fn logistic(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

fn softplus(x: f64) -> f64 {
    (if x > 0.0 { x } else { 0.0 }) + (-x.abs()).exp().ln_1p()
}

/// The continued fraction of the complement from 2 on, the power series below.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size.is_nan() || size == 0.0 {
        return x;
    }
    let value = if size < 2.0 {
        let square = size * size;
        let (mut term, mut sum) = (size, size);
        for n in 1..60 {
            term *= -square / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let tail = (1..80)
            .rev()
            .fold(size, |tail, n| size + f64::from(n) / 2.0 / tail);
        1.0 - (-size * size).exp() / tail / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(function: Function, x: f64) -> f64 {
        function.double(x)
    }

    #[test]
    fn doubles_have_their_known_values() {
        for (x, wanted) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((double(Function::Erf, x) - wanted).abs() < 1e-14, "{x}");
            assert!((double(Function::Erf, -x) + wanted).abs() < 1e-14, "{x}");
        }
        assert_eq!(double(Function::Erf, f64::INFINITY), 1.0);
        assert_eq!(double(Function::Softplus, 1e4), 1e4);
        assert_eq!(double(Function::Sigmoid, -1e4), 0.0);
        assert!(double(Function::Silu, f64::NEG_INFINITY).is_nan());
        assert!((double(Function::Sigmoid, -17.0).ln() + 17.0).abs() < 1e-7);
    }

    #[test]
    fn floats_are_what_doubles_are() {
        let functions = [
            Function::Acosh,
            Function::Asinh,
            Function::Celu { alpha: 0.5 },
            Function::Clamp { low: -1.0, high: 6.0 },
            Function::Elu { alpha: 0.7 },
            Function::Erf,
            Function::GeluTanh,
            Function::HardSigmoid {
                alpha: 0.2,
                beta: 0.5,
            },
            Function::HardSwish,
            Function::Mish,
            Function::Round,
            Function::Selu {
                alpha: 1.6732632,
                gamma: 1.050701,
            },
            Function::Sigmoid,
            Function::Silu,
            Function::Softplus,
            Function::Tanh,
        ];
        let mut numbers: Vec<f32> = (-400..400).map(|at| at as f32 * 0.05).collect();
        let ends = [
            f32::MAX,
            1e30,
            90.0,
            3e-3,
            1e-6,
            1e-30,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            0.0,
        ];
        numbers.extend(ends.iter().flat_map(|x| [*x, -x]));
        // All in one block, and in blocks without special numbers.
        for special in [true, false] {
            for function in functions {
                let mut input = numbers.clone();
                if special {
                    input.push(f32::NAN);
                }
                let mut found = input.clone();
                for part in found.chunks_mut(if special { 5000 } else { 16 }) {
                    blocks::floats(function, part).unwrap();
                }
                for (x, y) in input.iter().zip(found) {
                    let wanted = function.double(f64::from(*x));
                    let close = (f64::from(y) - wanted).abs() <= 2e-5 * wanted.abs().max(1e-37);
                    let same = wanted.is_nan() && y.is_nan() || wanted as f32 == y;
                    assert!(close || same, "{function:?} of {x}: {y}, not {wanted}");
                }
            }
        }
    }
}
