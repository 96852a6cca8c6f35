//! The examples of checks, run.

use std::io;
use std::path::Path;

use super::check::{Check, Example, Finding};
use super::run::{Selection, run};
use super::subject::FileFacts;
use super::targets::Target;
use crate::analysis;
use crate::files::Draft;
use crate::format::text::{TextError, parse_model};
use crate::format::{self, ExternalFiles, FormatError, ReadOptions, Source};
use crate::ir::{CheckError, Model, TensorError};
use crate::proto;

/// What became of an example.
#[derive(Debug)]
pub struct Proof {
    /// Which of the check's examples it is.
    pub index: usize,
    /// What the check found; `None` where the model is none.
    pub findings: Vec<Finding>,
    /// Why the example does not hold; `None` where it does.
    pub fault: Option<ExampleFault>,
}

/// Why an example does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ExampleFault {
    /// The check finds something else.
    #[error("found at {found:?}, the example says {finds:?}")]
    Places {
        /// Where the check finds something.
        found: Vec<String>,
        /// Where the example says that it does.
        finds: &'static [&'static str],
    },
    /// The runtime of the example is none.
    #[error("{0}")]
    Target(String),
    /// The text is no model.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The file of the model cannot be written, or not read again.
    #[error(transparent)]
    File(#[from] FormatError),
    /// An initializer does not hold what it declares.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An initializer lies beyond the end of the file beside the model.
    #[error("the file of {bytes} bytes has no room for {tensor:?}")]
    TooShort {
        /// Bytes of the file.
        bytes: u64,
        /// The initializer.
        tensor: String,
    },
    /// The model is not valid.
    #[error(transparent)]
    Invalid(#[from] Box<CheckError>),
}

/// Runs every example of a check: what it finds has to be at the places that the example names, and nowhere else.
pub fn prove(check: &Check) -> Vec<Proof> {
    let proofs = check.examples.iter().enumerate();
    proofs
        .map(|(index, example)| match findings(check, example) {
            Err(fault) => Proof {
                index,
                findings: Vec::new(),
                fault: Some(fault),
            },
            Ok(findings) => {
                let places: Vec<&str> = findings.iter().map(|finding| finding.place.name()).collect();
                let fault = (places != example.finds).then(|| ExampleFault::Places {
                    found: places.iter().map(|place| (*place).to_owned()).collect(),
                    finds: example.finds,
                });
                Proof {
                    index,
                    findings,
                    fault,
                }
            }
        })
        .collect()
}

fn findings(check: &Check, example: &Example) -> Result<Vec<Finding>, ExampleFault> {
    let (model, mut file) = read(example)?;
    if let Some(limit) = example.message_limit {
        file.message_limit = limit;
    }
    let selection = Selection {
        targets: example
            .target
            .map(Target::parse)
            .transpose()
            .map_err(ExampleFault::Target)?
            .into_iter()
            .collect(),
        only: vec![check.code.to_owned()],
        skip: Vec::new(),
    };
    Ok(run(&model, Some(file), &selection))
}

/// The model of an example, read as a file is.
fn read(example: &Example) -> Result<(Model, FileFacts), ExampleFault> {
    let mut message = parse_model(example.model)?;
    let folder = tempfile::tempdir().map_err(|source| written(&std::env::temp_dir(), source))?;
    let source = match example.external {
        None => Source::Bytes(format::encode_to_bytes(&message)),
        Some((bytes, tensors)) => {
            let data = outside(&mut message, bytes, tensors)?;
            let path = folder.path().join("model.onnx");
            let model = format::encode_to_bytes(&message);
            let beside = folder.path().join(DATA);
            Draft::write_file(&beside, &data, false).map_err(|source| written(&beside, source))?;
            Draft::write_file(&path, &model, false).map_err(|source| written(&path, source))?;
            Source::Path(path)
        }
    };
    let decoded = format::read_proto(source, &ReadOptions::default())?;
    let mut model = format::lift_noting(decoded.model, &decoded.origin.external, &mut Vec::new())
        .map_err(FormatError::from)?;
    analysis::adopt(&mut model);
    if let Err(errors) = analysis::check(&model)
        && let Some(first) = errors.into_iter().next()
    {
        return Err(Box::new(first).into());
    }
    Ok((model, FileFacts::of(&decoded.origin)))
}

/// The file beside the model.
const DATA: &str = "model.data";

fn written(path: &Path, source: io::Error) -> FormatError {
    FormatError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Moves initializers of a message into the content of a file.
fn outside(
    message: &mut proto::ModelProto,
    bytes: u64,
    tensors: &[(&str, u64)],
) -> Result<Vec<u8>, ExampleFault> {
    let mut data = vec![0u8; bytes as usize];
    let initializers = message.graph.as_mut().map(|graph| &mut graph.initializer);
    for tensor in initializers.into_iter().flatten() {
        let name = tensor.name.clone().unwrap_or_default();
        let Some((_, offset)) = tensors.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let held = format::tensor_from_proto(tensor.clone(), &ExternalFiles::default(), &|| name.clone())
            .map_err(FormatError::from)?;
        let raw = held.raw()?;
        let start = *offset as usize;
        let place = data.get_mut(start..start.saturating_add(raw.len()));
        let place = place.ok_or_else(|| ExampleFault::TooShort {
            bytes,
            tensor: name.clone(),
        })?;
        place.copy_from_slice(&raw);
        let entry = |key: &str, value: String| proto::StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        *tensor = proto::TensorProto {
            name: tensor.name.clone(),
            dims: tensor.dims.clone(),
            data_type: tensor.data_type,
            data_location: Some(proto::tensor_proto::DataLocation::External as i32),
            external_data: vec![
                entry("location", DATA.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", raw.len().to_string()),
            ],
            ..proto::TensorProto::default()
        };
    }
    Ok(data)
}
