//! Decoding and rounding of the 4-, 6- and 8-bit float types (OCP OFP8 and MX specifications, and ONNX's `float8` page).

use super::dtype::DType;

/// Exponent bits, mantissa bits, exponent bias and how the top codes are used.
struct Layout {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    specials: Specials,
}

enum Specials {
    /// IEEE: the highest exponent holds infinity and NaN.
    Ieee,
    /// Only the all-ones code (of either sign) is NaN.
    AllOnesNan,
    /// Negative zero is the only NaN.
    NegativeZeroNan,
    /// Every code is a number.
    None,
}

fn layout(dtype: DType) -> Option<Layout> {
    let row = |exponent, mantissa, bias, specials| {
        Some(Layout {
            exponent,
            mantissa,
            bias,
            specials,
        })
    };
    match dtype {
        DType::F8E4M3FN => row(4, 3, 7, Specials::AllOnesNan),
        DType::F8E4M3FNUZ => row(4, 3, 8, Specials::NegativeZeroNan),
        DType::F8E5M2 => row(5, 2, 15, Specials::Ieee),
        DType::F8E5M2FNUZ => row(5, 2, 16, Specials::NegativeZeroNan),
        DType::F4E2M1 => row(2, 1, 1, Specials::None),
        DType::F6E2M3 => row(2, 3, 1, Specials::None),
        DType::F6E3M2 => row(3, 2, 3, Specials::None),
        _ => None,
    }
}

/// The value of a code of a small float type; NaN for a type that is not one.
pub fn decode(dtype: DType, code: u32) -> f64 {
    if dtype == DType::F8E8M0 {
        return if code == 255 {
            f64::NAN
        } else {
            2f64.powi(code as i32 - 127)
        };
    }
    let Some(Layout {
        exponent,
        mantissa,
        bias,
        specials,
    }) = layout(dtype)
    else {
        return f64::NAN;
    };
    let sign = if code >> (exponent + mantissa) & 1 == 1 {
        -1.0
    } else {
        1.0
    };
    let e = (code >> mantissa) & ((1 << exponent) - 1);
    let m = code & ((1 << mantissa) - 1);
    let top = (1 << exponent) - 1;
    match specials {
        Specials::Ieee if e == top => return if m == 0 { sign * f64::INFINITY } else { f64::NAN },
        Specials::AllOnesNan if e == top && m == (1 << mantissa) - 1 => return f64::NAN,
        Specials::NegativeZeroNan if e == 0 && m == 0 && sign < 0.0 => return f64::NAN,
        _ => {}
    }
    let fraction = m as f64 / f64::from(1u32 << mantissa);
    if e == 0 {
        sign * fraction * 2f64.powi(1 - bias)
    } else {
        sign * (1.0 + fraction) * 2f64.powi(e as i32 - bias)
    }
}

impl Layout {
    /// The exponent of the smallest normal number, which subnormal ones share.
    fn lowest(&self) -> i32 {
        1 - self.bias
    }

    /// The largest finite number.
    fn largest(&self) -> f64 {
        let (top, steps) = ((1i32 << self.exponent) - 1, 1u32 << self.mantissa);
        let (exponent, missing) = match self.specials {
            Specials::Ieee => (top - 1, 1),
            Specials::AllOnesNan => (top, 2),
            Specials::NegativeZeroNan | Specials::None => (top, 1),
        };
        (2.0 - f64::from(missing) / f64::from(steps)) * 2f64.powi(exponent - self.bias)
    }
}

/// The exponent of a positive number; a double in range has it in its bits, and what is below every type may have any.
fn exponent_of(value: f64) -> i32 {
    (value.to_bits() >> 52) as i32 - 1023
}

/// A number rounded to a small float type, to nearest and to even on ties. What is too large becomes the largest value if
/// `saturate` (always for the types without infinity and NaN), else infinity or, where there is none, NaN. `None` for types
/// that are no such float, and for NaN where the type has none.
pub(crate) fn round(dtype: DType, value: f32, saturate: bool) -> Option<f32> {
    let layout = layout(dtype)?;
    let plain = matches!(layout.specials, Specials::None);
    if value.is_nan() {
        return if plain { None } else { Some(f32::NAN) };
    }
    let wide = f64::from(value).abs();
    let step = 2f64.powi(exponent_of(wide).max(layout.lowest()) - layout.mantissa as i32);
    let rounded = (wide / step).round_ties_even() * step;
    let largest = layout.largest();
    let size = if rounded <= largest {
        rounded
    } else if saturate || plain {
        largest
    } else if matches!(layout.specials, Specials::Ieee) {
        f64::INFINITY
    } else {
        return Some(f32::NAN);
    };
    let negative_zero = size == 0.0 && matches!(layout.specials, Specials::NegativeZeroNan);
    let negative = value.is_sign_negative() && !negative_zero;
    Some(if negative { -size as f32 } else { size as f32 })
}

/// The code of a number in a small float type, rounded as [`round`] does; NaN keeps its sign where the type has one. `None` for
/// types that are no such float, and for NaN where the type has none.
pub fn encode(dtype: DType, value: f32, saturate: bool) -> Option<u32> {
    let layout = layout(dtype)?;
    let rounded = round(dtype, value, saturate)?;
    let sign = 1u32 << (layout.exponent + layout.mantissa);
    let top = ((1u32 << layout.exponent) - 1) << layout.mantissa;
    let code = if rounded.is_nan() {
        if matches!(layout.specials, Specials::NegativeZeroNan) {
            return Some(sign);
        }
        top | ((1 << layout.mantissa) - 1)
    } else if rounded.is_infinite() {
        top
    } else {
        let size = f64::from(rounded).abs();
        let exponent = exponent_of(size);
        let steps = |exponent: i32| (size / 2f64.powi(exponent - layout.mantissa as i32)) as u32;
        match exponent >= layout.lowest() {
            true => {
                ((exponent + layout.bias - 1) as u32).wrapping_mul(1 << layout.mantissa) + steps(exponent)
            }
            false => steps(layout.lowest()),
        }
    };
    let negative = match rounded.is_nan() {
        true => value.is_sign_negative(),
        false => rounded.is_sign_negative(),
    };
    Some(if negative { code | sign } else { code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_codes_are_those_of_the_specifications() {
        for (dtype, code, value) in [
            (DType::F8E4M3FN, 0x7e, 448.0),
            (DType::F8E4M3FN, 0x01, 2f64.powi(-9)),
            (DType::F8E4M3FNUZ, 0x7f, 240.0),
            (DType::F8E5M2, 0x7b, 57344.0),
            (DType::F8E5M2, 0xfc, f64::NEG_INFINITY),
            (DType::F8E5M2FNUZ, 0x7f, 57344.0),
            (DType::F4E2M1, 0x7, 6.0),
            (DType::F4E2M1, 0x9, -0.5),
            (DType::F6E2M3, 0x1f, 7.5),
            (DType::F6E3M2, 0x1f, 28.0),
            (DType::F8E8M0, 127, 1.0),
        ] {
            assert_eq!(decode(dtype, code), value, "{dtype} {code:#x}");
        }
        assert!(decode(DType::F8E4M3FN, 0x7f).is_nan() && decode(DType::F8E4M3FNUZ, 0x80).is_nan());
    }

    #[test]
    fn every_code_is_the_code_of_its_value() {
        for dtype in DType::all().filter(|dtype| layout(*dtype).is_some()) {
            let mut nans = 0;
            for code in 0..1u32 << dtype.bits() {
                let value = decode(dtype, code) as f32;
                let found = encode(dtype, value, false).unwrap();
                if value.is_nan() {
                    nans += 1;
                    assert!(decode(dtype, found).is_nan(), "{dtype} {code:#x}");
                } else {
                    assert_eq!(found, code, "{dtype} {value}");
                    assert_eq!(
                        round(dtype, value, true).unwrap().to_bits(),
                        match value.is_infinite() {
                            true => (layout(dtype).unwrap().largest() as f32)
                                .copysign(value)
                                .to_bits(),
                            false => value.to_bits(),
                        }
                    );
                }
            }
            let named = layout(dtype).unwrap().specials;
            assert_eq!(nans > 0, !matches!(named, Specials::None), "{dtype}");
        }
        assert_eq!(encode(DType::F8E4M3FN, -1e9, false), Some(0xff));
        assert_eq!(encode(DType::F8E5M2, -1e9, false), Some(0xfc));
        assert_eq!(encode(DType::F8E5M2FNUZ, 1e9, false), Some(0x80));
        assert_eq!(encode(DType::F4E2M1, f32::NAN, false), None);
    }
}
