//! The table of error codes: it has every code that the sources give an error, and the documentation has all of it.

use std::collections::BTreeSet;
use std::path::Path;

use secateur::Error;

/// What follows `start` up to the end of the string literal there; nothing where none begins.
fn literal(text: &str) -> Option<&str> {
    let inside = text.trim_start().strip_prefix('"')?;
    inside.split_once('"').map(|(code, _)| code)
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
}

/// The block that begins at the first brace.
fn block(text: &str) -> &str {
    let start = text.find('{').unwrap();
    let mut depth = 0;
    for (at, char) in text[start..].char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[start..start + at];
        }
    }
    panic!("a block does not end");
}

/// The codes in a source: literals and constants in the bodies of `fn code`, and the first arguments of what makes an error.
fn codes(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    let answers = |at: &usize| {
        code[*at..]
            .lines()
            .next()
            .is_some_and(|line| line.contains("self) -> &"))
    };
    for at in code.match_indices("fn code(").map(|(at, _)| at).filter(answers) {
        found.extend(
            block(&code[at..])
                .split('"')
                .skip(1)
                .step_by(2)
                .map(str::to_owned),
        );
    }
    for line in code
        .lines()
        .filter(|line| line.contains("const ") && line.contains(": &str = "))
    {
        let (name, value) = line
            .split_once("const ")
            .unwrap()
            .1
            .split_once(": &str = ")
            .unwrap();
        let used = code.contains("fn code(&self)") && code.matches(name).count() > 1;
        if used && (name == "RESOURCE" || name == "STATISTICS") {
            found.extend(literal(value).map(str::to_owned));
        }
    }
    for maker in ["Error::new(", "Self::new(", ".error("] {
        for (at, _) in code.match_indices(maker) {
            found.extend(literal(&code[at + maker.len()..]).map(str::to_owned));
        }
    }
    found.retain(|code| is_code(code));
    found
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
            found.extend(codes(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_code_of_the_sources_is_in_the_table_and_no_other() {
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let known: BTreeSet<String> = Error::codes().map(|(_, code)| code.to_owned()).collect();
    assert_eq!(known.len(), Error::codes().count(), "a code stands twice");
    let missing: Vec<_> = found.difference(&known).collect();
    let idle: Vec<_> = known.difference(&found).collect();
    assert!(
        missing.is_empty() && idle.is_empty(),
        "not in the table: {missing:?}; nowhere in the sources: {idle:?}"
    );
}

#[test]
fn the_documentation_has_the_table() {
    const MARK: &str = "<!-- codes: UPDATE=1 cargo test renews them -->\n";
    let mut table = "| codes | of |\n|---|---|\n".to_owned();
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (about, code) in Error::codes() {
        match groups.last_mut() {
            Some((last, codes)) if *last == about => codes.push(format!("`{code}`")),
            _ => groups.push((about, vec![format!("`{code}`")])),
        }
    }
    for (about, codes) in groups {
        table.push_str(&format!("| {} | {about} |\n", codes.join(", ")));
    }
    let path = "docs/library.md";
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut parts = page.split(MARK);
    let (Some(before), Some(_), Some(after), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        panic!("{path}: the table stands between two marks");
    };
    super::committed(path, &format!("{before}{MARK}{table}{MARK}{after}"));
}
