//! Codes of values and back, per tensor, per channel and blocked; packing of 4- and 2-bit codes. The codes of 8-bit floats are their
//! bytes.

use bytes::Bytes;

use super::kind::{Granularity, Kind};
use super::parameters::{Parameters, QuantizeError};
use super::runs::{Place, Runs};
use crate::ir::{DType, Tensor, decode_minifloat, encode_minifloat, to_little_endian};

/// The code of one value: divided in `f32`, rounded half to even, moved by the zero point, cut to the type's limits.
#[inline]
pub fn quantize(value: f32, parameters: Parameters, kind: Kind) -> i32 {
    match kind.is_float() {
        true => float_code(value, parameters, kind.dtype()),
        false => quantize_within(value, parameters, kind.limits()),
    }
}

/// The byte of one value in a float type; what is beyond the largest one becomes that.
fn float_code(value: f32, parameters: Parameters, dtype: DType) -> i32 {
    encode_minifloat(dtype, value / parameters.scale, true).unwrap_or(0) as i32
}

/// 1.5 * 2^23: adding it to a float of less than 2^22 leaves no place for a fraction, so that the sum is rounded half to even.
const ROUNDING: f32 = 12_582_912.0;

/// Beyond every code and zero point together, and below what [`ROUNDING`] rounds.
const BEYOND: f32 = 1_048_576.0;

/// The same, cut to the lowest and the highest code given, which have at most 16 bits.
#[inline]
pub fn quantize_within(value: f32, parameters: Parameters, (low, high): (i32, i32)) -> i32 {
    let ratio = (value / parameters.scale).clamp(-BEYOND, BEYOND);
    let code = (ratio + ROUNDING) - ROUNDING + parameters.zero_point as f32;
    code.clamp(low as f32, high as f32) as i32
}

/// The value of one integer code.
#[inline]
pub fn dequantize(code: i32, parameters: Parameters) -> f32 {
    (code - parameters.zero_point) as f32 * parameters.scale
}

/// Codes of a float tensor. `parameters` has one entry, one a channel, or one a block in row-major order of the blocked shape.
pub fn quantize_tensor(
    tensor: &Tensor,
    parameters: &[Parameters],
    granularity: Granularity,
    kind: Kind,
) -> Result<Tensor, QuantizeError> {
    quantize_tensor_within(tensor, parameters, granularity, kind, kind.limits())
}

/// The same, with integer codes cut to the lowest and the highest one given.
pub fn quantize_tensor_within(
    tensor: &Tensor,
    parameters: &[Parameters],
    granularity: Granularity,
    kind: Kind,
    limits: (i32, i32),
) -> Result<Tensor, QuantizeError> {
    let values = tensor.to_f32()?;
    let runs = Runs::of(tensor.dims(), granularity, parameters.len())?;
    let mut codes: Vec<i32> = Vec::with_capacity(values.len());
    let code = |value: &f32, parameters: &Parameters| match kind.is_float() {
        true => float_code(*value, *parameters, kind.dtype()),
        false => quantize_within(*value, *parameters, limits),
    };
    for (elements, place) in runs.each() {
        let values = values.get(elements).unwrap_or_default();
        spread(&mut codes, values, own(parameters, place), code);
    }
    pack(tensor.dims(), &codes, kind)
}

/// Adds what becomes of a run of elements.
#[inline]
fn spread<T, U>(to: &mut Vec<U>, run: &[T], own: Own<'_>, one: impl Fn(&T, &Parameters) -> U) {
    match own {
        Own::One(shared) => to.extend(run.iter().map(|element| one(element, &shared))),
        Own::Each(each) => to.extend(run.iter().zip(each).map(|(element, own)| one(element, own))),
    }
}

/// The parameters of a run.
enum Own<'a> {
    One(Parameters),
    Each(&'a [Parameters]),
}

fn own(parameters: &[Parameters], place: Place) -> Own<'_> {
    match place {
        Place::Shared(at) => Own::One(parameters.get(at).copied().unwrap_or(Parameters {
            scale: 1.0,
            zero_point: 0,
        })),
        Place::Each(range) => Own::Each(parameters.get(range).unwrap_or_default()),
    }
}

/// Values of a tensor of codes.
pub fn dequantize_tensor(
    codes: &Tensor,
    parameters: &[Parameters],
    granularity: Granularity,
) -> Result<Tensor, QuantizeError> {
    let runs = Runs::of(codes.dims(), granularity, parameters.len())?;
    let mut values: Vec<f32> = Vec::new();
    if codes.dtype().is_float() {
        let dtype = codes.dtype();
        let table: Vec<f32> = (0..=255)
            .map(|byte| decode_minifloat(dtype, byte) as f32)
            .collect();
        let raw = codes.raw()?;
        for (elements, place) in runs.each() {
            let bytes = raw.get(elements).unwrap_or_default();
            let value = |byte: &u8, own: &Parameters| {
                table.get(usize::from(*byte)).copied().unwrap_or(f32::NAN) * own.scale
            };
            spread(&mut values, bytes, own(parameters, place), value);
        }
    } else {
        let codes = codes.to_i64()?;
        for (elements, place) in runs.each() {
            let codes = codes.get(elements).unwrap_or_default();
            let value = |code: &i64, own: &Parameters| dequantize(*code as i32, *own);
            spread(&mut values, codes, own(parameters, place), value);
        }
    }
    Ok(Tensor::from_slice(codes.dims(), &values)?)
}

/// A tensor of codes, packed from the lowest bits up where several share a byte.
pub fn pack(dims: &[u64], codes: &[i32], kind: Kind) -> Result<Tensor, QuantizeError> {
    let raw: Bytes = match kind {
        kind if kind == Kind::Uint8 || kind.is_float() => {
            codes.iter().map(|code| *code as u8).collect::<Vec<u8>>().into()
        }
        Kind::Int8 => codes
            .iter()
            .map(|code| *code as i8 as u8)
            .collect::<Vec<u8>>()
            .into(),
        Kind::Uint16 => to_little_endian(&codes.iter().map(|code| *code as u16).collect::<Vec<_>>()),
        Kind::Int16 => to_little_endian(&codes.iter().map(|code| *code as i16).collect::<Vec<_>>()),
        Kind::Int4 | Kind::Uint4 => {
            let byte = |pair: &[i32]| match pair {
                [low, high] => (*low as u8 & 15) | (*high as u8) << 4,
                [low] => *low as u8 & 15,
                _ => 0,
            };
            codes.chunks(2).map(byte).collect::<Vec<u8>>().into()
        }
        packed => {
            let bits = packed.bits();
            let per_byte = 8 / bits as usize;
            let mask = (1u32 << bits) - 1;
            let bytes: Vec<u8> = codes
                .chunks(per_byte)
                .map(|chunk| {
                    chunk.iter().enumerate().fold(0u32, |byte, (at, code)| {
                        byte | (*code as u32 & mask) << (at as u32 * bits)
                    }) as u8
                })
                .collect();
            bytes.into()
        }
    };
    Ok(Tensor::from_raw(kind.dtype(), dims.iter().copied(), raw)?)
}

/// 32-bit codes of a bias with scale `scales[c]` and zero point 0, cut to the type's limits. One scale serves all channels.
pub fn bias_codes(bias: &[f32], scales: &[f32]) -> Vec<i32> {
    bias.iter()
        .enumerate()
        .map(|(channel, value)| {
            let scale = scales.get(channel).or(scales.first()).copied().unwrap_or(1.0);
            let code = (f64::from(*value) / f64::from(scale)).round_ties_even();
            code.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scale: f32, zero_point: i32) -> Parameters {
        Parameters { scale, zero_point }
    }

    #[test]
    fn rounding_by_addition_is_rounding_half_to_even() {
        let mut state = 1u32;
        for at in 0..200_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = match at % 3 {
                0 => f32::from_bits(state),
                1 => (state >> 8) as f32 / 4096.0 - 2048.0,
                _ => ((state >> 8) as i32 - (1 << 23)) as f32 * 0.5,
            };
            for (zero_point, kind) in [(0, Kind::Int16), (128, Kind::Uint8), (40_000, Kind::Uint16)] {
                let (low, high) = kind.limits();
                let plain =
                    (value.round_ties_even() + zero_point as f32).clamp(low as f32, high as f32) as i32;
                assert_eq!(quantize(value, of(1.0, zero_point), kind), plain, "{value}");
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_codes_saturate() {
        for (value, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (1000.0, 127),
            (-1000.0, -128),
        ] {
            assert_eq!(quantize(value, of(1.0, 0), Kind::Int8), expected, "{value}");
        }
        assert_eq!(quantize(f32::INFINITY, of(0.1, 3), Kind::Uint8), 255);
    }

    #[test]
    fn each_granularity_picks_its_parameters() {
        let x = Tensor::from_slice::<f32>(&[2, 4], &[1., 2., 3., 4., 1., 2., 3., 4.]).unwrap();
        let codes = |p: &[Parameters], g| quantize_tensor(&x, p, g, Kind::Int8).unwrap().to_i64().unwrap();
        assert_eq!(
            codes(&[of(1.0, 0)], Granularity::PerTensor),
            [1, 2, 3, 4, 1, 2, 3, 4]
        );
        assert_eq!(
            codes(&[of(1.0, 0), of(0.5, 1)], Granularity::PerChannel(0)),
            [1, 2, 3, 4, 3, 5, 7, 9]
        );
        let blocks = [of(1.0, 0), of(0.5, 0), of(0.25, 0), of(1.0, 0)];
        assert_eq!(
            codes(&blocks, Granularity::Blocked { axis: 1, size: 2 }),
            [1, 2, 6, 8, 4, 8, 3, 4]
        );
        let short = [of(1.0, 0), of(0.5, 0), of(1.0, 0), of(0.5, 0)];
        assert_eq!(
            codes(&short, Granularity::Blocked { axis: 1, size: 3 }),
            [1, 2, 3, 8, 1, 2, 3, 8]
        );
        assert!(quantize_tensor(&x, &short, Granularity::PerTensor, Kind::Int8).is_err());
        assert!(quantize_tensor(&x, &short, Granularity::PerChannel(5), Kind::Int8).is_err());
    }

    #[test]
    fn packed_codes_are_read_back() {
        let codes = [-8, 7, -1, 3, 2];
        assert_eq!(
            pack(&[5], &codes, Kind::Int4).unwrap().to_i64().unwrap(),
            [-8, 7, -1, 3, 2]
        );
        assert_eq!(
            pack(&[5], &[3, 0, 1, 2, 3], Kind::Uint2)
                .unwrap()
                .to_i64()
                .unwrap(),
            [3, 0, 1, 2, 3]
        );
    }

    #[test]
    fn floats_of_eight_bits_are_rounded_to_even_and_saturate() {
        // Codes of the OCP's OFP8 tables.
        for (value, kind, byte) in [
            (448.0, Kind::Float8e4m3fn, 0x7e),
            (1e9, Kind::Float8e4m3fn, 0x7e),
            (-464.0, Kind::Float8e4m3fn, 0xfe),
            (1.0625, Kind::Float8e4m3fn, 0x38),
            (1.1875, Kind::Float8e4m3fn, 0x3a),
            (2f32.powi(-9), Kind::Float8e4m3fn, 0x01),
            (2f32.powi(-10), Kind::Float8e4m3fn, 0x00),
            (-2f32.powi(-10) * 1.01, Kind::Float8e4m3fn, 0x81),
            (-0.0, Kind::Float8e4m3fnuz, 0x00),
            (240.0, Kind::Float8e4m3fnuz, 0x7f),
            (57344.0, Kind::Float8e5m2, 0x7b),
            (f32::INFINITY, Kind::Float8e5m2, 0x7b),
            (1.0, Kind::Float8e5m2, 0x3c),
            (1.0, Kind::Float8e5m2fnuz, 0x40),
        ] {
            assert_eq!(quantize(value, of(1.0, 0), kind), byte, "{value} {kind:?}");
        }
        let x = Tensor::from_slice::<f32>(&[2, 2], &[1.0, -448.0, 0.5, 30.0]).unwrap();
        let own = [of(1.0, 0), of(0.125, 0)];
        let axis = Granularity::PerChannel(0);
        let codes = quantize_tensor(&x, &own, axis, Kind::Float8e4m3fn).unwrap();
        assert_eq!(codes.dtype(), DType::F8E4M3FN);
        assert_eq!(codes.raw().unwrap().to_vec(), [0x38, 0xfe, 0x48, 0x77]);
        let back = dequantize_tensor(&codes, &own, axis).unwrap();
        assert_eq!(back.to_f64().unwrap(), [1.0, -448.0, 0.5, 30.0]);
    }

    #[test]
    fn values_survive_within_half_a_step() {
        let x = Tensor::from_slice::<f32>(&[3], &[0.3, -0.2, 0.9]).unwrap();
        let p = [of(0.01, 5)];
        let back = dequantize_tensor(
            &quantize_tensor(&x, &p, Granularity::PerTensor, Kind::Int8).unwrap(),
            &p,
            Granularity::PerTensor,
        )
        .unwrap();
        for (a, b) in x.to_f64().unwrap().iter().zip(back.to_f64().unwrap()) {
            assert!((a - b).abs() <= 0.005 + 1e-7);
        }
    }
}
