//! Programs for tract in a worker: what one side writes, the other reads.

use std::collections::BTreeMap;

use prost::Message as _;
use tract_onnx::pb;

use super::program::{Parts, Program, ProgramInput, ProgramOutput, Size};
use super::session::TractSession;
use super::{ENGINE, failed, node};
use crate::engine::bounded::Extent;
use crate::engine::worker::{self, Holds, Host, Opening, Reader, Remote, Torn, Writer, torn};
use crate::engine::{CompileOptions, EngineError, Session};
use crate::ir::{DType, Model, Tensor};

/// Compiles a model in a worker.
pub(super) fn open(
    host: &'static Host,
    model: &Model,
    parts: &Parts,
    options: &CompileOptions,
) -> Result<Box<dyn Session>, EngineError> {
    let extent = Extent::of(model);
    let (copy, optimise) = (model.clone(), options.optimise);
    let locate = move || {
        let options = CompileOptions {
            optimise,
            ..CompileOptions::default()
        };
        worker::locate(&copy, &|model| {
            let parts = Parts::new(model, &options)?;
            let program = |writer: &mut Writer<'_>| write(writer, &parts, Extent::default(), &options);
            Remote::open(Opening::alone(host, ENGINE, Holds::of(model), &program)).map(drop)
        })
    };
    let program = |writer: &mut Writer<'_>| write(writer, parts, extent, options);
    let remote = Remote::open(Opening {
        host,
        engine: ENGINE,
        extent,
        holds: Holds::of(model),
        limit: extent.compiling(),
        locate: Some(Box::new(locate)),
        folder: None,
        program: &program,
    })?;
    Ok(Box::new(remote))
}

fn write(writer: &mut Writer<'_>, parts: &Parts, extent: Extent, options: &CompileOptions) {
    writer.bytes(&parts.graph.encode_to_vec());
    writer.imports(&parts.imports);
    writer.tensors(&parts.constants);
    writer.number(parts.inputs.len() as u64);
    for input in &parts.inputs {
        writer.text(&input.name);
        writer.text(&input.message);
        writer.signed(i64::from(input.dtype.onnx()));
        writer.flag(input.dims.is_some());
        if let Some(dims) = &input.dims {
            writer.number(dims.len() as u64);
            for size in dims {
                match size {
                    Size::Fixed(size) => {
                        writer.number(0);
                        writer.number(*size);
                    }
                    Size::Symbol(symbol) => {
                        writer.number(1);
                        writer.text(symbol);
                    }
                    Size::Any => writer.number(2),
                }
            }
        }
        writer.flag(input.default.is_some());
        if let Some(default) = &input.default {
            writer.tensor(default);
        }
    }
    writer.number(parts.outputs.len() as u64);
    for output in &parts.outputs {
        writer.text(&output.name);
        writer.signed(output.dtype.map_or(0, |dtype| i64::from(dtype.onnx())));
    }
    writer.flag(parts.optimise);
    let (nodes, weights) = extent.parts();
    writer.float(nodes);
    writer.float(weights);
    writer.number(options.symbols.len() as u64);
    for (symbol, size) in &options.symbols {
        writer.text(symbol);
        writer.signed(*size);
    }
}

/// The worker's side of [`open`].
pub(in crate::engine) fn receive(reader: &mut Reader<'_>) -> Result<Box<dyn Session>, EngineError> {
    let parts = read(reader).map_err(torn(ENGINE))?;
    let extent = read_extent(reader).map_err(torn(ENGINE))?;
    let symbols = read_symbols(reader).map_err(torn(ENGINE))?;
    Ok(Box::new(TractSession::new(Program::new(parts)?, extent, symbols)))
}

fn read_extent(reader: &mut Reader<'_>) -> Result<Extent, Torn> {
    Ok(Extent::from_parts((reader.float()?, reader.float()?)))
}

fn read_symbols(reader: &mut Reader<'_>) -> Result<BTreeMap<String, i64>, Torn> {
    (0..reader.count()?)
        .map(|_| Ok((reader.text()?, reader.signed()?)))
        .collect()
}

fn read(reader: &mut Reader<'_>) -> Result<Parts, Torn> {
    let graph = pb::GraphProto::decode(reader.bytes()?).map_err(|_| Torn)?;
    let imports = reader.imports()?;
    let constants = reader.tensors()?;
    let inputs = (0..reader.count()?)
        .map(|_| read_input(reader))
        .collect::<Result<_, _>>()?;
    let outputs = (0..reader.count()?)
        .map(|_| {
            Ok(ProgramOutput {
                name: reader.text()?,
                dtype: i32::try_from(reader.signed()?).ok().and_then(DType::from_onnx),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Parts {
        graph,
        imports,
        constants,
        inputs,
        outputs,
        optimise: reader.flag()?,
    })
}

fn read_input(reader: &mut Reader<'_>) -> Result<ProgramInput, Torn> {
    let (name, message) = (reader.text()?, reader.text()?);
    let dtype = i32::try_from(reader.signed()?)
        .ok()
        .and_then(DType::from_onnx)
        .ok_or(Torn)?;
    let size = |reader: &mut Reader<'_>| {
        Ok(match reader.number()? {
            0 => Size::Fixed(reader.number()?),
            1 => Size::Symbol(reader.text()?),
            _ => Size::Any,
        })
    };
    let dims = reader
        .flag()?
        .then(|| {
            (0..reader.count()?)
                .map(|_| size(reader))
                .collect::<Result<_, _>>()
        })
        .transpose()?;
    let default = reader.flag()?.then(|| reader.tensor()).transpose()?;
    Ok(ProgramInput {
        name,
        message,
        dtype,
        dims,
        default,
    })
}

/// One operator on constants in a worker.
pub(super) fn run_node(
    host: &'static Host,
    message: &pb::ModelProto,
    constants: &[(String, Tensor)],
    outputs: usize,
) -> Result<Vec<Tensor>, EngineError> {
    worker::evaluate(host, ENGINE, constants, &|writer| {
        writer.bytes(&message.encode_to_vec());
        writer.number(outputs as u64);
    })
}

/// The worker's side of [`run_node`].
pub(in crate::engine) fn receive_node(reader: &mut Reader<'_>) -> Result<Vec<Tensor>, EngineError> {
    let message = reader.bytes().map_err(torn(ENGINE))?;
    let message = pb::ModelProto::decode(message).map_err(|error| failed(error.to_string()))?;
    let outputs = reader.number().map_err(torn(ENGINE))?;
    let constants = reader.tensors().map_err(torn(ENGINE))?;
    node::evaluate(message, &constants, outputs as usize)
}
