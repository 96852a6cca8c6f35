//! Where a model comes from, as its metadata say it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::definition::Pipeline;
use super::gates::Weight;
use super::weigh::weigh;
use crate::format::{Origin, ToProtoError};
use crate::ir::Model;
use crate::proto::StringStringEntryProto;

/// Keys of the record.
const RECORD: [&str; 3] = ["secateur.version", "secateur.pipeline", "secateur.input"];
/// From how many bytes on a model is hashed beside the steps. A smaller one takes less time than handing it over.
const BESIDE_FROM: u64 = 1 << 18;
/// Bytes between two looks at whether a digest is still wanted.
const PIECE: usize = 8 << 20;

/// The digest of a model that steps run on, found beside them where a thread has time. Hashing reads the whole file, which steps that find
/// nothing to do may never need: dropped, it ends.
pub(super) struct InputDigest<'a> {
    origin: &'a Origin,
    /// `None` in it was given up.
    found: Arc<OnceLock<Option<String>>>,
    dropped: Arc<AtomicBool>,
}

impl<'a> InputDigest<'a> {
    /// Begins, where there is something to gain.
    pub(super) fn begin(origin: &'a Origin) -> Self {
        let (found, dropped) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let bytes = origin.bytes.len() as u64 + origin.external.bytes();
        if bytes >= BESIDE_FROM && rayon::current_num_threads() > 1 {
            // Whoever comes first does it: no thread waits for one that has not begun.
            let (origin, found, dropped) = (origin.clone(), Arc::clone(&found), Arc::clone(&dropped));
            rayon::spawn(move || {
                found.get_or_init(|| digest_unless(&origin, &dropped));
            });
        }
        Self {
            origin,
            found,
            dropped,
        }
    }

    fn get(&self) -> String {
        let found = self.found.get_or_init(|| Some(digest(self.origin)));
        found.clone().unwrap_or_else(|| digest(self.origin))
    }
}

impl Drop for InputDigest<'_> {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// Writes into the metadata where a model comes from, unless that alone makes the file larger than the input. Answers what the result
/// weighs, with its multiply-accumulates if they are asked for.
pub(super) fn recorded(
    model: &mut Model,
    (before, macs): (Weight, bool),
    pipeline: &Pipeline,
    input: &InputDigest<'_>,
) -> Result<Weight, ToProtoError> {
    record(model, pipeline, input);
    let with = weigh(model, macs)?;
    if with.bytes <= before.bytes {
        return Ok(with);
    }
    let metadata = model.metadata.clone();
    let own = |entry: &StringStringEntryProto| {
        let key = entry.key.as_deref();
        key.is_some_and(|key| RECORD.contains(&key))
    };
    model.metadata.retain(|entry| !own(entry));
    let without = weigh(model, macs)?;
    if without.bytes <= before.bytes {
        return Ok(without);
    }
    model.metadata = metadata;
    Ok(with)
}

/// Writes into the metadata where a model comes from.
fn record(model: &mut Model, pipeline: &Pipeline, input: &InputDigest<'_>) {
    let values = [
        env!("CARGO_PKG_VERSION").to_owned(),
        pipeline.digest(),
        input.get(),
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
    digest_unless(origin, &AtomicBool::new(false)).unwrap_or_default()
}

/// The same; `None` once it is not wanted any more.
fn digest_unless(origin: &Origin, dropped: &AtomicBool) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let mut update = |bytes: &[u8]| {
        bytes.chunks(PIECE).all(|piece| {
            hasher.update(piece);
            !dropped.load(Ordering::Relaxed)
        })
    };
    let mut whole = update(&origin.bytes);
    for (location, file) in origin.external.iter() {
        whole = whole && update(location.as_bytes()) && update(&file.bytes);
    }
    whole.then(|| hasher.finalize().to_hex().to_string())
}
