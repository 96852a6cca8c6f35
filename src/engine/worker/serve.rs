//! The worker's side: a thread for each lane, one model at a time.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

use super::board::Board;
use super::lane::{Lane, Packet, receive_files, transmit};
use super::packet::{Reader, Torn, Writer};
use super::show::Show;
use super::tags;
use crate::engine::bounded::limit_calls;
use crate::engine::{EngineError, RunValues, Session, ort, tract};
use crate::ir::Tensor;

/// The stack of a lane's thread: engines recurse along a model.
const STACK: u64 = 64 << 20;
/// Memory that the program itself and the stacks of an engine's own threads take beside the model.
const BESIDE: u64 = 128 << 20;

static SERVING: AtomicBool = AtomicBool::new(false);
static LANES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Where this thread says what it does.
    static SOCKET: RefCell<Option<UnixStream>> = const { RefCell::new(None) };
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// What all lanes share.
#[derive(Default)]
struct State {
    session: RwLock<Option<Arc<dyn Session>>>,
    held: RwLock<RunValues>,
    /// Bytes that the model may take, runs apart.
    memory: AtomicU64,
}

/// Whether this process is a worker.
pub(in crate::engine) fn serving() -> bool {
    SERVING.load(Ordering::Relaxed)
}

/// Whether the run on this thread is to name each node before it.
pub(in crate::engine) fn telling() -> bool {
    TELLING.get()
}

/// Says what follows and how long it may take.
pub(in crate::engine) fn say(at: &'static str, limit: Duration) {
    note(|head| {
        head.push(tags::BOUND);
        head.extend_from_slice(&(at.len() as u64).to_le_bytes());
        head.extend_from_slice(at.as_bytes());
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        head.extend_from_slice(&milliseconds.to_le_bytes());
    });
}

/// Says which node runs next.
pub(in crate::engine) fn say_node(name: &str) {
    note(|head| {
        head.push(tags::NODE);
        head.extend_from_slice(&(name.len() as u64).to_le_bytes());
        head.extend_from_slice(name.as_bytes());
    });
}

fn note(write: impl FnOnce(&mut Vec<u8>)) {
    SOCKET.with_borrow(|socket| {
        if let Some(socket) = socket {
            let mut head = Vec::new();
            write(&mut head);
            // Without a listener the control socket ends the process.
            let _ = transmit(socket, &head, 0, &[]);
        }
    });
}

/// Serves the process that started this one until it is gone, and answers an exit status where it cannot. `arguments`: the process and the bound on calls in milliseconds, or 0.
pub fn serve(arguments: &[OsString]) -> u8 {
    let number = |at: usize| {
        arguments
            .get(at)
            .and_then(|text| text.to_str()?.parse::<u64>().ok())
    };
    let (Some(parent), Some(time)) = (number(0), number(1)) else {
        return 2;
    };
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err()
        || getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get() as u64) != Some(parent)
    {
        return 2;
    }
    let Ok(control) = io::stdin().as_fd().try_clone_to_owned() else {
        return 2;
    };
    SERVING.store(true, Ordering::Relaxed);
    limit_calls((time > 0).then(|| Duration::from_millis(time)));
    let control = UnixStream::from(control);
    let state = Arc::new(State::default());
    while let Ok(Some(files)) = receive_files(&control) {
        let Some(lane) = lane(files) else { break };
        let state = Arc::clone(&state);
        LANES.fetch_add(1, Ordering::Relaxed);
        state.limit();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .stack_size(STACK as usize)
            .spawn(move || {
                // A defect outside of an engine: the program is told by the end of the process.
                if catch_unwind(AssertUnwindSafe(|| serve_lane(lane, &state))).is_err() {
                    std::process::exit(101);
                }
            });
        if thread.is_err() {
            break;
        }
    }
    // Threads that run an engine are not waited for.
    std::process::exit(0)
}

fn lane(files: Vec<File>) -> Option<Lane> {
    let [socket, into, out] = <[File; 3]>::try_from(files).ok()?;
    let socket = UnixStream::from(OwnedFd::from(socket));
    Some(Lane::new(socket, Board::of(out), Board::of(into)))
}

fn serve_lane(mut lane: Lane, state: &State) {
    let socket = lane.socket().try_clone().ok();
    SOCKET.with_borrow_mut(|own| *own = socket);
    while let Ok(Some(packet)) = lane.receive(None) {
        if answer(&mut lane, &packet, state).is_err() {
            return;
        }
    }
}

/// Does what a message asks for.
fn answer(lane: &mut Lane, packet: &Packet, state: &State) -> io::Result<()> {
    let mut reader = packet.reader();
    let reply = match reader.tag() {
        Ok(tags::OPEN) => state.open(&mut reader).map(|()| Reply::Nothing),
        Ok(tags::RUN) => state.run(&mut reader).map(Reply::Values),
        Ok(tags::TIME) => state.time(&mut reader).map(Reply::Number),
        Ok(tags::OBSERVE) => return state.observe(&mut reader, lane),
        Ok(tags::HOLD) => state.hold(&mut reader).map(|()| Reply::Nothing),
        Ok(tags::NODE) => state.node(&mut reader).map(Reply::Tensors),
        Ok(tags::LIBRARY) => library(&mut reader).map(Reply::Text),
        Ok(tags::CLOSE) => {
            state.close();
            return Ok(());
        }
        _ => Err(torn(Torn)),
    };
    lane.send(|writer| {
        let reply = match &reply {
            Ok(reply) => reply,
            Err(error) => {
                writer.head.push(tags::ERROR);
                return writer.error(error);
            }
        };
        writer.head.push(tags::DONE);
        match reply {
            Reply::Nothing => {}
            Reply::Values(values) => writer.values(values),
            Reply::Tensors(tensors) => {
                writer.number(tensors.len() as u64);
                tensors.iter().for_each(|tensor| writer.tensor(tensor));
            }
            Reply::Text(text) => writer.text(text),
            Reply::Number(number) => writer.number(*number),
        }
    })
}

enum Reply {
    Nothing,
    Values(RunValues),
    Tensors(Vec<Tensor>),
    Text(String),
    Number(u64),
}

fn torn(_: Torn) -> EngineError {
    EngineError::Failed {
        engine: "",
        reason: "its process got a message that makes no sense".to_owned(),
    }
}

fn library(reader: &mut Reader<'_>) -> Result<String, EngineError> {
    ort::probe(&reader.text().map_err(torn)?)
}

impl State {
    fn open(&self, reader: &mut Reader<'_>) -> Result<(), EngineError> {
        self.close();
        self.memory
            .store(reader.number().map_err(torn)?, Ordering::Relaxed);
        self.limit();
        let opened = match reader.tag().map_err(torn)? {
            tags::TRACT => tract::receive(reader)?,
            _ => ort::receive(reader)?,
        };
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(opened));
        Ok(())
    }

    fn close(&self) {
        self.session
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.held.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Bounds the memory of this process: a model's for each lane, as a run takes its share of it.
    fn limit(&self) {
        let memory = self.memory.load(Ordering::Relaxed);
        let lanes = LANES.load(Ordering::Relaxed);
        let known = getrlimit(Resource::Data);
        let wanted = match memory {
            0 => None,
            bytes => Some(
                bytes
                    .saturating_add(BESIDE)
                    .saturating_add(STACK.saturating_mul(lanes)),
            ),
        };
        let current = match (wanted, known.maximum) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (None, most) => most,
            (wanted, None) => wanted,
        };
        // Where the system has no such limit, time and the machine are what bounds a model.
        let _ = setrlimit(
            Resource::Data,
            Rlimit {
                current,
                maximum: known.maximum,
            },
        );
    }

    fn session(&self) -> Result<Arc<dyn Session>, EngineError> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        session.clone().ok_or_else(|| torn(Torn))
    }

    /// The inputs of a run: those that are sent and, if the message says so, those that are held.
    fn inputs(&self, reader: &mut Reader<'_>) -> Result<RunValues, EngineError> {
        let memory = reader.number().map_err(torn)?;
        if self.memory.fetch_max(memory, Ordering::Relaxed) < memory {
            self.limit();
        }
        TELLING.set(reader.flag().map_err(torn)?);
        let held = reader.flag().map_err(torn)?;
        let mut inputs = reader.values().map_err(torn)?;
        if held {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            inputs.extend(held.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Ok(inputs)
    }

    fn run(&self, reader: &mut Reader<'_>) -> Result<RunValues, EngineError> {
        let inputs = self.inputs(reader)?;
        self.session()?.run(&inputs)
    }

    fn time(&self, reader: &mut Reader<'_>) -> Result<u64, EngineError> {
        let inputs = self.inputs(reader)?;
        let time = self.session()?.time(&inputs)?;
        Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Runs and shows float values, each with its place among the names.
    fn observe(&self, reader: &mut Reader<'_>, lane: &mut Lane) -> io::Result<()> {
        let prepared = self.inputs(reader).and_then(|inputs| {
            let names = reader.texts().map_err(torn)?;
            Ok((self.session()?, inputs, names))
        });
        let mut show = Show::new(lane);
        let outcome = prepared.and_then(|(session, inputs, names)| {
            session.observe(&inputs, &names, &mut |at, dims, elements| {
                show.value(at, dims, elements)
            })
        });
        show.finish(outcome.err().map(|error| {
            move |writer: &mut Writer<'_>| {
                writer.head.push(tags::ERROR);
                writer.error(&error);
            }
        }))
    }

    fn hold(&self, reader: &mut Reader<'_>) -> Result<(), EngineError> {
        let values = reader.values().map_err(torn)?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = values;
        Ok(())
    }

    fn node(&self, reader: &mut Reader<'_>) -> Result<Vec<Tensor>, EngineError> {
        self.memory
            .store(reader.number().map_err(torn)?, Ordering::Relaxed);
        self.limit();
        tract::receive_node(reader)
    }
}
