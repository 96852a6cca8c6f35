//! Boxes and keypoints of a COCO JSON file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::{Annotations, ImageFile};
use crate::data::{Categories, DataError, TrueBox, Truth};

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    width: Option<u32>,
    #[serde(default)]
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    id: Option<i64>,
    image_id: i64,
    category_id: i64,
    bbox: Option<[f64; 4]>,
    #[serde(default)]
    area: Option<f64>,
    #[serde(default)]
    iscrowd: i64,
    #[serde(default)]
    keypoints: Vec<f64>,
    #[serde(default)]
    num_keypoints: Option<u64>,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    #[serde(default)]
    name: String,
}

/// An image of the file.
#[derive(Clone, Debug)]
pub(in crate::data) struct Listed {
    /// Its file's name, which may hold folders.
    pub(in crate::data) name: String,
    /// Width and height, where the file says them.
    pub(in crate::data) size: Option<[u32; 2]>,
}

/// The images of a COCO file by ascending id with what is true of them.
pub(in crate::data) struct Coco {
    pub(in crate::data) images: Vec<Listed>,
    pub(in crate::data) truths: Vec<Truth>,
    pub(in crate::data) categories: Categories,
}

/// Pixels by which a box may leave its image: what rounding leaves.
const SLACK: f64 = 1.0;

impl Coco {
    /// `of_keypoints`: whether keypoints are judged, and objects without any left out.
    pub(in crate::data) fn read(path: &Path, of_keypoints: bool) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::Labels {
            file: path.to_owned(),
            reason,
        };
        let text = crate::files::read_text(path).map_err(|e| DataError::Read {
            file: path.to_owned(),
            reason: e.to_string(),
        })?;
        let file: File = serde_json::from_str(&text).map_err(|e| {
            wrong(format!(
                "line {}, column {}: {e}; labels of boxes are a COCO file with `images`, `annotations` and `categories`",
                e.line(),
                e.column()
            ))
        })?;
        let categories: Categories = file
            .categories
            .into_iter()
            .map(|category| (category.id, category.name))
            .collect();
        let mut images: BTreeMap<i64, (Listed, Vec<TrueBox>)> = BTreeMap::new();
        for image in file.images {
            let listed = Listed {
                name: image.file_name,
                size: image.width.zip(image.height).map(|(w, h)| [w, h]),
            };
            if images.insert(image.id, (listed, Vec::new())).is_some() {
                return Err(wrong(format!("two images have the id {}", image.id)));
            }
        }
        let mut seen = HashSet::new();
        for (at, annotation) in file.annotations.into_iter().enumerate() {
            let which = match annotation.id {
                Some(id) => format!("annotation {id}"),
                None => format!("annotation at place {at}"),
            };
            if annotation.id.is_some_and(|id| !seen.insert(id)) {
                return Err(wrong(format!("{which} is there twice")));
            }
            if !categories.is_empty() && !categories.contains_key(&annotation.category_id) {
                let (first, last) = (categories.keys().next(), categories.keys().next_back());
                return Err(wrong(format!(
                    "{which} is of category {}, which `categories` does not have (they are {} to {})",
                    annotation.category_id,
                    first.copied().unwrap_or(0),
                    last.copied().unwrap_or(0)
                )));
            }
            let Some((image, boxes)) = images.get_mut(&annotation.image_id) else {
                return Err(wrong(format!(
                    "{which} is of image {}, which `images` does not have",
                    annotation.image_id
                )));
            };
            boxes.push(
                object(&annotation, image.size, of_keypoints)
                    .map_err(|error| wrong(format!("{which}: {error}")))?,
            );
        }
        let categories = match categories.is_empty() {
            true => images
                .values()
                .flat_map(|(_, boxes)| boxes.iter().map(|object| (object.category, String::new())))
                .collect(),
            false => categories,
        };
        let (images, truths) = images
            .into_values()
            .map(|(image, boxes)| (image, Truth::Boxes(boxes)))
            .unzip();
        Ok(Self {
            images,
            truths,
            categories,
        })
    }

    /// What is true of each of `files`, found by name.
    pub(in crate::data) fn of_images(
        self,
        path: &Path,
        files: &[ImageFile],
    ) -> Result<Annotations, DataError> {
        let wrong = |reason: String| DataError::Labels {
            file: path.to_owned(),
            reason,
        };
        let end = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned();
        let mut by_name: HashMap<String, (Option<[u32; 2]>, Truth)> = self
            .images
            .into_iter()
            .zip(self.truths)
            .map(|(image, truth)| (end(&image.name), (image.size, truth)))
            .collect();
        let mut truths = Vec::with_capacity(files.len());
        for file in files {
            let name = file
                .path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let Some((size, truth)) = by_name.remove(name) else {
                return Err(wrong(format!(
                    "image {name} is not among its `images`; take it out of the folder, or name the labels that belong to it"
                )));
            };
            if let Some([width, height]) = size.filter(|size| *size != [file.width, file.height]) {
                return Err(wrong(format!(
                    "image {name} is {width}x{height} there, the file is {}x{}: its boxes do not fit",
                    file.width, file.height
                )));
            }
            truths.push(truth);
        }
        Ok(Annotations {
            truths,
            categories: self.categories,
        })
    }
}

/// What is wrong with an annotation.
#[derive(Debug, thiserror::Error)]
enum ObjectError {
    #[error("keypoints are x, y, v for each")]
    Keypoints,
    #[error("it has no `bbox`")]
    NoBox,
    #[error("{0:?} is not a box [left, top, width, height]")]
    NotABox([f64; 4]),
    #[error("box {rect:?} is not inside its image of {width}x{height}")]
    Outside { rect: [f64; 4], width: f64, height: f64 },
}

fn object(
    annotation: &Annotation,
    size: Option<[u32; 2]>,
    of_keypoints: bool,
) -> Result<TrueBox, ObjectError> {
    let keypoints: Vec<[f64; 3]> = annotation
        .keypoints
        .chunks(3)
        .map(|values| <[f64; 3]>::try_from(values).map_err(|_| ObjectError::Keypoints))
        .collect::<Result<_, _>>()?;
    let rect = annotation.bbox.ok_or(ObjectError::NoBox)?;
    let [left, top, width, height] = rect;
    if rect.iter().any(|v| !v.is_finite()) || width < 0.0 || height < 0.0 {
        return Err(ObjectError::NotABox(rect));
    }
    if let Some([w, h]) = size {
        let (w, h) = (f64::from(w), f64::from(h));
        if left < -SLACK || top < -SLACK || left + width > w + SLACK || top + height > h + SLACK {
            return Err(ObjectError::Outside {
                rect,
                width: w,
                height: h,
            });
        }
    }
    Ok(TrueBox {
        category: annotation.category_id,
        rect,
        area: annotation.area.unwrap_or(width * height),
        crowd: annotation.iscrowd != 0,
        // The challenge's own evaluation heeds this alone, and no field `ignore`.
        ignore: of_keypoints && annotation.num_keypoints == Some(0),
        keypoints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Coco, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.json");
        std::fs::write(&path, json).unwrap();
        Coco::read(&path, false)
    }

    #[test]
    fn images_stand_by_id_and_boxes_with_them() {
        let coco = read(
            r#"{"images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "x/a.jpg", "width": 10, "height": 20}],
               "annotations": [{"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
               "categories": [{"id": 5, "name": "cat"}]}"#,
        )
        .unwrap();
        assert_eq!(coco.images[0].size, Some([10, 20]));
        let Truth::Boxes(boxes) = &coco.truths[0] else {
            panic!()
        };
        assert!(boxes[0].crowd && boxes[0].area == 12.0);
        assert_eq!(coco.truths[1], Truth::Boxes(Vec::new()));
        let file = |name: &str, width| ImageFile {
            path: name.into(),
            width,
            height: 20,
        };
        let path = Path::new("l.json");
        let found = coco.of_images(path, &[file("f/a.jpg", 10)]).unwrap();
        assert_eq!(found.truths.len(), 1);
    }

    #[test]
    fn each_defect_is_named() {
        let images = r#""images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}]"#;
        let one = |annotation: &str| {
            format!(
                r#"{{{images}, "annotations": [{annotation}], "categories": [{{"id": 0, "name": "n"}}]}}"#
            )
        };
        for (json, part) in [
            ("{".to_owned(), "line 1"),
            (
                one(r#"{"id": 4, "image_id": 1, "category_id": 9, "bbox": [0,0,1,1]}"#),
                "annotation 4 is of category 9",
            ),
            (
                one(r#"{"id": 4, "image_id": 2, "category_id": 0, "bbox": [0,0,1,1]}"#),
                "image 2",
            ),
            (
                one(r#"{"id": 4, "image_id": 1, "category_id": 0, "bbox": [0,0,1,19]}"#),
                "not inside",
            ),
            (
                one(r#"{"id": 4, "image_id": 1, "category_id": 0, "bbox": [0,0,-1,1]}"#),
                "not a box",
            ),
            (one(r#"{"id": 4, "image_id": 1, "category_id": 0}"#), "no `bbox`"),
        ] {
            let error = read(&json).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
