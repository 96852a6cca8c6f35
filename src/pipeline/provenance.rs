//! Where a model comes from, as its metadata say it.

use std::sync::{Arc, OnceLock};

use super::definition::Pipeline;
use crate::format::Origin;
use crate::ir::Model;
use crate::proto::StringStringEntryProto;

/// From how many bytes on a model is hashed beside the steps. A smaller one takes less time than handing it over.
const BESIDE_FROM: u64 = 1 << 18;
/// Up to how many: hashing reads the whole file, which steps that find nothing to do may never need.
const BESIDE_TO: u64 = 1 << 28;

/// The digest of a model that steps run on, found beside them where a thread has time.
pub(super) struct InputDigest<'a> {
    origin: &'a Origin,
    found: Arc<OnceLock<String>>,
}

impl<'a> InputDigest<'a> {
    /// Begins, where there is something to gain.
    pub(super) fn begin(origin: &'a Origin) -> Self {
        let found = Arc::new(OnceLock::new());
        let bytes = origin.bytes.len() as u64 + origin.external.bytes();
        if (BESIDE_FROM..=BESIDE_TO).contains(&bytes) && rayon::current_num_threads() > 1 {
            // Whoever comes first does it: no thread waits for one that has not begun.
            let (origin, found) = (origin.clone(), Arc::clone(&found));
            rayon::spawn(move || {
                found.get_or_init(|| digest(&origin));
            });
        }
        Self { origin, found }
    }

    fn get(&self) -> String {
        self.found.get_or_init(|| digest(self.origin)).clone()
    }
}

/// Writes into the metadata where a model comes from.
pub(super) fn record(model: &mut Model, pipeline: &Pipeline, input: &InputDigest<'_>) {
    let entries = [
        ("secateur.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("secateur.pipeline", pipeline.digest()),
        ("secateur.input", input.get()),
    ];
    for (key, value) in entries {
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
