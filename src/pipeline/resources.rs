//! Data by role, the engine and other files, for steps that need more than the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::analysis;
use crate::data::{DataError, Dataset, Spec, read_weights};
use crate::engine::Engine;
use crate::format::{self, ReadOptions};
use crate::ir::{CheckError, Graph, Model, Tensor};
use crate::parts::Ledger;
use crate::passes::{ResourceError, Resources};

/// The data of a role.
#[derive(Clone, Debug)]
pub enum Described {
    /// As it is written: a path, or a map as in a description file.
    Written(Value),
    /// Handed over by a program, with arrays that no text can hold.
    Given(Box<Spec>),
}

impl Described {
    /// A description, written down where it can be.
    pub fn of(spec: Spec) -> Self {
        if spec.arrays.is_some() {
            Self::Given(Box::new(spec))
        } else {
            Self::Written(serde_json::to_value(spec).unwrap_or_default())
        }
    }
}

impl Serialize for Described {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Written(value) => value.serialize(serializer),
            Self::Given(spec) => spec.serialize(serializer),
        }
    }
}

/// What a pipeline's `data` and the command line say, as passes ask for it.
pub struct StepResources<'a> {
    /// The engine; `None` if none was asked for.
    pub engine: Option<&'a dyn Engine>,
    /// Descriptions by role.
    pub data: &'a IndexMap<String, Described>,
    /// The folder that their relative paths start from.
    pub base: &'a Path,
    /// The model that the steps start with, for those that learn from it.
    pub original: Option<&'a Model>,
    /// Threads to use.
    pub jobs: usize,
    /// Whether a second model's warnings are errors.
    pub strict: bool,
    /// Where work is shared with other processes, if it is.
    pub ledger: Option<Arc<Ledger>>,
}

impl Resources for StepResources<'_> {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        self.engine.ok_or(ResourceError::NoEngine)
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let described = self.data.get(role).ok_or_else(|| ResourceError::NoData {
            role: role.to_owned(),
        })?;
        Ok(open_data(described, self.base, graph)?.shared(self.ledger.clone()))
    }

    fn describes(&self, role: &str) -> bool {
        self.data.contains_key(role)
    }

    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
        let path = self.base.join(path);
        let invalid = |source: CheckError| ResourceError::Invalid {
            path: path.clone(),
            source: Box::new(source),
        };
        let options = ReadOptions {
            strict: self.strict,
            ..ReadOptions::default()
        };
        let mut loaded = format::read(&path, &options).map_err(|source| ResourceError::Model {
            path: path.clone(),
            source,
        })?;
        let notices = analysis::adopt(&mut loaded.model);
        if let Err(errors) = analysis::check(&loaded.model)
            && let Some(error) = errors.into_iter().next()
        {
            return Err(invalid(error));
        }
        if let Some(notice) = notices.into_iter().next().filter(|_| self.strict) {
            return Err(invalid(CheckError::from(notice)));
        }
        Ok(loaded.model)
    }

    fn tensors(&self, path: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        Ok(read_weights(&self.base.join(path))?)
    }

    fn text(&self, path: &Path) -> Result<Option<String>, ResourceError> {
        let path = self.base.join(path);
        match crate::files::read_text(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ResourceError::Text { path, source }),
        }
    }

    fn original(&self) -> Option<&Model> {
        self.original
    }

    fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_deref()
    }

    fn jobs(&self) -> usize {
        self.jobs
    }
}

/// Opens the data that a pipeline describes.
pub fn open_data(described: &Described, base: &Path, graph: &Graph) -> Result<Dataset, DataError> {
    let (spec, base) = describe_data(described, base)?;
    Dataset::open(&spec, &base, graph)
}

/// The description that a pipeline has or names, and the folder that its relative paths start from.
pub fn describe_data(described: &Described, base: &Path) -> Result<(Spec, PathBuf), DataError> {
    match described {
        Described::Given(spec) => Ok(((**spec).clone(), base.to_owned())),
        Described::Written(Value::String(path)) => Spec::from_path(&base.join(path)),
        Described::Written(other) => {
            let spec = Spec::from_value(other).map_err(|fault| DataError::Spec {
                file: None,
                message: fault.to_string(),
            })?;
            Ok((spec, base.to_owned()))
        }
    }
}
