//! Boxes as Pascal VOC has them: a folder with an XML file an image, an `<object>` with `<name>` and `<bndbox>` a box.
//!
//! Corners count pixels from 1 and belong to the box (VOC development kit): `xmin` 1 and `xmax` W is the whole width. A box is
//! therefore from `xmin - 1` to `xmax`, and likewise down, as Detectron2 reads it. Files of tools that
//! count from 0 are a pixel off; their `xmin` of 0 is clipped. An object that is `<difficult>` is left out of the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::error::DataError;
use super::super::truth::{TrueBox, Truth};
use super::{Annotations, ImageFile, Stems, at_line, clipped, files, labels, names, text_of};

/// What stands in one file.
#[derive(Debug, Default)]
struct Parsed {
    width: Option<Field>,
    height: Option<Field>,
    objects: Vec<Object>,
}

#[derive(Debug, Default)]
struct Object {
    line: usize,
    name: Option<String>,
    difficult: Option<Field>,
    /// `xmin`, `ymin`, `xmax`, `ymax`.
    corners: [Option<Field>; 4],
}

/// A text and the line it is on.
#[derive(Clone, Debug)]
struct Field {
    line: usize,
    text: String,
}

const CORNERS: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];

/// The boxes of a folder. Categories are the names in the file `named` in their order, of which every object has to be one; or
/// else the names that occur, in alphabetical order.
pub(in super::super) fn read(
    folder: &Path,
    images: &[ImageFile],
    named: Option<&Path>,
) -> Result<Annotations, DataError> {
    let stems = Stems::of(images)?;
    let mut parsed: BTreeMap<usize, (std::path::PathBuf, Parsed)> = BTreeMap::new();
    for file in files(folder, "xml")? {
        let at = stems.image(&file)?;
        let content = parse(&file)?;
        parsed.insert(at, (file, content));
    }
    let categories = match named {
        Some(file) => names(file)?,
        None => {
            let occurring: BTreeSet<&String> = parsed
                .values()
                .flat_map(|(_, content)| content.objects.iter().filter_map(|object| object.name.as_ref()))
                .collect();
            (0..).zip(occurring.into_iter().cloned()).collect()
        }
    };
    let numbers: BTreeMap<&str, i64> = categories
        .iter()
        .map(|(number, name)| (name.as_str(), *number))
        .collect();
    let mut truths = Vec::with_capacity(images.len());
    for (at, image) in images.iter().enumerate() {
        let Some((file, content)) = parsed.get(&at) else {
            return Err(labels(
                folder,
                format!(
                    "there is no {}.xml for the image {}: an image without objects has a file without <object>",
                    super::stem(&image.path).unwrap_or_default(),
                    image.path.display()
                ),
            ));
        };
        check_size(file, content, image)?;
        let boxes = content
            .objects
            .iter()
            .map(|object| object.to_box(file, image, &numbers, named))
            .collect::<Result<_, _>>()?;
        truths.push(Truth::Boxes(boxes));
    }
    Ok(Annotations { truths, categories })
}

impl Field {
    fn number(&self, file: &Path) -> Result<f64, DataError> {
        let text = self.text.trim();
        text.parse()
            .map_err(|_| at_line(file, self.line, &format!("{text:?} is not a number")))
    }
}

/// Some tools write 0 where they do not know the size.
fn check_size(file: &Path, content: &Parsed, image: &ImageFile) -> Result<(), DataError> {
    for (what, field, size) in [
        ("wide", &content.width, image.width),
        ("high", &content.height, image.height),
    ] {
        let Some(field) = field else { continue };
        let stated = field.number(file)?;
        if stated != 0.0 && stated != f64::from(size) {
            return Err(at_line(
                file,
                field.line,
                &format!(
                    "the image is said to be {stated} pixels {what}, {} is {size}: the label is of another version of it",
                    image.path.display()
                ),
            ));
        }
    }
    Ok(())
}

impl Object {
    fn to_box(
        &self,
        file: &Path,
        image: &ImageFile,
        numbers: &BTreeMap<&str, i64>,
        named: Option<&Path>,
    ) -> Result<TrueBox, DataError> {
        let wrong = |reason: &str| at_line(file, self.line, reason);
        let name = self
            .name
            .as_deref()
            .ok_or_else(|| wrong("the object has no <name>"))?;
        let category = *numbers.get(name).ok_or_else(|| {
            wrong(&format!(
                "{name:?} is none of the {} names in {}",
                numbers.len(),
                named.unwrap_or(file).display()
            ))
        })?;
        let mut corners = [0.0; 4];
        for ((corner, field), what) in corners.iter_mut().zip(&self.corners).zip(CORNERS) {
            *corner = field
                .as_ref()
                .ok_or_else(|| wrong(&format!("the object has no <{what}> in its <bndbox>")))?
                .number(file)?;
        }
        let [left, top, right, bottom] = corners;
        let rect = clipped(image, left - 1.0, top - 1.0, right, bottom)
            .map_err(|error| wrong(&error.to_string()))?;
        let ignore = match &self.difficult {
            Some(field) => field.number(file)? != 0.0,
            None => false,
        };
        let [_, _, width, height] = rect;
        Ok(TrueBox {
            category,
            rect,
            area: width * height,
            ignore,
            ..TrueBox::default()
        })
    }
}

fn parse(file: &Path) -> Result<Parsed, DataError> {
    let text = text_of(file)?;
    let mut reader = Reader::from_str(&text);
    let mut parsed = Parsed::default();
    let mut path: Vec<String> = Vec::new();
    let mut content = String::new();
    let mut lines = Lines::default();
    loop {
        let event = reader.read_event();
        let line = lines.at(&text, reader.buffer_position());
        let wrong = |reason: String| at_line(file, line, &reason);
        match event.map_err(|error| wrong(format!("this is not XML: {error}")))? {
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                content.clear();
                if is_at(&path, &["annotation", "object"]) {
                    parsed.objects.push(Object {
                        line,
                        ..Object::default()
                    });
                }
            }
            Event::Text(part) => {
                content.push_str(&part.xml10_content().map_err(|error| wrong(error.to_string()))?);
            }
            Event::CData(part) => {
                content.push_str(&part.xml10_content().map_err(|error| wrong(error.to_string()))?);
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| wrong(error.to_string()))?;
                match reference
                    .resolve_char_ref()
                    .map_err(|error| wrong(error.to_string()))?
                {
                    Some(character) => content.push(character),
                    None => content.push_str(
                        quick_xml::escape::resolve_predefined_entity(&name)
                            .ok_or_else(|| wrong(format!("&{name}; is not known")))?,
                    ),
                }
            }
            Event::End(_) => {
                let field = Field {
                    line,
                    text: std::mem::take(&mut content),
                };
                parsed.keep(&path, field);
                path.pop();
            }
            Event::Eof if path.is_empty() => return Ok(parsed),
            Event::Eof => {
                return Err(wrong(format!("the file ends within <{}>", path.join("><"))));
            }
            _ => {}
        }
    }
}

impl Parsed {
    /// Keeps what an element at a path says; `<part>`s of objects have boxes, too, and are not looked into.
    fn keep(&mut self, path: &[String], field: Field) {
        if is_at(path, &["annotation", "size", "width"]) {
            self.width = Some(field);
        } else if is_at(path, &["annotation", "size", "height"]) {
            self.height = Some(field);
        } else if let Some(object) = self.objects.last_mut() {
            if is_at(path, &["annotation", "object", "name"]) {
                object.name = Some(field.text.trim().to_owned());
            } else if is_at(path, &["annotation", "object", "difficult"]) {
                object.difficult = Some(field);
            } else {
                for (corner, name) in object.corners.iter_mut().zip(CORNERS) {
                    if is_at(path, &["annotation", "object", "bndbox", name]) {
                        *corner = Some(field.clone());
                    }
                }
            }
        }
    }
}

fn is_at(path: &[String], expected: &[&str]) -> bool {
    path.iter().map(String::as_str).eq(expected.iter().copied())
}

/// Counts lines up to a position that only grows.
#[derive(Default)]
struct Lines {
    position: usize,
    breaks: usize,
}

impl Lines {
    fn at(&mut self, text: &str, position: u64) -> usize {
        let position = usize::try_from(position).unwrap_or(text.len()).min(text.len());
        let passed = text.as_bytes().get(self.position..position).unwrap_or(&[]);
        self.breaks += passed.iter().filter(|byte| **byte == b'\n').count();
        self.position = self.position.max(position);
        self.breaks + 1
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::truth::Categories;
    use super::super::tests::image;
    use super::*;

    fn object(name: &str, rest: &str, corners: [&str; 4]) -> String {
        let [a, b, c, d] = corners;
        format!(
            "<object>\n<name>{name}</name>{rest}\n<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>\n<ymax>{d}</ymax></bndbox></object>\n"
        )
    }

    fn written(objects: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "<?xml version=\"1.0\"?>\n<annotation><filename>a.jpg</filename>\n<size><width>100</width><height>50</height><depth>3</depth></size>\n{objects}</annotation>\n"
        );
        fs::write(folder.path().join("a.xml"), text).unwrap();
        folder
    }

    fn wrong(objects: &str, named: Option<&Path>) -> String {
        let folder = written(objects);
        let error = read(folder.path(), &[image("a.jpg", 100, 50)], named).unwrap_err();
        error.to_string()
    }

    #[test]
    fn corners_count_from_one_and_belong_to_the_box() {
        let part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>";
        let objects = [
            object("cat", "<difficult>0</difficult>", ["1", "1", "100", "50"]),
            object(
                "bird &amp; <![CDATA[fish]]>",
                "<difficult>1</difficult>",
                ["11", "21", "20.5", "40"],
            ),
            object("cat", part, ["0", "0", "10", "10"]),
        ];
        let folder = written(&objects.concat());
        let found = read(folder.path(), &[image("x/a.jpg", 100, 50)], None).unwrap();
        let names = Categories::from([(0, "bird & fish".to_owned()), (1, "cat".to_owned())]);
        assert_eq!(found.categories, names);
        let Truth::Boxes(boxes) = &found.truths[0] else {
            panic!("no boxes")
        };
        let seen: Vec<_> = boxes.iter().map(|b| (b.category, b.rect, b.ignore)).collect();
        assert_eq!(
            seen,
            [
                (1, [0.0, 0.0, 100.0, 50.0], false),
                (0, [10.0, 20.0, 10.5, 20.0], true),
                (1, [0.0, 0.0, 10.0, 10.0], false),
            ]
        );
    }

    #[test]
    fn errors_name_line_and_cure() {
        let fine = ["1", "1", "10", "10"];
        let names = tempfile::NamedTempFile::new().unwrap();
        fs::write(names.path(), "cat\n").unwrap();
        let two = [object("cat", "", fine), object("dog", "", fine)].concat();
        let said = wrong(&two, Some(names.path()));
        assert!(
            said.contains("a.xml: line 8: \"dog\" is none of the 1 names"),
            "{said}"
        );
        let said = wrong(&object("cat", "", ["1", "1", "x", "10"]), None);
        assert!(said.contains("line 6: \"x\" is not a number"), "{said}");
        let said = wrong(&object("cat", "", ["1", "1", "102", "10"]), None);
        assert!(
            said.contains("line 4: the box from 0, 0 to 102, 10 is outside"),
            "{said}"
        );
        let said = wrong("<object>\n<name>cat</name></object>", None);
        assert!(said.contains("line 4: the object has no <xmin>"), "{said}");
        let said = wrong("<object></objekt>", None);
        assert!(said.contains("not XML"), "{said}");
    }

    #[test]
    fn labels_of_other_images_are_an_error() {
        let folder = written("");
        let error = read(folder.path(), &[image("a.jpg", 100, 60)], None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 3") && error.contains("50 pixels high"),
            "{error}"
        );
        let images = [image("a.jpg", 100, 50), image("b.jpg", 1, 1)];
        let error = read(folder.path(), &images, None).unwrap_err().to_string();
        assert!(error.contains("no b.xml"), "{error}");
        assert!(read(folder.path(), &[image("c.jpg", 1, 1)], None).is_err());
        fs::write(folder.path().join("a.xml"), "<annotation><size>").unwrap();
        let error = read(folder.path(), &images, None).unwrap_err().to_string();
        assert!(error.contains("ends within <annotation><size>"), "{error}");
    }
}
