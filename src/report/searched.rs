//! What a step with `until` tried, and what it found.

use super::sanitise;
use super::table::{Style, table};
use crate::pipeline::{Candidate, JudgedOn, KeptLayer, Searched};

/// Layers that a table lists at most, if not all are asked for.
const SHOWN_LAYERS: usize = 24;

/// The candidates with their figures, and the layers that were put back; all of them, or the first.
pub fn searched(style: Style, found: &Searched, all: bool) -> String {
    let rows = found.candidates.iter().map(candidate);
    let mut text = table(style, &["candidate", "judged on", "", ""], false, rows);
    if !found.layers.is_empty() {
        let shown = match all {
            true => found.layers.len(),
            false => found.layers.len().min(SHOWN_LAYERS),
        };
        let rows = found.layers.iter().take(shown).map(layer);
        text += "\n\n";
        text += &table(style, &["layer put back", "is", "MACs", "why"], false, rows);
        let more = found.layers.len() - shown;
        if more > 0 {
            text += &format!("\nand {more} more (--verbose)");
        }
    }
    text += "\n\nuntil: ";
    text += &sanitise(&found.message);
    if let Some(share) = found.integer_macs {
        text += &format!("; {:.1} % of the multiply-accumulates on integers", share * 100.0);
    }
    text
}

fn candidate(one: &Candidate) -> Vec<String> {
    let on = match one.on {
        JudgedOn::Search => "search",
        JudgedOn::HeldOut => "held out",
        JudgedOn::Model => "the model",
    };
    let holds = if one.holds { "holds" } else { "broken" };
    let messages: Vec<&str> = one.gates.iter().map(|gate| gate.message.as_str()).collect();
    vec![
        one.what.clone(),
        on.to_owned(),
        if one.chosen {
            format!("{holds}, taken")
        } else {
            holds.to_owned()
        },
        messages.join("; "),
    ]
}

fn layer(one: &KeptLayer) -> Vec<String> {
    vec![
        format!("{} ({})", one.node, one.operator),
        one.kept_as.clone(),
        format!("{:.2} %", one.share * 100.0),
        one.why.clone(),
    ]
}
