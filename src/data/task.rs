//! What a data set asks of a model beyond classes and values: the task, how its answers are read, and what is true.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::annotations::{self, Annotations, Coco, ImageFile};
use super::boxes::BoxesSpec;
use super::error::{DataError, SpecError};
use super::images;
use super::spec::Spec;
use super::tasks::{EmbeddingOptions, Pair, SegmentationOptions, TextOptions, TokensOptions};
use super::truth::{Categories, TaskKind, Truth};
use crate::ir::Graph;

/// What `labels` says where the answers of the reference model are the truth.
pub const REFERENCE: &str = "reference";

/// A task with everything that says how answers are read.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSetting {
    /// The task.
    pub kind: TaskKind,
    /// Whether the answers of the reference model are the truth.
    pub from_reference: bool,
    /// How answers are read.
    pub reading: Reading,
    /// What categories are called; empty where nobody says.
    pub categories: Categories,
}

/// How the answers of a task are read.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// As boxes, or keypoints.
    Boxes(Box<BoxesSpec>),
    /// As a class a pixel.
    Masks(SegmentationOptions),
    /// As a vector, with the pairs that are compared.
    Vectors(EmbeddingOptions, Vec<Pair>),
    /// As a text, with the characters of the classes.
    Text(TextOptions, Vec<String>),
    /// As scores of the next token.
    Tokens(TokensOptions),
    /// As a signal.
    Signals,
}

/// Where annotations are.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) path: PathBuf,
    /// Of what.
    kind: TaskKind,
    /// The file with the names of categories.
    names: Option<PathBuf>,
}

/// What is true, and the size of each image as its file has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) annotations: Option<Annotations>,
    /// Masks, which are read when they are asked for.
    masks: Option<(Vec<PathBuf>, SegmentationOptions)>,
    pub(super) files: Vec<ImageFile>,
}

impl Spec {
    /// Whether samples are judged by more than classes or values.
    pub fn names_task(&self) -> bool {
        self.task_kind().is_some()
    }

    /// The task, where it is more than classes or values.
    fn task_kind(&self) -> Option<TaskKind> {
        let implied = || {
            let is_json = |name: &str| {
                let extension = Path::new(name).extension();
                extension.is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
            };
            let blocks = [
                (self.boxes.is_some(), TaskKind::Detection),
                (self.segmentation.is_some(), TaskKind::Segmentation),
                (self.embedding.is_some(), TaskKind::Embedding),
                (self.text.is_some(), TaskKind::Text),
                (self.tokens.is_some(), TaskKind::Tokens),
                (
                    self.labels_named().is_some_and(|name| is_json(&name)),
                    TaskKind::Detection,
                ),
            ];
            blocks.into_iter().find(|(there, _)| *there).map(|(_, kind)| kind)
        };
        let kind = self.task.or_else(implied)?;
        (!matches!(kind, TaskKind::Classification | TaskKind::Regression)).then_some(kind)
    }

    /// What `labels` says, wherever it stands.
    fn labels_named(&self) -> Option<String> {
        self.labels.clone().or_else(|| {
            let table = self.images.as_ref()?.labels.as_ref()?;
            table.to_str().map(str::to_owned)
        })
    }

    /// Whether labels of the task are an array beside the inputs.
    fn labels_are_an_array(&self, kind: TaskKind) -> bool {
        let arrays = self.npz.is_some() || self.arrays.is_some();
        arrays
            && matches!(
                kind,
                TaskKind::Tokens | TaskKind::Signals | TaskKind::Segmentation
            )
    }

    /// Refuses what belongs to another task.
    pub(super) fn check_task(&self) -> Result<(), SpecError> {
        let kind = self.task_kind();
        let boxes = matches!(kind, Some(TaskKind::Detection | TaskKind::Keypoints));
        for (name, there, fits) in [
            ("boxes", self.boxes.is_some(), boxes),
            ("names", self.names.is_some(), boxes),
            (
                "segmentation",
                self.segmentation.is_some(),
                kind == Some(TaskKind::Segmentation),
            ),
            (
                "embedding",
                self.embedding.is_some(),
                kind == Some(TaskKind::Embedding),
            ),
            ("text", self.text.is_some(), kind == Some(TaskKind::Text)),
            ("tokens", self.tokens.is_some(), kind == Some(TaskKind::Tokens)),
        ] {
            if there && !fits {
                return Err(SpecError::NotOfTask(name));
            }
        }
        Ok(())
    }
}

impl TaskSetting {
    /// The task of a description, if it has one that is more than classes or values, and where its annotations are.
    pub(super) fn of(spec: &Spec, base: &Path) -> Result<(Option<Self>, Option<Labels>), DataError> {
        let wrong = |message: String| DataError::Spec { file: None, message };
        spec.check_task()?;
        let Some(kind) = spec.task_kind() else {
            return Ok((None, None));
        };
        let reading = match kind {
            TaskKind::Segmentation => Reading::Masks(spec.segmentation.clone().unwrap_or_default()),
            TaskKind::Embedding => Reading::Vectors(spec.embedding.clone().unwrap_or_default(), Vec::new()),
            TaskKind::Text => {
                let options = spec.text.clone().unwrap_or_default();
                let characters = annotations::charset(&options, base)?;
                Reading::Text(options, characters)
            }
            TaskKind::Tokens => Reading::Tokens(spec.tokens.clone().unwrap_or_default()),
            TaskKind::Signals => Reading::Signals,
            _ => {
                let boxes = spec.boxes.clone().map(BoxesSpec::from).unwrap_or_default();
                let resolved = boxes.resolved();
                Reading::Boxes(Box::new(
                    resolved.map_err(|error| wrong(format!("boxes: {error}")))?,
                ))
            }
        };
        let categories = match &reading {
            Reading::Masks(options) => (0..).zip(options.names.iter().cloned()).collect(),
            _ => Categories::new(),
        };
        let named = spec.labels_named();
        let from_reference = named.as_deref() == Some(REFERENCE);
        let in_file = |_: &String| !from_reference && !spec.labels_are_an_array(kind);
        let labels = named.filter(in_file).map(|name| Labels {
            path: beside(spec, base, Path::new(&name)),
            kind,
            names: spec.names.as_ref().map(|names| beside(spec, base, names)),
        });
        let setting = Self {
            kind,
            from_reference,
            reading,
            categories,
        };
        Ok((Some(setting), labels))
    }

    /// Reads boxes as a model gives them that has the reading in it, and takes images as they are.
    pub(super) fn read_baked(&mut self, graph: &Graph) -> Result<(), DataError> {
        if let Reading::Boxes(layout) = &mut self.reading {
            let outputs: Vec<String> = graph
                .outputs()
                .iter()
                .map(|output| output.name.to_string())
                .collect();
            let baked = layout.baked(&outputs).map_err(|error| DataError::Spec {
                file: None,
                message: format!("boxes: {error}"),
            })?;
            if let Some(baked) = baked {
                **layout = baked;
            }
        }
        Ok(())
    }

    /// Whether labels of samples are an array that the inputs' archive holds.
    pub(super) fn labels_of_arrays(spec: &Spec) -> bool {
        match spec.task_kind() {
            Some(kind) => spec.labels_are_an_array(kind) && spec.labels.as_deref() != Some(REFERENCE),
            None => spec.labels.as_deref() != Some(REFERENCE),
        }
    }

    /// Reads the pairs whose vectors are compared.
    pub(super) fn read_pairs(
        &mut self,
        spec: &Spec,
        base: &Path,
        files: &[ImageFile],
        samples: u64,
    ) -> Result<(), DataError> {
        if let Reading::Vectors(options, pairs) = &mut self.reading
            && let Some(path) = &options.pairs
        {
            *pairs = annotations::read_pairs(&beside(spec, base, path), files, samples)?;
        }
        Ok(())
    }

    /// Keeps the pairs of which both rows are among the chosen ones, which ascend, as the numbers of their samples.
    pub(super) fn choose_pairs(&mut self, chosen: &[u64]) {
        if let Reading::Vectors(_, pairs) = &mut self.reading {
            let sample = |row: u64| chosen.binary_search(&row).ok().map(|at| at as u64);
            let both = |pair: &Pair| {
                let (a, b) = sample(pair.a).zip(sample(pair.b))?;
                Some(Pair { a, b, ..*pair })
            };
            *pairs = pairs.iter().filter_map(both).collect();
        }
    }
}

/// A file that is looked for in the folder of images first, and beside the description else.
fn beside(spec: &Spec, base: &Path, name: &Path) -> PathBuf {
    let inside = spec
        .images
        .as_ref()
        .map(|images| base.join(&images.folder).join(name));
    inside
        .filter(|path| path.exists())
        .unwrap_or_else(|| base.join(name))
}

impl Labels {
    fn is_coco(&self) -> bool {
        matches!(self.kind, TaskKind::Detection | TaskKind::Keypoints) && !self.path.is_dir()
    }

    fn coco(&self) -> Result<Coco, DataError> {
        Coco::read(&self.path, self.kind == TaskKind::Keypoints)
    }

    /// What is true of images.
    fn of_images(&self, setting: &TaskSetting, files: Vec<ImageFile>) -> Result<Known, DataError> {
        let path = &self.path;
        let names = self.names.as_deref();
        let annotations = match &setting.reading {
            Reading::Masks(options) => {
                let masks = annotations::mask_files(path, &files)?;
                return Ok(Known {
                    annotations: None,
                    masks: Some((masks, options.clone())),
                    files,
                });
            }
            Reading::Text(..) => annotations::read_strings(path, &files)?,
            Reading::Boxes(_) if holds(path, "xml") => annotations::read_voc(path, &files, names)?,
            Reading::Boxes(_) => annotations::read_yolo(path, &files, names)?,
            _ => {
                return Err(DataError::Labels {
                    file: path.clone(),
                    reason: "the task has no labels of images; leave `labels` out, or give `reference`"
                        .to_owned(),
                });
            }
        };
        Ok(Known {
            annotations: Some(annotations),
            masks: None,
            files,
        })
    }

    /// The images of a folder with their sizes, and what is true of each: those that the annotations list, else all.
    pub(super) fn annotated(
        labels: Option<&Self>,
        setting: &TaskSetting,
        folder: &Path,
    ) -> Result<Known, DataError> {
        let Some(labels) = labels else {
            return Ok(Known {
                files: sizes(&images::all(folder)?)?,
                ..Known::default()
            });
        };
        if !labels.is_coco() {
            return labels.of_images(setting, sizes(&images::all(folder)?)?);
        }
        let coco = labels.coco()?;
        let paths: Vec<PathBuf> = coco.images.iter().map(|image| folder.join(&image.name)).collect();
        if let Some(missing) = paths.iter().find(|path| !path.is_file()) {
            return Err(DataError::Read {
                file: missing.clone(),
                reason: format!("no such image, and {} lists it", labels.path.display()),
            });
        }
        let files = sizes(&paths)?;
        let annotations = coco.of_images(&labels.path, &files)?;
        Ok(Known {
            annotations: Some(annotations),
            masks: None,
            files,
        })
    }

    /// What is true of the rows of arrays: entry after entry of the annotations.
    pub(super) fn of_rows(&self, setting: &TaskSetting, rows: u64) -> Result<Known, DataError> {
        let wrong = |reason: String| DataError::Labels {
            file: self.path.clone(),
            reason,
        };
        if matches!(setting.reading, Reading::Text(..)) {
            // A table of texts names rows by their numbers.
            let numbered = |row: u64| ImageFile {
                path: row.to_string().into(),
                width: 0,
                height: 0,
            };
            let files: Vec<ImageFile> = (0..rows).map(numbered).collect();
            return Ok(Known {
                annotations: Some(annotations::read_strings(&self.path, &files)?),
                ..Known::default()
            });
        }
        if !self.is_coco() {
            return Err(wrong(
                "labels of arrays are a COCO file, or an array beside them".to_owned(),
            ));
        }
        let coco = self.coco()?;
        if coco.images.len() as u64 != rows {
            return Err(wrong(format!(
                "it has {} images, the arrays have {rows} samples",
                coco.images.len()
            )));
        }
        let size = |image: &annotations::Listed| {
            let [width, height] = image.size?;
            Some(ImageFile {
                path: image.name.clone().into(),
                width,
                height,
            })
        };
        Ok(Known {
            files: coco.images.iter().map_while(size).collect(),
            annotations: Some(Annotations {
                truths: coco.truths,
                categories: coco.categories,
            }),
            masks: None,
        })
    }

    /// The files that hold the annotations.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        if !self.path.is_dir() {
            return Ok(vec![self.path.clone()]);
        }
        let unread = |e: std::io::Error| DataError::Read {
            file: self.path.clone(),
            reason: e.to_string(),
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

impl Known {
    /// Whether anything is known to be true.
    pub(super) fn has_truths(&self) -> bool {
        self.annotations.is_some() || self.masks.is_some()
    }

    /// What is true of a row.
    pub(super) fn truth(&self, row: usize) -> Result<Option<Cow<'_, Truth>>, DataError> {
        if let Some((masks, options)) = &self.masks {
            let (Some(file), Some(image)) = (masks.get(row), self.files.get(row)) else {
                return Ok(None);
            };
            return annotations::mask(file, image, options).map(|mask| Some(Cow::Owned(Truth::Mask(mask))));
        }
        let annotations = self.annotations.as_ref();
        Ok(annotations
            .and_then(|annotations| annotations.truths.get(row))
            .map(Cow::Borrowed))
    }
}

/// Whether a folder has files with this extension.
fn holds(folder: &Path, extension: &str) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let path = entry.path();
            path.extension()
                .is_some_and(|own| own.eq_ignore_ascii_case(extension))
        })
    })
}

/// Width and height of images, from the beginning of their files.
fn sizes(files: &[PathBuf]) -> Result<Vec<ImageFile>, DataError> {
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
