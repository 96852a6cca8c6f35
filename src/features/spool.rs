//! Features and labels in a temporary file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use ndarray::{Array2, ArrayView2};

/// Rows of `f64` that are read at a time, in elements.
const BLOCK: usize = 1 << 19;

/// A matrix of features `[N, D]` on disk, in `f64`. The file has no name and goes with the value.
#[derive(Debug)]
pub struct Spool {
    file: File,
    rows: usize,
    width: usize,
}

/// Rows on their way to a [`Spool`].
#[derive(Debug)]
pub struct Filling {
    writer: BufWriter<File>,
    rows: usize,
    width: Option<usize>,
}

impl Filling {
    /// Nothing yet.
    ///
    /// # Errors
    /// When there is no temporary file to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            writer: BufWriter::with_capacity(1 << 20, tempfile::tempfile()?),
            rows: 0,
            width: None,
        })
    }

    /// Adds rows; all have the width of the first.
    ///
    /// # Errors
    /// When the file cannot be written or the width differs.
    pub fn push(&mut self, rows: ArrayView2<'_, f32>) -> io::Result<()> {
        let width = *self.width.get_or_insert(rows.ncols());
        if rows.ncols() != width {
            return Err(io::Error::other(format!(
                "a row of {} among rows of {width}",
                rows.ncols()
            )));
        }
        let doubles: Vec<f64> = rows.iter().map(|value| f64::from(*value)).collect();
        self.writer.write_all(bytemuck::cast_slice(&doubles))?;
        self.rows += rows.nrows();
        Ok(())
    }

    /// The matrix.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<Spool> {
        Ok(Spool {
            file: self.writer.into_inner().map_err(io::IntoInnerError::into_error)?,
            rows: self.rows,
            width: self.width.unwrap_or(0),
        })
    }
}

impl Spool {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Reads all rows in blocks, in order; `visit` gets the index of the first row of a block.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn for_each(&mut self, mut visit: impl FnMut(usize, ArrayView2<'_, f64>)) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let most = (BLOCK / self.width.max(1)).max(1);
        let mut first = 0;
        let mut buffer = Array2::<f64>::zeros((0, self.width));
        while first < self.rows {
            let count = most.min(self.rows - first);
            if buffer.nrows() != count {
                buffer = Array2::zeros((count, self.width));
            }
            if let Some(slice) = buffer.as_slice_mut() {
                self.file.read_exact(bytemuck::cast_slice_mut(slice))?;
            }
            visit(first, buffer.view());
            first += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn rows_come_back_in_order_whatever_the_blocks() {
        let all = Array2::from_shape_fn((2000, 300), |(row, column)| (row * 300 + column) as f32);
        let mut filling = Filling::new().unwrap();
        for (from, to) in [(0, 1), (1, 700), (700, 2000)] {
            filling.push(all.slice(s![from..to, ..])).unwrap();
        }
        let mut spool = filling.finish().unwrap();
        assert_eq!((spool.rows(), spool.width()), (2000, 300));
        for _ in 0..2 {
            let mut seen = 0;
            spool
                .for_each(|first, block| {
                    assert_eq!(first, seen);
                    for (row, expected) in block.outer_iter().zip(all.slice(s![first.., ..]).outer_iter()) {
                        assert!(row.iter().zip(expected).all(|(a, b)| *a == f64::from(*b)));
                    }
                    seen += block.nrows();
                })
                .unwrap();
            assert_eq!(seen, 2000);
        }
        assert!(Filling::new().unwrap().finish().is_ok());
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let mut filling = Filling::new().unwrap();
        filling.push(Array2::zeros((1, 3)).view()).unwrap();
        assert!(filling.push(Array2::zeros((1, 4)).view()).is_err());
    }
}
