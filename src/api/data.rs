//! Samples for calibration, evaluation and training: described, or handed over.

use std::path::{Path, PathBuf};

use super::array::IntoSamples;
use super::error::Error;
use super::files::Files;
use crate::data::{
    Arrays, Boxes, BoxesSpec, DataError, ImageSpec, PreprocessSpec, REFERENCE, STREAM, Shard, Spec, TaskKind,
};
use crate::pipeline::ROLES;

/// Samples, and how they become the inputs of a model.
///
/// They are fitted to a model when something reads them: arrays to inputs by name, or the only one to the only one. Clones share the
/// samples.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Model, Options};
/// let model = Model::open("fixtures/digits_cnn.onnx")?;
/// let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y").samples(50);
/// let found = secateur::evaluate(&model, &Options::new().data("evaluation", test))?;
/// assert_eq!(found.figures.samples, 50);
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Data {
    source: Source,
    edits: Edits,
}

#[derive(Clone, Debug)]
enum Source {
    /// What a path stands for.
    Path(PathBuf),
    /// A description, whose relative paths start from a folder.
    Described(Box<Spec>, PathBuf),
}

/// What is said of samples beside their source.
#[derive(Clone, Debug, Default, PartialEq)]
struct Edits {
    labels: Option<String>,
    task: Option<TaskKind>,
    boxes: Option<BoxesSpec>,
    inputs: Vec<(String, String)>,
    preprocess: Option<PreprocessSpec>,
    samples: Option<u64>,
    batch: Option<u64>,
    seed: Option<u64>,
    shard: Option<Shard>,
}

/// How a pipeline has data.
pub(crate) enum Resolved {
    /// A path, as it was given.
    Path(PathBuf),
    /// A description, whose relative paths start from a folder.
    Described(Box<Spec>, PathBuf),
}

impl Data {
    /// What `spec` stands for, as `--data` takes it: a `.npz` or `.npy` file, a folder of images or of ONNX test sets, a `.yaml` file
    /// with a description, or a description in YAML in place, `{...}`.
    ///
    /// # Errors
    ///
    /// `data-read`, `data-spec`. What does not fit a model is said by what reads it: `data-shape`, `data-type`, `data-no-array`.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Data;
    /// Data::open("fixtures/data/digits_test.yaml")?;
    /// Data::open("{npz: fixtures/data/digits_test.npz, labels: y, samples: 8}")?;
    /// assert_eq!(Data::open("nowhere.npz").unwrap_err().code(), "data-read");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn open(spec: impl AsRef<str>) -> Result<Self, Error> {
        let text = spec.as_ref();
        let (described, base) = Spec::from_flag(text)?;
        if let Some(file) = described.files(&base).iter().find(|file| !file.path.exists())
            && described.images.is_none()
        {
            return Err(missing(&file.path));
        }
        Ok(Self::named(text, described, base))
    }

    /// What `[ROLE=]SPEC` names, without a look at the file: what reads it says whether it is there.
    pub(crate) fn flag(text: &str) -> Result<(Option<&str>, Self), Error> {
        let (role, text) = match text.split_once('=') {
            Some((role, text)) if ROLES.contains(&role) => (Some(role), text),
            _ => (None, text),
        };
        Ok((role, Self::of_flag(text)?))
    }

    fn of_flag(text: &str) -> Result<Self, Error> {
        if Spec::is_inline(text) {
            let (spec, base) = Spec::from_flag(text)?;
            return Ok(Self::described(spec, base));
        }
        Ok(Self::from(Source::Path(PathBuf::from(text))))
    }

    fn named(text: &str, spec: Spec, base: PathBuf) -> Self {
        if Spec::is_inline(text) {
            Self::described(spec, base)
        } else {
            Self::from(Source::Path(PathBuf::from(text)))
        }
    }

    /// Samples as a description has them.
    pub(crate) fn described(spec: Spec, base: PathBuf) -> Self {
        Self::from(Source::Described(Box::new(spec), base))
    }

    /// The arrays of a `.npz` file, or the one of a `.npy` file, with their samples along axis 0. They are read as they are needed.
    ///
    /// # Errors
    ///
    /// `data-read` where there is no such file.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_calib.npz")?.samples(100);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn npz(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if !path.is_file() {
            return Err(missing(path));
        }
        Ok(Self::from(Source::Path(path.to_owned())))
    }

    /// A folder of JPEG, PNG or WebP images; sub-folders in alphabetical order are the classes 0, 1, ... `preprocess` says how pixels
    /// become values: `torchvision`, `efficientnet-lite`, `mnist`, or fields in YAML.
    ///
    /// # Errors
    ///
    /// `data-read` where there is no such folder, `data-spec` for preprocessing that is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Data;
    /// Data::images("fixtures", "{crop: [224, 224], scale: 0.0039}")?;
    /// assert_eq!(Data::images("fixtures", "torchvison").unwrap_err().code(), "data-spec");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn images(folder: impl AsRef<Path>, preprocess: impl AsRef<str>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        if !folder.is_dir() {
            return Err(missing(folder));
        }
        let spec = Spec {
            images: Some(ImageSpec {
                folder: folder.to_owned(),
                ..ImageSpec::default()
            }),
            ..Spec::default()
        };
        Self::described(spec, PathBuf::new()).preprocess(preprocess)
    }

    /// Named arrays in memory, each with its samples along axis 0; one more axis than the input has makes each entry a whole input.
    ///
    /// # Errors
    ///
    /// `data-array` for a shape without its elements, `data-read` for an array without an axis or two of one name.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::{Array, Data};
    /// let images = Array::new([4, 1, 8, 8], vec![0.0_f32; 256])?;
    /// let labels = Array::new([4], vec![0_i64; 4])?;
    /// let data = Data::arrays([("x", images), ("y", labels)])?.labels("y");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn arrays(arrays: impl IntoSamples) -> Result<Self, Error> {
        let arrays = arrays
            .into_samples()?
            .into_iter()
            .map(|(name, array)| (name, array.0));
        Ok(Self::given(Arrays::whole(arrays)?))
    }

    /// Samples that come piece by piece: each item has the same named arrays, with one or more samples along axis 0. The iterator is
    /// read to its end here, in constant memory: what it gives is kept in unnamed temporary files, as steps read data several times.
    ///
    /// # Errors
    ///
    /// `data-read` with the number of the piece that has other arrays, types or shapes than the first one, or that the iterator says
    /// is wrong; `data-array` for one that is none; `data-empty` where there is no piece.
    ///
    /// # Examples
    ///
    /// ```
    /// use secateur::Data;
    /// let batches = (0..10).map(|at| [("x", ndarray::Array4::<f32>::from_elem((2, 1, 8, 8), at as f32))]);
    /// let twenty = Data::stream(batches)?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn stream<S: IntoSamples>(pieces: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let pieces = pieces.into_iter().enumerate().map(|(count, piece)| {
            let arrays = piece.into_samples().map_err(|error| {
                let message = format!("{STREAM}: piece {count}: {}", error.message());
                error.saying(message).in_file(Path::new(STREAM))
            })?;
            Ok::<_, Error>(arrays.into_iter().map(|(name, array)| (name, array.0)).collect())
        });
        Ok(Self::given(Arrays::pieces(pieces)?))
    }

    fn given(arrays: Arrays) -> Self {
        let spec = Spec {
            arrays: Some(arrays),
            ..Spec::default()
        };
        Self::described(spec, PathBuf::new())
    }

    /// The array that holds the labels (integers are classes, floats are targets), or the table of labels of a folder of images.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_test.npz")?.labels("y");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn labels(mut self, array: impl Into<String>) -> Self {
        self.edits.labels = Some(array.into());
        self
    }

    /// The array that fills an input of the model, where the names do not agree.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_test.npz")?.input("image", "x");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn input(mut self, input: impl Into<String>, array: impl Into<String>) -> Self {
        self.edits.inputs.push((input.into(), array.into()));
        self
    }

    /// How pixels become values: `torchvision`, `efficientnet-lite`, `mnist`, or fields in YAML.
    ///
    /// # Errors
    ///
    /// `data-spec` for what is neither.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_test.npz")?.preprocess("{scale: 1.0}")?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn preprocess(mut self, preprocess: impl AsRef<str>) -> Result<Self, Error> {
        let found = PreprocessSpec::parse(preprocess.as_ref()).map_err(DataError::from)?;
        found.resolve().map_err(DataError::from)?;
        self.edits.preprocess = Some(found);
        Ok(self)
    }

    /// What the model is judged by: `detection`, `keypoints`, ... `secateur explain data` lists them.
    ///
    /// # Errors
    ///
    /// `data-spec` for a word that names no task.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_test.npz")?.task("embedding")?;
    /// assert!(data.task("telepathy").is_err());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn task(mut self, task: impl AsRef<str>) -> Result<Self, Error> {
        let named = serde_json::from_value(serde_json::Value::from(task.as_ref()));
        let kind = named.map_err(|error| Error::new("data-spec", format!("task: {error}")))?;
        self.edits.task = Some(kind);
        Ok(self)
    }

    /// How boxes are read from the outputs: the name of a layout, or fields in YAML as a description has them.
    ///
    /// # Errors
    ///
    /// `data-spec` for what is neither.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_test.npz")?.boxes("{layout: yolo-v8, nms: 0.6}")?;
    /// assert!(data.boxes("yolo-v88").is_err());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn boxes(mut self, boxes: impl AsRef<str>) -> Result<Self, Error> {
        let found = BoxesSpec::parse(boxes.as_ref())
            .map_err(|reason| Error::new("data-spec", format!("boxes: {reason}")))?;
        self.edits.boxes = Some(found);
        Ok(self)
    }

    /// The same with preprocessing that was read already.
    pub(crate) fn preprocessed(mut self, preprocess: PreprocessSpec) -> Self {
        self.edits.preprocess = Some(preprocess);
        self
    }

    /// At most this many samples: the first ones, or with [`Data::seed`] a random choice.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_calib.npz")?.samples(64).seed(1);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn samples(mut self, count: u64) -> Self {
        self.edits.samples = Some(count);
        self
    }

    /// The seed of the choice of samples.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_calib.npz")?.samples(64).seed(1);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.edits.seed = Some(seed);
        self
    }

    /// Samples a run, where the model leaves it open; 1 if nothing is said.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_calib.npz")?.batch(16);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn batch(mut self, samples: u64) -> Self {
        self.edits.batch = Some(samples);
        self
    }

    /// Part `index` of `count` of the batches, `index` from 0.
    ///
    /// # Errors
    ///
    /// `usage` where `index` is not below `count`.
    ///
    /// # Examples
    ///
    /// ```
    /// let data = secateur::Data::npz("fixtures/data/digits_calib.npz")?.shard(0, 4)?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn shard(self, index: u64, count: u64) -> Result<Self, Error> {
        if index >= count {
            return Err(Error::usage(&format!(
                "part {index} of {count}: parts are counted from 0"
            )));
        }
        Ok(self.sharded(Shard { index, count }))
    }

    /// The same for a part that was read already.
    pub(crate) fn sharded(mut self, shard: Shard) -> Self {
        self.edits.shard = Some(shard);
        self
    }

    /// Names the files that are read.
    pub(crate) fn reads(&self, files: &mut Files) {
        match &self.source {
            Source::Path(path) => files.reads_data_at(path),
            Source::Described(spec, base) => files.reads_spec(spec, base),
        }
        if let Some(labels) = self.edits.labels.as_ref().filter(|labels| *labels != REFERENCE) {
            files.reads("the labels", Path::new(labels));
        }
    }

    /// How a pipeline has it: the path itself where nothing else is said.
    pub(crate) fn resolve(self) -> Result<Resolved, Error> {
        match self.source {
            Source::Path(path) if self.edits == Edits::default() => Ok(Resolved::Path(path)),
            _ => {
                let (spec, base) = self.spec()?;
                Ok(Resolved::Described(Box::new(spec), base))
            }
        }
    }

    /// The description, and the folder that relative paths in it start from.
    pub(crate) fn spec(self) -> Result<(Spec, PathBuf), Error> {
        let (mut spec, base) = match self.source {
            Source::Path(path) => Spec::from_path(&path)?,
            Source::Described(spec, base) => (*spec, base),
        };
        let edits = self.edits;
        if let Some(labels) = edits.labels {
            match &mut spec.images {
                Some(images) => {
                    spec.labels = None;
                    images.labels = Some(PathBuf::from(labels));
                }
                None => spec.labels = Some(labels),
            }
        }
        spec.task = edits.task.or(spec.task);
        if let Some(boxes) = edits.boxes {
            let described = spec.boxes.take().map(BoxesSpec::from).unwrap_or_default();
            spec.boxes = Some(Boxes::Fields(Box::new(boxes.over(described))));
        }
        spec.inputs.extend(edits.inputs);
        if let Some(preprocess) = edits.preprocess {
            spec = spec.with_preprocess(preprocess);
        }
        spec.samples = edits.samples.or(spec.samples);
        spec.batch = edits.batch.or(spec.batch);
        spec.seed = edits.seed.or(spec.seed);
        spec.shard = edits.shard.or(spec.shard);
        Ok((spec, base))
    }

    /// The same with labels in the array of the usual name, `y`, where arrays stand beside `x` and nobody says what they are.
    pub(crate) fn usually_labelled(self) -> Self {
        const USUAL: &str = "y";
        let plain = match &self.source {
            Source::Path(path) => path.extension().is_some_and(|extension| extension == "npz"),
            Source::Described(spec, _) => {
                spec.labels.is_none()
                    && spec.inputs.is_empty()
                    && spec.arrays.as_ref().is_some_and(|arrays| arrays.has(USUAL))
            }
        };
        if plain && self.edits.labels.is_none() {
            return self.labels(USUAL);
        }
        self
    }
}

impl From<Source> for Data {
    fn from(source: Source) -> Self {
        Self {
            source,
            edits: Edits::default(),
        }
    }
}

fn missing(path: &Path) -> Error {
    Error::new("data-read", format!("{}: no such file or folder", path.display())).in_file(path)
}
