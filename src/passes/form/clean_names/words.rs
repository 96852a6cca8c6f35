//! Words for names: identifiers, and what operators call their inputs.

use crate::ir::{Function, Imports, Operator, opset_version};
use crate::ops::schema;

/// Words for inputs that the specification gives single letters, by operator and slot.
const WORDS: &[(&str, &[(usize, &str)])] = &[
    (
        "BatchNormalization",
        &[(1, "scale"), (2, "bias"), (3, "mean"), (4, "var")],
    ),
    ("Conv", &[(1, "weight"), (2, "bias")]),
    ("ConvInteger", &[(1, "weight"), (3, "weight_zero_point")]),
    ("ConvTranspose", &[(1, "weight"), (2, "bias")]),
    ("DeformConv", &[(1, "weight"), (3, "bias")]),
    ("GRU", &[(1, "weight"), (2, "recurrence"), (3, "bias")]),
    ("Gemm", &[(1, "weight"), (2, "bias")]),
    ("InstanceNormalization", &[(1, "scale"), (2, "bias")]),
    (
        "LSTM",
        &[(1, "weight"), (2, "recurrence"), (3, "bias"), (7, "peepholes")],
    ),
    ("LayerNormalization", &[(1, "scale"), (2, "bias")]),
    ("MatMul", &[(1, "weight")]),
    ("MatMulInteger", &[(1, "weight"), (3, "weight_zero_point")]),
    (
        "QLinearConv",
        &[
            (3, "weight"),
            (4, "weight_scale"),
            (5, "weight_zero_point"),
            (8, "bias"),
        ],
    ),
    (
        "QLinearMatMul",
        &[(3, "weight"), (4, "weight_scale"), (5, "weight_zero_point")],
    ),
    ("RNN", &[(1, "weight"), (2, "recurrence"), (3, "bias")]),
];

/// What an operator, or the function that it calls, calls the input in a slot, as a part of a name.
pub(super) fn word(
    operator: &Operator,
    imports: &Imports,
    function: Option<&Function>,
    slot: usize,
) -> String {
    let plain = || format!("input_{slot}");
    if let Some(function) = function {
        let inner = &function.graph;
        let formal = inner.inputs().get(slot).map(|input| inner.label(*input));
        return formal.map_or_else(plain, |name| part(&name));
    }
    let version = opset_version(imports, operator.domain());
    let Some(schema) = version.and_then(|version| schema(operator.domain(), &operator.op_type, version))
    else {
        return plain();
    };
    let mut words = WORDS
        .iter()
        .filter(|(kind, _)| *kind == schema.op_type && schema.domain.is_empty())
        .flat_map(|(_, words)| words.iter());
    if let Some((_, word)) = words.find(|(at, _)| *at == slot) {
        return (*word).to_owned();
    }
    match schema.input(slot) {
        Some(formal) if formal.variadic => format!("{}_{slot}", part(&formal.name.to_lowercase())),
        Some(formal) => part(&formal.name.to_lowercase()),
        None => plain(),
    }
}

fn allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// A text in which `_` stands for whatever no identifier has.
fn part(text: &str) -> String {
    text.chars()
        .map(|letter| if allowed(letter) { letter } else { '_' })
        .collect()
}

/// A text as an identifier of C.
pub(super) fn identifier(text: &str) -> String {
    let part = part(text);
    match part.chars().next() {
        Some(first) if !first.is_ascii_digit() => part,
        _ => format!("n{part}"),
    }
}

/// Whether a text is an identifier of C.
pub(super) fn is_identifier(text: &str) -> bool {
    text.chars().all(allowed) && text.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_letters_digits_and_underscores_and_begin_with_no_digit() {
        for (text, expected) in [
            ("Conv", "Conv"),
            ("/f/f.0/Conv", "_f_f_0_Conv"),
            ("3d", "n3d"),
            ("", "n"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(identifier(text), expected);
            assert!(is_identifier(&identifier(text)), "{text}");
        }
        assert!(!is_identifier("a.b") && !is_identifier("0") && !is_identifier(""));
    }
}
