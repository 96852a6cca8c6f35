//! Where weights lie: in a data file beside a model, inside of it, or in one file that several models share.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::container::read_message;
use super::error::Error;
use super::files::{MODEL, STDIO};
use super::options::Options;
use super::save::{Destination, Saved, deliver, notes_of};
use crate::engine::CancelToken;
use crate::files::directory_of;
use crate::format::{
    self, Decoded, FormatError, ReadOptions, Relocation, Sharer, WriteOptions, WriteTarget, is_file_name,
};

/// The fewest bytes of a tensor that goes to a data file, if nothing is said.
const SMALLEST: u64 = 1024;

/// How models share a data file.
///
/// # Examples
///
/// ```
/// let sharing = secateur::Sharing::new("common.data").smallest(4096);
/// # let _ = sharing;
/// ```
#[derive(Clone, Debug)]
pub struct Sharing {
    data: String,
    smallest: u64,
}

impl Sharing {
    /// The name of the data file, which lies beside the models.
    pub fn new(data: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            smallest: SMALLEST,
        }
    }

    /// The fewest bytes of a tensor that goes to the data file; 1024 if nothing is said.
    #[must_use]
    pub fn smallest(mut self, bytes: u64) -> Self {
        self.smallest = bytes;
        self
    }
}

/// How weights leave a model.
///
/// # Examples
///
/// ```
/// let how = secateur::Externalizing::new().data("weights.data").smallest(0);
/// # let _ = how;
/// ```
#[derive(Clone, Debug)]
pub struct Externalizing {
    data: Option<String>,
    smallest: u64,
}

impl Default for Externalizing {
    fn default() -> Self {
        Self {
            data: None,
            smallest: SMALLEST,
        }
    }
}

impl Externalizing {
    /// Tensors of 1024 bytes on go to a data file that is called like the model, with a digest of what it holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another name for the data file, which lies beside the model.
    #[must_use]
    pub fn data(mut self, name: impl Into<String>) -> Self {
        self.data = Some(name.into());
        self
    }

    /// The fewest bytes of a tensor that goes to the data file.
    #[must_use]
    pub fn smallest(mut self, bytes: u64) -> Self {
        self.smallest = bytes;
        self
    }
}

/// What became of several models that share a data file.
#[derive(Clone, Debug, Serialize)]
pub struct Shared {
    /// The data file; `None` where no tensor is large enough to lie in it.
    pub data: Option<String>,
    /// Its bytes.
    pub data_bytes: u64,
    /// The models, in the order in which they were given.
    pub models: Vec<SharedModel>,
    /// What is stored once and stands for several tensors.
    pub shared: SharedContents,
    /// Bytes of all files before; a file that several models read counts once.
    pub before: u64,
    /// Bytes of all files after.
    pub after: u64,
    /// What became of the data files of models that were replaced.
    pub notes: Vec<String>,
}

/// A model that shares a data file.
#[derive(Clone, Debug, Serialize)]
pub struct SharedModel {
    /// The file that was read.
    pub input: String,
    /// The file that was written.
    pub output: String,
    /// Bytes of the model with its external data before.
    pub before: u64,
    /// Bytes of its file after.
    pub after: u64,
    /// Bytes of the data file that are tensors of it.
    pub data_bytes: u64,
}

/// Contents of tensors that are stored once and stand for several tensors, of one model or of several.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SharedContents {
    /// How many contents.
    pub contents: u64,
    /// How many tensors have one of them.
    pub tensors: u64,
    /// Bytes of the contents, each once.
    pub bytes: u64,
    /// Bytes that are not stored again.
    pub saved: u64,
    /// How many of the contents more than one model has.
    pub common: u64,
}

/// What became of a model whose weights were to move.
#[derive(Clone, Debug, Serialize)]
pub struct Relocated {
    /// Where the model went; `None` where it was not written, as nothing moves.
    pub output: Option<String>,
    /// Every file that belongs to it: the model, then its external data.
    pub files: Vec<String>,
    /// Whether anything moved.
    pub changed: bool,
    /// Why nothing moves.
    pub reason: Option<String>,
    /// How many tensors moved.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the model with its external data before.
    pub before: u64,
    /// Bytes of all its files after.
    pub after: u64,
    /// What became of the data files of a model that was replaced.
    pub notes: Vec<String>,
}

/// Writes several models under their own file names into `folder`, all of them with one data file beside them: what is the same in two
/// tensors is stored once. A container becomes a model called `.onnx`; the folder is made where it is not there.
///
/// Tensors keep their bytes and everything else of a model stays as it is. Initializers below [`Sharing::smallest`] and values in attributes
/// lie in the model; runtimes that take external data take these models.
///
/// # Errors
///
/// What reading a model may say; `output-is-output` where two models have one name, or one that of the data file; `usage` for a name that
/// is a path; `output-exists`, `output-is-input`, `write-failed`; `external-output-exists` for a data file that another model there
/// reads, which [`Options::force`] does not replace either. Then nothing is written.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let models = ["fixtures/digits_mlp.onnx", "fixtures/digits_mlp_external.onnx"];
/// let sharing = secateur::Sharing::new("common.data");
/// let shared = secateur::share(&models, folder.path().join("both"), &sharing, &secateur::Options::new())?;
/// assert!(shared.shared.common > 0 && shared.after < shared.before);
/// assert!(secateur::Model::open(folder.path().join("both/digits_mlp.onnx")).is_ok());
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn share<P: AsRef<Path>>(
    models: &[P],
    folder: impl AsRef<Path>,
    sharing: &Sharing,
    options: &Options,
) -> Result<Shared, Error> {
    let folder = folder.as_ref();
    let inputs: Vec<&Path> = models.iter().map(|path| path.as_ref()).collect();
    let data = folder.join(plain(&sharing.data)?);
    let outputs = outputs_of(&inputs, folder, &data)?;
    let mut files = options.files();
    for input in &inputs {
        files.reads(&format!("the model {}", input.display()), input);
    }
    let is_new = !folder.is_dir();
    if is_new {
        files.writes("-o", folder);
    } else {
        outputs.iter().for_each(|output| files.writes("-o", output));
        files.writes("--data", &data);
    }
    files.check()?;
    let read = inputs.iter().map(|input| read_message(input, &reading(options)));
    let decoded: Vec<Decoded> = read.collect::<Result<_, _>>()?;
    let how = writing(options, sharing.smallest);
    let mut sharers = Vec::with_capacity(decoded.len());
    for ((decoded, input), output) in decoded.iter().zip(&inputs).zip(&outputs) {
        let relocation = Relocation::outside(decoded, &how);
        sharers.push(Sharer {
            relocation: relocation.map_err(|error| Error::from(error).in_file(input))?,
            output: output.clone(),
        });
    }
    if is_new {
        std::fs::create_dir_all(folder).map_err(|source| FormatError::Write {
            path: folder.to_owned(),
            source,
        })?;
    }
    let written = options.on_threads(|| format::share(sharers, &data, &how));
    let written = written.and_then(|written| Ok(written?)).inspect_err(|_| {
        if is_new {
            // The save has failed already, with an error that says more than this one would.
            let _ = std::fs::remove_dir(folder);
        }
    })?;
    Ok(answer(&inputs, &decoded, &outputs, &data, &written))
}

fn answer(
    inputs: &[&Path],
    decoded: &[Decoded],
    outputs: &[PathBuf],
    data: &Path,
    written: &format::Shared,
) -> Shared {
    let models: Vec<SharedModel> = inputs
        .iter()
        .zip(decoded)
        .zip(outputs)
        .zip(&written.models)
        .map(|(((input, decoded), output), (after, data_bytes))| SharedModel {
            input: input.display().to_string(),
            output: output.display().to_string(),
            before: bytes_of(decoded),
            after: *after,
            data_bytes: *data_bytes,
        })
        .collect();
    let data_bytes = written.data.unwrap_or(0);
    let repeated = written.repeated;
    Shared {
        data: written.data.map(|_| data.display().to_string()),
        data_bytes,
        shared: SharedContents {
            contents: repeated.contents,
            tensors: repeated.tensors,
            bytes: repeated.bytes,
            saved: repeated.saved,
            common: repeated.common,
        },
        before: bytes_of_all(decoded),
        after: models.iter().map(|model| model.after).sum::<u64>() + data_bytes,
        notes: notes_of(&written.removed, &written.left),
        models,
    }
}

/// Moves initializers of a model file out into one data file beside it. What lies outside already goes to the same file, and what is
/// smaller than [`Externalizing::smallest`] lies inside. Everything else of the model stays as it is.
///
/// [`Options::in_place`] lets `output` be the model itself. Where there is nothing to move, nothing is written unless
/// [`Options::allow_unchanged`] takes the model as it is: see [`Relocated::reason`].
///
/// # Errors
///
/// What reading a model may say; `usage` for a name of a data file that is a path; `output-exists`, `output-is-input`,
/// `external-output-exists`, `write-failed`. Then nothing is written.
///
/// # Examples
///
/// ```
/// use secateur::{Externalizing, Options, convert_external, single_file};
/// # let folder = tempfile::tempdir().unwrap();
/// let (apart, whole) = (folder.path().join("apart.onnx"), folder.path().join("whole.onnx"));
/// let moved = convert_external("fixtures/digits_mlp.onnx", &apart, &Externalizing::new(), &Options::new())?;
/// assert!(moved.changed && moved.files.len() == 2);
/// single_file(&apart, &whole, &Options::new())?;
/// assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read("fixtures/digits_mlp.onnx").unwrap());
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn convert_external(
    model: impl AsRef<Path>,
    output: impl AsRef<Path>,
    how: &Externalizing,
    options: &Options,
) -> Result<Relocated, Error> {
    let (input, path) = (model.as_ref(), output.as_ref());
    let output = Destination::File(path.to_owned());
    let mut files = options.files();
    files.reads(MODEL, input);
    files.output(&output, options.in_place);
    if let Some(name) = &how.data {
        files.writes("--data", &directory_of(path).join(plain(name)?));
    }
    files.check()?;
    let decoded = read_message(input, &reading(options))?;
    let write = writing(options, how.smallest);
    let relocation = Relocation::outside(&decoded, &write);
    let relocation = relocation.map_err(|error| Error::from(error).in_file(input))?;
    if relocation.is_nothing() {
        let reason = format!(
            "no initializer has {} bytes or more, and no data lie outside of the model",
            how.smallest
        );
        return unchanged(&decoded, &output, options, reason);
    }
    let moved = (relocation.going_out().count(), sum(relocation.going_out()));
    let name = how.data.as_deref();
    let saved = options
        .on_threads(|| format::write_relocated(relocation, WriteTarget::File(path), name, &write))??;
    Ok(changed(
        &decoded,
        &output,
        moved,
        saved.bytes(),
        Saved::of(&output, &saved),
    ))
}

/// Takes all data of a model into its file. Everything else of the model stays as it is.
///
/// [`Options::in_place`] lets `output` be the model itself. Where the model has no external data, nothing is written unless
/// [`Options::allow_unchanged`] takes the model as it is: see [`Relocated::reason`].
///
/// # Errors
///
/// What reading a model may say; `model-too-large` for more than 2 GiB - 1, which one file cannot hold; `output-exists`,
/// `output-is-input`, `write-failed`. Then nothing is written.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let whole = folder.path().join("whole.onnx");
/// let moved = secateur::single_file("fixtures/digits_mlp_external.onnx", &whole, &secateur::Options::new())?;
/// assert_eq!((moved.tensors, moved.files.len()), (4, 1));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn single_file(
    model: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &Options,
) -> Result<Relocated, Error> {
    let output = Destination::File(output.as_ref().to_owned());
    single_file_to(model.as_ref(), &output, options)
}

/// [`single_file`], also to standard output.
pub(crate) fn single_file_to(
    input: &Path,
    output: &Destination,
    options: &Options,
) -> Result<Relocated, Error> {
    let mut files = options.files();
    files.reads(MODEL, input);
    files.output(output, options.in_place);
    files.check()?;
    let decoded = read_message(input, &reading(options))?;
    let write = writing(options, 0);
    let relocation = Relocation::inside(&decoded, &write);
    let relocation = relocation.map_err(|error| Error::from(error).in_file(input))?;
    if relocation.is_nothing() {
        let reason = "the model has no external data".to_owned();
        return unchanged(&decoded, output, options, reason);
    }
    let moved = (relocation.coming_in().count(), sum(relocation.coming_in()));
    let mut after = 0;
    let saved = deliver(output, |target| {
        let saved = format::write_relocated(relocation, target, None, &write)?;
        after = saved.bytes();
        Ok(saved)
    })?;
    Ok(changed(&decoded, output, moved, after, saved))
}

fn changed(
    decoded: &Decoded,
    output: &Destination,
    (tensors, bytes): (usize, u64),
    after: u64,
    saved: Saved,
) -> Relocated {
    Relocated {
        output: Some(output.name()),
        files: saved.files,
        changed: true,
        reason: None,
        tensors: tensors as u64,
        bytes,
        before: bytes_of(decoded),
        after,
        notes: saved.notes,
    }
}

/// The answer where nothing moves: the model as it is, where that is taken.
fn unchanged(
    decoded: &Decoded,
    output: &Destination,
    options: &Options,
    reason: String,
) -> Result<Relocated, Error> {
    let bytes = bytes_of(decoded);
    let mut found = Relocated {
        output: None,
        files: Vec::new(),
        changed: false,
        reason: Some(reason),
        tensors: 0,
        bytes: 0,
        before: bytes,
        after: bytes,
        notes: Vec::new(),
    };
    if options.allow_unchanged {
        let write = writing(options, 0);
        let saved = deliver(output, |target| {
            Ok(format::write_unchanged(&decoded.origin, target, &write)?)
        })?;
        (found.files, found.notes) = (saved.files, saved.notes);
        found.output = Some(output.name());
    }
    Ok(found)
}

/// The files that models are written to. No two of them may be one, and none that of the data.
fn outputs_of(inputs: &[&Path], folder: &Path, data: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut outputs: Vec<PathBuf> = Vec::with_capacity(inputs.len());
    for (at, input) in inputs.iter().enumerate() {
        if *input == Path::new(STDIO) {
            return Err(Error::usage(
                "models that share a data file come from files, whose names they keep",
            ));
        }
        let Some(name) = input.file_name() else {
            let path = input.to_path_buf();
            return Err(FormatError::NotAFile { path }.into());
        };
        let mut output = folder.join(name);
        if output
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("sct"))
        {
            output.set_extension("onnx");
        }
        let before = outputs.iter().position(|other| *other == output);
        let other = match before.and_then(|at| inputs.get(at)) {
            Some(other) => format!("the model {}", other.display()),
            None if output == data => "the data file".to_owned(),
            None => {
                outputs.push(output);
                continue;
            }
        };
        let message = format!(
            "{}: {other} and the model {}, number {}, have one name",
            output.display(),
            input.display(),
            at + 1
        );
        return Err(Error::new("output-is-output", message)
            .in_file(&output)
            .with_hint("models keep their names: give one of them another one first"));
    }
    Ok(outputs)
}

/// The name of a data file, which lies beside its models.
fn plain(name: &str) -> Result<&str, Error> {
    match is_file_name(name) {
        true => Ok(name),
        false => Err(Error::usage(&format!(
            "--data: {name:?} is not the name of a file; the data lie beside the model"
        ))),
    }
}

fn reading(options: &Options) -> ReadOptions {
    ReadOptions {
        strict: options.strict,
        ..ReadOptions::default()
    }
}

fn writing(options: &Options, smallest: u64) -> WriteOptions {
    WriteOptions {
        force: options.force,
        in_place: options.in_place,
        smallest_external: smallest,
        cancelled: options.cancel.as_ref().map(CancelToken::flag),
        ..WriteOptions::default()
    }
}

fn sum<'b>(contents: impl Iterator<Item = &'b bytes::Bytes>) -> u64 {
    contents.map(|bytes| bytes.len() as u64).sum()
}

/// Bytes of a model with its external data.
fn bytes_of(decoded: &Decoded) -> u64 {
    decoded.origin.bytes.len() as u64 + decoded.origin.external.bytes()
}

/// Bytes of all files of models, each file once.
fn bytes_of_all(models: &[Decoded]) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for decoded in models {
        let origin = &decoded.origin;
        bytes += origin.bytes.len() as u64;
        for (location, file) in origin.external.iter() {
            // Those of a container are in it.
            let inside = origin.path.as_deref() == Some(file.path.as_path());
            if seen.insert((file.path.clone(), inside.then(|| location.to_owned()))) {
                bytes += file.bytes.len() as u64;
            }
        }
    }
    bytes
}
