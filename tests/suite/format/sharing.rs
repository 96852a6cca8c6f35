//! Several saves in one folder: at the same time, and after one that was ended in the middle.
#![cfg(unix)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Barrier;

use secateur::files::{Fs, OsFs};
use secateur::format::save::write_proto_on;
use secateur::format::{
    Temporaries, WriteOptions, WriteTarget, encode_to_bytes, write_proto, write_unchanged,
};

use super::samples::{external_tensor, load, model, tensor};
use super::saving::{names, origin};

/// Replaces, with external data.
fn split() -> WriteOptions {
    WriteOptions {
        force: true,
        largest_message: 2000,
        ..WriteOptions::default()
    }
}

fn save(folder: &Path, fill: u8) {
    let changed = model(vec![tensor("w", &[fill; 3000])]);
    write_proto(
        changed,
        None,
        WriteTarget::File(&folder.join("out.onnx")),
        &split(),
    )
    .unwrap();
}

#[test]
fn savers_to_one_output_leave_one_whole_pair() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40u8 {
        let start = Barrier::new(3);
        std::thread::scope(|scope| {
            // Two of the three write the same.
            for fill in [round, round, round + 100] {
                let (start, folder) = (&start, folder.path());
                scope.spawn(move || {
                    start.wait();
                    save(folder, fill);
                });
            }
        });
        let found = load(&folder.path().join("out.onnx")).unwrap();
        assert!([round, round + 100].contains(&found[0].1[0]), "round {round}");
        assert_eq!(
            names(folder.path()).len(),
            2,
            "round {round}: {:?}",
            names(folder.path())
        );
    }
}

#[test]
fn copies_of_one_model_to_one_folder_share_its_data() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("w.data"), [5u8; 3000]).unwrap();
    let bytes = encode_to_bytes(&model(vec![external_tensor(
        "w",
        3000,
        &[("location", "w.data")],
    )]));
    std::fs::write(source.path().join("m.onnx"), bytes).unwrap();
    let origin = origin(&source.path().join("m.onnx"));
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (start, origin, path) = (&start, &origin, folder.path().join("m.onnx"));
                scope.spawn(move || {
                    start.wait();
                    write_unchanged(origin, WriteTarget::File(&path), &split()).unwrap();
                });
            }
        });
        assert_eq!(names(folder.path()), ["m.onnx", "w.data"]);
        assert_eq!(load(&folder.path().join("m.onnx")).unwrap()[0].1, [5; 3000]);
    }
}

/// The operating system, until the process is gone: nothing happens after `left` operations, and nobody tidies up.
struct Gone(std::sync::atomic::AtomicI64);

impl Gone {
    fn run<T>(&self, operation: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        if self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            operation()
        } else {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
}

impl Fs for Gone {
    fn create_new(&self, path: &Path) -> std::io::Result<Box<dyn secateur::files::FsFile>> {
        self.run(|| OsFs.create_new(path))
    }
    fn replace(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.run(|| OsFs.replace(from, to))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.run(|| OsFs.rename_new(from, to))
    }
    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        self.run(|| OsFs.remove_file(path))
    }
    fn create_directory(&self, path: &Path) -> std::io::Result<()> {
        self.run(|| OsFs.create_directory(path))
    }
    fn sync_directory(&self, path: &Path) -> std::io::Result<()> {
        self.run(|| OsFs.sync_directory(path))
    }
}

#[test]
fn the_next_save_takes_away_what_a_dead_one_left() {
    let mut with_data = 0;
    let mut replaced = 0;
    for operations in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 1);
        let fs = Gone(operations.into());
        let path = folder.path().join("out.onnx");
        let changed = model(vec![tensor("w", &[2; 3000])]);
        let ended = write_proto_on(
            &fs,
            &Temporaries::new(),
            changed,
            None,
            WriteTarget::File(&path),
            &split(),
        );
        let found = load(&path).unwrap()[0].1[0];
        assert_eq!(found, if ended.is_ok() { 2 } else { found });
        with_data += u32::from(
            found == 1
                && names(folder.path())
                    .iter()
                    .filter(|name| name.ends_with(".data"))
                    .count()
                    == 2,
        );
        replaced += u32::from(found == 2 && names(folder.path()).len() > 2);
        save(folder.path(), 3);
        let left = names(folder.path());
        assert_eq!(left.len(), 2, "after {operations} operations: {left:?}");
        assert_eq!(load(&path).unwrap()[0].1, [3; 3000]);
    }
    assert!(with_data > 0, "no save ended between its data and its model");
    assert!(replaced > 0, "no save ended before the replaced data were gone");
}

#[test]
fn leftovers_go_only_when_nobody_holds_them_and_no_model_needs_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A leftover whose data file a model uses.
    save(folder.path(), 7);
    std::fs::copy(at("out.onnx"), at(".secateur-1-0.tmp")).unwrap();
    std::fs::write(at(".secateur-2-0.tmp"), "held").unwrap();
    let held = std::fs::File::open(at(".secateur-2-0.tmp")).unwrap();
    held.lock().unwrap();
    let small = model(vec![tensor("w", &[1])]);
    write_proto(
        small.clone(),
        None,
        WriteTarget::File(&at("other.onnx")),
        &split(),
    )
    .unwrap();
    assert_eq!(load(&at("out.onnx")).unwrap()[0].1, [7; 3000]);
    assert!(at(".secateur-2-0.tmp").exists() && !at(".secateur-1-0.tmp").exists());
    // Without the model, the data file is the leftover's.
    std::fs::rename(at("out.onnx"), at(".secateur-1-0.tmp")).unwrap();
    drop(held);
    write_proto(small, None, WriteTarget::File(&at("other.onnx")), &split()).unwrap();
    assert_eq!(names(folder.path()), ["other.onnx"]);
}

#[test]
fn new_data_files_have_the_permissions_of_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 1);
    let data = |folder: &Path| {
        let names = names(folder);
        let name = names.iter().find(|name| name.ends_with(".data")).unwrap();
        folder.join(name)
    };
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let old = data(folder.path());
    std::fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
    std::fs::set_permissions(folder.path().join("out.onnx"), Permissions::from_mode(0o600)).unwrap();
    save(folder.path(), 2);
    assert_ne!(data(folder.path()), old);
    assert_eq!(
        (mode(&data(folder.path())), mode(&folder.path().join("out.onnx"))),
        (0o640, 0o600)
    );
    // Data that were inside the model have the model's.
    let inside = model(vec![tensor("w", &[3; 3000])]);
    let whole = WriteOptions {
        force: true,
        ..WriteOptions::default()
    };
    write_proto(
        inside,
        None,
        WriteTarget::File(&folder.path().join("out.onnx")),
        &whole,
    )
    .unwrap();
    assert_eq!(names(folder.path()), ["out.onnx"]);
    save(folder.path(), 4);
    assert_eq!(mode(&data(folder.path())), 0o600);
}
