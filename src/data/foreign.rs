//! Files of other formats that are taken for data or weights by mistake, told by their first bytes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes at each end of a file that are looked at: names of a zip archive's entries stand in both.
const ENDS: u64 = 1 << 16;

/// What a file really is and what to do with it; `None` for a file of no format that is known here.
pub(super) fn what_it_is(path: &Path) -> Option<&'static str> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut start = Vec::new();
    file.by_ref().take(ENDS).read_to_end(&mut start).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(ENDS))).ok()?;
    let mut end = Vec::new();
    file.take(ENDS).read_to_end(&mut end).ok()?;
    let has = |name: &[u8]| {
        let within = |bytes: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        within(&start) || within(&end)
    };
    let begins = |magic: &[u8]| start.starts_with(magic);
    Some(if begins(b"PK\x03\x04") && has(b"data.pkl") {
        "it is a PyTorch checkpoint: pickled Python objects, which are not read here; in Python write its tensors with \
         safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"weights.safetensors\"), or arrays with numpy.savez"
    } else if begins(&[0x80]) && start.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
        "it is a Python pickle (an old PyTorch checkpoint is one too), which is not read here; in Python write its arrays with \
         numpy.savez, or its tensors with safetensors.torch.save_file"
    } else if begins(b"\x89HDF\r\n\x1a\n") {
        "it is an HDF5 file (Keras, h5py), which is not read here; in Python write its arrays with numpy.savez"
    } else if begins(b"\x93NUMPY") {
        "it is a NumPy array; give it the ending .npy"
    } else if begins(b"PK\x03\x04") && has(b".npy") {
        "it is a NumPy archive; give it the ending .npz"
    } else if begins(b"\xff\xd8\xff")
        || begins(b"\x89PNG\r\n\x1a\n")
        || begins(b"RIFF") && start.get(8..12) == Some(b"WEBP")
    {
        "it is a single image; give the folder that it is in"
    } else if begins(b"PAR1") {
        "it is a Parquet file, which is not read here; in Python write its columns with numpy.savez"
    } else if begins(b"ARROW1") {
        "it is an Arrow file, which is not read here; in Python write its columns with numpy.savez"
    } else if start.get(8) == Some(&b'{')
        && start.get(..8).is_some_and(|size| {
            size.iter()
                .rev()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
                < length
        })
    {
        "it is a safetensors file: weights, not samples"
    } else {
        return None;
    })
}

/// What is read instead, and what the file is where that is known.
pub(super) fn described(path: &Path, expected: &str) -> String {
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    match what_it_is(path).filter(|what| !what.ends_with(&format!(".{ending}"))) {
        Some(what) => format!("{expected}; {what}"),
        None => expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.bin");
        for (bytes, word) in [
            (&b"PK\x03\x04\x00\x00archive/data.pkl"[..], "PyTorch checkpoint"),
            (b"\x80\x02}q\x00.", "pickle"),
            (b"\x80\x04\x95", "pickle"),
            (b"\x93NUMPY\x01\x00", ".npy"),
            (b"PK\x03\x04\x00\x00x.npy", ".npz"),
            (b"\xff\xd8\xff\xe0", "image"),
            (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(
                what_it_is(&path).is_some_and(|found| found.contains(word)),
                "{word}"
            );
        }
        for bytes in [&b""[..], b"\x80", b"file\tlabel\n", b"PK\x03\x04other"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(what_it_is(&path), None);
        }
    }
}
