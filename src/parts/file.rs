//! The file of a part: a line of JSON that says what it is, and the bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PartsError;
use crate::files::{Draft, read_bytes};

/// Version of the file format.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    part: u32,
    version: String,
    key: String,
    bytes: u64,
    blake3: String,
}

/// Writes the result of a part, all or nothing.
///
/// # Errors
/// [`PartsError::Io`].
pub fn kept(file: &Path, key: &str, bytes: &[u8]) -> Result<(), PartsError> {
    let header = Header {
        part: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key: key.to_owned(),
        bytes: bytes.len() as u64,
        blake3: blake3::hash(bytes).to_hex().to_string(),
    };
    let failed = |source: std::io::Error| PartsError::Io {
        file: file.to_owned(),
        source,
    };
    let mut whole = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
    whole.push(b'\n');
    whole.extend_from_slice(bytes);
    Draft::write_file(file, &whole, true).map_err(failed)
}

/// The result of a part that another process, or an earlier run, has written.
///
/// # Errors
/// A file that is no part, is of another one or of another release, or is damaged.
pub fn inside(file: &Path, key: &str) -> Result<Vec<u8>, PartsError> {
    let mut whole = read_bytes(file).map_err(|source| PartsError::Io {
        file: file.to_owned(),
        source,
    })?;
    let foreign = |reason: String| PartsError::Foreign {
        file: file.to_owned(),
        reason,
    };
    let end = whole.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| foreign("it is no part of a plan".to_owned()))?;
    let bytes = whole.split_off(end + 1);
    let header: Header = serde_json::from_slice(&whole)
        .map_err(|error| foreign(format!("it is no part of a plan: {error}")))?;
    if header.part != FORMAT || header.version != env!("CARGO_PKG_VERSION") {
        return Err(foreign(format!(
            "it was written by release {}, and this is {}; the results of releases do not mix: plan again",
            header.version,
            env!("CARGO_PKG_VERSION")
        )));
    }
    if header.key != key {
        return Err(foreign(format!(
            "it is the result of another task, model or data set: its key is {}, that of the plan is {key}",
            header.key
        )));
    }
    let whole = header.bytes == bytes.len() as u64 && header.blake3 == blake3::hash(&bytes).to_hex().as_str();
    match whole {
        true => Ok(bytes),
        false => Err(foreign(
            "it is damaged: its content does not have the digest that it was written with; remove it and do its task again"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("part");
        kept(&file, "k", b"one\ntwo").unwrap();
        assert_eq!(inside(&file, "k").unwrap(), b"one\ntwo");
        let refused = |key: &str| inside(&file, key).unwrap_err().to_string();
        assert!(refused("other").contains("another task"));
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert!(refused("k").contains("damaged"));
        bytes.pop();
        std::fs::write(&file, &bytes).unwrap();
        assert!(refused("k").contains("damaged"));
        std::fs::write(&file, b"anything\n").unwrap();
        assert!(refused("k").contains("no part"));
        std::fs::write(&file, b"").unwrap();
        assert!(refused("k").contains("no part"));
        let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
        kept(&file, "k", b"x").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(&version, "\"version\":\"0.0.0\"")).unwrap();
        assert!(refused("k").contains("release 0.0.0"));
    }
}
