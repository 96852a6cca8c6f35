//! Models from outside of the repository: `SECATEUR_CORPUS` names the corpus folder, `SECATEUR_NODE_TESTS` a folder with the
//! ONNX node tests, one folder each, `SECATEUR_ARCHITECTURES` a folder with the corpus' architectures filled with weights. Where
//! one is not set, tests over it see no models and say so.

use std::path::{Path, PathBuf};

/// The `.onnx` files below the corpus' `models` folder, sorted.
pub(crate) fn models() -> Vec<PathBuf> {
    below("SECATEUR_CORPUS", "models", |path| {
        path.extension()
            .is_some_and(|extension| extension == "onnx")
    })
}

/// The architectures with their weights, sorted.
pub(crate) fn architectures() -> Vec<PathBuf> {
    below("SECATEUR_ARCHITECTURES", "", |path| {
        path.extension()
            .is_some_and(|extension| extension == "onnx")
    })
}

/// The `model.onnx` files of the ONNX node tests, sorted.
pub(crate) fn node_tests() -> Vec<PathBuf> {
    below("SECATEUR_NODE_TESTS", "", |path| {
        path.file_name().is_some_and(|name| name == "model.onnx")
    })
}

fn below(variable: &str, folder: &str, accept: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Some(root) = std::env::var_os(variable) else {
        println!("skipped: {variable} is not set");
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(root).join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
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
