//! From pixels to input values, declared: `value = (pixel * scale - mean[c]) / std[c]`, computed in `f64` and rounded once to
//! the input's element type.

use std::fmt;

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

/// How a description says it: a preset's name, or fields that may start from a preset.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PreprocessSpec {
    /// A preset as it is.
    Preset(Preset),
    /// Fields; those left out come from the preset, if one is named.
    Fields(PreprocessFields),
}

/// Preprocessing that many models share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// RGB, shortest side to 256 and the centre 224x224, `(p/255 - mean) / std` with ImageNet's statistics, `[N, C, H, W]`.
    Torchvision,
    /// RGB, shortest side to 256 and the centre 224x224, `(p - 127) / 128`, `[N, C, H, W]`.
    EfficientnetLite,
    /// Grey, `(p/255 - 0.1307) / 0.3081`, `[N, C, H, W]`.
    Mnist,
}

/// The fields of preprocessing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PreprocessFields {
    /// Where fields that are left out come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// `256`: the shortest side becomes 256 pixels; `[224, 256]`: height and width. Bilinear with antialiasing. An image that
    /// already has the size of the crop is left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Height and width of the centre to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[u32; 2]>,
    /// Channels and their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// Factor on each pixel value; 1/255 brings 8-bit values to [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Subtracted after scaling: one number, or one a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// Divided by, after subtracting: one number, or one a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Order of the axes of the model's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// A target size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Resize {
    /// The shortest side, in pixels; the other keeps the aspect.
    Shortest(u32),
    /// Height and width, in pixels.
    Exact([u32; 2]),
}

/// Channels of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luminance.
    Gray,
}

/// Order of the axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[N, C, H, W]`.
    #[default]
    Nchw,
    /// `[N, H, W, C]`.
    Nhwc,
}

/// Preprocessing with every field settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Target size before the crop.
    pub resize: Option<Resize>,
    /// Height and width of the centre to keep.
    pub crop: Option<[u32; 2]>,
    /// Channels and their order.
    pub color: Color,
    /// Factor on each pixel.
    pub scale: f64,
    /// Subtracted; one entry or one a channel.
    pub mean: Vec<f64>,
    /// Divided by; one entry or one a channel.
    pub std: Vec<f64>,
    /// Order of the axes.
    pub layout: Layout,
}

impl<'de> Deserialize<'de> for PreprocessSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = PreprocessSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a preset (torchvision, efficientnet-lite, mnist) or a map of preprocessing fields",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PreprocessSpec, E> {
                Preset::deserialize(serde::de::value::StrDeserializer::new(text)).map(PreprocessSpec::Preset)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<PreprocessSpec, A::Error> {
                PreprocessFields::deserialize(MapAccessDeserializer::new(map)).map(PreprocessSpec::Fields)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Preset {
    fn fields(self) -> Preprocess {
        let imagenet = |scale: f64, mean: &[f64], std: &[f64]| Preprocess {
            resize: Some(Resize::Shortest(256)),
            crop: Some([224, 224]),
            color: Color::Rgb,
            scale,
            mean: mean.to_vec(),
            std: std.to_vec(),
            layout: Layout::Nchw,
        };
        match self {
            Self::Torchvision => imagenet(1.0 / 255.0, &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
            Self::EfficientnetLite => imagenet(1.0, &[127.0], &[128.0]),
            Self::Mnist => Preprocess {
                resize: None,
                crop: None,
                color: Color::Gray,
                scale: 1.0 / 255.0,
                mean: vec![0.1307],
                std: vec![0.3081],
                layout: Layout::Nchw,
            },
        }
    }
}

impl PreprocessSpec {
    /// The preset with this name.
    pub fn preset(name: &str) -> Result<Self, String> {
        Preset::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
            name,
        ))
        .map(Self::Preset)
        .map_err(|_| {
            format!("unknown preprocessing {name:?}; there are torchvision, efficientnet-lite, mnist")
        })
    }

    /// Every field settled; an error says which are not possible together.
    pub fn resolve(&self) -> Result<Preprocess, String> {
        let fields = match self {
            Self::Preset(preset) => return Ok(preset.fields()),
            Self::Fields(fields) => fields,
        };
        let start = fields.preset.map_or(
            Preprocess {
                resize: None,
                crop: None,
                color: Color::Rgb,
                scale: 1.0,
                mean: vec![0.0],
                std: vec![1.0],
                layout: Layout::Nchw,
            },
            Preset::fields,
        );
        let settled = Preprocess {
            resize: fields.resize.or(start.resize),
            crop: fields.crop.or(start.crop),
            color: fields.color.unwrap_or(start.color),
            scale: fields.scale.unwrap_or(start.scale),
            mean: fields.mean.clone().unwrap_or(start.mean),
            std: fields.std.clone().unwrap_or(start.std),
            layout: fields.layout.unwrap_or(start.layout),
        };
        let channels = settled.channels();
        for (name, list) in [("mean", &settled.mean), ("std", &settled.std)] {
            if list.len() != 1 && list.len() != channels {
                return Err(format!(
                    "{name} has {} numbers; 1 or {channels} are possible",
                    list.len()
                ));
            }
        }
        if settled.std.iter().any(|s| *s == 0.0 || !s.is_finite()) {
            return Err("std must be finite and not zero".to_owned());
        }
        Ok(settled)
    }
}

impl Preprocess {
    /// Channels of the result.
    pub fn channels(&self) -> usize {
        if self.color == Color::Gray { 1 } else { 3 }
    }

    /// The value of a pixel of channel `channel`.
    pub fn value(&self, pixel: f64, channel: usize) -> f64 {
        let at = |list: &[f64]| list.get(channel).or(list.first()).copied().unwrap_or(0.0);
        (pixel * self.scale - at(&self.mean)) / at(&self.std)
    }

    /// Dimensions of one image of this height and width, without the batch axis.
    pub fn dims(&self, height: u32, width: u32) -> Vec<u64> {
        let (c, h, w) = (self.channels() as u64, u64::from(height), u64::from(width));
        match self.layout {
            Layout::Nchw => vec![c, h, w],
            Layout::Nhwc => vec![h, w, c],
        }
    }

    /// An image as values, with its dimensions without the batch axis.
    pub fn image(&self, image: &DynamicImage) -> (Vec<u64>, Vec<f64>) {
        let image = self.fit(image);
        let (width, height) = image.dimensions();
        let pixels: Vec<u8> = match self.color {
            Color::Gray => image.to_luma8().into_raw(),
            Color::Rgb | Color::Bgr => image.to_rgb8().into_raw(),
        };
        let channels = self.channels();
        let area = height as usize * width as usize;
        let source = |channel: usize| {
            if self.color == Color::Bgr {
                2 - channel
            } else {
                channel
            }
        };
        // At most 256 values a channel: a table spares the division for each pixel.
        let table: Vec<Vec<f64>> = (0..channels)
            .map(|c| (0..=255u8).map(|p| self.value(f64::from(p), c)).collect())
            .collect();
        let look_up = |channel: usize, at: usize| -> f64 {
            let pixel = pixels.get(at * channels + source(channel)).copied().unwrap_or(0);
            table
                .get(channel)
                .and_then(|row| row.get(pixel as usize))
                .copied()
                .unwrap_or(0.0)
        };
        let values = match self.layout {
            Layout::Nchw => (0..channels)
                .flat_map(|c| (0..area).map(move |at| (c, at)))
                .map(|(c, at)| look_up(c, at))
                .collect(),
            Layout::Nhwc => (0..area)
                .flat_map(|at| (0..channels).map(move |c| (c, at)))
                .map(|(c, at)| look_up(c, at))
                .collect(),
        };
        (self.dims(height, width), values)
    }

    fn fit(&self, image: &DynamicImage) -> DynamicImage {
        let (width, height) = image.dimensions();
        if self.crop.is_some_and(|[h, w]| (h, w) == (height, width)) {
            return image.clone();
        }
        let resized = match self.resize {
            None => image.clone(),
            Some(Resize::Exact([h, w])) => image.resize_exact(w, h, FilterType::Triangle),
            Some(Resize::Shortest(side)) => {
                let shortest = width.min(height).max(1);
                let scaled =
                    |length: u32| ((u64::from(length) * u64::from(side)) / u64::from(shortest)).max(1) as u32;
                image.resize_exact(scaled(width), scaled(height), FilterType::Triangle)
            }
        };
        let Some([crop_height, crop_width]) = self.crop else {
            return resized;
        };
        let (width, height) = resized.dimensions();
        let x = width.saturating_sub(crop_width) / 2;
        let y = height.saturating_sub(crop_height) / 2;
        resized.crop_imm(x, y, crop_width.min(width), crop_height.min(height))
    }

    /// Which axis of one sample holds the channels, for arrays of pixels: the first for NCHW, the last for NHWC.
    pub fn channel_axis(&self, rank: usize) -> Option<usize> {
        match self.layout {
            _ if rank < 3 => None,
            Layout::Nchw => Some(rank - 3),
            Layout::Nhwc => Some(rank - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_pixels() -> DynamicImage {
        DynamicImage::ImageRgb8(image::RgbImage::from_raw(2, 1, vec![255, 0, 127, 0, 255, 127]).unwrap())
    }

    #[test]
    fn channels_and_layouts_are_ordered_as_declared() {
        let base = PreprocessFields {
            scale: Some(1.0),
            ..PreprocessFields::default()
        };
        for (color, layout, dims, expected) in [
            (
                Color::Rgb,
                Layout::Nchw,
                vec![3, 1, 2],
                vec![255., 0., 0., 255., 127., 127.],
            ),
            (
                Color::Bgr,
                Layout::Nchw,
                vec![3, 1, 2],
                vec![127., 127., 0., 255., 255., 0.],
            ),
            (
                Color::Rgb,
                Layout::Nhwc,
                vec![1, 2, 3],
                vec![255., 0., 127., 0., 255., 127.],
            ),
        ] {
            let fields = PreprocessFields {
                color: Some(color),
                layout: Some(layout),
                ..base.clone()
            };
            let (d, v) = PreprocessSpec::Fields(fields)
                .resolve()
                .unwrap()
                .image(&two_pixels());
            assert_eq!((d, v), (dims, expected));
        }
    }

    #[test]
    fn presets_give_the_published_values() {
        let lite = PreprocessSpec::preset("efficientnet-lite")
            .unwrap()
            .resolve()
            .unwrap();
        assert_eq!(lite.value(255.0, 2), 1.0);
        let torch = PreprocessSpec::preset("torchvision").unwrap().resolve().unwrap();
        assert!((torch.value(255.0, 0) - (1.0 - 0.485) / 0.229).abs() < 1e-12);
        assert!(PreprocessSpec::preset("imagenet").is_err());
    }

    #[test]
    fn shortest_side_then_centre() {
        let image = DynamicImage::ImageRgb8(image::RgbImage::new(512, 400));
        let torch = PreprocessSpec::preset("torchvision").unwrap().resolve().unwrap();
        assert_eq!(torch.image(&image).0, [3, 224, 224]);
    }

    #[test]
    fn a_name_or_a_map_is_read() {
        let spec: PreprocessSpec = serde_yaml::from_str("mnist").unwrap();
        assert_eq!(spec, PreprocessSpec::Preset(Preset::Mnist));
        let spec: PreprocessSpec =
            serde_yaml::from_str("{ preset: torchvision, layout: nhwc, resize: [10, 20] }").unwrap();
        let settled = spec.resolve().unwrap();
        assert_eq!(
            (settled.layout, settled.resize),
            (Layout::Nhwc, Some(Resize::Exact([10, 20])))
        );
        assert!(serde_yaml::from_str::<PreprocessSpec>("{ meen: [1] }").is_err());
    }
}
