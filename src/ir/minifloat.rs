//! Decoding of the 4-, 6- and 8-bit float types (OCP OFP8 and MX specifications, and ONNX's `float8` page).

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
}
