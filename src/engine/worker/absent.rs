//! Systems without workers: engines run on threads of this process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How a program is started as a worker.
#[derive(Clone, Debug)]
pub struct Host {
    /// The program's file.
    pub program: PathBuf,
    /// What it is called with, before what [`serve`] gets.
    pub arguments: Vec<OsString>,
    /// Bytes of memory that a model may take in a worker; `None`: by its size.
    pub memory: Option<u64>,
}

/// Does nothing: this system has no workers.
pub fn work_in_processes(_: Host) {}

/// Nothing changes: this system has no workers.
pub fn work_inside() {}

pub(super) fn retire() {}

/// There are none.
pub fn workers_memory() -> u64 {
    0
}

/// Serves nobody.
pub fn serve(_: &[OsString]) -> u8 {
    2
}

pub(super) fn serving() -> bool {
    false
}

pub(super) fn telling() -> bool {
    false
}

pub(super) fn say(_: &'static str, _: Duration) {}

pub(super) fn say_node(_: &str) {}
