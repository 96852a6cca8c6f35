//! An image brought to the size of an input: resized, cropped or letterboxed, and where each of its pixels went.

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, Rgb, RgbImage};

use super::{Interpolation, Letterbox, Place, Preprocess, Resize};
use crate::data::Frame;

/// The steps that bring an image of one size to the input's size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FitPlan {
    /// Width and height after resizing.
    resized: [u32; 2],
    /// Left and top of what is cut out of that, with its width and height.
    crop: [u32; 4],
    /// Width and height of the canvas, and where on it the cut stands.
    canvas: [u32; 2],
    place: [u32; 2],
}

impl Preprocess {
    fn plan(&self, width: u32, height: u32) -> FitPlan {
        if let Some(letterbox) = &self.letterbox {
            return letterbox.plan(width, height);
        }
        let whole = |[w, h]: [u32; 2]| FitPlan {
            resized: [w, h],
            crop: [0, 0, w, h],
            canvas: [w, h],
            place: [0, 0],
        };
        if self.crop.is_some_and(|[h, w]| (h, w) == (height, width)) {
            return whole([width, height]);
        }
        let resized = match self.resize {
            None | Some(Resize::Input(_)) => [width, height],
            Some(Resize::Exact([h, w])) => [w, h],
            Some(Resize::Shortest(side)) => {
                let shortest = width.min(height).max(1);
                let scaled = |length: u32| {
                    let length = u64::from(length) * u64::from(side) / u64::from(shortest);
                    u32::try_from(length).unwrap_or(u32::MAX).max(1)
                };
                [scaled(width), scaled(height)]
            }
        };
        let [width, height] = resized;
        let Some([crop_height, crop_width]) = self.crop else {
            return whole(resized);
        };
        let x = width.saturating_sub(crop_width) / 2;
        let y = height.saturating_sub(crop_height) / 2;
        let kept = [crop_width.min(width), crop_height.min(height)];
        FitPlan {
            resized,
            crop: [x, y, kept[0], kept[1]],
            canvas: kept,
            place: [0, 0],
        }
    }

    /// How an image of this size becomes the input.
    pub fn frame(&self, width: u32, height: u32) -> Frame {
        let plan = self.plan(width, height);
        let scale = |to: u32, from: u32| f64::from(to) / f64::from(from.max(1));
        Frame {
            image: [width, height],
            input: plan.canvas,
            scale: [scale(plan.resized[0], width), scale(plan.resized[1], height)],
            offset: [
                f64::from(plan.place[0]) - f64::from(plan.crop[0]),
                f64::from(plan.place[1]) - f64::from(plan.crop[1]),
            ],
        }
    }

    /// An image at the size of the input.
    pub(super) fn fit(&self, image: &DynamicImage) -> DynamicImage {
        let (width, height) = image.dimensions();
        let plan = self.plan(width, height);
        let resized = if plan.resized == [width, height] {
            image.clone()
        } else {
            self.resized(image, plan.resized)
        };
        let [x, y, w, h] = plan.crop;
        let cut = if [x, y, w, h] == [0, 0, plan.resized[0], plan.resized[1]] {
            resized
        } else {
            resized.crop_imm(x, y, w, h)
        };
        match &self.letterbox {
            Some(letterbox) if plan.canvas != plan.resized => {
                let pad = letterbox.pad;
                let mut canvas = RgbImage::from_pixel(plan.canvas[0], plan.canvas[1], Rgb([pad; 3]));
                let [left, top] = plan.place.map(i64::from);
                image::imageops::replace(&mut canvas, &cut.to_rgb8(), left, top);
                DynamicImage::ImageRgb8(canvas)
            }
            _ => cut,
        }
    }

    fn resized(&self, image: &DynamicImage, [width, height]: [u32; 2]) -> DynamicImage {
        match self.interpolation {
            Interpolation::Antialias => image.resize_exact(width, height, FilterType::Triangle),
            Interpolation::Nearest => image.resize_exact(width, height, FilterType::Nearest),
            Interpolation::Bilinear => DynamicImage::ImageRgb8(bilinear(&image.to_rgb8(), width, height)),
        }
    }
}

impl Letterbox {
    fn plan(&self, width: u32, height: u32) -> FitPlan {
        let [target_height, target_width] = self.size();
        let factor = (f64::from(target_width) / f64::from(width.max(1)))
            .min(f64::from(target_height) / f64::from(height.max(1)));
        let factor = if self.upscale { factor } else { factor.min(1.0) };
        let scaled =
            |length: u32, most: u32| ((f64::from(length) * factor).round() as u32).clamp(1, most.max(1));
        let resized = [scaled(width, target_width), scaled(height, target_height)];
        let place = match self.place {
            Place::TopLeft => [0, 0],
            Place::Center => [
                (target_width.saturating_sub(resized[0])) / 2,
                (target_height.saturating_sub(resized[1])) / 2,
            ],
        };
        FitPlan {
            resized,
            crop: [0, 0, resized[0], resized[1]],
            canvas: [target_width, target_height],
            place,
        }
    }
}

/// Where along one axis each new pixel's centre falls between two old ones: the lower one, the upper one, and the share of the upper.
fn taps(old: u32, new: u32) -> Vec<(u32, u32, f64)> {
    let last = old.saturating_sub(1);
    let step = f64::from(old) / f64::from(new.max(1));
    (0..new)
        .map(|at| {
            let place = ((f64::from(at) + 0.5) * step - 0.5).clamp(0.0, f64::from(last));
            let low = place.floor();
            let first = low as u32;
            (first, (first + 1).min(last), place - low)
        })
        .collect()
}

/// Between the four nearest pixels, whatever the factor: what `cv2.INTER_LINEAR` and ONNX's Resize do with half-pixel centres.
fn bilinear(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (columns, rows) = (taps(image.width(), width), taps(image.height(), height));
    let mut result = RgbImage::new(width, height);
    for ((top, bottom, down), line) in rows.iter().zip(result.rows_mut()) {
        for ((left, right, across), pixel) in columns.iter().zip(line) {
            let corners = [
                image.get_pixel(*left, *top),
                image.get_pixel(*right, *top),
                image.get_pixel(*left, *bottom),
                image.get_pixel(*right, *bottom),
            ];
            let weights = [
                (1.0 - across) * (1.0 - down),
                across * (1.0 - down),
                (1.0 - across) * down,
                across * down,
            ];
            for (channel, value) in pixel.0.iter_mut().enumerate() {
                let sum: f64 = corners
                    .iter()
                    .zip(weights)
                    .map(|(corner, weight)| weight * f64::from(corner.0.get(channel).copied().unwrap_or(0)))
                    .sum();
                *value = sum.round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::{PreprocessFields, PreprocessSpec};
    use super::*;

    fn settled(yaml: &str) -> Preprocess {
        let fields: PreprocessFields = serde_yaml::from_str(yaml).unwrap();
        PreprocessSpec::Fields(fields).resolve().unwrap()
    }

    #[test]
    fn a_letterbox_keeps_the_aspect_and_its_frame_leads_back() {
        let centre = settled("{ letterbox: [416, 416], pad: 114 }");
        let frame = centre.frame(480, 320);
        assert_eq!((frame.input, frame.offset), ([416, 416], [0.0, 69.0]));
        // 480x320 by 416/480 is 416x277.3.
        assert_eq!(frame.scale, [416.0 / 480.0, 277.0 / 320.0]);
        let (x, y) = frame.to_image(416.0, 69.0 + 277.0);
        assert!((x - 480.0).abs() < 1e-12 && (y - 320.0).abs() < 1e-12);
        let corner = settled("{ letterbox: 416, place: top-left }");
        assert_eq!(corner.frame(480, 320).offset, [0.0, 0.0]);
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(480, 320, Rgb([7, 8, 9])));
        let boxed = centre.fit(&image).to_rgb8();
        assert_eq!(boxed.dimensions(), (416, 416));
        assert_eq!(
            (boxed.get_pixel(0, 68).0, boxed.get_pixel(0, 69).0),
            ([114; 3], [7, 8, 9])
        );
        assert_eq!(
            (boxed.get_pixel(415, 345).0, boxed.get_pixel(0, 346).0),
            ([7, 8, 9], [114; 3])
        );
    }

    #[test]
    fn small_images_grow_unless_told_not_to() {
        assert_eq!(settled("{ letterbox: 100 }").frame(50, 25).scale, [2.0, 2.0]);
        let frame = settled("{ letterbox: 100, upscale: false }").frame(50, 25);
        assert_eq!((frame.scale, frame.offset), ([1.0, 1.0], [25.0, 37.0]));
    }

    #[test]
    fn the_frame_of_a_crop_is_left_of_the_image() {
        let frame = settled("{ resize: 256, crop: [224, 224] }").frame(512, 256);
        assert_eq!((frame.input, frame.offset), ([224, 224], [-144.0, -16.0]));
    }

    #[test]
    fn bilinear_takes_the_four_nearest_pixels() {
        let image = RgbImage::from_fn(4, 1, |x, _| Rgb([(x * 60) as u8; 3]));
        // cv2.resize to half: centres at 0.5 and 2.5.
        let half = bilinear(&image, 2, 1);
        assert_eq!((half.get_pixel(0, 0).0[0], half.get_pixel(1, 0).0[0]), (30, 150));
        let double = bilinear(&image, 8, 1);
        assert_eq!(
            double.pixels().map(|p| p.0[0]).collect::<Vec<_>>(),
            [0, 15, 45, 75, 105, 135, 165, 180]
        );
    }
}
