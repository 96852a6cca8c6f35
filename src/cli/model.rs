//! Reading the model that an argument names, and where the result goes.

use std::path::Path;

use super::global::Global;
use super::terminal;
use crate::api::{Destination, Error, Model, STDIO, Source, same_file};
use crate::report::sanitise;

/// Reads and checks a model that will be run or changed; `-` is stdin. Shapes that contradict each other are an error.
pub(super) fn read(global: &Global, path: &Path) -> Result<Model, Error> {
    read_to_show(global, path)?.consistent(Some(path))
}

/// Reads and checks a model that is only looked at; `-` is stdin.
pub(super) fn read_to_show(global: &Global, path: &Path) -> Result<Model, Error> {
    let model = Model::read_to_show(Source::from_argument(path), Some(path), global.strict)?;
    if global.quiet == 0 {
        for warning in &model.warnings {
            terminal::note(&format!("warning: {}: {}", path.display(), sanitise(warning)));
        }
    }
    Ok(model)
}

/// The output that `-o` and `--in-place` name together.
pub(super) fn output(
    global: &Global,
    input: &Path,
    output: Option<&Path>,
) -> Result<Option<Destination>, Error> {
    let stdin = input == Path::new(STDIO);
    let target = match (output, global.in_place) {
        (Some(path), false) if path == Path::new(STDIO) => {
            if global.json {
                return Err(Error::usage("a model and JSON cannot both go to stdout")
                    .with_hint("write the model to a file with -o"));
            }
            return Ok(Some(Destination::Stdout));
        }
        (Some(path), false) => path,
        (None, true) if stdin => return Err(Error::usage("--in-place needs a model in a file")),
        (None, true) => input,
        (Some(path), true) if same_file(path, input) => path,
        (Some(_), true) => {
            return Err(Error::usage("--in-place writes the input; -o names another file"));
        }
        (None, false) => return Ok(None),
    };
    Ok(Some(Destination::File(target.to_owned())))
}
