//! Work beside Python: on a thread of its own, with the interpreter free, answering to Ctrl-C.
//!
//! The thread that does the work never touches the interpreter: progress and remarks come over a channel and are handed on by the
//! thread that called. So a call that is interrupted can return at once, and its thread ends at the next step or sample.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use secateur::{CancelToken, Options};

use crate::error::defect;

/// How often signals are looked at while nothing else happens.
const LOOK: Duration = Duration::from_millis(10);
/// How long work that was told to end may take before it is left alone.
const ENDING: Duration = Duration::from_millis(50);

enum Event<T> {
    Progress(String, u64, Option<u64>),
    Note(String),
    Done(T),
    /// The work did not end: why.
    Broken(String),
}

/// Who listens to the work.
pub(crate) struct Listener {
    /// Called with what goes on, how much is done, and of how much.
    pub(crate) progress: Option<Py<PyAny>>,
    /// Called with remarks.
    pub(crate) note: Option<Py<PyAny>>,
}

impl Listener {
    pub(crate) const NOBODY: Self = Self {
        progress: None,
        note: None,
    };
}

/// Does `work` with the options of a call: their progress and remarks go to `listener`, Ctrl-C sets their token.
pub(crate) fn call<T: Send + 'static>(
    py: Python<'_>,
    options: Options,
    threads: usize,
    listener: &Listener,
    work: impl FnOnce(&Options) -> T + Send + 'static,
) -> PyResult<T> {
    let token = CancelToken::new();
    let (sender, events) = channel();
    let (told, noted) = (sender.clone(), sender.clone());
    // Where the caller is gone nobody listens, and the work goes on to its next look at the token.
    let mut options = options
        .cancel(&token)
        .jobs(threads)
        .note(move |text| _ = noted.send(Event::Note(text.to_owned())));
    if listener.progress.is_some() {
        options = options.progress(move |what, done, total| {
            _ = told.send(Event::Progress(what.to_owned(), done, total));
        });
    }
    start(py, sender, threads, move || work(&options))?;
    listen(py, events, &token, listener)
}

/// Does `work`, which cannot be ended early: after Ctrl-C its result is dropped.
pub(crate) fn aside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, events) = channel();
    start(py, sender, threads(), work)?;
    listen(py, events, &CancelToken::new(), &Listener::NOBODY)
}

/// The threads of a call that does not say how many.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Pools that no call uses, of one process. Nothing of a parent's survives a fork as `multiprocessing` makes it: threads are not
/// there in the child, so its pools are forgotten.
static IDLE: Mutex<Idle> = Mutex::new(Idle {
    process: 0,
    pools: Vec::new(),
});

/// How many pools wait for another call.
const MOST_IDLE: usize = 4;

struct Idle {
    process: u32,
    pools: Vec<Arc<ThreadPool>>,
}

impl Idle {
    /// What is known in this process, if nobody looks at it: in a forked child it may be somebody who is not there.
    fn here() -> Option<MutexGuard<'static, Self>> {
        let mut idle = IDLE.try_lock().ok()?;
        if idle.process != std::process::id() {
            idle.process = std::process::id();
            std::mem::forget(std::mem::take(&mut idle.pools));
        }
        Some(idle)
    }
}

/// A pool of so many threads that no other call uses.
fn pool(threads: usize) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    let fits = |pool: &Arc<ThreadPool>| pool.current_num_threads() == threads;
    if let Some(mut idle) = Idle::here()
        && let Some(known) = idle.pools.iter().position(fits)
    {
        return Ok(idle.pools.swap_remove(known));
    }
    let named = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|_| "secateur".to_owned());
    named.build().map(Arc::new)
}

/// Lets another call have the pool.
fn give_back(pool: Arc<ThreadPool>) {
    if let Some(mut idle) = Idle::here()
        && idle.pools.len() < MOST_IDLE
    {
        idle.pools.push(pool);
    }
}

/// Each call has a pool of its own for its time; one that was interrupted keeps it until its work has ended.
fn start<T: Send + 'static>(
    py: Python<'_>,
    sender: Sender<Event<T>>,
    threads: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<()> {
    let pool = pool(threads).map_err(|error| defect(py, &format!("no thread could be started: {error}")))?;
    let own = Arc::clone(&pool);
    pool.spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            format!("a defect: {}", text.unwrap_or("a panic"))
        });
        give_back(own);
        _ = sender.send(done.map_or_else(Event::Broken, Event::Done));
    });
    Ok(())
}

fn listen<T: Send>(
    py: Python<'_>,
    events: Receiver<Event<T>>,
    token: &CancelToken,
    listener: &Listener,
) -> PyResult<T> {
    let events = Mutex::new(events);
    let next = |time: Duration| {
        py.detach(|| {
            events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv_timeout(time)
        })
    };
    let interrupted = |error: PyErr| {
        token.cancel();
        let until = Instant::now() + ENDING;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if matches!(next(left), Ok(Event::Done(_) | Event::Broken(_)) | Err(_)) {
                break;
            }
        }
        error
    };
    loop {
        match next(LOOK) {
            Ok(Event::Done(found)) => return Ok(found),
            Ok(Event::Broken(message)) => return Err(defect(py, &message)),
            Ok(Event::Progress(what, done, total)) => {
                if let Some(progress) = &listener.progress {
                    progress.call1(py, (what, done, total)).map_err(interrupted)?;
                }
            }
            Ok(Event::Note(text)) => {
                if let Some(note) = &listener.note {
                    note.call1(py, (text,)).map_err(interrupted)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(defect(py, "the work ended without a word")),
        }
        py.check_signals().map_err(interrupted)?;
    }
}
