//! Models in containers: what comes out is what went in, and nothing else ever does.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use secateur::format::container::{Base, Container, PackOptions, pack};
use secateur::format::{FormatError, Origin, ReadOptions, read_proto};

use super::samples::{model, tensor};
use crate::corpus;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn origin(path: &Path) -> Origin {
    read_proto(path, &ReadOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .origin
}

/// The container's bytes.
fn packed(origin: &Origin, options: &PackOptions) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.sct");
    let said = pack(origin, &target, options).unwrap();
    let bytes = std::fs::read(target).unwrap();
    assert_eq!(said.bytes, bytes.len() as u64);
    bytes
}

fn fast() -> PackOptions {
    PackOptions {
        fast: true,
        ..PackOptions::default()
    }
}

fn assert_same(restored: &Origin, origin: &Origin, name: &str) {
    assert!(restored.bytes == origin.bytes, "{name}");
    let files = |origin: &Origin| -> Vec<(String, Bytes)> {
        let files = origin.external.iter();
        files
            .map(|(location, file)| (location.to_owned(), file.bytes.clone()))
            .collect()
    };
    assert!(files(restored) == files(origin), "{name}: external data");
}

#[test]
fn every_model_comes_back_byte_for_byte() {
    let fixtures: Vec<PathBuf> = std::fs::read_dir(fixture(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "onnx"))
        .collect();
    assert!(fixtures.len() > 10);
    // Without optimization this takes some microseconds a bit: the rest is packed by tests/cross/container.py.
    let few = corpus::node_tests().into_iter().step_by(40).collect();
    let small = |path: &PathBuf| path.metadata().unwrap().len() < 60_000;
    let models = [fixtures, corpus::models(), few].concat();
    let models: Vec<PathBuf> = models.into_iter().filter(small).collect();
    for (at, path) in models.iter().enumerate() {
        let origin = origin(path);
        let bytes = packed(
            &origin,
            &if at % 2 == 0 {
                fast()
            } else {
                PackOptions::default()
            },
        );
        let restored = read_proto(Bytes::from(bytes), &ReadOptions::default()).unwrap();
        assert_same(&restored.origin, &origin, &path.display().to_string());
    }
    corpus::ran(models.len(), 50);
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let origin = origin(&fixture("digits_cnn.onnx"));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| packed(&origin, &PackOptions::default()))
    };
    assert_eq!(on(1), on(5));
}

#[test]
fn one_tensor_is_read_by_itself() {
    let values: Vec<u8> = (0..5000u32)
        .flat_map(|at| (at as f32 / 7.0).to_le_bytes())
        .collect();
    let bytes =
        secateur::format::encode_to_bytes(&model(vec![tensor("v", &values), tensor("w", &[7; 4000])]));
    let origin = read_proto(bytes, &ReadOptions::default()).unwrap().origin;
    let mut bytes = packed(&origin, &PackOptions::default());
    let container = Container::parse(Bytes::from(bytes.clone())).unwrap();
    let names: Vec<String> = container
        .tensors()
        .into_iter()
        .map(|tensor| tensor.name)
        .collect();
    assert_eq!(names, ["v", "w"]);
    assert_eq!(container.tensor("v", None, None).unwrap(), values);
    let missing = container.tensor("x", None, None).unwrap_err();
    assert_eq!(
        (missing.code(), missing.value()),
        ("container-no-tensor", Some("x"))
    );
    // The first block is damaged: the other tensor is not.
    bytes[60] ^= 4;
    let container = Container::parse(Bytes::from(bytes)).unwrap();
    assert_eq!(container.tensor("w", None, None).unwrap(), [7; 4000]);
    let damaged = container.tensor("v", None, None).unwrap_err();
    assert_eq!(
        (damaged.code(), damaged.value()),
        ("container-damaged", Some("v"))
    );
}

#[test]
fn a_base_makes_what_is_known_small_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("digits_cnn.onnx"), at("base.onnx")).unwrap();
    let original = origin(&at("base.onnx"));
    let mut tuned = original.bytes.to_vec();
    let alone = packed(&original, &PackOptions::default());
    let container = Container::parse(Bytes::from(alone.clone())).unwrap();
    let weight = container
        .tensors()
        .into_iter()
        .max_by_key(|tensor| tensor.bytes)
        .unwrap();
    let values = container.tensor(&weight.name, None, None).unwrap();
    let place = tuned
        .windows(values.len())
        .position(|window| window == values)
        .unwrap();
    // Every other weight is set to zero, the rest moves in its last bits.
    for (at, value) in tuned[place..place + values.len()].chunks_mut(4).enumerate() {
        match at % 2 {
            0 => value.fill(0),
            _ => value[0] ^= 3,
        }
    }
    std::fs::write(at("tuned.onnx"), &tuned).unwrap();
    let base = Base::open(&at("base.onnx")).unwrap();
    let options = PackOptions {
        base: Some(base),
        ..PackOptions::default()
    };
    let bytes = packed(&origin(&at("tuned.onnx")), &options);
    assert!(bytes.len() * 4 < alone.len(), "{} {}", bytes.len(), alone.len());
    std::fs::write(at("tuned.sct"), &bytes).unwrap();
    let read = |base: Option<&str>| {
        let options = ReadOptions {
            base: base.map(at),
            ..ReadOptions::default()
        };
        read_proto(at("tuned.sct"), &options).map(|decoded| decoded.origin.bytes)
    };
    assert_eq!(read(None).unwrap(), tuned);
    assert_eq!(read(Some("base.onnx")).unwrap(), tuned);
    let wrong = read(Some("tuned.onnx")).unwrap_err();
    assert_eq!(wrong.code(), "container-base-other");
    assert!(wrong.to_string().contains("base.onnx"), "{wrong}");
    std::fs::rename(at("base.onnx"), at("elsewhere.onnx")).unwrap();
    assert_eq!(read(None).unwrap_err().code(), "container-base-missing");
    assert_eq!(read(Some("elsewhere.onnx")).unwrap(), tuned);
}

#[test]
fn a_container_that_is_cut_anywhere_is_refused() {
    let bytes = packed(
        &origin(&fixture("sk_logreg_pipeline_iris.onnx")),
        &PackOptions::default(),
    );
    for length in 1..bytes.len() {
        let cut = Bytes::copy_from_slice(&bytes[..length]);
        let error = read_proto(cut, &ReadOptions::default()).map(drop).unwrap_err();
        let container = matches!(error, FormatError::Container(_));
        assert!(container || length < 8, "{length}: {error}");
    }
}

/// `SECATEUR_MUTATIONS` says how many containers.
#[test]
fn containers_that_were_changed_at_random_give_an_error_or_the_model() {
    let count: usize = std::env::var("SECATEUR_MUTATIONS").map_or(500, |text| text.parse().unwrap());
    let mut state = 5u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let seeds: Vec<(Vec<u8>, Bytes)> = [
        "digits_mlp.onnx",
        "sk_logreg_pipeline_iris.onnx",
        "local_functions.onnx",
    ]
    .iter()
    .flat_map(|name| {
        let origin = origin(&fixture(name));
        [fast(), PackOptions::default()].map(|options| (packed(&origin, &options), origin.bytes.clone()))
    })
    .collect();
    let mut codes = std::collections::BTreeMap::new();
    for round in 0..count {
        let (bytes, model) = &seeds[next(seeds.len())];
        let mut changed = bytes.clone();
        for _ in 0..=next(4) {
            let (at, other) = (next(changed.len()), next(changed.len()));
            match next(6) {
                0 => changed.truncate(at.max(8)),
                1 => changed[at] = next(256) as u8,
                2 => changed.insert(at, next(256) as u8),
                3 => changed.swap(at, other),
                4 => drop(changed.drain(at.min(other)..at.max(other))),
                _ => changed[at] ^= 1 << next(8),
            }
            if changed.len() < 8 {
                break;
            }
        }
        match read_proto(Bytes::from(changed.clone()), &ReadOptions::default()) {
            // Without the first bytes of a container it is taken for a model, which it is not: unknown fields, and no graph.
            Ok(decoded) if !changed.starts_with(&bytes[..8]) => {
                assert!(decoded.model.graph.is_none(), "round {round}")
            }
            Ok(decoded) => assert!(decoded.origin.bytes == *model, "round {round}: another model"),
            Err(FormatError::Container(error)) => *codes.entry(error.problem.code()).or_insert(0) += 1,
            // Bytes that no longer begin as a container does are a malformed model.
            Err(_) => assert!(!changed.starts_with(&bytes[..8]), "round {round}"),
        }
    }
    println!("{codes:?}");
    assert!(
        codes.contains_key("container-damaged") && codes.contains_key("container-truncated"),
        "{codes:?}"
    );
}
