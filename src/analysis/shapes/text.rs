//! Strings and images.

use super::super::call::{Call, Facts, Rule};
use super::broadcast;
use super::elementwise::same_shape;
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ImageDecoder", image),
    ("RegexFullMatch", same_shape),
    ("StringConcat", |call, facts| {
        facts.shape(0, broadcast::inputs(call, 0, 2)?);
        Some(())
    }),
    ("StringNormalizer", normalizer),
    ("StringSplit", split),
    ("TfIdfVectorizer", tf_idf),
];

/// `[height, width, channels]`.
fn image(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let channels = if call.operator.string("pixel_format") == Some("Grayscale") {
        1
    } else {
        3
    };
    facts.shape(0, [Dim::Unknown, Dim::Unknown, Dim::Fixed(channels)]);
    Some(())
}

/// `[C]` or `[1, C]`; stop words are taken out, and an empty result has one empty string.
fn normalizer(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let filters = call.operator.attribute("stopwords").is_some();
    let size = |dim: &Dim| {
        if filters {
            Dim::Unknown
        } else {
            dim.max(&Dim::Fixed(1))
        }
    };
    match call.shape(0)?.as_slice() {
        [words] => facts.shape(0, [size(words)]),
        [_, words] => facts.shape(0, [Dim::Fixed(1), size(words)]),
        _ => return None,
    }
    Some(())
}

/// One more axis for the parts; the second output counts them.
fn split(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    facts.shape(0, shape.iter().cloned().chain([Dim::Unknown]));
    facts.shape(1, shape.iter().cloned());
    Some(())
}

/// `[features]` or `[N, features]`.
fn tf_idf(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let features = call
        .ints("ngram_indexes")?
        .iter()
        .max()
        .map_or(Dim::Unknown, |last| Dim::Fixed(last.saturating_add(1)));
    match call.shape(0)?.as_slice() {
        [_] | [] => facts.shape(0, [features]),
        [n, _] => facts.shape(0, [n.clone(), features]),
        _ => return None,
    }
    Some(())
}
