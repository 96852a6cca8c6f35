//! Models for ONNX Runtime in a worker: what one side writes, the other reads.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use ort::environment::Environment;
use prost::Message as _;

use super::pool::{IN_MEMORY, Pool, temporary_folder};
use super::{Crossings, ENGINE, environment, failed, model_to_proto};
use crate::engine::bounded::Extent;
use crate::engine::worker::{self, Holds, Host, Opening, Reader, Remote, Torn, Writer, torn};
use crate::engine::{CompileOptions, EngineError, Session};
use crate::format::{ExternalFiles, visit_tensors};
use crate::ir::Model;
use crate::proto;

/// Data of fewer bytes stays in the message.
const APART: usize = 1024;

/// The library's version, asked for in a worker.
pub(super) fn version(host: &'static Host, library: &Path) -> Result<String, EngineError> {
    worker::probe(host, ENGINE, text(library)?)
}

/// The worker's side of [`version`]: loads the library.
pub(in crate::engine) fn probe(library: &str) -> Result<String, EngineError> {
    loaded(library)?;
    Ok(super::version(Path::new(library)))
}

fn text(library: &Path) -> Result<&str, EngineError> {
    let text = library.to_str();
    text.ok_or_else(|| failed(format!("{} is not UTF-8", library.display())))
}

/// Compiles a model in a worker.
pub(super) fn open(
    host: &'static Host,
    library: &'static Path,
    model: &Model,
    message: proto::ModelProto,
    options: &CompileOptions,
) -> Result<Box<dyn Session>, EngineError> {
    let library = text(library)?;
    let extent = Extent::of(model);
    // The worker writes into it, and may be ended at any time.
    let folder = (message.encoded_len() > IN_MEMORY)
        .then(|| temporary_folder(None))
        .transpose()?;
    let (copy, own) = (model.clone(), options.clone());
    let locate = move || {
        worker::locate(&copy, &|model| {
            let mut message =
                model_to_proto(model, &ExternalFiles::default()).map_err(|e| failed(e.to_string()))?;
            Crossings::apply(&mut message);
            let parts = Parts::new(message);
            let program =
                |writer: &mut Writer<'_>| parts.write(writer, library, Extent::default(), &own, None);
            Remote::open(Opening::alone(host, ENGINE, Holds::of(model), &program)).map(drop)
        })
    };
    let parts = Parts::new(message);
    let path = folder.as_ref().map(|folder| folder.path().to_owned());
    let program = |writer: &mut Writer<'_>| parts.write(writer, library, extent, options, path.as_deref());
    let remote = Remote::open(Opening {
        host,
        engine: ENGINE,
        extent,
        holds: Holds::of(model),
        limit: extent.compiling(),
        locate: Some(Box::new(locate)),
        folder,
        program: &program,
    })?;
    Ok(Box::new(remote))
}

/// A message without the data of its tensors, and the data.
struct Parts {
    message: Vec<u8>,
    data: Vec<Bytes>,
}

impl Parts {
    fn new(mut message: proto::ModelProto) -> Self {
        let mut data = Vec::new();
        visit_tensors(&mut message, &mut |tensor| {
            if let Some(raw) = tensor.raw_data.as_mut().filter(|raw| raw.len() >= APART) {
                tensor.data_location = Some(MOVED);
                data.push(std::mem::take(raw));
            }
        });
        Self {
            message: message.encode_to_vec(),
            data,
        }
    }

    fn write(
        &self,
        writer: &mut Writer<'_>,
        library: &str,
        extent: Extent,
        options: &CompileOptions,
        folder: Option<&Path>,
    ) {
        writer.text(library);
        writer.bytes(&self.message);
        writer.number(self.data.len() as u64);
        self.data.iter().for_each(|data| writer.bytes(data));
        let (nodes, weights) = extent.parts();
        writer.float(nodes);
        writer.float(weights);
        writer.number(options.symbols.len() as u64);
        for (symbol, size) in &options.symbols {
            writer.text(symbol);
            writer.signed(*size);
        }
        writer.flag(options.optimise);
        writer.number(options.threads as u64);
        writer.optional(folder.and_then(Path::to_str));
    }
}

/// In the place of a location: the data stands apart from the message, in the order of the tensors. No file has it.
const MOVED: i32 = -1;

/// The worker's side of [`open`].
pub(in crate::engine) fn receive(reader: &mut Reader<'_>) -> Result<Box<dyn Session>, EngineError> {
    let library = reader.text().map_err(torn(ENGINE))?;
    let message = read_message(reader).map_err(torn(ENGINE))?;
    let (extent, options, folder) = read_options(reader).map_err(torn(ENGINE))?;
    let pool = Pool::new(
        loaded(&library)?,
        message,
        Extent::from_parts(extent),
        &options,
        folder.map(Into::into),
    )?;
    Ok(Box::new(pool))
}

fn read_message(reader: &mut Reader<'_>) -> Result<proto::ModelProto, Torn> {
    let mut message = proto::ModelProto::decode(reader.bytes()?).map_err(|_| Torn)?;
    let data = (0..reader.count()?)
        .map(|_| reader.bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let mut next = data.into_iter();
    visit_tensors(&mut message, &mut |tensor| {
        if tensor.data_location == Some(MOVED) {
            tensor.data_location = None;
            tensor.raw_data = next.next();
        }
    });
    Ok(message)
}

type Options = ((f64, f64), CompileOptions, Option<String>);

fn read_options(reader: &mut Reader<'_>) -> Result<Options, Torn> {
    let extent = (reader.float()?, reader.float()?);
    let symbols = (0..reader.count()?)
        .map(|_| Ok((reader.text()?, reader.signed()?)))
        .collect::<Result<_, _>>()?;
    let options = CompileOptions {
        expose: Vec::new(),
        symbols,
        optimise: reader.flag()?,
        threads: reader.number()? as usize,
    };
    Ok((extent, options, reader.optional()?))
}

/// The library in this process: a worker has one as long as it lives.
fn loaded(library: &str) -> Result<Environment, EngineError> {
    static LOADED: Mutex<Option<(String, Environment)>> = Mutex::new(None);
    let mut known = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*known {
        return match path == library {
            true => Ok(environment.clone()),
            false => Err(failed(format!("{path} is loaded already"))),
        };
    }
    let environment = environment(Path::new(library))?;
    *known = Some((library.to_owned(), environment.clone()));
    Ok(environment)
}
