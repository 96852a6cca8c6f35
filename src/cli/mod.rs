//! The command line: one file a verb, and the only place that prints.
//!
//! Answers go to stdout (one JSON document under `--json`), everything else to stderr. Exit status: 0 done, 1 the answer is no,
//! 2 it could not be done, 130 interrupted.

mod bisect;
mod classes;
mod completions;
mod diff;
mod engines;
mod evaluate;
mod explain;
mod failure;
mod features;
mod global;
mod gradients;
mod inspect;
mod man;
mod model;
mod options;
mod print;
mod progress;
mod reference;
mod rules;
mod run;
mod schema;
mod signals;
mod stats;
mod step;
mod terminal;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;
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
    Verify(verify::Arguments),
    Gradients(gradients::Arguments),
    Evaluate(evaluate::Arguments),
    Inspect(inspect::Arguments),
    Diff(diff::Arguments),
    Print(print::Arguments),
    Explain(explain::Arguments),
    Rules(rules::Arguments),
    Bisect(bisect::Arguments),
    Stats(stats::Arguments),
    Features(features::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// What a verb answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Exit status 0.
    Done,
    /// Exit status 1: not equivalent, a gate is broken, something would change.
    No,
}

/// The whole command line, with a verb for every pass.
pub fn command() -> Command {
    Cli::command().subcommands(step::commands())
}

/// Runs the program and answers its exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    signals::install();
    let json = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--json");
    let answer = match parse(&arguments) {
        Ok(Parsed::Verb(cli)) => {
            cli.global.limit_engines();
            dispatch(&cli).map_err(|failure| (failure, cli.global))
        }
        Ok(Parsed::Step(step, global)) => {
            global.limit_engines();
            step::execute(&global, &step).map_err(|failure| (failure, *global))
        }
        Err(error) => return usage(&error, json),
    };
    match answer {
        Ok(Answer::Done) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err((failure, global)) => {
            failure.show(&global);
            ExitCode::from(if failure.is_interruption() { 130 } else { 2 })
        }
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
    let matches = command.try_get_matches_from_mut(arguments)?;
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

fn dispatch(cli: &Cli) -> Result<Answer, Failure> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run(arguments) => run::execute(global, arguments),
        Verb::Verify(arguments) => verify::execute(global, arguments),
        Verb::Gradients(arguments) => gradients::execute(global, arguments),
        Verb::Evaluate(arguments) => evaluate::execute(global, arguments),
        Verb::Inspect(arguments) => inspect::execute(global, arguments),
        Verb::Diff(arguments) => diff::execute(global, arguments),
        Verb::Print(arguments) => print::execute(global, arguments),
        Verb::Explain(arguments) => explain::execute(global, arguments),
        Verb::Rules(arguments) => rules::execute(global, arguments),
        Verb::Bisect(arguments) => bisect::execute(global, arguments),
        Verb::Stats(arguments) => stats::execute(global, arguments),
        Verb::Features(arguments) => features::execute(global, arguments),
        Verb::Schema(arguments) => schema::execute(global, arguments),
        Verb::Completions(arguments) => completions::execute(global, arguments),
        Verb::Man(arguments) => man::execute(global, arguments),
    }
}

/// Help and version go to stdout with status 0, mistakes to stderr (or as JSON to stdout) with status 2.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        terminal::answer(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    if json {
        Failure::usage(error.render().to_string().trim()).show_json();
    } else {
        terminal::note(&error.render().to_string());
    }
    ExitCode::from(2)
}
