//! Bytes in and out: the only part of the library that reads and writes model files.
//!
//! Reading goes file -> `wire` (bounds and unknown fields) -> [`crate::proto`] -> external data, and copies no tensor:
//! every tensor is a slice of a mapped file. Writing goes the other way, streamed, and a save is all or nothing.
//!
//! Depends on [`crate::ir`], [`crate::proto`], [`crate::files`] and, for containers, [`crate::coding`] only. `unsafe` lives in `map` and `rope` and nowhere else.

pub mod container;
mod decode;
mod encode;
mod error;
mod external;
mod layout;
mod lift;
mod limits;
mod location;
mod map;
mod problem;
mod relocate;
mod retire;
mod rope;
pub mod save;
mod sha1;
pub mod share;
mod tensors;
pub mod text;
mod to_proto;
mod transaction;
mod whole;
mod wire;

pub use crate::files::{Fs, FsFile, OsFs, Temporaries};
pub use decode::{Decoded, Origin, Source, read_proto};
pub use encode::{encode, encode_to_bytes};
pub use error::{FormatError, WireProblem};
pub use external::{ExternalFile, ExternalFiles, TensorRange};
pub use lift::{LiftError, lift, lift_noting, tensor_from_proto, type_from_proto};
pub use limits::{Limits, ReadOptions, Warning, WarningKind};
pub(crate) use location::is_file_name;
pub(crate) use map::{file_bytes, release, spill};
#[cfg(target_os = "linux")]
pub(crate) use map::{mapped_from, shared_bytes, shared_bytes_mut};
pub use problem::{ExternalProblem, ToProtoError};
pub use relocate::{Relocation, Repeated};
pub use retire::recorded_data;
pub use rope::Rope;
pub use save::{Saved, WriteOptions, WriteTarget, pieces, write_proto, write_relocated, write_unchanged};
pub use share::{Shared, Sharer, share};
#[cfg(target_os = "linux")]
pub(crate) use tensors::visit_tensors;
pub use to_proto::{model_to_proto, tensor_to_proto, type_to_proto, value_info_of};
pub use whole::{Loaded, read, write};
