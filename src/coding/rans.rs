//! Bytes with fixed frequencies: range asymmetric numeral systems, eight states in turn.
//!
//! A state of 32 bits takes a symbol in by `x -> x / f * 4096 + start + x % f`, after words of 16 bits were moved out so that it stays below
//! 2^32. Symbol `i` belongs to state `i % 8`; the decoder reads the words in the order in which it needs them.

use super::Damaged;
use super::bytes::{Reader, put_varint};

/// Bits of the sum of all frequencies.
const SCALE: u32 = 12;
const TOTAL: u32 = 1 << SCALE;
const LANES: usize = 8;
/// The smallest state between symbols.
const LOWEST: u32 = 1 << 16;

/// Frequencies that add up to [`TOTAL`], at least 1 for each byte that occurs; `None` for less than two different bytes.
fn frequencies(bytes: &[u8]) -> Option<[u32; 256]> {
    let mut counts = [0u64; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return None;
    }
    let total = bytes.len() as u64;
    let mut scaled = [0u32; 256];
    for (scaled, count) in scaled.iter_mut().zip(counts) {
        if count > 0 {
            *scaled = ((count * u64::from(TOTAL) + total / 2) / total).max(1) as u32;
        }
    }
    let mut sum: u32 = scaled.iter().sum();
    // What is too much goes from where it costs least for each symbol: the largest frequency, the first of equals.
    while sum != TOTAL {
        let most = (0..256).rev().max_by_key(|symbol| scaled[*symbol]).unwrap_or(0);
        let step = if sum > TOTAL {
            (sum - TOTAL).min(scaled[most] / 8).max(1)
        } else {
            TOTAL - sum
        };
        if sum > TOTAL {
            scaled[most] -= step;
            sum -= step;
        } else {
            scaled[most] += step;
            sum += step;
        }
    }
    Some(scaled)
}

/// The bytes coded; `None` where that takes as many or more, or all are the same.
pub(crate) fn encode(bytes: &[u8]) -> Option<Vec<u8>> {
    let frequencies = frequencies(bytes)?;
    let mut starts = [0u32; 256];
    let mut sum = 0;
    for (start, frequency) in starts.iter_mut().zip(frequencies) {
        *start = sum;
        sum += frequency;
    }
    let mut out = Vec::with_capacity(bytes.len() / 2);
    put_frequencies(&mut out, &frequencies);
    let mut states = [LOWEST; LANES];
    let mut words: Vec<u16> = Vec::with_capacity(bytes.len() / 2);
    for (at, byte) in bytes.iter().enumerate().rev() {
        let symbol = usize::from(*byte);
        let (frequency, start) = (frequencies[symbol], starts[symbol]);
        let state = &mut states[at % LANES];
        if u64::from(*state) >= u64::from(frequency) << (32 - SCALE) {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << SCALE) + start + *state % frequency;
    }
    for state in states {
        out.extend(state.to_le_bytes());
    }
    out.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    (out.len() < bytes.len()).then_some(out)
}

/// Frequencies in the order of the bytes; behind a zero stands how many more follow.
fn put_frequencies(out: &mut Vec<u8>, frequencies: &[u32; 256]) {
    let mut at = 0;
    while at < 256 {
        put_varint(out, u64::from(frequencies[at]));
        if frequencies[at] == 0 {
            let zeros = frequencies[at..]
                .iter()
                .take_while(|frequency| **frequency == 0)
                .count();
            put_varint(out, zeros as u64 - 1);
            at += zeros;
        } else {
            at += 1;
        }
    }
}

fn take_frequencies(reader: &mut Reader<'_>) -> Result<[u32; 256], Damaged> {
    let wrong = Damaged("frequencies do not add up");
    let mut frequencies = [0u32; 256];
    let (mut at, mut sum) = (0usize, 0u32);
    while at < 256 {
        let frequency = u32::try_from(reader.varint()?).map_err(|_| wrong)?;
        if frequency == 0 {
            at = at.saturating_add(1).saturating_add(reader.size()?);
            continue;
        }
        sum = sum.saturating_add(frequency);
        frequencies[at] = frequency;
        at += 1;
    }
    if at != 256 || sum != TOTAL {
        return Err(wrong);
    }
    Ok(frequencies)
}

/// `count` bytes from what [`encode`] gave.
pub(crate) fn decode(coded: &[u8], count: usize) -> Result<Vec<u8>, Damaged> {
    let mut reader = Reader(coded);
    let frequencies = take_frequencies(&mut reader)?;
    // For each of the lowest 12 bits of a state: the symbol, its frequency, and how far into it they lie.
    let mut table = vec![0u32; TOTAL as usize];
    let mut start = 0;
    for (symbol, frequency) in (0u32..).zip(frequencies) {
        for inside in 0..frequency {
            table[(start + inside) as usize] = symbol << 24 | inside << 12 | (frequency & 4095);
        }
        start += frequency;
    }
    let mut states = [0u32; LANES];
    for state in &mut states {
        let (bytes, _) = reader.take(4)?.as_chunks::<4>();
        *state = bytes.first().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    }
    let (words, odd) = reader.0.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Damaged("half a word is left over"));
    }
    let mut out = vec![0u8; count];
    let mut next = 0;
    for group in out.chunks_mut(LANES) {
        for (byte, state) in group.iter_mut().zip(&mut states) {
            let entry = table[(*state & (TOTAL - 1)) as usize];
            *byte = (entry >> 24) as u8;
            *state = (entry & 4095)
                .wrapping_mul(*state >> SCALE)
                .wrapping_add(entry >> 12 & 4095);
            if *state < LOWEST {
                let word = words.get(next).ok_or(Damaged("the bytes end too early"))?;
                *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
                next += 1;
            }
        }
    }
    if next != words.len() || states.iter().any(|state| *state != LOWEST) {
        return Err(Damaged("the states do not end as they began"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_distribution_come_back_smaller() {
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let skewed: Vec<u8> = (0..40_001).map(|_| next() & next() & next()).collect();
        let nearly: Vec<u8> = (0..100_000).map(|at| u8::from(at % 9973 == 5) * 200).collect();
        let all: Vec<u8> = (0..30_000)
            .map(|at: u32| if at.is_multiple_of(3) { at as u8 } else { 7 })
            .collect();
        for (bytes, most) in [(skewed, 26_500), (nearly, 200), (all, 15_500)] {
            let coded = encode(&bytes).unwrap();
            assert!(coded.len() < most, "{}", coded.len());
            assert_eq!(decode(&coded, bytes.len()).as_ref(), Ok(&bytes));
            assert!(decode(&coded, bytes.len() + 1).is_err());
            for cut in [0, 5, coded.len() / 2, coded.len() - 1] {
                assert!(decode(&coded[..cut], bytes.len()).is_err());
            }
        }
        assert!(encode(&[7; 1000]).is_none());
        assert!(encode(&[1, 2, 3]).is_none());
    }
}
