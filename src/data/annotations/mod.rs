//! What is true of images, from the files in which people keep it.

mod coco;

use std::path::PathBuf;

pub(super) use coco::Coco;

use super::truth::{Categories, Truth};

/// An image file and its size in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// What is true of images, one entry each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Annotations {
    pub(super) truths: Vec<Truth>,
    pub(super) categories: Categories,
}
