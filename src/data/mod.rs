//! Labelled and unlabelled samples: npz and npy arrays, arrays that a program hands over, image folders, ONNX test sets, seeded
//! synthetic data.
//!
//! A [`Spec`] describes data, in a pipeline or in a file of its own. [`Dataset::open`] fits it to a model's inputs and then
//! answers batches by index, from any thread: nothing is held but the batches asked for. Batches are formed by global sample
//! index, and a shard is a contiguous range of whole batches, so shards of one data set never split or repeat one.

mod annotations;
mod array;
mod augment;
mod boxes;
mod columns;
mod dataset;
mod description;
mod error;
mod files;
mod foreign;
mod images;
mod jpeg;
mod memory;
mod npz;
mod opening;
mod page;
mod preprocess;
mod signature;
mod spec;
mod synthetic;
mod targets;
mod task;
mod tasks;
mod test_sets;
mod truth;
mod weights;

pub use crate::engine::stream::Batch;
pub use augment::Augment;
pub use boxes::{
    Activation, Background, BoxCode, Boxes, BoxesError, BoxesSpec, ClassesOf, Combine, Numbers, Outputs,
    Part, Units,
};
pub use dataset::Dataset;
pub use error::DataError;
pub use files::SpecFile;
pub use memory::Arrays;
pub(crate) use memory::STREAM;
pub use npz::{NpzStream, npz_bytes, write_npz};
pub use page::page;
pub use preprocess::{
    Color, Extent, InputSize, Interpolation, Layout, Letterbox, Place, Preprocess, PreprocessError,
    PreprocessSpec, Preset, Resize,
};
pub use signature::{IMAGE, InputSignature, Signature, takes_images};
pub use spec::{ImageSpec, Shard, SourceSpec, Spec, SyntheticSpec};
pub use targets::targets;
pub use task::{REFERENCE, Reading, TaskSetting};
pub use tasks::{EmbeddingOptions, Pair, Pool, SegmentationOptions, TextOptions, TokensOptions};
pub use test_sets::{TestSet, folders as test_set_folders, read as read_test_set};
pub use truth::{Categories, Frame, Mask, TaskKind, TrueBox, Truth};
pub use weights::read_weights;
