//! Options that every verb takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::terminal;
use crate::api::{Files, Form, Host, Options, Runtime, limit_calls, work_in_processes};

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Print one JSON document on stdout
    #[arg(long, global = true, conflicts_with = "format")]
    pub(super) json: bool,
    /// In which form the answer is printed
    #[arg(long, global = true, value_enum, default_value_t = FormatName::Text)]
    pub(super) format: FormatName,
    /// Threads; the results do not depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(super) jobs: Option<u64>,
    /// What runs models
    #[arg(long, global = true, value_enum, default_value_t = EngineName::Tract)]
    pub(super) engine: EngineName,
    /// Most seconds that one call of the engine may take [default: by the size of the model, at least 15]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) engine_time: Option<u64>,
    /// Most megabytes of memory that the engine may take for a model [default: by what the model holds, at least 512]
    #[arg(long, global = true, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub(super) engine_memory: Option<u64>,
    /// Run the engine inside this process, which then ends if the engine crashes
    #[arg(long, global = true, conflicts_with = "engine_memory")]
    pub(super) engine_inside: bool,
    /// Seed of everything random
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Replace an output that exists
    #[arg(long, global = true)]
    pub(super) force: bool,
    /// Write the result over the input
    #[arg(long, global = true)]
    pub(super) in_place: bool,
    /// Take warnings about a model file for errors
    #[arg(long, global = true)]
    pub(super) strict: bool,
    /// How much the file may grow, as a share of its size
    #[arg(long, global = true, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) max_growth: f64,
    /// Do not compare the result with the input
    #[arg(long, global = true)]
    pub(super) no_verify: bool,
    /// Say nothing but errors and why a result is refused; twice, only errors
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) quiet: u8,
    /// Print more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// How progress is told on stderr
    #[arg(long, global = true, value_enum, default_value_t = ProgressName::Auto)]
    pub(super) progress: ProgressName,
    /// Load the rewrite rules in this folder, too
    #[arg(id = "rules", long = "rules", global = true, value_name = "DIR")]
    pub(super) rule_folders: Vec<PathBuf>,
    /// The command line, for reports.
    #[arg(skip)]
    pub(super) command: Option<String>,
}

/// A form of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressName {
    /// A line on a terminal for what takes longer, and nothing elsewhere
    Auto,
    /// A JSON document a line: what goes on, how much of how much is done, seconds so far, seconds to go
    Json,
    /// Nothing
    None,
}

/// A form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    /// Tables
    Text,
    /// As --json does
    Json,
    /// For pull requests and summaries of jobs
    Markdown,
    /// Commands of a GitHub workflow, shown beside the change
    Github,
    /// Test cases
    Junit,
    /// A log of code scanning, of check alone
    Sarif,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineName {
    /// Built in
    Tract,
    /// ONNX Runtime: the library at ORT_DYLIB_PATH, or that of an installed Python wheel
    Ort,
}

impl Global {
    /// Keeps the command line as it was typed.
    pub(super) fn called(&mut self, typed: String) {
        self.command = Some(typed);
        self.json |= self.format == FormatName::Json;
    }

    /// The form that is neither tables nor JSON.
    pub(super) fn form(&self) -> Option<Form> {
        match self.format {
            FormatName::Text | FormatName::Json | FormatName::Sarif => None,
            FormatName::Markdown => Some(Form::Markdown),
            FormatName::Github => Some(Form::Github),
            FormatName::Junit => Some(Form::Junit),
        }
    }

    /// What these flags say, with a remark on the engine for people.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::new()
            .engine(match self.engine {
                EngineName::Tract => Runtime::Tract,
                EngineName::Ort => Runtime::OnnxRuntime,
            })
            .seed(self.seed)
            .force(self.force)
            .strict(self.strict)
            .max_growth(self.max_growth)
            .compare(!self.no_verify);
        options.in_place = self.in_place;
        options.command.clone_from(&self.command);
        options.jobs = self.jobs.and_then(|jobs| usize::try_from(jobs).ok());
        options.rules.clone_from(&self.rule_folders);
        if self.quiet == 0 {
            options = options.note(terminal::note);
        }
        options
    }

    /// The files that every verb reads.
    pub(super) fn files(&self) -> Files {
        Files::new(self.force, &self.rule_folders)
    }

    /// Bounds the time of each call of an engine, and lets engines run in processes of their own. Called once, before the first call.
    pub(super) fn limit_engines(&self, worker: &Host) {
        limit_calls(self.engine_time.map(Duration::from_secs));
        if !self.engine_inside {
            work_in_processes(Host {
                memory: self.engine_memory.map(|megabytes| megabytes << 20),
                ..worker.clone()
            });
        }
    }

    /// Limits the threads of everything that runs in parallel. Called once, before the first parallel work.
    pub(super) fn limit_threads(&self) {
        if let Some(jobs) = self.jobs.and_then(|jobs| usize::try_from(jobs).ok()) {
            // It fails only when threads run already, and then they are limited.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(jobs).build_global();
        }
    }
}
