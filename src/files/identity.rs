//! What tells a file from all others.

use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// A file, whatever path leads to it: through symbolic links, hard links, `..` and relative names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// Device and number of a file that exists.
    Node(u64, u64),
    /// The resolved folder and the name, of a file that does not exist yet, or where the system numbers no files.
    Name(PathBuf, OsString),
    /// A path whose folder does not exist.
    Nowhere(PathBuf),
}

impl Identity {
    /// The file that a path leads to.
    pub fn of(path: &Path) -> Self {
        if let Some((device, number)) = path.metadata().ok().as_ref().and_then(identity) {
            return Self::Node(device, number);
        }
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match (directory_of(&resolved).canonicalize(), resolved.file_name()) {
            (Ok(folder), Some(name)) => Self::Name(folder, name.to_owned()),
            _ => Self::Nowhere(resolved),
        }
    }
}

/// The directory part of a path, `.` for a bare file name.
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// Whether two paths lead to one file that exists.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a.exists() && Identity::of(a) == Identity::of(b)
}

/// What tells a file from all others on this machine; `None` where the system has no such thing.
#[cfg(unix)]
pub(crate) fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

/// What tells a file from all others on this machine; `None` where the system has no such thing.
#[cfg(not(unix))]
pub(crate) fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Whether the file has more than one name.
#[cfg(unix)]
pub(crate) fn has_other_names(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    metadata.nlink() > 1
}

/// Whether the file has more than one name.
#[cfg(not(unix))]
pub(crate) fn has_other_names(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_has_the_current_directory() {
        assert_eq!(directory_of(Path::new("m.onnx")), Path::new("."));
        assert_eq!(directory_of(Path::new("a/m.onnx")), Path::new("a"));
        assert_eq!(directory_of(Path::new("/m.onnx")), Path::new("/"));
    }

    #[test]
    fn one_file_is_known_by_each_of_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("a"), "").unwrap();
        std::fs::write(at("b"), "").unwrap();
        std::fs::hard_link(at("a"), at("hard")).unwrap();
        assert_eq!(Identity::of(&at("a")), Identity::of(&at("sub/../a")));
        assert_eq!(Identity::of(&at("a")), Identity::of(&at("hard")));
        assert_ne!(Identity::of(&at("a")), Identity::of(&at("b")));
        assert_eq!(Identity::of(&at("new")), Identity::of(&at("sub/../new")));
        assert_ne!(Identity::of(&at("new")), Identity::of(&at("sub/new")));
        assert!(same_file(&at("a"), &at("hard")) && !same_file(&at("new"), &at("new")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", at("soft")).unwrap();
            std::os::unix::fs::symlink(at("sub"), at("other")).unwrap();
            assert_eq!(Identity::of(&at("a")), Identity::of(&at("soft")));
            assert_eq!(Identity::of(&at("sub/new")), Identity::of(&at("other/new")));
        }
    }
}
