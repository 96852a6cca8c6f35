//! External data: what is read, and what each attack gets.

use std::path::Path;

use secateur::format::{FormatError, ReadOptions, encode_to_bytes, read_proto};
use secateur::proto;
use tempfile::TempDir;

use super::samples::{external_tensor, load, model};

/// A folder with a model that has one external tensor of 8 bytes, and `w.data` with the bytes 0 to 15 beside it.
fn folder(entries: &[(&str, &str)]) -> TempDir {
    folder_with(external_tensor("w", 8, entries))
}

fn folder_with(tensor: proto::TensorProto) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..16).collect();
    std::fs::write(directory.path().join("w.data"), content).unwrap();
    std::fs::write(
        directory.path().join("m.onnx"),
        encode_to_bytes(&model(vec![tensor])),
    )
    .unwrap();
    directory
}

fn code(directory: &Path) -> Result<Vec<&'static str>, &'static str> {
    read_proto(directory.join("m.onnx"), &ReadOptions::default())
        .map(|decoded| {
            decoded
                .warnings
                .iter()
                .map(|warning| warning.kind.code())
                .collect()
        })
        .map_err(|error| error.code())
}

fn strict(directory: &Path) -> Result<(), FormatError> {
    read_proto(
        directory.join("m.onnx"),
        &ReadOptions {
            strict: true,
            ..ReadOptions::default()
        },
    )
    .map(drop)
}

#[test]
fn offset_and_length_are_used_and_default() {
    let bytes = |entries: &[(&str, &str)]| load(&folder(entries).path().join("m.onnx")).unwrap().remove(0).1;
    assert_eq!(bytes(&[("location", "w.data")]), (0..8).collect::<Vec<u8>>());
    assert_eq!(
        bytes(&[("location", "w.data"), ("offset", "8")]),
        (8..16).collect::<Vec<u8>>()
    );
    assert_eq!(
        bytes(&[("location", "./w.data"), ("offset", "3"), ("length", "8")]),
        (3..11).collect::<Vec<u8>>()
    );
}

#[test]
fn each_bad_entry_has_its_own_code() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "external-no-location"),
        (&[("location", "")], "external-no-location"),
        (&[("location", "/etc/passwd")], "external-absolute"),
        (&[("location", "C:\\w.data")], "external-absolute"),
        (&[("location", "../w.data")], "external-parent"),
        (&[("location", "a/../../w.data")], "external-parent"),
        (&[("location", "w\0.data")], "external-invalid-location"),
        (&[("location", ".")], "external-not-a-file"),
        (&[("location", "missing.data")], "external-missing"),
        (&[("location", "w.data"), ("offset", "-1")], "external-key"),
        (&[("location", "w.data"), ("length", "eight")], "external-key"),
        (&[("location", "w.data"), ("offset", "9")], "external-range"),
        (
            &[("location", "w.data"), ("offset", "1099511627776")],
            "external-range",
        ),
        (
            &[("location", "w.data"), ("offset", "18446744073709551615")],
            "external-range",
        ),
        (&[("location", "w.data"), ("length", "7")], "tensor-size"),
        (&[("location", "w.data"), ("length", "16")], "tensor-size"),
    ];
    for (entries, expected) in cases {
        assert_eq!(code(folder(entries).path()), Err(*expected), "{entries:?}");
    }
}

#[test]
fn shape_and_type_must_give_a_size() {
    let location = [("location", "w.data")];
    for dims in [vec![-1], vec![1 << 40, 1 << 40]] {
        let tensor = proto::TensorProto {
            dims,
            ..external_tensor("w", 8, &location)
        };
        assert_eq!(code(folder_with(tensor).path()), Err("external-shape"));
    }
    for data_type in [None, Some(0), Some(8), Some(99)] {
        let tensor = proto::TensorProto {
            data_type,
            ..external_tensor("w", 8, &location)
        };
        assert_eq!(code(folder_with(tensor).path()), Err("external-shape"));
    }
    let packed = proto::TensorProto {
        dims: vec![5],
        data_type: Some(22),
        ..external_tensor("w", 8, &location)
    };
    assert_eq!(
        load(&folder_with(packed).path().join("m.onnx")).unwrap()[0].1,
        [0, 1, 2]
    );
}

#[test]
fn errors_name_the_tensor_or_its_place() {
    let named = read_proto(folder(&[]).path().join("m.onnx"), &ReadOptions::default()).unwrap_err();
    assert_eq!(named.value(), Some("w"));
    let constant = proto::NodeProto {
        attribute: vec![proto::AttributeProto {
            t: Some(proto::TensorProto {
                name: None,
                ..external_tensor("", 8, &[])
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut hidden = model(vec![]);
    hidden.graph.as_mut().unwrap().node.push(constant);
    let error = read_proto(encode_to_bytes(&hidden), &ReadOptions::default()).unwrap_err();
    assert_eq!(error.value(), Some("graph.node[0].attribute[0].t"));
}

#[test]
fn a_model_without_a_directory_has_no_external_data_unless_one_is_given() {
    let directory = folder(&[("location", "w.data")]);
    let bytes = bytes::Bytes::from(std::fs::read(directory.path().join("m.onnx")).unwrap());
    assert_eq!(
        read_proto(bytes.clone(), &ReadOptions::default())
            .unwrap_err()
            .code(),
        "external-no-directory"
    );
    let options = ReadOptions {
        directory: Some(directory.path().to_owned()),
        ..ReadOptions::default()
    };
    assert_eq!(
        read_proto(bytes, &options)
            .unwrap()
            .origin
            .external
            .iter()
            .count(),
        1
    );
}

#[test]
fn a_recorded_checksum_is_verified() {
    // SHA-1 of the bytes 0 to 15, computed with Python's hashlib.
    let right = "56178b86a57fac22899a9964185c2cc96e7da589";
    let (upper, wrong) = (right.to_uppercase(), right.replace('5', "6"));
    let entries = |checksum| [("location", "w.data"), ("checksum", checksum)];
    assert_eq!(code(folder(&entries(right)).path()), Ok(vec![]));
    assert_eq!(code(folder(&entries(&upper)).path()), Ok(vec![]));
    assert_eq!(code(folder(&entries(&wrong)).path()), Err("external-checksum"));
    let unreadable = folder(&entries("crc32:1"));
    assert_eq!(code(unreadable.path()), Ok(vec!["external-unreadable-checksum"]));
    assert_eq!(
        strict(unreadable.path()).unwrap_err().code(),
        "external-unreadable-checksum"
    );
}

#[test]
fn one_file_is_mapped_once() {
    let directory = folder(&[("location", "w.data")]);
    let two = model(vec![
        external_tensor("a", 8, &[("location", "w.data")]),
        external_tensor("b", 8, &[("location", "./w.data")]),
    ]);
    std::fs::write(directory.path().join("m.onnx"), encode_to_bytes(&two)).unwrap();
    let decoded = read_proto(directory.path().join("m.onnx"), &ReadOptions::default()).unwrap();
    let starts: Vec<_> = decoded
        .origin
        .external
        .iter()
        .map(|(_, file)| file.bytes.as_ptr())
        .collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0], starts[1]);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_out_of_the_directory_is_refused_and_one_within_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), [0u8; 16]).unwrap();
        let directory = folder(&[("location", "link.data")]);
        let link = directory.path().join("link.data");
        symlink(outside.path().join("secret"), &link).unwrap();
        assert_eq!(code(directory.path()), Err("external-outside"));
        std::fs::remove_file(&link).unwrap();
        symlink("w.data", &link).unwrap();
        assert_eq!(code(directory.path()), Ok(vec![]));
        // Through a linked directory.
        let directory = folder(&[("location", "sub/secret")]);
        symlink(outside.path(), directory.path().join("sub")).unwrap();
        assert_eq!(code(directory.path()), Err("external-outside"));
    }

    #[test]
    fn a_directory_whose_name_only_begins_like_the_models_is_outside() {
        let parent = tempfile::tempdir().unwrap();
        let (inside, beside) = (parent.path().join("a"), parent.path().join("ab"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&beside).unwrap();
        std::fs::write(beside.join("w"), [0u8; 8]).unwrap();
        symlink(beside.join("w"), inside.join("w")).unwrap();
        let bytes = encode_to_bytes(&model(vec![external_tensor("w", 8, &[("location", "w")])]));
        std::fs::write(inside.join("m.onnx"), bytes).unwrap();
        assert_eq!(code(&inside), Err("external-outside"));
    }

    #[test]
    fn a_cache_of_links_is_read_through_either_directory() {
        // names/m.onnx -> blobs/1, names/w.data -> blobs/2: the layout of content-addressed caches.
        let cache = tempfile::tempdir().unwrap();
        let (names, blobs) = (cache.path().join("names"), cache.path().join("blobs"));
        std::fs::create_dir(&names).unwrap();
        std::fs::create_dir(&blobs).unwrap();
        let bytes = encode_to_bytes(&model(vec![external_tensor("w", 8, &[("location", "w.data")])]));
        std::fs::write(blobs.join("1"), bytes).unwrap();
        std::fs::write(blobs.join("2"), [5u8; 8]).unwrap();
        symlink("../blobs/1", names.join("m.onnx")).unwrap();
        symlink("../blobs/2", names.join("w.data")).unwrap();
        assert_eq!(load(&names.join("m.onnx")).unwrap()[0].1, [5; 8]);
        // A link to a model elsewhere finds the data beside the model.
        let elsewhere = tempfile::tempdir().unwrap();
        let directory = folder(&[("location", "w.data")]);
        symlink(directory.path().join("m.onnx"), elsewhere.path().join("m.onnx")).unwrap();
        assert_eq!(
            load(&elsewhere.path().join("m.onnx")).unwrap()[0].1,
            (0..8).collect::<Vec<u8>>()
        );
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = folder(&[("location", "sub")]);
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        assert_eq!(code(directory.path()), Err("external-not-a-file"));
        // Opening a pipe without a writer would wait for ever.
        let directory = folder(&[("location", "pipe")]);
        let made = std::process::Command::new("mkfifo")
            .arg(directory.path().join("pipe"))
            .status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(code(directory.path()), Err("external-not-a-file"));
        } else {
            crate::corpus::skip("no mkfifo");
        }
    }

    #[test]
    fn a_hard_link_warns_and_is_refused_under_strict() {
        let directory = folder(&[("location", "w.data")]);
        assert!(strict(directory.path()).is_ok());
        std::fs::hard_link(directory.path().join("w.data"), directory.path().join("other")).unwrap();
        assert_eq!(code(directory.path()), Ok(vec!["external-hard-link"]));
        assert_eq!(strict(directory.path()).unwrap_err().code(), "external-hard-link");
    }
}
