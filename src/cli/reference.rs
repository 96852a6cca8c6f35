//! The reference of the command line for the book, made from the definitions that parse it.

use clap::Command;

use super::command;

/// Columns of help texts in the reference.
const WIDTH: usize = 100;

/// `docs/cli.md`.
pub fn reference() -> String {
    let root = command();
    let mut text = String::from(
        "# Command line\n\nGenerated from the program; `UPDATE=1 cargo test` renews it.\n\n\
         Exit status: 0 done; 1 the answer is no (not equivalent, a gate is broken, `--check` would change something) and nothing is \
         written; 2 it could not be done; 130 interrupted. Under `--json` every verb prints one JSON document on stdout, errors \
         included: `{\"error\": {\"code\", \"message\", \"file\", \"node\", \"value\"}}`.\n\n\
         Every pass is a verb as well: the flag form of one step of a pipeline.\n\n## secateur\n\n",
    );
    text.push_str(&fenced(&root, "secateur"));
    for verb in root
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
    {
        text.push_str(&format!("\n## {}\n\n", verb.get_name()));
        text.push_str(&fenced(verb, &format!("secateur {}", verb.get_name())));
        for action in verb.get_subcommands() {
            let name = format!("{} {}", verb.get_name(), action.get_name());
            text.push_str(&format!("\n### {name}\n\n"));
            text.push_str(&fenced(action, &format!("secateur {name}")));
        }
    }
    text
}

/// The help of a command, without the options of every verb unless it is the root.
fn fenced(command: &Command, name: &str) -> String {
    let mut command = command
        .clone()
        .bin_name(name)
        .term_width(WIDTH)
        .disable_help_subcommand(true);
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("```text\n{}\n```\n", lines.join("\n").trim_end())
}
