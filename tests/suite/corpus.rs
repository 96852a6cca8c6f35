//! Models from outside of the repository: `SECATEUR_CORPUS` names the corpus folder, `SECATEUR_NODE_TESTS` a folder with the
//! ONNX node tests, one folder each, `SECATEUR_ARCHITECTURES` a folder with the corpus' architectures filled with weights. Where
//! one is not set, tests over it see no models and say so; `SECATEUR_SKIPPED` names a file that gets a line for each such test.

use std::path::{Path, PathBuf};

/// Says that the test that runs leaves something out, and why.
pub(crate) fn skip(reason: &str) {
    println!("skipped: {reason}");
    let Some(file) = std::env::var_os("SECATEUR_SKIPPED") else {
        return;
    };
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    // One write, so that lines of tests that run at once stay whole.
    std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
}

/// With the corpus there, a test over it has run at least so many cases.
pub(crate) fn ran(cases: usize, least: usize) {
    println!("{cases} cases over the corpus");
    if std::env::var_os("SECATEUR_CORPUS").is_some() {
        assert!(
            cases >= least,
            "only {cases} cases ran, where the corpus has at least {least}"
        );
    }
}

/// The `.onnx` files below the corpus' `models` folder, sorted.
pub(crate) fn models() -> Vec<PathBuf> {
    below("SECATEUR_CORPUS", "models", |path| {
        path.extension().is_some_and(|extension| extension == "onnx")
    })
}

/// The architectures with their weights, sorted.
pub(crate) fn architectures() -> Vec<PathBuf> {
    below("SECATEUR_ARCHITECTURES", "", |path| {
        path.extension().is_some_and(|extension| extension == "onnx")
    })
}

/// The `model.onnx` files of the ONNX node tests, sorted. Without their folder, the corpus' archive is unpacked once.
pub(crate) fn node_tests() -> Vec<PathBuf> {
    let accept = |path: &Path| path.file_name().is_some_and(|name| name == "model.onnx");
    match std::env::var_os("SECATEUR_NODE_TESTS") {
        None => unpacked_node_tests().map_or_else(Vec::new, |folder| files(folder, accept)),
        Some(folder) => files(PathBuf::from(folder), accept),
    }
}

fn unpacked_node_tests() -> Option<PathBuf> {
    let Some(corpus) = std::env::var_os("SECATEUR_CORPUS") else {
        skip("neither SECATEUR_NODE_TESTS nor SECATEUR_CORPUS is set");
        return None;
    };
    let archive = PathBuf::from(corpus).join("onnx-node-tests.tgz");
    if !archive.is_file() {
        skip("the corpus has no onnx-node-tests.tgz");
        return None;
    }
    static UNPACKED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let folder = UNPACKED.get_or_init(|| {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = target.join("onnx-node-tests");
        if !folder.is_dir() {
            // Unpacked beside its place and renamed, so that an interrupted run leaves no half of it.
            let partial = target.join(format!("onnx-node-tests.{}", std::process::id()));
            std::fs::create_dir_all(&partial).unwrap();
            let tar = std::process::Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(&partial)
                .status();
            assert!(
                tar.unwrap().success(),
                "tar could not unpack {}",
                archive.display()
            );
            if std::fs::rename(&partial, &folder).is_err() {
                std::fs::remove_dir_all(&partial).unwrap();
            }
        }
        folder
    });
    Some(folder.clone())
}

fn below(variable: &str, folder: &str, accept: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    match std::env::var_os(variable) {
        None => {
            skip(&format!("{variable} is not set"));
            Vec::new()
        }
        Some(root) => files(PathBuf::from(root).join(folder), accept),
    }
}

fn files(root: PathBuf, accept: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(folder) = open.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if accept(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
