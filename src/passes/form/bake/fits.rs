//! Whether what preprocessing makes is what an input takes.

use super::unfit;
use crate::data::{Layout, Preprocess, Resize};
use crate::ir::{DType, Dim};
use crate::passes::PassError;

/// Refuses a type that cannot hold the values.
pub(super) fn check_type(preprocess: &Preprocess, input: &str, dtype: DType) -> Result<(), PassError> {
    if dtype.is_float() {
        return Ok(());
    }
    let range = match dtype {
        DType::U8 => 0.0..=255.0,
        DType::I8 => -128.0..=127.0,
        DType::I16 => f64::from(i16::MIN)..=f64::from(i16::MAX),
        DType::U16 => 0.0..=f64::from(u16::MAX),
        DType::I32 | DType::I64 => f64::from(i32::MIN)..=f64::from(i32::MAX),
        _ => return Err(unfit(input, format!("is of type {dtype}, which holds no pixels"))),
    };
    let fits = |value: f64| value.fract() == 0.0 && range.contains(&value);
    let wrong = (0..preprocess.channels())
        .flat_map(|channel| (0..=255u8).map(move |pixel| (pixel, channel)))
        .map(|(pixel, channel)| (pixel, preprocess.value(f64::from(pixel), channel)))
        .find(|(_, value)| !fits(*value));
    match wrong {
        None => Ok(()),
        Some((pixel, value)) => Err(unfit(
            input,
            format!("is of type {dtype}, and preprocess makes {value} of a pixel {pixel}"),
        )),
    }
}

/// Whether images go in at the size that they have.
pub(super) fn keeps_size(preprocess: &Preprocess) -> bool {
    preprocess.resize.is_none() && preprocess.crop.is_none() && preprocess.letterbox.is_none()
}

/// Refuses sizes and channels that the input does not take, and sizes that only some images get where it fixes them. `sizes`: height
/// and width, each where every image gets the same.
pub(super) fn check_sizes(
    preprocess: &Preprocess,
    sizes: [Option<u32>; 2],
    input: &str,
    shape: &[Dim],
) -> Result<(), PassError> {
    let channels = Some(preprocess.channels() as i64);
    let [height, width] = sizes.map(|side| side.map(i64::from));
    let made = match preprocess.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    };
    let pairs = || shape.iter().skip(1).zip(&made);
    let text = |sizes: Vec<String>| format!("[{}]", sizes.join(", "));
    let takes = text(shape.iter().skip(1).map(Dim::to_string).collect());
    if pairs().any(|(dim, made)| dim.fixed().zip(*made).is_some_and(|(size, made)| size != made)) {
        let gives = text(
            made.iter()
                .map(|size| size.map_or("?".to_owned(), |size| size.to_string()))
                .collect(),
        );
        return Err(unfit(
            input,
            format!(
                "takes {takes} an image, and preprocess makes {gives}: see resize, crop, letterbox, color and layout"
            ),
        ));
    }
    if pairs().any(|(dim, made)| dim.fixed().is_some() && made.is_none()) {
        let (why, cure) = (varies(preprocess), cure(fixed_sizes(preprocess, shape)));
        return Err(unfit(
            input,
            format!("takes {takes} an image, and not every image gets that size: {why}; {cure}"),
        ));
    }
    Ok(())
}

/// Why images of different sizes get different ones.
fn varies(preprocess: &Preprocess) -> String {
    let scaled = match preprocess.resize {
        Some(Resize::Shortest(side)) => format!("resize makes the shortest side {side} pixels"),
        Some(Resize::Exact([height, width])) => {
            format!("resize makes images of {height} by {width} pixels (height by width)")
        }
        Some(Resize::Input(_)) | None => "nothing resizes images".to_owned(),
    };
    match (preprocess.crop, preprocess.resize) {
        (Some([height, width]), _) => {
            format!("{scaled}, and a crop of {height} by {width} leaves what is smaller as it is")
        }
        (None, Some(Resize::Shortest(_))) => format!("{scaled}, and the other side keeps the aspect"),
        (None, _) => scaled,
    }
}

/// What gives every image these sizes.
fn cure(sizes: [Option<u32>; 2]) -> String {
    match sizes {
        [Some(height), Some(width)] => format!(
            "give resize: input, letterbox: input, or resize: {} and crop: [{height}, {width}]",
            height.max(width)
        ),
        _ => "give resize or letterbox as [height, width]".to_owned(),
    }
}

/// What to know where nothing changes the size of images, and the input fixes it.
pub(super) fn only_of_that_size(preprocess: &Preprocess, sizes: [Option<u32>; 2]) -> Option<String> {
    let which = match sizes {
        [Some(height), Some(width)] => format!("{height} by {width} pixels (height by width)"),
        [Some(height), None] => format!("a height of {height} pixels"),
        [None, Some(width)] => format!("a width of {width} pixels"),
        [None, None] => return None,
    };
    keeps_size(preprocess).then(|| {
        format!("preprocess resizes nothing: images need {which}, and a run with others fails; resize: input takes all")
    })
}

/// Height and width of an input with these dimensions, each where it is a number.
pub(super) fn fixed_sizes(preprocess: &Preprocess, shape: &[Dim]) -> [Option<u32>; 2] {
    let axes = match preprocess.layout {
        Layout::Nchw => [2, 3],
        Layout::Nhwc => [1, 2],
    };
    axes.map(|axis: usize| u32::try_from(shape.get(axis)?.fixed()?).ok())
}
