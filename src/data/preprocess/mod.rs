//! From pixels to input values, declared: `value = (pixel * scale - mean[c]) / std[c]`, computed in `f64` and rounded once to
//! the input's element type.

mod fit;
mod presets;

use std::fmt;

use image::{DynamicImage, GenericImageView};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ir::Dim;
use crate::schema::Fault;
use crate::yaml::ConfigError;

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
    /// YOLOv5, v8 and their kin: RGB, `p/255`, letterboxed in the middle with 114 to the model's input, else to 640.
    Yolo,
    /// YOLOX: BGR, pixels as they are, letterboxed to the top left with 114 to the model's input, else to 640.
    Yolox,
    /// NanoDet: BGR, `(p - mean) / std` with ImageNet's statistics, letterboxed in the middle with 0 to the model's input, else to 416.
    Nanodet,
    /// SSD of torchvision and kin: RGB, `(p/255 - mean) / std`, stretched to the model's input, else to 300.
    Ssd,
    /// UltraFace: RGB, `(p - 127) / 128`, stretched to the model's input, else to 240x320.
    Ultraface,
    /// YuNet: BGR, pixels as they are, letterboxed to the top left with 0 to the model's input, else to 640.
    Yunet,
    /// PP-OCR's text detector: BGR, `(p/255 - mean) / std`, stretched to the model's input, else to 640.
    PpOcr,
}

/// The fields of preprocessing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PreprocessFields {
    /// Where fields that are left out come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// `256`: the shortest side becomes 256 pixels; `[224, 256]`: height and width; `input`: the size that the model takes. An
    /// image that already has the size of the crop is left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Height and width of the centre to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[u32; 2]>,
    /// The whole image at its aspect on a canvas of this size, in place of `resize` and `crop`: one side, `[height, width]`, or
    /// `input` for the size that the model takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letterbox: Option<Extent>,
    /// Value of the canvas around a letterboxed image, 0 to 255; 114 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<u8>,
    /// Where a letterboxed image stands on its canvas; `center` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Whether a letterboxed image that is smaller than its canvas grows; it does by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscale: Option<bool>,
    /// How pixels are resized; `antialias` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
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
    /// Height and width of the model's input.
    Input(InputSize),
}

/// The size of a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Extent {
    /// Height and width are the same.
    Square(u32),
    /// Height and width, in pixels.
    Exact([u32; 2]),
    /// Height and width of the model's input.
    Input(InputSize),
}

/// A size that the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputSize {
    /// Height and width of the model's input.
    Input,
}

/// Where on a canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the middle; of an odd rest the larger half is right and below.
    #[default]
    Center,
    /// At the left and the top.
    TopLeft,
}

/// How an image is resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Bilinear over all pixels that a new one covers, as Pillow does.
    #[default]
    Antialias,
    /// Bilinear between the four nearest pixels, as OpenCV does.
    Bilinear,
    /// The nearest pixel.
    Nearest,
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
    /// The canvas that the whole image stands on, in place of both.
    pub letterbox: Option<Letterbox>,
    /// How pixels are resized.
    pub interpolation: Interpolation,
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
    /// Height and width of a preset where the model leaves them open.
    pub otherwise: Option<[u32; 2]>,
}

/// A canvas with a whole image on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Letterbox {
    /// Its size; [`Preprocess::fitted`] settles one that the model says.
    pub extent: Extent,
    /// Its value around the image.
    pub pad: u8,
    /// Where the image stands.
    pub place: Place,
    /// Whether a smaller image grows.
    pub upscale: bool,
}

impl Letterbox {
    /// Height and width; nothing where only the model says them.
    fn size(&self) -> [u32; 2] {
        match self.extent {
            Extent::Square(side) => [side, side],
            Extent::Exact(size) => size,
            Extent::Input(InputSize::Input) => [0, 0],
        }
    }
}

impl<'de> Deserialize<'de> for PreprocessSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = PreprocessSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&format!(
                    "a preset ({}) or a map of preprocessing fields",
                    Preset::names()
                ))
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

/// Preprocessing that is not possible.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A text that is no YAML.
    #[error(transparent)]
    Yaml(Box<ConfigError>),
    /// A field that the schema does not know, or another value than it allows.
    #[error("{0}{hint}", hint = .0.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Field(Box<Fault>),
    /// Values that the schema allows and preprocessing does not.
    #[error(transparent)]
    Value(#[from] serde_json::Error),
    /// A preset that does not exist.
    #[error("unknown preprocessing {0:?}; there are {names}", names = Preset::names())]
    Unknown(String),
    /// Two ways to a size.
    #[error("letterbox takes the place of resize and crop: only one of them is possible")]
    LetterboxBesideSize,
    /// Fields of a letterbox without one.
    #[error("pad, place and upscale are of a letterbox, and there is none")]
    NoLetterbox,
    /// A side without pixels or with too many.
    #[error("sides of images are 1 to {LARGEST} pixels")]
    Side,
    /// Numbers that are neither one nor one a channel.
    #[error("{field} has {found} numbers; 1 or {channels} are possible")]
    Channels {
        /// The field.
        field: &'static str,
        /// Its numbers.
        found: usize,
        /// Channels of the image.
        channels: usize,
    },
    /// A division by zero or by no number.
    #[error("std must be finite and not zero")]
    Deviation,
    /// A size that is the model's, which leaves it open.
    #[error("the model leaves the height and width of its input open; give them as [height, width]")]
    OpenSize,
}

impl PreprocessSpec {
    /// The preset with this name.
    pub fn preset(name: &str) -> Result<Self, PreprocessError> {
        Preset::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
            name,
        ))
        .map(Self::Preset)
        .map_err(|_| PreprocessError::Unknown(name.to_owned()))
    }

    /// Every field settled; an error says which are not possible together.
    pub fn resolve(&self) -> Result<Preprocess, PreprocessError> {
        let fields = match self {
            Self::Preset(preset) => return Ok(preset.fields()),
            Self::Fields(fields) => fields,
        };
        let start = fields.preset.map_or_else(Preprocess::plain, Preset::fields);
        let boxed = fields
            .letterbox
            .or(start.letterbox.as_ref().map(|boxed| boxed.extent));
        // Another way to a size takes the place of the preset's.
        let boxed =
            boxed.filter(|_| fields.letterbox.is_some() || fields.resize.is_none() && fields.crop.is_none());
        let usual = start.letterbox.as_ref();
        let letterbox = boxed.map(|extent| Letterbox {
            extent,
            pad: fields.pad.or(usual.map(|usual| usual.pad)).unwrap_or(114),
            place: fields
                .place
                .or(usual.map(|usual| usual.place))
                .unwrap_or_default(),
            upscale: fields
                .upscale
                .or(usual.map(|usual| usual.upscale))
                .unwrap_or(true),
        });
        if letterbox.is_some() && (fields.resize.is_some() || fields.crop.is_some()) {
            return Err(PreprocessError::LetterboxBesideSize);
        }
        if letterbox.is_none() && (fields.pad.is_some() || fields.place.is_some() || fields.upscale.is_some())
        {
            return Err(PreprocessError::NoLetterbox);
        }
        let (resize, crop) = match &letterbox {
            Some(_) => (None, None),
            None => (fields.resize.or(start.resize), fields.crop.or(start.crop)),
        };
        let sizes = match (resize, &letterbox) {
            (Some(Resize::Shortest(side)), _) => vec![side],
            (Some(Resize::Exact(size)), _) => size.to_vec(),
            (_, Some(boxed)) if !matches!(boxed.extent, Extent::Input(_)) => boxed.size().to_vec(),
            _ => Vec::new(),
        };
        if sizes
            .iter()
            .chain(crop.iter().flatten())
            .any(|side| !(1..=LARGEST).contains(side))
        {
            return Err(PreprocessError::Side);
        }
        let settled = Preprocess {
            resize,
            crop,
            letterbox,
            interpolation: fields.interpolation.unwrap_or(start.interpolation),
            color: fields.color.unwrap_or(start.color),
            scale: fields.scale.unwrap_or(start.scale),
            mean: fields.mean.clone().unwrap_or(start.mean),
            std: fields.std.clone().unwrap_or(start.std),
            layout: fields.layout.unwrap_or(start.layout),
            otherwise: start.otherwise,
        };
        let channels = settled.channels();
        for (field, list) in [("mean", &settled.mean), ("std", &settled.std)] {
            if list.len() != 1 && list.len() != channels {
                return Err(PreprocessError::Channels {
                    field,
                    found: list.len(),
                    channels,
                });
            }
        }
        if settled.std.iter().any(|s| *s == 0.0 || !s.is_finite()) {
            return Err(PreprocessError::Deviation);
        }
        Ok(settled)
    }
}

/// Pixels of the longest side that is possible.
const LARGEST: u32 = 16_384;

impl Preprocess {
    /// With the sizes that the model says: `height` and `width` of its input, where it fixes them.
    ///
    /// # Errors
    /// When a size is the model's and it leaves it open.
    pub fn fitted(mut self, input: Option<[u32; 2]>) -> Result<Self, PreprocessError> {
        let usual = self.otherwise;
        let size = || input.or(usual).ok_or(PreprocessError::OpenSize);
        if let Some(letterbox) = &mut self.letterbox
            && matches!(letterbox.extent, Extent::Input(_))
        {
            letterbox.extent = Extent::Exact(size()?);
        }
        if matches!(self.resize, Some(Resize::Input(_))) {
            self.resize = Some(Resize::Exact(size()?));
        }
        Ok(self)
    }

    /// [`Preprocess::fitted`] to an input with these dimensions.
    ///
    /// # Errors
    /// When a size is the model's and it leaves it open.
    pub fn for_input(self, shape: Option<&[Dim]>) -> Result<Self, PreprocessError> {
        let side = |axis: usize| u32::try_from(shape?.get(axis)?.fixed()?).ok();
        let first = match self.layout {
            Layout::Nchw => 2,
            Layout::Nhwc => 1,
        };
        let size = side(first)
            .zip(side(first + 1))
            .map(|(height, width)| [height, width]);
        self.fitted(size)
    }

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
