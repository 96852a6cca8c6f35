//! Passes that change the form of a model and not what it is for: its inputs, their sizes and defaults, which part of it there is, names, the
//! opset, the precision of floats, what is done to images before it and to answers behind it.

pub(super) mod align;
mod bake;
mod bind;
mod bind_defaults;
mod clean_names;
mod convert_float;
mod convert_opset;
mod drop_outputs;
pub(super) mod extract;
mod rename;

pub use align::align as align_models;
pub use bake::{Bake, Classes as BakedClasses};
pub use bind::{Bind, Size};
pub use bind_defaults::{BindDefaults, overridable};
pub use clean_names::{CleanNames, NamePart};
pub use convert_float::{ConvertFloat, Half};
pub use convert_opset::ConvertOpset;
pub use drop_outputs::DropOutputs;
pub use extract::Extract;
pub use rename::Rename;
