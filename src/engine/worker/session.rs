//! A session whose model lives in a worker.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::lane::{Lane, Message};
use super::limits::{Holds, bytes_of};
use super::packet::{Reader, Torn, Writer};
use super::process::{Call, Worker};
use super::{Host, tags};
use crate::engine::bounded::{Extent, elements};
use crate::engine::{EngineError, FloatOutputs, HeldSession, Look, RunValue, RunValues, Session};
use crate::ir::Tensor;

/// Names the node on which an engine ends, where it can be found out.
pub(in crate::engine) type Locate = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// A model to be compiled in a worker.
pub(in crate::engine) struct Opening<'o> {
    pub(in crate::engine) host: &'static Host,
    pub(in crate::engine) engine: &'static str,
    pub(in crate::engine) extent: Extent,
    pub(in crate::engine) holds: Holds,
    /// How long compiling may take.
    pub(in crate::engine) limit: Duration,
    pub(in crate::engine) locate: Option<Locate>,
    /// Where the worker may leave files, as long as the session lives.
    pub(in crate::engine) folder: Option<TempDir>,
    pub(in crate::engine) program: &'o dyn Fn(&mut Writer<'_>),
}

/// How long one node alone may take to compile, where it is looked for the one that ends the engine.
const ALONE: Duration = Duration::from_secs(2);

impl<'o> Opening<'o> {
    /// One node alone, to see whether it ends the engine.
    pub(in crate::engine) fn alone(
        host: &'static Host,
        engine: &'static str,
        holds: Holds,
        program: &'o dyn Fn(&mut Writer<'_>),
    ) -> Self {
        Self {
            host,
            engine,
            extent: Extent::default(),
            holds,
            limit: ALONE,
            locate: None,
            folder: None,
            program,
        }
    }
}

/// A session in a worker of its own. Where the worker ends, the next run starts another one.
pub(in crate::engine) struct Remote {
    host: &'static Host,
    engine: &'static str,
    extent: Extent,
    holds: Holds,
    limit: Duration,
    locate: Option<Locate>,
    _folder: Option<TempDir>,
    program: Message,
    worker: Mutex<Option<Arc<Worker>>>,
}

impl Remote {
    /// Compiles a model in a worker.
    pub(in crate::engine) fn open(opening: Opening<'_>) -> Result<Self, EngineError> {
        let tag = if opening.engine == "tract" {
            tags::TRACT
        } else {
            tags::ORT
        };
        let allowed = opening.holds.allowed(0, opening.host.memory);
        let program = Message::new(|writer| {
            writer.head.push(tags::OPEN);
            writer.number(allowed);
            writer.head.push(tag);
            (opening.program)(writer);
        });
        let program = program.map_err(|error| EngineError::Failed {
            engine: opening.engine,
            reason: format!("no shared memory for the model: {error}"),
        })?;
        let remote = Self {
            host: opening.host,
            engine: opening.engine,
            extent: opening.extent,
            holds: opening.holds,
            limit: opening.limit,
            locate: opening.locate,
            _folder: opening.folder,
            program,
            worker: Mutex::default(),
        };
        remote.worker().map_err(|error| remote.located(error))?;
        Ok(remote)
    }

    fn call<'c>(
        &self,
        at: &'static str,
        limit: Duration,
        memory: u64,
        send: &'c dyn Fn(&mut Lane) -> io::Result<()>,
    ) -> Call<'c> {
        Call {
            engine: self.engine,
            at,
            limit,
            memory,
            send,
        }
    }

    /// The worker that has the model.
    fn worker(&self) -> Result<Arc<Worker>, EngineError> {
        let mut current = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = &*current {
            return Ok(Arc::clone(worker));
        }
        let worker = Worker::any(self.host, self.engine)?;
        let memory = self.holds.allowed(0, self.host.memory);
        let send = |lane: &mut Lane| lane.repeat(&self.program);
        let opened = worker.call(
            &self.call("compiling", self.limit, memory, &send),
            &mut |_| Ok(()),
        );
        match opened {
            Ok(()) => {
                *current = Some(Arc::clone(&worker));
                Ok(worker)
            }
            Err(error) => {
                if !error.ends_the_engine() {
                    worker.keep();
                }
                Err(error)
            }
        }
    }

    /// Names the node on which compiling ends or hangs, if that is what cost the worker.
    fn located(&self, mut error: EngineError) -> EngineError {
        let node = match &mut error {
            EngineError::Ended {
                node: node @ None,
                at: "compiling",
                how,
                ..
            } if crashed(how) => node,
            EngineError::TimedOut {
                node: node @ None,
                at: "compiling",
                ..
            } => node,
            _ => return error,
        };
        *node = self.locate.as_ref().and_then(|locate| locate());
        error
    }

    /// One run, in which the engine names each node first if `telling`.
    fn once<R>(
        &self,
        inputs: &RunValues,
        kind: &Kind<'_>,
        telling: bool,
        take: &mut dyn FnMut(&mut Reader<'_>) -> Result<R, Torn>,
    ) -> Result<R, EngineError> {
        let worker = self.worker()?;
        let memory = self.holds.allowed(bytes_of(inputs), self.host.memory);
        let send = |lane: &mut Lane| {
            lane.send(|writer| {
                writer.head.push(match kind {
                    Kind::Observe(_) => tags::OBSERVE,
                    Kind::Run | Kind::Held => tags::RUN,
                    Kind::Time => tags::TIME,
                });
                writer.number(memory);
                writer.flag(telling);
                writer.flag(matches!(kind, Kind::Held));
                writer.values(inputs);
                if let Kind::Observe(names) = kind {
                    writer.texts(names);
                }
            })
        };
        let limit = self.extent.running(elements(inputs));
        let outcome = worker.call(&self.call("a run", limit, memory, &send), take);
        if outcome.as_ref().is_err_and(EngineError::ends_the_engine) {
            let mut current = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_some_and(|known| Arc::ptr_eq(known, &worker)) {
                *current = None;
            }
        }
        outcome
    }

    /// One run; if the engine crashes, it runs again to say on which node.
    fn run_as<R>(
        &self,
        inputs: &RunValues,
        kind: &Kind<'_>,
        take: &mut dyn FnMut(&mut Reader<'_>) -> Result<R, Torn>,
    ) -> Result<R, EngineError> {
        let mut error = match self.once(inputs, kind, false, take) {
            Ok(found) => return Ok(found),
            Err(error) => self.located(error),
        };
        if let EngineError::Ended {
            node: node @ None,
            at: "a run",
            how,
            ..
        } = &mut error
            && crashed(how)
            && !matches!(kind, Kind::Held)
            && let Err(EngineError::Ended { node: found, .. }) =
                self.once(inputs, &Kind::Run, true, &mut |_| Ok(()))
        {
            *node = found;
        }
        Err(error)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let worker = self
            .worker
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(worker) = worker
            && self.holds.leaves_little()
            && worker
                .tell(|lane| lane.send(|writer| writer.head.push(tags::CLOSE)))
                .is_ok()
        {
            worker.keep();
        }
    }
}

/// Whether the engine ended by its own fault: nobody else sends these signals.
fn crashed(how: &str) -> bool {
    ["signal 4", "signal 6", "signal 7", "signal 8", "signal 11"]
        .iter()
        .any(|signal| {
            how.strip_prefix(signal)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        })
}

enum Kind<'k> {
    Run,
    Time,
    Held,
    Observe(&'k [String]),
}

impl Session for Remote {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        self.run_as(inputs, &Kind::Run, &mut |reader| reader.values())
    }

    fn observe(&self, inputs: &RunValues, names: &[String], look: Look<'_>) -> Result<(), EngineError> {
        self.run_as(inputs, &Kind::Observe(names), &mut |reader| {
            while !reader.is_at_end() {
                let at = reader.number()? as usize;
                let dims = reader.dims()?;
                let bytes = reader.bytes()?;
                match bytemuck::try_cast_slice::<u8, f32>(&bytes) {
                    Ok(elements) => look(at, &dims, elements),
                    Err(_) => look(at, &dims, &bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)),
                }
            }
            Ok(())
        })
    }

    fn time(&self, inputs: &RunValues) -> Result<Duration, EngineError> {
        let nanoseconds = self.run_as(inputs, &Kind::Time, &mut |reader| reader.number())?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn holding(&self, held: &[(String, Tensor)]) -> Option<Result<Box<dyn HeldSession + '_>, EngineError>> {
        if self.engine != "tract" {
            return None;
        }
        let values = held.iter().map(|(name, tensor)| match tensor.view::<f32>() {
            Ok(values) => Ok((name.clone(), tensor.dims().to_vec(), values.into_owned())),
            Err(error) => Err(wrong(name, &error.to_string())),
        });
        Some(values.collect::<Result<_, _>>().map(|values| {
            let held = Held {
                session: self,
                values,
                sent: Mutex::default(),
            };
            Box::new(held) as Box<dyn HeldSession>
        }))
    }
}

fn wrong(name: &str, reason: &str) -> EngineError {
    EngineError::Input {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Inputs that the worker keeps until they change.
struct Held<'s> {
    session: &'s Remote,
    values: Vec<(String, Vec<u64>, Vec<f32>)>,
    /// The worker that has the values as they are now.
    sent: Mutex<Option<Arc<Worker>>>,
}

impl Held<'_> {
    fn send(&self) -> Result<(), EngineError> {
        let worker = self.session.worker()?;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.as_ref().is_some_and(|known| Arc::ptr_eq(known, &worker)) {
            return Ok(());
        }
        let tensors = self.values.iter().map(|(name, dims, values)| {
            let tensor = Tensor::from_slice(dims, values).map_err(|error| wrong(name, &error.to_string()))?;
            Ok((name.clone(), RunValue::Tensor(tensor)))
        });
        let tensors = tensors.collect::<Result<RunValues, EngineError>>()?;
        let send = |lane: &mut Lane| {
            lane.send(|writer| {
                writer.head.push(tags::HOLD);
                writer.values(&tensors);
            })
        };
        let limit = self.session.extent.running(elements(&tensors));
        worker.call(&self.session.call("a run", limit, 0, &send), &mut |_| Ok(()))?;
        *sent = Some(worker);
        Ok(())
    }
}

impl HeldSession for Held<'_> {
    fn run(&self, inputs: &RunValues) -> Result<Box<dyn FloatOutputs>, EngineError> {
        self.send()?;
        let values = self
            .session
            .run_as(inputs, &Kind::Held, &mut |reader| reader.values())?;
        let copied = values.into_iter().filter_map(|(name, value)| match value {
            RunValue::Tensor(tensor) => Some((name, tensor.to_f32().ok()?.into_owned())),
            _ => None,
        });
        Ok(Box::new(crate::engine::held::Copied(copied.collect())))
    }

    fn held(&self, index: usize) -> Result<&[f32], EngineError> {
        let held = self
            .values
            .get(index)
            .ok_or_else(|| wrong("", "no such held input"))?;
        Ok(&held.2)
    }

    fn held_mut(&mut self, index: usize) -> Result<&mut [f32], EngineError> {
        self.sent.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let held = self
            .values
            .get_mut(index)
            .ok_or_else(|| wrong("", "no such held input"))?;
        Ok(&mut held.2)
    }
}
