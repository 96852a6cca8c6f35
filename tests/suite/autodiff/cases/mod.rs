//! Random cases for each operator, one file a group of families.

mod layers;
mod layout;
mod matrices;
mod picking;
mod pointwise;
mod windows;

use super::check::{Case, count};
use super::random::Random;

pub(super) use layers::{NORMALISATION, WRITTEN_OUT};
pub(super) use layout::SHAPES;
pub(super) use matrices::MATRICES;
pub(super) use picking::{PICKING, REDUCTIONS};
pub(super) use pointwise::{ACTIVATIONS, ARITHMETIC, ELEMENTWISE};
pub(super) use windows::{CONVOLUTION, POOLING, RESIZING};

/// Makes a random case.
pub(super) type Generator = fn(&Random) -> Case;
