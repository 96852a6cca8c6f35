//! Passes that change the form of a model and not what it is for: its inputs, their sizes and defaults, which part of it there is, the
//! opset, the precision of floats, what is done to images before it and to answers behind it.

pub(super) mod align;
mod bake;
mod bind;
mod bind_defaults;
mod convert_float;
mod convert_opset;
pub(super) mod extract;

pub use align::align as align_models;
pub use bake::{Bake, Classes as BakedClasses};
pub use bind::{Bind, Size};
pub use bind_defaults::{BindDefaults, overridable};
pub use convert_float::{ConvertFloat, Half};
pub use convert_opset::ConvertOpset;
pub use extract::Extract;
