//! What is known of an element before it is coded: how large its neighbours are.

use super::elements::Shape;

/// Predictions that are mixed for a decision on an element's size, without the constant.
pub(crate) const CONTEXTS: usize = 3;
/// Columns whose average is kept.
const COLUMNS: u64 = 1 << 16;
/// Elements that are remembered.
const REMEMBERED: u64 = 1 << 16;

/// The sizes of the elements so far, each a level: 0 for zero, then 1 to 15 from small to large.
#[derive(Debug)]
pub(crate) struct Neighbours {
    shape: Shape,
    /// Place in the row.
    column: u64,
    /// Elements so far.
    seen: u64,
    levels: Vec<u8>,
    signs: Vec<u8>,
    /// Averages of levels in 256ths: slow and quick ones of what came last, one for each column.
    slow: u32,
    quick: u32,
    columns: Vec<u16>,
}

impl Neighbours {
    /// Before element `first` of a tensor.
    pub(crate) fn new(shape: Shape, first: u64) -> Self {
        // A row that is too long for its columns to come back is taken for one of kernels.
        let row = if shape.row <= COLUMNS {
            shape.row
        } else {
            shape.kernel
        };
        let shape = Shape {
            row: row.clamp(1, COLUMNS),
            kernel: shape.kernel.clamp(1, COLUMNS),
        };
        Self {
            shape,
            column: first % shape.row,
            seen: 0,
            levels: vec![0; REMEMBERED as usize],
            signs: vec![0; REMEMBERED as usize],
            slow: 0,
            quick: 0,
            columns: vec![0; shape.row as usize],
        }
    }

    fn level(&self, back: u64) -> u32 {
        let at = self.seen.wrapping_sub(back) & (REMEMBERED - 1);
        u32::from(self.levels[at as usize])
    }

    fn sign(&self, back: u64) -> u32 {
        let at = self.seen.wrapping_sub(back) & (REMEMBERED - 1);
        u32::from(self.signs[at as usize])
    }

    /// The contexts, each below 1024.
    pub(crate) fn contexts(&self) -> [usize; CONTEXTS] {
        let one = self.level(1);
        let above = self.level(self.shape.row);
        let kernel = self.level(self.shape.kernel);
        let column = u32::from(self.columns[self.column as usize]);
        [
            (self.slow >> 6) * 16 + one,
            (column >> 6) * 16 + (self.quick >> 8),
            above * 16 + kernel,
        ]
        .map(|context| context as usize & 1023)
    }

    /// What is known of the sign: below 27.
    pub(crate) fn signs(&self) -> usize {
        (self.sign(1) * 9 + self.sign(self.shape.kernel) * 3 + self.sign(self.shape.row)) as usize
    }

    /// Whether the elements so far were mostly zero: below 4.
    pub(crate) fn density(&self) -> usize {
        (usize::from(self.level(1) > 0)) * 2 + usize::from(self.level(self.shape.row) > 0)
    }

    /// Takes the next element in: its level, and 0 for no sign, 1 for plus, 2 for minus.
    pub(crate) fn push(&mut self, level: u8, sign: u8) {
        let at = (self.seen & (REMEMBERED - 1)) as usize;
        self.levels[at] = level;
        self.signs[at] = sign;
        self.seen += 1;
        let target = u32::from(level) << 8;
        self.slow = self.slow + (target >> 5) - (self.slow >> 5);
        self.quick = self.quick + (target >> 2) - (self.quick >> 2);
        let column = &mut self.columns[self.column as usize];
        *column = *column + (target >> 2) as u16 - (*column >> 2);
        self.column += 1;
        if self.column == self.shape.row {
            self.column = 0;
        }
    }
}
