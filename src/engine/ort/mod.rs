//! The user's own ONNX Runtime, loaded at run time.
//!
//! [`library`] finds the shared library; there is one in a process. The runtime's `Run` is not shared between threads: a
//! session keeps several copies of a small model ([`pool`]), and threads wait for each other on a large one.

mod boundary;
mod library;
mod pool;
#[cfg(target_os = "linux")]
mod remote;
mod value;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::bounded::{Extent, elements};
use super::guard::quietly;
use super::{CompileOptions, Engine, EngineError, RunValue, RunValues, Session, calls};
use crate::format::{ExternalFiles, model_to_proto};
use crate::ir::{Model, NodeKind, Tensor, ValueId, ValueType};
use crate::proto;
use boundary::Crossings;
use pool::Pool;

/// The engine's name in errors and reports.
const ENGINE: &str = "ort";

#[cfg(target_os = "linux")]
pub(super) use remote::{probe, receive};

/// A library that is found and answers.
struct Loaded {
    path: PathBuf,
    /// Its version as it says.
    version: String,
    /// Where it is loaded: `None` where workers load it.
    environment: Option<Environment>,
}

/// The library as workers load it, and as this process does. What could not be loaded is looked for again: the user may have
/// installed or named another one.
static LOADED: [Mutex<Option<&'static Loaded>>; 2] = [Mutex::new(None), Mutex::new(None)];

/// The engine behind [`Engine`]: ONNX Runtime, from a file on the user's machine.
#[derive(Clone, Copy)]
pub struct OrtEngine {
    loaded: &'static Loaded,
}

impl OrtEngine {
    /// Loads the library that `ORT_DYLIB_PATH` names, or the one of an installed Python package. The first one that could be loaded is that of the
    /// whole process.
    pub fn load() -> Result<Self, EngineError> {
        let hosted = hosted();
        let mut known = LOADED[usize::from(hosted)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let loaded = match *known {
            Some(loaded) => loaded,
            None => known.insert(Box::leak(Box::new(Self::found(hosted)?))),
        };
        Ok(Self { loaded })
    }

    fn found(hosted: bool) -> Result<Loaded, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable {
            engine: ENGINE,
            reason,
        };
        let path =
            library::find(&|name| std::env::var_os(name)).map_err(|error| unavailable(error.to_string()))?;
        #[cfg(target_os = "linux")]
        if let Some(host) = super::worker::host().filter(|_| hosted) {
            let version = remote::version(host, &path)
                .map_err(|error| unavailable(format!("{}: {error}", path.display())))?;
            return Ok(Loaded {
                path,
                version,
                environment: None,
            });
        }
        let environment = environment(&path)?;
        Ok(Loaded {
            version: version(&path),
            path,
            environment: Some(environment),
        })
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.loaded.path
    }
}

/// Whether workers run the library.
fn hosted() -> bool {
    #[cfg(target_os = "linux")]
    return super::worker::host().is_some();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Loads the library into this process.
fn environment(path: &Path) -> Result<Environment, EngineError> {
    let refused = |reason: String| EngineError::Unavailable {
        engine: ENGINE,
        reason: format!("{}: {reason}", path.display()),
    };
    let environment = quietly(ENGINE, || {
        let builder = ort::init_from(path).map_err(|e| refused(e.to_string()))?;
        builder
            .with_name("secateur")
            .with_telemetry(false)
            .build()
            .map_err(|e| refused(e.to_string()))
    })?;
    environment.set_log_level(LogLevel::Fatal);
    Ok(environment)
}

fn version(path: &Path) -> String {
    let minor = quietly(ENGINE, || Ok(ort::util::probe(path))).ok().flatten();
    minor.map_or_else(
        || "of an unknown version".to_owned(),
        |minor| format!("1.{minor}"),
    )
}

impl Engine for OrtEngine {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn release(&self) -> String {
        format!("ONNX Runtime {}", self.loaded.version)
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.release(), self.loaded.path.display())
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        if let Some(refusal) = calls::refusal(model, ENGINE) {
            return Err(refusal);
        }
        let (exposed, echoes) = expose(model, &options.expose)?;
        let model = exposed.as_ref().unwrap_or(model);
        let mut message =
            model_to_proto(model, &ExternalFiles::default()).map_err(|e| failed(e.to_string()))?;
        let crossings = Crossings::apply(&mut message);
        let inside = self.inside(model, message, options)?;
        let declared = model
            .graph
            .outputs()
            .iter()
            .map(|output| (output.name.to_string(), output.ty.clone()))
            .collect();
        Ok(Box::new(OrtSession {
            inside,
            crossings,
            echoes,
            declared,
        }))
    }
}

impl OrtEngine {
    /// The runtime's own session of a message, in this process or in a worker.
    fn inside(
        &self,
        model: &Model,
        message: proto::ModelProto,
        options: &CompileOptions,
    ) -> Result<Box<dyn Session>, EngineError> {
        #[cfg(target_os = "linux")]
        if let Some(host) = super::worker::host() {
            return remote::open(host, &self.loaded.path, model, message, options);
        }
        let environment = self.loaded.environment.clone();
        let environment = environment.ok_or_else(|| failed("its library is not loaded here"))?;
        let pool = Pool::new(environment, message, Extent::of(model), options, None)?;
        Ok(Box::new(pool))
    }
}

/// A value to expose that the runtime need not compute.
enum Echo {
    Input,
    Constant(Tensor),
}

type Echoes = Vec<(String, Echo)>;

/// The model with values as further outputs, and those that are inputs or constants.
fn expose(model: &Model, names: &[String]) -> Result<(Option<Model>, Echoes), EngineError> {
    let mut echoes = Vec::new();
    if names.is_empty() {
        return Ok((None, echoes));
    }
    let mut copy = model.clone();
    for name in names {
        if copy.graph.outputs().iter().any(|output| output.name == **name) {
            continue;
        }
        let value: ValueId = copy.graph.find_value(name).ok_or_else(|| EngineError::Input {
            name: name.clone(),
            reason: "the model has no value of this name to expose".to_owned(),
        })?;
        match copy.graph.get(value.node).map(|node| &node.kind) {
            Some(NodeKind::Input(_)) => echoes.push((name.clone(), Echo::Input)),
            Some(NodeKind::Constant(constant)) if constant.tensor.is_some() => {
                echoes.extend(
                    constant
                        .tensor
                        .clone()
                        .map(|tensor| (name.clone(), Echo::Constant(tensor))),
                );
            }
            _ => {
                let ty = copy.graph.ty(value).clone();
                let added = copy
                    .graph
                    .edit("expose")
                    .add_graph_output(value, name.as_str(), ty);
                added.map_err(|e| failed(e.to_string()))?;
            }
        }
    }
    Ok((Some(copy), echoes))
}

struct OrtSession {
    /// The runtime's session, of values as the runtime carries them.
    inside: Box<dyn Session>,
    crossings: Crossings,
    echoes: Echoes,
    declared: Vec<(String, ValueType)>,
}

impl OrtSession {
    /// Inputs as the runtime carries them.
    fn inward(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        inputs
            .iter()
            .map(|(name, value)| self.crossings.inward(name, value))
            .collect()
    }
}

impl Session for OrtSession {
    fn time(&self, inputs: &RunValues) -> Result<Duration, EngineError> {
        self.inside.time(&self.inward(inputs)?)
    }

    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        let found = self.inside.run(&self.inward(inputs)?)?;
        let mut results = RunValues::new();
        for (name, value) in found {
            let (inside, value) = self.crossings.outward(&name, value)?;
            results.insert(inside, value);
        }
        for (name, ty) in &self.declared {
            if let (ValueType::Optional(_), Some(value)) = (ty, results.get_mut(name)) {
                *value = RunValue::Optional(Some(Box::new(value.clone())));
            }
        }
        for (name, echo) in &self.echoes {
            let value = match echo {
                Echo::Constant(tensor) => RunValue::Tensor(tensor.clone()),
                Echo::Input => inputs.get(name).cloned().ok_or_else(|| EngineError::Input {
                    name: name.clone(),
                    reason: "an exposed input must be given".to_owned(),
                })?,
            };
            results.insert(name.clone(), value);
        }
        Ok(results)
    }
}

impl Session for Pool {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        let fed = inputs
            .iter()
            .map(|(name, value)| Ok((name.clone(), quietly(ENGINE, || value::to_ort(value, name))?)))
            .collect::<Result<_, EngineError>>()?;
        Ok(Pool::run(self, fed, elements(inputs))?.into_iter().collect())
    }
}

fn failed(reason: impl Into<String>) -> EngineError {
    EngineError::Failed {
        engine: ENGINE,
        reason: reason.into(),
    }
}

/// Messages of several lines, and those that end one, as one.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

/// An error of the runtime; what it has no kernel for is [`EngineError::Unsupported`].
fn ort_error<R>(error: ort::Error<R>) -> EngineError {
    let text = error.to_string();
    if text.contains("is under development") || text.contains("only *guarantees* support for models") {
        return EngineError::Unsupported {
            engine: ENGINE,
            operator: "opset".to_owned(),
            node: None,
            reason: "the runtime is older than the model's opset".to_owned(),
        };
    }
    let operator = text
        .split_once("Could not find an implementation for ")
        .and_then(|(_, rest)| rest.split(['(', ' ']).next().map(str::to_owned));
    match operator {
        Some(operator) => EngineError::Unsupported {
            engine: ENGINE,
            operator,
            node: None,
            reason: "the runtime has no kernel for these types".to_owned(),
        },
        None => failed(one_line(&text).chars().take(600).collect::<String>()),
    }
}
