//! Whether what preprocessing makes is what an input takes.

use super::unfit;
use crate::data::{Layout, Preprocess};
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

/// Refuses sizes and channels that the input does not take.
pub(super) fn check_sizes(
    preprocess: &Preprocess,
    canvas: Option<[u32; 2]>,
    input: &str,
    shape: &[Dim],
) -> Result<(), PassError> {
    let channels = Some(preprocess.channels() as i64);
    let [height, width] = [1, 0].map(|at| canvas.and_then(|canvas| canvas.get(at).copied()).map(i64::from));
    let made = match preprocess.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    };
    let differs =
        |(dim, made): (&Dim, &Option<i64>)| dim.fixed().zip(*made).is_some_and(|(size, made)| size != made);
    if !shape.iter().skip(1).zip(&made).any(differs) {
        return Ok(());
    }
    let text = |sizes: Vec<String>| format!("[{}]", sizes.join(", "));
    let takes = text(shape.iter().skip(1).map(Dim::to_string).collect());
    let gives = text(
        made.iter()
            .map(|size| size.map_or("?".to_owned(), |size| size.to_string()))
            .collect(),
    );
    Err(unfit(
        input,
        format!(
            "takes {takes} an image, and preprocess makes {gives}: see resize, crop, letterbox, color and layout"
        ),
    ))
}

/// Width and height of an input with these dimensions, where both are numbers.
pub(super) fn fixed_size(preprocess: &Preprocess, shape: &[Dim]) -> Option<[u32; 2]> {
    let (height, width) = match preprocess.layout {
        Layout::Nchw => (2, 3),
        Layout::Nhwc => (1, 2),
    };
    let side = |axis: usize| u32::try_from(shape.get(axis)?.fixed()?).ok();
    Some([side(width)?, side(height)?])
}
