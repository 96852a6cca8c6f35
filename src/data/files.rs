//! Which files a description reads.

use std::path::{Path, PathBuf};

use super::{REFERENCE, Spec};

/// A file or folder that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFile {
    /// Where.
    pub path: PathBuf,
    /// For a folder: the endings of the files in it that are read.
    pub endings: &'static [&'static str],
}

impl Spec {
    /// The files that the description names, its relative paths starting from `base`.
    pub fn files(&self, base: &Path) -> Vec<SpecFile> {
        let file = |path: &Path| SpecFile {
            path: base.join(path),
            endings: &[],
        };
        let mut files: Vec<SpecFile> = self.npz.iter().map(|path| file(path)).collect();
        files.extend(self.onnx.iter().map(|path| SpecFile {
            endings: &["pb", "onnx"],
            ..file(path)
        }));
        if let Some(images) = &self.images {
            files.push(SpecFile {
                endings: &["jpg", "jpeg", "png", "webp", "tsv", "csv"],
                ..file(&images.folder)
            });
            if let Some(labels) = images.labels.as_ref().filter(|labels| labels.as_os_str() != REFERENCE) {
                files.push(file(&images.folder.join(labels)));
                files.push(file(labels));
            }
        }
        if let Some(labels) = self.labels.as_ref().filter(|labels| *labels != REFERENCE)
            && self.names_task()
        {
            let labels = Path::new(labels);
            files.extend(self.images.iter().map(|images| file(&images.folder.join(labels))));
            files.push(file(labels));
        }
        files
    }
}
