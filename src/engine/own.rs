//! What belongs to one process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads and processes that wait for work. A child that was forked from this process, as Python's `multiprocessing` does, inherits a
/// copy of the memory, but neither the threads nor the workers: it begins with nothing, and leaves alone what is its parent's.
pub(super) struct Own<T>(Mutex<(u32, T)>);

impl<T: Default> Own<T> {
    /// What nobody has yet.
    pub(super) const fn new(empty: T) -> Self {
        Self(Mutex::new((0, empty)))
    }

    /// Calls `with` with what this process has.
    pub(super) fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> R {
        let mut held: MutexGuard<'_, (u32, T)> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = std::process::id();
        if held.0 != own {
            // Dropped, it would act on what the parent has.
            std::mem::forget(std::mem::take(&mut held.1));
            held.0 = own;
        }
        with(&mut held.1)
    }
}
