//! A progress line on a terminal, for what takes longer than a second.

use std::io::IsTerminal as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::global::Global;
use crate::report::sanitise;

/// How long work takes before a line appears.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    finished: bool,
    message: String,
    bar: Option<ProgressBar>,
}

/// A progress line that goes when it is dropped.
pub(super) struct Progress(Option<Arc<(Mutex<State>, Condvar)>>);

impl Progress {
    /// A line that stays away without a terminal and under `--quiet`.
    pub(super) fn new(global: &Global) -> Self {
        if global.quiet > 0 || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let watched = shared.clone();
        let show = move || {
            let (state, finished) = &*watched;
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = finished.wait_timeout_while(state, PATIENCE, |state| !state.finished);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if !state.finished {
                let bar = ProgressBar::new_spinner();
                if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
                    bar.set_style(style);
                }
                bar.set_message(state.message.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                state.bar = Some(bar);
            }
        };
        let _ = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(show);
        Self(Some(shared))
    }

    /// What says what goes on, for whoever outlives the line.
    pub(super) fn teller(&self) -> impl Fn(&str, u64, Option<u64>) + Send + Sync + 'static {
        let shared = self.0.clone();
        move |what, done, total| {
            if let Some(shared) = &shared {
                update(&shared.0, what, done, total);
            }
        }
    }
}

fn update(state: &Mutex<State>, what: &str, done: u64, total: Option<u64>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.message = match total {
        Some(total) => format!("{} ({}/{total})", sanitise(what), (done + 1).min(total)),
        None => sanitise(what),
    };
    if let Some(bar) = &state.bar {
        bar.set_message(state.message.clone());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.finished = true;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        shared.1.notify_all();
    }
}
