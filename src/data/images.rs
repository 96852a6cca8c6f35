//! Folders of images with labels from sub-folders or from a CSV/TSV file.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::jpeg;
use super::preprocess::Preprocess;
use super::signature::InputSignature;
use super::spec::ImageSpec;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor, TensorError};

/// The images of a folder in a fixed order, decoded when asked for.
#[derive(Debug)]
pub(super) struct ImageFolder {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) labels: Option<Vec<i64>>,
    /// What the classes are called, where sub-folders are the classes.
    pub(super) classes: Option<Vec<String>>,
    pub(super) preprocess: Preprocess,
}

impl ImageFolder {
    pub(super) fn open(spec: &ImageSpec, base: &Path, preprocess: Preprocess) -> Result<Self, DataError> {
        let folder = base.join(&spec.folder);
        let found = ["labels.tsv", "labels.csv"].map(PathBuf::from);
        let found = found.iter().find(|name| folder.join(name).is_file());
        let (files, labels) = match spec.labels.as_ref().or(found) {
            Some(labels) => {
                let inside = folder.join(labels);
                listed(
                    &folder,
                    if inside.exists() {
                        inside
                    } else {
                        base.join(labels)
                    },
                )?
            }
            None => by_folder(&folder)?,
        };
        if files.is_empty() {
            let detail = "; JPEG, PNG and WebP files are read".to_owned();
            return Err(DataError::Empty { file: folder, detail });
        }
        let classes = match (&spec.labels, &labels) {
            (None, Some(_)) => Some(class_names(&folder)?),
            _ => None,
        };
        Ok(Self {
            folder,
            files,
            labels,
            classes,
            preprocess,
        })
    }

    /// These images of a folder, without classes.
    pub(super) fn of(folder: PathBuf, files: Vec<PathBuf>, preprocess: Preprocess) -> Self {
        Self {
            folder,
            files,
            labels: None,
            classes: None,
            preprocess,
        }
    }

    /// One image as values, with its dimensions without the batch axis.
    pub(super) fn read(&self, index: usize) -> Result<(Vec<u64>, Vec<f64>), DataError> {
        let Some(file) = self.files.get(index) else {
            return Err(DataError::Read {
                file: self.folder.clone(),
                reason: format!("no image {index}"),
            });
        };
        let bytes = crate::files::read_bytes(file).map_err(|e| DataError::Read {
            file: file.clone(),
            reason: e.to_string(),
        })?;
        if jpeg::is_truncated(&bytes) {
            return Err(DataError::Image {
                file: file.clone(),
                reason: format!(
                    "the JPEG ends after {} bytes, before its image does: it is truncated",
                    bytes.len()
                ),
            });
        }
        let image = image::load_from_memory(&bytes).map_err(|e| DataError::Image {
            file: file.clone(),
            reason: e.to_string(),
        })?;
        Ok(self.preprocess.image(&image))
    }

    /// The images at `rows` as values of `input`, and the labels of the first `real` of them.
    pub(super) fn batch(
        &self,
        input: Option<&InputSignature>,
        rows: &[u64],
        real: usize,
    ) -> Result<(RunValues, Option<Tensor>), DataError> {
        let Some(input) = input else {
            return Ok((RunValues::new(), None));
        };
        let mut dims: Vec<u64> = Vec::new();
        let mut values = Vec::new();
        for row in rows {
            let file = || self.files.get(*row as usize).cloned().unwrap_or_default();
            let (one, pixels) = self.read(*row as usize)?;
            let full: Vec<u64> = [rows.len() as u64].iter().chain(&one).copied().collect();
            if !input.fits(&full) || (!dims.is_empty() && dims != full) {
                let expected = if dims.is_empty() {
                    input.shape_text()
                } else {
                    format!("{dims:?}, as the images before it")
                };
                return Err(DataError::Shape {
                    file: file(),
                    array: "the image after preprocessing".to_owned(),
                    input: input.name.clone(),
                    expected,
                    found: format!("{full:?}"),
                });
            }
            dims = full;
            values.extend(pixels);
        }
        let tensor = tensor(input.dtype, &dims, &values).map_err(|_| DataError::Type {
            file: self.folder.clone(),
            array: "the images".to_owned(),
            input: input.name.clone(),
            expected: input.dtype.to_string(),
            found: "preprocessed pixels".to_owned(),
            hint: "",
        })?;
        let labels = self.labels.as_ref().map(|labels| {
            let classes: Vec<i64> = rows
                .iter()
                .take(real)
                .filter_map(|row| labels.get(*row as usize).copied())
                .collect();
            Tensor::vector_i64(&classes)
        });
        Ok((
            RunValues::from([(input.name.clone(), RunValue::Tensor(tensor))]),
            labels,
        ))
    }
}

/// Pixels as they are decoded, or values of a float type.
fn tensor(dtype: DType, dims: &[u64], values: &[f64]) -> Result<Tensor, TensorError> {
    let is_pixel = |value: &f64| value.fract() == 0.0 && (0.0..=255.0).contains(value);
    if dtype == DType::U8 && values.iter().all(is_pixel) {
        let pixels: Vec<u8> = values.iter().map(|value| *value as u8).collect();
        return Tensor::from_slice(dims, &pixels);
    }
    Tensor::from_f64(dtype, dims, values)
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or("")
        .to_ascii_lowercase();
    matches!(extension.as_str(), "jpg" | "jpeg" | "png" | "webp")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = |e: std::io::Error| DataError::Read {
        file: folder.to_owned(),
        reason: e.to_string(),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The images of a folder, in the order of their names.
pub(super) fn all(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files: Vec<PathBuf> = entries(folder)?
        .into_iter()
        .filter(|path| is_image(path))
        .collect();
    if files.is_empty() {
        let detail = "; JPEG, PNG and WebP files are read".to_owned();
        return Err(DataError::Empty {
            file: folder.to_owned(),
            detail,
        });
    }
    Ok(files)
}

type Listing = (Vec<PathBuf>, Option<Vec<i64>>);

/// The sub-folders in the order of their classes.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir());
    Ok(folders
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect())
}

fn by_folder(folder: &Path) -> Result<Listing, DataError> {
    let paths = entries(folder)?;
    let classes: Vec<&PathBuf> = paths.iter().filter(|path| path.is_dir()).collect();
    if classes.is_empty() {
        return Ok((paths.into_iter().filter(|path| is_image(path)).collect(), None));
    }
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (class, path) in classes.into_iter().enumerate() {
        for file in entries(path)?.into_iter().filter(|file| is_image(file)) {
            files.push(file);
            labels.push(class as i64);
        }
    }
    Ok((files, Some(labels)))
}

fn listed(folder: &Path, table: PathBuf) -> Result<Listing, DataError> {
    let wrong = |reason: String| DataError::Labels {
        file: table.clone(),
        reason,
    };
    let text = crate::files::read_text(&table).map_err(|e| DataError::Read {
        file: table.clone(),
        reason: e.to_string(),
    })?;
    let delimiter = if text.lines().next().is_some_and(|line| line.contains('\t')) {
        b'\t'
    } else {
        b','
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (line, record) in reader.records().enumerate() {
        let record = record.map_err(|e| wrong(format!("line {}: {e}", line + 1)))?;
        let Some(name) = record.get(0).filter(|name| !name.is_empty()) else {
            continue;
        };
        match record.get(1).map(str::parse::<i64>) {
            Some(Ok(label)) if label >= 0 => labels.push(label),
            Some(Err(_)) if line == 0 => continue,
            Some(_) => {
                return Err(wrong(format!(
                    "line {}: {:?} is not a class number",
                    line + 1,
                    record.get(1).unwrap_or("")
                )));
            }
            None => return Err(wrong(format!("line {}: {name} has no label", line + 1))),
        }
        files.push(folder.join(name));
    }
    Ok((files, Some(labels)))
}

#[cfg(test)]
mod tests {
    use super::super::preprocess::PreprocessSpec;
    use super::*;

    fn open(folder: &Path, labels: Option<&str>) -> Result<ImageFolder, DataError> {
        let spec = ImageSpec {
            folder: folder.to_owned(),
            labels: labels.map(PathBuf::from),
            preprocess: None,
        };
        let preprocess = PreprocessSpec::preset("mnist").unwrap().resolve().unwrap();
        ImageFolder::open(&spec, Path::new(""), preprocess)
    }

    #[test]
    fn classes_are_folders_in_alphabetical_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["dog", "cat"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            image::GrayImage::new(2, 2)
                .save(folder.path().join(name).join("a.png"))
                .unwrap();
        }
        let images = open(folder.path(), None).unwrap();
        assert_eq!(images.labels, Some(vec![0, 1]));
        assert!(images.files[0].ends_with("cat/a.png"));
        assert_eq!(images.read(0).unwrap().0, [1, 2, 2]);
    }

    #[test]
    fn tables_may_have_a_heading_and_must_have_labels() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("l.tsv");
        fs::write(&table, "file\tlabel\na.png\t3\n").unwrap();
        assert_eq!(open(folder.path(), Some("l.tsv")).unwrap().labels, Some(vec![3]));
        fs::write(&table, "a.png\t3\nb.png\n").unwrap();
        assert_eq!(
            open(folder.path(), Some("l.tsv")).unwrap_err().code(),
            "data-labels"
        );
    }

    #[test]
    fn broken_images_and_empty_folders_have_their_own_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(folder.path(), None).unwrap_err().code(), "data-empty");
        fs::write(folder.path().join("a.jpg"), b"\xff\xd8\xff broken").unwrap();
        assert_eq!(
            open(folder.path(), None).unwrap().read(0).unwrap_err().code(),
            "data-image"
        );
    }
}
