//! Preprocessing that many models share, with the values that their authors published.

use super::{Color, Extent, InputSize, Interpolation, Layout, Letterbox, Place, Preprocess, Preset, Resize};

/// ImageNet's statistics of `p/255`, by channel, red first.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

impl Preprocess {
    /// Pixels as they are.
    pub(super) fn plain() -> Self {
        Self {
            resize: None,
            crop: None,
            letterbox: None,
            interpolation: Interpolation::Antialias,
            color: Color::Rgb,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            layout: Layout::Nchw,
            otherwise: None,
        }
    }
}

impl Preprocess {
    /// Images as they are decoded, `[N, H, W, 3]`: for models that do the rest themselves.
    pub fn as_is() -> Self {
        Self {
            layout: Layout::Nhwc,
            ..Self::plain()
        }
    }
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Torchvision,
        Self::EfficientnetLite,
        Self::Mnist,
        Self::Yolo,
        Self::Yolox,
        Self::Nanodet,
        Self::Ssd,
        Self::Ultraface,
        Self::Yunet,
        Self::PpOcr,
    ];

    /// Their names, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The name in descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torchvision => "torchvision",
            Self::EfficientnetLite => "efficientnet-lite",
            Self::Mnist => "mnist",
            Self::Yolo => "yolo",
            Self::Yolox => "yolox",
            Self::Nanodet => "nanodet",
            Self::Ssd => "ssd",
            Self::Ultraface => "ultraface",
            Self::Yunet => "yunet",
            Self::PpOcr => "pp-ocr",
        }
    }

    pub(super) fn fields(self) -> Preprocess {
        let plain = Preprocess::plain();
        let centre = |scale: f64, mean: &[f64], std: &[f64]| Preprocess {
            resize: Some(Resize::Shortest(256)),
            crop: Some([224, 224]),
            scale,
            mean: mean.to_vec(),
            std: std.to_vec(),
            ..Preprocess::plain()
        };
        let boxed = |pad: u8, place: Place, side: u32| Preprocess {
            letterbox: Some(Letterbox {
                extent: Extent::Input(InputSize::Input),
                pad,
                place,
                upscale: true,
            }),
            interpolation: Interpolation::Bilinear,
            otherwise: Some([side, side]),
            ..Preprocess::plain()
        };
        let stretched = |height: u32, width: u32| Preprocess {
            resize: Some(Resize::Input(InputSize::Input)),
            interpolation: Interpolation::Bilinear,
            otherwise: Some([height, width]),
            ..Preprocess::plain()
        };
        match self {
            Self::Torchvision => centre(1.0 / 255.0, &MEAN, &STD),
            Self::EfficientnetLite => centre(1.0, &[127.0], &[128.0]),
            Self::Mnist => Preprocess {
                color: Color::Gray,
                scale: 1.0 / 255.0,
                mean: vec![0.1307],
                std: vec![0.3081],
                ..plain
            },
            Self::Yolo => Preprocess {
                scale: 1.0 / 255.0,
                ..boxed(114, Place::Center, 640)
            },
            Self::Yolox => Preprocess {
                color: Color::Bgr,
                ..boxed(114, Place::TopLeft, 640)
            },
            // The statistics of ImageNet times 255, in the order of the channels, as its configuration has them.
            Self::Nanodet => Preprocess {
                color: Color::Bgr,
                mean: vec![103.53, 116.28, 123.675],
                std: vec![57.375, 57.12, 58.395],
                ..boxed(0, Place::Center, 416)
            },
            Self::Ssd => Preprocess {
                scale: 1.0 / 255.0,
                mean: MEAN.to_vec(),
                std: STD.to_vec(),
                ..stretched(300, 300)
            },
            Self::Ultraface => Preprocess {
                mean: vec![127.0],
                std: vec![128.0],
                ..stretched(240, 320)
            },
            Self::Yunet => Preprocess {
                color: Color::Bgr,
                ..boxed(0, Place::TopLeft, 640)
            },
            // Its configuration applies the statistics in the order in which they are written to BGR pixels.
            Self::PpOcr => Preprocess {
                color: Color::Bgr,
                scale: 1.0 / 255.0,
                mean: MEAN.to_vec(),
                std: STD.to_vec(),
                ..stretched(640, 640)
            },
        }
    }
}
