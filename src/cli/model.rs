//! Reading the model that an argument names, and writing the result.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::global::Global;
use super::outputs::{Outputs, STDIO};
use super::terminal;
use crate::analysis;
use crate::files::same_file;
use crate::format::save::{Target, WriteOptions};
use crate::format::{self, FormatError, Origin, ReadOptions, Saved, Source, Warning};
use crate::ir::{CheckError, Model};
use crate::report::sanitise;

/// A model and where it came from.
pub(super) struct Loaded {
    pub(super) model: Model,
    pub(super) origin: Origin,
    /// What is unusual about it.
    pub(super) warnings: Vec<String>,
    /// Whether the model is another than the file, so that an unchanged one is not written as it was read.
    pub(super) repaired: bool,
}

/// Reads and checks a model that will be run or changed; `-` is stdin. Shapes that contradict each other are an error.
pub(super) fn read(global: &Global, path: &Path) -> Result<Loaded, Failure> {
    let loaded = read_to_show(global, path)?;
    match analysis::conflicts(&loaded.model).into_iter().next() {
        Some(conflict) => Err(Failure::new("contradictory-shapes", conflict.to_string())
            .at_node(Some(conflict.node))
            .in_file(path)
            .hint("no engine can run this model; `inspect` lists every such node")),
        None => Ok(loaded),
    }
}

/// Reads and checks a model that is only looked at; `-` is stdin.
pub(super) fn read_to_show(global: &Global, path: &Path) -> Result<Loaded, Failure> {
    let options = ReadOptions {
        strict: global.strict,
        ..ReadOptions::default()
    };
    let decoded = format::read_proto(Source::from_argument(path), &options)
        .map_err(|error| Failure::from(error).in_file(path))?;
    let mut warnings = decoded.warnings;
    let mut model = format::lift_noting(decoded.model, &decoded.origin.external, &mut warnings)
        .map_err(|error| Failure::from(error).in_file(path))?;
    options
        .admit(&warnings)
        .map_err(|error| Failure::from(error).in_file(path))?;
    let notices = analysis::adopt(&mut model);
    if let Some(error) = analysis::check(&model)
        .err()
        .and_then(|errors| errors.into_iter().next())
    {
        return Err(Failure::from(error).in_file(path));
    }
    if let Some(notice) = notices.first().filter(|_| global.strict) {
        return Err(Failure::from(CheckError::from(notice.clone())).in_file(path));
    }
    let repaired = warnings.iter().any(Warning::repaired) || notices.iter().any(|notice| notice.repaired);
    let warnings: Vec<String> = warnings
        .iter()
        .map(ToString::to_string)
        .chain(notices.into_iter().map(|notice| notice.message))
        .collect();
    if global.quiet == 0 {
        for warning in &warnings {
            terminal::note(&format!("warning: {}: {}", path.display(), sanitise(warning)));
        }
    }
    Ok(Loaded {
        model,
        origin: decoded.origin,
        warnings,
        repaired,
    })
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// The output that `-o` and `--in-place` name together, for [`Outputs::check`].
pub(super) fn output(
    global: &Global,
    input: &Path,
    output: Option<&Path>,
    files: &mut Outputs,
) -> Result<Option<Output>, Failure> {
    let stdin = input == Path::new(STDIO);
    let target = match (output, global.in_place) {
        (Some(path), false) if path == Path::new(STDIO) => {
            if global.json {
                return Err(Failure::usage("a model and JSON cannot both go to stdout")
                    .hint("write the model to a file with -o"));
            }
            return Ok(Some(Output::Stdout));
        }
        (Some(path), false) => {
            files.writes("-o", path);
            return Ok(Some(Output::File(path.to_owned())));
        }
        (None, true) if stdin => return Err(Failure::usage("--in-place needs a model in a file")),
        (None, true) => input,
        (Some(path), true) if same_file(path, input) => path,
        (Some(_), true) => {
            return Err(Failure::usage(
                "--in-place writes the input; -o names another file",
            ));
        }
        (None, false) => return Ok(None),
    };
    files.in_place(target);
    Ok(Some(Output::File(target.to_owned())))
}

/// What a save left on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// Every file that belongs to the result: the model, then its external data.
    pub(super) files: Vec<String>,
    /// What became of the data files of a model that was replaced.
    pub(super) notes: Vec<String>,
}

impl Written {
    fn of(output: &Output, saved: Saved) -> Self {
        let name = |path: &PathBuf| path.strip_prefix(".").unwrap_or(path).display().to_string();
        let removed = saved
            .removed
            .iter()
            .map(|path| format!("{}: removed, as only the replaced model used it", name(path)));
        let left = saved.left.iter().map(|path| {
            format!(
                "{}: the replaced model used it, and no model there is known to use it now; it is left, as secateur did not write it or cannot read every model there",
                name(path)
            )
        });
        Self {
            files: std::iter::once(output.name())
                .chain(saved.data.iter().map(|(path, _)| name(path)))
                .collect(),
            notes: removed.chain(left).collect(),
        }
    }
}

/// Writes a result: the input's own bytes where nothing changed.
pub(super) fn write(
    global: &Global,
    output: &Output,
    model: &Model,
    loaded: &Loaded,
    changed: bool,
) -> Result<Written, Failure> {
    let origin = &loaded.origin;
    let changed = changed || loaded.repaired;
    let options = WriteOptions {
        force: global.force,
        in_place: global.in_place,
        ..WriteOptions::default()
    };
    let mut stdout;
    let target = match output {
        Output::File(path) => Target::File(path),
        Output::Stdout => {
            stdout = io::stdout().lock();
            Target::Stream(&mut stdout)
        }
    };
    let saved = if changed {
        let message = format::lower(model, &origin.external)?;
        format::write_proto(message, Some(origin), target, &options)?
    } else {
        format::write_unchanged(origin, target, &options)?
    };
    if *output == Output::Stdout {
        io::stdout().flush().map_err(|source| FormatError::Write {
            path: "-".into(),
            source,
        })?;
    }
    Ok(Written::of(output, saved))
}

impl Output {
    /// How reports call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdout => "-".to_owned(),
        }
    }
}
