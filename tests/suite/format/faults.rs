//! Every operation of a save fails once, in every way: afterwards the old model or the new one loads.

use std::fs::Permissions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use secateur::format::save::{write_proto_on, write_unchanged_on};
use secateur::format::share::share_on;
use secateur::format::{
    FormatError, Fs, FsFile, Origin, OsFs, ReadOptions, Relocation, Saved, Sharer, Temporaries, WriteOptions,
    WriteTarget, encode_to_bytes, read_proto, write_proto,
};
use tempfile::TempDir;

use super::samples::{external_tensor, load, model, tensor};
use super::saving::{names, origin};

/// How the chosen operation fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// EIO, once.
    Io,
    /// ENOSPC from here on, for whatever takes room.
    Full,
    /// Half of what should be written is, then ENOSPC.
    Short,
    /// The operation happens and reports EIO all the same.
    Late,
    /// The process is gone: nothing happens from here on, tidying up included.
    Crash,
    /// The process is gone just after the operation.
    CrashAfter,
    /// A signal handler cleans up while the operation runs.
    Signal,
}

const FAULTS: [Fault; 7] = [
    Fault::Io,
    Fault::Full,
    Fault::Short,
    Fault::Late,
    Fault::Crash,
    Fault::CrashAfter,
    Fault::Signal,
];

#[derive(Clone)]
struct Faulty {
    fault: Fault,
    at: usize,
    done: Arc<AtomicUsize>,
    temporaries: Arc<Temporaries>,
}

impl Faulty {
    fn new(fault: Fault, at: usize) -> Self {
        Self {
            fault,
            at,
            done: Arc::default(),
            temporaries: Arc::default(),
        }
    }

    fn reached(&self) -> bool {
        self.done.load(Ordering::Relaxed) > self.at
    }

    /// Runs `operation` or fails it. `grows`: whether it takes room on the disk. `locked`: whether it runs under the lock
    /// of the temporaries, where no signal handler can get between.
    fn run<T>(&self, grows: bool, locked: bool, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let now = self.done.fetch_add(1, Ordering::Relaxed);
        let eio = || io::Error::from_raw_os_error(5);
        let enospc = || io::Error::from(io::ErrorKind::StorageFull);
        match (self.fault, now.cmp(&self.at)) {
            (_, std::cmp::Ordering::Less) => operation(),
            (Fault::Io, std::cmp::Ordering::Equal) => Err(eio()),
            (Fault::Late, std::cmp::Ordering::Equal) => operation().and(Err(eio())),
            (Fault::Full | Fault::Short, _) if grows => Err(enospc()),
            (Fault::Crash, _) | (Fault::CrashAfter, std::cmp::Ordering::Greater) => Err(eio()),
            (Fault::CrashAfter, _) => operation().and(Err(eio())),
            (Fault::Signal, std::cmp::Ordering::Equal) if !locked => {
                self.temporaries.clear(&OsFs);
                operation()
            }
            _ => operation(),
        }
    }
}

impl Fs for Faulty {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.run(true, true, || OsFs.create_new(path))?;
        Ok(Box::new(FaultyFile {
            fs: self.clone(),
            file,
        }))
    }
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(false, true, || OsFs.replace(from, to))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(false, true, || OsFs.rename_new(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(false, true, || OsFs.remove_file(path))
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.run(true, false, || OsFs.create_directory(path))
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.run(false, false, || OsFs.sync_directory(path))
    }
}

struct FaultyFile {
    fs: Faulty,
    file: Box<dyn FsFile>,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let short = self.fs.fault == Fault::Short && self.fs.done.load(Ordering::Relaxed) == self.fs.at;
        if short && bytes.len() > 1 {
            self.fs.done.fetch_add(1, Ordering::Relaxed);
            return self.file.write(&bytes[..bytes.len() / 2]);
        }
        self.fs.run(true, false, || self.file.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FsFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.fs.run(true, false, || self.file.sync())
    }
    fn set_permissions(&mut self, permissions: Permissions) -> io::Result<()> {
        self.fs
            .run(false, false, || self.file.set_permissions(permissions))
    }
}

type Content = Vec<(String, Vec<u8>)>;

/// A way of saving `out.onnx`: what is there before, and the save.
struct Case {
    name: &'static str,
    prepare: fn(&Path),
    save: fn(&Faulty, &Path) -> Result<Saved, FormatError>,
}

fn content(byte: u8) -> Content {
    vec![("w".to_owned(), vec![byte; 3000]), ("v".to_owned(), vec![byte])]
}

fn filled(byte: u8) -> secateur::proto::ModelProto {
    model(vec![tensor("w", &[byte; 3000]), tensor("v", &[byte])])
}

fn split() -> WriteOptions {
    WriteOptions {
        largest_message: 2000,
        force: true,
        in_place: true,
        ..WriteOptions::default()
    }
}

const CASES: [Case; 7] = [
    Case {
        name: "a new model",
        prepare: |_| {},
        save: |fs, folder| {
            let path = folder.join("out.onnx");
            write_proto_on(
                fs,
                &fs.temporaries,
                filled(2),
                None,
                WriteTarget::File(&path),
                &WriteOptions::default(),
            )
        },
    },
    Case {
        name: "a new model with data",
        prepare: |_| {},
        save: |fs, folder| {
            let path = folder.join("out.onnx");
            write_proto_on(
                fs,
                &fs.temporaries,
                filled(2),
                None,
                WriteTarget::File(&path),
                &split(),
            )
        },
    },
    Case {
        name: "one model over another",
        prepare: |folder| std::fs::write(folder.join("out.onnx"), encode_to_bytes(&filled(1))).unwrap(),
        save: |fs, folder| {
            let path = folder.join("out.onnx");
            let options = WriteOptions {
                force: true,
                ..WriteOptions::default()
            };
            write_proto_on(
                fs,
                &fs.temporaries,
                filled(2),
                None,
                WriteTarget::File(&path),
                &options,
            )
        },
    },
    Case {
        name: "in place, both with data",
        prepare: |folder| {
            write_proto(
                filled(1),
                None,
                WriteTarget::File(&folder.join("out.onnx")),
                &split(),
            )
            .unwrap();
        },
        save: |fs, folder| {
            let path = folder.join("out.onnx");
            let origin = origin(&path);
            write_proto_on(
                fs,
                &fs.temporaries,
                filled(2),
                Some(&origin),
                WriteTarget::File(&path),
                &split(),
            )
        },
    },
    Case {
        name: "in place, data that stays as it is",
        prepare: |folder| {
            write_proto(
                filled(2),
                None,
                WriteTarget::File(&folder.join("out.onnx")),
                &split(),
            )
            .unwrap();
        },
        save: |fs, folder| {
            let path = folder.join("out.onnx");
            let decoded = read_proto(&path, &ReadOptions::default()).unwrap();
            let target = WriteTarget::File(&path);
            write_proto_on(
                fs,
                &fs.temporaries,
                decoded.model,
                Some(&decoded.origin),
                target,
                &split(),
            )
        },
    },
    Case {
        name: "an unchanged model with two data files",
        prepare: |_| {},
        save: |fs, folder| {
            let (_keep, origin) = two_files();
            let path = folder.join("out.onnx");
            write_unchanged_on(
                fs,
                &fs.temporaries,
                &origin,
                WriteTarget::File(&path),
                &WriteOptions::default(),
            )
        },
    },
    Case {
        name: "two models on one data file",
        prepare: |_| {},
        save: |fs, folder| share_two(fs, folder, 2).map(|()| Saved::default()),
    },
];

/// Writes `out.onnx` and `twin.onnx` with `common.data`, over what is there.
fn share_two(fs: &Faulty, folder: &Path, byte: u8) -> Result<(), FormatError> {
    let decoded = read_proto(encode_to_bytes(&filled(byte)), &ReadOptions::default())?;
    let options = WriteOptions {
        force: true,
        ..WriteOptions::default()
    };
    let mut sharers = Vec::new();
    for name in ["out.onnx", "twin.onnx"] {
        sharers.push(Sharer {
            relocation: Relocation::outside(&decoded, &options)?,
            output: folder.join(name),
        });
    }
    let data = folder.join("common.data");
    share_on(fs, &fs.temporaries, sharers, &data, &options).map(drop)
}

fn two_files() -> (TempDir, Origin) {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("sub")).unwrap();
    std::fs::write(source.path().join("sub/w.data"), [2u8; 3000]).unwrap();
    std::fs::write(source.path().join("v.data"), [2u8]).unwrap();
    let w = external_tensor("w", 3000, &[("location", "sub/w.data")]);
    let v = external_tensor("v", 1, &[("location", "v.data")]);
    std::fs::write(source.path().join("m.onnx"), encode_to_bytes(&model(vec![w, v]))).unwrap();
    let origin = origin(&source.path().join("m.onnx"));
    (source, origin)
}

/// Names of the files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found
}

#[test]
fn whatever_fails_the_old_or_the_new_model_loads() {
    let mut tried = 0;
    for case in CASES {
        let finished = {
            let folder = tempfile::tempdir().unwrap();
            (case.prepare)(folder.path());
            (case.save)(&Faulty::new(Fault::Io, usize::MAX), folder.path()).unwrap();
            files(folder.path())
        };
        for fault in FAULTS {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                (case.prepare)(folder.path());
                let before = files(folder.path());
                let path = folder.path().join("out.onnx");
                let old = path.exists().then(|| load(&path).unwrap());
                let fs = Faulty::new(fault, at);
                let result = (case.save)(&fs, folder.path());
                let context = format!("{}, {fault:?} at operation {at}: {result:?}", case.name);
                let now = path
                    .exists()
                    .then(|| load(&path).unwrap_or_else(|e| panic!("{context}: {e}")));
                if result.is_ok() {
                    assert_eq!(now.as_ref(), Some(&content(2)), "{context}");
                } else {
                    assert!(now == old || now == Some(content(2)), "{context}");
                }
                if !matches!(fault, Fault::Crash | Fault::CrashAfter) {
                    // The second name of a replaced model that could not be removed goes with the next save.
                    let second = |name: &String| result.is_ok() && name.ends_with(".tmp");
                    let mut after = files(folder.path());
                    after.retain(|name| !second(name));
                    let complete = after == finished || after == before;
                    // A failure to remove what is no longer needed leaves it, and nothing else.
                    let left = now == Some(content(2))
                        && finished.iter().chain(&before).all(|name| after.contains(name));
                    assert!(complete || left, "{context}: {after:?}");
                    assert!(fs.temporaries.files().is_empty(), "{context}");
                }
                if !fs.reached() {
                    break;
                }
                tried += 1;
            }
        }
    }
    println!("{tried} faults in {} ways of saving", CASES.len());
    assert!(tried > 200);
}

#[test]
fn an_interrupted_save_says_so_and_a_later_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    // Operation 1 is the first write.
    let fs = Faulty::new(Fault::Signal, 1);
    let save = || {
        write_proto_on(
            &fs,
            &fs.temporaries,
            filled(2),
            None,
            WriteTarget::File(&path),
            &split(),
        )
    };
    assert_eq!(save().unwrap_err().code(), "interrupted");
    assert!(names(folder.path()).is_empty());
    save().unwrap();
    assert_eq!(load(&path).unwrap(), content(2));
}

#[test]
fn models_on_one_data_file_are_replaced_together_or_not_at_all() {
    let all = |folder: &Path| -> Vec<(String, Vec<u8>)> {
        let read = |name: String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
        names(folder).into_iter().map(read).collect()
    };
    let whole = |byte| {
        let folder = tempfile::tempdir().unwrap();
        share_two(&Faulty::new(Fault::Io, usize::MAX), folder.path(), byte).unwrap();
        all(folder.path())
    };
    let (old, new) = (whole(1), whole(2));
    let mut tried = 0;
    for fault in FAULTS {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            share_two(&Faulty::new(Fault::Io, usize::MAX), folder.path(), 1).unwrap();
            let fs = Faulty::new(fault, at);
            let result = share_two(&fs, folder.path(), 2);
            let context = format!("{fault:?} at operation {at}: {result:?}");
            let mut now = all(folder.path());
            // What was moved aside and could not be removed goes with the next save.
            now.retain(|(name, _)| !name.ends_with(".tmp"));
            if result.is_ok() {
                assert!(now == new, "{context}");
            } else if matches!(fault, Fault::Crash | Fault::CrashAfter) {
                // A name may lead nowhere, but none leads to a model whose data are of another.
                let models = now.iter().filter(|(name, _)| name.ends_with(".onnx"));
                for (name, _) in models {
                    let found = load(&folder.path().join(name));
                    let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!([content(1), content(2)].contains(&found), "{context}: {name}");
                }
            } else {
                assert!(now == old || now == new, "{context}");
                assert!(fs.temporaries.files().is_empty(), "{context}");
            }
            if !fs.reached() {
                break;
            }
            tried += 1;
        }
    }
    println!("{tried} faults");
    assert!(tried > 50);
}
