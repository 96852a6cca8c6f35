//! Writing a model: all or nothing.
//!
//! A file is written under a temporary name in its directory, made durable and renamed; the external data goes first, to a
//! name that holds the digest of its content, and the model goes last. So at every moment the output's name leads to the
//! old model with its old data or to the new model with its new data.

use std::fs::Permissions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::decode::Origin;
use super::encode::encode;
use super::error::FormatError;
use super::external::{self, ExternalFiles};
use super::layout::{self, DataFile, Policy};
use super::map::file_bytes;
use super::problem::ExternalProblem;
use super::relocate::{self, Relocation, length_of};
use super::retire::Replaced;
use super::rope::write_pieces;
use super::transaction::Transaction;
use crate::files::{Fs, OsFs, Temporaries, directory_of, same_file, temporaries};
use crate::proto;

/// Where a model goes.
pub enum WriteTarget<'a> {
    /// A file.
    File(&'a Path),
    /// A stream such as standard output.
    Stream(&'a mut dyn Write),
}

/// How to write a model.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// Whether the output may be the input.
    pub in_place: bool,
    /// The largest model file in bytes; what is above goes to an external data file. Protobuf's own limit is 2 GiB - 1.
    pub largest_message: u64,
    /// The smallest tensor in bytes that goes to the external data file, when there is one.
    pub smallest_external: u64,
    /// Once it is set, nothing gets a name any more: the save fails, and leaves what was there.
    pub cancelled: Option<Arc<AtomicBool>>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            force: false,
            in_place: false,
            largest_message: i32::MAX as u64,
            smallest_external: 1024,
            cancelled: None,
        }
    }
}

/// What a save wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Size of the model file.
    pub model_bytes: u64,
    /// External data files that belong to the output, with their sizes, whether they were written or there already.
    pub data: Vec<(PathBuf, u64)>,
    /// Data files of the replaced model that were removed.
    pub removed: Vec<PathBuf>,
    /// Data files of the replaced model that no model there is known to need any more, and that are left: others wrote them, or
    /// not every model there can be read.
    pub left: Vec<PathBuf>,
}

impl Saved {
    /// Size of the model with its external data.
    pub fn bytes(&self) -> u64 {
        self.model_bytes + self.data.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// Writes a changed model. `origin` is what it was read from, for the data of its external tensors and so that the input
/// stays as it is.
///
/// A model that had external data, or that is too large for one message, gets one new external data file
/// `<output stem>.<16 hexadecimal digits of its BLAKE3>.data`.
pub fn write_proto(
    model: proto::ModelProto,
    origin: Option<&Origin>,
    target: WriteTarget<'_>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    write_proto_on(&OsFs, temporaries(), model, origin, target, options)
}

/// Writes a model that nothing has changed: the same bytes, and its external data files under the same relative names.
/// A stream gets the model with its data inside, because it cannot carry the files.
pub fn write_unchanged(
    origin: &Origin,
    target: WriteTarget<'_>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    write_unchanged_on(&OsFs, temporaries(), origin, target, options)
}

/// [`write_proto`] on any file system.
pub fn write_proto_on(
    fs: &dyn Fs,
    temporaries: &Temporaries,
    mut model: proto::ModelProto,
    origin: Option<&Origin>,
    target: WriteTarget<'_>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    let none = ExternalFiles::default();
    let files = origin.map_or(&none, |origin| &origin.external);
    let path = match target {
        WriteTarget::Stream(stream) => return write_inline(model, files, stream, options),
        WriteTarget::File(path) => path,
    };
    let saving = Saving {
        replace: check_output(path, origin, options)?,
        fs,
        temporaries,
        path,
        origin,
        options,
    };
    let had_external = layout::inline(&mut model, files)?;
    let placeholder = data_name(path, "0000000000000000");
    let policy = Policy {
        largest_message: options.largest_message,
        smallest_tensor: options.smallest_external,
    };
    let data = layout::externalize(&mut model, had_external, policy, &placeholder)?;
    saving.run(data, None, |name| {
        if let Some(name) = name {
            layout::rename_data(&mut model, &placeholder, name);
        }
        encode(&model).into_pieces()
    })
}

/// Writes a model whose data were moved: the data file goes beside it, under `name` or else as [`write_proto`] calls it. A stream gets a
/// model with its data inside.
///
/// # Errors
/// [`FormatError::ExternalOutputExists`] where another file has that name, as it cannot be replaced together with the model.
pub fn write_relocated(
    mut relocation: Relocation<'_>,
    target: WriteTarget<'_>,
    name: Option<&str>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    let (data, _) = relocate::place(std::slice::from_mut(&mut relocation));
    let path = match target {
        WriteTarget::Stream(stream) => return write_relocated_stream(&relocation, &data, stream, options),
        WriteTarget::File(path) => path,
    };
    let origin = Some(relocation.origin());
    let saving = Saving {
        replace: check_output(path, origin, options)?,
        fs: &OsFs,
        temporaries: temporaries(),
        path,
        origin,
        options,
    };
    saving.run(data.filled(), name, |name| {
        relocation.message(name.unwrap_or_default())
    })
}

fn write_relocated_stream(
    relocation: &Relocation<'_>,
    data: &DataFile,
    stream: &mut dyn Write,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    let pieces = relocation.message("");
    if data.bytes() > 0 {
        return Err(FormatError::StreamNeedsExternal {
            bytes: length_of(&pieces) + data.bytes(),
            limit: options.largest_message,
        });
    }
    write_stream(&pieces, stream)
}

/// A model on its way to a file.
struct Saving<'a> {
    fs: &'a dyn Fs,
    temporaries: &'a Temporaries,
    path: &'a Path,
    origin: Option<&'a Origin>,
    options: &'a WriteOptions,
    /// Whether what is there may be replaced.
    replace: bool,
}

impl Saving<'_> {
    /// Writes the data file, under a name that is given or one that holds its digest, and the model that names it.
    fn run(
        &self,
        data: Option<DataFile>,
        given: Option<&str>,
        model: impl FnOnce(Option<&str>) -> Vec<Bytes>,
    ) -> Result<Saved, FormatError> {
        let Self { fs, path, origin, .. } = *self;
        let cancelled = self.options.cancelled.as_deref();
        let mut save = Transaction::begin(fs, self.temporaries, path, cancelled);
        save.collect();
        let directory = directory_of(path);
        let mut saved = Saved::default();
        let permissions = Permits::of(path, &directory, self.replace);
        let mut written = None;
        if let Some(DataFile { pieces, .. }) = data {
            let (temporary, digest) = save.write_hashed(&directory, &pieces, permissions.data)?;
            let own = || data_name(path, digest.to_hex().get(..16).unwrap_or_default());
            written = Some((temporary, given.map_or_else(own, str::to_owned), pieces));
        }
        let pieces = model(written.as_ref().map(|(_, name, _)| name.as_str()));
        saved.model_bytes = length_of(&pieces);
        let new_model = save.write(&directory, &pieces, permissions.model)?;
        save.begin_publishing();
        let mut names = Vec::new();
        if let Some((temporary, name, pieces)) = written {
            let data_path = directory.join(&name);
            if lexically_equal(&data_path, path) {
                return Err(FormatError::ExternalOutputExists { path: data_path });
            }
            if publish_data(&mut save, &temporary, &data_path, &pieces)? {
                save.sync_directory(&directory)?;
            }
            saved.data.push((data_path, length_of(&pieces)));
            names.push(name);
        }
        let replaced = self.replace.then(|| Replaced::of(path));
        if replaced.as_ref().is_some_and(Replaced::has_data) {
            save.remember(path)?;
        }
        let in_place = origin.is_some_and(|origin| is_input(origin, path));
        save.publish_last(&new_model, path, self.replace)?;
        save.sync_directory(&directory)?;
        if let Some(replaced) = replaced {
            (saved.removed, saved.left) = replaced.retire(fs, path, &names, &spared(origin, in_place));
        }
        Ok(saved)
    }
}

/// [`write_unchanged`] on any file system.
pub fn write_unchanged_on(
    fs: &dyn Fs,
    temporaries: &Temporaries,
    origin: &Origin,
    target: WriteTarget<'_>,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    let path = match target {
        WriteTarget::Stream(stream) if origin.external.is_empty() => {
            return write_stream(std::slice::from_ref(&origin.bytes), stream);
        }
        WriteTarget::Stream(stream) => {
            use prost::Message as _;
            let model = proto::ModelProto::decode(origin.bytes.clone())
                .map_err(|source| FormatError::Decode { source })?;
            return write_inline(model, &origin.external, stream, options);
        }
        WriteTarget::File(path) => path,
    };
    let replace = check_output(path, Some(origin), options)?;
    let directory = directory_of(path);
    let mut saved = Saved {
        model_bytes: origin.bytes.len() as u64,
        ..Saved::default()
    };
    let here = origin
        .external
        .iter()
        .map(|(location, file)| (directory.join(location), file.bytes.len() as u64));
    saved.data.extend(here);
    if is_input(origin, path) {
        return Ok(saved);
    }
    let mut save = Transaction::begin(fs, temporaries, path, options.cancelled.as_deref());
    save.collect();
    let permissions = Permits::of(path, &directory, replace);
    let mut written = Vec::new();
    for (location, file) in origin.external.iter() {
        let data_path = directory.join(location);
        if same_file(&data_path, &file.path) {
            continue;
        }
        let pieces = std::slice::from_ref(&file.bytes);
        if lexically_equal(&data_path, path) {
            return Err(FormatError::ExternalOutputExists { path: data_path });
        }
        if holds(&data_path, pieces)? {
            continue;
        }
        let data_directory = directory_of(&data_path);
        if data_directory != directory {
            check_inside(&data_directory, &directory, location)?;
            save.create_directory(&data_directory)?;
        }
        let temporary = save.write(&data_directory, pieces, permissions.data.clone())?;
        written.push((temporary, data_path, &file.bytes));
    }
    let new_model = save.write(&directory, std::slice::from_ref(&origin.bytes), permissions.model)?;
    save.begin_publishing();
    for (temporary, data_path, bytes) in written {
        if publish_data(&mut save, &temporary, &data_path, std::slice::from_ref(bytes))? {
            save.sync_directory(&directory_of(&data_path))?;
        }
    }
    let replaced = replace.then(|| Replaced::of(path));
    if replaced.as_ref().is_some_and(Replaced::has_data) {
        save.remember(path)?;
    }
    save.publish_last(&new_model, path, replace)?;
    save.sync_directory(&directory)?;
    if let Some(replaced) = replaced {
        let names: Vec<String> = origin
            .external
            .iter()
            .map(|(location, _)| location.to_owned())
            .collect();
        (saved.removed, saved.left) = replaced.retire(fs, path, &names, &spared(Some(origin), false));
    }
    Ok(saved)
}

/// The permissions that new files take over from those they replace; `None` for those of a new file.
struct Permits {
    model: Option<Permissions>,
    data: Option<Permissions>,
}

impl Permits {
    /// Those of the model at `path` and its data, where it is replaced. Data that were inside the model have its permissions.
    fn of(path: &Path, directory: &Path, replace: bool) -> Self {
        let old = path.symlink_metadata().ok();
        let model = old
            .filter(|old| replace && old.is_file())
            .map(|old| old.permissions());
        let data = model
            .as_ref()
            .and_then(|_| Replaced::of(path).data_permissions(directory))
            .or_else(|| model.clone());
        Self { model, data }
    }
}

/// Gives a data file its name. Whether it was needed: the same file may be there.
fn publish_data(
    save: &mut Transaction<'_>,
    temporary: &Path,
    target: &Path,
    pieces: &[Bytes],
) -> Result<bool, FormatError> {
    if !holds(target, pieces)? {
        match save.publish_data(temporary, target) {
            // Another process was faster, where folders cannot be locked.
            Err(FormatError::ExternalOutputExists { .. }) if holds(target, pieces)? => {}
            published => return published.map(|()| true),
        }
    }
    save.discard(temporary)?;
    Ok(false)
}

/// `<stem>.<digest>.data`, for the model at a path.
fn data_name(path: &Path, digest: &str) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}.{digest}.data")
}

fn write_inline(
    mut model: proto::ModelProto,
    files: &ExternalFiles,
    stream: &mut dyn Write,
    options: &WriteOptions,
) -> Result<Saved, FormatError> {
    layout::inline(&mut model, files)?;
    write_stream(&bounded(&model, options)?, stream)
}

/// A message without external data in pieces, of which large ones are not copied.
///
/// # Errors
/// [`FormatError::StreamNeedsExternal`] for one that is larger than messages may be.
pub fn pieces(model: &proto::ModelProto) -> Result<Vec<Bytes>, FormatError> {
    bounded(model, &WriteOptions::default())
}

fn bounded(model: &proto::ModelProto, options: &WriteOptions) -> Result<Vec<Bytes>, FormatError> {
    let bytes = layout::encoded_len(model);
    if bytes > options.largest_message {
        return Err(FormatError::StreamNeedsExternal {
            bytes,
            limit: options.largest_message,
        });
    }
    Ok(encode(model).into_pieces())
}

fn write_stream(pieces: &[Bytes], stream: &mut dyn Write) -> Result<Saved, FormatError> {
    write_pieces(pieces, stream)
        .and_then(|()| stream.flush())
        .map_err(|source| FormatError::Write {
            path: PathBuf::from("-"),
            source,
        })?;
    Ok(Saved {
        model_bytes: length_of(pieces),
        ..Saved::default()
    })
}

/// Whether the output may replace something. Refuses one that exists (without `force`), that is the input (without
/// `in_place`), that is data of the input, or that is no file.
pub(super) fn check_output(
    path: &Path,
    origin: Option<&Origin>,
    options: &WriteOptions,
) -> Result<bool, FormatError> {
    let owned = || path.to_owned();
    if path.file_name().is_none() {
        return Err(FormatError::NotAFile { path: owned() });
    }
    match path.symlink_metadata() {
        // Another save may be faster: then its model is replaced, where that is allowed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(options.force),
        Err(source) => {
            return Err(FormatError::Write {
                path: owned(),
                source,
            });
        }
        Ok(_) => {}
    }
    // A link that leads nowhere has no metadata; it is replaced like a file.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(FormatError::NotAFile { path: owned() });
    }
    if let Some(origin) = origin {
        if is_input(origin, path) {
            return if options.in_place {
                Ok(true)
            } else {
                Err(FormatError::OutputIsInput { path: owned() })
            };
        }
        if external::reads(&origin.external, path) {
            return Err(FormatError::OutputIsInputData { path: owned() });
        }
    }
    if options.force {
        Ok(true)
    } else {
        Err(FormatError::OutputExists { path: owned() })
    }
}

/// Which files must stay: the data of an input that is another model than the replaced one.
fn spared(origin: Option<&Origin>, in_place: bool) -> impl Fn(&Path) -> bool + '_ {
    move |path| !in_place && origin.is_some_and(|origin| external::reads(&origin.external, path))
}

fn is_input(origin: &Origin, path: &Path) -> bool {
    origin.path.as_deref().is_some_and(|input| same_file(input, path))
}

/// Whether the file at `path` is a regular file with exactly this content.
pub(super) fn holds(path: &Path, pieces: &[Bytes]) -> Result<bool, FormatError> {
    let length = length_of(pieces);
    match path.symlink_metadata() {
        Ok(found) if found.is_file() && found.len() == length => {}
        _ => return Ok(false),
    }
    let failed = |source| FormatError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut content = file_bytes(file, size).map_err(failed)?;
    for piece in pieces {
        if content.len() < piece.len() || content.split_to(piece.len()) != *piece {
            return Ok(false);
        }
    }
    Ok(content.is_empty())
}

fn lexically_equal(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}

/// Refuses to write data outside of the output's directory, where a link may lead. `inner` need not exist yet.
fn check_inside(inner: &Path, outer: &Path, location: &str) -> Result<(), FormatError> {
    let failed = |source| FormatError::Write {
        path: inner.to_owned(),
        source,
    };
    let existing = inner
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())
        .unwrap_or(outer);
    let resolved = existing.canonicalize().map_err(failed)?;
    if resolved.starts_with(outer.canonicalize().map_err(failed)?) {
        return Ok(());
    }
    let problem = ExternalProblem::Outside(resolved);
    Err(FormatError::External {
        tensor: String::new(),
        location: location.to_owned(),
        problem,
    })
}
