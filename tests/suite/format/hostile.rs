//! Bytes that are no model, or another one than they seem: an error or a valid model, never a panic.

use bytes::Bytes;
use secateur::format::{self, FormatError, Limits, ReadOptions, encode_to_bytes, read_proto};

use super::samples;
use crate::corpus;

/// Reads into the IR and back; the warnings.
fn read(bytes: impl Into<Bytes>) -> Result<Vec<String>, FormatError> {
    let loaded = format::read(bytes.into(), &ReadOptions::default())?;
    let message = format::model_to_proto(&loaded.model, &loaded.origin.external)?;
    assert!(!format::encode(&message).is_empty());
    Ok(loaded
        .warnings
        .iter()
        .map(|warning| format!("{} {}", warning.kind.code(), warning.at))
        .collect())
}

#[test]
fn every_prefix_is_an_error_or_a_model() {
    let mut seeds = vec![encode_to_bytes(&samples::rich())];
    let small: Vec<Bytes> = corpus::node_tests()
        .iter()
        .step_by(190)
        .map(|path| Bytes::from(std::fs::read(path).unwrap()))
        .filter(|bytes| bytes.len() < 20_000)
        .collect();
    seeds.extend(small);
    let (mut prefixes, mut accepted) = (0u64, 0u64);
    for seed in &seeds {
        for length in 0..seed.len() {
            prefixes += 1;
            accepted += u64::from(read(seed.slice(..length)).is_ok());
        }
    }
    println!("{prefixes} prefixes: {accepted} are models");
    corpus::ran(seeds.len(), 9);
    // A model cut between two of its top-level fields is still one; there are few such places.
    assert!(accepted * 10 < prefixes);
}

#[test]
fn every_bit_flip_is_an_error_or_a_model() {
    let seed = encode_to_bytes(&samples::rich());
    let (mut accepted, mut refused, mut warned) = (0, 0, 0);
    for bit in 0..seed.len() * 8 {
        let mut bytes = seed.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(bytes) {
            Ok(warnings) if warnings.is_empty() => accepted += 1,
            Ok(_) => warned += 1,
            Err(error) => {
                assert!(!error.code().is_empty() && !error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!(
        "{} bit flips: {accepted} models, {warned} with warnings, {refused} refused",
        seed.len() * 8
    );
    assert!(refused > 0 && warned > 0 && accepted > 0);
}

/// The codes of `fixtures/malice` that reading into the IR gives; the others are for [`secateur::ir::check`] and the operator
/// table.
const READING: [&str; 23] = [
    "malformed-protobuf",
    "too-deep",
    "missing-graph",
    "negative-dim",
    "dims-overflow",
    "tensor-size",
    "tensor-data-field",
    "unknown-dtype",
    "missing-name",
    "duplicate-value",
    "undefined-value",
    "missing-output",
    "attribute-type",
    "external-parent",
    "external-absolute",
    "external-outside",
    "external-invalid-location",
    "external-no-location",
    "external-not-a-file",
    "external-missing",
    "external-range",
    "external-key",
    "external-checksum",
];

#[test]
fn each_malicious_file_gets_its_code() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malice");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let (mut wrong, mut checked, mut valid) = (Vec::new(), 0, 0);
    for line in table.lines().skip(1) {
        let [file, expected, _] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let found = format::read(folder.join(file), &ReadOptions::default())
            .map(drop)
            .map_err(|error| error.code());
        match found {
            Ok(()) if expected == "ok" => valid += 1,
            Err(code) if code == expected => checked += 1,
            // These two have the code of a neighbour, but only the operator table and the scopes around tell.
            Ok(()) if ["attribute-wrong-type.onnx", "body-shadows-outer.onnx"].contains(&file) => {}
            Ok(()) if !READING.contains(&expected) => {}
            other => wrong.push(format!("{file}: {other:?} instead of {expected}")),
        }
    }
    println!("fixtures/malice: {checked} refused with their code, {valid} valid ones read");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 40 && valid > 5);
}

#[test]
fn unknown_fields_are_named_and_refused_under_strict() {
    let mut bytes = encode_to_bytes(&samples::rich()).to_vec();
    // ModelProto field 99, a string.
    bytes.extend_from_slice(&[0x9a, 0x06, 2, b'h', b'i']);
    assert_eq!(read(bytes.clone()).unwrap(), ["unknown-field ModelProto"]);
    let strict = ReadOptions {
        strict: true,
        ..ReadOptions::default()
    };
    let error = read_proto(Bytes::from(bytes), &strict).unwrap_err();
    assert_eq!(error.code(), "unknown-field");
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn limits_hold_before_memory_is_taken() {
    // Four million empty nodes in 8 MB would take a gigabyte of memory.
    let nodes = [0x0a, 0x00].repeat(4 << 20);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    assert_eq!(read(bytes).unwrap_err().code(), "too-many-messages");
    // A length that would overflow an addition.
    assert_eq!(
        read(vec![
            0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
        ])
        .unwrap_err()
        .code(),
        "malformed-protobuf"
    );
}

#[test]
fn a_stream_is_bounded_and_only_files_and_pipes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        read_proto(directory.path(), &ReadOptions::default())
            .unwrap_err()
            .code(),
        "not-a-file"
    );
    let missing = read_proto(directory.path().join("missing.onnx"), &ReadOptions::default()).unwrap_err();
    assert_eq!(missing.code(), "read-failed");
    assert!(missing.file().is_some());
    #[cfg(unix)]
    {
        let zeros = read_proto(std::path::Path::new("/dev/zero"), &ReadOptions::default()).unwrap_err();
        assert_eq!(zeros.code(), "not-a-file");
    }
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        corpus::skip("no mkfifo");
        return;
    }
    let send = |content: Vec<u8>| {
        let pipe = pipe.clone();
        // A reader that stops early closes the pipe; the writer's error is of no interest.
        std::thread::spawn(move || drop(std::fs::write(pipe, content)))
    };
    let model = encode_to_bytes(&samples::rich());
    let writer = send(model.to_vec());
    assert_eq!(
        read_proto(&pipe, &ReadOptions::default()).unwrap().origin.bytes,
        model
    );
    writer.join().unwrap();
    let writer = send(vec![0; 100]);
    let limits = Limits {
        stream_bytes: 10,
        ..Limits::default()
    };
    let error = read_proto(
        &pipe,
        &ReadOptions {
            limits,
            ..ReadOptions::default()
        },
    )
    .unwrap_err();
    assert_eq!(error.code(), "stream-too-long");
    writer.join().unwrap();
}
