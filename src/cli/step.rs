//! A verb for each registered pass: one step in the form of flags, made from the JSON Schema of the pass's options.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use serde_json::{Map, Value};

use super::global::Global;
use super::run::{Running, rewrite};
use super::{Answer, classes};
use crate::api::{Error, Pipeline, StepSchema, bind_options, parse_value, sizes_of, step_schemas};

/// A step that the command line names.
pub(super) struct Step {
    name: String,
    options: Map<String, Value>,
    model: Option<PathBuf>,
    running: Running,
    verify: bool,
    explain: bool,
}

/// The one verb that explains what it would do to a model, class by class.
const EXPLAINS: &str = "prune-channels";

/// The one verb whose step takes the preprocessing of `--preprocess`, too.
const BAKES: &str = "bake";

/// Options that every verb of a pass has; options of a pass with these names are set with `--set`.
const COMMON: &[&str] = &[
    "model",
    "explain",
    "verify",
    "verify-time",
    "set",
    "output",
    "bind",
    "constant-inputs",
    "keep",
    "fuel",
    "only",
    "data",
    "preprocess",
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
    "format",
    "progress",
    "jobs",
    "engine",
    "engine-time",
    "engine-memory",
    "engine-inside",
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

/// The heading of options that one verb alone has.
const OWN: &str = "Options of the step";

/// Every pass; its schema is made when the first of them is asked for.
static ENTRIES: LazyLock<Vec<StepSchema>> = LazyLock::new(step_schemas);

/// Verbs whose second word says what: passes named `<verb>-<word>` are their subcommands.
const GROUPS: [(&str, &str); 2] = [
    ("prune", "Remove blocks, channels or single weights"),
    (
        "transfer",
        "Take parameters, structure or features from other models",
    ),
];

/// Options that the command line takes by position: the pass, the option, what it is called, whether it stands before MODEL.
const POSITIONAL: [(&str, &str, &str, bool); 3] = [
    ("chain", "with", "NEXT", false),
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

/// Whether a verb is that of a pass.
pub(super) fn is_pass(command: &Command) -> bool {
    command.get_arguments().any(|argument| argument.get_id() == "set")
}

/// Whether every verb of a pass has this option, and `run` as well.
pub(super) fn is_common(option: &str) -> bool {
    let option = option.replace('_', "-");
    COMMON.contains(&option.as_str()) && !matches!(option.as_str(), "model" | "explain" | "set")
}

/// What an example of a verb needs beside a model, data and an output.
const EXAMPLES: [(&str, &str); 20] = [
    ("bake", "--preprocess torchvision"),
    ("bind", "--bind batch=1"),
    ("convert-opset", "--to 21"),
    ("chain", "head.onnx"),
    ("cluster", "--bits 4"),
    ("compress", "--bits 3.5"),
    ("deepen", "--count 1"),
    ("drop-outputs", "--outputs auxiliary"),
    ("extract", "--outputs features"),
    ("factorize", "--target-macs 0.7"),
    ("merge-lora", "--adapter adapter.safetensors"),
    ("prune-blocks", "--count 2"),
    ("prune-channels", "--target-macs 0.7"),
    ("prune-weights", "--sparsity 0.5"),
    ("rename", "--inputs input=image"),
    ("transfer-features", "--at features"),
    ("transfer-merge", "other.onnx"),
    ("transfer-parameters", "trained.safetensors"),
    ("transfer-structure", "--from donor.onnx"),
    ("widen", "--ratio 1.5"),
];

/// What a verb preserves, and a command that calls it.
fn example(entry: &StepSchema, word: &str) -> String {
    let verb = grouped(entry.name).map_or_else(|| word.to_owned(), |(group, word)| format!("{group} {word}"));
    let special = EXAMPLES
        .iter()
        .find(|(pass, _)| *pass == entry.name)
        .map(|(_, words)| *words);
    let first = POSITIONAL
        .iter()
        .any(|(pass, .., before)| *pass == entry.name && *before);
    let mut words = vec!["secateur".to_owned(), verb];
    let special = special.map(str::to_owned);
    if first {
        words.extend(special.clone());
    }
    words.push("model.onnx".to_owned());
    if !first {
        words.extend(special);
    }
    words.extend(entry.role.map(|role| format!("--data {role}=samples.npz")));
    words.push("-o out.onnx".to_owned());
    let preserved = match entry.safety {
        "exact" => "exact: every output keeps its bits, as far as an engine adds in the same order",
        "rounding" => "rounding: outputs differ by rounding alone",
        _ => "approximate: outputs differ; the comparison, figures and gates say by how much",
    };
    format!("Safety: {preserved}\n\nExample:\n  {}", words.join(" "))
}

fn command(entry: &'static StepSchema, word: &'static str) -> Command {
    let schema = &entry.schema;
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
        .about(entry.summary.trim_end_matches('.').to_owned())
        .long_about(plain(&entry.documentation))
        .after_long_help(example(entry, word))
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
                .help("Compare the result with the input, as is done unless --no-verify is given"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("OPTION=VALUE")
                .action(ArgAction::Append)
                .help(format!(
                    "Set any option of the step, with the value as YAML has it{SEVERAL}"
                )),
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
            command = command.arg(option(name, resolve(schema, property)).help_heading(OWN));
        }
    }
    command
}

/// Documentation without its Markdown: a paragraph and an item of a list are one line each, which the terminal wraps.
fn plain(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let begins = |start: &str| line.trim_start().starts_with(start);
        let apart = line.trim().is_empty() || begins("- ") || begins("|") || line.starts_with("    ");
        match lines.last_mut() {
            Some(last) if !apart && !last.trim().is_empty() && !last.starts_with("    ") => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n").replace('`', "")
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

    /// The words that are allowed, if nothing else is.
    fn words(&self) -> Vec<&'a str> {
        let takes_values = self
            .schema
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|one| one.get("const").is_none() && one.get("enum").is_none());
        if takes_values {
            return Vec::new();
        }
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
            .flat_map(|one| {
                let several = one.get("enum").and_then(Value::as_array);
                several.into_iter().flatten().chain(one.get("const"))
            });
        listed.chain(constants).filter_map(Value::as_str).collect()
    }
}

/// What the help of an option that takes several values says.
const SEVERAL: &str = " [may be given several times]";

fn option(name: &'static str, shape: Shape<'static>) -> Arg {
    let first = shape.help.split("\n\n").next().unwrap_or("").replace('\n', " ");
    let mut help = plain(first.trim_end_matches('.'));
    let takes_several = matches!(shape.kind(), "array" | "object");
    if takes_several {
        help.push_str(SEVERAL);
    }
    let numbers = shape
        .schema
        .get("items")
        .and_then(|items| items.get("type")?.as_str())
        .is_some_and(|kind| matches!(kind, "integer" | "number"));
    let arg = Arg::new(name)
        .long(name)
        .help(help)
        .allow_negative_numbers(!numbers);
    let words = shape.words();
    match shape.kind() {
        "boolean" => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .value_parser(["true", "false"]),
        "array" => arg
            .action(ArgAction::Append)
            .allow_hyphen_values(numbers)
            .value_name("VALUE"),
        "object" => arg.action(ArgAction::Append).value_name("NAME=VALUE"),
        "integer" | "number" => arg.value_name("N"),
        _ if !words.is_empty() => arg
            .value_name("WORD")
            .value_parser(clap::builder::PossibleValuesParser::new(words)),
        _ => arg.value_name("VALUE"),
    }
}

/// The value of a flag as YAML would have it.
fn yaml(text: &str) -> Value {
    parse_value(text).unwrap_or_else(|| Value::String(text.to_owned()))
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
        let schema = &entry.schema;
        let mut options = Map::new();
        for (option, property) in properties(schema).filter(|(option, _)| !COMMON.contains(option)) {
            let Some(values) = matches.get_many::<String>(option) else {
                continue;
            };
            let values: Vec<&String> = values.collect();
            let value = match resolve(schema, property).kind() {
                "array" => {
                    let items = resolve(schema, property).schema.get("items");
                    let items = items.map(|items| resolve(schema, items));
                    values
                        .iter()
                        .flat_map(|value| several(value, items.as_ref()))
                        .collect()
                }
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
            let (option, value) = text.split_once('=').ok_or_else(|| not_a_pair(text))?;
            options.insert(option.to_owned(), yaml(value));
        }
        Ok(Some(Self {
            name: name.to_owned(),
            options,
            model: matches.get_one::<PathBuf>("model").cloned(),
            running: Running::from_arg_matches(matches)?,
            verify: matches.get_flag("verify"),
            explain: entry.name == EXPLAINS && matches.get_flag("explain"),
        }))
    }
}

fn pair(text: &str) -> Result<(String, Value), clap::Error> {
    match text.rsplit_once('=') {
        Some((name, value)) => Ok((name.to_owned(), yaml(value))),
        None => Err(not_a_pair(text)),
    }
}

fn not_a_pair(text: &str) -> clap::Error {
    let message = format!("{text:?} is not of the form NAME=VALUE, for example ratio=0.5\n");
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, message)
}

/// The items that one value of a list option stands for: those of a YAML list, those between commas where items are numbers or
/// words from a list, else the value itself. A class of characters, such as `[ab]`, is no list: patterns begin so.
fn several(text: &str, items: Option<&Shape<'_>>) -> Vec<Value> {
    let texts = items.is_some_and(|items| items.kind() == "string" && items.words().is_empty());
    // Names may look like numbers.
    let one = |value: Value| match value {
        Value::String(_) | Value::Array(_) | Value::Object(_) => value,
        other if texts => Value::String(other.to_string()),
        other => other,
    };
    let trimmed = text.trim();
    let is_list = trimmed.starts_with('[') && trimmed.ends_with(']') && trimmed.contains([',', '"', '\'']);
    if let (true, Some(Value::Array(list))) = (is_list, parse_value(trimmed)) {
        // One item that is a list itself, such as a pattern and what it becomes.
        if items.is_some_and(|items| items.kind() == "array") && !list.iter().all(Value::is_array) {
            return vec![Value::Array(list)];
        }
        return list.into_iter().map(one).collect();
    }
    if texts {
        return vec![Value::String(text.to_owned())];
    }
    let divisible =
        items.is_some_and(|items| matches!(items.kind(), "integer" | "number") || !items.words().is_empty());
    if divisible {
        return text.split(',').map(|item| yaml(item.trim())).collect();
    }
    vec![yaml(text)]
}

/// Runs the step and compares the result, as `run` does.
pub(super) fn execute(global: &Global, step: &Step) -> Result<Answer, Error> {
    if step.explain && !step.running.print_pipeline {
        return classes::execute(global, step.model.as_deref(), &step.running, step.options.clone());
    }
    if step.verify && global.no_verify {
        return Err(Error::usage("--verify and --no-verify ask for opposite things")
            .with_hint("give one of them; the result is compared unless --no-verify is given"));
    }
    let mut running = step.running.clone();
    let mut options = step.options.clone();
    if step.name == "bind" && !running.bind.is_empty() {
        let sizes = super::options::sizes_of(&std::mem::take(&mut running.bind));
        options = bind_options(sizes_of(&sizes));
    }
    if step.name == BAKES
        && let Some(preprocess) = &running.preprocess
    {
        // What goes into the model is what the data are prepared by.
        let value = serde_json::to_value(preprocess).unwrap_or_default();
        options.entry("preprocess").or_insert(value);
        running.preprocess = running.preprocess.take().filter(|_| !running.data.is_empty());
    }
    rewrite(
        global,
        &Pipeline::single(&step.name, options)?,
        step.model.as_deref(),
        &running,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paragraphs_and_items_are_one_line_each() {
        let text = "One `two`\nthree.\n\n- a\n  b\n- c\n\n    code\n    more\nend";
        assert_eq!(
            plain(text),
            "One two three.\n\n- a b\n- c\n\n    code\n    more\nend"
        );
    }

    #[test]
    fn every_example_is_a_command_that_is_understood() {
        for entry in ENTRIES.iter() {
            let text = example(entry, entry.name);
            let line = text.lines().last().unwrap().trim();
            let words: Vec<&str> = line.split(' ').collect();
            let parsed = crate::cli::command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    /// Identifiers and long names of arguments, as options of a pass would be spelt.
    fn names(command: &Command) -> BTreeSet<String> {
        let arguments = command.get_arguments();
        arguments
            .flat_map(|argument| {
                let id = argument.get_id().as_str().replace('_', "-");
                [Some(id), argument.get_long().map(str::to_owned)]
            })
            .flatten()
            .collect()
    }

    #[test]
    fn the_names_that_passes_may_not_take_are_those_of_the_flags_of_every_verb() {
        let entry = ENTRIES.iter().find(|entry| entry.name == EXPLAINS).unwrap();
        let verb = command(entry, entry.name);
        let own: Vec<&str> = verb
            .get_arguments()
            .filter(|argument| argument.get_help_heading() == Some(OWN))
            .map(|argument| argument.get_id().as_str())
            .collect();
        let mut flags = names(&Global::augment_args(Command::new("secateur")));
        flags.extend(
            names(&verb)
                .into_iter()
                .filter(|name| !own.contains(&name.as_str())),
        );
        flags.extend(["help", "version"].map(str::to_owned));
        let reserved: BTreeSet<String> = COMMON.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(reserved, flags);
    }
}
