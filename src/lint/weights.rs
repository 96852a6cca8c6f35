//! The constants of a model and what their elements are: every tensor is read once, in blocks, for all checks.

use half::{bf16, f16};
use rayon::prelude::*;

use super::subject::GraphView;
use crate::ir::{ConstantOrigin, DType, NodeId, NodeKind, Tensor};

/// How a constant stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// An initializer.
    Initializer,
    /// A `Constant` node.
    Node,
    /// The default of a graph input.
    Default,
}

/// A constant.
pub(super) struct Weight<'m> {
    /// The index of its graph among the subject's.
    pub(super) graph: usize,
    /// Its node.
    pub(super) id: NodeId,
    /// Its name.
    pub(super) name: &'m str,
    /// Its elements.
    pub(super) tensor: &'m Tensor,
    /// How it stands in the file.
    pub(super) held: Held,
    /// What was counted.
    pub(super) scan: Scan,
}

/// What one pass over the elements of a tensor counts. Figures of floats are those of float types, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scan {
    /// Elements that are no number.
    pub(super) nan: u64,
    /// Elements that are infinite.
    pub(super) infinite: u64,
    /// Elements that are zero.
    pub(super) zero: u64,
    /// Elements of float and double below the smallest normal float, 1.18e-38.
    pub(super) subnormal: u64,
    /// Finite elements that become infinite in float16: 65520 and more.
    pub(super) above_half: u64,
    /// Elements other than zero that become zero in float16: up to 2^-25.
    pub(super) below_half: u64,
    /// The largest finite magnitude.
    pub(super) largest: f64,
    /// The smallest and the largest integer.
    pub(super) integers: Option<(i64, i64)>,
    /// Elements of 8-bit types that are the smallest code, and that are the largest.
    pub(super) extremes: (u64, u64),
    /// The digest of the bytes; zeros for strings.
    pub(super) digest: [u8; 32],
}

/// The constants of a model, in the order of graphs and nodes.
pub(super) struct Weights<'m> {
    pub(super) all: Vec<Weight<'m>>,
}

impl<'m> Weights<'m> {
    /// Finds and reads every constant of these graphs.
    pub(super) fn of(graphs: &[GraphView<'m>]) -> Self {
        let mut found: Vec<(usize, NodeId, &'m Tensor, Held)> = Vec::new();
        for (index, view) in graphs.iter().enumerate() {
            for id in view.order.iter().copied() {
                let Some(node) = view.graph.get(id) else { continue };
                match &node.kind {
                    NodeKind::Constant(constant) => {
                        let held = match constant.origin {
                            ConstantOrigin::Node { .. } => Held::Node,
                            _ => Held::Initializer,
                        };
                        found.extend(constant.tensor.as_ref().map(|tensor| (index, id, tensor, held)));
                    }
                    NodeKind::Input(input) => {
                        found.extend(
                            input
                                .default
                                .as_ref()
                                .map(|(tensor, _)| (index, id, tensor, Held::Default)),
                        );
                    }
                    _ => {}
                }
            }
        }
        let all: Vec<Weight<'m>> = found
            .into_par_iter()
            .map(|(graph, id, tensor, held)| Weight {
                graph,
                id,
                name: graphs
                    .get(graph)
                    .and_then(|view| view.graph.get(id)?.outputs().first())
                    .map_or("", |value| value.name.as_str()),
                tensor,
                held,
                scan: scan(tensor),
            })
            .collect();
        Self { all }
    }
}

/// Bytes that are read at a time: a multiple of every element's, and small enough that a block stays in the cache for the digest.
const BLOCK: usize = 1 << 16;

fn scan(tensor: &Tensor) -> Scan {
    let mut scan = Scan::default();
    let Ok(bytes) = tensor.raw() else { return scan };
    let mut hasher = blake3::Hasher::new();
    for block in bytes.chunks(BLOCK) {
        hasher.update(block);
        match tensor.dtype() {
            DType::F32 => words::<4>(block, |bytes| scan.float(f32::from_le_bytes(bytes))),
            DType::F64 => words::<8>(block, |bytes| scan.number(f64::from_le_bytes(bytes), true)),
            DType::F16 => words::<2>(block, |bytes| {
                scan.number(f16::from_le_bytes(bytes).to_f64(), false)
            }),
            DType::BF16 => words::<2>(block, |bytes| {
                scan.number(bf16::from_le_bytes(bytes).to_f64(), false)
            }),
            DType::I64 => words::<8>(block, |bytes| scan.integer(i64::from_le_bytes(bytes))),
            DType::I32 => words::<4>(block, |bytes| scan.integer(i32::from_le_bytes(bytes).into())),
            DType::I8 => scan.codes(block, 0x80, 0x7f),
            DType::U8 => scan.codes(block, 0x00, 0xff),
            _ => {}
        }
    }
    scan.digest = *hasher.finalize().as_bytes();
    scan
}

fn words<const N: usize>(block: &[u8], mut take: impl FnMut([u8; N])) {
    let (words, _) = block.as_chunks::<N>();
    words.iter().for_each(|word| take(*word));
}

/// Magnitudes from here on round to infinity in float16.
const HALF_OVERFLOW: f64 = 65_520.0;
/// Magnitudes up to here round to zero in float16.
const HALF_UNDERFLOW: f64 = 1.0 / (1u64 << 25) as f64;

impl Scan {
    fn float(&mut self, value: f32) {
        // Nearly every element of a weight is a normal number that float16 holds.
        let magnitude = value.abs();
        if magnitude > HALF_UNDERFLOW as f32 && magnitude < HALF_OVERFLOW as f32 {
            self.largest = self.largest.max(f64::from(magnitude));
        } else {
            self.number(f64::from(value), true);
        }
    }

    fn number(&mut self, value: f64, subnormals: bool) {
        let magnitude = value.abs();
        if value.is_nan() {
            self.nan += 1;
        } else if magnitude.is_infinite() {
            self.infinite += 1;
        } else if magnitude == 0.0 {
            self.zero += 1;
        } else {
            self.subnormal += u64::from(subnormals && magnitude < f64::from(f32::MIN_POSITIVE));
            self.above_half += u64::from(magnitude >= HALF_OVERFLOW);
            self.below_half += u64::from(magnitude <= HALF_UNDERFLOW);
            self.largest = self.largest.max(magnitude);
        }
    }

    fn integer(&mut self, value: i64) {
        self.zero += u64::from(value == 0);
        let (low, high) = self.integers.unwrap_or((value, value));
        self.integers = Some((low.min(value), high.max(value)));
    }

    fn codes(&mut self, block: &[u8], lowest: u8, highest: u8) {
        for code in block {
            self.zero += u64::from(*code == 0);
            self.extremes.0 += u64::from(*code == lowest);
            self.extremes.1 += u64::from(*code == highest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_number_is_counted_once() {
        let values = [
            f32::NAN,
            f32::INFINITY,
            0.0,
            -0.0,
            1e-40,
            1e-9,
            -1e9,
            65_504.0,
            65_519.9,
            65_520.0,
            1.0,
        ];
        let scan = scan(&Tensor::from_slice(&[11], &values).unwrap());
        assert_eq!((scan.nan, scan.infinite, scan.zero, scan.subnormal), (1, 1, 2, 1));
        assert_eq!((scan.above_half, scan.below_half), (2, 2));
        assert_eq!(scan.largest, 1e9);
    }

    #[test]
    fn a_tensor_of_several_blocks_is_read_to_its_end() {
        let mut values = vec![1i64; BLOCK / 4];
        values[BLOCK / 4 - 1] = -7;
        values[BLOCK / 8] = 9;
        let tensor = Tensor::from_slice(&[values.len() as u64], &values).unwrap();
        let found = scan(&tensor);
        assert_eq!(found.integers, Some((-7, 9)));
        assert_eq!(found.digest, *blake3::hash(&tensor.raw().unwrap()).as_bytes());
    }

    #[test]
    fn codes_at_the_ends_are_counted_by_type() {
        let signed = Tensor::from_slice(&[4], &[-128i8, 127, 127, 0]).unwrap();
        assert_eq!(scan(&signed).extremes, (1, 2));
        let unsigned = Tensor::from_slice(&[3], &[0u8, 255, 1]).unwrap();
        assert_eq!(scan(&unsigned).extremes, (1, 1));
    }
}
