//! `completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use super::global::Global;
use super::{Answer, command, terminal};
use crate::api::Error;

/// Print the completion script of a shell
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "secateur", &mut script);
    let script = String::from_utf8_lossy(&script);
    if global.json {
        terminal::json(&serde_json::json!({ "script": script }));
    } else {
        terminal::answer(&script);
    }
    Ok(Answer::Done)
}
