//! Engines in a process of their own, so that no model ends, hangs or exhausts the program that runs it.
//!
//! A session has a worker ([`process`]) to itself: the program's own binary, which waits on a socket ([`serve`]). A model goes there
//! once, without its weights where these are mapped from a file: the worker maps the file, too ([`packet`]). Values of runs lie in
//! memory that both share ([`board`]); runs next to each other take lanes ([`lane`]) of their own, each with a thread in the worker.
//! A worker has bounds on time, which it restarts as it goes from step to step, and on memory ([`limits`]). One that ends, or that
//! does not answer and is ended, is an error of that call; the next call starts another one. Which node it was is looked for after
//! the fact ([`locate`]), so that a call that goes well pays nothing for it. A worker ends with the program however that ends.
//!
//! Only on Linux; elsewhere, and where a host program asks for nothing, engines run on threads ([`super::bounded`]).

mod board;
mod lane;
mod limits;
mod locate;
mod packet;
mod process;
mod serve;
mod session;
mod show;
mod tags;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

pub(super) use limits::Holds;
pub(super) use locate::locate;
pub(super) use packet::{Reader, Torn, Writer};
pub(super) use process::retire;
pub use process::workers_memory;
pub use serve::serve;
pub(super) use serve::{say, say_node, serving, telling};
pub(super) use session::{Opening, Remote};

use super::EngineError;
use super::bounded::Extent;
use crate::ir::Tensor;

/// How this program is started as a worker.
#[derive(Clone, Debug)]
pub struct Host {
    /// The program's file.
    pub program: PathBuf,
    /// What it is called with, before what [`serve()`] gets.
    pub arguments: Vec<OsString>,
    /// Bytes of memory that a model may take in a worker; `None`: by its size.
    pub memory: Option<u64>,
}

static HOST: RwLock<Option<&'static Host>> = RwLock::new(None);

/// Lets each further session of this process have a worker: `host` says how to start this very program so that it calls [`serve()`].
/// The last call decides, for engines that are started from then on. Elsewhere than on Linux it does nothing.
///
/// # Examples
///
/// A program whose verb `engine-worker` calls `secateur::cli::main`, as the `secateur` program does:
///
/// ```no_run
/// secateur::work_in_processes(secateur::Host {
///     program: "/proc/self/exe".into(),
///     arguments: vec!["engine-worker".into()],
///     memory: None,
/// });
/// ```
pub fn work_in_processes(host: Host) {
    // Sessions keep it for as long as they live, and a program calls this once or twice.
    let host: &'static Host = Box::leak(Box::new(host));
    *HOST.write().unwrap_or_else(PoisonError::into_inner) = Some(host);
    retire();
}

/// Takes back [`work_in_processes`]: engines that are started from then on run inside this process.
///
/// # Examples
///
/// ```
/// secateur::work_inside();
/// ```
pub fn work_inside() {
    *HOST.write().unwrap_or_else(PoisonError::into_inner) = None;
    retire();
}

/// How workers are started, if they are to be used here.
pub(super) fn host() -> Option<&'static Host> {
    let host = *HOST.read().unwrap_or_else(PoisonError::into_inner);
    host.filter(|_| !serving())
}

/// One operator on constants in a worker.
pub(super) fn evaluate(
    host: &'static Host,
    engine: &'static str,
    constants: &[(String, Tensor)],
    program: &dyn Fn(&mut Writer<'_>),
) -> Result<Vec<Tensor>, EngineError> {
    let worker = process::Worker::any(host, engine)?;
    let memory = Holds::of_constants(constants.iter().map(|(_, tensor)| tensor)).allowed(0, host.memory);
    let elements = constants.iter().map(|(_, tensor)| tensor.elements()).sum();
    let send = |lane: &mut lane::Lane| {
        lane.send(|writer| {
            writer.head.push(tags::NODE);
            writer.number(memory);
            program(writer);
            writer.tensors(constants);
        })
    };
    let call = process::Call {
        engine,
        at: "a constant",
        limit: Extent::default().running(elements),
        memory,
        send: &send,
    };
    let found = worker.call(&call, &mut |reader| {
        (0..reader.count()?).map(|_| reader.copied()).collect()
    });
    if !found.as_ref().is_err_and(EngineError::ends_the_engine) {
        worker.keep();
    }
    found
}

/// What ONNX Runtime's library in this file says of itself, in a worker.
pub(super) fn probe(host: &'static Host, engine: &'static str, library: &str) -> Result<String, EngineError> {
    let worker = process::Worker::any(host, engine)?;
    let send = |lane: &mut lane::Lane| {
        lane.send(|writer| {
            writer.head.push(tags::LIBRARY);
            writer.text(library);
        })
    };
    let call = process::Call {
        engine,
        at: "loading",
        limit: Extent::default().compiling(),
        memory: 0,
        send: &send,
    };
    let found = worker.call(&call, &mut |reader| reader.text());
    if !found.as_ref().is_err_and(EngineError::ends_the_engine) {
        worker.keep();
    }
    found
}

/// A message that its reader cannot make sense of.
pub(super) fn torn(engine: &'static str) -> impl Fn(Torn) -> EngineError {
    move |_| EngineError::Failed {
        engine,
        reason: "its process got a message that makes no sense".to_owned(),
    }
}
