//! The record of where a model comes from, in its metadata.

use std::sync::atomic::{AtomicBool, Ordering};

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
    digest: String,
) -> Result<Weight, ToProtoError> {
    let own = |entry: &StringStringEntryProto| {
        let key = entry.key.as_deref();
        key.is_some_and(|key| RECORD.contains(&key))
    };
    record(model, pipeline, digest);
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
fn record(model: &mut Model, pipeline: &Pipeline, digest: String) {
    let values = [env!("CARGO_PKG_VERSION").to_owned(), pipeline.digest(), digest];
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
    Hashing::default().digest(origin).unwrap_or_default()
}

/// A digest that is computed while other work goes on, which may find out that nobody needs it.
#[derive(Default)]
pub(super) struct Hashing {
    stopped: AtomicBool,
}

impl Hashing {
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// See [`digest`]; `None` once it is stopped.
    pub(super) fn digest(&self, origin: &Origin) -> Option<String> {
        /// Bytes between two looks at whether the digest is still wanted.
        const PIECE: usize = 8 << 20;
        let mut hasher = blake3::Hasher::new();
        let mut update = |bytes: &[u8]| {
            bytes.chunks(PIECE).all(|piece| {
                hasher.update(piece);
                !self.stopped.load(Ordering::Relaxed)
            })
        };
        let mut whole = update(&origin.bytes);
        for (location, file) in origin.external.iter() {
            whole = whole && update(location.as_bytes()) && update(&file.bytes);
        }
        whole.then(|| hasher.finalize().to_hex().to_string())
    }
}
