//! Boxes as YOLO has them: a folder with a text file an image, a line `class cx cy w h` a box, centre and size as shares of the
//! image's width and height.

use std::path::{Path, PathBuf};

use super::super::error::DataError;
use super::super::truth::{Categories, TrueBox, Truth};
use super::{Annotations, ImageFile, Stems, at_line, clipped, files, labels, names, text_of};

/// What a file of names in the folder itself is called.
const NAMES: &str = "classes.txt";

/// The boxes of a folder. An image without a file has no objects.
///
/// `named` is a file with a name a line or a YAML file with `names`; `classes.txt` in the folder is found without it. With names,
/// a class without one is an error.
pub(in super::super) fn read(
    folder: &Path,
    images: &[ImageFile],
    named: Option<&Path>,
) -> Result<Annotations, DataError> {
    let own_names = folder.join(NAMES);
    let named: Option<PathBuf> = match named {
        Some(file) => Some(file.to_owned()),
        None => own_names.is_file().then(|| own_names.clone()),
    };
    let categories = match &named {
        Some(file) => names(file)?,
        None => Categories::new(),
    };
    let stems = Stems::of(images)?;
    let mut boxes: Vec<Vec<TrueBox>> = vec![Vec::new(); images.len()];
    let mut found = 0;
    for file in files(folder, "txt")? {
        if file == own_names || named.as_ref() == Some(&file) {
            continue;
        }
        let at = stems.image(&file)?;
        let (Some(image), Some(place)) = (images.get(at), boxes.get_mut(at)) else {
            continue;
        };
        *place = lines(&file, image, named.as_deref(), &categories)?;
        found += 1;
    }
    if found == 0 {
        return Err(labels(
            folder,
            "no image has a label file: a file `NAME.txt` stands here for each image `NAME` with objects"
                .to_owned(),
        ));
    }
    Ok(Annotations {
        truths: boxes.into_iter().map(Truth::Boxes).collect(),
        categories,
    })
}

fn lines(
    file: &Path,
    image: &ImageFile,
    named: Option<&Path>,
    categories: &Categories,
) -> Result<Vec<TrueBox>, DataError> {
    let text = text_of(file)?;
    let mut boxes = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let wrong = |reason: String| at_line(file, line + 1, &reason);
        let fields: Vec<&str> = content.split_whitespace().collect();
        if fields.is_empty() {
            continue;
        }
        let [class, numbers @ ..] = fields.as_slice() else {
            continue;
        };
        let [cx, cy, width, height] = numbers else {
            return Err(wrong(format!(
                "{} fields; a box is `class cx cy w h`, outlines and keypoints are not read",
                fields.len()
            )));
        };
        let category: i64 = class
            .parse()
            .ok()
            .filter(|class| *class >= 0)
            .ok_or_else(|| wrong(format!("{class:?} is not a class number")))?;
        if let Some(named) = named.filter(|_| !categories.contains_key(&category)) {
            return Err(wrong(format!(
                "class {category} is none of the {} that {} names",
                categories.len(),
                named.display()
            )));
        }
        let number = |text: &str| -> Result<f64, DataError> {
            text.parse()
                .map_err(|_| wrong(format!("{text:?} is not a number")))
        };
        let (cx, width) = (number(cx)?, number(width)?);
        let (cy, height) = (number(cy)?, number(height)?);
        let (across, down) = (f64::from(image.width), f64::from(image.height));
        let rect = clipped(
            image,
            (cx - width / 2.0) * across,
            (cy - height / 2.0) * down,
            (cx + width / 2.0) * across,
            (cy + height / 2.0) * down,
        )
        .map_err(|error| {
            wrong(format!(
                "{error}; numbers are shares of the image's width and height, from 0 to 1"
            ))
        })?;
        let [_, _, width, height] = rect;
        boxes.push(TrueBox {
            category,
            rect,
            area: width * height,
            ..TrueBox::default()
        });
    }
    Ok(boxes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::image;
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn boxes_are_in_pixels_of_their_image() {
        let folder = folder(&[("b.txt", "1 0.5 0.5 0.5 0.25\n\n0 0.05 0.1 0.1 0.2\n")]);
        let images = [image("x/a.png", 10, 10), image("x/b.jpg", 200, 100)];
        let found = read(folder.path(), &images, None).unwrap();
        assert_eq!(found.truths[0], Truth::Boxes(Vec::new()));
        let Truth::Boxes(boxes) = &found.truths[1] else {
            panic!("no boxes")
        };
        assert_eq!((boxes[0].category, boxes[0].rect), (1, [50.0, 37.5, 100.0, 25.0]));
        assert_eq!((boxes[1].rect, boxes[1].area), ([0.0, 0.0, 20.0, 20.0], 400.0));
        assert!(found.categories.is_empty());
    }

    #[test]
    fn errors_name_file_line_and_cure() {
        let images = [image("a.png", 100, 100)];
        for (text, words) in [
            (
                "0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5",
                "line 2: class 2 is none of the 2",
            ),
            ("-1 0.5 0.5 0.5 0.5", "line 1: \"-1\" is not a class number"),
            ("0 0.5 0.5 0.5", "line 1: 4 fields"),
            ("0 0.5 x 0.5 0.5", "line 1: \"x\" is not a number"),
            ("0 50 50 20 20", "shares of the image's width and height"),
            ("0 0.5 0.5 0 0.5", "no area"),
        ] {
            let folder = folder(&[("a.txt", text), (NAMES, "cat\ndog\n")]);
            let error = read(folder.path(), &images, None).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(words) && said.contains("a.txt"), "{said}");
            assert_eq!(error.code(), "data-labels");
        }
    }

    #[test]
    fn a_folder_of_other_images_is_an_error() {
        let images = [image("a.png", 100, 100)];
        let error = read(folder(&[]).path(), &images, None).unwrap_err().to_string();
        assert!(error.contains("no image has a label file"), "{error}");
        let error = read(folder(&[("z.txt", "")]).path(), &images, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("z.txt") && error.contains("no image of this name"),
            "{error}"
        );
        let missing = read(Path::new("/nowhere/at/all"), &images, None).unwrap_err();
        assert_eq!(missing.code(), "data-read");
    }
}
