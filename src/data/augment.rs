//! Images varied at random, for training: each sample in a new way in each epoch, the same way in every run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::SpecError;
use super::preprocess::Layout;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor, TensorError};

/// Random variations of images, made of the values that the model gets, after preprocessing. Only training sees them; a class stays what
/// it was, while targets with a place in the image would not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Augment {
    /// Whether every other image is mirrored from left to right.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub flip: bool,
    /// A part of the image with at least this share of its area, with sides in a ratio of 3/4 to 4/3, is stretched to the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<f64>,
    /// The image is moved by up to this many pixels in each direction; what comes into view is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<u32>,
    /// A number of up to this many standard deviations of the image is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f64>,
    /// Distances from the image's mean are multiplied by 1 plus or minus up to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f64>,
    /// Order of the axes of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// Trials of a part of the image before the whole is taken.
const TRIALS: usize = 10;

/// What happens to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Draw {
    flip: bool,
    /// Top, left, height and width of the part, as shares of the image.
    part: [f64; 4],
    /// Down and to the right.
    shift: [i64; 2],
    brightness: f64,
    contrast: f64,
}

impl Augment {
    /// What is wrong with the numbers.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let fields = [
            ("crop", self.crop),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
        ];
        for (field, value) in fields {
            let Some(value) = value else { continue };
            let least_is_allowed = field != "crop" || value > 0.0;
            if !(0.0..=1.0).contains(&value) || !least_is_allowed {
                return Err(SpecError::OutOfRange { field, value });
            }
        }
        Ok(())
    }

    fn draw(&self, seed: u64, epoch: u64, sample: u64) -> Draw {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.set_stream(sample);
        let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let flip = unit() < 0.5 && self.flip;
        let part = self
            .crop
            .map_or([0.0, 0.0, 1.0, 1.0], |least| part(least, &mut unit));
        let mut around = |most: f64| most * (2.0 * unit() - 1.0);
        let most = self.shift.map_or(0.0, f64::from);
        let shift = [around(most + 0.5), around(most + 0.5)].map(|by| by.round().clamp(-most, most) as i64);
        Draw {
            flip,
            part,
            shift,
            brightness: around(self.brightness.unwrap_or(0.0)),
            contrast: 1.0 + around(self.contrast.unwrap_or(0.0)),
        }
    }

    /// Makes the images among the inputs what their samples have in this epoch. Answers whether there are any.
    pub(super) fn apply(
        &self,
        inputs: &mut RunValues,
        samples: &[u64],
        (seed, epoch): (u64, u64),
    ) -> Result<bool, TensorError> {
        let mut found = false;
        for value in inputs.values_mut() {
            let RunValue::Tensor(tensor) = value else { continue };
            if tensor.rank() == 4 && tensor.dtype() == DType::F32 {
                *tensor = self.varied(tensor, samples, (seed, epoch))?;
                found = true;
            }
        }
        Ok(found)
    }

    fn varied(
        &self,
        tensor: &Tensor,
        samples: &[u64],
        (seed, epoch): (u64, u64),
    ) -> Result<Tensor, TensorError> {
        let dims = tensor.dims().to_vec();
        let at = |axis: usize| dims.get(axis).copied().unwrap_or(1) as usize;
        let planar = self.layout.unwrap_or_default() == Layout::Nchw;
        let form = match planar {
            true => Form {
                channels: at(1),
                rows: at(2),
                columns: at(3),
                strides: [at(2) * at(3), at(3), 1],
            },
            false => Form {
                channels: at(3),
                rows: at(1),
                columns: at(2),
                strides: [1, at(2) * at(3), at(3)],
            },
        };
        let values = tensor.view::<f32>()?;
        let size = form.channels * form.rows * form.columns;
        let mut result = values.to_vec();
        // A batch that is filled up goes on with the last sample.
        let last = samples.last().copied().unwrap_or_default();
        let images = values
            .chunks_exact(size.max(1))
            .zip(result.chunks_exact_mut(size.max(1)));
        for (index, (image, into)) in images.enumerate() {
            let sample = samples.get(index).copied().unwrap_or(last);
            form.vary(image, into, self.draw(seed, epoch, sample));
        }
        Tensor::from_slice(&dims, &result)
    }
}

/// A part of the image that has at least the share `least` of its area.
fn part(least: f64, unit: &mut impl FnMut() -> f64) -> [f64; 4] {
    for _ in 0..TRIALS {
        let area = least + (1.0 - least) * unit();
        let ratio = ((2.0 * unit() - 1.0) * (4.0f64 / 3.0).ln()).exp();
        let (height, width) = ((area / ratio).sqrt(), (area * ratio).sqrt());
        let (down, right) = (unit(), unit());
        if height <= 1.0 && width <= 1.0 {
            return [down * (1.0 - height), right * (1.0 - width), height, width];
        }
    }
    [0.0, 0.0, 1.0, 1.0]
}

/// How an image lies in memory.
#[derive(Clone, Copy, Debug)]
struct Form {
    channels: usize,
    rows: usize,
    columns: usize,
    /// Of channels, rows and columns.
    strides: [usize; 3],
}

/// Two old pixels along an axis, the share of the second, and whether the place is inside the image.
type Tap = (usize, usize, f32, bool);

impl Form {
    fn vary(&self, image: &[f32], into: &mut [f32], draw: Draw) {
        let [top, left, height, width] = draw.part;
        let rows = taps(self.rows, top, height, draw.shift[0], false);
        let columns = taps(self.columns, left, width, draw.shift[1], draw.flip);
        let count = image.len().max(1) as f64;
        let mean = image.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let square = image
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(2))
            .sum::<f64>()
            / count;
        let add = (draw.brightness * square.sqrt() + mean * (1.0 - draw.contrast)) as f32;
        let factor = draw.contrast as f32;
        let [channel, row, column] = self.strides;
        for c in 0..self.channels {
            let pixel = |r: usize, x: usize| {
                image
                    .get(c * channel + r * row + x * column)
                    .copied()
                    .unwrap_or(0.0)
            };
            for (r, (above, below, down, inside)) in rows.iter().enumerate() {
                for (x, (before, after, across, visible)) in columns.iter().enumerate() {
                    let Some(value) = into.get_mut(c * channel + r * row + x * column) else {
                        continue;
                    };
                    if !(*inside && *visible) {
                        *value = 0.0;
                        continue;
                    }
                    let line = |r: usize| pixel(r, *before) * (1.0 - across) + pixel(r, *after) * across;
                    let old = line(*above) * (1.0 - down) + line(*below) * down;
                    *value = factor * old + add;
                }
            }
        }
    }
}

/// For each new place along an axis of `size` pixels: the old pixels that it lies between.
fn taps(size: usize, from: f64, share: f64, shift: i64, mirrored: bool) -> Vec<Tap> {
    let last = size.saturating_sub(1);
    (0..size)
        .map(|at| {
            let moved = at as i64 - shift;
            let inside = (0..size as i64).contains(&moved);
            let moved = if mirrored { last as i64 - moved } else { moved };
            let place = (from * size as f64 + (moved as f64 + 0.5) * share - 0.5).clamp(0.0, last as f64);
            let low = place.floor();
            let first = low as usize;
            (first, (first + 1).min(last), (place - low) as f32, inside)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(dims: [u64; 4]) -> Tensor {
        let count = dims.iter().product::<u64>();
        let values: Vec<f32> = (0..count).map(|at| at as f32).collect();
        Tensor::from_slice(&dims, &values).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_f32().unwrap().into_owned()
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let image = images([2, 3, 5, 4]);
        let same = Augment::default().varied(&image, &[0, 1], (3, 4)).unwrap();
        assert_eq!(values(&same), values(&image));
    }

    #[test]
    fn mirrored_images_are_mirrored_in_either_layout() {
        let flip = Augment {
            flip: true,
            ..Augment::default()
        };
        let mirrored = (0..64).find(|sample| flip.draw(1, 0, *sample).flip).unwrap();
        let kept = (0..64).find(|sample| !flip.draw(1, 0, *sample).flip).unwrap();
        let image = images([2, 1, 1, 3]);
        let found = flip.varied(&image, &[mirrored, kept], (1, 0)).unwrap();
        assert_eq!(values(&found), [2.0, 1.0, 0.0, 3.0, 4.0, 5.0]);
        let last = Augment {
            layout: Some(Layout::Nhwc),
            ..flip
        };
        let found = last.varied(&images([1, 1, 2, 2]), &[mirrored], (1, 0)).unwrap();
        assert_eq!(values(&found), [2.0, 3.0, 0.0, 1.0]);
    }

    #[test]
    fn shifts_bring_zeros_into_view_and_stay_within_bounds() {
        let shift = Augment {
            shift: Some(1),
            ..Augment::default()
        };
        let draws: Vec<[i64; 2]> = (0..200).map(|sample| shift.draw(0, 0, sample).shift).collect();
        for by in -1..=1 {
            assert!(draws.iter().filter(|draw| draw[0] == by).count() > 40);
        }
        let right = (0..200).find(|sample| draws[*sample as usize] == [0, 1]).unwrap();
        let found = shift.varied(&images([1, 1, 1, 3]), &[right], (0, 0)).unwrap();
        assert_eq!(values(&found), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn parts_have_their_area_and_each_epoch_draws_anew() {
        let crop = Augment {
            crop: Some(0.3),
            ..Augment::default()
        };
        for sample in 0..200 {
            let [top, left, height, width] = crop.draw(5, 2, sample).part;
            assert!(top >= 0.0 && left >= 0.0 && top + height <= 1.0 + 1e-12 && left + width <= 1.0 + 1e-12);
            assert!(height * width >= 0.3 - 1e-12);
        }
        assert_eq!(crop.draw(5, 2, 7), crop.draw(5, 2, 7));
        assert_ne!(crop.draw(5, 2, 7), crop.draw(5, 3, 7));
        // The middle half of a ramp, stretched to the whole, is a ramp of half the slope.
        let form = Form {
            channels: 1,
            rows: 1,
            columns: 8,
            strides: [8, 8, 1],
        };
        let ramp: Vec<f32> = (0..8).map(|at| at as f32).collect();
        let mut found = vec![0.0; 8];
        let draw = Draw {
            part: [0.0, 0.25, 1.0, 0.5],
            ..crop.draw(0, 0, 0)
        };
        form.vary(&ramp, &mut found, draw);
        let expected: Vec<f32> = (0..8).map(|at| 2.0 + (at as f32 + 0.5) * 0.5 - 0.5).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn contrast_and_brightness_are_about_the_mean() {
        let colour = Augment {
            brightness: Some(0.5),
            contrast: Some(0.5),
            ..Augment::default()
        };
        let draw = colour.draw(0, 0, 1);
        let image = images([1, 1, 2, 2]);
        let found = values(&colour.varied(&image, &[1], (0, 0)).unwrap());
        let deviation = 1.25f64.sqrt();
        for (value, found) in values(&image).iter().zip(&found) {
            let expected = 1.5 + draw.contrast * (f64::from(*value) - 1.5) + draw.brightness * deviation;
            assert!((expected - f64::from(*found)).abs() < 1e-5);
        }
    }

    #[test]
    fn numbers_out_of_range_and_inputs_that_are_no_images_are_refused() {
        for wrong in [
            Augment {
                crop: Some(0.0),
                ..Augment::default()
            },
            Augment {
                crop: Some(1.5),
                ..Augment::default()
            },
            Augment {
                contrast: Some(-0.1),
                ..Augment::default()
            },
        ] {
            assert!(wrong.check().is_err());
        }
        let mut inputs = RunValues::from([("x".to_owned(), RunValue::Tensor(Tensor::vector_i64(&[1])))]);
        assert!(!Augment::default().apply(&mut inputs, &[0], (0, 0)).unwrap());
    }
}
