//! Results for people and programs: tables, Markdown, and the figures behind `inspect` and `diff`. JSON comes from the same
//! types through serde. Prints nothing.

pub mod comparison;
pub mod difference;
pub mod evaluation;
pub mod facts;
pub mod findings;
pub mod github;
pub mod junit;
pub mod markdown;
pub mod page;
pub mod pictures;
pub mod searched;
pub mod stored;
pub mod sweep;
pub mod table;
pub mod training;
pub mod whole;

/// Text from a model, made harmless: control characters, which steer terminals, and characters that reorder text are written as
/// escapes.
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        let reorders =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || reorders {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::sanitise;

    #[test]
    fn only_what_steers_a_terminal_is_escaped() {
        assert_eq!(sanitise("conv/größe.1"), "conv/größe.1");
        assert_eq!(
            sanitise("a\u{1b}]0;x\u{7}\nb\u{202e}c"),
            "a\\u{1b}]0;x\\u{7}\\u{a}b\\u{202e}c"
        );
    }
}
