//! Files as the rest sees them: what tells one from another, reading with a bound, and writing so that a file appears under its
//! name when it is complete and nothing else stays behind.
//!
//! Depends on nothing of the crate. Models are read and written by [`crate::format`], with these parts.

mod draft;
mod fs;
mod identity;
mod lock;
mod reading;
mod temporaries;

pub use draft::Draft;
pub use fs::{Fs, FsFile, OsFs};
pub use identity::{Identity, directory_of, same_file};
pub(crate) use identity::{has_other_names, identity};
pub(crate) use lock::{FolderLock, abandoned};
pub use reading::{LARGEST_STREAM, LARGEST_TEXT, read_bytes, read_text};
pub(crate) use temporaries::{State, fresh_name};
pub use temporaries::{Temporaries, cleanup_temporaries, temporaries};
