//! Masks as image files: a folder with a PNG an image, found by the image's name, whose grey values or places in the palette are
//! class numbers. The palette's colours say nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Transformations};

use super::super::error::DataError;
use super::super::tasks::SegmentationOptions;
use super::super::truth::Mask;
use super::{ImageFile, Stems, files, labels, unreadable};

/// The file of each image's mask, in the images' order.
pub(in super::super) fn mask_files(folder: &Path, images: &[ImageFile]) -> Result<Vec<PathBuf>, DataError> {
    let stems = Stems::of(images)?;
    let mut found: Vec<Option<PathBuf>> = vec![None; images.len()];
    for file in files(folder, "png")? {
        let at = stems.image(&file)?;
        if let Some(place) = found.get_mut(at) {
            *place = Some(file);
        }
    }
    found
        .into_iter()
        .zip(images)
        .map(|(file, image)| {
            file.ok_or_else(|| {
                labels(
                    folder,
                    format!(
                        "there is no {}.png for the image {}: each image needs a mask",
                        super::stem(&image.path).unwrap_or_default(),
                        image.path.display()
                    ),
                )
            })
        })
        .collect()
}

/// The mask in a file, as classes.
pub(in super::super) fn mask(
    file: &Path,
    image: &ImageFile,
    options: &SegmentationOptions,
) -> Result<Mask, DataError> {
    let values = pixels(file, image)?;
    // The last pixel's value and class: neighbours are mostly alike.
    let mut last: Option<(u16, u16)> = None;
    let width = image.width.max(1) as usize;
    let mut classes = Vec::with_capacity(values.len());
    for (at, value) in values.into_iter().enumerate() {
        let class = match last {
            Some((known, class)) if known == value => class,
            _ => class_of(value, options).map_err(|error| {
                let (x, y) = (at % width, at / width);
                labels(file, format!("row {}, column {}: {error}", y + 1, x + 1))
            })?,
        };
        last = Some((value, class));
        classes.push(class);
    }
    Ok(Mask {
        width: image.width,
        height: image.height,
        classes,
    })
}

/// What is wrong with the value of a pixel.
#[derive(Debug, PartialEq, thiserror::Error)]
enum ClassError {
    #[error("the value {0} is not in `map`: name its class, or -1 where it does not count")]
    Unmapped(u16),
    #[error("class {class} is none of the {names} that `names` has; `ignore` or `map` leave a value out")]
    Unnamed { class: u16, names: usize },
    #[error("{0} is not a class number; they are from 0 to {last}", last = Mask::IGNORED - 1)]
    NotAClass(i32),
}

/// The class of a pixel's value.
fn class_of(value: u16, options: &SegmentationOptions) -> Result<u16, ClassError> {
    if value == options.ignore {
        return Ok(Mask::IGNORED);
    }
    let class = if options.map.is_empty() {
        i32::from(value)
    } else {
        *options.map.get(&value).ok_or(ClassError::Unmapped(value))?
    };
    match u16::try_from(class) {
        _ if class == -1 => Ok(Mask::IGNORED),
        Ok(class) if class != Mask::IGNORED => match options.names.len() {
            0 => Ok(class),
            names if usize::from(class) < names => Ok(class),
            names => Err(ClassError::Unnamed { class, names }),
        },
        _ => Err(ClassError::NotAClass(class)),
    }
}

/// The values of the pixels as they are stored, row by row; of a file of the image's size only, which bounds what is decoded.
fn pixels(file: &Path, image: &ImageFile) -> Result<Vec<u16>, DataError> {
    let broken = |reason: String| DataError::Image {
        file: file.to_owned(),
        reason,
    };
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    let mut decoder = png::Decoder::new(BufReader::new(opened));
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|error| broken(error.to_string()))?;
    let (color, depth) = reader.output_color_type();
    if !matches!(color, ColorType::Grayscale | ColorType::Indexed) {
        return Err(labels(
            file,
            "the mask is a colour image; class numbers are stored as grey values or by a palette".to_owned(),
        ));
    }
    let (width, height) = (reader.info().width, reader.info().height);
    if (width, height) != (image.width, image.height) {
        return Err(labels(
            file,
            format!(
                "the mask is {width} x {height} pixels, its image {} is {} x {}: save it at the image's size, without \
                 interpolating",
                image.path.display(),
                image.width,
                image.height
            ),
        ));
    }
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| broken(format!("{width} x {height} pixels are too many")))?;
    let mut bytes = vec![0; size];
    reader
        .next_frame(&mut bytes)
        .map_err(|error| broken(error.to_string()))?;
    let line = reader
        .output_line_size(width)
        .filter(|line| *line > 0)
        .ok_or_else(|| broken("a row has no bytes".to_owned()))?;
    let mut values = Vec::with_capacity(width as usize * height as usize);
    for row in bytes.chunks(line).take(height as usize) {
        unpack(row, depth, width as usize, &mut values);
    }
    Ok(values)
}

/// The samples of a row; those of less than a byte come from its high bits first (PNG specification, section 7.2).
fn unpack(row: &[u8], depth: BitDepth, width: usize, values: &mut Vec<u16>) {
    let end = values.len() + width;
    match depth {
        BitDepth::Sixteen => {
            values.extend(row.chunks_exact(2).filter_map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            }));
        }
        BitDepth::Eight => values.extend(row.iter().map(|byte| u16::from(*byte))),
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            let bits = depth as usize;
            let keep = (1u16 << bits) - 1;
            for byte in row {
                let places = (0..8 / bits).map(|at| (u16::from(*byte) >> (8 - bits * (at + 1))) & keep);
                values.extend(places);
            }
        }
    }
    values.truncate(end);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Annotations;
    use super::super::tests::image;
    use super::*;
    use crate::data::{Categories, Truth};

    /// The masks of a folder, all of them decoded.
    fn read(
        folder: &Path,
        images: &[ImageFile],
        options: &SegmentationOptions,
    ) -> Result<Annotations, DataError> {
        let truths = mask_files(folder, images)?
            .iter()
            .zip(images)
            .map(|(file, image)| Ok(Truth::Mask(mask(file, image, options)?)))
            .collect::<Result<_, DataError>>()?;
        let categories: Categories = (0..).zip(options.names.iter().cloned()).collect();
        Ok(Annotations { truths, categories })
    }

    fn write(file: &Path, size: [u32; 2], color: ColorType, depth: BitDepth, bytes: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(file).unwrap(), size[0], size[1]);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            // Two places of the same colour are two classes.
            encoder.set_palette(vec![9u8; 3 * 16]);
        }
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    }

    fn classes(color: ColorType, depth: BitDepth, bytes: &[u8]) -> Vec<u16> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        write(&file, [3, 2], color, depth, bytes);
        mask(&file, &image("a.jpg", 3, 2), &SegmentationOptions::default())
            .unwrap()
            .classes
    }

    #[test]
    fn values_are_classes_whatever_their_depth() {
        let none = Mask::IGNORED;
        assert_eq!(
            classes(ColorType::Grayscale, BitDepth::Eight, &[0, 1, 2, 3, 255, 5]),
            [0, 1, 2, 3, none, 5]
        );
        assert_eq!(
            classes(
                ColorType::Grayscale,
                BitDepth::Sixteen,
                &[1, 0, 0, 1, 0, 2, 0, 3, 0, 255, 2, 0]
            ),
            [256, 1, 2, 3, none, 512]
        );
        assert_eq!(
            classes(ColorType::Indexed, BitDepth::Four, &[0x12, 0x30, 0x45, 0x60]),
            [1, 2, 3, 4, 5, 6]
        );
        assert_eq!(
            classes(ColorType::Indexed, BitDepth::Two, &[0b0001_1000, 0b1101_0000]),
            [0, 1, 2, 3, 1, 0]
        );
        assert_eq!(
            classes(ColorType::Grayscale, BitDepth::One, &[0b1010_0000, 0b0110_0000]),
            [1, 0, 1, 0, 1, 1]
        );
    }

    #[test]
    fn values_are_mapped_and_must_be_named() {
        let options = SegmentationOptions {
            ignore: 0,
            map: BTreeMap::from([(7, 1), (8, -1), (9, 2), (10, -2)]),
            names: vec!["a".to_owned(), "b".to_owned()],
            ..SegmentationOptions::default()
        };
        assert_eq!(class_of(7, &options), Ok(1));
        assert_eq!(class_of(8, &options), Ok(Mask::IGNORED));
        assert_eq!(class_of(0, &options), Ok(Mask::IGNORED));
        assert_eq!(class_of(1, &options), Err(ClassError::Unmapped(1)));
        assert_eq!(
            class_of(9, &options),
            Err(ClassError::Unnamed { class: 2, names: 2 })
        );
        assert!(matches!(class_of(10, &options), Err(ClassError::NotAClass(_))));
        assert!(class_of(Mask::IGNORED, &SegmentationOptions::default()).is_err());
    }

    #[test]
    fn errors_name_the_file_and_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let options = SegmentationOptions::default();
        let file = folder.path().join("a.png");
        write(&file, [3, 2], ColorType::Grayscale, BitDepth::Eight, &[0; 6]);
        let images = [image("a.jpg", 2, 3)];
        let error = read(folder.path(), &images, &options).unwrap_err().to_string();
        assert!(
            error.contains("a.png") && error.contains("3 x 2") && error.contains("2 x 3"),
            "{error}"
        );
        let both = [image("a.jpg", 3, 2), image("b.jpg", 3, 2)];
        let error = read(folder.path(), &both, &options).unwrap_err().to_string();
        assert!(error.contains("no b.png"), "{error}");
        let named = SegmentationOptions {
            map: BTreeMap::from([(3, 0)]),
            ..SegmentationOptions::default()
        };
        let error = read(folder.path(), &both[..1], &named).unwrap_err().to_string();
        assert!(error.contains("row 1, column 1: the value 0"), "{error}");
        write(&file, [3, 2], ColorType::Rgb, BitDepth::Eight, &[0; 18]);
        let error = read(folder.path(), &both[..1], &options).unwrap_err().to_string();
        assert!(error.contains("colour image"), "{error}");
        std::fs::write(&file, b"\x89PNG broken").unwrap();
        assert_eq!(
            read(folder.path(), &both[..1], &options).unwrap_err().code(),
            "data-image"
        );
    }
}
