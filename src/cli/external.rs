//! `share`, `convert-external` and `single-file`: where weights lie.

use std::path::{Path, PathBuf};

use clap::Args;

use super::global::Global;
use super::outcome::UNCHANGED;
use super::{Answer, model, terminal};
use crate::api::{self, Destination, Error, Externalizing, Options, Relocated, Shared, Sharing};
use crate::report::sanitise;

/// Write several models on one data file, in which what is the same in two tensors is stored once
///
/// The models keep their names and everything in them but where their weights lie; an encoder, a decoder and a decoder with its past then take
/// the bytes of the weights that they have between them. Either all files are there afterwards or none.
#[derive(Clone, Debug, Args)]
pub(super) struct Share {
    /// The models; a packed one is written as .onnx
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// The folder of the models and their data file, which need not be there
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// The name of the data file
    #[arg(long, value_name = "NAME")]
    data: String,
    /// The fewest bytes of a tensor that goes to the data file; what is smaller lies in the model
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    smallest: u64,
}

/// Move the weights of a model to one data file beside it
///
/// Everything else in the model stays as it is. What lies outside already goes to the same file. Exit status 1: there is nothing to move.
#[derive(Clone, Debug, Args)]
pub(super) struct ConvertExternal {
    /// The model; `-` is stdin
    model: PathBuf,
    /// Where the model goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The name of the data file [default: that of the model with a digest of what the file holds]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// The fewest bytes of a tensor that goes to the data file; what is smaller lies in the model
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    smallest: u64,
    /// Write the model and exit with status 0 even if there is nothing to move
    #[arg(long)]
    allow_unchanged: bool,
}

/// Take the external data of a model into its file
///
/// Everything else in the model stays as it is. A file holds at most 2 GiB. Exit status 1: the model has no external data.
#[derive(Clone, Debug, Args)]
pub(super) struct SingleFile {
    /// The model; `-` is stdin
    model: PathBuf,
    /// Where the model goes; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the model and exit with status 0 even if it has no external data
    #[arg(long)]
    allow_unchanged: bool,
}

pub(super) fn share(global: &Global, arguments: &Share) -> Result<Answer, Error> {
    let sharing = Sharing::new(arguments.data.as_str()).smallest(arguments.smallest);
    let shared = api::share(&arguments.models, &arguments.output, &sharing, &global.options())?;
    if global.quiet == 0 {
        note(&shared.notes);
        if let Some(lack) = lack(&shared, arguments.smallest) {
            terminal::note(&format!("warning: {lack}"));
        }
    }
    if global.json {
        terminal::json(&shared);
    } else if global.quiet == 0 {
        terminal::answer(&said(&shared, &arguments.output));
    }
    Ok(Answer::Done)
}

/// What was asked for and is not there.
fn lack(shared: &Shared, smallest: u64) -> Option<String> {
    match (&shared.data, shared.shared.common, shared.models.len()) {
        (None, ..) => Some(format!(
            "no initializer has {smallest} bytes or more, so there is no data file"
        )),
        (Some(_), 0, 2..) => Some(format!(
            "nothing is shared: no two of the models have a tensor of {smallest} bytes or more in common"
        )),
        _ => None,
    }
}

/// What became of the bytes.
fn said(shared: &Shared, folder: &Path) -> String {
    let mut text = String::new();
    for model in &shared.models {
        text.push_str(&format!(
            "{} -> {} bytes and {} of the data file: {}\n",
            model.before,
            model.after,
            model.data_bytes,
            sanitise(&model.output)
        ));
    }
    if let Some(data) = &shared.data {
        text.push_str(&format!("{} bytes: {}\n", shared.data_bytes, sanitise(data)));
    }
    let repeated = &shared.shared;
    if repeated.contents > 0 {
        text.push_str(&format!(
            "shared: {} tensors are {}, stored once: {} bytes less\n",
            repeated.tensors,
            counted(repeated.contents, "content"),
            repeated.saved
        ));
    }
    text.push_str(&format!(
        "{} -> {} bytes, {:.1} %: {}",
        shared.before,
        shared.after,
        100.0 * shared.after as f64 / shared.before.max(1) as f64,
        sanitise(&folder.display().to_string())
    ));
    text
}

pub(super) fn convert_external(global: &Global, arguments: &ConvertExternal) -> Result<Answer, Error> {
    let output = output(global, &arguments.model, arguments.output.as_deref())?;
    let Destination::File(path) = &output else {
        return Err(
            Error::usage("a model that has a file beside it cannot go to stdout")
                .with_hint("name a file with -o"),
        );
    };
    let mut how = Externalizing::new().smallest(arguments.smallest);
    if let Some(name) = &arguments.data {
        how = how.data(name.as_str());
    }
    let options = allowing(global, arguments.allow_unchanged);
    let moved = api::convert_external(&arguments.model, path, &how, &options)?;
    Ok(show(
        global,
        "convert-external",
        "to the data file",
        &moved,
        &output,
    ))
}

pub(super) fn single_file(global: &Global, arguments: &SingleFile) -> Result<Answer, Error> {
    let output = output(global, &arguments.model, arguments.output.as_deref())?;
    let options = allowing(global, arguments.allow_unchanged);
    let moved = api::single_file_to(&arguments.model, &output, &options)?;
    Ok(show(global, "single-file", "into the model", &moved, &output))
}

fn output(global: &Global, input: &Path, output: Option<&Path>) -> Result<Destination, Error> {
    model::output(global, input, output)?.ok_or_else(|| {
        Error::usage("there is no output").with_hint("choose one with -o FILE, or pass --in-place")
    })
}

fn allowing(global: &Global, unchanged: bool) -> Options {
    global.options().allow_unchanged(unchanged)
}

/// Says what moved, or why nothing did.
fn show(global: &Global, verb: &str, whereto: &str, moved: &Relocated, output: &Destination) -> Answer {
    let answer = match moved.output {
        Some(_) => Answer::Done,
        None => Answer::No,
    };
    if global.quiet == 0 {
        note(&moved.notes);
    }
    if global.quiet < 2
        && !global.json
        && let Some(reason) = &moved.reason
    {
        terminal::note(&format!("warning: {verb} changed nothing: {reason}"));
    }
    let say = |text: &str| match output {
        Destination::File(_) if global.quiet == 0 => terminal::answer(text),
        _ if global.quiet < 2 => terminal::note(text),
        _ => {}
    };
    if global.json {
        terminal::json(moved);
    } else if answer == Answer::No {
        say(UNCHANGED);
    } else if global.quiet == 0 {
        if moved.changed {
            let tensors = counted(moved.tensors, "tensor");
            say(&format!("moved {whereto}: {tensors} of {} bytes", moved.bytes));
        }
        say(&format!("written: {}", sanitise(&moved.files.join(", "))));
    }
    answer
}

fn note(notes: &[String]) {
    for note in notes {
        terminal::note(&format!("warning: {}", sanitise(note)));
    }
}

/// A number of things in words.
fn counted(count: u64, name: &str) -> String {
    match count {
        1 => format!("1 {name}"),
        _ => format!("{count} {name}s"),
    }
}
