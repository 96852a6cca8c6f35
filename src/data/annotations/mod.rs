//! Readers of labels that say more than a class: boxes, masks, texts, pairs.
//!
//! Each reader takes a file or folder and the images in their order, and answers one truth an image. What does not fit - a label
//! without an image, an image without a label, a category that is not named, a box outside - is an error with file and line.

mod coco;
mod masks;
mod pairs;
mod strings;
mod voc;
mod yolo;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) use coco::{Coco, Listed};
pub(super) use masks::{mask, mask_files};
pub(super) use pairs::read as read_pairs;
pub(super) use strings::{charset, read as read_strings};
pub(super) use voc::read as read_voc;
pub(super) use yolo::read as read_yolo;

use super::error::DataError;
use super::truth::{Categories, Truth};
use crate::files::read_text;
use crate::yaml::Document;

/// An image that is labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageFile {
    /// Its file.
    pub(super) path: PathBuf,
    /// Pixels a row.
    pub(super) width: u32,
    /// Rows.
    pub(super) height: u32,
}

/// What is true of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotations {
    /// One an image, in the images' order.
    pub(super) truths: Vec<Truth>,
    /// What the categories are called, where that is known.
    pub(super) categories: Categories,
}

/// How far outside its image a box may be for being clipped instead of refused, in pixels: what rounding does.
const ROUNDING: f64 = 1.0;

/// Places of images by the stems of their files.
#[derive(Debug)]
struct Stems<'a>(BTreeMap<&'a str, usize>);

impl<'a> Stems<'a> {
    /// Stems are what label files are found by, so that no two images may have the same.
    fn of(images: &'a [ImageFile]) -> Result<Self, DataError> {
        let mut stems: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, image) in images.iter().enumerate() {
            let stem = stem(&image.path).ok_or_else(|| {
                labels(
                    &image.path,
                    "the image's name is not Unicode: its label cannot be found by it".to_owned(),
                )
            })?;
            if let Some(other) = stems.insert(stem, at).and_then(|other| images.get(other)) {
                return Err(labels(
                    &image.path,
                    format!(
                        "{} is called {stem:?}, too: label files are found by that name, rename one",
                        other.path.display()
                    ),
                ));
            }
        }
        Ok(Self(stems))
    }

    /// The place of the image that a label file is of.
    fn image(&self, file: &Path) -> Result<usize, DataError> {
        stem(file)
            .and_then(|stem| self.0.get(stem).copied())
            .ok_or_else(|| {
                labels(
                    file,
                    "there is no image of this name: remove the label, or add the image".to_owned(),
                )
            })
    }
}

fn stem(path: &Path) -> Option<&str> {
    path.file_stem().and_then(|stem| stem.to_str())
}

fn labels(file: &Path, reason: String) -> DataError {
    DataError::Labels {
        file: file.to_owned(),
        reason,
    }
}

fn at_line(file: &Path, line: usize, reason: &str) -> DataError {
    labels(file, format!("line {line}: {reason}"))
}

fn unreadable(file: &Path, error: &std::io::Error) -> DataError {
    DataError::Read {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

fn text_of(file: &Path) -> Result<String, DataError> {
    let text = read_text(file).map_err(|error| unreadable(file, &error))?;
    // Editors put a byte order mark in front of UTF-8; it is no part of the first line.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The files of a folder with this extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let fits = path
            .extension()
            .is_some_and(|own| own.eq_ignore_ascii_case(extension));
        if fits && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What is wrong with the edges of a box.
#[derive(Debug, thiserror::Error)]
enum EdgesError {
    #[error("the box has an edge that is not a finite number")]
    NotFinite,
    #[error("the box from {}, {} to {}, {} is outside its image of {} x {} pixels", .edges[0], .edges[1], .edges[2], .edges[3], .image[0], .image[1])]
    Outside {
        /// Left, top, right and bottom.
        edges: [f64; 4],
        /// Width and height.
        image: [u32; 2],
    },
    #[error("the box from {}, {} to {}, {} has no area: remove it, or correct its corners", .0[0], .0[1], .0[2], .0[3])]
    NoArea([f64; 4]),
}

/// Left, top, width and height of a box with these edges, clipped to its image.
fn clipped(image: &ImageFile, left: f64, top: f64, right: f64, bottom: f64) -> Result<[f64; 4], EdgesError> {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    if ![left, top, right, bottom].iter().all(|edge| edge.is_finite()) {
        return Err(EdgesError::NotFinite);
    }
    if left < -ROUNDING || top < -ROUNDING || right > width + ROUNDING || bottom > height + ROUNDING {
        return Err(EdgesError::Outside {
            edges: [left, top, right, bottom],
            image: [image.width, image.height],
        });
    }
    let (left, top) = (left.max(0.0), top.max(0.0));
    let (right, bottom) = (right.min(width), bottom.min(height));
    if right <= left || bottom <= top {
        return Err(EdgesError::NoArea([left, top, right, bottom]));
    }
    Ok([left, top, right - left, bottom - top])
}

/// Names of classes from a file: one a line, or the `names` of a YAML file, a list or a map from numbers.
fn names(file: &Path) -> Result<Categories, DataError> {
    let text = text_of(file)?;
    let yaml = file
        .extension()
        .is_some_and(|own| own.eq_ignore_ascii_case("yaml") || own.eq_ignore_ascii_case("yml"));
    if !yaml {
        return Ok(text
            .lines()
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .zip(0..)
            .map(|(name, number)| (number, name.to_owned()))
            .collect());
    }
    let document = Document {
        file: file.display().to_string(),
        text: text.into(),
    };
    let whole = document
        .parse()
        .map_err(|source| DataError::from(Box::new(source)))?
        .to_json();
    let name = |value: &serde_json::Value| match value {
        serde_json::Value::String(name) => name.clone(),
        other => other.to_string(),
    };
    match whole.get("names") {
        Some(serde_json::Value::Array(list)) => Ok(list
            .iter()
            .zip(0..)
            .map(|(value, number)| (number, name(value)))
            .collect()),
        Some(serde_json::Value::Object(map)) => map
            .iter()
            .map(|(key, value)| match key.parse() {
                Ok(number) => Ok((number, name(value))),
                Err(_) => Err(labels(file, format!("names: {key:?} is not a class number"))),
            })
            .collect(),
        _ => Err(labels(
            file,
            "there are no `names`: write a list of the classes' names".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn image(path: &str, width: u32, height: u32) -> ImageFile {
        ImageFile {
            path: PathBuf::from(path),
            width,
            height,
        }
    }

    #[test]
    fn boxes_are_clipped_by_a_pixel_and_refused_beyond() {
        let image = image("a.png", 10, 20);
        assert_eq!(
            clipped(&image, -0.5, 1.0, 10.9, 20.0).unwrap(),
            [0.0, 1.0, 10.0, 19.0]
        );
        for (left, top, right, bottom, words) in [
            (-1.5, 0.0, 5.0, 5.0, "outside"),
            (0.0, 0.0, 5.0, 21.5, "outside"),
            (5.0, 0.0, 5.0, 5.0, "no area"),
            (f64::NAN, 0.0, 5.0, 5.0, "finite"),
        ] {
            let error = clipped(&image, left, top, right, bottom).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn names_are_lines_or_yaml() {
        let folder = tempfile::tempdir().unwrap();
        let expected = Categories::from([(0, "person".to_owned()), (1, "traffic light".to_owned())]);
        for (file, text) in [
            ("classes.txt", "person\r\ntraffic light\n"),
            ("data.yaml", "nc: 2\nnames: [person, traffic light]\n"),
            ("map.yml", "path: x\nnames:\n  0: person\n  1: traffic light\n"),
        ] {
            let path = folder.path().join(file);
            fs::write(&path, text).unwrap();
            assert_eq!(names(&path).unwrap(), expected, "{file}");
        }
        let path = folder.path().join("none.yaml");
        fs::write(&path, "nc: 2\n").unwrap();
        assert_eq!(names(&path).unwrap_err().code(), "data-labels");
    }

    #[test]
    fn two_images_of_one_name_have_no_label_of_their_own() {
        let images = [image("a/1.png", 1, 1), image("b/1.jpg", 1, 1)];
        assert!(Stems::of(&images).unwrap_err().to_string().contains("a/1.png"));
    }
}
