//! Data that move out of models and into them: tensors keep their bytes, every other byte of a model stays, and what is equal is
//! stored once.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use secateur::format::{
    Decoded, FormatError, ReadOptions, Relocation, Shared, Sharer, WriteOptions, WriteTarget,
    encode_to_bytes, read_proto, share, tensor_from_proto, write_relocated,
};
use secateur::ir::Tensor;
use secateur::proto;

use super::samples::{external_tensor, load, model, rich, tensor};
use super::saving::names;

fn read(path: &Path) -> Decoded {
    read_proto(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn in_memory(message: &proto::ModelProto) -> Decoded {
    read_proto(encode_to_bytes(message), &ReadOptions::default()).unwrap()
}

fn from(smallest: u64) -> WriteOptions {
    WriteOptions {
        smallest_external: smallest,
        ..WriteOptions::default()
    }
}

/// Moves the data of a model out, to a file in `folder`; nothing where none moves.
fn moved_out(decoded: &Decoded, folder: &Path, smallest: u64) -> Option<PathBuf> {
    let options = from(smallest);
    let relocation = Relocation::outside(decoded, &options).unwrap();
    if relocation.is_nothing() {
        return None;
    }
    let path = folder.join("apart.onnx");
    write_relocated(relocation, WriteTarget::File(&path), None, &options).unwrap();
    Some(path)
}

/// The model with its data inside.
fn moved_in(path: &Path) -> Vec<u8> {
    let (decoded, options) = (read(path), WriteOptions::default());
    let relocation = Relocation::inside(&decoded, &options).unwrap();
    let mut stream = Vec::new();
    write_relocated(relocation, WriteTarget::Stream(&mut stream), None, &options).unwrap();
    stream
}

fn tensors(decoded: &Decoded) -> Vec<Tensor> {
    let graph = decoded.model.graph.as_ref().unwrap();
    let lifted = graph.initializer.iter().map(|tensor| {
        let label = || tensor.name.clone().unwrap_or_default();
        tensor_from_proto(tensor.clone(), &decoded.origin.external, &label).unwrap()
    });
    lifted.collect()
}

fn assert_same_tensors(a: &Decoded, b: &Decoded) {
    let (a, b) = (tensors(a), tensors(b));
    assert_eq!(a.len(), b.len());
    for (left, right) in a.iter().zip(&b) {
        assert!(left.same_as(right), "{left:?} {right:?}");
    }
}

#[test]
fn a_model_comes_back_byte_for_byte() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let (mut moved, mut exact) = (0, 0);
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "onnx") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let decoded = read(&path);
        let Some(apart) = moved_out(&decoded, folder.path(), 1024) else {
            continue;
        };
        moved += 1;
        let context = path.display();
        assert_eq!(names(folder.path()).len(), 2, "{context}");
        assert_same_tensors(&read(&apart), &decoded);
        let whole = moved_in(&apart);
        // Where the data were is said by a field that is not written for those that are inside.
        let graph = decoded.model.graph.as_ref().unwrap();
        if graph
            .initializer
            .iter()
            .all(|tensor| tensor.data_location.is_none())
        {
            assert!(decoded.origin.bytes == whole, "{context}");
            exact += 1;
        }
        let whole = read_proto(Bytes::from(whole), &ReadOptions::default()).unwrap();
        assert_same_tensors(&whole, &decoded);
    }
    assert!(moved > 8 && exact > 7, "{moved} models, {exact} of them whole");
}

#[test]
fn fields_that_nobody_knows_stay_where_they_are() {
    let weight = encode_to_bytes(&model(vec![tensor("w", &[7; 3000])])).to_vec();
    // In the model more unknown fields than there are warnings for.
    let bytes = [weight, [0x98, 0x06, 1].repeat(100)].concat();
    let decoded = read_proto(Bytes::from(bytes.clone()), &ReadOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let apart = moved_out(&decoded, folder.path(), 1024).unwrap();
    let written = std::fs::read(&apart).unwrap();
    assert!(written.ends_with(&bytes[bytes.len() - 300..]) && written.len() < 600);
    assert_eq!(load(&apart).unwrap()[0].1, [7; 3000]);
    assert_eq!(moved_in(&apart), bytes);
}

#[test]
fn a_message_in_parts_is_written_anew() {
    // Two graphs are one to every reader: a tensor may have its data in the second.
    let bytes = encode_to_bytes(&model(vec![tensor("w", &[7; 3000])]));
    let more = proto::ModelProto {
        graph: Some(proto::GraphProto {
            initializer: vec![tensor("v", &[8; 3000])],
            ..Default::default()
        }),
        ..Default::default()
    };
    let bytes = [bytes.to_vec(), encode_to_bytes(&more).to_vec()].concat();
    let decoded = read_proto(Bytes::from(bytes), &ReadOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let apart = moved_out(&decoded, folder.path(), 1024).unwrap();
    assert_same_tensors(&read(&apart), &decoded);
    assert!(read(&apart).warnings.is_empty());
}

#[test]
fn typed_elements_move_and_strings_and_attributes_stay() {
    let mut message = rich();
    let constant = proto::AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(4),
        t: Some(tensor("", &[9; 3000])),
        ..Default::default()
    };
    let graph = message.graph.as_mut().unwrap();
    graph.node[2].attribute = vec![constant];
    // A body has initializers, too.
    let body = graph.node[0].attribute[0].g.as_mut().unwrap();
    body.initializer = vec![tensor("inner", &[3; 40])];
    let decoded = in_memory(&message);
    let folder = tempfile::tempdir().unwrap();
    let apart = moved_out(&decoded, folder.path(), 1).unwrap();
    let found = read(&apart);
    assert_same_tensors(&found, &decoded);
    let graph = found.model.graph.as_ref().unwrap();
    let outside = |tensor: &proto::TensorProto| tensor.data_location == Some(1);
    for tensor in &graph.initializer {
        let is_string = tensor.data_type == Some(8);
        assert_eq!(outside(tensor), !is_string, "{:?}", tensor.name);
        assert!(
            tensor.float_data.is_empty() && tensor.raw_data.is_none(),
            "{:?}",
            tensor.name
        );
    }
    let body = graph.node[0].attribute[0].g.as_ref().unwrap();
    assert!(outside(&body.initializer[0]));
    assert!(!outside(graph.node[2].attribute[0].t.as_ref().unwrap()));
    let sparse = graph.sparse_initializer[0].values.as_ref().unwrap();
    assert!(!outside(sparse));
    // Each starts at a cache line.
    assert_eq!(
        graph.initializer[1].external_data[1].value.as_deref(),
        Some("128")
    );
}

#[test]
fn attributes_follow_where_the_message_would_be_too_large_and_an_error_says_when_nothing_helps() {
    let constant = proto::NodeProto {
        op_type: Some("Constant".to_owned()),
        output: vec!["c".to_owned()],
        attribute: vec![proto::AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(4),
            t: Some(tensor("", &[9; 5000])),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut message = model(vec![tensor("w", &[7; 3000])]);
    message.graph.as_mut().unwrap().node.push(constant);
    let decoded = in_memory(&message);
    let outside = |largest_message| {
        let options = WriteOptions {
            largest_message,
            ..WriteOptions::default()
        };
        let found = Relocation::outside(&decoded, &options);
        found
            .map(|found| found.going_out().map(Bytes::len).collect::<Vec<_>>())
            .map_err(|error| error.code())
    };
    assert_eq!(outside(1 << 20), Ok(vec![3000]));
    // Nodes stand before initializers.
    assert_eq!(outside(2000), Ok(vec![5000, 3000]));
    assert_eq!(outside(100), Err("model-too-large"));
    let folder = tempfile::tempdir().unwrap();
    let apart = read(&moved_out(&decoded, folder.path(), 1024).unwrap());
    let options = WriteOptions {
        largest_message: 8000,
        ..WriteOptions::default()
    };
    let error = Relocation::inside(&apart, &options).unwrap_err();
    assert_eq!(error.code(), "model-too-large");
    let said = error.to_string();
    assert!(said.contains("8000") && said.contains("inside"), "{said}");
}

#[test]
fn what_is_no_valid_tensor_is_left_alone() {
    // A byte more is declared than there is, and elements stand in two fields.
    let short = proto::TensorProto {
        dims: vec![3001],
        ..tensor("short", &[1; 3000])
    };
    let twice = proto::TensorProto {
        float_data: vec![1.0],
        ..tensor("twice", &[1; 3000])
    };
    let decoded = in_memory(&model(vec![short, twice, tensor("empty", &[])]));
    let relocation = Relocation::outside(&decoded, &from(0)).unwrap();
    assert!(relocation.is_nothing());
}

#[test]
fn a_name_of_the_data_file_that_is_taken_is_refused() {
    let decoded = in_memory(&model(vec![tensor("w", &[7; 3000])]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(folder.path().join("w.data"), b"other").unwrap();
    let options = WriteOptions {
        force: true,
        ..WriteOptions::default()
    };
    for (name, code) in [
        (Some("w.data"), Some("external-output-exists")),
        (Some("m.onnx"), Some("external-output-exists")),
        (Some("v.data"), None),
        (None, None),
    ] {
        let relocation = Relocation::outside(&decoded, &options).unwrap();
        let written = write_relocated(relocation, WriteTarget::File(&path), name, &options);
        assert_eq!(written.err().map(|error| error.code()), code, "{name:?}");
    }
    let found = names(folder.path());
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(std::fs::read(folder.path().join("w.data")).unwrap(), b"other");
    assert_eq!(load(&path).unwrap()[0].1, [7; 3000]);
    let mut stream = Vec::new();
    let relocation = Relocation::outside(&decoded, &options).unwrap();
    let error = write_relocated(relocation, WriteTarget::Stream(&mut stream), None, &options).unwrap_err();
    assert_eq!((error.code(), stream.len()), ("stream-needs-external", 0));
}

/// Writes models under these names into `folder`, with the data file `common.data`.
fn shared(models: &[(&str, &Decoded)], folder: &Path, options: &WriteOptions) -> Result<Shared, FormatError> {
    let mut sharers = Vec::new();
    for (name, decoded) in models {
        sharers.push(Sharer {
            relocation: Relocation::outside(decoded, options)?,
            output: folder.join(name),
        });
    }
    share(sharers, &folder.join("common.data"), options)
}

/// Two models that have a large tensor in common, under other names and types; one has another tensor twice.
fn pair() -> (Decoded, Decoded) {
    let large = vec![5u8; 1 << 20];
    let floats = proto::TensorProto {
        dims: vec![1 << 18],
        data_type: Some(1),
        ..tensor("other name", &large)
    };
    let first = model(vec![
        tensor("a", &[1; 2000]),
        tensor("large", &large),
        tensor("again", &[1; 2000]),
        tensor("small", &[1; 100]),
    ]);
    let second = model(vec![tensor("b", &[2; 1500]), floats, tensor("c", &[1; 1999])]);
    (in_memory(&first), in_memory(&second))
}

fn places(path: &Path) -> Vec<Option<(String, u64)>> {
    let graph = read(path).model.graph.unwrap();
    let place = |tensor: &proto::TensorProto| {
        let value = |at: usize| tensor.external_data.get(at)?.value.clone();
        Some((value(0)?, value(1)?.parse().unwrap()))
    };
    graph.initializer.iter().map(place).collect()
}

#[test]
fn equal_tensors_of_several_models_are_stored_once() {
    let (first, second) = pair();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let models = [("a.onnx", &first), ("b.onnx", &second)];
    let done = shared(&models, folder.path(), &WriteOptions::default()).unwrap();
    assert_eq!(names(folder.path()), ["a.onnx", "b.onnx", "common.data"]);
    for ((name, decoded), (bytes, _)) in models.iter().zip(&done.models) {
        assert_same_tensors(&read(&at(name)), decoded);
        assert_eq!(at(name).metadata().unwrap().len(), *bytes);
    }
    // A page for the large one, cache lines for the others; in the order of models and tensors.
    let place = |offset: u64| Some(("common.data".to_owned(), offset));
    let end = 4096 + (1u64 << 20);
    assert_eq!(places(&at("a.onnx")), [place(0), place(4096), place(0), None]);
    assert_eq!(
        places(&at("b.onnx")),
        [place(end), place(4096), place(end + 1536)]
    );
    let size = end + 1536 + 1999;
    assert_eq!(
        (done.data, at("common.data").metadata().unwrap().len()),
        (Some(size), size)
    );
    let repeated = done.repeated;
    assert_eq!(
        (repeated.contents, repeated.tensors, repeated.bytes),
        (2, 4, 2000 + (1 << 20))
    );
    assert_eq!((repeated.saved, repeated.common), (2000 + (1 << 20), 1));
    let reads: Vec<u64> = done.models.iter().map(|(_, reads)| *reads).collect();
    assert_eq!(reads, [2000 + (1 << 20), 1500 + (1 << 20) + 1999]);
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let (first, second) = pair();
    let on = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let models = [("a.onnx", &first), ("b.onnx", &second)];
        pool.install(|| shared(&models, folder.path(), &from(1)).unwrap());
        ["a.onnx", "b.onnx", "common.data"].map(|name| std::fs::read(folder.path().join(name)).unwrap())
    };
    assert!(on(1) == on(5));
}

#[test]
fn models_without_large_tensors_get_no_data_file() {
    let (small, folder) = (
        in_memory(&model(vec![tensor("w", &[1; 100])])),
        tempfile::tempdir().unwrap(),
    );
    let done = shared(&[("m.onnx", &small)], folder.path(), &WriteOptions::default()).unwrap();
    assert_eq!((done.data, done.repeated), (None, Default::default()));
    assert_eq!(names(folder.path()), ["m.onnx"]);
    let written = std::fs::read(folder.path().join("m.onnx")).unwrap();
    assert_eq!(small.origin.bytes, written);
}

#[test]
fn a_data_file_is_replaced_where_that_is_allowed_and_no_other_model_reads_it() {
    let (first, second) = pair();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let force = WriteOptions {
        force: true,
        ..WriteOptions::default()
    };
    shared(&[("a.onnx", &first), ("b.onnx", &second)], folder.path(), &force).unwrap();
    let code = |models: &[(&str, &Decoded)], options: &WriteOptions| {
        shared(models, folder.path(), options)
            .err()
            .map(|error| error.code())
    };
    let swapped = [("a.onnx", &second), ("b.onnx", &first)];
    assert_eq!(code(&swapped, &WriteOptions::default()), Some("output-exists"));
    // The model that is not written again reads what is there.
    let before = std::fs::read(at("common.data")).unwrap();
    assert_eq!(code(&swapped[..1], &force), Some("external-output-exists"));
    let error = shared(&swapped[..1], folder.path(), &force).unwrap_err();
    assert!(error.to_string().contains("b.onnx"), "{error}");
    assert_eq!(std::fs::read(at("common.data")).unwrap(), before);
    assert_same_tensors(&read(&at("a.onnx")), &first);
    // The same content is no other file.
    assert_eq!(code(&[("a.onnx", &first), ("c.onnx", &second)], &force), None);
    std::fs::remove_file(at("c.onnx")).unwrap();
    assert_eq!(code(&swapped, &force), None);
    assert_same_tensors(&read(&at("a.onnx")), &second);
    assert_same_tensors(&read(&at("b.onnx")), &first);
    assert_eq!(names(folder.path()), ["a.onnx", "b.onnx", "common.data"]);
    // Data that a replaced model had for itself go with it, if secateur wrote them.
    let own = write_relocated(
        Relocation::outside(&first, &force).unwrap(),
        WriteTarget::File(&at("a.onnx")),
        None,
        &force,
    )
    .unwrap();
    assert_eq!((own.removed.len(), own.left.len(), own.data.len()), (0, 0, 1));
    let done = shared(&swapped, folder.path(), &force).unwrap();
    assert_eq!((done.removed.len(), done.left.len()), (1, 0));
    assert_eq!(names(folder.path()), ["a.onnx", "b.onnx", "common.data"]);
}

#[test]
fn a_shared_data_file_stays_until_its_last_model_is_another() {
    let (first, second) = pair();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let models = [("a.onnx", &first), ("b.onnx", &second)];
    shared(&models, folder.path(), &WriteOptions::default()).unwrap();
    let in_place = WriteOptions {
        in_place: true,
        ..WriteOptions::default()
    };
    for (name, left) in [("a.onnx", 0), ("b.onnx", 1)] {
        let decoded = read(&at(name));
        let relocation = Relocation::inside(&decoded, &in_place).unwrap();
        let saved = write_relocated(relocation, WriteTarget::File(&at(name)), None, &in_place).unwrap();
        // It has no name that secateur gave it, so it stays in any case; who is the last to need it hears that.
        assert_eq!((saved.removed.len(), saved.left.len()), (0, left), "{name}");
        assert!(at("common.data").exists());
    }
    assert_same_tensors(&read(&at("a.onnx")), &first);
    assert_same_tensors(&read(&at("b.onnx")), &second);
}

#[test]
fn external_data_of_another_layout_is_laid_out_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("w.data"), [[1u8; 2000], [2; 2000]].concat()).unwrap();
    std::fs::write(at("v.data"), [3u8; 10]).unwrap();
    let message = model(vec![
        external_tensor("w", 1999, &[("location", "w.data"), ("offset", "2001")]),
        external_tensor("v", 10, &[("location", "v.data"), ("checksum", "none")]),
    ]);
    std::fs::write(at("m.onnx"), encode_to_bytes(&message)).unwrap();
    let decoded = read(&at("m.onnx"));
    let apart = moved_out(&decoded, folder.path(), 1024).unwrap();
    let expected = [("w", vec![2u8; 1999]), ("v", vec![3; 10])].map(|(name, bytes)| (name.to_owned(), bytes));
    assert_eq!(load(&apart).unwrap(), expected);
    let found = read(&apart);
    let graph = found.model.graph.as_ref().unwrap();
    assert_eq!(graph.initializer[1].raw_data.as_deref(), Some(&[3u8; 10][..]));
    let (_, file) = found.origin.external.iter().next().unwrap();
    assert_eq!(file.bytes.len(), 1999);
    assert_eq!(moved_in(&apart), moved_in(&at("m.onnx")));
}
