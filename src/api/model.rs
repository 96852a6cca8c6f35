//! A model as a program holds it: what was read, or what a pipeline made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;

use super::array::Array;
use super::error::Error;
use super::options::Options;
use super::save::{Destination, Saved, write};
use crate::analysis::{self, Dimensions};
use crate::format::save::{WriteOptions, WriteTarget};
use crate::format::text::{PrintOptions, print_model};
use crate::format::{self, ExternalFiles, FormatError, Origin, ReadOptions, Source, Warning};
use crate::ir::{self, CheckError, Dim, ValueType};
use crate::passes::Size;
use crate::report::difference::{Difference, difference as compare};
use crate::report::facts::{Listed, ModelFacts, NodeFacts, ValueFacts, facts, inputs, nodes, outputs};

/// An ONNX model that was read and checked. Its weights are parts of the mapped file, so clones are cheap.
///
/// # Examples
///
/// ```
/// let model = secateur::Model::open("fixtures/digits_cnn_bn.onnx")?;
/// assert_eq!(model.inputs()[0].dtype.as_deref(), Some("float"));
/// assert_eq!(model.outputs()[0].name, "logits");
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone)]
pub struct Model {
    pub(crate) model: ir::Model,
    pub(crate) origin: Origin,
    /// What is unusual about the file.
    pub(crate) warnings: Vec<String>,
    /// Whether reading made it another than the file, so that it is not written as it was read.
    pub(crate) repaired: bool,
    /// Whether something changed it since.
    pub(crate) changed: bool,
}

/// What reading a file gave.
pub(crate) enum Examined {
    /// A model, and what is unusual about its file: codes and sentences.
    Model(Box<Model>, Vec<(&'static str, String)>),
    /// No valid model, and everything that is known to be wrong with it.
    Faults(Vec<Fault>),
}

/// Something that makes a file no valid model.
pub(crate) struct Fault {
    /// The same as an error.
    pub(crate) error: Error,
    /// What is wrong, without the place.
    pub(crate) message: String,
    /// What places call the graph; `None` for the main graph.
    pub(crate) graph: Option<String>,
}

impl Examined {
    fn fault(error: Error) -> Self {
        Self::Faults(vec![Fault {
            message: error.message().to_owned(),
            graph: None,
            error,
        }])
    }
}

impl Model {
    /// Reads a model from a file. External data have to lie in its folder, and nothing else is opened.
    ///
    /// # Errors
    ///
    /// A file that cannot be read (`read-failed`) or is no valid model: malformed, an operator or attribute that does not exist, a value
    /// that nothing produces, external data that are missing or elsewhere, shapes that contradict each other
    /// (`contradictory-shapes`). [`Error::node`] and [`Error::value`] say where.
    ///
    /// # Examples
    ///
    /// ```
    /// let model = secateur::Model::open("fixtures/digits_mlp_external.onnx")?;
    /// assert_eq!(model.facts().external.len(), 1);
    /// assert!(secateur::Model::open("fixtures/README.md").is_err());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::read(Source::Path(path.to_owned()), Some(path), false)
    }

    /// Reads a model from memory. It can have no external data: there is no folder to look for them in.
    ///
    /// # Errors
    ///
    /// As [`Model::open`]; `external-no-directory` where the model has external data.
    ///
    /// # Examples
    ///
    /// ```
    /// let bytes = std::fs::read("fixtures/digits_mlp.onnx").unwrap();
    /// let model = secateur::Model::from_bytes(bytes.clone())?;
    /// assert_eq!(model.to_bytes()?, bytes);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        Self::read(Source::Bytes(bytes.into()), None, false)
    }

    /// Reads, and refuses shapes that contradict each other. `name` is what errors call the source.
    pub(crate) fn read(source: Source, name: Option<&Path>, strict: bool) -> Result<Self, Error> {
        Self::read_to_show(source, name, strict)?.consistent(name)
    }

    /// The model, where no shapes contradict each other.
    pub(crate) fn consistent(self, name: Option<&Path>) -> Result<Self, Error> {
        match analysis::conflicts(&self.model).into_iter().next() {
            Some(conflict) => Err(Error::new("contradictory-shapes", conflict.to_string())
                .at_node(Some(conflict.node))
                .in_source(name)
                .with_hint("no engine can run this model; `inspect` lists every such node")),
            None => Ok(self),
        }
    }

    /// Reads and checks a model that is only looked at. Under `strict` the first warning is an error.
    pub(crate) fn read_to_show(source: Source, name: Option<&Path>, strict: bool) -> Result<Self, Error> {
        match Self::examine(source, name, strict)? {
            Examined::Model(model, _) => Ok(*model),
            Examined::Faults(faults) => Err(match faults.into_iter().next() {
                Some(fault) => fault.error.in_source(name),
                None => Error::new("missing-graph", "the file is no model").in_source(name),
            }),
        }
    }

    /// Reads a model and says all that is wrong with it, as far as it can be read. Under `strict` the first warning is an error.
    ///
    /// # Errors
    /// What is no model at all: a file that cannot be read, malformed bytes.
    pub(crate) fn examine(source: Source, name: Option<&Path>, strict: bool) -> Result<Examined, Error> {
        let options = ReadOptions {
            strict,
            ..ReadOptions::default()
        };
        let decoded = match format::read_proto(source, &options) {
            Ok(decoded) => decoded,
            Err(error @ FormatError::External { .. }) => return Ok(Examined::fault(error.into())),
            Err(error) => return Err(Error::from(error).in_source(name)),
        };
        let mut warnings = decoded.warnings;
        let mut model = match format::lift_noting(decoded.model, &decoded.origin.external, &mut warnings) {
            Ok(model) => model,
            Err(error) => return Ok(Examined::fault(error.into())),
        };
        options
            .admit(&warnings)
            .map_err(|error| Error::from(error).in_source(name))?;
        let notices = analysis::adopt(&mut model);
        if let Err(errors) = analysis::check(&model) {
            let faults = errors.into_iter().map(|error| Fault {
                message: error.problem.to_string(),
                graph: error
                    .path
                    .as_ref()
                    .and_then(|path| analysis::graph_name(&model, path)),
                error: error.into(),
            });
            return Ok(Examined::Faults(faults.collect()));
        }
        if let Some(notice) = notices.first().filter(|_| strict) {
            return Err(Error::from(CheckError::from(notice.clone())).in_source(name));
        }
        let repaired = warnings.iter().any(Warning::repaired) || notices.iter().any(|notice| notice.repaired);
        let remarks: Vec<(&'static str, String)> = warnings
            .iter()
            .map(|warning| (warning.kind.code(), warning.to_string()))
            .chain(notices.into_iter().map(|notice| (notice.code, notice.message)))
            .collect();
        let model = Self {
            model,
            origin: decoded.origin,
            warnings: remarks.iter().map(|(_, message)| message.clone()).collect(),
            repaired,
            changed: false,
        };
        Ok(Examined::Model(Box::new(model), remarks))
    }

    /// What something made of this model, which keeps where it came from.
    pub(crate) fn derived(&self, model: ir::Model, changed: bool) -> Self {
        Self {
            model,
            origin: self.origin.clone(),
            warnings: Vec::new(),
            repaired: self.repaired,
            changed: self.changed || changed,
        }
    }

    /// Whether it is another model than the file.
    pub(crate) fn differs(&self) -> bool {
        self.changed || self.repaired
    }

    /// The bytes that digests and sizes are of: those of the file, or those that a changed model would be.
    pub(crate) fn settled(&self) -> Result<Origin, Error> {
        if !self.changed {
            return Ok(self.origin.clone());
        }
        let message = format::model_to_proto(&self.model, &ExternalFiles::default())?;
        Ok(Origin {
            path: self.origin.path.clone(),
            bytes: format::encode_to_bytes(&message),
            external: ExternalFiles::default(),
        })
    }

    /// The name of its file, for titles.
    pub(crate) fn file_name(&self) -> String {
        let path = self.origin.path.as_deref().and_then(Path::file_name);
        path.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Its file, as it was named.
    pub(crate) fn file(&self) -> Option<String> {
        self.origin.path.as_deref().map(|path| path.display().to_string())
    }

    /// Writes the model to a file that does not exist yet, all or nothing. What nothing changed is written byte for byte, with its
    /// external data; a changed model that had some, or that is too large for one message, gets a new data file beside it.
    ///
    /// # Errors
    ///
    /// `output-exists`, `output-is-input`, or `write-failed`; then nothing is there that was not before.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("copy.onnx");
    /// let model = secateur::Model::open("fixtures/digits_mlp.onnx")?;
    /// assert_eq!(model.save(&path)?.files.len(), 1);
    /// assert_eq!(model.save(&path).unwrap_err().code(), "output-exists");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        self.save_with(path, &Options::new())
    }

    /// Writes the model to a file as the options say: [`Options::force`] lets it replace a file that exists, but none that the model
    /// was read from, and a token that is set ([`Options::cancel`]) before the file has its name ends it.
    ///
    /// # Errors
    ///
    /// As [`Model::save`]; `interrupted` where the token was set.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("again.onnx");
    /// let model = secateur::Model::open("fixtures/digits_mlp.onnx")?;
    /// model.save(&path)?;
    /// model.save_with(&path, &secateur::Options::new().force(true))?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn save_with(&self, path: impl AsRef<Path>, options: &Options) -> Result<Saved, Error> {
        let how = Options {
            in_place: false,
            ..options.clone()
        };
        write(self, &Destination::File(path.as_ref().to_owned()), &how)
    }

    /// The same, in the place of a file that exists: another one, or the one that the model was read from.
    ///
    /// # Errors
    ///
    /// `write-failed`; then the old file is as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("model.onnx");
    /// secateur::Model::open("fixtures/digits_mlp.onnx")?.save(&path)?;
    /// let model = secateur::Model::open(&path)?;
    /// model.replace(&path)?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn replace(&self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        let how = Options::new().force(true).in_place();
        write(self, &Destination::File(path.as_ref().to_owned()), &how)
    }

    /// The model as one message, its external data inside.
    ///
    /// # Errors
    ///
    /// `model-too-large` above 2 GiB, which one message cannot hold.
    ///
    /// # Examples
    ///
    /// ```
    /// let model = secateur::Model::open("fixtures/digits_mlp_external.onnx")?;
    /// let again = secateur::Model::from_bytes(model.to_bytes()?)?;
    /// assert_eq!(again.facts().parameters, model.facts().parameters);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        if self.origin.external.is_empty() {
            return Ok(self.to_pieces()?.concat());
        }
        let mut bytes = Vec::new();
        let target = WriteTarget::Stream(&mut bytes);
        let options = WriteOptions::default();
        if self.differs() {
            let message = format::model_to_proto(&self.model, &self.origin.external)?;
            format::write_proto(message, Some(&self.origin), target, &options)?;
        } else {
            format::write_unchanged(&self.origin, target, &options)?;
        }
        Ok(bytes)
    }

    /// The same bytes in pieces. Large weights are not copied where the model has no external data: their pieces are parts of the
    /// file or of what a step made.
    ///
    /// # Errors
    ///
    /// As [`Model::to_bytes`].
    ///
    /// # Examples
    ///
    /// ```
    /// let model = secateur::Model::open("fixtures/digits_mlp.onnx")?;
    /// assert_eq!(model.to_pieces()?.concat(), model.to_bytes()?);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_pieces(&self) -> Result<Vec<Bytes>, Error> {
        if !self.origin.external.is_empty() {
            return Ok(vec![self.to_bytes()?.into()]);
        }
        if !self.differs() {
            return Ok(vec![self.origin.bytes.clone()]);
        }
        let message = format::model_to_proto(&self.model, &self.origin.external)?;
        Ok(format::pieces(&message)?)
    }

    /// What is in the model: operators, parameters, bytes, multiply-accumulates with free dimensions of 1, interface.
    ///
    /// # Examples
    ///
    /// ```
    /// let facts = secateur::Model::open("fixtures/digits_cnn_bn.onnx")?.facts();
    /// assert_eq!(facts.ops["BatchNormalization"], 4);
    /// assert_eq!(facts.macs_sizes["batch"], 1);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn facts(&self) -> ModelFacts {
        let mut model = self.model.clone();
        analysis::infer(&mut model);
        let settled = self.settled();
        let origin = settled.as_ref().unwrap_or(&self.origin);
        let mut facts = facts(&model, origin, &BTreeMap::new(), Listed::default());
        facts.warnings.clone_from(&self.warnings);
        if let Err(error) = &settled {
            let warning = format!("bytes are those of the file that the model was read from: {error}");
            facts.warnings.push(warning);
        }
        facts
    }

    /// The inputs in order: name, element type in ONNX's words, and shape (sizes, names of free dimensions, or `null`). Those with a
    /// default that a caller may leave out are [`ValueFacts::optional`].
    ///
    /// # Examples
    ///
    /// ```
    /// let model = secateur::Model::open("fixtures/digits_cnn.onnx")?;
    /// let shape = model.inputs()[0].shape.clone().unwrap();
    /// assert_eq!(shape, ["batch".into(), 1.into(), 8.into(), serde_json::Value::from(8)]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn inputs(&self) -> Vec<ValueFacts> {
        inputs(&self.model)
    }

    /// The outputs in order, as [`Model::inputs`].
    ///
    /// # Examples
    ///
    /// ```
    /// let model = secateur::Model::open("fixtures/digits_cnn.onnx")?;
    /// assert_eq!(model.outputs().len(), 1);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn outputs(&self) -> Vec<ValueFacts> {
        if self
            .model
            .graph
            .outputs()
            .iter()
            .all(|output| output.ty != ValueType::Unknown)
        {
            return outputs(&self.model);
        }
        let mut model = self.model.clone();
        analysis::infer(&mut model);
        outputs(&model)
    }

    /// The nodes of the main graph in an order in which they can run.
    ///
    /// # Examples
    ///
    /// ```
    /// let nodes = secateur::Model::open("fixtures/digits_mlp.onnx")?.nodes();
    /// assert!(nodes.iter().any(|node| node.op_type == "Gemm" && node.attributes["transB"] == 1));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn nodes(&self) -> Vec<NodeFacts> {
        nodes(&self.model)
    }

    /// The constants of the main graph that are initializers, in the order of the file; parts of the mapped file, not copies. Defaults of graph inputs
    /// and sparse tensors are none.
    ///
    /// # Examples
    ///
    /// ```
    /// let weights = secateur::Model::open("fixtures/digits_mlp.onnx")?.initializers();
    /// assert!(weights.iter().any(|(name, array)| name == "fc1.weight" && array.element() == "float"));
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn initializers(&self) -> Vec<(String, Array)> {
        let graph = &self.model.graph;
        let named = |(id, constant): (ir::NodeId, &ir::Constant)| {
            let name = graph.get(id)?.outputs().first()?.name.to_string();
            Some((name, Array(constant.tensor.clone()?)))
        };
        graph.initializers().into_iter().filter_map(named).collect()
    }

    /// What is unusual about the file that the model was read from.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(secateur::Model::open("fixtures/digits_cnn.onnx")?.warnings().is_empty());
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The facts with these sizes of free dimensions, and with what is to be listed.
    pub(crate) fn facts_at(&self, sizes: &[(String, Size)], listed: Listed) -> Result<ModelFacts, Error> {
        let mut model = self.model.clone();
        analysis::infer(&mut model);
        let sizes = known_sizes(sizes, &model)?;
        let mut facts = facts(&model, &self.origin, &sizes, listed);
        facts.warnings.clone_from(&self.warnings);
        Ok(facts)
    }

    /// The model in ONNX's textual syntax, with at most so many elements of each tensor.
    pub(crate) fn print(&self, max_elements: Option<usize>) -> Result<String, Error> {
        let message = format::model_to_proto(&self.model, &ExternalFiles::default())?;
        Ok(print_model(&message, &PrintOptions { max_elements }))
    }

    /// The model in ONNX's textual syntax, with every element of every tensor.
    ///
    /// # Errors
    ///
    /// A model that cannot be written.
    ///
    /// # Examples
    ///
    /// ```
    /// let text = secateur::Model::open("fixtures/local_functions.onnx")?.text()?;
    /// assert!(text.starts_with('<'), "{text}");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn text(&self) -> Result<String, Error> {
        self.print(None)
    }
}

/// The sizes that a call gives to free dimensions of a model: by symbol where the dimension has one. Fixed dimensions may be given as
/// they are.
fn known_sizes(bindings: &[(String, Size)], model: &ir::Model) -> Result<BTreeMap<String, i64>, Error> {
    let dimensions = Dimensions::of(model);
    let mut sizes = BTreeMap::new();
    let wrong = |message: String| Error::new("unknown-dimension", format!("--size: {message}"));
    let mut single = Vec::new();
    for (name, size) in bindings {
        single.extend(
            size.each(name, &dimensions)
                .map_err(|error| wrong(error.to_string()))?,
        );
    }
    for (name, size) in &single {
        let Size::Fixed(size) = size else {
            return Err(wrong(format!("{name}: a size is needed")));
        };
        let size = i64::try_from(*size).map_err(|_| wrong(format!("{name}: {size} is not a size")))?;
        let key = match dimensions.place(name) {
            _ if dimensions.symbol(name).is_some() => name.clone(),
            Some(place) => match &place.dim {
                Dim::Fixed(fixed) if *fixed == size => continue,
                Dim::Fixed(fixed) => return Err(wrong(format!("{name} is {fixed} in the model"))),
                dim => dim
                    .as_symbol()
                    .map_or_else(|| name.clone(), |symbol| symbol.to_string()),
            },
            None => return Err(wrong(dimensions.unknown(name))),
        };
        sizes.insert(key, size);
    }
    Ok(sizes)
}

/// What differs between two models by names, without running them: interface, operators, nodes, constants.
///
/// # Examples
///
/// ```
/// use secateur::{Model, difference};
/// let float = Model::open("fixtures/digits_cnn.onnx")?;
/// let codes = Model::open("fixtures/digits_cnn_qdq_pc_s8s8.onnx")?;
/// assert!(difference(&float, &float).same);
/// assert!(difference(&float, &codes).ops.contains_key("QuantizeLinear"));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn difference(a: &Model, b: &Model) -> Difference {
    let mut found = compare(&a.model, &b.model);
    found.warnings = [a, b].map(|model| model.warnings.clone()).concat();
    found
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.origin.path)
            .field("operators", &self.model.graph.operator_count())
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}
