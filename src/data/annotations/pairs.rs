//! Pairs of samples as a table: two samples a line, and whether they are of the same thing.

use std::path::Path;

use super::super::error::DataError;
use super::super::tasks::Pair;
use super::ImageFile;
use super::strings::{ByName, NameError, rows};
use super::{at_line, labels};

/// The pairs of a table with a line `a b same`, parted by tabs, commas or spaces.
///
/// A sample is an image's file name or, where no image has it, an index from 0 below `samples`. `same` is 1, `true` or `same`, or
/// else 0, `false` or `different`; it stands in every line or in none. A first line that names no samples is a heading.
pub(in super::super) fn read(
    file: &Path,
    images: &[ImageFile],
    samples: u64,
) -> Result<Vec<Pair>, DataError> {
    let known = ByName::of(images);
    let mut pairs: Vec<Pair> = Vec::new();
    for (line, fields) in rows(file)? {
        let wrong = |reason: String| at_line(file, line, &reason);
        let fields: Vec<&str> = match fields.as_slice() {
            [one] => one.split_whitespace().collect(),
            fields => fields.iter().map(|field| field.trim()).collect(),
        };
        let (a, b, label) = match fields.as_slice() {
            [] => continue,
            [a, b] => (*a, *b, None),
            [a, b, label] => (*a, *b, Some(*label)),
            fields => {
                return Err(wrong(format!(
                    "{} fields; a pair is two samples, and 1 for the same or 0 for different",
                    fields.len()
                )));
            }
        };
        let place = |name: &str| sample(name, &known, samples);
        let (a, b) = match (place(a), place(b)) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(_), Err(_)) if line == 1 => continue,
            (Err(error), _) | (_, Err(error)) => return Err(wrong(error.to_string())),
        };
        if a == b {
            return Err(wrong(
                "a sample is paired with itself: remove the line".to_owned(),
            ));
        }
        let same = label
            .map(|label| match label.to_ascii_lowercase().as_str() {
                "1" | "true" | "same" => Ok(true),
                "0" | "false" | "different" => Ok(false),
                _ => Err(wrong(format!("{label:?} is neither 1 (same) nor 0 (different)"))),
            })
            .transpose()?;
        if let Some(first) = pairs
            .first()
            .filter(|first| first.same.is_some() != same.is_some())
        {
            let (have, here) = if first.same.is_some() {
                ("has a", "none")
            } else {
                ("has no", "one")
            };
            return Err(wrong(format!(
                "the first pair {have} label, here is {here}: label every pair, or none"
            )));
        }
        pairs.push(Pair { a, b, same });
    }
    if pairs.is_empty() {
        return Err(labels(
            file,
            "there are no pairs: write two samples a line".to_owned(),
        ));
    }
    Ok(pairs)
}

fn sample(name: &str, known: &ByName<'_>, samples: u64) -> Result<u64, NameError> {
    let unknown = match known.find(name) {
        Ok(at) => return Ok(at as u64),
        Err(error) => error,
    };
    match name.parse::<u64>() {
        Ok(index) if index < samples => Ok(index),
        Ok(index) => Err(NameError::NoSample { index, samples }),
        Err(_) => Err(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;

    fn pairs(name: &str, text: &str) -> Result<Vec<(u64, u64, Option<bool>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let images = [image("x/a.png", 1, 1), image("x/b.png", 1, 1), image("x/7", 1, 1)];
        match read(&file, &images, 5) {
            Ok(found) => Ok(found.iter().map(|pair| (pair.a, pair.b, pair.same)).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn samples_are_names_or_indices() {
        let expected = vec![(0, 1, Some(true)), (4, 2, Some(false))];
        assert_eq!(
            pairs("p.tsv", "a.png\tx/b.png\t1\n4\t7\tdifferent\n").unwrap(),
            expected
        );
        assert_eq!(
            pairs("p.csv", "left,right,same\na.png, b.png,TRUE\n4,7,0\n").unwrap(),
            expected
        );
        assert_eq!(pairs("p.txt", "0 1 same\n4 2 0\n").unwrap(), expected);
        assert_eq!(
            pairs("p.txt", "0 1\n4 2\n").unwrap(),
            [(0, 1, None), (4, 2, None)]
        );
    }

    #[test]
    fn errors_name_line_and_cure() {
        for (text, words) in [
            (
                "0 1 1\n0 5 1",
                "line 2: there is no sample 5: 5 are counted from 0",
            ),
            ("0 1 1\n0 z.png 1", "line 2: there is no image \"z.png\""),
            ("z.png 1 1", "line 1: there is no image"),
            ("0 1 2", "line 1: \"2\" is neither"),
            ("0 1\n0 2 1", "line 2: the first pair has no label, here is one"),
            ("0 1 1\n0 2", "line 2: the first pair has a label, here is none"),
            ("3 3 1", "line 1: a sample is paired with itself"),
            ("0 1 1 1", "line 1: 4 fields"),
            ("a b\n", "there are no pairs"),
        ] {
            let error = pairs("p.txt", text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
