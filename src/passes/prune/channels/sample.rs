//! Seeded inputs for comparing two models.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Graph, NodeKind, Tensor};

/// Sizes that an unknown dimension gets: batch, channels or sequence, image side.
const BATCH: i64 = 1;
const LENGTH: i64 = 8;
const SIDE: i64 = 64;

/// Values for every input that has no default; `None` where an input's type is not known well enough.
pub(super) fn sample(graph: &Graph, seed: u64) -> Option<RunValues> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut symbols: BTreeMap<String, i64> = BTreeMap::new();
    let mut values = RunValues::new();
    for id in graph.inputs() {
        let node = graph.get(*id)?;
        if matches!(&node.kind, NodeKind::Input(input) if input.default.is_some()) {
            continue;
        }
        let value = node.outputs().first()?;
        let shape = value.ty.shape()?;
        for (at, dim) in shape.iter().enumerate() {
            let size = match (at, shape.len()) {
                (0, _) => BATCH,
                (2.., 4..) => SIDE,
                _ => LENGTH,
            };
            dim.for_each_symbol(&mut |name| {
                symbols.entry(name.to_string()).or_insert(size);
            });
        }
        let dims: Vec<u64> = shape
            .iter()
            .enumerate()
            .map(|(at, dim)| {
                let default = if at == 0 { BATCH } else { LENGTH };
                let size = dim
                    .evaluate(&|name| symbols.get(name).copied())
                    .unwrap_or(default);
                u64::try_from(size).ok()
            })
            .collect::<Option<_>>()?;
        values.insert(
            value.name.to_string(),
            RunValue::Tensor(tensor(&mut rng, value.ty.dtype()?, &dims)?),
        );
    }
    Some(values)
}

fn tensor(rng: &mut ChaCha8Rng, dtype: DType, dims: &[u64]) -> Option<Tensor> {
    let count: u64 = dims.iter().product();
    let bits: Vec<u64> = (0..count).map(|_| rng.next_u64()).collect();
    let unit = |bits: &u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
    let result = match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Tensor::from_f64(
            dtype,
            dims,
            &bits.iter().map(|bits| 2.0 * unit(bits) - 1.0).collect::<Vec<_>>(),
        ),
        // Small, so that they fit whatever they index.
        DType::I64 => Tensor::from_slice(
            dims,
            &bits.iter().map(|bits| (bits % 2) as i64).collect::<Vec<_>>(),
        ),
        DType::I32 => Tensor::from_slice(
            dims,
            &bits.iter().map(|bits| (bits % 2) as i32).collect::<Vec<_>>(),
        ),
        DType::U8 => Tensor::from_slice(
            dims,
            &bits.iter().map(|bits| (bits % 256) as u8).collect::<Vec<_>>(),
        ),
        DType::I8 => Tensor::from_slice(dims, &bits.iter().map(|bits| *bits as i8).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_bools(dims, &vec![true; count as usize]),
        _ => return None,
    };
    result.ok()
}
