//! A worker process as the program sees it: started, called, ended.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::board::memory;
use super::lane::{Lane, SENT, transmit};
use super::packet::{Reader, Torn};
use super::{Host, tags};
use crate::engine::EngineError;
use crate::engine::bounded::chosen;
use crate::engine::own::Own;

/// Workers that wait for the next model; more are ended.
const IDLE: usize = 4;
/// How long a process whose end is seen may take to be gone.
const ENDING: Duration = Duration::from_millis(500);
/// What is read of a worker's last words.
const WORDS: usize = 4096;

/// Process ids of the workers that live.
static LIVING: Own<Vec<u32>> = Own::new(Vec::new());

/// Peak resident memory of all workers of this process that live, in bytes.
pub fn workers_memory() -> u64 {
    let living = LIVING.with(|living| living.clone());
    let peak = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    living.into_iter().filter_map(peak).sum::<u64>() * 1024
}

static WAITING: Own<Vec<Arc<Worker>>> = Own::new(Vec::new());

/// Ends the workers that wait: they keep to what they were told when they were started.
pub(in crate::engine) fn retire() {
    let waiting = WAITING.with(std::mem::take);
    drop(waiting);
}

/// A process that runs engines. It ends with its last reference, and with this process, however that ends.
pub(super) struct Worker {
    /// The process that started it.
    owner: u32,
    child: Mutex<Child>,
    /// Lanes are opened by it; a worker that sees it closed ends.
    control: Mutex<UnixStream>,
    words: File,
    lanes: Mutex<Vec<Lane>>,
    /// Why the worker was ended.
    verdict: OnceLock<EngineError>,
}

/// A call of a worker.
pub(super) struct Call<'c> {
    pub(super) engine: &'static str,
    /// What the engine does as far as is known before it says so.
    pub(super) at: &'static str,
    /// How long it may do that.
    pub(super) limit: Duration,
    /// Bytes that the worker may take, for messages.
    pub(super) memory: u64,
    pub(super) send: &'c dyn Fn(&mut Lane) -> io::Result<()>,
}

impl Worker {
    /// A worker that waits, or a new one.
    pub(super) fn any(host: &'static Host, engine: &'static str) -> Result<Arc<Self>, EngineError> {
        loop {
            match WAITING.with(Vec::pop) {
                Some(worker) if worker.lives() => return Ok(worker),
                Some(_) => {}
                None => break,
            }
        }
        let started = start(host).map_err(|error| EngineError::Unavailable {
            engine,
            reason: format!("no process could be started for it: {error}"),
        })?;
        Ok(Arc::new(started))
    }

    /// Keeps a worker for the next model, unless enough wait.
    pub(super) fn keep(self: Arc<Self>) {
        WAITING.with(|waiting| {
            if waiting.len() < IDLE {
                waiting.push(self);
            }
        });
    }

    fn lives(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        self.verdict.get().is_none() && matches!(child.try_wait(), Ok(None))
    }

    fn lane(&self) -> io::Result<Lane> {
        let idle = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(lane) = idle {
            return Ok(lane);
        }
        let (lane, files) = Lane::pair()?;
        lane.socket().set_write_timeout(Some(SENT))?;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        transmit(&control, &[], 0, &files)?;
        Ok(lane)
    }

    /// Sends a request and hands the answer to `take`, which has the lane's memory to itself, or each part of it in turn and the
    /// last one's result is the answer.
    pub(super) fn call<R>(
        &self,
        call: &Call<'_>,
        take: &mut dyn FnMut(&mut Reader<'_>) -> Result<R, Torn>,
    ) -> Result<R, EngineError> {
        let mut node = None;
        let mut at = call.at;
        let gone = |at: &'static str, node: Option<String>| self.death(call, at, node);
        let Ok(mut lane) = self.lane() else {
            return Err(gone(at, node));
        };
        let mut limit = call.limit;
        let mut deadline = Instant::now() + limit;
        if let Err(error) = (call.send)(&mut lane) {
            return Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.late(call, at, SENT),
                _ => gone(at, node),
            });
        }
        let torn = |_: Torn| EngineError::Failed {
            engine: call.engine,
            reason: "its process gave an answer that makes no sense".to_owned(),
        };
        loop {
            let packet = match lane.receive(Some(deadline)) {
                Ok(Some(packet)) => packet,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(self.late(call, at, limit));
                }
                Ok(None) | Err(_) => return Err(gone(at, node)),
            };
            let mut reader = packet.reader();
            match reader.tag().map_err(torn)? {
                tags::BOUND => {
                    at = tags::place(&reader.text().map_err(torn)?);
                    limit = Duration::from_millis(reader.number().map_err(torn)?);
                    deadline = Instant::now() + limit;
                }
                tags::NODE => node = Some(reader.text().map_err(torn)?),
                tags::PART => {
                    take(&mut reader).map_err(torn)?;
                    if lane.pass(&[tags::SEEN], 0).is_err() {
                        return Err(gone(at, node));
                    }
                    deadline = Instant::now() + limit;
                }
                tags::DONE => {
                    let taken = take(&mut reader).map_err(torn);
                    self.lanes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(lane);
                    return taken;
                }
                tags::ERROR => {
                    let error = reader.error(call.engine).map_err(torn)?;
                    self.lanes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(lane);
                    return Err(out_of_memory(&error, call, at).unwrap_or(error));
                }
                _ => return Err(torn(Torn)),
            }
        }
    }

    /// Sends a request that has no answer.
    pub(super) fn tell(&self, send: impl FnOnce(&mut Lane) -> io::Result<()>) -> io::Result<()> {
        let mut lane = self.lane()?;
        send(&mut lane)?;
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane);
        Ok(())
    }

    /// Ends a worker that does not answer; other calls of it get the same error.
    fn late(&self, call: &Call<'_>, at: &'static str, limit: Duration) -> EngineError {
        let verdict = self.verdict.get_or_init(|| EngineError::TimedOut {
            engine: call.engine,
            at,
            seconds: limit.as_secs_f64(),
            node: None,
        });
        self.end();
        verdict.clone()
    }

    /// Why the worker is gone.
    fn death(&self, call: &Call<'_>, at: &'static str, node: Option<String>) -> EngineError {
        let verdict = self.verdict.get_or_init(|| {
            let status = self.status();
            let words = self.last_words();
            if ["memory allocation of", "failed to allocate"]
                .iter()
                .any(|known| words.contains(known))
            {
                return EngineError::Memory {
                    engine: call.engine,
                    at,
                    megabytes: call.memory >> 20,
                };
            }
            let mut how = match status.map(|status| (status.signal(), status.code())) {
                Some((Some(signal), _)) => format!("signal {signal}"),
                Some((None, Some(code))) => format!("exit status {code}"),
                _ => "an unknown cause".to_owned(),
            };
            if words.contains("overflowed its stack") {
                how.push_str(" (its stack overflowed)");
            }
            EngineError::Ended {
                engine: call.engine,
                how,
                at,
                node,
            }
        });
        verdict.clone()
    }

    /// How the process ended; one that does not end by itself is ended.
    fn status(&self) -> Option<ExitStatus> {
        let until = Instant::now() + ENDING;
        while Instant::now() < until {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(2));
        }
        self.end()
    }

    fn end(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; SIGKILL ends a stopped process, too.
        let _ = child.kill();
        child.wait().ok()
    }

    fn last_words(&self) -> String {
        let length = self.words.metadata().map_or(0, |metadata| metadata.len());
        let mut words = vec![0; WORDS];
        let from = length.saturating_sub(WORDS as u64);
        let count = self.words.read_at(&mut words, from).unwrap_or(0);
        String::from_utf8_lossy(words.get(..count).unwrap_or_default()).into_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        self.end();
        let id = self.child.get_mut().unwrap_or_else(PoisonError::into_inner).id();
        LIVING.with(|living| living.retain(|known| *known != id));
    }
}

/// An engine that catches its own failure to get memory.
fn out_of_memory(error: &EngineError, call: &Call<'_>, at: &'static str) -> Option<EngineError> {
    let EngineError::Failed { reason, .. } = error else {
        return None;
    };
    ["bad_alloc", "bad allocation", "ailed to allocate"]
        .iter()
        .any(|words| reason.contains(words))
        .then_some(EngineError::Memory {
            engine: call.engine,
            at,
            megabytes: call.memory >> 20,
        })
}

fn start(host: &'static Host) -> io::Result<Worker> {
    let (control, other) = UnixStream::pair()?;
    control.set_write_timeout(Some(SENT))?;
    let words = memory()?;
    let mut command = Command::new(&host.program);
    let time = chosen().map_or(0, |limit| limit.as_millis());
    command
        .arg0("secateur")
        .args(&host.arguments)
        .args([std::process::id().to_string(), time.to_string()].map(OsString::from))
        .stdin(Stdio::from(OwnedFd::from(other)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(words.try_clone()?))
        // The terminal's signals are for the program; the worker ends with it.
        .process_group(0);
    let child = spawn(command)?;
    LIVING.with(|living| living.push(child.id()));
    Ok(Worker {
        owner: std::process::id(),
        child: Mutex::new(child),
        control: Mutex::new(control),
        words,
        lanes: Mutex::default(),
        verdict: OnceLock::new(),
    })
}

type Order = (Command, std::sync::mpsc::SyncSender<io::Result<Child>>);

/// Starts a process on a thread that lives as long as this process: a worker is told to end with the *thread* that started it.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: Own<Option<Sender<Order>>> = Own::new(None);
    let gone = || io::Error::other("the thread that starts workers is gone");
    STARTER.with(|starter| {
        let orders = match starter.take() {
            Some(orders) => orders,
            None => starter_thread()?,
        };
        let (reply, answer) = sync_channel(1);
        orders.send((command, reply)).map_err(|_| gone())?;
        let child = answer.recv().map_err(|_| gone())?;
        *starter = Some(orders);
        child
    })
}

fn starter_thread() -> io::Result<Sender<Order>> {
    let (orders, taken) = channel::<Order>();
    let work = move || {
        for (mut command, reply) in taken {
            // Nobody waits only where the caller is gone, too.
            let _ = reply.send(command.spawn());
        }
    };
    std::thread::Builder::new()
        .name("workers".to_owned())
        .spawn(work)?;
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// What is said of a program that ends as `script` says.
    fn said(script: &str, memory: u64) -> String {
        let host = Box::leak(Box::new(Host {
            program: PathBuf::from("/bin/sh"),
            arguments: ["-c", script].map(OsString::from).into(),
            memory: None,
        }));
        let worker = start(host).unwrap();
        let call = Call {
            engine: "tract",
            at: "a run",
            limit: Duration::from_secs(60),
            memory,
            send: &|lane| lane.send(|writer| writer.head.push(tags::RUN)),
        };
        let outcome = worker.call(&call, &mut |_: &mut Reader<'_>| Ok(()));
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn the_end_of_a_worker_is_told_by_its_signal_and_its_last_words() {
        assert_eq!(
            said(
                "echo \"thread 'engine' has overflowed its stack\" >&2; kill -ABRT $$",
                0
            ),
            "the engine tract ended by signal 6 (its stack overflowed) (a run)"
        );
        assert_eq!(
            said("kill -SEGV $$", 0),
            "the engine tract ended by signal 11 (a run)"
        );
        assert_eq!(
            said(
                "echo 'memory allocation of 4294967296 bytes failed' >&2; kill -ABRT $$",
                1 << 30
            ),
            "the engine tract needs more than 1024 MB of memory (a run)"
        );
        assert_eq!(
            said("exit 3", 0),
            "the engine tract ended by exit status 3 (a run)"
        );
    }
}
