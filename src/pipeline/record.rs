//! The record of where a model comes from, in its metadata.

use super::definition::Pipeline;
use super::gates::Weight;
use super::weigh::weigh;
use crate::format::{Origin, ToProtoError};
use crate::ir::Model;
use crate::proto::StringStringEntryProto;

/// Keys of the record.
const RECORD: [&str; 3] = ["secateur.version", "secateur.pipeline", "secateur.input"];

/// Writes into the metadata where a model comes from, unless that alone makes the file larger than the input. Answers what the result weighs.
pub(super) fn recorded(
    model: &mut Model,
    before: Weight,
    pipeline: &Pipeline,
    origin: &Origin,
) -> Result<Weight, ToProtoError> {
    let own = |entry: &StringStringEntryProto| {
        let key = entry.key.as_deref();
        key.is_some_and(|key| RECORD.contains(&key))
    };
    record(model, pipeline, origin);
    let with = weigh(model, true)?;
    if with.bytes <= before.bytes {
        return Ok(with);
    }
    let metadata = model.metadata.clone();
    model.metadata.retain(|entry| !own(entry));
    let without = weigh(model, true)?;
    if without.bytes <= before.bytes {
        return Ok(without);
    }
    model.metadata = metadata;
    Ok(with)
}

/// Writes into the metadata where a model comes from.
fn record(model: &mut Model, pipeline: &Pipeline, origin: &Origin) {
    let values = [
        env!("CARGO_PKG_VERSION").to_owned(),
        pipeline.digest(),
        digest(origin),
    ];
    for (key, value) in RECORD.into_iter().zip(values) {
        match model
            .metadata
            .iter_mut()
            .find(|entry| entry.key.as_deref() == Some(key))
        {
            Some(entry) => entry.value = Some(value),
            None => model.metadata.push(StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value),
            }),
        }
    }
}

/// The digest of a model file and its external data files, in the order of their locations.
pub fn digest(origin: &Origin) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&origin.bytes);
    for (location, file) in origin.external.iter() {
        hasher.update(location.as_bytes());
        hasher.update(&file.bytes);
    }
    hasher.finalize().to_hex().to_string()
}
