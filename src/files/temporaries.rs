//! The files that exist only because something is being written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fs::{Fs, OsFs};
use super::lock::PREFIX;

/// The temporaries of this process.
static TEMPORARIES: Temporaries = Temporaries::new();

/// The temporaries of this process.
pub fn temporaries() -> &'static Temporaries {
    &TEMPORARIES
}

/// Removes the temporary files of all that is being written, and makes those writes fail: saves of models with
/// [`crate::format::FormatError::Interrupted`]. For a thread that handles signals.
pub fn cleanup_temporaries() {
    TEMPORARIES.clear(&OsFs);
}

/// The files that exist only because a save is under way, so that a signal handler can remove them.
#[derive(Debug, Default)]
pub struct Temporaries {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Counts the calls of [`Temporaries::clear`]: a save that began before the last one must not go on.
    pub(crate) cleared: u64,
    pub(crate) files: BTreeSet<PathBuf>,
}

impl Temporaries {
    /// An empty set.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                cleared: 0,
                files: BTreeSet::new(),
            }),
        }
    }

    /// Removes the files of all saves under way and stops those saves.
    pub fn clear(&self, fs: &dyn Fs) {
        // The lock is held until the files are gone, and a save renames under the same lock: no model is renamed into
        // place after its data has been removed.
        let mut state = self.lock();
        state.cleared += 1;
        for path in std::mem::take(&mut state.files) {
            // There is nobody to tell, and the next file must go all the same.
            let _ = fs.remove_file(&path);
        }
    }

    /// The files at this moment.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().files.iter().cloned().collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name in `directory` that this process has not used before.
pub(crate) fn fresh_name(directory: &Path, ending: &str) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{PREFIX}{}-{number}{ending}", std::process::id()))
}
