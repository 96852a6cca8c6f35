//! A progress line on a terminal, for what takes longer than a second.

use std::io::IsTerminal as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use serde_json::json;

use super::global::{Global, ProgressName};
use super::terminal;
use crate::report::sanitise;

/// How long work takes before a line appears.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much time passes between two documents on the same work.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct State {
    finished: bool,
    message: String,
    bar: Option<ProgressBar>,
}

/// How progress is told: a line on a terminal that goes when it is dropped, a document at a time, or not at all.
pub(super) enum Progress {
    Line(Arc<(Mutex<State>, Condvar)>),
    Documents(Arc<Mutex<Told>>),
    Nothing,
}

/// What was told last.
pub(super) struct Told {
    begin: Instant,
    what: String,
    /// When the work of this name began, and when it was told of last.
    since: Instant,
    last: Option<Instant>,
}

impl Told {
    /// The document, if it is time for one.
    fn document(&mut self, what: &str, done: u64, total: Option<u64>) -> Option<serde_json::Value> {
        let now = Instant::now();
        if self.what != what {
            self.what = what.to_owned();
            self.since = now;
            self.last = None;
        }
        let ended = total.is_some_and(|total| done + 1 >= total);
        if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) && !ended {
            return None;
        }
        self.last = Some(now);
        let spent = now.duration_since(self.since).as_secs_f64();
        let remaining = total
            .filter(|total| done > 0 && *total >= done)
            .map(|total| spent / done as f64 * (total - done) as f64);
        Some(json!({
            "progress": what,
            "done": done,
            "total": total,
            "seconds": now.duration_since(self.begin).as_secs_f64(),
            "remaining_seconds": remaining,
        }))
    }
}

impl Progress {
    /// As the flags ask: a line stays away without a terminal, and all of it under `--quiet`.
    pub(super) fn new(global: &Global) -> Self {
        match global.progress {
            ProgressName::Json if global.quiet == 0 => {
                let now = Instant::now();
                return Self::Documents(Arc::new(Mutex::new(Told {
                    begin: now,
                    what: String::new(),
                    since: now,
                    last: None,
                })));
            }
            ProgressName::Auto if global.quiet == 0 && std::io::stderr().is_terminal() => {}
            _ => return Self::Nothing,
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
        Self::Line(shared)
    }

    /// What says what goes on, for whoever outlives the line.
    pub(super) fn teller(&self) -> impl Fn(&str, u64, Option<u64>) + Send + Sync + 'static {
        let (line, documents) = match self {
            Self::Line(shared) => (Some(shared.clone()), None),
            Self::Documents(told) => (None, Some(told.clone())),
            Self::Nothing => (None, None),
        };
        move |what, done, total| {
            if let Some(shared) = &line {
                update(&shared.0, what, done, total);
            }
            if let Some(told) = &documents {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(document) = told.document(what, done, total) {
                    terminal::note(&document.to_string());
                }
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
        let Self::Line(shared) = self else { return };
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.finished = true;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        shared.1.notify_all();
    }
}
