//! The verbs by what they are for: the help of the program itself.

use clap::Command;

use super::command;

/// What verbs are for, and the verbs.
const SHELVES: [(&str, &[&str]); 10] = [
    (
        "Rewrite a model",
        &[
            "run",
            "sweep",
            "search-structure",
            "simplify",
            "fold-constants",
            "eliminate-dead-code",
            "eliminate-common-subexpressions",
            "deduplicate-initializers",
            "inline-functions",
        ],
    ),
    (
        "Change its form",
        &[
            "bind",
            "bind-defaults",
            "convert-opset",
            "convert-float",
            "extract",
            "drop-outputs",
            "rename",
            "clean-names",
            "chain",
            "bake",
        ],
    ),
    (
        "Quantize",
        &[
            "quantize",
            "quantize-weights",
            "quantize-dynamic",
            "cluster",
            "compress",
            "search-precision",
            "equalize",
            "smooth-quant",
            "awq",
            "correct-bias",
        ],
    ),
    (
        "Prune and train",
        &["prune", "factorize", "finetune", "widen", "deepen"],
    ),
    ("Transfer", &["transfer", "merge-lora"]),
    (
        "Judge",
        &["verify", "evaluate", "check", "bisect", "ci", "report"],
    ),
    (
        "Look",
        &[
            "inspect",
            "diff",
            "print",
            "stats",
            "features",
            "gradients",
            "explain",
            "rules",
        ],
    ),
    (
        "Store",
        &["pack", "unpack", "share", "convert-external", "single-file"],
    ),
    ("Scale out", &["plan", "work", "merge"]),
    ("Set up", &["schema", "completions", "man"]),
];

/// Columns of the help.
const WIDTH: usize = 100;
/// Columns of the names.
const NAMES: usize = 35;

/// What the program says of itself: its verbs by what they are for, then the options of every verb.
pub(super) fn help() -> String {
    let root = command();
    let mut text = String::new();
    if let Some(about) = root.get_about() {
        text.push_str(&format!("{about}\n\n"));
    }
    text.push_str("Usage: secateur [OPTIONS] <VERB> ...\n");
    for (title, verbs) in SHELVES {
        text.push_str(&format!("\n{title}:\n"));
        for name in verbs {
            let about = root.find_subcommand(name).and_then(Command::get_about);
            text.push_str(&entry(name, &about.map(ToString::to_string).unwrap_or_default()));
        }
    }
    text.push_str(
        "\n`secateur VERB --help` tells all of a verb, `secateur explain PASS` what a pass does.\n\n",
    );
    text.push_str(&options(root));
    text
}

/// A verb with what it does, wrapped.
fn entry(name: &str, about: &str) -> String {
    let mut text = format!("  {name:<width$}", width = NAMES - 2);
    let mut column = NAMES;
    for (at, word) in about.split_whitespace().enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            text.push_str(&format!("\n{:NAMES$}", ""));
            column = NAMES;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

/// The options of every verb.
fn options(root: Command) -> String {
    let mut bare = root
        .help_template("{all-args}")
        .term_width(WIDTH)
        .disable_help_subcommand(true)
        .mut_subcommands(|verb| verb.hide(true));
    bare.render_help().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_verb_stands_on_one_shelf() {
        let root = command();
        let known: BTreeSet<&str> = root
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
            .map(Command::get_name)
            .collect();
        let shelved: Vec<&str> = SHELVES
            .iter()
            .flat_map(|(_, verbs)| verbs.iter().copied())
            .collect();
        let distinct: BTreeSet<&str> = shelved.iter().copied().collect();
        assert_eq!(shelved.len(), distinct.len(), "a verb stands on two shelves");
        assert_eq!(distinct, known);
    }

    #[test]
    fn what_a_verb_does_is_a_whole_sentence() {
        let text = help();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        for verb in command()
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
        {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let brackets = about.matches('(').count() == about.matches(')').count();
            assert!(
                brackets && !about.ends_with("et al") && about.len() > 10,
                "{about}"
            );
        }
    }
}
