//! Bits that no probability is worth.

use super::Damaged;

/// Bits that are stored as they are, the lowest first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    out: Vec<u8>,
    held: u128,
    count: u32,
}

impl BitWriter {
    #[inline]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.held |= u128::from(value) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
        self.out
    }
}

/// Reads them.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    rest: &'a [u8],
    held: u128,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            held: 0,
            count: 0,
        }
    }

    /// Whether nothing but the zeros that fill the last byte is left.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty() && self.count < 8 && self.held == 0
    }

    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, Damaged> {
        while self.count < bits {
            if let Some((eight, rest)) = self.rest.split_first_chunk::<8>() {
                self.held |= u128::from(u64::from_le_bytes(*eight)) << self.count;
                self.count += 64;
                self.rest = rest;
            } else {
                let (first, rest) = self
                    .rest
                    .split_first()
                    .ok_or(Damaged("the bytes end too early"))?;
                self.held |= u128::from(*first) << self.count;
                self.count += 8;
                self.rest = rest;
            }
        }
        let value = self.held as u64 & (u64::MAX.checked_shr(64 - bits).unwrap_or(0));
        self.held >>= bits;
        self.count -= bits;
        Ok(value)
    }
}
