//! Whole models: from a source to the IR and from the IR to a target.

use super::decode::{Decoded, Origin, Source, read_proto};
use super::error::FormatError;
use super::external::ExternalFiles;
use super::lift::lift_noting;
use super::limits::{ReadOptions, Warning};
use super::save::{Saved, WriteOptions, WriteTarget, write_proto};
use super::to_proto::model_to_proto;
use crate::ir::Model;

/// A model as the IR has it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Where it came from, for writing it back.
    pub origin: Origin,
    /// What is unusual about the file.
    pub warnings: Vec<Warning>,
}

/// Reads a model into the IR; its tensors are slices of the mapped files.
pub fn read(source: impl Into<Source>, options: &ReadOptions) -> Result<Loaded, FormatError> {
    let Decoded {
        model,
        origin,
        mut warnings,
    } = read_proto(source, options)?;
    let model = lift_noting(model, &origin.external, &mut warnings)?;
    options.admit(&warnings)?;
    Ok(Loaded {
        model,
        origin,
        warnings,
    })
}

/// Writes a model of the IR that something has changed; an unchanged one is for [`super::write_unchanged`].
pub fn write(
    model: &Model,
    origin: Option<&Origin>,
    target: WriteTarget<'_>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    let none = ExternalFiles::default();
    let message = model_to_proto(model, origin.map_or(&none, |origin| &origin.external))?;
    write_proto(message, origin, target, options)
}
