//! From a description to a source of samples.

use std::path::{Path, PathBuf};

use super::columns::{Archive, Columns};
use super::error::DataError;
use super::images::ImageFolder;
use super::preprocess::{Preprocess, PreprocessSpec, Preset};
use super::signature::Signature;
use super::spec::{ImageSpec, SourceSpec, Spec, SyntheticSpec};
use super::task::{Known, Labels, REFERENCE, TaskSetting};
use super::{synthetic, test_sets};
use crate::ir::Graph;

/// Where samples come from.
#[derive(Debug)]
pub(super) enum Source {
    Arrays(Columns),
    Images(ImageFolder),
    Synthetic {
        spec: SyntheticSpec,
        dims: Vec<Vec<u64>>,
    },
    TestSets {
        folders: Vec<PathBuf>,
        graph: Box<Graph>,
    },
}

/// A description on its way to samples.
pub(super) struct Opening<'a> {
    pub(super) spec: &'a Spec,
    pub(super) base: &'a Path,
    pub(super) graph: &'a Graph,
    pub(super) signature: &'a Signature,
    pub(super) task: Option<&'a TaskSetting>,
    pub(super) labels: Option<&'a Labels>,
}

impl Opening<'_> {
    /// Whether the model gets images as they are decoded: it says so, or its input could be nothing else where nothing is described.
    fn is_given_images(&self) -> bool {
        match self.signature.inputs.as_slice() {
            [input] => {
                input.takes_images() || self.spec.preprocessing().is_none() && input.could_take_images()
            }
            _ => false,
        }
    }

    /// How pixels become values, with the sizes that the model says.
    fn preprocess(&self) -> Result<Option<Preprocess>, DataError> {
        if self.is_given_images() {
            return Ok(Some(Preprocess::as_is()));
        }
        let first = self.signature.inputs.first();
        let shape = first.and_then(|input| input.shape.as_deref());
        let described = self.spec.preprocessing().map(PreprocessSpec::resolve).transpose();
        Ok(described?.map(|plain| plain.for_input(shape)).transpose()?)
    }

    /// The arrays of a file, or those that a program hands over, with how many samples they hold.
    fn arrays(&self, archive: Archive<'_>) -> Result<(Source, u64), DataError> {
        let mut spec = self.spec.clone();
        if !TaskSetting::labels_of_arrays(&spec) {
            spec.labels = None;
        }
        let preprocess = match self.is_given_images() {
            true => None,
            false => self.preprocess()?,
        };
        let (columns, count) = Columns::open(&spec, archive, self.signature, preprocess)?;
        Ok((Source::Arrays(columns), count))
    }

    /// The images of a folder, with what is true of them where a task says it.
    fn images(&self, images: &ImageSpec, known: &mut Known) -> Result<ImageFolder, DataError> {
        let (spec, base) = (self.spec, self.base);
        let preprocess = self.preprocess()?.ok_or_else(|| DataError::Spec {
            file: None,
            message: format!(
                "images need `preprocess`: {} or fields of their own, in the description or as --preprocess",
                Preset::names()
            ),
        })?;
        let folder = match self.task {
            Some(task) => {
                let folder = base.join(&images.folder);
                *known = Labels::annotated(self.labels, task, &folder)?;
                let files = known.files.iter().map(|file| file.path.clone()).collect();
                ImageFolder::of(folder, files, preprocess)
            }
            None => {
                let mut images = images.clone();
                images.labels = images.labels.or_else(|| spec.labels.as_ref().map(PathBuf::from));
                let labels = images.labels.as_ref();
                let from_reference = labels.is_some_and(|labels| labels.as_os_str() == REFERENCE);
                images.labels = images.labels.filter(|_| !from_reference);
                let mut folder = ImageFolder::open(&images, base, preprocess)?;
                if from_reference {
                    folder.labels = None;
                }
                folder
            }
        };
        if self.signature.inputs.len() != 1 {
            let message = format!(
                "an image folder fills one input, the model has {}",
                self.signature.inputs.len()
            );
            return Err(DataError::Spec {
                file: Some(folder.folder),
                message,
            });
        }
        Ok(folder)
    }

    /// The samples, how many there are, and where they come from.
    pub(super) fn open(
        &self,
        source: SourceSpec<'_>,
        known: &mut Known,
    ) -> Result<(Source, u64, PathBuf), DataError> {
        Ok(match source {
            SourceSpec::Npz(path) => {
                let path = self.base.join(path);
                let (source, count) = self.arrays(Archive::File(&path))?;
                (source, count, path)
            }
            SourceSpec::Arrays(given) => {
                let (source, count) = self.arrays(Archive::Given(given))?;
                (source, count, given.origin().to_owned())
            }
            SourceSpec::Images(images) => {
                let folder = self.images(images, known)?;
                let (count, origin) = (folder.files.len() as u64, folder.folder.clone());
                (Source::Images(folder), count, origin)
            }
            SourceSpec::Onnx(path) => {
                let path = self.base.join(path);
                let folders = test_sets::folders(&path)?;
                let count = folders.len() as u64;
                let graph = Box::new(self.graph.clone());
                (Source::TestSets { folders, graph }, count, path)
            }
            SourceSpec::Synthetic(synthetic) => {
                let inputs = self.signature.inputs.iter();
                let dims = inputs
                    .map(|input| synthetic::sample_dims(input, synthetic))
                    .collect::<Result<_, _>>()?;
                let spec = synthetic.clone();
                let count = self.spec.samples.unwrap_or(16);
                (
                    Source::Synthetic { spec, dims },
                    count,
                    PathBuf::from("synthetic"),
                )
            }
        })
    }
}
