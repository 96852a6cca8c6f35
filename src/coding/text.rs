//! Bytes of graphs: each bit is predicted from the bytes before it, in contexts of up to six bytes, from the letters before it, and from where
//! the last bytes stood before. The predictions are mixed.
//!
//! Graphs repeat themselves: names of nodes return as names of their values, and layers as other layers but for some digits.

use super::binary::{Coder, Known};
use super::probability::{Curves, Mixer, Slot};

/// Contexts of bytes before: their lengths.
const ORDERS: [usize; 6] = [0, 1, 2, 3, 4, 6];
/// All contexts: those, the letters before, and what is expected.
const CONTEXTS: usize = ORDERS.len() + 2;
/// What is mixed: one prediction for each context, two of the match, one constant.
const INPUTS: usize = CONTEXTS + 3;
/// Bytes that have to be equal for a match.
const SHORTEST_MATCH: usize = 5;
/// Bytes that are compared for one.
const LONGEST_MATCH: usize = 32;
/// Decisions that a slot counts to.
const LIMIT: u32 = 127;

/// The fewest coded bytes of a text of this length: a writer fills up with zeros, and a reader believes no more, so that few bytes do not
/// ask for much work.
pub(crate) fn fewest(length: u64) -> u64 {
    length.saturating_sub(1 << 16).div_ceil(256)
}

/// The model of a text, and the text.
#[derive(Debug)]
pub(crate) struct Text {
    history: Vec<u8>,
    /// The last eight bytes, the last one lowest.
    window: u64,
    /// A hash of the bytes that are no digits, to the last byte that is none.
    letters: u32,
    /// Slots in groups of sixteen, one for half a byte in a context.
    slots: Vec<Slot>,
    /// Bits of a number of a group.
    bits: u32,
    /// Where five bytes stood last, by their hash: the place behind them.
    places: Vec<u32>,
    /// The place of the byte that is expected, 0 for none; how many bytes were as expected; and which of the last eight were not.
    matched: usize,
    length: usize,
    misses: u8,
    matches: Vec<Slot>,
    mixer: Mixer<INPUTS>,
    curves: Curves,
}

/// Mixes a context and its number into a hash of 32 bits.
fn hash(context: u64, salt: u32) -> u32 {
    let mixed = (context ^ (u64::from(salt) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32 ^ (mixed >> 15) as u32
}

impl Text {
    /// A model that has seen nothing, for a text of `length` bytes: its tables grow with that, up to 32 MiB.
    pub(crate) fn new(length: u64) -> Self {
        // Sixteen slots for each of two halves in each context.
        let bits = (u64::BITS - length.leading_zeros() + 2).clamp(10, 19);
        Self {
            history: Vec::new(),
            window: 0,
            letters: 0,
            slots: vec![Slot::default(); 16 << bits],
            bits,
            places: vec![0; 1 << bits.min(18)],
            matched: 0,
            length: 0,
            misses: 0,
            matches: vec![Slot::default(); 256],
            mixer: Mixer::new(256 * 4, 1 << 14, 12),
            curves: Curves::get(),
        }
    }

    /// Learns from a text that both sides know, as if it stood before.
    pub(crate) fn learn(&mut self, known: &[u8]) {
        for byte in known {
            self.code(&mut Known, *byte);
        }
    }

    /// The text so far.
    pub(crate) fn history(self) -> Vec<u8> {
        self.history
    }

    /// Codes the next byte.
    pub(crate) fn code(&mut self, coder: &mut impl Coder, byte: u8) -> u8 {
        let expected = self
            .history
            .get(self.matched)
            .copied()
            .filter(|_| self.matched > 0);
        let contexts = self.contexts(expected);
        let mut so_far = 1usize;
        for half in 0..2 {
            let mut groups = [0; CONTEXTS];
            let salt = if half == 0 { 0 } else { so_far as u32 };
            for (at, group) in groups.iter_mut().enumerate() {
                *group = (hash(contexts[at], (at as u32) << 5 | salt) >> (32 - self.bits)) as usize * 16;
            }
            let mut node = 1;
            for at in (0..4).rev().map(|at| at + 4 * (1 - half)) {
                // A match that was wrong in this byte expects nothing any more.
                let expected = expected.filter(|byte| (usize::from(*byte) | 256) >> (at + 1) == so_far);
                let expected = expected.map(|byte| byte >> at & 1 == 1);
                let bit = self.bit(coder, byte >> at & 1 == 1, &groups, node, so_far, expected);
                so_far = so_far << 1 | usize::from(bit);
                node = node << 1 | usize::from(bit);
            }
        }
        self.push(so_far as u8);
        so_far as u8
    }

    fn contexts(&self, expected: Option<u8>) -> [u64; CONTEXTS] {
        let mut contexts = [0; CONTEXTS];
        for (context, order) in contexts.iter_mut().zip(ORDERS) {
            *context = self.window & ((1 << (8 * order)) - 1);
        }
        contexts[CONTEXTS - 2] = u64::from(self.letters) << 8 | self.window & 0xff;
        contexts[CONTEXTS - 1] = expected.map_or(0, |byte| 1 << 40 | u64::from(byte) << 16)
            | (self.length.min(15) as u64) << 24
            | self.window & 0xff;
        contexts
    }

    fn bit(
        &mut self,
        coder: &mut impl Coder,
        bit: bool,
        groups: &[usize; CONTEXTS],
        node: usize,
        so_far: usize,
        expected: Option<bool>,
    ) -> bool {
        let curves = self.curves;
        let mut logits = [0; INPUTS];
        for (logit, group) in logits.iter_mut().zip(groups) {
            *logit = curves.stretch(self.slots[group + node]);
        }
        let misses = self.misses.count_ones().min(3) as usize;
        let long = (usize::BITS - self.length.leading_zeros()).min(15) as usize;
        let place = expected.map(|bit| (misses * 16 + long) * 2 + usize::from(bit));
        if let Some(place) = place {
            let logit = curves.stretch(self.matches[place]);
            logits[INPUTS - 3] = logit;
            logits[INPUTS - 2] = if self.length > 15 { logit } else { 0 };
        }
        logits[INPUTS - 1] = 256;
        let trust = match (expected, self.length) {
            (None, _) => 0,
            (Some(_), 0) => 1,
            (Some(_), 1..=15) => 2,
            _ => 3,
        };
        let set = trust * 256 + so_far;
        let mixed = self.mixer.mix(set, &logits, curves);
        let bit = coder.code(bit, mixed);
        self.mixer.update(set, &logits, bit, mixed);
        for group in groups {
            self.slots[group + node].update(bit, LIMIT, curves);
        }
        if let Some(place) = place {
            self.matches[place].update(bit, 1023, curves);
        }
        bit
    }

    /// Adds a byte to the text, and looks for what matches its end.
    pub(crate) fn push(&mut self, byte: u8) {
        self.window = self.window << 8 | u64::from(byte);
        if !byte.is_ascii_digit() {
            self.letters = self
                .letters
                .wrapping_mul(0x2f0b_4c47)
                .wrapping_add(u32::from(byte) + 1)
                << 1;
        }
        if self.matched > 0 {
            let hit = self.history[self.matched] == byte;
            self.misses = self.misses << 1 | u8::from(!hit);
            self.length = if hit { self.length + 1 } else { 0 };
            self.matched += 1;
        }
        self.history.push(byte);
        let end = self.history.len();
        if end < SHORTEST_MATCH {
            return;
        }
        let key = self.window & ((1 << (8 * SHORTEST_MATCH)) - 1);
        let place = (hash(key, 255) >> 14) as usize & (self.places.len() - 1);
        if self.misses.count_ones() > 7 {
            self.matched = 0;
            self.length = 0;
            self.misses = 0;
        }
        if self.length < LONGEST_MATCH / 2 {
            let candidate = self.places[place] as usize;
            let (before, now) = (&self.history[..candidate], &self.history[..end]);
            let length = before
                .iter()
                .rev()
                .zip(now.iter().rev())
                .take(LONGEST_MATCH)
                .take_while(|(a, b)| a == b)
                .count();
            if length > self.length && length >= SHORTEST_MATCH {
                self.matched = candidate;
                self.length = length;
                self.misses = 0;
            }
        }
        self.places[place] = end as u32;
    }
}
