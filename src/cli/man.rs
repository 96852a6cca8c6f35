//! `man [VERB]`: manual pages in roff.

use clap::Args;
use clap_mangen::Man;

use super::global::Global;
use super::{Answer, command, terminal};
use crate::api::{Error, nearest};

/// Print the manual page of secateur or of one of its verbs, in roff
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The verb, as in `man prune channels`; without one, the page of secateur itself
    verb: Vec<String>,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let mut whole = command();
    whole.build();
    let mut page = &whole;
    for verb in &arguments.verb {
        page = match page.find_subcommand(verb) {
            Some(found) => found,
            None => {
                let failure = Error::new("unknown-verb", format!("there is no verb `{verb}`"));
                let names = page.get_subcommands().map(clap::Command::get_name);
                return Err(match nearest(verb, names) {
                    Some(name) => failure.with_hint(format!("did you mean `{name}`?")),
                    None => failure,
                });
            }
        };
    }
    let mut roff = Vec::new();
    Man::new(page.clone())
        .render(&mut roff)
        .map_err(|error| Error::new("write-failed", error.to_string()))?;
    let roff = String::from_utf8_lossy(&roff);
    if global.json {
        terminal::json(&serde_json::json!({ "roff": roff }));
    } else {
        terminal::answer(&roff);
    }
    Ok(Answer::Done)
}
