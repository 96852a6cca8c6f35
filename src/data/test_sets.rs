//! ONNX test sets: folders with `input_N.pb` and `output_N.pb`, one message a value.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::error::DataError;
use crate::engine::{RunValue, RunValues};
use crate::format::{ExternalFiles, LiftError, tensor_from_proto};
use crate::ir::{DType, Graph, NodeKind, Tensor, TensorError, ValueType};
use crate::proto::TensorProto;

/// `onnx.SequenceProto` (field numbers of `onnx-data.proto`).
#[derive(Clone, PartialEq, Message)]
struct SequenceMessage {
    #[prost(int32, optional, tag = "2")]
    elem_type: Option<i32>,
    #[prost(message, repeated, tag = "3")]
    tensor_values: Vec<TensorProto>,
    #[prost(message, repeated, tag = "5")]
    sequence_values: Vec<SequenceMessage>,
    #[prost(message, repeated, tag = "6")]
    map_values: Vec<MapMessage>,
    #[prost(message, repeated, tag = "7")]
    optional_values: Vec<OptionalMessage>,
}

/// `onnx.MapProto`.
#[derive(Clone, PartialEq, Message)]
struct MapMessage {
    #[prost(int32, optional, tag = "2")]
    key_type: Option<i32>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    keys: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    string_keys: Vec<Bytes>,
    #[prost(message, optional, tag = "5")]
    values: Option<SequenceMessage>,
}

/// `onnx.OptionalProto`.
#[derive(Clone, PartialEq, Message)]
struct OptionalMessage {
    #[prost(message, optional, boxed, tag = "3")]
    tensor_value: Option<Box<TensorProto>>,
    #[prost(message, optional, boxed, tag = "5")]
    sequence_value: Option<Box<SequenceMessage>>,
    #[prost(message, optional, boxed, tag = "6")]
    map_value: Option<Box<MapMessage>>,
    #[prost(message, optional, boxed, tag = "7")]
    optional_value: Option<Box<OptionalMessage>>,
}

/// One recorded run.
#[derive(Clone, Debug, Default)]
pub struct TestSet {
    /// The folder.
    pub folder: PathBuf,
    /// Values of the graph inputs, by name.
    pub inputs: RunValues,
    /// Recorded values of the graph outputs, by name; empty when none are recorded.
    pub outputs: RunValues,
}

/// The `test_data_set_*` folders in `folder`, or `folder` itself if it holds `input_0.pb`, in numeric order.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    if folder.join("input_0.pb").exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let read = |e: std::io::Error| DataError::Read {
        file: folder.to_owned(),
        reason: e.to_string(),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("test_data_set_")?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.is_dir()) {
            found.push((number, path));
        }
    }
    found.sort();
    if found.is_empty() {
        let detail = "; test_data_set_N folders with input_N.pb files are read".to_owned();
        return Err(DataError::Empty {
            file: folder.to_owned(),
            detail,
        });
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Reads one folder for the inputs and outputs of `graph`. A file is missing where an optional input is left out.
pub fn read(folder: &Path, graph: &Graph) -> Result<TestSet, DataError> {
    let mut set = TestSet {
        folder: folder.to_owned(),
        ..TestSet::default()
    };
    let mut index = 0;
    for id in graph.inputs() {
        let Some(node) = graph.get(*id) else { continue };
        let (NodeKind::Input(_), Some(value)) = (&node.kind, node.outputs().first()) else {
            continue;
        };
        if let Some(read) = read_value(&folder.join(format!("input_{index}.pb")), &value.ty)? {
            set.inputs.insert(value.name.to_string(), read);
        }
        index += 1;
    }
    for (index, output) in graph.outputs().iter().enumerate() {
        if let Some(read) = read_value(&folder.join(format!("output_{index}.pb")), &output.ty)? {
            set.outputs.insert(output.name.to_string(), read);
        }
    }
    Ok(set)
}

fn read_value(file: &Path, ty: &ValueType) -> Result<Option<RunValue>, DataError> {
    if !file.exists() {
        return Ok(None);
    }
    let wrong = |reason: String| DataError::Read {
        file: file.to_owned(),
        reason,
    };
    let bytes = Bytes::from(crate::files::read_bytes(file).map_err(|e| wrong(e.to_string()))?);
    let decode = |e: prost::DecodeError| wrong(format!("not a recorded value: {e}"));
    let value = match ty {
        ValueType::Sequence(_) => sequence(SequenceMessage::decode(bytes).map_err(decode)?),
        ValueType::Optional(_) => optional(OptionalMessage::decode(bytes).map_err(decode)?),
        ValueType::Map(..) => map(MapMessage::decode(bytes).map_err(decode)?),
        _ => tensor(TensorProto::decode(bytes).map_err(decode)?),
    };
    value.map(Some).map_err(|error| wrong(error.to_string()))
}

/// Why a message is no value.
#[derive(Debug, thiserror::Error)]
enum ValueError {
    #[error(transparent)]
    Tensor(#[from] LiftError),
    #[error(transparent)]
    Keys(#[from] TensorError),
}

fn tensor(message: TensorProto) -> Result<RunValue, ValueError> {
    let name = message.name.clone().unwrap_or_default();
    let tensor = tensor_from_proto(message, &ExternalFiles::default(), &|| name.clone())?;
    Ok(RunValue::Tensor(tensor))
}

fn sequence(message: SequenceMessage) -> Result<RunValue, ValueError> {
    let tensors = message.tensor_values.into_iter().map(tensor);
    let sequences = message.sequence_values.into_iter().map(sequence);
    let maps = message.map_values.into_iter().map(map);
    let optionals = message.optional_values.into_iter().map(optional);
    tensors
        .chain(sequences)
        .chain(maps)
        .chain(optionals)
        .collect::<Result<_, _>>()
        .map(RunValue::Sequence)
}

fn optional(message: OptionalMessage) -> Result<RunValue, ValueError> {
    let inner = if let Some(value) = message.tensor_value {
        Some(tensor(*value)?)
    } else if let Some(value) = message.sequence_value {
        Some(sequence(*value)?)
    } else if let Some(value) = message.map_value {
        Some(map(*value)?)
    } else if let Some(value) = message.optional_value {
        Some(optional(*value)?)
    } else {
        None
    };
    Ok(RunValue::Optional(inner.map(Box::new)))
}

fn map(message: MapMessage) -> Result<RunValue, ValueError> {
    let keys = if message.key_type == Some(DType::String.onnx()) {
        Tensor::from_strings(&[message.string_keys.len() as u64], message.string_keys)
    } else {
        Tensor::from_slice(&[message.keys.len() as u64], &message.keys)
    };
    let values = sequence(message.values.unwrap_or_default())?;
    Ok(RunValue::Map(keys?, Box::new(values)))
}
