//! Seeded random inputs made from a model's own input types. Sample `i` is the same whatever batch or shard it comes in.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::error::DataError;
use super::signature::{InputSignature, Signature};
use super::spec::SyntheticSpec;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor, TensorError};

/// A generator for one sample of one input.
fn generator(seed: u64, sample: u64, input: usize) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&sample.to_le_bytes());
    key[16..24].copy_from_slice(&(input as u64).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A number in `0 .. bound`, without bias.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let bound = bound.max(1);
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let value = rng.next_u64();
        if value < limit {
            return value % bound;
        }
    }
}

/// A generator for choices among samples.
pub(super) fn chooser(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Dimensions of one sample of `input`: the shape without its first axis, symbols replaced by their sizes or 1.
pub(super) fn sample_dims(input: &InputSignature, spec: &SyntheticSpec) -> Result<Vec<u64>, DataError> {
    let unknown = |message: String| DataError::Spec { file: None, message };
    let shape = input
        .shape
        .as_ref()
        .ok_or_else(|| unknown(format!("input {}: synthetic data needs a known rank", input.name)))?;
    shape
        .iter()
        .skip(1)
        .map(|dim| {
            let size = dim
                .evaluate(&|name| Some(spec.sizes.get(name).copied().unwrap_or(1)))
                .unwrap_or(1);
            u64::try_from(size)
                .map_err(|_| unknown(format!("input {}: {dim} has the size {size}", input.name)))
        })
        .collect()
}

/// One sample of one input, without batch axis.
pub(super) fn sample(
    input: &InputSignature,
    position: usize,
    dims: &[u64],
    spec: &SyntheticSpec,
    seed: u64,
    index: u64,
) -> Result<Tensor, TensorError> {
    let mut rng = generator(seed, index, position);
    let count: u64 = dims.iter().product();
    let [low, high] = spec.range.unwrap_or([-1.0, 1.0]);
    let bound = spec.below.unwrap_or(2).max(1) as u64;
    match input.dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
            let unit = |rng: &mut ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let values: Vec<f64> = (0..count).map(|_| low + (high - low) * unit(&mut rng)).collect();
            Tensor::from_f64(input.dtype, dims, &values)
        }
        DType::Bool => Tensor::from_bools(
            dims,
            &(0..count).map(|_| below(&mut rng, 2) == 1).collect::<Vec<_>>(),
        ),
        DType::I64 => Tensor::from_slice(
            dims,
            &(0..count)
                .map(|_| below(&mut rng, bound) as i64)
                .collect::<Vec<_>>(),
        ),
        DType::I32 => Tensor::from_slice(
            dims,
            &(0..count)
                .map(|_| below(&mut rng, bound) as i32)
                .collect::<Vec<_>>(),
        ),
        DType::U8 => Tensor::from_slice(
            dims,
            &(0..count)
                .map(|_| below(&mut rng, bound) as u8)
                .collect::<Vec<_>>(),
        ),
        DType::I8 => Tensor::from_slice(
            dims,
            &(0..count)
                .map(|_| below(&mut rng, bound) as i8)
                .collect::<Vec<_>>(),
        ),
        found => Err(TensorError::Type {
            expected: "a type that random values are made for",
            found,
        }),
    }
}

/// One batch of random samples, by global index.
pub(super) fn batch(
    signature: &Signature,
    spec: &SyntheticSpec,
    dims: &[Vec<u64>],
    seed: u64,
    samples: &[u64],
) -> Result<RunValues, DataError> {
    let mut inputs = RunValues::new();
    for (position, (input, dims)) in signature.inputs.iter().zip(dims).enumerate() {
        let failed = |e: crate::ir::TensorError| DataError::Spec {
            file: None,
            message: format!("input {}: {e}", input.name),
        };
        let scalar = input.shape.as_ref().is_some_and(|shape| shape.is_empty());
        let rows = if scalar { 1 } else { samples.len() };
        let mut bytes = Vec::new();
        for index in samples.iter().take(rows) {
            let sample = sample(input, position, dims, spec, seed, *index).map_err(failed)?;
            bytes.extend_from_slice(&sample.raw().map_err(failed)?);
        }
        let full = if scalar {
            Vec::new()
        } else {
            [rows as u64].iter().chain(dims).copied().collect()
        };
        let tensor = Tensor::from_raw(input.dtype, full, bytes).map_err(failed)?;
        inputs.insert(input.name.clone(), RunValue::Tensor(tensor));
    }
    Ok(inputs)
}
