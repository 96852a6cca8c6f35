//! Reading whole files, pipes included, without taking more memory than was agreed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest text that is read: pipelines, rules, descriptions, tables of labels, histories.
pub const LARGEST_TEXT: u64 = 256 << 20;
/// The most that is read from a pipe or a device, which may never end: the most that one protobuf message may have.
pub const LARGEST_STREAM: u64 = i32::MAX as u64;

/// A whole file; a pipe is read to its end.
///
/// # Errors
/// When it cannot be read, is a folder, or is a pipe that gives more than [`LARGEST_STREAM`] bytes.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    bounded(path, u64::MAX, LARGEST_STREAM)
}

/// A whole text of at most [`LARGEST_TEXT`] bytes.
///
/// # Errors
/// As [`read_bytes`], and when it is longer or not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(bounded(path, LARGEST_TEXT, LARGEST_TEXT)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// A whole file of at most `file` bytes, or what a pipe gives, at most `stream`.
fn bounded(path: &Path, file: u64, stream: u64) -> io::Result<Vec<u8>> {
    let mut opened = File::open(path)?;
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let limit = if metadata.is_file() { file } else { stream };
    let too_long = || {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {limit} bytes"),
        )
    };
    if metadata.len() > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    opened
        .by_ref()
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_long());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(read_text(&path).unwrap(), "twelve bytes");
        assert_eq!(bounded(&path, 12, 0).unwrap(), read_bytes(&path).unwrap());
        let error = bounded(&path, 11, 99).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("more than 11 bytes"), "{error}");
        assert!(read_text(folder.path()).is_err());
        #[cfg(unix)]
        assert!(bounded(Path::new("/dev/zero"), 1 << 20, 1 << 16).is_err());
    }
}
