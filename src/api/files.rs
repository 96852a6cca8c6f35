//! What a call reads and writes. Everything that writes a file names all of both here, and nothing is begun before they are
//! checked: no output is an input, data of an input, or another output, whatever --force says; each has a folder that can be written
//! to; and what exists is replaced only with --force.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::save::Destination;
use crate::data::Spec;
use crate::files::{Draft, Identity, directory_of};
use crate::format::{FormatError, recorded_data};
use crate::pipeline::{Pipeline, Usage};

/// How an argument names standard input or output.
pub(crate) const STDIO: &str = "-";

/// The files of a call.
#[derive(Debug, Default)]
pub(crate) struct Files {
    force: bool,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    stdin: Vec<String>,
}

#[derive(Debug)]
struct Input {
    /// What it is, as messages say it.
    name: String,
    path: PathBuf,
    /// For a folder: the endings of the files in it that are read.
    endings: &'static [&'static str],
}

#[derive(Debug)]
struct Output {
    /// The option that names it.
    name: String,
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file that --force replaces.
    File,
    /// A file that is gone on with where it exists.
    State,
    /// The model in the place of the model.
    InPlace,
}

impl Files {
    /// The folders of rules, and nothing else yet.
    pub(crate) fn new(force: bool, rule_folders: &[PathBuf]) -> Self {
        let mut files = Self {
            force,
            ..Self::default()
        };
        for folder in rule_folders {
            files.read("a folder of --rules", folder, &["yaml", "yml"]);
        }
        files
    }

    /// A file that is read: a model with its external data, or anything else. `-` is standard input.
    pub(crate) fn reads(&mut self, name: &str, path: &Path) {
        if path == Path::new(STDIO) {
            self.stdin.push(name.to_owned());
        } else {
            self.read(name, path, &[]);
        }
    }

    /// Data that are read from what a path stands for.
    pub(crate) fn reads_data_at(&mut self, path: &Path) {
        self.read("the data", path, &[]);
        if let Ok((spec, base)) = Spec::from_path(path) {
            self.reads_spec(&spec, &base);
        }
    }

    /// Data that are read as they are described.
    pub(crate) fn reads_spec(&mut self, spec: &Spec, base: &Path) {
        for file in spec.files(base) {
            self.read("the data", &file.path, file.endings);
        }
    }

    /// What a pipeline reads and, if it is to be written, what it writes beside the model.
    pub(crate) fn pipeline(&mut self, pipeline: &Pipeline, written: bool) {
        for file in pipeline.files() {
            match file.usage {
                Usage::Read(endings) => self.read(&file.name, &file.path, endings),
                Usage::Written if written => self.writes(&file.name, &file.path),
                Usage::Written => {}
                Usage::Continued => self.continues(&file.name, &file.path),
            }
        }
    }

    /// A file that is written.
    pub(crate) fn writes(&mut self, name: &str, path: &Path) {
        self.write(name, path, Kind::File);
    }

    /// A model that is written, over itself or not.
    pub(crate) fn output(&mut self, output: &Destination, in_place: bool) {
        match output {
            Destination::File(path) if in_place => self.in_place(path),
            Destination::File(path) => self.writes("-o", path),
            Destination::Stdout => {}
        }
    }

    /// A file that is written, and gone on with where it exists.
    pub(crate) fn continues(&mut self, name: &str, path: &Path) {
        self.write(name, path, Kind::State);
    }

    /// The model that is written over itself.
    pub(crate) fn in_place(&mut self, path: &Path) {
        self.write("--in-place", path, Kind::InPlace);
    }

    fn read(&mut self, name: &str, path: &Path, endings: &'static [&'static str]) {
        self.inputs.push(Input {
            name: name.to_owned(),
            path: path.to_owned(),
            endings,
        });
    }

    fn write(&mut self, name: &str, path: &Path, kind: Kind) {
        self.outputs.push(Output {
            name: name.to_owned(),
            path: path.to_owned(),
            kind,
        });
    }

    /// Refuses what must not be read or written.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let [first, second, ..] = self.stdin.as_slice() {
            return Err(
                Error::usage(&format!("{first} and {second} cannot both come from stdin"))
                    .with_hint("give one of them as a file"),
            );
        }
        for (at, output) in self.outputs.iter().enumerate() {
            if output.path == Path::new(STDIO) {
                return Err(Error::usage(&format!("{} takes the name of a file", output.name))
                    .with_hint("only a model goes to stdout, with -o -"));
            }
            output.check_kind()?;
            self.check_inputs(output)?;
            let same = |other: &&Output| Identity::of(&other.path) == Identity::of(&output.path);
            if let Some(other) = self.outputs.iter().take(at).find(same) {
                return Err(Error::new(
                    "output-is-output",
                    format!(
                        "{}: {} and {} name one file",
                        output.path.display(),
                        other.name,
                        output.name
                    ),
                )
                .in_file(&output.path)
                .with_hint("choose another file for one of them"));
            }
            if output.path.symlink_metadata().is_ok() && output.kind == Kind::File && !self.force {
                return Err(FormatError::OutputExists {
                    path: output.path.clone(),
                }
                .into());
            }
        }
        self.outputs.iter().try_for_each(Output::check_folder)
    }

    /// Refuses an output that is read.
    fn check_inputs(&self, output: &Output) -> Result<(), Error> {
        // What does not exist is nothing that is read.
        let Ok(found) = output.path.canonicalize() else {
            return Ok(());
        };
        let identity = Identity::of(&output.path);
        let mut is_model = false;
        for input in &self.inputs {
            let read = if input.path.is_dir() {
                let ending = found.extension().and_then(|ending| ending.to_str()).unwrap_or("");
                input
                    .endings
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(ending))
                    && input
                        .path
                        .canonicalize()
                        .is_ok_and(|folder| found.starts_with(folder))
            } else {
                Identity::of(&input.path) == identity
            };
            // The model itself, once: as anything else it is an input like any other.
            if read && output.kind == Kind::InPlace && input.name == MODEL && !is_model {
                is_model = true;
                continue;
            }
            if read && input.name == MODEL {
                return Err(FormatError::OutputIsInput {
                    path: output.path.clone(),
                }
                .into());
            }
            if read {
                return Err(is_input(output, &input.name, "output-is-input"));
            }
            let is_data = |path: &PathBuf| Identity::of(path) == identity;
            if input.path.is_file() && recorded_data(&input.path).iter().any(is_data) {
                let name = format!("external data of {}", input.name);
                return Err(is_input(output, &name, "output-is-input-data"));
            }
        }
        Ok(())
    }
}

/// What messages call the model that a call is about.
pub(crate) const MODEL: &str = "the model";

fn is_input(output: &Output, what: &str, code: &str) -> Error {
    Error::new(
        code,
        format!(
            "{}: {} names {what}, which is read",
            output.path.display(),
            output.name
        ),
    )
    .in_file(&output.path)
    .with_hint("choose another file; --force does not replace what a command reads")
}

impl Output {
    /// Refuses what is no file and can be none.
    fn check_kind(&self) -> Result<(), Error> {
        let is_file = self.path.metadata().map_or(true, |found| found.is_file());
        if !is_file || self.path.file_name().is_none() {
            return Err(FormatError::NotAFile {
                path: self.path.clone(),
            }
            .into());
        }
        Ok(())
    }

    /// Refuses a file that cannot be written where it is to stand.
    fn check_folder(&self) -> Result<(), Error> {
        let folder = directory_of(&self.path);
        if !folder.is_dir() {
            return Err(Error::new(
                "write-failed",
                format!("{}: there is no folder {}", self.path.display(), folder.display()),
            )
            .in_file(&self.path)
            .with_hint("make the folder first, or choose another"));
        }
        Draft::create(&self.path).map(drop).map_err(|source| {
            FormatError::Write {
                path: self.path.clone(),
                source,
            }
            .into()
        })
    }
}
