//! Descriptions of data as users write them: a file, a part of a pipeline, a flag. Every error has its place.

use std::path::{Path, PathBuf};

use schemars::schema_for;
use serde_json::Value;

use super::error::{DataError, SpecError};
use super::foreign;
use super::preprocess::{PreprocessError, PreprocessSpec};
use super::spec::{ImageSpec, Spec};
use super::task::REFERENCE;
use crate::schema::{self, Fault};
use crate::yaml::{ConfigError, Document, Located};

impl PreprocessSpec {
    /// Preprocessing as a flag has it: a preset's name, or a map of fields in YAML.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, PreprocessError> {
        let document = Document {
            file: String::new(),
            text: text.into(),
        };
        let located = document.parse();
        let value = located
            .map_err(|error| PreprocessError::Yaml(Box::new(error)))?
            .to_json();
        let root = schema_for!(PreprocessSpec).to_value();
        match schema::check(&root, &root, &value) {
            Some(fault) => Err(PreprocessError::Field(Box::new(fault))),
            None => Ok(serde_json::from_value(value)?),
        }
    }
}

/// What a flag's value starts with that is a description and not a path.
const INLINE: char = '{';

impl Spec {
    /// The JSON Schema of a description.
    pub fn schema() -> Value {
        schema_for!(Spec).to_value()
    }

    /// The description in `value`.
    ///
    /// # Errors
    ///
    /// The first place at which it is not one.
    pub fn from_value(value: &Value) -> Result<Self, Box<Fault>> {
        let root = Self::schema();
        let whole = |message: String| {
            Box::new(Fault {
                path: Vec::new(),
                is_key: false,
                message,
                hint: Some("`secateur explain data` shows what a description holds".to_owned()),
            })
        };
        if !value.is_object() {
            return Err(whole("a description of data is a map".to_owned()));
        }
        if let Some(fault) = schema::check(&root, &root, value) {
            return Err(Box::new(fault));
        }
        let spec: Self = serde_json::from_value(value.clone()).map_err(|error| whole(error.to_string()))?;
        match spec.check() {
            Ok(()) => Ok(spec),
            Err(error) => Err(whole(error.to_string())),
        }
    }

    /// The description at a place of a document.
    pub(crate) fn from_located(document: &Document, located: &Located) -> Result<Self, ConfigError> {
        Self::from_value(&located.to_json()).map_err(|fault| {
            let spot = located.spot_of(&fault.path, fault.is_key).unwrap_or(located.spot);
            document.error("data-spec", spot, fault.to_string(), fault.hint)
        })
    }

    /// The description that a text holds; `name` is what errors call the text.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let document = Document {
            file: name.to_owned(),
            text: text.into(),
        };
        let located = document.parse()?;
        Self::from_located(&document, &located)
    }

    /// Whether a flag's value is a description itself and not a path.
    pub fn is_inline(text: &str) -> bool {
        text.trim_start().starts_with(INLINE)
    }

    /// What a flag stands for: a description in YAML that starts with `{`, with paths relative to the working directory, or a
    /// path as [`Spec::from_path`] takes it. Answers the folder that relative paths start from, too.
    pub fn from_flag(text: &str) -> Result<(Self, PathBuf), DataError> {
        if Self::is_inline(text) {
            let spec = Self::parse("--data", text).map_err(Box::new)?;
            return Ok((spec, PathBuf::new()));
        }
        Self::from_path(Path::new(text))
    }

    /// The description that a path stands for: a `.yaml` file holds one, `.npz` and `.npy` files and folders are sources; a
    /// folder with `test_data_set_*` folders is an ONNX test set, any other one an image folder. Answers the folder that
    /// relative paths start from, too.
    pub fn from_path(path: &Path) -> Result<(Self, PathBuf), DataError> {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or("")
            .to_ascii_lowercase();
        let read = |reason: String| DataError::Read {
            file: path.to_owned(),
            reason,
        };
        let whole = match extension.as_str() {
            "yaml" | "yml" => {
                let text = crate::files::read_text(path).map_err(|error| read(error.to_string()))?;
                let spec = Self::parse(&path.display().to_string(), &text).map_err(Box::new)?;
                return Ok((spec, path.parent().map(Path::to_owned).unwrap_or_default()));
            }
            "npz" | "npy" => Self {
                npz: Some(path.to_owned()),
                ..Self::default()
            },
            _ if path.is_dir() => {
                let names: Vec<String> = std::fs::read_dir(path)
                    .map_err(|error| read(error.to_string()))?
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .collect();
                let is_test_set = |name: &String| name.starts_with("test_data_set_") || name == "input_0.pb";
                if names.iter().any(is_test_set) {
                    Self {
                        onnx: Some(path.to_owned()),
                        ..Self::default()
                    }
                } else {
                    Self {
                        images: Some(ImageSpec {
                            folder: path.to_owned(),
                            ..ImageSpec::default()
                        }),
                        ..Self::default()
                    }
                }
            }
            _ if !path.exists() => return Err(read("no such file or folder".to_owned())),
            _ => {
                return Err(DataError::Spec {
                    file: Some(path.to_owned()),
                    message: foreign::described(
                        path,
                        "data is a .yaml description, a .npz or .npy file, or a folder",
                    ),
                });
            }
        };
        Ok((whole, PathBuf::new()))
    }

    /// The same description with relative paths starting from `base` written out.
    pub fn rooted(mut self, base: &Path) -> Self {
        for path in [&mut self.npz, &mut self.onnx].into_iter().flatten() {
            *path = base.join(&*path);
        }
        let in_file = self.images.is_some()
            || self
                .labels
                .as_deref()
                .is_some_and(|labels| labels.ends_with(".json"));
        let charset = self.text.as_mut().and_then(|options| options.charset.as_mut());
        let pairs = self.embedding.as_mut().and_then(|options| options.pairs.as_mut());
        let images = self.images.as_ref().map(|images| base.join(&images.folder));
        for path in [charset, pairs, self.names.as_mut()].into_iter().flatten() {
            if !images.as_ref().is_some_and(|folder| folder.join(&*path).exists()) {
                *path = base.join(&*path);
            }
        }
        if let Some(images) = &mut self.images {
            images.folder = base.join(&images.folder);
            // A table of labels is looked for in the folder first.
            if let Some(labels) = &mut images.labels
                && labels.as_os_str() != REFERENCE
                && !images.folder.join(&*labels).exists()
            {
                *labels = base.join(&*labels);
            }
        }
        let folder = self.images.as_ref().map(|images| images.folder.clone());
        if let Some(labels) = &mut self.labels
            && in_file
            && labels != REFERENCE
            && !folder.is_some_and(|folder| folder.join(&*labels).exists())
            && let Some(rooted) = base.join(&*labels).to_str()
        {
            *labels = rooted.to_owned();
        }
        self
    }

    /// The same description with other preprocessing.
    pub fn with_preprocess(mut self, preprocess: PreprocessSpec) -> Self {
        if let Some(images) = &mut self.images {
            images.preprocess = None;
        }
        self.preprocess = Some(preprocess);
        self
    }

    /// Refuses fields that the source has no use for, and brings those to their place that may stand in two.
    fn check(&self) -> Result<(), SpecError> {
        self.check_task()?;
        self.source()?;
        if let Some(images) = &self.images {
            if images.labels.is_some() && self.labels.is_some() {
                return Err(SpecError::Twice("labels"));
            }
            if images.preprocess.is_some() && self.preprocess.is_some() {
                return Err(SpecError::Twice("preprocess"));
            }
        }
        let (of, unused): (&'static str, Vec<(&'static str, bool)>) = if self.images.is_some() {
            ("images", vec![("inputs", !self.inputs.is_empty())])
        } else if self.onnx.is_some() {
            (
                "onnx",
                vec![
                    ("inputs", !self.inputs.is_empty()),
                    (
                        "labels",
                        self.labels.as_ref().is_some_and(|labels| labels != REFERENCE),
                    ),
                    ("preprocess", self.preprocess.is_some()),
                    ("batch", self.batch.is_some()),
                ],
            )
        } else if self.synthetic.is_some() {
            (
                "synthetic",
                vec![
                    ("inputs", !self.inputs.is_empty()),
                    (
                        "labels",
                        self.labels.as_ref().is_some_and(|labels| labels != REFERENCE),
                    ),
                    ("preprocess", self.preprocess.is_some()),
                ],
            )
        } else {
            ("npz", Vec::new())
        };
        match unused.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(SpecError::NotOfSource { field, of }),
            None => Ok(()),
        }
    }
}
