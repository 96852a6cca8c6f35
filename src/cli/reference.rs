//! The reference of the command line for the book, made from the definitions that parse it: one page a verb.

use clap::Command;

use super::command;
use super::shelves;
use super::step;

/// Columns of help texts in the reference.
const WIDTH: usize = 100;

/// Pages by their paths: `docs/cli.md`, which lists the verbs, and `docs/cli/VERB.md` for each.
pub fn reference() -> Vec<(String, String)> {
    let root = command();
    let mut pages = vec![("docs/cli.md".to_owned(), index())];
    for verb in root
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
    {
        let name = verb.get_name();
        let mut text = format!("# secateur {name}\n\n{MADE}\n");
        text.push_str(&fenced(verb, &format!("secateur {name}")));
        for action in verb.get_subcommands() {
            let name = format!("{name} {}", action.get_name());
            text.push_str(&format!("\n## {name}\n\n"));
            text.push_str(&fenced(action, &format!("secateur {name}")));
        }
        pages.push((format!("docs/cli/{name}.md"), text));
    }
    pages
}

const MADE: &str = "Generated from the program; `UPDATE=1 cargo test` renews it. The options of every verb stand on [the page of all \
                    verbs](../cli.md).\n";

fn index() -> String {
    let text = format!(
        "# Command line\n\nGenerated from the program; `UPDATE=1 cargo test` renews it.\n\n\
         Exit status: 0 done; 1 the answer is no (not equivalent, a gate is broken, `--check` would change something) and nothing is \
         written; 2 it could not be done; 130 interrupted. Under `--json` every verb prints one JSON document on stdout, errors \
         included: `{{\"error\": {{\"code\", \"message\", \"file\", \"node\", \"value\"}}}}`.\n\n\
         Every pass is a verb as well: the flag form of one step of a pipeline. Each verb has a page in [cli/](cli/): {}.\n\n",
        links()
    );
    format!("{text}```text\n{}\n```\n", trimmed(&shelves::help()))
}

fn links() -> String {
    let root = command();
    let shown = root
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    let links: Vec<String> = shown
        .map(|verb| format!("[{0}](cli/{0}.md)", verb.get_name()))
        .collect();
    links.join(", ")
}

/// The help of a command, without the options of every verb; of a pass, without those of every pass, which `run` has.
fn fenced(command: &Command, name: &str) -> String {
    let passes = step::is_pass(command);
    let mut command = command
        .clone()
        .bin_name(name)
        .term_width(WIDTH)
        .disable_help_subcommand(true);
    if passes {
        command = command.mut_args(|argument| {
            let hidden = step::is_common(argument.get_id().as_str());
            argument.hide(hidden)
        });
    }
    let help = command.render_long_help().to_string();
    let more = if passes {
        "\nThe options of [run](run.md) hold here, too: data, what is kept, how the result is compared, reports.\n"
    } else {
        ""
    };
    format!("```text\n{}\n```\n{more}", trimmed(&help))
}

fn trimmed(help: &str) -> String {
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}
