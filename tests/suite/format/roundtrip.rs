//! What is read is what is written, and a second decoder agrees on every field.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use secateur::format::{FormatError, ReadOptions, encode, encode_to_bytes, model_to_proto, read, read_proto};
use secateur::proto;

use super::samples;
use crate::corpus;

/// The decoder that rust-protobuf generates from the same schema.
#[allow(warnings, clippy::all)]
mod second {
    include!(concat!(env!("OUT_DIR"), "/second/onnx_body.rs"));
}

fn all_models() -> Vec<PathBuf> {
    [corpus::models(), corpus::architectures(), corpus::node_tests()].concat()
}

#[test]
fn every_model_is_written_back_byte_for_byte() {
    let mut different = Vec::new();
    let models = all_models();
    for path in &models {
        let decoded =
            read_proto(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            decoded.warnings.is_empty(),
            "{}: {:?}",
            path.display(),
            decoded.warnings
        );
        if !is(encode(&decoded.model).into_pieces(), &decoded.origin.bytes) {
            different.push(path.clone());
        }
    }
    corpus::ran(models.len(), 1900);
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn every_model_survives_the_ir_byte_for_byte() {
    let mut different = Vec::new();
    let models = all_models();
    for path in &models {
        let (message, original) =
            through_ir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if !is(encode(&message).into_pieces(), &original) {
            different.push(path.clone());
        }
    }
    corpus::ran(models.len(), 1900);
    assert!(different.is_empty(), "{different:?}");
}

fn through_ir(path: &Path) -> Result<(proto::ModelProto, Bytes), FormatError> {
    let loaded = read(path, &ReadOptions::default())?;
    let message = model_to_proto(&loaded.model, &loaded.origin.external)?;
    Ok((message, loaded.origin.bytes))
}

/// Whether the pieces together are `bytes`.
fn is(pieces: Vec<Bytes>, bytes: &Bytes) -> bool {
    let mut rest = bytes.clone();
    let same = pieces
        .iter()
        .all(|piece| piece.len() <= rest.len() && rest.split_to(piece.len()) == *piece);
    same && rest.is_empty()
}

#[test]
fn a_model_with_something_of_everything_round_trips() {
    let bytes = encode_to_bytes(&samples::rich());
    assert!((800..2000).contains(&bytes.len()), "{}", bytes.len());
    let decoded = read_proto(
        bytes.clone(),
        &ReadOptions {
            strict: true,
            ..ReadOptions::default()
        },
    )
    .unwrap();
    assert!(is(encode(&decoded.model).into_pieces(), &bytes));
    let loaded = read(bytes.clone(), &ReadOptions::default()).unwrap();
    let message = model_to_proto(&loaded.model, &loaded.origin.external).unwrap();
    assert!(is(encode(&message).into_pieces(), &bytes));
}

#[test]
fn decoding_and_encoding_share_the_tensors() {
    let weights = vec![3u8; 1 << 20];
    let bytes = encode_to_bytes(&samples::model(vec![samples::tensor("w", &weights)]));
    let decoded = read_proto(bytes.clone(), &ReadOptions::default()).unwrap();
    let within = |part: &Bytes| bytes.as_ptr_range().contains(&part.as_ptr());
    assert!(within(
        decoded.model.graph.as_ref().unwrap().initializer[0]
            .raw_data
            .as_ref()
            .unwrap()
    ));
    let pieces = encode(&decoded.model).into_pieces();
    assert!(
        pieces
            .iter()
            .filter(|piece| piece.len() >= weights.len())
            .all(within)
    );
}

#[test]
fn the_second_decoder_agrees_on_every_field() {
    let models = all_models();
    let check = |bytes: Bytes, path: &Path| {
        let first = proto::ModelProto::decode(bytes.clone()).unwrap();
        let second = second::ModelProto::parse_from_bytes(&bytes).unwrap();
        // Bytes are compared instead of messages, because a NaN attribute is unequal to itself.
        let from_first = encode_to_bytes(&first);
        let from_second = second.write_to_bytes().unwrap();
        let crossed = proto::ModelProto::decode(from_second.as_slice()).unwrap();
        assert_eq!(encode_to_bytes(&crossed), from_first, "{}", path.display());
        let crossed = second::ModelProto::parse_from_bytes(&from_first).unwrap();
        assert_eq!(
            crossed.write_to_bytes().unwrap(),
            from_second,
            "{}",
            path.display()
        );
    };
    check(encode_to_bytes(&samples::rich()), Path::new("rich"));
    let mut checked = 0;
    for path in &models {
        // The second decoder copies; the largest models add time and no new fields.
        if path.metadata().unwrap().len() < 64 << 20 {
            check(Bytes::from(std::fs::read(path).unwrap()), path);
            checked += 1;
        }
    }
    corpus::ran(checked, 1900);
}
