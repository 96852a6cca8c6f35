//! What a data set asks of a model beyond classes and values: the task, how its answers are read, and what is true.

use std::path::{Path, PathBuf};

use super::annotations::{Annotations, Coco, ImageFile};
use super::boxes::BoxesSpec;
use super::error::DataError;
use super::spec::Spec;
use super::truth::{Categories, TaskKind};

/// What `labels` says where the answers of the reference model are the truth.
pub const REFERENCE: &str = "reference";

/// A task with everything that says how answers are read.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSetting {
    /// The task.
    pub kind: TaskKind,
    /// Whether the answers of the reference model are the truth.
    pub from_reference: bool,
    /// How boxes are read.
    pub boxes: BoxesSpec,
    /// What categories are called; empty where nobody says.
    pub categories: Categories,
}

/// Where annotations are.
pub(super) struct Labels {
    pub(super) path: PathBuf,
    /// Of what.
    pub(super) kind: TaskKind,
}

impl Spec {
    /// Whether samples are judged by more than classes or values.
    pub fn names_task(&self) -> bool {
        matches!(TaskSetting::of(self, Path::new("")), Ok((Some(_), _)))
    }
}

impl TaskSetting {
    /// The task of a description, if it has one that is more than classes or values, and where its annotations are.
    pub(super) fn of(spec: &Spec, base: &Path) -> Result<(Option<Self>, Option<Labels>), DataError> {
        let wrong = |message: String| DataError::Spec { file: None, message };
        let named = spec.labels.clone().or_else(|| {
            let table = spec.images.as_ref()?.labels.as_ref()?;
            table.to_str().map(str::to_owned)
        });
        let is_json = named.as_deref().is_some_and(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
        });
        let kind = match spec.task {
            Some(kind) => kind,
            None if spec.boxes.is_some() || is_json => TaskKind::Detection,
            None => return Ok((None, None)),
        };
        if !matches!(kind, TaskKind::Detection | TaskKind::Keypoints) && spec.boxes.is_some() {
            return Err(wrong("`boxes` says how boxes are read, and the task has none".to_owned()));
        }
        if matches!(kind, TaskKind::Classification | TaskKind::Regression) {
            return Ok((None, None));
        }
        let boxes = spec.boxes.clone().map(BoxesSpec::from).unwrap_or_default();
        let boxes = boxes.resolved().map_err(|message| wrong(format!("boxes: {message}")))?;
        let from_reference = named.as_deref() == Some(REFERENCE);
        let labels = named.filter(|_| !from_reference).map(|name| {
            let inside = spec.images.as_ref().map(|images| base.join(&images.folder).join(&name));
            let path = inside.filter(|path| path.exists()).unwrap_or_else(|| base.join(&name));
            Labels { path, kind }
        });
        let setting = Self {
            kind,
            from_reference,
            boxes,
            categories: Categories::new(),
        };
        Ok((Some(setting), labels))
    }
}

impl Labels {
    /// The images that the annotations are of, where they say so, with what is true of each.
    pub(super) fn read(&self) -> Result<Coco, DataError> {
        Coco::read(&self.path, self.kind == TaskKind::Keypoints)
    }
}

/// Width and height of images, from the beginning of their files.
pub(super) fn sizes(files: &[PathBuf]) -> Result<Vec<ImageFile>, DataError> {
    use rayon::prelude::*;
    files
        .par_iter()
        .map(|path| {
            let (width, height) = image::image_dimensions(path).map_err(|error| match error {
                image::ImageError::IoError(e) => DataError::Read {
                    file: path.clone(),
                    reason: e.to_string(),
                },
                other => DataError::Image {
                    file: path.clone(),
                    reason: other.to_string(),
                },
            })?;
            Ok(ImageFile {
                path: path.clone(),
                width,
                height,
            })
        })
        .collect()
}

/// Annotations, and the size of each image as its file has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) annotations: Option<Annotations>,
    pub(super) files: Vec<ImageFile>,
}
