//! Which layout of boxes a model has, by the shapes of its outputs.

use std::collections::BTreeMap;

use super::Answer;
use crate::data::{BoxesSpec, Frame, Part};
use crate::evaluate::EvaluateError;

/// The layout that the outputs fit best, with its name.
///
/// # Errors
/// What the outputs are, where no layout fits them or several do equally.
pub(super) fn guessed(
    answer: &Answer,
    frame: Option<&Frame>,
    keypoints: bool,
) -> Result<(String, BoxesSpec), EvaluateError> {
    let task = |problem: String| EvaluateError::Task { problem };
    let layouts = BoxesSpec::layouts().map_err(|error| task(error.to_string()))?;
    let mut best: Vec<(usize, &String)> = layouts
        .iter()
        .filter(|(_, layout)| layout.has(Part::Keypoints) || !keypoints)
        .filter_map(|(name, layout)| {
            let mut fit = fit(layout, answer, frame)?;
            // Keypoints that nobody asks for are no reason to prefer a layout.
            if layout.has(Part::Keypoints) && !keypoints && layout.columns.contains_key(&Part::Keypoints) {
                fit = 0;
            }
            Some((fit, name))
        })
        .collect();
    let most = best.iter().map(|(fit, _)| *fit).max();
    best.retain(|(fit, _)| Some(*fit) == most);
    let named = |name: &String| layouts.get(name).map(|layout| (name.clone(), layout.clone()));
    match best.as_slice() {
        [(_, name)] => named(name).ok_or_else(|| task(format!("there is no layout {name}"))),
        found => {
            let outputs: Vec<String> = answer
                .outputs
                .iter()
                .map(|output| format!("{} {:?}", output.name, output.dims))
                .collect();
            let which = match found.is_empty() {
                true => format!("no known layout of boxes; there are {}", names(layouts.keys())),
                false => format!(
                    "several layouts of boxes: {}",
                    names(found.iter().map(|(_, name)| *name))
                ),
            };
            Err(task(format!(
                "the outputs of one image, {}, fit {which}; name one with boxes: {{ layout: NAME }}, or spell it out (`secateur explain data`)",
                outputs.join(", ")
            )))
        }
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.cloned().collect::<Vec<_>>().join(", ")
}

/// How many numbers of the shapes say exactly what they are, if all fit.
fn fit(layout: &BoxesSpec, answer: &Answer, frame: Option<&Frame>) -> Option<usize> {
    if layout.shapes.is_empty() || layout.shapes.len() != answer.outputs.len() {
        return None;
    }
    let mut known: BTreeMap<char, usize> = BTreeMap::new();
    let mut exact = 0;
    for (shape, output) in layout.shapes.iter().zip(&answer.outputs) {
        let mut dims = output.dims.as_slice();
        while let [1, rest @ ..] = dims
            && rest.len() >= shape.len()
        {
            dims = rest;
        }
        if dims.len() != shape.len() {
            return None;
        }
        for (token, size) in shape.iter().zip(dims) {
            exact += matches(token, *size, &mut known, &layout.strides, frame)?;
        }
    }
    Some(exact)
}

/// Whether a size is what a word of a shape says: 2 for a number or a count of cells, 1 for what follows from another, 0 for any.
fn matches(
    token: &str,
    size: usize,
    known: &mut BTreeMap<char, usize>,
    strides: &[u32],
    frame: Option<&Frame>,
) -> Option<usize> {
    if let Ok(number) = token.parse::<usize>() {
        return (number == size).then_some(2);
    }
    let cells = |stride: u32| -> Option<usize> {
        let [width, height] = frame?.input;
        Some(width.div_ceil(stride) as usize * height.div_ceil(stride) as usize)
    };
    if let Some((times, of)) = token.split_once('A') {
        let times: usize = if times.is_empty() { 1 } else { times.parse().ok()? };
        let cells: usize = match of {
            "" => strides
                .iter()
                .map(|stride| cells(*stride))
                .sum::<Option<usize>>()?,
            stride => cells(stride.parse().ok()?)?,
        };
        return (times * cells == size).then_some(2);
    }
    if let Some(times) = token.strip_suffix('R') {
        let times: usize = times.parse().ok()?;
        return (size.is_multiple_of(times) && size > times).then_some(1);
    }
    let (letter, more) = match token.split_once('+') {
        None => (token, 0),
        Some((a, b)) => match (a.parse::<usize>(), b.parse::<usize>()) {
            (Ok(number), _) => (b, number),
            (_, Ok(number)) => (a, number),
            _ => return None,
        },
    };
    let letter = letter.chars().next()?;
    let rest = size.checked_sub(more).filter(|rest| *rest > 0)?;
    match known.insert(letter, rest) {
        Some(before) => (before == rest).then_some(1),
        None => Some(0),
    }
}
