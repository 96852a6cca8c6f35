//! Containers: a model with its external data in few bytes, each of its tensors by itself.
//!
//! `docs/container.md` is the specification. `segments` finds the tensors of a model, `write` codes them and `read` gives the same bytes
//! back; `index` is what a container says of itself; `base` is a model that writer and reader both have. Unpacking gives files that go the
//! way of every model: nothing behind [`super::read_proto`] knows whether a model was packed.

mod base;
mod error;
mod index;
mod read;
mod segments;
#[cfg(test)]
mod tests;
mod write;

pub use base::{Base, BaseName};
pub use error::{ContainerError, ContainerProblem};
pub(super) use read::restore;
pub use read::{Container, PackedTensor};
pub(crate) use write::packed;
pub use write::{PackOptions, Packed, pack};

use index::Version;

/// How every container begins: bytes that no protobuf message and no text begins with.
const MAGIC: [u8; 8] = *b"\x89SCT\r\n\x1a\n";
/// The version that is written, and the only one that is read.
const VERSION: Version = 1;

/// The bytes of a container's file.
pub fn read_file(path: &std::path::Path) -> Result<bytes::Bytes, super::FormatError> {
    super::decode::read_path(path, &super::Limits::default())
}

/// Whether the bytes begin as a container does.
pub(crate) fn is_container(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}
