//! Running an engine's code so that its panics become errors and stay silent.
//!
//! tract asserts on some models that it cannot handle, and the `ort` crate on some runtime answers. Inside
//! [`quietly`] such a panic prints nothing; panics of every other thread and of every other part of the program go
//! to the hook that was installed before.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::EngineError;

thread_local! {
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}

fn install() {
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            // The thread-local may be gone while a thread ends; then the panic is not an engine's.
            if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
                previous(info);
            }
        }));
    });
}

/// Runs `work`; a panic in it is [`EngineError::Failed`] and prints nothing.
pub(crate) fn quietly<T>(
    engine: &'static str,
    work: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    install();
    let inside = Inside::enter();
    let outcome = catch_unwind(AssertUnwindSafe(work));
    drop(inside);
    outcome.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown reason".to_owned());
        Err(EngineError::Failed {
            engine,
            reason: format!("the engine panicked: {text}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_an_error_and_leaves_the_guard() {
        let outcome = quietly::<()>("tract", || panic!("index {} is out of bounds", 3));
        assert!(matches!(outcome, Err(EngineError::Failed { reason, .. }) if reason.contains("index 3")));
        assert_eq!(INSIDE.with(Cell::get), 0);
        assert_eq!(quietly("tract", || Ok(1)).unwrap(), 1);
    }
}
