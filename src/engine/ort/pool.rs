//! Copies of a compiled model, one a thread at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

use super::{ENGINE, failed, ort_error, value};
use crate::engine::bounded::{Extent, bounded};
use crate::engine::guard::quietly;
use crate::engine::{CompileOptions, EngineError, RunValue};
use crate::format::{WriteOptions, WriteTarget, encode_to_bytes, write_proto};
use crate::proto;

/// The largest model in bytes of which there are several copies.
const COPIED: usize = 64 << 20;
/// The largest model in bytes that is handed over in memory; above, protobuf's limit of 2 GiB is near.
pub(super) const IN_MEMORY: usize = 1 << 30;

/// The copies, shared with calls that may have been given up.
pub(super) struct Pool {
    copies: Arc<Copies>,
    extent: Extent,
}

struct Copies {
    environment: Environment,
    options: CompileOptions,
    /// The model, kept for further copies.
    model: Option<Bytes>,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    idle: Vec<Session>,
    copies: usize,
    limit: usize,
}

impl Pool {
    /// Compiles a model; a large one goes through a temporary folder, in `folder` if there is one.
    pub(super) fn new(
        environment: Environment,
        message: proto::ModelProto,
        extent: Extent,
        options: &CompileOptions,
        folder: Option<PathBuf>,
    ) -> Result<Self, EngineError> {
        let options = options.clone();
        let copies = bounded(ENGINE, "compiling", extent.compiling(), move || {
            Copies::new(environment, message, &options, folder)
        })?;
        Ok(Self {
            copies: Arc::new(copies),
            extent,
        })
    }

    /// Runs one copy of the model on inputs of so many elements; a further one is made if all are busy and there may be more.
    pub(super) fn run(
        &self,
        inputs: Vec<(String, DynValue)>,
        elements: u64,
    ) -> Result<Vec<(String, RunValue)>, EngineError> {
        let copies = Arc::clone(&self.copies);
        bounded(ENGINE, "a run", self.extent.running(elements), move || {
            copies.run(inputs)
        })
    }
}

impl Copies {
    fn new(
        environment: Environment,
        message: proto::ModelProto,
        options: &CompileOptions,
        folder: Option<PathBuf>,
    ) -> Result<Self, EngineError> {
        use prost::Message as _;
        let size = message.encoded_len();
        let limit = if size <= COPIED {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            1
        };
        let (first, model) = if size <= IN_MEMORY {
            let bytes = encode_to_bytes(&message);
            drop(message);
            let first = quietly(ENGINE, || session(&environment, options, Load::Memory(&bytes)))?;
            (first, (limit > 1).then_some(bytes))
        } else {
            let folder = temporary_folder(folder.as_deref())?;
            let path = folder.path().join("model.onnx");
            let write = WriteOptions {
                largest_message: IN_MEMORY as u64,
                ..WriteOptions::default()
            };
            write_proto(message, None, WriteTarget::File(&path), &write)
                .map_err(|e| failed(e.to_string()))?;
            (
                quietly(ENGINE, || session(&environment, options, Load::File(&path)))?,
                None,
            )
        };
        let state = State {
            idle: vec![first],
            copies: 1,
            limit,
        };
        Ok(Self {
            environment,
            options: options.clone(),
            model,
            state: Mutex::new(state),
            returned: Condvar::new(),
        })
    }

    fn run(&self, inputs: Vec<(String, DynValue)>) -> Result<Vec<(String, RunValue)>, EngineError> {
        let mut session = self.take()?;
        let found = quietly(ENGINE, || {
            // By reference: elements of an output sequence may share the memory of an input's, which must outlive them.
            let views: Vec<(&str, SessionInputValue<'_>)> = inputs
                .iter()
                .map(|(name, value)| (name.as_str(), SessionInputValue::from(value)))
                .collect();
            let outputs = session.run(views).map_err(ort_error)?;
            outputs
                .into_iter()
                .map(|(name, output)| Ok((name.to_owned(), value::from_ort(output, name)?)))
                .collect::<Result<Vec<_>, EngineError>>()
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle.push(session);
        drop(state);
        self.returned.notify_one();
        found
    }

    fn take(&self) -> Result<Session, EngineError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = state.idle.pop() {
                return Ok(session);
            }
            match &self.model {
                Some(model) if state.copies < state.limit => {
                    state.copies += 1;
                    drop(state);
                    let made = quietly(ENGINE, || {
                        session(&self.environment, &self.options, Load::Memory(model))
                    });
                    if made.is_err() {
                        self.state.lock().unwrap_or_else(PoisonError::into_inner).copies -= 1;
                    }
                    return made;
                }
                _ => state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A folder for a model that is too large to be handed over in memory.
pub(super) fn temporary_folder(within: Option<&Path>) -> Result<tempfile::TempDir, EngineError> {
    within
        .map_or_else(tempfile::tempdir, tempfile::tempdir_in)
        .map_err(|e| failed(format!("no temporary folder: {e}")))
}

enum Load<'a> {
    Memory(&'a [u8]),
    File(&'a std::path::Path),
}

fn session(
    environment: &Environment,
    options: &CompileOptions,
    load: Load<'_>,
) -> Result<Session, EngineError> {
    let level = if options.optimise {
        GraphOptimizationLevel::All
    } else {
        GraphOptimizationLevel::Disable
    };
    let mut builder = Session::builder(environment)
        .map_err(ort_error)?
        .with_optimization_level(level)
        .map_err(ort_error)?
        .with_intra_threads(options.threads)
        .map_err(ort_error)?;
    for (symbol, size) in &options.symbols {
        builder = builder
            .with_dimension_override(symbol, *size)
            .map_err(ort_error)?;
    }
    match load {
        Load::Memory(bytes) => builder.commit_from_memory(bytes),
        Load::File(path) => builder.commit_from_file(path),
    }
    .map_err(ort_error)
}
