//! A verb for each registered pass: one step in the form of flags, made from the JSON Schema of the pass's options.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use serde_json::{Map, Value};

use super::failure::Failure;
use super::global::Global;
use super::run::{Running, rewrite};
use super::{Answer, classes};
use crate::passes::{Safety, registry};
use crate::pipeline::{self, Pipeline, Unchanged};

/// A step that the command line names.
pub(super) struct Step {
    name: String,
    options: Map<String, Value>,
    model: Option<PathBuf>,
    running: Running,
    compare: bool,
    explain: bool,
}

/// The one verb that explains what it would do to a model, class by class.
const EXPLAINS: &str = "prune-channels";

/// Options that every verb of a pass has; options of a pass with these names are set with `--set`.
const COMMON: [&str; 34] = [
    "model",
    "explain",
    "verify",
    "set",
    "output",
    "bind",
    "keep",
    "fuel",
    "only",
    "data",
    "dry-run",
    "check",
    "allow-unchanged",
    "print-pipeline",
    "report",
    "no-provenance",
    "size",
    "tolerance",
    "rounds",
    "unoptimised",
    "json",
    "jobs",
    "engine",
    "seed",
    "force",
    "in-place",
    "strict",
    "max-growth",
    "no-verify",
    "quiet",
    "verbose",
    "rules",
    "help",
    "version",
];

/// Every pass; its schema is made when the first of them is asked for.
static ENTRIES: LazyLock<Vec<registry::Entry>> = LazyLock::new(registry::entries);

/// Verbs whose second word says what: passes named `<verb>-<word>` are their subcommands.
const GROUPS: [(&str, &str); 2] = [
    ("prune", "Remove channels or single weights"),
    (
        "transfer",
        "Take parameters, structure or features from other models",
    ),
];

/// Options that the command line takes by position: the pass, the option, what it is called, whether it stands before MODEL.
const POSITIONAL: [(&str, &str, &str, bool); 2] = [
    ("transfer-parameters", "from", "SOURCE", true),
    ("transfer-merge", "with", "MODEL", false),
];

/// The group of a pass and its word there.
fn grouped(pass: &str) -> Option<(&'static str, &str)> {
    GROUPS
        .iter()
        .find_map(|(group, _)| Some((*group, pass.strip_prefix(group)?.strip_prefix('-')?)))
}

/// A verb for each pass, in its group where it has one; the pass's own name is understood, too.
pub(super) fn commands() -> Vec<Command> {
    let groups = GROUPS.iter().map(|(group, about)| {
        let own = ENTRIES
            .iter()
            .filter_map(|entry| Some((entry, grouped(entry.name).filter(|(of, _)| of == group)?.1)));
        Command::new(*group)
            .about(*about)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(own.map(|(entry, word)| command(entry, word)))
    });
    ENTRIES
        .iter()
        .map(|entry| command(entry, entry.name).hide(grouped(entry.name).is_some()))
        .chain(groups.filter(|group| group.has_subcommands()))
        .collect()
}

fn command(entry: &'static registry::Entry, word: &'static str) -> Command {
    let schema = entry.schema.as_value();
    let positional = POSITIONAL.iter().find(|(pass, ..)| *pass == entry.name);
    let mut command = Running::augment_args(Command::new(word));
    if let Some((_, name, shown, true)) = positional {
        command = command.arg(
            Arg::new(*name)
                .value_name(*shown)
                .required_unless_present("print_pipeline")
                .help("The model or weight file that it comes from"),
        );
    }
    command = command
        .about(entry.summary().trim_end_matches('.').to_owned())
        .long_about(plain(entry.documentation()))
        .arg(
            Arg::new("model")
                .value_name("MODEL")
                .value_parser(clap::value_parser!(PathBuf))
                .required_unless_present("print_pipeline")
                .help("The model; `-` is stdin"),
        )
        .arg(
            Arg::new("verify")
                .long("verify")
                .action(ArgAction::SetTrue)
                .help("Compare the result with the input"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("OPTION=VALUE")
                .action(ArgAction::Append)
                .help("Set any option of the step, with the value as YAML has it"),
        );
    if let Some((_, name, shown, false)) = positional {
        command = command.arg(
            Arg::new(*name)
                .value_name(*shown)
                .num_args(1..)
                .action(ArgAction::Append)
                .required_unless_present("print_pipeline")
                .help("The other models"),
        );
    }
    if entry.name == EXPLAINS {
        command = command.arg(
            Arg::new("explain")
                .long("explain")
                .action(ArgAction::SetTrue)
                .help("List every class of units: what it cuts, scores and frees, or what pins it; write nothing"),
        );
    }
    for (name, property) in properties(schema) {
        if !COMMON.contains(&name) && positional.is_none_or(|(_, option, ..)| *option != name) {
            command =
                command.arg(option(name, resolve(schema, property)).help_heading("Options of the step"));
        }
    }
    command
}

/// Documentation without its Markdown.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    properties.map(|(name, property)| (name.as_str(), property))
}

/// What an option's schema says once references and `null` are out of the way.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> Shape<'a> {
    let help = schema.get("description").and_then(Value::as_str).unwrap_or("");
    for _ in 0..8 {
        if let Some(target) = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|target| root.pointer(target.trim_start_matches('#')))
        {
            schema = target;
            continue;
        }
        let alternatives = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| schema.get(key)?.as_array());
        let some: Vec<&Value> = alternatives
            .into_iter()
            .flatten()
            .filter(|one| one.get("type").and_then(Value::as_str) != Some("null"))
            .collect();
        match some.as_slice() {
            [one] => schema = one,
            _ => break,
        }
    }
    Shape { help, schema }
}

struct Shape<'a> {
    help: &'a str,
    schema: &'a Value,
}

impl<'a> Shape<'a> {
    /// The JSON type, `null` aside.
    fn kind(&self) -> &'a str {
        match self.schema.get("type") {
            Some(Value::String(kind)) => kind,
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or(""),
            _ => "",
        }
    }

    /// The words that are allowed, if they are listed.
    fn words(&self) -> Vec<&'a str> {
        let listed = self
            .schema
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let constants = self
            .schema
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|one| one.get("const"));
        listed.chain(constants).filter_map(Value::as_str).collect()
    }
}

fn option(name: &'static str, shape: Shape<'static>) -> Arg {
    let first = shape.help.split("\n\n").next().unwrap_or("").replace('\n', " ");
    let arg = Arg::new(name).long(name).help(plain(first.trim_end_matches('.')));
    let words = shape.words();
    match shape.kind() {
        "boolean" => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .value_parser(["true", "false"]),
        "array" => arg.action(ArgAction::Append).value_name("VALUE"),
        "object" => arg.action(ArgAction::Append).value_name("NAME=VALUE"),
        "integer" | "number" => arg.value_name("N").allow_negative_numbers(true),
        _ if !words.is_empty() => arg
            .value_name("WORD")
            .value_parser(clap::builder::PossibleValuesParser::new(words)),
        _ => arg.value_name("VALUE"),
    }
}

/// The value of a flag as YAML would have it.
fn yaml(text: &str) -> Value {
    pipeline::parse_value(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

impl Step {
    /// The step that subcommand `name` is; `None` if it is no pass.
    pub(super) fn from_matches(name: &str, matches: &ArgMatches) -> Result<Option<Self>, clap::Error> {
        if let Some((group, _)) = GROUPS.iter().find(|(group, _)| *group == name) {
            return match matches.subcommand() {
                Some((word, own)) => Self::from_matches(&format!("{group}-{word}"), own),
                None => Ok(None),
            };
        }
        // Only verbs of passes have `--set`.
        if matches.try_contains_id("set").is_err() {
            return Ok(None);
        }
        let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        let schema = entry.schema.as_value();
        let mut options = Map::new();
        for (option, property) in properties(schema).filter(|(option, _)| !COMMON.contains(option)) {
            let Some(values) = matches.get_many::<String>(option) else {
                continue;
            };
            let values: Vec<&String> = values.collect();
            let value = match resolve(schema, property).kind() {
                "array" => values.iter().map(|value| yaml(value)).collect(),
                "object" => Value::Object(values.iter().map(|value| pair(value)).collect::<Result<_, _>>()?),
                "string" => values
                    .last()
                    .map(|value| Value::String((*value).clone()))
                    .unwrap_or_default(),
                _ => values.last().map(|value| yaml(value)).unwrap_or_default(),
            };
            options.insert(option.to_owned(), value);
        }
        for text in matches.get_many::<String>("set").into_iter().flatten() {
            let (option, value) = pair(text)?;
            options.insert(option, value);
        }
        Ok(Some(Self {
            name: name.to_owned(),
            options,
            model: matches.get_one::<PathBuf>("model").cloned(),
            running: Running::from_arg_matches(matches)?,
            compare: matches.get_flag("verify"),
            explain: entry.name == EXPLAINS && matches.get_flag("explain"),
        }))
    }
}

fn pair(text: &str) -> Result<(String, Value), clap::Error> {
    match text.rsplit_once('=') {
        Some((name, value)) => Ok((name.to_owned(), yaml(value))),
        None => {
            let message = format!("{text:?} is not of the form NAME=VALUE\n");
            Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, message))
        }
    }
}

/// Runs the step. Without `--verify` no engine runs, unless the step is approximate: then its gates are up to the user.
pub(super) fn execute(global: &Global, step: &Step) -> Result<Answer, Failure> {
    if step.explain && !step.running.print_pipeline {
        return classes::execute(global, step.model.as_deref(), &step.running, step.options.clone());
    }
    let mut running = step.running.clone();
    let mut options = step.options.clone();
    if step.name == "bind" && !running.bind.is_empty() {
        let sizes = std::mem::take(&mut running.bind)
            .into_iter()
            .map(|(name, size)| (name, size.into()));
        options = pipeline::bind_options(sizes.collect());
    }
    let pass = pipeline::Step::new(&step.name, options)?;
    let compare = step.compare && !global.no_verify;
    debug_assert!(pass.pass.about().safety <= Safety::Approximate);
    rewrite(
        global,
        Pipeline::of(&step.name, vec![pass]),
        step.model.as_deref(),
        &running,
        compare,
        Unchanged::Refused,
    )
}
