//! A block: up to 2^20 elements of one tensor, stored in whichever way takes the fewest bytes.

use super::Damaged;
use super::adaptive;
use super::binary::{Decoder, Encoder};
use super::bytes::{Reader, put_varint};
use super::difference;
use super::elements::{ElementType, Shape};
use super::planes;
use super::text::{Text, fewest};

/// Elements of a block; the last one of a tensor has what is left.
pub(crate) const BLOCK_ELEMENTS: usize = 1 << 20;

/// The ways, the first byte of each block.
const RAW: u8 = 0;
const FILL: u8 = 1;
const PLANES: u8 = 2;
const SPARSE: u8 = 3;
const CODEBOOK: u8 = 4;
const ADAPTIVE: u8 = 5;
const TEXT: u8 = 6;
const DIFFERENCE: u8 = 7;

/// Values of a codebook at most.
const VALUES: usize = 256;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Fixed frequencies: decoding is as fast as memory.
    Fast,
    /// Adaptive probabilities, too: smaller, and some ten times slower.
    Small,
}

/// A block of a tensor: where it lies, and what the reader has of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// What the elements are; `None` for bytes of no tensor.
    pub(crate) kind: Option<ElementType>,
    /// The shape of the tensor.
    pub(crate) shape: Shape,
    /// The first element.
    pub(crate) first: u64,
    /// As many bytes of a tensor that the reader has.
    pub(crate) base: Option<&'a [u8]>,
}

/// A block's bytes in the shortest way.
pub(crate) fn encode(place: Place<'_>, bytes: &[u8], effort: Effort) -> Vec<u8> {
    let mut best = match place.kind {
        Some(kind) if kind.count(bytes.len()).is_some() => {
            let elements = kind.read(bytes);
            let alone = elements_coded(kind, &elements, place.shape, place.first, effort);
            match place.base {
                Some(base) if alone.len() > 16 => {
                    let differences = difference::encode(kind, &elements, &kind.read(base));
                    if differences.len() + 1 < alone.len() {
                        [&[DIFFERENCE], differences.as_slice()].concat()
                    } else {
                        alone
                    }
                }
                _ => alone,
            }
        }
        _ => encode_text(bytes),
    };
    if best.len() > bytes.len() {
        best = [&[RAW], bytes].concat();
    }
    best
}

/// Bytes of no tensor.
fn encode_text(bytes: &[u8]) -> Vec<u8> {
    if let Some(value) = bytes.first()
        && bytes.iter().all(|byte| byte == value)
    {
        let mut out = vec![FILL];
        put_varint(&mut out, u64::from(*value));
        return out;
    }
    let mut text = Text::new(bytes.len() as u64);
    let mut coder = Encoder::new();
    for byte in bytes {
        text.code(&mut coder, *byte);
    }
    let mut out = [&[TEXT], coder.finish().as_slice()].concat();
    let fewest = 1 + fewest(bytes.len() as u64) as usize;
    out.resize(out.len().max(fewest), 0);
    out
}

fn elements_coded(kind: ElementType, elements: &[u64], shape: Shape, first: u64, effort: Effort) -> Vec<u8> {
    if let Some(value) = elements.first()
        && elements.iter().all(|element| element == value)
    {
        let mut out = vec![FILL];
        put_varint(&mut out, *value);
        return out;
    }
    let mut best = vec![PLANES];
    best.extend(planes::encode(kind, elements));
    let mut offer = |candidate: Vec<u8>| {
        if candidate.len() < best.len() {
            best = candidate;
        }
    };
    if let Some(values) = codebook(kind, elements) {
        offer(with_codebook(&values, elements, shape, first, effort));
    }
    if elements.iter().filter(|element| **element == 0).count() > elements.len() / 4 {
        offer(sparse(kind, elements));
    }
    if effort == Effort::Small {
        let mut adaptive = vec![ADAPTIVE];
        adaptive.extend(adaptive::encode(kind, elements, shape, first));
        offer(adaptive);
    }
    best
}

/// The different elements in the order of what they stand for, where they are few.
fn codebook(kind: ElementType, elements: &[u64]) -> Option<Vec<u64>> {
    if kind.bits() <= 8 {
        return None;
    }
    let mut values = std::collections::BTreeSet::new();
    for element in elements {
        values.insert(*element);
        if values.len() > VALUES || values.len() * 2 > elements.len() {
            return None;
        }
    }
    let mut values: Vec<u64> = values.into_iter().collect();
    // Negative numbers are larger as bits; floats among them fall where integers rise.
    let sign = 1 << (kind.bits() - 1);
    let order = |element: u64| match kind {
        ElementType::Float { .. } if element & sign != 0 => !element & kind.mask(),
        ElementType::Float { .. } => element | sign,
        ElementType::Integer { .. } => element ^ sign,
    };
    values.sort_by_key(|element| order(*element));
    Some(values)
}

fn with_codebook(values: &[u64], elements: &[u64], shape: Shape, first: u64, effort: Effort) -> Vec<u8> {
    let places: std::collections::HashMap<u64, u64> = values.iter().copied().zip(0..).collect();
    let codes: Vec<u64> = elements
        .iter()
        .map(|element| places.get(element).copied().unwrap_or(0))
        .collect();
    let mut out = vec![CODEBOOK];
    put_varint(&mut out, values.len() as u64);
    for value in values {
        put_varint(&mut out, *value);
    }
    let inner = ElementType::Integer { bits: 8 };
    out.extend(elements_coded(inner, &codes, shape, first, effort));
    out
}

/// What is not zero, in planes, and how many zeros stand before each, 255 for as many that nothing follows.
fn sparse(kind: ElementType, elements: &[u64]) -> Vec<u8> {
    let mut gaps = Vec::new();
    let mut kept = Vec::new();
    let mut gap = 0u8;
    for element in elements {
        if *element != 0 {
            gaps.push(gap);
            kept.push(*element);
            gap = 0;
        } else if gap == 254 {
            gaps.push(255);
            gap = 0;
        } else {
            gap += 1;
        }
    }
    let mut out = vec![SPARSE];
    put_varint(&mut out, gaps.len() as u64);
    put_varint(&mut out, kept.len() as u64);
    planes::put_plane(&mut out, &gaps);
    out.extend(planes::encode(kind, &kept));
    out
}

/// `length` bytes from a block. Nothing larger than a few times that is allocated, whatever the block says.
pub(crate) fn decode(place: Place<'_>, coded: &[u8], length: usize) -> Result<Vec<u8>, Damaged> {
    let (way, rest) = coded.split_first().ok_or(Damaged("a block is empty"))?;
    let kind = place.kind.unwrap_or(ElementType::Integer { bits: 8 });
    let count = kind
        .count(length)
        .ok_or(Damaged("a block ends within an element"));
    match *way {
        RAW if rest.len() == length => Ok(rest.to_vec()),
        RAW => Err(Damaged("a block has another size than it should")),
        PLANES => {
            let mut reader = Reader(rest);
            let bytes = planes::decode_bytes(&mut reader, kind, count?)?;
            reader.end()?;
            Ok(bytes)
        }
        TEXT => text(rest, length),
        DIFFERENCE => {
            let base = place.base.filter(|base| base.len() == length);
            let base = base.ok_or(Damaged("a difference has no base"))?;
            let elements = difference::decode(&mut Reader(rest), kind, &kind.read(base))?;
            Ok(kind.write(&elements))
        }
        _ => {
            let mut reader = Reader(coded);
            let elements = elements_decoded(&mut reader, kind, count?, place.shape, place.first)?;
            reader.end()?;
            Ok(kind.write(&elements))
        }
    }
}

fn elements_decoded(
    reader: &mut Reader<'_>,
    kind: ElementType,
    count: usize,
    shape: Shape,
    first: u64,
) -> Result<Vec<u64>, Damaged> {
    match reader.byte()? {
        FILL => Ok(vec![kind.check(reader.varint()?)?; count]),
        PLANES => planes::decode(reader, kind, count),
        SPARSE => dense(reader, kind, count),
        CODEBOOK if kind.bits() > 8 => {
            let size = reader.size()?;
            if size > VALUES {
                return Err(Damaged("a codebook has more than 256 values"));
            }
            let mut values = Vec::with_capacity(size);
            for _ in 0..size {
                values.push(kind.check(reader.varint()?)?);
            }
            let inner = ElementType::Integer { bits: 8 };
            let codes = elements_decoded(reader, inner, count, shape, first)?;
            let look_up = |code: u64| values.get(code as usize).copied();
            let found: Option<Vec<u64>> = codes.into_iter().map(look_up).collect();
            found.ok_or(Damaged("a code is not in the codebook"))
        }
        ADAPTIVE => adaptive::decode(reader, kind, count, shape, first),
        _ => Err(Damaged("a block is stored in an unknown way")),
    }
}

fn dense(reader: &mut Reader<'_>, kind: ElementType, count: usize) -> Result<Vec<u64>, Damaged> {
    let wrong = Damaged("there are more elements than a block has");
    let (gaps, kept) = (reader.size()?, reader.size()?);
    if gaps > count || kept > gaps {
        return Err(wrong);
    }
    let gaps = planes::take_plane(reader, gaps)?;
    let kept = planes::decode(reader, kind, kept)?;
    let mut elements = vec![0; count];
    let mut at = 0;
    let mut kept = kept.into_iter();
    for gap in gaps.iter().copied() {
        at += usize::from(gap);
        if gap < 255 {
            let element = kept.next().ok_or(wrong)?;
            *elements.get_mut(at).ok_or(wrong)? = element;
            at += 1;
        }
    }
    if kept.next().is_some() || at > count {
        return Err(wrong);
    }
    Ok(elements)
}

fn text(coded: &[u8], length: usize) -> Result<Vec<u8>, Damaged> {
    if (coded.len() as u64) < fewest(length as u64) {
        return Err(Damaged("a text is longer than its bytes can say"));
    }
    let mut text = Text::new(length as u64);
    let mut coder = Decoder::new(coded);
    for _ in 0..length {
        text.code(&mut coder, 0);
    }
    Ok(text.history())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        }
    }

    /// Numbers around zero, mostly small.
    fn weights(count: usize, seed: u32) -> Vec<f32> {
        let mut next = noise(seed);
        let mut uniform = move || next() as f32 / 8_388_608.0 - 1.0;
        (0..count)
            .map(|_| uniform() * uniform() * uniform() * 0.3)
            .collect()
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The size in both efforts, after both came back.
    fn sizes(data_type: Option<i32>, bytes: &[u8], dims: &[u64], base: Option<&[u8]>) -> [usize; 2] {
        let place = Place {
            kind: data_type.map(ElementType::from_onnx),
            shape: Shape::of(dims),
            first: 0,
            base,
        };
        [Effort::Fast, Effort::Small].map(|effort| {
            let coded = encode(place, bytes, effort);
            assert_eq!(
                decode(place, &coded, bytes.len()).as_deref(),
                Ok(bytes),
                "{data_type:?} {effort:?}"
            );
            assert!(decode(place, &coded[..coded.len() - 1], bytes.len()).as_deref() != Ok(bytes));
            coded.len()
        })
    }

    #[test]
    fn elements_of_every_type_come_back() {
        let mut next = noise(3);
        let random: Vec<u8> = (0..4096).map(|_| next() as u8).collect();
        for data_type in 0..=30 {
            for length in [16, 512, 4096] {
                let [fast, small] = sizes(Some(data_type), &random[..length], &[8, 16, 4], None);
                assert!(fast <= length + 1 && small <= length + 1, "{data_type}");
            }
        }
        sizes(None, &random, &[], None);
    }

    #[test]
    fn what_repeats_takes_little_room() {
        let floats = weights(4096, 1);
        let bytes = bytes_of(&floats);
        let [fast, small] = sizes(Some(1), &bytes, &[64, 64], None);
        assert!(
            fast < bytes.len() * 9 / 10 && small < bytes.len() * 9 / 10,
            "{fast} {small}"
        );
        let zeros = vec![0; 16_384];
        assert_eq!(sizes(Some(1), &zeros, &[64, 64], None), [2, 2]);
        let sparse: Vec<f32> = floats
            .iter()
            .map(|value| if value.abs() < 0.05 { 0.0 } else { *value })
            .collect();
        let [fast, small] = sizes(Some(1), &bytes_of(&sparse), &[64, 64], None);
        let kept = sparse.iter().filter(|value| **value != 0.0).count();
        assert!(
            fast < kept * 4 + 1100 && small < kept * 7 / 2 + 700,
            "{fast} {small} {kept}"
        );
        let levels: Vec<f32> = floats.iter().map(|value| (value * 30.0).round() / 30.0).collect();
        let [fast, small] = sizes(Some(1), &bytes_of(&levels), &[64, 64], None);
        assert!(fast < 1800 && small < 1750, "{fast} {small}");
        let text = "a graph repeats itself; ".repeat(100);
        assert!(sizes(None, text.as_bytes(), &[], None)[1] < 100);
    }

    #[test]
    fn a_base_takes_away_what_is_known() {
        let base = weights(4096, 1);
        let tuned: Vec<f32> = base
            .iter()
            .zip(weights(4096, 2))
            .map(|(a, b)| a + b * 1e-4)
            .collect();
        let pruned: Vec<f32> = base
            .iter()
            .map(|value| if value.abs() < 0.05 { 0.0 } else { *value })
            .collect();
        let other = weights(4096, 9);
        let base = bytes_of(&base);
        let size = |values: &[f32]| sizes(Some(1), &bytes_of(values), &[64, 64], Some(&base));
        assert!(size(&tuned)[1] < 9000, "{:?}", size(&tuned));
        assert!(size(&pruned)[1] < 500, "{:?}", size(&pruned));
        assert!(size(&other)[1] < 15_000);
    }
}
