//! The command line: one file a verb, and the only place that prints.
//!
//! Answers go to stdout (one JSON document under `--json`), everything else to stderr. Exit status: 0 done, 1 the answer is no,
//! 2 it could not be done, 130 interrupted.

mod bisect;
mod check;
mod ci;
mod classes;
mod completions;
mod diff;
mod evaluate;
mod explain;
mod external;
mod failure;
mod family;
mod features;
mod global;
mod gradients;
mod inspect;
mod man;
mod model;
mod options;
mod outcome;
mod pack;
mod plan;
mod print;
mod progress;
mod reference;
mod report;
mod rules;
mod run;
mod schema;
mod shelves;
mod signals;
mod stats;
mod step;
mod structure;
mod sweep;
mod terminal;
mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::api::{Error, Host, serve};
use global::FormatName;
pub use global::Global;
pub use reference::reference;

/// Rewrites ONNX models before deployment and proves that the result still computes what it should.
#[derive(Debug, Parser)]
#[command(
    name = "secateur",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    subcommand_required = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Verbs beside the passes, which are verbs too: see [`step`].
#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Arguments),
    Sweep(sweep::Arguments),
    SearchStructure(structure::Arguments),
    Verify(verify::Arguments),
    Gradients(gradients::Arguments),
    Evaluate(evaluate::Arguments),
    Inspect(inspect::Arguments),
    Diff(diff::Arguments),
    Report(report::Arguments),
    Ci(ci::Arguments),
    Check(check::Arguments),
    Print(print::Arguments),
    Explain(explain::Arguments),
    Rules(rules::Arguments),
    Bisect(bisect::Arguments),
    Stats(stats::Arguments),
    Plan(plan::Arguments),
    Work(plan::Work),
    Merge(plan::Merge),
    Features(features::Arguments),
    Pack(pack::Pack),
    Unpack(pack::Unpack),
    Share(external::Share),
    ConvertExternal(external::ConvertExternal),
    SingleFile(external::SingleFile),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The verb by which the program starts itself to run an engine; nobody else calls it.
const WORKER: &str = "engine-worker";

/// What a verb answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Exit status 0.
    Done,
    /// Exit status 1: not equivalent, a gate is broken, something would change.
    No,
    /// Exit status 2: of several parts one could not be done, which the answer says.
    Failed,
}

/// The whole command line, with a verb for every pass.
pub fn command() -> Command {
    Cli::command().subcommands(step::commands())
}

/// Runs the program, which is this file, and answers its exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // The file that runs, even where another one has taken its name since.
    let program = PathBuf::from("/proc/self/exe");
    ExitCode::from(run(arguments, &program, &[]))
}

/// Runs the program and answers its exit status: 2, too, when its answer could not be written. `program` with `before` is how
/// it is started again, with a verb after it, for an engine in a process of its own.
pub fn run(arguments: impl IntoIterator<Item = OsString>, program: &Path, before: &[OsString]) -> u8 {
    let status = answered(arguments, &engine_worker(program, before));
    match terminal::lost_answer() {
        Some(error) => {
            terminal::note(&format!("error: cannot write to stdout: {error}"));
            2
        }
        None => status,
    }
}

/// How a program that calls [`run()`] is started to run an engine.
pub fn engine_worker(program: &Path, before: &[OsString]) -> Host {
    Host {
        program: program.to_owned(),
        arguments: before.iter().cloned().chain([WORKER.into()]).collect(),
        memory: None,
    }
}

fn answered(arguments: impl IntoIterator<Item = OsString>, worker: &Host) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((verb, own)) = arguments.get(1..).and_then(<[OsString]>::split_first)
        && *verb == WORKER
    {
        return serve(own);
    }
    signals::install();
    if asks_for_help(&arguments) {
        terminal::answer(&shelves::help());
        return 0;
    }
    let own: Vec<&OsString> = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .collect();
    let json = own
        .iter()
        .any(|argument| *argument == "--json" || *argument == "--format=json")
        || own
            .windows(2)
            .any(|pair| pair[0] == "--format" && pair[1] == "json");
    let answer = match parse(&arguments) {
        Ok(Parsed::Verb(mut cli)) => {
            cli.global.called(typed(&arguments));
            cli.global.limit_engines(worker);
            dispatch(&cli).map_err(|failure| (failure, cli.global))
        }
        Ok(Parsed::Step(step, mut global)) => {
            global.called(typed(&arguments));
            global.limit_engines(worker);
            step::execute(&global, &step).map_err(|failure| (failure, *global))
        }
        Err(error) => return usage(&error, json),
    };
    match answer {
        Ok(Answer::Done) => 0,
        Ok(Answer::No) => 1,
        Ok(Answer::Failed) => 2,
        Err((error, global)) => {
            failure::show(&error, &global);
            if failure::is_interruption(&error) { 130 } else { 2 }
        }
    }
}

/// The command line as it can be typed again.
fn typed(arguments: &[OsString]) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_./:=,+@%-".contains(letter);
    let words = arguments.iter().enumerate().map(|(at, argument)| {
        let word = argument.to_string_lossy();
        if at == 0 {
            // What the program is called, wherever it lies.
            return "secateur".to_owned();
        }
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether the help of the program itself is asked for, not that of a verb.
fn asks_for_help(arguments: &[OsString]) -> bool {
    match arguments.get(1..).unwrap_or_default() {
        [only] => ["help", "-h", "--help"].iter().any(|word| only == word),
        _ => false,
    }
}

enum Parsed {
    Verb(Box<Cli>),
    Step(Box<step::Step>, Box<Global>),
}

fn parse(arguments: &[OsString]) -> Result<Parsed, clap::Error> {
    // The verbs of passes are made from their schemas, which only they and the help need.
    let verbs = Cli::command();
    let named = |argument: &OsString| verbs.get_subcommands().any(|verb| argument == verb.get_name());
    let plain = arguments
        .iter()
        .skip(1)
        .find(|argument| !argument.to_string_lossy().starts_with('-'))
        .is_some_and(named);
    let mut command = if plain { verbs } else { command() };
    let matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(|error| naming_the_output(error, &mut command))?;
    refuse_idle(&matches, &mut command)?;
    if let Some((name, own)) = matches.subcommand()
        && let Some(step) = step::Step::from_matches(name, own)?
    {
        return Ok(Parsed::Step(
            Box::new(step),
            Box::new(Global::from_arg_matches(&matches)?),
        ));
    }
    Ok(Parsed::Verb(Box::new(Cli::from_arg_matches(&matches)?)))
}

/// Options of results, for verbs that only look or move what is there: they would do nothing.
const IDLE: [(&str, &[&str]); 18] = [
    ("bisect", &["in_place", "force", "no_verify"]),
    ("ci", &["in_place", "no_verify", "max_growth"]),
    ("completions", RESULTS),
    ("convert-external", &["no_verify", "max_growth"]),
    ("diff", &["in_place", "no_verify", "max_growth"]),
    ("explain", RESULTS),
    ("inspect", RESULTS),
    ("man", RESULTS),
    ("pack", &["in_place", "no_verify", "max_growth"]),
    ("print", RESULTS),
    ("schema", RESULTS),
    ("search-structure", &["in_place"]),
    ("share", &["in_place", "no_verify", "max_growth"]),
    ("single-file", &["no_verify", "max_growth"]),
    ("sweep", &["in_place"]),
    ("report", &["in_place", "no_verify", "max_growth"]),
    ("unpack", &["in_place", "no_verify", "max_growth"]),
    ("verify", &["in_place", "no_verify", "max_growth"]),
];
const RESULTS: &[&str] = &["in_place", "force", "no_verify", "max_growth"];

/// Verbs beside the passes whose answers have more forms than tables and JSON.
const FORMATTED: &[&str] = &[
    "check",
    "ci",
    "evaluate",
    "run",
    "search-structure",
    "sweep",
    "verify",
];

/// Refuses options that mean nothing to the verb.
fn refuse_idle(matches: &clap::ArgMatches, command: &mut Command) -> Result<(), clap::Error> {
    let Some(verb) = matches.subcommand_name() else {
        return Ok(());
    };
    let idle = IDLE
        .iter()
        .find(|(name, _)| *name == verb)
        .map_or(&[][..], |(_, idle)| *idle);
    let only_looks = Cli::command()
        .get_subcommands()
        .any(|known| known.get_name() == verb);
    let form = matches.get_one::<FormatName>("format").copied();
    let unknown = match form {
        None | Some(FormatName::Text | FormatName::Json) => false,
        Some(FormatName::Sarif) => verb != "check",
        Some(_) => only_looks && !FORMATTED.contains(&verb),
    };
    if let (Some(form), true) = (form, unknown) {
        let name = clap::ValueEnum::to_possible_value(&form).map(|value| value.get_name().to_owned());
        let message = format!("{verb} has no answer as {}", name.unwrap_or_default());
        return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
    }
    for option in idle {
        if matches.value_source(option) == Some(clap::parser::ValueSource::CommandLine) {
            let name = option.replace('_', "-");
            let message = format!("--{name} means nothing to {verb}, which makes no other model");
            return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
        }
    }
    Ok(())
}

/// Says how the output is named to whoever gives it by position.
fn naming_the_output(error: clap::Error, command: &mut Command) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.kind() != ErrorKind::UnknownArgument || argument.starts_with('-') {
        return error;
    }
    let message = match Path::new(argument).exists() {
        // Never a hint that writes over what is there.
        true => format!(
            "unexpected argument '{argument}' found; the value of a switch is written with `=`, as in --symmetric=false"
        ),
        false => format!("unexpected argument '{argument}' found; a result is named with -o: -o {argument}"),
    };
    command.error(ErrorKind::UnknownArgument, message)
}

fn dispatch(cli: &Cli) -> Result<Answer, Error> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run(arguments) => run::execute(global, arguments),
        Verb::Sweep(arguments) => sweep::execute(global, arguments),
        Verb::SearchStructure(arguments) => structure::execute(global, arguments),
        Verb::Verify(arguments) => verify::execute(global, arguments),
        Verb::Gradients(arguments) => gradients::execute(global, arguments),
        Verb::Evaluate(arguments) => evaluate::execute(global, arguments),
        Verb::Inspect(arguments) => inspect::execute(global, arguments),
        Verb::Diff(arguments) => diff::execute(global, arguments),
        Verb::Ci(arguments) => ci::execute(global, arguments),
        Verb::Report(arguments) => report::execute(global, arguments),
        Verb::Check(arguments) => check::execute(global, arguments),
        Verb::Print(arguments) => print::execute(global, arguments),
        Verb::Explain(arguments) => explain::execute(global, arguments),
        Verb::Rules(arguments) => rules::execute(global, arguments),
        Verb::Bisect(arguments) => bisect::execute(global, arguments),
        Verb::Stats(arguments) => stats::execute(global, arguments),
        Verb::Plan(arguments) => plan::plan(global, arguments),
        Verb::Work(arguments) => plan::work(global, arguments),
        Verb::Merge(arguments) => plan::merge(global, arguments),
        Verb::Features(arguments) => features::execute(global, arguments),
        Verb::Pack(arguments) => pack::pack(global, arguments),
        Verb::Unpack(arguments) => pack::unpack(global, arguments),
        Verb::Share(arguments) => external::share(global, arguments),
        Verb::ConvertExternal(arguments) => external::convert_external(global, arguments),
        Verb::SingleFile(arguments) => external::single_file(global, arguments),
        Verb::Schema(arguments) => schema::execute(global, arguments),
        Verb::Completions(arguments) => completions::execute(global, arguments),
        Verb::Man(arguments) => man::execute(global, arguments),
    }
}

/// What the standard library says of texts that are no numbers, and what a user can do with it.
const PARSERS: [(&str, &str); 6] = [
    (
        "invalid digit found in string",
        "it takes a whole number, for example 4",
    ),
    (
        "cannot parse integer from empty string",
        "it takes a whole number, for example 4",
    ),
    (
        "number too large to fit in target type",
        "the number is too large",
    ),
    (
        "number too small to fit in target type",
        "the number is too small",
    ),
    ("invalid float literal", "it takes a number, for example 0.5"),
    (
        "cannot parse float from empty string",
        "it takes a number, for example 0.5",
    ),
];

/// Help and version go to stdout with status 0, mistakes to stderr (or as JSON to stdout) with status 2.
fn usage(error: &clap::Error, json: bool) -> u8 {
    if !error.use_stderr() {
        terminal::answer(&error.render().to_string());
        return 0;
    }
    let mut text = error.render().to_string();
    for (theirs, ours) in PARSERS {
        text = text.replace(theirs, ours);
    }
    if json {
        failure::show_json(&Error::usage(text.trim()));
    } else {
        terminal::note(&text);
    }
    2
}
