//! Errors are types: a text is an error only where one word is read that somebody typed.

use std::path::Path;

use regex::Regex;

use super::architecture::{sources_below, test_lines};

/// Who may answer a text as an error, by file and function: what it reads is one word of a flag, and its text goes to whoever typed that
/// word with nothing in between.
const WORDS: [(&str, &str, &str); 12] = [
    ("src/cli/ci.rs", "pair", "FIGURE=SHARE"),
    ("src/cli/evaluate.rs", "pair", "INPUT=ARRAY"),
    (
        "src/cli/options.rs",
        "binding",
        "NAME=SIZE, or INPUT=SIZE,SIZE,...",
    ),
    ("src/cli/options.rs", "entry", "one SIZE of it"),
    ("src/cli/options.rs", "seconds", "a number of seconds"),
    ("src/cli/options.rs", "size", "NAME=SIZE"),
    ("src/cli/options.rs", "tolerance", "DTYPE=SHARE"),
    ("src/cli/options.rs", "variable", "NAME=VALUE"),
    ("src/cli/verify.rs", "pair", "OLD=NEW"),
    ("src/data/spec.rs", "Err", "I/N, by `FromStr`"),
    ("src/data/spec.rs", "from_str", "I/N"),
    ("src/lint/targets.rs", "parse", "RUNTIME or RUNTIME@VERSION"),
];

/// The source without what only tests see and without comments, as many lines as before.
pub(super) fn code(source: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let tests = test_lines(&lines);
    let kept =
        lines.iter().enumerate().map(
            |(index, line)| match tests.iter().any(|test| test.contains(&index)) {
                true => "",
                false => line.split("//").next().unwrap_or_default(),
            },
        );
    kept.collect::<Vec<_>>().join("\n")
}

/// The second and last of the types between the angle brackets that begin here, where there are two.
fn error_type(text: &str) -> Option<&str> {
    let (mut depth, mut start) = (0, None);
    for (at, char) in text.char_indices() {
        match char {
            '<' | '(' | '[' => depth += 1,
            '>' if text[..at].ends_with('-') => {}
            '>' if depth == 0 => {
                return start.map(|start: usize| text[start..at].trim().trim_end_matches(','));
            }
            '>' | ')' | ']' => depth -= 1,
            // A comma behind the last one separates nothing.
            ',' if depth == 0 && !text[at + 1..].trim_start().starts_with('>') => start = Some(at + 1),
            _ => {}
        }
    }
    panic!("a type does not end: {}", &text[..text.len().min(80)]);
}

/// Functions and closures of a source whose error is a text or of any type, with their lines.
fn texts(source: &str) -> Vec<(String, usize)> {
    let named = Regex::new(r"\b(?:fn (\w+)|let (\w+) = (?:move )?\||type (\w+) =)").unwrap();
    let code = code(source);
    let results = code
        .match_indices("Result<")
        .filter(|(at, head)| error_type(&code[at + head.len()..]) == Some("String"))
        .map(|(at, _)| at);
    let aliases = code
        .match_indices("type Err = String;")
        .map(|(at, _)| at + "type Err =".len());
    let any = Regex::new(r"Box<dyn (?:std::error::)?Error\b").unwrap();
    let boxed = any.find_iter(&code).map(|found| found.start());
    let mut found: Vec<usize> = results.chain(aliases).chain(boxed).collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|at| {
            let name = named.captures_iter(&code[..at]).last();
            let name = name.and_then(|name| name.iter().skip(1).flatten().next().map(|name| name.as_str()));
            let line = code[..at].matches('\n').count() + 1;
            (name.unwrap_or_default().to_owned(), line)
        })
        .collect()
}

#[test]
fn texts_as_errors_are_found_wherever_they_stand() {
    let source = "fn one(\n    x: u8,\n) -> Result<BTreeMap<String, String>, Error> { io::Result<String> }\nfn two() -> Result<\n    (u8, u8),\n    String,\n> {}\n\
                  fn three(f: impl Fn(u8) -> Result<u8, String>) {}\nfn four() {\n    let inner = |x| -> Result<u8, String> { x };\n}\n\
                  impl FromStr for A {\n    type Err = String;\n}\nfn five() -> Result<u8, Box<dyn std::error::Error>> {}\n\
                  // fn six() -> Result<u8, String>\n#[cfg(test)]\nmod tests {\n    fn seven() -> Result<u8, String> {}\n}\n";
    let expected = [("two", 4), ("three", 8), ("inner", 10), ("Err", 13), ("five", 15)];
    assert_eq!(
        texts(source),
        expected.map(|(name, line)| (name.to_owned(), line))
    );
}

#[test]
fn a_text_is_an_error_only_where_one_word_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for folder in ["src", "python/src"] {
        for (path, source) in sources_below(&root.join(folder)) {
            let path = format!("{folder}/{}", path.display());
            for (name, line) in texts(&source) {
                match WORDS.iter().position(|(file, word, _)| *file == path && *word == name) {
                    Some(at) => seen.push(at),
                    None => wrong.push(format!(
                        "{path}:{line}: `{name}`: an error on its way up is an enum with a code; a parser of one word stands in WORDS"
                    )),
                }
            }
        }
    }
    let idle = WORDS.iter().enumerate().filter(|(at, _)| !seen.contains(at));
    wrong.extend(idle.map(|(_, (file, name, _))| format!("{file} has no `{name}` that answers a text")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
