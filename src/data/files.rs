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
            if let Some(labels) = images
                .labels
                .as_ref()
                .filter(|labels| labels.as_os_str() != REFERENCE)
            {
                files.push(file(&images.folder.join(labels)));
                files.push(file(labels));
            }
        }
        let in_file = self.names_task()
            && (self.images.is_some() || self.labels.as_deref().is_some_and(|l| l.ends_with(".json")));
        let labels = self
            .labels
            .as_ref()
            .filter(|labels| *labels != REFERENCE && in_file)
            .map(Path::new);
        let beside = [
            labels,
            self.names.as_deref(),
            self.embedding
                .as_ref()
                .and_then(|options| options.pairs.as_deref()),
            self.text.as_ref().and_then(|options| options.charset.as_deref()),
        ];
        for path in beside.into_iter().flatten() {
            let endings: &[&str] = &["txt", "xml", "png", "json", "tsv", "csv", "yaml"];
            let read = |path: &Path| SpecFile {
                endings,
                ..file(path)
            };
            files.extend(self.images.iter().map(|images| read(&images.folder.join(path))));
            files.push(read(path));
        }
        files
    }
}
