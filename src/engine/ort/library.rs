//! Finding the user's ONNX Runtime: a file that is named, or one inside an installed Python package. Nothing is run to find
//! it and nothing is downloaded.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The variable that names the library.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// There is no library, and what would help.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum LibraryError {
    #[error("{VARIABLE} names {}, which is no file", .0.display())]
    NoFile(PathBuf),
    #[error("{}; install it with `pip install onnxruntime`, or set {VARIABLE} to libonnxruntime.so", looked(.0))]
    NotInstalled(Vec<PathBuf>),
}

/// Where the library was looked for.
fn looked(places: &[PathBuf]) -> String {
    if places.is_empty() {
        return "no Python environment was found".to_owned();
    }
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    format!("it is in none of {}", places.join(", "))
}

/// The shared library to load.
pub(super) fn find(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, LibraryError> {
    if let Some(named) = environment(VARIABLE).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(std::path::absolute(&path).unwrap_or(path))
        } else {
            Err(LibraryError::NoFile(path))
        };
    }
    let places = site_packages(environment);
    let found = places
        .iter()
        .find_map(|place| newest(&place.join("onnxruntime").join("capi")));
    found.ok_or(LibraryError::NotInstalled(places))
}

/// Package folders of the Python environments in reach: the active one, those of the interpreters on the search path in its
/// order, the user's own.
fn site_packages(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .iter()
        .filter_map(|name| environment(name))
        .map(PathBuf::from)
        .collect();
    for folder in environment("PATH").iter().flat_map(std::env::split_paths) {
        for name in ["python3", "python", "python.exe"] {
            let interpreter = folder.join(name);
            if !interpreter.is_file() {
                continue;
            }
            // An environment's interpreter is a link to the one it was made from: the packages may be in either.
            prefixes.extend(folder.parent().map(Path::to_owned));
            let real = std::fs::canonicalize(&interpreter).ok();
            prefixes.extend(
                real.as_deref()
                    .and_then(Path::parent)
                    .and_then(Path::parent)
                    .map(Path::to_owned),
            );
        }
    }
    prefixes.extend(environment("HOME").map(|home| PathBuf::from(home).join(".local")));
    let mut places: Vec<PathBuf> = Vec::new();
    for prefix in prefixes {
        let mut add = |place: PathBuf| {
            if place.is_dir() && !places.contains(&place) {
                places.push(place);
            }
        };
        add(prefix.join("Lib").join("site-packages"));
        for library in ["lib", "lib64"] {
            let mut versions = children(&prefix.join(library), |name| name.starts_with("python3"));
            versions.reverse();
            for version in versions {
                add(version.join("site-packages"));
                add(version.join("dist-packages"));
            }
        }
    }
    places
}

/// The library in a package's folder, the one of the highest version if there are several.
fn newest(folder: &Path) -> Option<PathBuf> {
    children(folder, |name| {
        name.starts_with("libonnxruntime.so")
            || name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
            || name == "onnxruntime.dll"
    })
    .pop()
}

/// Entries of a folder whose names are accepted, by version: runs of digits compare as numbers.
fn children(folder: &Path, accept: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<(String, u64)>, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let name = OsStr::to_str(&name).filter(|name| accept(name))?;
            Some((version_key(name), entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn version_key(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let (mut text, mut number) = (String::new(), None::<u64>);
    for character in name.chars() {
        match (character.to_digit(10), number) {
            (Some(digit), known) => {
                number = Some(
                    known
                        .unwrap_or(0)
                        .saturating_mul(10)
                        .saturating_add(u64::from(digit)),
                )
            }
            (None, Some(known)) => {
                key.push((std::mem::take(&mut text), known));
                number = None;
                text.push(character);
            }
            (None, None) => text.push(character),
        }
    }
    key.push((text, number.unwrap_or(0)));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, file: &str) -> PathBuf {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn a_named_file_wins_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let library = make(folder.path(), "libonnxruntime.so");
        let named = |path: &Path| {
            let path = path.as_os_str().to_owned();
            find(&move |name| (name == VARIABLE).then(|| path.clone()))
        };
        assert_eq!(named(&library), Ok(library.clone()));
        assert!(
            named(&folder.path().join("gone.so"))
                .unwrap_err()
                .to_string()
                .contains("gone.so")
        );
    }

    #[test]
    fn the_active_environment_comes_first_and_the_newest_library_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (active, other) = (folder.path().join("active"), folder.path().join("other"));
        let capi = "lib/python3.11/site-packages/onnxruntime/capi";
        make(&active, &format!("{capi}/libonnxruntime.so.1.9.0"));
        let newest = make(&active, &format!("{capi}/libonnxruntime.so.1.32.0"));
        make(&active, &format!("{capi}/libonnxruntime_providers_shared.so"));
        make(&other, &format!("{capi}/libonnxruntime.so.2.0.0"));
        make(&other, "bin/python3");
        let path = std::env::join_paths([other.join("bin")]).unwrap();
        let environment = |name: &str| match name {
            "VIRTUAL_ENV" => Some(active.clone().into_os_string()),
            "PATH" => Some(path.clone()),
            _ => None,
        };
        assert_eq!(find(&environment), Ok(newest));
        let without = |name: &str| if name == "PATH" { Some(path.clone()) } else { None };
        assert_eq!(
            find(&without),
            Ok(other.join(capi).join("libonnxruntime.so.2.0.0"))
        );
        let missing = find(&|_| None).unwrap_err().to_string();
        assert!(missing.contains("pip install onnxruntime"));
    }
}
