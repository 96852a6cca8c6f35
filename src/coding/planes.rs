//! Elements as planes of bytes, each plane with fixed frequencies, so that exponents, which repeat, are apart from fractions, which do not.
//!
//! Elements are turned left by one bit first where they are floats: the sign goes to the end, and the exponent fills the highest plane.

use std::borrow::Cow;

use super::Damaged;
use super::bytes::{Reader, put_varint};
use super::elements::ElementType;
use super::rans;

/// How a plane is stored.
const RAW: u8 = 0;
const SAME: u8 = 1;
const CODED: u8 = 2;

/// Planes of an element.
fn planes(kind: ElementType) -> u32 {
    kind.bits().div_ceil(8)
}

fn turned(kind: ElementType, element: u64) -> u64 {
    match kind {
        ElementType::Float { .. } => (element << 1 | element >> (kind.bits() - 1)) & kind.mask(),
        ElementType::Integer { .. } => element,
    }
}

fn turned_back(kind: ElementType, element: u64) -> u64 {
    match kind {
        ElementType::Float { .. } => (element >> 1 | element << (kind.bits() - 1)) & kind.mask(),
        ElementType::Integer { .. } => element,
    }
}

/// The elements plane by plane, the lowest first.
pub(crate) fn encode(kind: ElementType, elements: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for plane in 0..planes(kind) {
        let bytes: Vec<u8> = elements
            .iter()
            .map(|element| (turned(kind, *element) >> (8 * plane)) as u8)
            .collect();
        put_plane(&mut out, &bytes);
    }
    out
}

/// A run of bytes in the shortest way.
pub(crate) fn put_plane(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.first() {
        Some(first) if bytes.iter().all(|byte| byte == first) => out.extend([SAME, *first]),
        _ => match rans::encode(bytes) {
            Some(coded) => {
                out.push(CODED);
                put_varint(out, coded.len() as u64);
                out.extend(coded);
            }
            None => {
                out.push(RAW);
                out.extend(bytes);
            }
        },
    }
}

/// `count` bytes of a run.
pub(crate) fn take_plane<'a>(reader: &mut Reader<'a>, count: usize) -> Result<Cow<'a, [u8]>, Damaged> {
    match reader.byte()? {
        RAW => reader.take(count).map(Cow::Borrowed),
        SAME => Ok(Cow::Owned(vec![reader.byte()?; count])),
        CODED => {
            let length = reader.size()?;
            rans::decode(reader.take(length)?, count).map(Cow::Owned)
        }
        _ => Err(Damaged("a plane is stored in an unknown way")),
    }
}

/// `count` elements from what [`encode`] gave.
pub(crate) fn decode(reader: &mut Reader<'_>, kind: ElementType, count: usize) -> Result<Vec<u64>, Damaged> {
    let mut elements = vec![0u64; count];
    for plane in 0..planes(kind) {
        let bytes = take_plane(reader, count)?;
        for (element, byte) in elements.iter_mut().zip(bytes.iter()) {
            *element |= u64::from(*byte) << (8 * plane);
        }
    }
    for element in &mut elements {
        *element = turned_back(kind, kind.check(*element)?);
    }
    Ok(elements)
}

/// The bytes of `count` elements from what [`encode`] gave, without numbers in between where the type is common.
pub(crate) fn decode_bytes(
    reader: &mut Reader<'_>,
    kind: ElementType,
    count: usize,
) -> Result<Vec<u8>, Damaged> {
    let turn = u32::from(matches!(kind, ElementType::Float { .. }));
    match kind.bits() {
        8 if turn == 0 => take_plane(reader, count).map(Cow::into_owned),
        16 => {
            let (low, high) = (take_plane(reader, count)?, take_plane(reader, count)?);
            let mut bytes = vec![0; count * 2];
            let (chunks, _) = bytes.as_chunks_mut::<2>();
            for ((chunk, low), high) in chunks.iter_mut().zip(low.iter()).zip(high.iter()) {
                *chunk = u16::from_le_bytes([*low, *high]).rotate_right(turn).to_le_bytes();
            }
            Ok(bytes)
        }
        32 => {
            let (a, b) = (take_plane(reader, count)?, take_plane(reader, count)?);
            let (c, d) = (take_plane(reader, count)?, take_plane(reader, count)?);
            let mut bytes = vec![0; count * 4];
            let (chunks, _) = bytes.as_chunks_mut::<4>();
            let planes = a.iter().zip(b.iter()).zip(c.iter()).zip(d.iter());
            for (chunk, (((a, b), c), d)) in chunks.iter_mut().zip(planes) {
                *chunk = u32::from_le_bytes([*a, *b, *c, *d])
                    .rotate_right(turn)
                    .to_le_bytes();
            }
            Ok(bytes)
        }
        _ => Ok(kind.write(&decode(reader, kind, count)?)),
    }
}
