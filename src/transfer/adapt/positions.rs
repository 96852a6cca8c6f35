//! Position embeddings of another number of positions, as images that are resized.

use super::Refusal;
use crate::transfer::units::{Part, squeezed};

/// The coefficient of the cubic kernel (Keys, 1981), as image libraries and PyTorch have it.
const CUBIC: f64 = -0.75;

/// Tokens before the grid that may be there: a class token, none, or a class and a distillation token.
const PREFIXES: [u64; 3] = [1, 0, 2];

/// The embeddings `[positions, width]` of `own` for the positions of `part`. Prefix tokens stay; the others form a square grid
/// that is resized by bicubic interpolation between centres, without antialiasing. Answers the old and the new number.
pub(super) fn resize(own: &Part, part: &Part) -> Result<(Vec<f64>, u64, u64), Refusal> {
    let (from, to) = (squeezed(own.tensor.dims()), squeezed(part.tensor.dims()));
    let refusal = || Refusal::Shape {
        from: own.tensor.dims().to_vec(),
        to: part.tensor.dims().to_vec(),
    };
    let ([old, width], [new, other]) = (from.as_slice(), to.as_slice()) else {
        return Err(refusal());
    };
    let side = |count: u64| {
        let root = (count as f64).sqrt().round() as u64;
        (root > 0 && root * root == count).then_some(root as usize)
    };
    let sides = PREFIXES.iter().find_map(|prefix| {
        let of = |count: u64| side(count.checked_sub(*prefix)?);
        Some((*prefix as usize, of(*old)?, of(*new)?))
    });
    let Some((prefix, old_side, new_side)) = sides.filter(|_| width == other) else {
        return Err(refusal());
    };
    let width = *width as usize;
    let values = own.tensor.to_f64()?;
    let (kept, grid) = values.split_at((prefix * width).min(values.len()));
    let taps = taps(old_side, new_side);
    // Rows first: [new, old, width].
    let mut rows = vec![0.0; new_side * old_side * width];
    for (y, weights) in taps.iter().enumerate() {
        for (from, weight) in weights {
            for at in 0..old_side * width {
                rows[y * old_side * width + at] += weight * grid[from * old_side * width + at];
            }
        }
    }
    let mut resized = vec![0.0; new_side * new_side * width];
    for y in 0..new_side {
        for (x, weights) in taps.iter().enumerate() {
            for (from, weight) in weights {
                for at in 0..width {
                    resized[(y * new_side + x) * width + at] +=
                        weight * rows[(y * old_side + from) * width + at];
                }
            }
        }
    }
    let mut all = kept.to_vec();
    all.append(&mut resized);
    Ok((all, *old, *new))
}

/// For each new position the old ones and their weights; those beyond the edge are the edge's.
fn taps(old: usize, new: usize) -> Vec<Vec<(usize, f64)>> {
    let kernel = |distance: f64| {
        let x = distance.abs();
        if x <= 1.0 {
            ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
        } else {
            0.0
        }
    };
    (0..new)
        .map(|at| {
            let centre = (at as f64 + 0.5) * old as f64 / new as f64 - 0.5;
            let first = centre.floor();
            (-1..=2)
                .map(|step| {
                    let place = first + f64::from(step);
                    let weight = kernel(centre - place);
                    (place.clamp(0.0, old as f64 - 1.0) as usize, weight)
                })
                .collect()
        })
        .collect()
}
