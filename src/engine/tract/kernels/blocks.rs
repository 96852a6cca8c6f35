//! Functions of blocks of floats: see [`super::pointwise`].

use tract_onnx::tract_core::tract_linalg::element_wise::ElementWise;
use tract_onnx::tract_core::tract_linalg::routines::Func;
use tract_onnx::tract_hir::internal::*;

use super::pointwise::Function;

/// Elements that are looked at together: they stay in the nearest cache between the passes.
const BLOCK: usize = 2048;

/// Numbers from which on tract's sigmoid and SiLU have five right digits.
const SIGMOID_FROM: f32 = -4.5;
/// The same of its approximation of GELU.
const GELU_FROM: f32 = -2.4;
/// The magnitude beyond which its hyperbolic tangent stays below 1 for ever.
const TANH_TO: f32 = 7.5;
/// The magnitude below which it is the identity: the products on tract's way to it leave the normal numbers, which some processors flush to 0.
const TANH_FROM: f32 = 1e-30;

type Kernel = Box<dyn ElementWise<f32>>;

/// Replaces each element by its image.
pub(super) fn floats(function: Function, elements: &mut [f32]) -> TractResult<()> {
    let mut old = [0f32; BLOCK];
    let mut step = Step::new(function)?;
    for block in elements.chunks_mut(BLOCK) {
        if let Some(saved) = old.get_mut(..block.len()) {
            step.run(block, saved)?;
        }
    }
    Ok(())
}

/// The same for halves, by way of floats.
pub(super) fn halves(function: Function, elements: &mut [f16]) -> TractResult<()> {
    let (mut wide, mut old) = ([0f32; BLOCK], [0f32; BLOCK]);
    let mut step = Step::new(function)?;
    for block in elements.chunks_mut(BLOCK) {
        let (Some(wide), Some(saved)) = (wide.get_mut(..block.len()), old.get_mut(..block.len())) else {
            continue;
        };
        wide.iter_mut().zip(&*block).for_each(|(w, x)| *w = x.to_f32());
        step.run(wide, saved)?;
        block
            .iter_mut()
            .zip(&*wide)
            .for_each(|(x, w)| *x = f16::from_f32(*w));
    }
    Ok(())
}

/// Whether tract's hyperbolic tangent is right.
fn is_tanh_right(x: f32) -> bool {
    x == 0.0 || (TANH_FROM..=TANH_TO).contains(&x.abs())
}

/// The hyperbolic tangent of `x`, of which tract says `y`.
fn tanh_of(y: f32, x: f32) -> f32 {
    match x.abs() {
        size if size < TANH_FROM || size.is_nan() => x,
        size if size <= TANH_TO => y,
        size => (1.0 - 2.0 * (-2.0 * size).exp()).copysign(x),
    }
}

/// A function and the kernels that it needs.
struct Step {
    function: Function,
    /// tract's kernel for the function.
    own: Option<Kernel>,
    exp: Option<Kernel>,
    log: Option<Kernel>,
}

impl Step {
    fn new(function: Function) -> TractResult<Self> {
        let own = match function {
            Function::Sigmoid => Some(Func::Sigmoid),
            Function::Silu => Some(Func::Silu),
            Function::GeluTanh => Some(Func::Gelu),
            Function::Tanh => Some(Func::Tanh),
            Function::Erf => Some(Func::Erf),
            Function::HardSwish => Some(Func::Hardswish),
            _ => None,
        };
        let exp = matches!(
            function,
            Function::Sigmoid
                | Function::Silu
                | Function::GeluTanh
                | Function::Mish
                | Function::Softplus
                | Function::Elu { .. }
                | Function::Celu { .. }
                | Function::Selu { .. }
        );
        Ok(Self {
            function,
            own: own.map(Func::ew_f32).transpose()?,
            exp: exp.then(|| Func::Exp.ew_f32()).transpose()?,
            log: (function == Function::Softplus)
                .then(|| Func::Ln.ew_f32())
                .transpose()?,
        })
    }

    fn own(&self, block: &mut [f32]) -> TractResult<()> {
        self.own.as_ref().context("no kernel")?.run(block)
    }

    fn exp(&self, block: &mut [f32]) -> TractResult<()> {
        self.exp.as_ref().context("no kernel")?.run(block)
    }

    /// `old` is room for as many numbers.
    fn run(&mut self, block: &mut [f32], old: &mut [f32]) -> TractResult<()> {
        match self.function {
            Function::Sigmoid if all(block, |x| x >= SIGMOID_FROM) => self.own(block),
            Function::Silu if all(block, |x| x >= SIGMOID_FROM) => self.own(block),
            Function::GeluTanh if all(block, |x| x >= GELU_FROM) => self.own(block),
            Function::HardSwish if all(block, |x| x.abs() < 1e30) => self.own(block),
            Function::Tanh if all(block, is_tanh_right) => self.own(block),
            Function::Sigmoid => {
                old.copy_from_slice(block);
                self.logistic(block, old)
            }
            Function::Silu => {
                old.copy_from_slice(block);
                self.logistic(block, old)?;
                both(block, old, |y, x| x * y);
                Ok(())
            }
            Function::GeluTanh => {
                const SCALE: f32 = 1.595_769;
                old.iter_mut()
                    .zip(&*block)
                    .for_each(|(inner, x)| *inner = SCALE * (x + 0.044715 * x * x * x));
                let mut gate = [0f32; BLOCK];
                let gate = gate.get_mut(..block.len()).context("too long")?;
                self.logistic(gate, old)?;
                both(block, gate, |x, gate| x * gate);
                Ok(())
            }
            Function::HardSwish => {
                each(block, |x| x * unit(x / 6.0 + 0.5));
                Ok(())
            }
            Function::Tanh => {
                old.copy_from_slice(block);
                self.own(block)?;
                both(block, old, tanh_of);
                Ok(())
            }
            Function::Erf => {
                old.copy_from_slice(block);
                self.own(block)?;
                both(block, old, |y, x| if x.abs() < 0.25 { small_erf(x) } else { y });
                Ok(())
            }
            Function::Mish => {
                old.copy_from_slice(block);
                // From 20 on it is the identity.
                each(block, |x| if x > 20.0 { 20.0 } else { x });
                self.exp(block)?;
                both(block, old, |e, x| {
                    let n = e * (e + 2.0);
                    x * (n / (n + 2.0))
                });
                Ok(())
            }
            Function::Softplus => {
                old.copy_from_slice(block);
                each(block, |x| -x.abs());
                self.exp(block)?;
                let mut log = [0f32; BLOCK];
                let log = log.get_mut(..block.len()).context("too long")?;
                log.iter_mut().zip(&*block).for_each(|(sum, e)| *sum = 1.0 + e);
                self.log.as_ref().context("no kernel")?.run(log)?;
                // The logarithm of the rounded sum, corrected for what the rounding took.
                both(block, log, |e, log| {
                    let rounded = (1.0 + e) - 1.0;
                    if rounded == 0.0 { e } else { log * (e / rounded) }
                });
                both(block, old, |tail, x| if x > 0.0 { x + tail } else { tail });
                Ok(())
            }
            Function::Elu { alpha } => self.below(block, old, alpha, 1.0, 1.0),
            Function::Celu { alpha } => self.below(block, old, alpha, alpha, 1.0),
            Function::Selu { alpha, gamma } => self.below(block, old, alpha, 1.0, gamma),
            Function::HardSigmoid { alpha, beta } => {
                each(block, |x| unit(alpha * x + beta));
                Ok(())
            }
            Function::Clamp { low, high } => {
                let (low, high) = (low as f32, high as f32);
                each(block, |x| {
                    let x = if x < low { low } else { x };
                    if x > high { high } else { x }
                });
                Ok(())
            }
            Function::Acosh => {
                each(block, |x| f64::from(x).acosh() as f32);
                Ok(())
            }
            Function::Asinh => {
                each(block, |x| f64::from(x).asinh() as f32);
                Ok(())
            }
            Function::Round => {
                each(block, f32::round_ties_even);
                Ok(())
            }
        }
    }

    /// `1 / (1 + exp(-x))` without overflow on the way, right in every digit of small results.
    fn logistic(&self, block: &mut [f32], x: &[f32]) -> TractResult<()> {
        block.iter_mut().zip(x).for_each(|(e, x)| *e = -x.abs());
        self.exp(block)?;
        both(block, x, |e, x| (if x < 0.0 { e } else { 1.0 }) / (1.0 + e));
        Ok(())
    }

    /// `gain * scale * (exp(x / width) - 1)` below zero, `gain * x` elsewhere.
    fn below(
        &self,
        block: &mut [f32],
        old: &mut [f32],
        scale: f32,
        width: f32,
        gain: f32,
    ) -> TractResult<()> {
        old.copy_from_slice(block);
        each(block, |x| x / width);
        self.exp(block)?;
        both(block, old, |e, x| {
            let part = x / width;
            let less = if part > -0.25 { small_exp_m1(part) } else { e - 1.0 };
            gain * if x < 0.0 { scale * less } else { x }
        });
        Ok(())
    }
}

fn all(block: &[f32], test: impl Fn(f32) -> bool) -> bool {
    block.iter().fold(true, |all, x| all & test(*x))
}

fn each(block: &mut [f32], function: impl Fn(f32) -> f32) {
    block.iter_mut().for_each(|x| *x = function(*x));
}

fn both(block: &mut [f32], other: &[f32], function: impl Fn(f32, f32) -> f32) {
    block
        .iter_mut()
        .zip(other)
        .for_each(|(x, y)| *x = function(*x, *y));
}

/// To the range from 0 to 1; NaN stays.
fn unit(x: f32) -> f32 {
    let x = if x < 0.0 { 0.0 } else { x };
    if x > 1.0 { 1.0 } else { x }
}

/// The power series; for numbers below a quarter.
fn small_erf(x: f32) -> f32 {
    let square = x * x;
    x * (std::f32::consts::FRAC_2_SQRT_PI
        - square
            * (0.376_126_4 - square * (0.112_837_92 - square * (0.026_866_17 - square * 0.005_223_977_6))))
}

/// The power series; for numbers below a quarter.
fn small_exp_m1(x: f32) -> f32 {
    x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0))))))
}
