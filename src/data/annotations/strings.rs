//! Texts as a table: a file name and what is written in the image a line. Also the characters that a model tells apart.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use super::super::error::DataError;
use super::super::tasks::TextOptions;
use super::super::truth::{Categories, Truth};
use super::{Annotations, ImageFile, at_line, labels, text_of};

/// What the heading over file names is called.
const HEADINGS: [&str; 6] = ["file", "filename", "file_name", "image", "name", "path"];

/// A name or a number that stands for no sample.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("there is no image {0:?}: correct the name, or remove the line")]
    Unknown(String),
    #[error("{images} images are called {name:?}: write their folders, too")]
    Ambiguous { name: String, images: usize },
    #[error("there is no sample {index}: {samples} are counted from 0")]
    NoSample { index: u64, samples: u64 },
}

/// Images by their names, as tables have them: the whole path, or any end of it that is one image's only.
pub(super) struct ByName<'a> {
    images: &'a [ImageFile],
    names: BTreeMap<&'a OsStr, Vec<usize>>,
}

impl<'a> ByName<'a> {
    pub(super) fn of(images: &'a [ImageFile]) -> Self {
        let mut names: BTreeMap<&OsStr, Vec<usize>> = BTreeMap::new();
        for (at, image) in images.iter().enumerate() {
            if let Some(name) = image.path.file_name() {
                names.entry(name).or_default().push(at);
            }
        }
        Self { images, names }
    }

    /// The place of the image of this name.
    pub(super) fn find(&self, name: &str) -> Result<usize, NameError> {
        let path = Path::new(name.strip_prefix("./").unwrap_or(name));
        let fits = |at: &&usize| {
            self.images
                .get(**at)
                .is_some_and(|image| image.path == path || image.path.ends_with(path))
        };
        let found: Vec<&usize> = path
            .file_name()
            .and_then(|name| self.names.get(name))
            .into_iter()
            .flatten()
            .filter(fits)
            .collect();
        match found.as_slice() {
            [at] => Ok(**at),
            [] => Err(NameError::Unknown(name.to_owned())),
            several => Err(NameError::Ambiguous {
                name: name.to_owned(),
                images: several.len(),
            }),
        }
    }
}

/// One row of a table: its line and fields.
pub(super) type Row = (usize, Vec<String>);

/// The rows of a table. Fields are parted by tabs, and quotes are characters like others; in a `.csv` file by commas, and a field
/// may stand in quotes. Empty lines are left out.
pub(super) fn rows(file: &Path) -> Result<Vec<Row>, DataError> {
    let text = text_of(file)?;
    let comma = match file.extension().and_then(OsStr::to_str) {
        Some(extension) if extension.eq_ignore_ascii_case("csv") => true,
        Some(extension) if extension.eq_ignore_ascii_case("tsv") => false,
        _ => !text.lines().next().is_some_and(|line| line.contains('\t')),
    };
    if !comma {
        return Ok(text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| (at + 1, line.split('\t').map(str::to_owned).collect()))
            .collect());
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line) as usize;
            at_line(file, line, &error.to_string())
        })?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        rows.push((line, record.iter().map(str::to_owned).collect()));
    }
    Ok(rows)
}

pub(super) fn is_heading(line: usize, first: &str) -> bool {
    line == 1
        && HEADINGS
            .iter()
            .any(|heading| first.trim().eq_ignore_ascii_case(heading))
}

/// The texts of a table with a line `file<TAB>text` for each image; a heading line is skipped.
pub(in super::super) fn read(file: &Path, images: &[ImageFile]) -> Result<Annotations, DataError> {
    let known = ByName::of(images);
    let mut texts: Vec<Option<(usize, String)>> = vec![None; images.len()];
    for (line, fields) in rows(file)? {
        let wrong = |reason: &str| at_line(file, line, reason);
        let Some((name, rest)) = fields.split_first() else {
            continue;
        };
        if is_heading(line, name) {
            continue;
        }
        let [text] = rest else {
            return Err(wrong(&format!(
                "{} fields; a line is a file name and its text, parted by a tab",
                fields.len()
            )));
        };
        let at = known
            .find(name.trim())
            .map_err(|error| wrong(&error.to_string()))?;
        let Some(place) = texts.get_mut(at) else { continue };
        if let Some((other, _)) = place {
            return Err(wrong(&format!(
                "{:?} has a text already, on line {other}",
                name.trim()
            )));
        }
        *place = Some((line, text.clone()));
    }
    let truths = texts
        .into_iter()
        .zip(images)
        .map(|(text, image)| match text {
            Some((_, text)) => Ok(Truth::Text(text)),
            None => Err(labels(
                file,
                format!(
                    "there is no text for the image {}: add a line, or remove the image",
                    image.path.display()
                ),
            )),
        })
        .collect::<Result<_, _>>()?;
    Ok(Annotations {
        truths,
        categories: Categories::new(),
    })
}

/// The characters of the classes in order, with the space where `options` has one; `base` is where relative paths start from.
pub(in super::super) fn charset(options: &TextOptions, base: &Path) -> Result<Vec<String>, DataError> {
    let spec = |message: &str| DataError::Spec {
        file: None,
        message: message.to_owned(),
    };
    let mut characters: Vec<String> = match (&options.charset, &options.characters) {
        (Some(file), None) => {
            let file = base.join(file);
            // A line may be a space, or empty.
            let characters: Vec<String> = text_of(&file)?.lines().map(str::to_owned).collect();
            if characters.is_empty() {
                return Err(labels(
                    &file,
                    "there are no characters: write one a line".to_owned(),
                ));
            }
            characters
        }
        (None, Some(characters)) => characters.chars().map(String::from).collect(),
        (Some(_), Some(_)) => {
            return Err(spec(
                "`charset` and `characters` both name characters: once is enough",
            ));
        }
        (None, None) => {
            return Err(spec(
                "texts need the characters of the classes: `charset` names a file with one a line",
            ));
        }
    };
    if options.space {
        characters.push(" ".to_owned());
    }
    Ok(characters)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::image;
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Vec<Truth>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let images = [
            image("x/1/a.png", 1, 1),
            image("x/2/a.png", 1, 1),
            image("x/b.png", 1, 1),
        ];
        read(&file, &images)
            .map(|found| found.truths)
            .map_err(|error| error.to_string())
    }

    fn texts(texts: [&str; 3]) -> Vec<Truth> {
        texts.iter().map(|text| Truth::Text((*text).to_owned())).collect()
    }

    #[test]
    fn tables_are_by_tabs_or_commas() {
        let expected = texts(["say \"hi\", you", "", "c d "]);
        let tabs = "b.png\tc d \n1/a.png\tsay \"hi\", you\nx/2/a.png\t\n";
        assert_eq!(read_text("l.tsv", tabs).unwrap(), expected);
        assert_eq!(read_text("l.txt", tabs).unwrap(), expected);
        let commas = "file,text\nb.png,c d \n./1/a.png,\"say \"\"hi\"\", you\"\n2/a.png,\n";
        assert_eq!(read_text("l.csv", commas).unwrap(), expected);
    }

    #[test]
    fn errors_name_line_and_cure() {
        for (text, words) in [
            ("b.png\tx\nc.png\ty", "line 2: there is no image \"c.png\""),
            ("a.png\tx", "line 1: 2 images are called \"a.png\""),
            (
                "b.png\tx\nb.png\ty",
                "line 2: \"b.png\" has a text already, on line 1",
            ),
            ("b.png", "line 1: 1 fields"),
            ("1/a.png\tx\nb.png\ty\tz", "line 2: 3 fields"),
            ("1/a.png\tx\n2/a.png\ty", "no text for the image x/b.png"),
        ] {
            let error = read_text("l.tsv", text).unwrap_err();
            assert!(error.contains("l.tsv") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_charset_keeps_spaces_and_empty_lines() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("c.txt"), "a\r\n \n\u{3000}\n").unwrap();
        let mut options = TextOptions {
            charset: Some("c.txt".into()),
            space: true,
            ..TextOptions::default()
        };
        assert_eq!(
            charset(&options, folder.path()).unwrap(),
            ["a", " ", "\u{3000}", " "]
        );
        options.characters = Some("ab".to_owned());
        assert_eq!(charset(&options, folder.path()).unwrap_err().code(), "data-spec");
        options.charset = None;
        assert_eq!(charset(&options, folder.path()).unwrap(), ["a", "b", " "]);
        assert!(charset(&TextOptions::default(), folder.path()).is_err());
    }
}
