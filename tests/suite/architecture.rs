//! The map of ARCHITECTURE.md holds: a folder of `src` names other folders only where its row lets it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What one row of the map lets some folders use.
#[derive(Debug, PartialEq)]
struct Row {
    folders: Vec<String>,
    uses: Uses,
}

#[derive(Debug, PartialEq)]
enum Uses {
    Everything,
    /// Every folder of the rows before.
    Above,
    Named(Vec<String>),
}

/// A path that leads out of its folder.
#[derive(Debug, PartialEq)]
struct Arrow {
    to: String,
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the table under `## Map`.
fn map(document: &str) -> Vec<Row> {
    let section = document.split_once("## Map").expect("no section ## Map").1;
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [folders, _, uses] = cells[..] else {
            panic!("not three cells: {line}")
        };
        let uses = match uses.trim() {
            "everything" => Uses::Everything,
            "the above" => Uses::Above,
            "nothing" => Uses::Named(Vec::new()),
            named => Uses::Named(quoted(named)),
        };
        assert!(
            uses != Uses::Named(Vec::new()) || line.ends_with("| nothing |"),
            "a row says what may be used by names, or by nothing, the above, everything: {line}"
        );
        Row {
            folders: quoted(folders),
            uses,
        }
    })
    .collect()
}

/// Lines of the items under `#[cfg(test)]`, of a source that rustfmt has formatted: an item ends with a brace in its own column.
pub(super) fn test_lines(lines: &[&str]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        let column = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(column));
        let end = lines[index + 1..]
            .iter()
            .position(|line| *line == closing || (line.ends_with(';') && !line[column..].starts_with(' ')))
            .map_or(lines.len(), |length| index + 2 + length);
        found.push(index..end);
    }
    found
}

/// The names at the top of what follows `crate::`: of one path, or of a list of paths in braces.
fn heads(text: &str) -> Vec<&str> {
    let word = |text: &str| {
        text.find(|char: char| !char.is_alphanumeric() && char != '_')
            .unwrap_or(text.len())
    };
    let Some(list) = text.strip_prefix('{') else {
        return vec![&text[..word(text)]];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, char) in list.char_indices() {
        match char {
            ',' | '}' if depth == 0 => {
                let item = list[start..at].trim_start();
                found.push(&item[..word(item)]);
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Where a module at `depth` below the crate names another folder, without what only tests see.
fn arrows(source: &str, depth: usize) -> Vec<Arrow> {
    let lines: Vec<&str> = source.lines().collect();
    let tests = test_lines(&lines);
    let code: Vec<&str> = lines
        .iter()
        .enumerate()
        .map(
            |(index, line)| match tests.iter().any(|test| test.contains(&index)) {
                true => "",
                false => line.split("//").next().unwrap_or_default(),
            },
        )
        .collect();
    let code = code.join("\n");
    let upwards = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", upwards.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for head in heads(&code[at + prefix.len()..]) {
                found.push(Arrow {
                    to: head.to_owned(),
                    line,
                });
            }
        }
    }
    found
}

fn sources() -> BTreeMap<PathBuf, String> {
    sources_below(&root().join("src"))
}

/// Source files by their path below a folder, without those that `#[cfg(test)] mod NAME;` declares.
pub(super) fn sources_below(top: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(top, &path, found),
                false if path.extension().is_some_and(|ending| ending == "rs") => {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.insert(path.strip_prefix(top).unwrap().to_owned(), text);
                }
                false => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(top, top, &mut found);
    let only_tests: Vec<PathBuf> = found
        .iter()
        .filter(|(_, text)| text.contains("#[cfg(test)]\nmod tests;"))
        .map(|(path, _)| match path.ends_with("mod.rs") {
            true => path.with_file_name("tests.rs"),
            false => path.with_extension("").join("tests.rs"),
        })
        .collect();
    found.retain(|path, _| !only_tests.contains(path));
    found
}

/// A file's module path: `ir/edit/mod.rs` and `ir/edit.rs` are both `ir/edit`.
pub(super) fn module(path: &Path) -> PathBuf {
    match path.ends_with("mod.rs") {
        true => path.parent().unwrap().to_owned(),
        false => path.with_extension(""),
    }
}

/// The folder at the top of a path.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

#[test]
fn paths_out_of_a_folder_are_found_wherever_they_stand() {
    let source = "use crate::{\n    ir::{Graph, Model},\n    ops,\n};\nuse super::super::files;\nuse super::near;\n\
                  // crate::prose\nfn f() -> crate::engine::Session { other_crate::g() } // crate::prose\n\
                  #[cfg(test)]\nmod tests {\n    use crate::format;\n}\nuse crate::data;\n";
    let found: Vec<(String, usize)> = arrows(source, 2)
        .into_iter()
        .map(|arrow| (arrow.to, arrow.line))
        .collect();
    let expected = [("ir", 1), ("ops", 1), ("engine", 8), ("data", 13), ("files", 5)];
    assert_eq!(found, expected.map(|(to, line)| (to.to_owned(), line)));
}

#[test]
fn the_map_has_a_row_for_every_folder_and_names_only_rows_above() {
    let rows = map(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let mut above: Vec<&str> = Vec::new();
    for row in &rows {
        for folder in &row.folders {
            let exists = ["", "src/"]
                .iter()
                .any(|base| root().join(format!("{base}{folder}")).is_dir())
                || root().join(format!("src/{folder}.rs")).is_file();
            assert!(exists, "ARCHITECTURE.md: there is no folder {folder}");
        }
        if let Uses::Named(names) = &row.uses {
            for name in names {
                assert!(
                    above.contains(&name.as_str()),
                    "ARCHITECTURE.md: {:?} may use {name}, which has no row above: arrows go one way",
                    row.folders
                );
            }
        }
        above.extend(row.folders.iter().map(String::as_str));
    }
    for path in sources().keys() {
        let module = module(path);
        let folder = top(module.to_str().unwrap());
        assert!(
            ["lib", "main"].contains(&folder) || above.contains(&folder),
            "ARCHITECTURE.md: the map has no row for src/{folder}"
        );
    }
}

#[test]
fn every_folder_uses_what_the_map_lets_it_use() {
    let rows = map(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let (mut refused, mut seen) = (Vec::new(), 0);
    for (path, text) in sources() {
        let module = module(&path);
        // The row of the innermost folder that has one.
        let row = module.ancestors().find_map(|folder| {
            rows.iter()
                .position(|row| row.folders.iter().any(|name| Path::new(name) == folder))
        });
        let Some(row) = row else { continue };
        let above = |name: &str| {
            rows[..row]
                .iter()
                .flat_map(|row| &row.folders)
                .any(|folder| folder == name)
        };
        let own = top(module.to_str().unwrap()).to_owned();
        for arrow in arrows(&text, module.components().count()) {
            if arrow.to == own {
                continue;
            }
            seen += 1;
            let allowed = match &rows[row].uses {
                Uses::Everything => true,
                Uses::Above => above(&arrow.to),
                Uses::Named(names) => names.contains(&arrow.to),
            };
            if !allowed {
                refused.push(format!(
                    "src/{}:{}: {own} may not use {}",
                    path.display(),
                    arrow.line,
                    arrow.to
                ));
            }
        }
    }
    assert!(
        seen > 1000,
        "only {seen} arrows were found: the test reads the sources wrongly"
    );
    assert!(
        refused.is_empty(),
        "arrows that ARCHITECTURE.md does not have:\n{}",
        refused.join("\n")
    );
}

/// The command line is a program like any other: what it does, the library does for whoever asks.
#[test]
fn the_command_line_uses_the_face_and_tables_and_nothing_else() {
    let rows = map(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let row = rows.iter().find(|row| row.folders == ["cli"]).unwrap();
    assert_eq!(
        row.uses,
        Uses::Named(["api", "report"].map(str::to_owned).to_vec())
    );
}

/// Words in backquotes that look like files of the project: with a folder, or an ending of a source.
fn named_files(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in document.lines() {
        fenced ^= line.starts_with("```");
        if fenced || line.starts_with("    ") {
            continue;
        }
        for word in quoted(line) {
            let plain = word
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "_-./{},".contains(char));
            let source = [".rs", ".py", ".tsv", ".yaml", ".md"]
                .iter()
                .any(|ending| word.ends_with(ending));
            if !plain || !(source || word.contains('/')) {
                continue;
            }
            match (word.split_once('{'), word.split_once('}')) {
                (Some((before, _)), Some((list, after))) => {
                    let list = list.split_once('{').map_or("", |(_, list)| list);
                    found.extend(
                        list.split(',')
                            .map(|part| format!("{before}{}{after}", part.trim())),
                    );
                }
                _ => found.push(word),
            }
        }
    }
    found
}

#[test]
fn the_documents_name_files_that_there_are() {
    /// Made by a run, or by a build.
    const MADE: [&str; 4] = [
        "points/ID.json",
        "front/NAME.yaml",
        "target/",
        "target/release/secateur",
    ];
    /// Folders that a section is about, so that its files need not name them.
    const ABOUT: [&str; 14] = [
        "",
        "src",
        "src/passes",
        "src/passes/quantize",
        "src/report",
        "src/autodiff",
        "src/pipeline",
        "src/ops",
        "src/lint/tables",
        "src/engine/tract",
        "python",
        "python/src",
        "python/secateur",
        "tests/cross",
    ];
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for name in named_files(&std::fs::read_to_string(root().join(document)).unwrap()) {
            seen += 1;
            let is_there = |folder: &&str| {
                let path = root().join(folder).join(&name);
                path.exists() || path.with_extension("rs").exists()
            };
            if !MADE.contains(&name.as_str()) && !ABOUT.iter().any(is_there) {
                wrong.push(format!("{document}: `{name}`"));
            }
        }
    }
    assert!(
        seen > 150,
        "only {seen} names of files were found: the test reads the documents wrongly"
    );
    assert!(wrong.is_empty(), "there are no such files:\n{}", wrong.join("\n"));
}
