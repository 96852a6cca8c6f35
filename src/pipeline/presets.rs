//! Pipelines that come with the program, by name.

use include_dir::{Dir, include_dir};

static PRESETS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/passes/presets");

/// The text of a preset.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.get_file(format!("{name}.yaml"))?.contents_utf8()
}

/// Names of all presets, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = PRESETS
        .files()
        .filter_map(|file| file.path().to_str()?.strip_suffix(".yaml"))
        .collect();
    names.sort_unstable();
    names
}

/// The comment at the top of a preset: what it does.
pub fn summary(name: &str) -> Option<String> {
    let lines = text(name)?.lines().take_while(|line| line.starts_with('#'));
    let words: Vec<&str> = lines
        .map(|line| line.trim_start_matches(['#', ' ']))
        .filter(|line| !line.contains("yaml-language-server"))
        .collect();
    Some(words.join(" "))
}
