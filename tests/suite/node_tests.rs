//! The node tests of the onnx package: a model of one operator, inputs and recorded outputs.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use secateur::engine::{RunValue, RunValues};
use secateur::format::{ExternalFiles, ReadOptions, lift, read_proto, tensor_from_proto};
use secateur::ir::{Model, Tensor, ValueType};
use secateur::proto;

/// One test: a folder with `model.onnx` and `test_data_set_*`.
pub(crate) struct NodeTest {
    pub(crate) name: String,
    folder: PathBuf,
}

/// `SequenceProto` of `onnx-data.proto`; only tensors occur in the tests.
#[derive(Clone, PartialEq, prost::Message)]
struct SequenceMessage {
    #[prost(bytes = "bytes", repeated, tag = "3")]
    tensors: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    sequences: Vec<Bytes>,
}

/// `OptionalProto` of `onnx-data.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct OptionalMessage {
    #[prost(bytes = "bytes", optional, tag = "3")]
    tensor: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    sequence: Option<Bytes>,
}

/// Every node test, by name.
pub(crate) fn all() -> Vec<NodeTest> {
    super::corpus::node_tests()
        .into_iter()
        .filter_map(|model| {
            let folder = model.parent()?.to_owned();
            Some(NodeTest {
                name: folder.file_name()?.to_str()?.to_owned(),
                folder,
            })
        })
        .collect()
}

/// A data set: inputs and expected outputs, by name.
pub(crate) struct DataSet {
    pub(crate) inputs: RunValues,
    pub(crate) outputs: RunValues,
}

impl NodeTest {
    /// The model.
    pub(crate) fn model(&self) -> Model {
        let read = read_proto(self.folder.join("model.onnx"), &ReadOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        lift(read.model, &read.origin.external).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Its data sets, in order.
    pub(crate) fn data_sets(&self, model: &Model) -> Vec<DataSet> {
        let inputs: Vec<(String, ValueType)> = model
            .graph
            .inputs()
            .iter()
            .filter_map(|id| model.graph.get(*id)?.outputs().first())
            .map(|value| (value.name.to_string(), value.ty.clone()))
            .collect();
        let outputs: Vec<(String, ValueType)> = model
            .graph
            .outputs()
            .iter()
            .map(|output| (output.name.to_string(), output.ty.clone()))
            .collect();
        (0..)
            .map(|index| self.folder.join(format!("test_data_set_{index}")))
            .take_while(|folder| folder.is_dir())
            .map(|folder| DataSet {
                inputs: read_all(&folder, "input", &inputs),
                outputs: read_all(&folder, "output", &outputs),
            })
            .collect()
    }
}

fn read_all(folder: &Path, stem: &str, declared: &[(String, ValueType)]) -> RunValues {
    let mut values = RunValues::new();
    for (index, (name, ty)) in declared.iter().enumerate() {
        let file = folder.join(format!("{stem}_{index}.pb"));
        let Ok(bytes) = std::fs::read(&file) else { continue };
        values.insert(name.clone(), read_value(Bytes::from(bytes), ty));
    }
    values
}

fn read_value(bytes: Bytes, ty: &ValueType) -> RunValue {
    match ty {
        ValueType::Sequence(element) => {
            let message = SequenceMessage::decode(bytes).unwrap();
            let items = message.tensors.into_iter().chain(message.sequences);
            RunValue::Sequence(items.map(|item| read_value(item, element)).collect())
        }
        ValueType::Optional(element) => {
            let message = OptionalMessage::decode(bytes).unwrap();
            let held = message.tensor.or(message.sequence);
            RunValue::Optional(held.map(|item| Box::new(read_value(item, element))))
        }
        _ => RunValue::Tensor(read_tensor(bytes)),
    }
}

fn read_tensor(bytes: Bytes) -> Tensor {
    let message = proto::TensorProto::decode(bytes).unwrap();
    tensor_from_proto(message, &ExternalFiles::default(), &|| "recorded".to_owned()).unwrap()
}

/// Why a value is not the expected one; floats by the tolerance of ONNX's own runner, everything else exactly, undefined
/// values by position.
pub(crate) fn difference(found: &RunValue, expected: &RunValue) -> Option<String> {
    match (found, expected) {
        (RunValue::Tensor(found), RunValue::Tensor(expected)) => tensor_difference(found, expected),
        (RunValue::Sequence(found), RunValue::Sequence(expected)) => {
            if found.len() != expected.len() {
                return Some(format!("{} elements instead of {}", found.len(), expected.len()));
            }
            found
                .iter()
                .zip(expected)
                .find_map(|(found, expected)| difference(found, expected))
        }
        (RunValue::Optional(None), RunValue::Optional(None)) => None,
        (RunValue::Optional(Some(found)), RunValue::Optional(Some(expected))) => difference(found, expected),
        (found, RunValue::Optional(Some(expected))) => difference(found, expected),
        _ => Some("another kind of value".to_owned()),
    }
}

fn tensor_difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    if found.dtype() != expected.dtype() {
        return Some(format!("{} instead of {}", found.dtype(), expected.dtype()));
    }
    if found.dims() != expected.dims() {
        return Some(format!(
            "shape {:?} instead of {:?}",
            found.dims(),
            expected.dims()
        ));
    }
    if !found.dtype().is_float() {
        return (!found.same_as(expected)).then(|| "other elements".to_owned());
    }
    // Types of few bits have no room for a relative tolerance below their own spacing.
    let (relative, absolute) = match found.dtype().bits() {
        32 | 64 => (1e-3, 1e-5),
        16 => (1e-2, 1e-3),
        _ => (0.0, 0.0),
    };
    let (found, expected) = (found.to_f64().unwrap(), expected.to_f64().unwrap());
    // A sum of large terms that cancel is as exact as its terms.
    let largest = expected
        .iter()
        .filter(|value| value.is_finite())
        .fold(1f64, |largest, value| largest.max(value.abs()));
    let absolute = absolute * largest;
    found
        .iter()
        .zip(&expected)
        .enumerate()
        .find_map(|(index, (found, expected))| {
            let near = (found.is_nan() && expected.is_nan())
                || found == expected
                || (found - expected).abs() <= absolute + relative * expected.abs();
            (!near).then(|| format!("{found} instead of {expected} at {index}"))
        })
}
