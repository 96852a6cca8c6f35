//! Scale and zero point from a range of real values.

use super::kind::Kind;

/// What codes mean: `value = (code - zero_point) * scale`; for floats `code` is the number that the byte stands for and the zero
/// point is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Step between two codes.
    pub scale: f32,
    /// The code of 0.
    pub zero_point: i32,
}

/// How codes are spread over a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheme {
    /// Type of the codes.
    pub kind: Kind,
    /// Zero in the middle of the codes.
    pub symmetric: bool,
    /// One bit less than the type has.
    pub reduced: bool,
    /// Bits that codes make use of, if not all that the type has; they lie around zero where it is in the middle, else they are
    /// the lowest ones.
    pub bits: Option<u32>,
    /// Smallest difference between the highest and the lowest value.
    pub minimum_range: Option<f32>,
}

/// Values that cannot be quantized.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum QuantizeError {
    /// A range with NaN or an infinite end.
    #[error("the range [{low}, {high}] is not finite")]
    Range {
        /// Lower end.
        low: f32,
        /// Upper end.
        high: f32,
    },
    /// Parameters that do not fit the tensor's shape.
    #[error("{scales} scales do not fit a tensor of shape {dims:?} {granularity}")]
    Shape {
        /// Number of scales.
        scales: usize,
        /// Shape of the tensor.
        dims: Vec<u64>,
        /// How they were to be used.
        granularity: String,
    },
    /// The tensor is not of a type that can be quantized.
    #[error(transparent)]
    Tensor(#[from] crate::ir::TensorError),
}

impl Scheme {
    /// Codes of `kind` over the whole type.
    pub fn new(kind: Kind, symmetric: bool) -> Self {
        Self {
            kind,
            symmetric,
            reduced: false,
            bits: None,
            minimum_range: None,
        }
    }

    /// Lowest and highest code that a range is spread over.
    pub fn code_range(&self) -> (i32, i32) {
        match self.fewer() {
            Some(limits) => limits,
            None => self.kind.code_range(self.symmetric, self.reduced),
        }
    }

    /// Lowest and highest code there is.
    pub fn limits(&self) -> (i32, i32) {
        self.fewer().unwrap_or_else(|| self.kind.limits())
    }

    fn fewer(&self) -> Option<(i32, i32)> {
        let bits = self.bits.filter(|bits| *bits < self.kind.bits())?;
        let (lowest, _) = self.kind.limits();
        let first = match self.symmetric {
            true => lowest + (1 << (self.kind.bits() - 1)) - (1 << bits.saturating_sub(1)),
            false => lowest,
        };
        Some((first, first + (1 << bits) - 1))
    }
}

/// Scale and zero point for values in `[low, high]`; the range is widened to hold 0. Computed in `f64` and stored in `f32`.
/// A range too narrow for a normal `f32` scale gives scale 1 and zero point 0.
///
/// A float type has its largest finite value at the largest magnitude, as TensorRT and the OCP's scaled formats have it. (ONNX
/// Runtime's quantizer takes the standard deviation of weights over that of all codes instead, and clips what is beyond.)
pub fn parameters(low: f32, high: f32, scheme: &Scheme) -> Result<Parameters, QuantizeError> {
    if !low.is_finite() || !high.is_finite() {
        return Err(QuantizeError::Range { low, high });
    }
    let (mut low, mut high) = (low.min(0.0), high.max(0.0));
    if let Some(minimum) = scheme.minimum_range {
        high = high.max(low + minimum);
    }
    if let Some(highest) = scheme.kind.largest() {
        let scale = f64::from(high.max(-low)) / f64::from(highest);
        let scale = if scale < f64::from(f32::MIN_POSITIVE) {
            1.0
        } else {
            scale as f32
        };
        return Ok(Parameters { scale, zero_point: 0 });
    }
    if scheme.symmetric {
        let largest = low.abs().max(high.abs());
        (low, high) = (-largest, largest);
    }
    let (first, last) = scheme.code_range();
    let scale = (f64::from(high) - f64::from(low)) / (f64::from(last) - f64::from(first));
    if scale < f64::from(f32::MIN_POSITIVE) {
        return Ok(Parameters {
            scale: 1.0,
            zero_point: 0.clamp(first, last),
        });
    }
    let zero_point = if scheme.symmetric {
        (f64::from(first + last) / 2.0).round_ties_even()
    } else {
        (f64::from(first) - f64::from(low) / scale).round_ties_even()
    };
    Ok(Parameters {
        scale: scale as f32,
        zero_point: zero_point as i32,
    })
}

/// A weight scale that is large enough for `bias` to fit 32-bit codes of scale `input_scale * weight_scale`; `None` when it already is.
pub fn weight_scale_for_bias(bias: f32, input_scale: f32, weight_scale: f32) -> Option<f32> {
    let span = f64::from(i32::MAX) - f64::from(i32::MIN + 1);
    let smallest = 1.0001 * (2.0 * f64::from(bias.abs())) / span;
    let candidate = f64::from(input_scale) * f64::from(weight_scale);
    (candidate < smallest && candidate > 0.0)
        .then(|| (f64::from(weight_scale) * (smallest / candidate)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_zero_points_of_known_ranges() {
        for (low, high, kind, symmetric, scale, zero_point) in [
            (-1.0f32, 1.0f32, Kind::Uint8, false, 2.0 / 255.0, 128),
            (0.0, 6.0, Kind::Uint8, false, 6.0 / 255.0, 0),
            (2.0, 6.0, Kind::Uint8, false, 6.0 / 255.0, 0),
            (-0.5, 1.0, Kind::Int8, true, 1.0 / 127.0, 0),
            (-1.0, 1.0, Kind::Uint8, true, 2.0 / 255.0, 128),
            (-1.0, 0.5, Kind::Int4, true, 2.0 / 15.0, 0),
            (0.0, 0.0, Kind::Int8, false, 1.0, 0),
            (-1.0, 7.0, Kind::Float8e4m3fn, false, 7.0 / 448.0, 0),
            (-24.0, 7.0, Kind::Float8e4m3fnuz, true, 24.0 / 240.0, 0),
            (-1.0, 2.0, Kind::Float8e5m2, true, 2.0 / 57344.0, 0),
            (0.0, 0.0, Kind::Float8e5m2fnuz, true, 1.0, 0),
        ] {
            let found = parameters(low, high, &Scheme::new(kind, symmetric)).unwrap();
            assert_eq!(
                found,
                Parameters {
                    scale: scale as f32,
                    zero_point
                },
                "{low} {high} {kind:?}"
            );
        }
        assert!(parameters(f32::NAN, 1.0, &Scheme::new(Kind::Int8, true)).is_err());
    }

    #[test]
    fn biases_that_would_overflow_widen_the_weight_scale() {
        assert_eq!(weight_scale_for_bias(1.0, 0.1, 0.1), None);
        let scale = weight_scale_for_bias(1.0, 1e-6, 1e-6).unwrap();
        assert!(1.0 / (f64::from(scale) * 1e-6) < f64::from(i32::MAX));
    }
}
