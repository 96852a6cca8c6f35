//! A class a pixel: intersections over unions from the confusion of each image.
//!
//! May use what tasks have in common and the data's masks; knows no other task.

mod grid;
mod pixels;
mod state;

pub use state::Segmentation;
