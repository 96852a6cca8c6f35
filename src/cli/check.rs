//! `check MODEL`: findings about a model, and mending what steps can mend.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::global::{FormatName, Global};
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{
    CheckOptions, Destination, Error, Findings, Fixed, MODEL, Model, STDIO, Severity, Source, examine, fix,
};
use crate::report::table::Style;
use crate::report::{findings, sanitise, whole};

/// Say what is wrong with a model, what costs and what a runtime refuses, and mend it with --fix
///
/// Nothing is changed without --fix. Exit status 0: nothing as bad as --deny says. 1: something, or with --fix nothing that could be
/// mended. docs/check.md describes the checks.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model; `-` is stdin
    #[arg(required_unless_present = "list")]
    model: Option<PathBuf>,
    /// A runtime that the model is to run on: ort, tract, tensorrt, qnn or webgpu, with a release as in ort@1.16
    #[arg(long, value_name = "RUNTIME")]
    target: Vec<String>,
    /// Run only this check
    #[arg(long, value_name = "CODE")]
    only: Vec<String>,
    /// Leave this check out
    #[arg(long, value_name = "CODE")]
    skip: Vec<String>,
    /// The severity from which on a finding makes the exit status 1
    #[arg(long, value_enum, default_value_t = Deny::Error)]
    deny: Deny,
    /// List the checks and do nothing else
    #[arg(long)]
    list: bool,
    /// Run the steps that mend what was found, and write the result; none of them changes more than rounding
    #[arg(long, conflicts_with = "list")]
    fix: bool,
    /// Where the mended model goes; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the result and exit by what remains even if nothing could be mended
    #[arg(long, requires = "fix")]
    allow_unchanged: bool,
    /// Do not record in the model where it comes from. Nothing is recorded, either, where that alone would make the file larger than the input
    #[arg(long, requires = "fix")]
    no_provenance: bool,
}

/// What is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Deny {
    /// Errors
    Error,
    /// Errors and warnings
    Warning,
    /// Everything
    Note,
}

impl Arguments {
    fn options(&self) -> Result<CheckOptions, Error> {
        let mut options = CheckOptions::new().deny(match self.deny {
            Deny::Error => Severity::Error,
            Deny::Warning => Severity::Warning,
            Deny::Note => Severity::Note,
        });
        for name in &self.target {
            options = options.target(name)?;
        }
        for code in &self.only {
            options = options.only(code)?;
        }
        for code in &self.skip {
            options = options.skip(code)?;
        }
        Ok(options)
    }
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    if arguments.list {
        if global.json || global.format == FormatName::Json {
            terminal::json(&findings::list_document());
        } else {
            terminal::answer(&findings::list(Style::Terminal));
        }
        return Ok(Answer::Done);
    }
    let path = arguments
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("a model is needed"))?;
    let options = arguments.options()?;
    let output = model::output(global, path, arguments.output.as_deref())?;
    let mut files = global.files();
    files.reads(MODEL, path);
    if let Some(output) = &output {
        files.output(output, global.in_place);
    }
    files.check()?;
    let output = destination(global, arguments, output)?;
    global.limit_threads();
    let checked = examine(Source::from_argument(path), Some(path), global.strict, &options)?;
    match (output, checked.model) {
        (Some(output), Some(model)) => mend(global, arguments, (&model, &checked.findings), output, &options),
        (output, _) => {
            show(global, &checked.findings, false)?;
            if output.is_some() && global.quiet < 2 {
                terminal::note("refused: nothing was written, as the file is no valid model");
            }
            Ok(answer(&checked.findings, output.is_none()))
        }
    }
}

/// Where the mended model goes; `None` where nothing is mended.
fn destination(
    global: &Global,
    arguments: &Arguments,
    output: Option<Destination>,
) -> Result<Option<Destination>, Error> {
    if !arguments.fix {
        if output.is_some() || global.force {
            return Err(Error::usage("without --fix no model is written")
                .with_hint("--fix -o FILE, or --fix --in-place"));
        }
        return Ok(None);
    }
    let output = output.ok_or_else(|| {
        Error::usage("there is no output").with_hint("choose one with -o FILE, or pass --in-place")
    })?;
    let machine = !matches!(global.format, FormatName::Text | FormatName::Markdown);
    if output == Destination::Stdout && machine {
        return Err(Error::usage("a model and a report cannot both go to stdout")
            .with_hint("write the model to a file with -o"));
    }
    Ok(Some(output))
}

fn answer(found: &Findings, done: bool) -> Answer {
    if found.passed() && done {
        Answer::Done
    } else {
        Answer::No
    }
}

fn mend(
    global: &Global,
    arguments: &Arguments,
    (model, before): (&Model, &Findings),
    output: Destination,
    check_options: &CheckOptions,
) -> Result<Answer, Error> {
    let to_stdout = output == Destination::Stdout;
    let progress = Progress::new(global);
    let mut options = global.options().progress(progress.teller());
    options.allow_unchanged = arguments.allow_unchanged;
    options.provenance = !arguments.no_provenance;
    options.output = Some(output);
    let fixed = fix(model, before, &options, check_options)?;
    drop(progress);
    show(global, &fixed.findings, to_stdout)?;
    let written = fixed.saved.is_some();
    if matches!(global.format, FormatName::Text | FormatName::Markdown) && !global.json {
        account(global, &fixed, to_stdout);
    }
    Ok(answer(&fixed.findings, written))
}

/// Says what became of the findings that steps mend.
fn account(global: &Global, fixed: &Fixed, to_stdout: bool) {
    let say = |text: &str| {
        if to_stdout || global.quiet > 0 {
            terminal::note(text);
        } else {
            terminal::answer(text);
        }
    };
    let Some(fix) = &fixed.findings.fix else { return };
    if global.quiet == 0 {
        for failed in &fix.failed {
            terminal::note(&format!("warning: left out: {}", sanitise(failed)));
        }
        let steps: Vec<&str> = fix.steps.iter().map(|step| step.step.as_str()).collect();
        let mended = fix.mended.len();
        say(&format!(
            "mended {mended} {} ({}); {} with a step remain",
            if mended == 1 { "finding" } else { "findings" },
            if steps.is_empty() {
                "no step ran".to_owned()
            } else {
                steps.join(", ")
            },
            fix.remaining
        ));
        if let Some(outcome) = &fixed.outcome {
            say(&whole::verdict(&outcome.report, whole::Detail::default()));
        }
    }
    match &fixed.saved {
        Some(saved) if global.quiet == 0 => say(&format!("written: {}", sanitise(&saved.files.join(", ")))),
        Some(_) => {}
        None if global.quiet > 1 => {}
        None => {
            let refused = fixed.outcome.as_ref().is_some_and(|outcome| !outcome.accepted());
            terminal::note(if refused {
                "refused: nothing was written, as the outputs of the result differ"
            } else {
                "refused: nothing was written, as no step mends anything here; --allow-unchanged takes it all the same"
            });
        }
    }
}

/// Prints findings in the form that was asked for; on stderr where the model itself goes to stdout.
fn show(global: &Global, found: &Findings, aside: bool) -> Result<(), Error> {
    let file = found.file.as_deref().filter(|file| *file != STDIO);
    let format = if global.json {
        FormatName::Json
    } else {
        global.format
    };
    let text = match format {
        FormatName::Json => {
            terminal::json(found);
            return Ok(());
        }
        FormatName::Sarif => {
            terminal::json(&findings::sarif(file, &found.findings));
            return Ok(());
        }
        FormatName::Github => findings::github(file, &found.findings),
        FormatName::Junit => findings::junit(file, &found.findings, found.deny)
            .map_err(|error| Error::new("report", error.to_string()))?,
        FormatName::Markdown => findings::text(Style::Markdown, &found.findings, global.verbose > 0),
        FormatName::Text => findings::text(Style::Terminal, &found.findings, global.verbose > 0),
    };
    if aside {
        terminal::note(&text);
    } else if !text.is_empty() {
        terminal::answer(&text);
    }
    Ok(())
}
