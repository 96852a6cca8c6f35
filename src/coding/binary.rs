//! A binary arithmetic coder: decisions with probabilities become the digits of one number.
//!
//! The interval `[low, high]` of 32 bits is cut in proportion to the probability (16 bits) of a 1; leading bytes on which both ends agree
//! are written. A decoder reads zeros behind the end, so that trailing zeros are not stored.

/// Writes decisions.
#[derive(Debug)]
pub(crate) struct Encoder {
    low: u32,
    high: u32,
    out: Vec<u8>,
}

/// Reads decisions.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    low: u32,
    high: u32,
    code: u32,
    rest: &'a [u8],
}

/// What codes decisions: an encoder writes the bit it is given, a decoder answers the one it reads. One model serves both ways.
pub(crate) trait Coder {
    /// Codes a bit that is 1 with `probability / 65536`, between 1 and 65535.
    fn code(&mut self, bit: bool, probability: u32) -> bool;
}

/// Codes nothing: what a model learns from bits that both sides know.
#[derive(Debug)]
pub(crate) struct Known;

impl Coder for Known {
    fn code(&mut self, bit: bool, _: u32) -> bool {
        bit
    }
}

/// Where the interval is cut: from `low` to here lies the 1.
#[inline]
fn cut(low: u32, high: u32, probability: u32) -> u32 {
    low + ((u64::from(high - low) * u64::from(probability)) >> 16) as u32
}

impl Encoder {
    /// An encoder that has written nothing.
    pub(crate) fn new() -> Self {
        Self {
            low: 0,
            high: u32::MAX,
            out: Vec::new(),
        }
    }

    /// The bytes, without zeros at their end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.low > 0 {
            // Both ends differ in their first byte, so this lies between them whatever follows.
            self.out.push((self.low >> 24) as u8 + 1);
        }
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
        self.out
    }
}

impl Coder for Encoder {
    #[inline]
    fn code(&mut self, bit: bool, probability: u32) -> bool {
        let middle = cut(self.low, self.high, probability);
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.out.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
        }
        bit
    }
}

impl<'a> Decoder<'a> {
    /// A decoder of what [`Encoder::finish`] gave.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self {
            low: 0,
            high: u32::MAX,
            code: 0,
            rest: bytes,
        };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    #[inline]
    fn shift(&mut self) {
        let byte = match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        };
        self.code = self.code << 8 | u32::from(byte);
    }

    /// Whether all bytes have been read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Coder for Decoder<'_> {
    #[inline]
    fn code(&mut self, _: bool, probability: u32) -> bool {
        let middle = cut(self.low, self.high, probability);
        let bit = self.code <= middle;
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
            self.shift();
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_come_back_at_any_probability() {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let decisions: Vec<(bool, u32)> = (0..5000)
            .map(|at| {
                let probability = match at % 5 {
                    0 => 1,
                    1 => 65535,
                    _ => next() % 65535 + 1,
                };
                (next() % 65536 < probability, probability)
            })
            .collect();
        for length in [0, 1, 7, 100, 5000] {
            let mut encoder = Encoder::new();
            for (bit, probability) in decisions.iter().take(length) {
                encoder.code(*bit, *probability);
            }
            let bytes = encoder.finish();
            assert_ne!(bytes.last(), Some(&0));
            let mut decoder = Decoder::new(&bytes);
            for (at, (bit, probability)) in decisions.iter().take(length).enumerate() {
                assert_eq!(decoder.code(false, *probability), *bit, "{at} of {length}");
            }
            assert!(decoder.is_done(), "{length}");
        }
    }

    #[test]
    fn certain_decisions_take_no_room() {
        let mut encoder = Encoder::new();
        for _ in 0..10_000 {
            encoder.code(true, 65535);
        }
        assert!(encoder.finish().len() < 4);
    }
}
