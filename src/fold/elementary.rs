//! ONNX's functions of one real number, in double precision, so that a result of a narrower type is rounded once. NaN stays NaN.

use crate::ir::Operator;

/// A function of one number.
pub(super) type Function = Box<dyn Fn(f64) -> f64>;

/// Whether every correct implementation of the operator gives the same bits: it rounds once at most, and where IEEE 754 says.
pub(super) fn decided(op_type: &str) -> bool {
    matches!(
        op_type,
        "Abs"
            | "Neg"
            | "Ceil"
            | "Floor"
            | "Round"
            | "Sqrt"
            | "Relu"
            | "Shrink"
            | "Sign"
            | "IsNaN"
            | "IsInf"
            | "ThresholdedRelu"
    )
}

/// The function of an elementwise operator with its attributes; `None` for other operators and for attributes that it does not have.
pub(super) fn function(operator: &Operator) -> Option<Function> {
    let attribute = |name: &str, default: f32| f64::from(operator.float(name).unwrap_or(default));
    Some(match &*operator.op_type {
        "Abs" => Box::new(f64::abs),
        "Neg" => Box::new(|x| -x),
        "Ceil" => Box::new(f64::ceil),
        "Floor" => Box::new(f64::floor),
        "Round" => Box::new(f64::round_ties_even),
        "Sqrt" => Box::new(f64::sqrt),
        "Reciprocal" => Box::new(|x| 1.0 / x),
        "Exp" => Box::new(f64::exp),
        "Log" => Box::new(f64::ln),
        "Sin" => Box::new(f64::sin),
        "Cos" => Box::new(f64::cos),
        "Tan" => Box::new(f64::tan),
        "Asin" => Box::new(f64::asin),
        "Acos" => Box::new(f64::acos),
        "Atan" => Box::new(f64::atan),
        "Sinh" => Box::new(f64::sinh),
        "Cosh" => Box::new(f64::cosh),
        "Tanh" => Box::new(f64::tanh),
        "Asinh" => Box::new(f64::asinh),
        "Acosh" => Box::new(f64::acosh),
        "Atanh" => Box::new(f64::atanh),
        "Erf" => Box::new(erf),
        "Sigmoid" => Box::new(sigmoid),
        "Softplus" => Box::new(softplus),
        "Softsign" => Box::new(|x| x / (1.0 + x.abs())),
        "Relu" => Box::new(relu),
        "Mish" => Box::new(|x| x * softplus(x).tanh()),
        "HardSwish" => Box::new(|x| x * clamp(x / 6.0 + 0.5)),
        "LeakyRelu" => {
            let slope = attribute("alpha", 0.01);
            Box::new(move |x| if x < 0.0 { slope * x } else { x })
        }
        "ThresholdedRelu" => {
            let threshold = attribute("alpha", 1.0);
            Box::new(move |x| if x > threshold { x } else { 0.0 })
        }
        "HardSigmoid" => {
            let (slope, shift) = (attribute("alpha", 0.2), attribute("beta", 0.5));
            Box::new(move |x| clamp(slope * x + shift))
        }
        "Shrink" => {
            let (limit, bias) = (attribute("lambd", 0.5), attribute("bias", 0.0));
            Box::new(move |x| {
                if x < -limit {
                    x + bias
                } else if x > limit {
                    x - bias
                } else {
                    0.0
                }
            })
        }
        "Elu" => {
            let scale = attribute("alpha", 1.0);
            Box::new(move |x| if x < 0.0 { scale * x.exp_m1() } else { x })
        }
        "Celu" => {
            let scale = attribute("alpha", 1.0);
            Box::new(move |x| if x < 0.0 { scale * (x / scale).exp_m1() } else { x })
        }
        "Selu" => {
            let (scale, gain) = (
                attribute("alpha", 1.673_263_192_176_818_8_f64 as f32),
                attribute("gamma", 1.050_701_022_148_132_3_f64 as f32),
            );
            Box::new(move |x| {
                if x > 0.0 {
                    gain * x
                } else {
                    gain * scale * x.exp_m1()
                }
            })
        }
        "Gelu" => match operator.string("approximate").unwrap_or("none") {
            "none" => Box::new(|x| 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)),
            // 1 + tanh(a) is twice the sigmoid of 2 a, which does not cancel.
            "tanh" => Box::new(|x| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                x * sigmoid(2.0 * inner)
            }),
            _ => return None,
        },
        "Swish" => {
            let factor = attribute("alpha", 1.0);
            Box::new(move |x| {
                let inner = factor * x;
                // What the product lost, which the exponential would make large.
                let lost = f64::mul_add(factor, x, -inner);
                let gate = sigmoid(inner);
                let lost = if lost.is_finite() { lost } else { 0.0 };
                x * (gate + lost * gate * (1.0 - gate))
            })
        }
        _ => return None,
    })
}

/// Numbers below 0 become 0; NaN and both zeros stay.
pub(super) fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// To the range from 0 to 1; NaN stays.
fn clamp(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

/// `1 / (1 + exp(-x))` without overflow on the way.
fn sigmoid(x: f64) -> f64 {
    if x < 0.0 {
        let e = x.exp();
        e / (1.0 + e)
    } else {
        1.0 / (1.0 + (-x).exp())
    }
}

/// `ln(1 + exp(x))` without overflow on the way.
fn softplus(x: f64) -> f64 {
    if x > 0.0 {
        x + (-x).exp().ln_1p()
    } else {
        x.exp().ln_1p()
    }
}

/// The error function: the series of positive terms `2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (2n+1)!!`, which cancels
/// nothing. From 6 on the distance to 1 is below half a unit in the last place of a double.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size.is_nan() {
        return x;
    }
    if size >= 6.0 {
        return 1f64.copysign(x);
    }
    let square = x * x;
    let (mut term, mut sum) = (x, x);
    let mut odd = 1.0;
    while term.abs() > sum.abs() * (f64::EPSILON / 8.0) {
        odd += 2.0;
        term *= 2.0 * square / odd;
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum
}

/// `1 - erf(x)` without cancellation: from 2 on by its continued fraction.
fn erfc(x: f64) -> f64 {
    if x.is_nan() || x < 2.0 {
        return 1.0 - erf(x);
    }
    let tail = (1..80).rev().fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
    (-x * x).exp() / tail / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, wanted) in [
            (0.0, 0.0),
            (1e-10, 1.128_379_167_095_512_6e-10),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (5.5, 0.999_999_999_999_992_6),
        ] {
            assert!((erf(x) - wanted).abs() <= wanted * 4e-16, "{x}: {}", erf(x));
            assert_eq!(erf(-x).to_bits(), (-erf(x)).to_bits());
        }
        assert!(erf(f64::NAN).is_nan());
        assert_eq!(erf(f64::NEG_INFINITY), -1.0);
    }

    #[test]
    fn saturating_functions_do_not_overflow_on_the_way() {
        assert_eq!(softplus(1e4), 1e4);
        assert_eq!(softplus(-1e4), 0.0);
        assert_eq!(sigmoid(-1e4), 0.0);
        assert_eq!(sigmoid(1e4), 1.0);
        assert!((sigmoid(-17.0).ln() + 17.0).abs() < 1e-7);
    }
}
