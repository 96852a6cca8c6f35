//! The examples of checks, run.

use super::check::{Check, Example, Finding};
use super::run::{Selection, run};
use super::subject::FileFacts;
use super::targets::Target;
use crate::analysis;
use crate::files::Draft;
use crate::format::text::parse_model;
use crate::format::{self, ExternalFiles, ReadOptions, Source};
use crate::ir::Model;
use crate::proto;

/// What became of an example.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Which of the check's examples it is.
    pub index: usize,
    /// What the check found; `None` where the model is none.
    pub findings: Vec<Finding>,
    /// Why the example does not hold; `None` where it does.
    pub fault: Option<String>,
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
                let fault = (places != example.finds)
                    .then(|| format!("found at {places:?}, the example says {:?}", example.finds));
                Proof {
                    index,
                    findings,
                    fault,
                }
            }
        })
        .collect()
}

fn findings(check: &Check, example: &Example) -> Result<Vec<Finding>, String> {
    let (model, mut file) = read(example)?;
    if let Some(limit) = example.message_limit {
        file.message_limit = limit;
    }
    let selection = Selection {
        targets: example
            .target
            .map(Target::parse)
            .transpose()?
            .into_iter()
            .collect(),
        only: vec![check.code.to_owned()],
        skip: Vec::new(),
    };
    Ok(run(&model, Some(file), &selection))
}

/// The model of an example, read as a file is.
fn read(example: &Example) -> Result<(Model, FileFacts), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut message = parse_model(example.model).map_err(|error| text(&error))?;
    let folder = tempfile::tempdir().map_err(|error| text(&error))?;
    let source = match example.external {
        None => Source::Bytes(format::encode_to_bytes(&message)),
        Some((bytes, tensors)) => {
            let data = outside(&mut message, bytes, tensors)?;
            let path = folder.path().join("model.onnx");
            let model = format::encode_to_bytes(&message);
            Draft::write_file(&folder.path().join(DATA), &data, false).map_err(|error| text(&error))?;
            Draft::write_file(&path, &model, false).map_err(|error| text(&error))?;
            Source::Path(path)
        }
    };
    let decoded = format::read_proto(source, &ReadOptions::default()).map_err(|error| text(&error))?;
    let mut model = format::lift_noting(decoded.model, &decoded.origin.external, &mut Vec::new())
        .map_err(|error| text(&error))?;
    analysis::adopt(&mut model);
    if let Err(errors) = analysis::check(&model) {
        return Err(errors.first().map_or_else(String::new, |error| text(error)));
    }
    Ok((model, FileFacts::of(&decoded.origin)))
}

/// The file beside the model.
const DATA: &str = "model.data";

/// Moves initializers of a message into the content of a file.
fn outside(message: &mut proto::ModelProto, bytes: u64, tensors: &[(&str, u64)]) -> Result<Vec<u8>, String> {
    let mut data = vec![0u8; usize::try_from(bytes).map_err(|error| error.to_string())?];
    let initializers = message.graph.as_mut().map(|graph| &mut graph.initializer);
    for tensor in initializers.into_iter().flatten() {
        let name = tensor.name.clone().unwrap_or_default();
        let Some((_, offset)) = tensors.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let held = format::tensor_from_proto(tensor.clone(), &ExternalFiles::default(), &|| name.clone())
            .map_err(|error| error.to_string())?;
        let raw = held.raw().map_err(|error| error.to_string())?;
        let start = usize::try_from(*offset).map_err(|error| error.to_string())?;
        let place = data.get_mut(start..start + raw.len());
        place.ok_or("the file is too short")?.copy_from_slice(&raw);
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
