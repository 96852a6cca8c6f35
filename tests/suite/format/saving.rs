//! A save happens wholly or not at all, and only where it may.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use secateur::format::{
    Origin, ReadOptions, Saved, WriteOptions, WriteTarget, encode_to_bytes, read_proto, write_proto,
    write_unchanged,
};
use tempfile::TempDir;

use super::samples::{external_tensor, load, model, tensor};

pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut found: Vec<String> = directory
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// A folder with `m.onnx`, whose tensor `w` is in `w.data`; and what was read from it.
pub(super) fn external_model() -> (TempDir, Origin) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("w.data"), vec![1u8; 5000]).unwrap();
    let bytes = encode_to_bytes(&model(vec![
        external_tensor("w", 5000, &[("location", "w.data")]),
        tensor("v", &[1, 2]),
    ]));
    std::fs::write(directory.path().join("m.onnx"), bytes).unwrap();
    let origin = origin(&directory.path().join("m.onnx"));
    (directory, origin)
}

pub(super) fn origin(path: &Path) -> Origin {
    read_proto(path, &ReadOptions::default()).unwrap().origin
}

fn force() -> WriteOptions {
    WriteOptions {
        force: true,
        ..WriteOptions::default()
    }
}

fn in_place() -> WriteOptions {
    WriteOptions {
        in_place: true,
        ..WriteOptions::default()
    }
}

fn write(origin: &Origin, path: &Path, options: &WriteOptions) -> Result<Saved, &'static str> {
    let decoded = read_proto(
        origin.bytes.clone(),
        &ReadOptions {
            directory: origin.path.as_deref().and_then(Path::parent).map(Path::to_owned),
            ..ReadOptions::default()
        },
    )
    .unwrap();
    write_proto(decoded.model, Some(origin), WriteTarget::File(path), options).map_err(|error| error.code())
}

#[test]
fn a_small_model_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.onnx");
    let small = model(vec![tensor("w", &[7; 3000])]);
    let saved = write_proto(
        small.clone(),
        None,
        WriteTarget::File(&path),
        &WriteOptions::default(),
    )
    .unwrap();
    assert_eq!(names(directory.path()), ["out.onnx"]);
    assert_eq!(
        Bytes::from(std::fs::read(&path).unwrap()),
        encode_to_bytes(&small)
    );
    assert_eq!(saved.bytes(), path.metadata().unwrap().len());
}

#[test]
fn a_model_above_the_limit_gets_external_data_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.onnx");
    let large = model(vec![
        tensor("a", &[7; 3000]),
        tensor("tiny", &[1]),
        tensor("b", &[8; 3000]),
    ]);
    let options = WriteOptions {
        largest_message: 4000,
        ..WriteOptions::default()
    };
    let saved = write_proto(large, None, WriteTarget::File(&path), &options).unwrap();
    let expected = [("a", vec![7; 3000]), ("tiny", vec![1]), ("b", vec![8; 3000])];
    assert_eq!(
        load(&path).unwrap(),
        expected.map(|(name, bytes)| (name.to_owned(), bytes))
    );
    let (data, size) = &saved.data[0];
    let content = std::fs::read(data).unwrap();
    assert_eq!(content.len() as u64, *size);
    let digest = blake3::hash(&content).to_hex();
    assert_eq!(
        data.file_name().unwrap().to_str().unwrap(),
        format!("out.{}.data", &digest[..16])
    );
    assert_eq!(names(directory.path()).len(), 2);
    // The same model again gives the same files, and the data file is used as it is.
    let again = write_proto(
        read(&path),
        Some(&origin(&path)),
        WriteTarget::File(&path),
        &in_place(),
    )
    .unwrap();
    assert_eq!((again.data, again.removed), (saved.data, vec![]));
    assert_eq!(names(directory.path()).len(), 2);
}

fn read(path: &Path) -> secateur::proto::ModelProto {
    read_proto(path, &ReadOptions::default()).unwrap().model
}

#[test]
fn outputs_are_protected() {
    let (directory, origin) = external_model();
    let input = directory.path().join("m.onnx");
    let data = directory.path().join("w.data");
    let other = directory.path().join("other.onnx");
    let before = (std::fs::read(&input).unwrap(), std::fs::read(&data).unwrap());
    std::fs::write(&other, b"old").unwrap();
    assert_eq!(
        write(&origin, &other, &WriteOptions::default()),
        Err("output-exists")
    );
    assert_eq!(write(&origin, &input, &force()), Err("output-is-input"));
    assert_eq!(write(&origin, &data, &force()), Err("output-is-input-data"));
    assert_eq!(write(&origin, &data, &in_place()), Err("output-is-input-data"));
    assert_eq!(write(&origin, directory.path(), &force()), Err("not-a-file"));
    assert_eq!(
        write(&origin, &directory.path().join("no/such/m.onnx"), &force()),
        Err("write-failed")
    );
    #[cfg(unix)]
    {
        let link = directory.path().join("link.onnx");
        std::os::unix::fs::symlink("m.onnx", &link).unwrap();
        assert_eq!(write(&origin, &link, &force()), Err("output-is-input"));
        assert_eq!(
            write(&origin, Path::new("/dev/null"), &force()),
            Err("not-a-file")
        );
        std::fs::remove_file(link).unwrap();
    }
    let unchanged = |path: &Path, options: &WriteOptions| {
        write_unchanged(&origin, WriteTarget::File(path), options).map_err(|error| error.code())
    };
    assert_eq!(unchanged(&other, &WriteOptions::default()), Err("output-exists"));
    assert_eq!(unchanged(&input, &force()), Err("output-is-input"));
    assert_eq!(
        (std::fs::read(&input).unwrap(), std::fs::read(&data).unwrap()),
        before
    );
    assert_eq!(std::fs::read(&other).unwrap(), b"old");
    assert_eq!(names(directory.path()), ["m.onnx", "other.onnx", "w.data"]);
    assert!(write(&origin, &other, &force()).is_ok());
    assert_eq!(load(&other).unwrap(), load(&input).unwrap());
}

#[cfg(unix)]
#[test]
fn a_replaced_file_keeps_its_permissions_and_a_replaced_link_its_target() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("m.onnx"), b"old").unwrap();
    std::fs::set_permissions(at("m.onnx"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let small = model(vec![tensor("w", &[1])]);
    write_proto(small.clone(), None, WriteTarget::File(&at("m.onnx")), &force()).unwrap();
    assert_eq!(
        at("m.onnx").metadata().unwrap().permissions().mode() & 0o777,
        0o640
    );
    std::fs::write(at("target"), b"kept").unwrap();
    symlink("target", at("link.onnx")).unwrap();
    write_proto(small, None, WriteTarget::File(&at("link.onnx")), &force()).unwrap();
    assert_eq!(std::fs::read(at("target")).unwrap(), b"kept");
    assert!(at("link.onnx").symlink_metadata().unwrap().is_file());
}

#[test]
fn an_unchanged_model_is_copied_with_its_files_under_the_same_names() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("sub")).unwrap();
    std::fs::write(source.path().join("sub/w.data"), vec![1u8; 100_000]).unwrap();
    let entries = [("location", "sub/w.data")];
    let mut bytes = encode_to_bytes(&model(vec![external_tensor("w", 100_000, &entries)])).to_vec();
    // An unknown field: a rewritten model loses it, an unchanged one does not.
    bytes.extend_from_slice(&[0x98, 0x06, 1]);
    std::fs::write(source.path().join("m.onnx"), &bytes).unwrap();
    let origin = origin(&source.path().join("m.onnx"));
    let target = tempfile::tempdir().unwrap();
    let output = target.path().join("n.onnx");
    let saved = write_unchanged(&origin, WriteTarget::File(&output), &WriteOptions::default()).unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), bytes);
    assert_eq!(
        std::fs::read(target.path().join("sub/w.data")).unwrap(),
        vec![1u8; 100_000]
    );
    assert_eq!(saved.bytes(), bytes.len() as u64 + 100_000);
    assert_eq!(
        (names(target.path()), names(&target.path().join("sub"))),
        (vec!["n.onnx".into(), "sub".into()], vec!["w.data".into()])
    );
    // Again over itself: the data file is there already.
    write_unchanged(&origin, WriteTarget::File(&output), &force()).unwrap();
    // Beside the input it shares the input's data.
    write_unchanged(
        &origin,
        WriteTarget::File(&source.path().join("copy.onnx")),
        &WriteOptions::default(),
    )
    .unwrap();
    assert_eq!(names(source.path()), ["copy.onnx", "m.onnx", "sub"]);
    // In place there is nothing to do.
    let modified = || {
        source
            .path()
            .join("m.onnx")
            .metadata()
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified();
    write_unchanged(
        &origin,
        WriteTarget::File(&source.path().join("m.onnx")),
        &in_place(),
    )
    .unwrap();
    assert_eq!(modified(), before);
    // Data of other content under the name that is needed cannot be replaced together with the model.
    std::fs::write(target.path().join("sub/w.data"), vec![2u8; 100_000]).unwrap();
    let error = write_unchanged(&origin, WriteTarget::File(&output), &force()).unwrap_err();
    assert_eq!(error.code(), "external-output-exists");
    assert_eq!(names(target.path()), ["n.onnx", "sub"]);
}

#[cfg(unix)]
#[test]
fn a_copy_does_not_follow_links_out_of_the_output_directory() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("sub")).unwrap();
    std::fs::write(source.path().join("sub/w.data"), [1u8; 8]).unwrap();
    let bytes = encode_to_bytes(&model(vec![external_tensor(
        "w",
        8,
        &[("location", "sub/w.data")],
    )]));
    std::fs::write(source.path().join("m.onnx"), bytes).unwrap();
    let origin = origin(&source.path().join("m.onnx"));
    let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), target.path().join("sub")).unwrap();
    let error = write_unchanged(
        &origin,
        WriteTarget::File(&target.path().join("m.onnx")),
        &force(),
    )
    .unwrap_err();
    assert_eq!(error.code(), "external-outside");
    assert!(names(outside.path()).is_empty());
    assert_eq!(names(target.path()), ["sub"]);
}

#[test]
fn a_stream_gets_a_model_that_carries_its_data_or_an_error() {
    let (directory, origin) = external_model();
    let expected = load(&directory.path().join("m.onnx")).unwrap();
    let check = |written: Vec<u8>| {
        let copy = directory.path().join("copy.onnx");
        std::fs::write(&copy, written).unwrap();
        assert_eq!(load(&copy).unwrap(), expected);
        let decoded = read_proto(
            &copy,
            &ReadOptions {
                strict: true,
                ..ReadOptions::default()
            },
        )
        .unwrap();
        assert!(decoded.origin.external.is_empty());
    };
    let mut stream = Vec::new();
    write_unchanged(
        &origin,
        WriteTarget::Stream(&mut stream),
        &WriteOptions::default(),
    )
    .unwrap();
    check(stream);
    let mut stream = Vec::new();
    let decoded = read(&directory.path().join("m.onnx"));
    write_proto(
        decoded.clone(),
        Some(&origin),
        WriteTarget::Stream(&mut stream),
        &WriteOptions::default(),
    )
    .unwrap();
    check(stream);
    let mut stream = Vec::new();
    let options = WriteOptions {
        largest_message: 4000,
        ..WriteOptions::default()
    };
    let error = write_proto(decoded, Some(&origin), WriteTarget::Stream(&mut stream), &options).unwrap_err();
    assert_eq!((error.code(), stream.len()), ("stream-needs-external", 0));
    // Without external data an unchanged model is the same bytes.
    let bytes = encode_to_bytes(&model(vec![tensor("w", &[1, 2, 3])]));
    let inline = read_proto(bytes.clone(), &ReadOptions::default()).unwrap().origin;
    let mut stream = Vec::new();
    write_unchanged(
        &inline,
        WriteTarget::Stream(&mut stream),
        &WriteOptions::default(),
    )
    .unwrap();
    assert_eq!(bytes, stream);
}

/// A model that secateur wrote with a data file, then changed in place; the names of what is left.
fn replace_in_place(prepare: impl Fn(&Path, &Path)) -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.onnx");
    let split = WriteOptions {
        largest_message: 2000,
        in_place: true,
        ..WriteOptions::default()
    };
    let saved = write_proto(
        model(vec![tensor("w", &[7; 3000])]),
        None,
        WriteTarget::File(&path),
        &split,
    )
    .unwrap();
    prepare(directory.path(), &saved.data[0].0);
    let origin = origin(&path);
    let changed = model(vec![tensor("w", &[8; 3000])]);
    let saved = write_proto(changed, Some(&origin), WriteTarget::File(&path), &split).unwrap();
    assert_eq!(load(&path).unwrap()[0].1, [8; 3000]);
    (directory, saved.removed)
}

#[test]
fn in_place_removes_the_data_it_wrote_and_only_that() {
    let (directory, removed) = replace_in_place(|_, _| {});
    assert_eq!((removed.len(), names(directory.path()).len()), (1, 2));
    // Another model reads the file.
    let (directory, removed) = replace_in_place(|folder, _| {
        std::fs::copy(folder.join("m.onnx"), folder.join("copy.onnx")).unwrap();
    });
    assert!(removed.is_empty());
    assert_eq!(load(&directory.path().join("copy.onnx")).unwrap()[0].1, [7; 3000]);
    // A neighbour that cannot be read may be such a model.
    assert!(
        replace_in_place(|folder, _| std::fs::write(folder.join("broken.onnx"), [0xff]).unwrap())
            .1
            .is_empty()
    );
    // The file has a second name.
    assert!(
        replace_in_place(|folder, data| std::fs::hard_link(data, folder.join("second")).unwrap())
            .1
            .is_empty()
    );
    // Others wrote the data.
    let (directory, origin) = external_model();
    let saved = write(&origin, &directory.path().join("m.onnx"), &in_place()).unwrap();
    assert!(saved.removed.is_empty());
    assert!(names(directory.path()).contains(&"w.data".to_owned()));
    assert_eq!(load(&directory.path().join("m.onnx")).unwrap()[0].1, [1; 5000]);
}
