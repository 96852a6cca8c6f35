//! Matrix products.

use super::super::call::{Call, Facts, Rule};
use super::broadcast;
use crate::ir::{Dim, Shape};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Det", determinant),
    ("Einsum", einsum),
    ("Gemm", gemm),
    ("MatMul", |call, facts| matmul(call, facts, 0, 1)),
    ("MatMulInteger", |call, facts| matmul(call, facts, 0, 1)),
    ("QLinearMatMul", |call, facts| matmul(call, facts, 0, 3)),
];

/// The product as NumPy's `matmul` shapes it.
pub(super) fn matmul(call: &Call<'_>, facts: &mut Facts, left: usize, right: usize) -> Option<()> {
    facts.shape(0, product(call.shape(left)?, call.shape(right)?)?);
    Some(())
}

/// The shape of a matrix product; vectors are rows on the left and columns on the right, and lose that axis.
pub(super) fn product(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let (rows, batch_a) = match a {
        [] => return None,
        [_] => (None, [].as_slice()),
        [batch @ .., rows, _] => (Some(rows), batch),
    };
    let (columns, batch_b) = match b {
        [] => return None,
        [_] => (None, [].as_slice()),
        [batch @ .., _, columns] => (Some(columns), batch),
    };
    let mut shape = broadcast::shapes(batch_a, batch_b);
    shape.extend(rows.cloned());
    shape.extend(columns.cloned());
    Some(shape)
}

pub(super) fn gemm(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let side = |input: usize, name: &str, axis: usize| {
        let transposed = call.int_or(name, 0) != 0;
        call.dim(input, if transposed { 1 - axis } else { axis })
    };
    facts.shape(0, [side(0, "transA", 0), side(1, "transB", 1)]);
    Some(())
}

fn determinant(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    facts.shape(0, shape.iter().take(shape.len().checked_sub(2)?).cloned());
    Some(())
}

/// One term of an equation: its letters, with the place of an ellipsis.
struct Term {
    before: Vec<char>,
    ellipsis: bool,
    after: Vec<char>,
}

fn term(text: &str) -> Term {
    match text.split_once("...") {
        Some((before, after)) => Term {
            before: before.chars().collect(),
            ellipsis: true,
            after: after.chars().collect(),
        },
        None => Term {
            before: text.chars().collect(),
            ellipsis: false,
            after: Vec::new(),
        },
    }
}

/// The letters of an einsum's axes and what is known of their sizes.
pub(in super::super) struct Equation {
    /// Letter and size, by letter.
    pub(in super::super) sizes: std::collections::BTreeMap<char, Dim>,
    pub(in super::super) ellipsis: Shape,
    result: Term,
}

/// Reads the equation of an Einsum and binds its letters to the inputs' dimensions.
pub(in super::super) fn equation(call: &Call<'_>) -> Option<Equation> {
    let text: String = call
        .operator
        .string("equation")?
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (operands, result) = match text.split_once("->") {
        Some((operands, result)) => (operands, Some(result)),
        None => (text.as_str(), None),
    };
    let terms: Vec<Term> = operands.split(',').map(term).collect();
    if terms.len() != call.inputs.len() {
        return None;
    }
    let mut sizes = std::collections::BTreeMap::new();
    let mut ellipsis = Shape::new();
    for (input, term) in terms.iter().enumerate() {
        let shape = call.shape(input)?;
        let covered = shape.len().checked_sub(term.before.len() + term.after.len())?;
        if !term.ellipsis && covered != 0 {
            return None;
        }
        let (head, tail) = shape.split_at(term.before.len());
        let (middle, tail) = tail.split_at(covered);
        if term.ellipsis {
            ellipsis = broadcast::shapes(&ellipsis, middle);
        }
        for (letter, dim) in term.before.iter().zip(head).chain(term.after.iter().zip(tail)) {
            let known = sizes.entry(*letter).or_insert(Dim::Fixed(1));
            *known = broadcast::dims(known, dim);
        }
    }
    let result = match result {
        Some(result) => term(result),
        None => {
            // Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order.
            let count = |letter: char| operands.chars().filter(|c| *c == letter).count();
            let once = sizes
                .keys()
                .copied()
                .filter(|letter| count(*letter) == 1)
                .collect();
            Term {
                before: Vec::new(),
                ellipsis: terms.iter().any(|term| term.ellipsis),
                after: once,
            }
        }
    };
    Some(Equation {
        sizes,
        ellipsis,
        result,
    })
}

fn einsum(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let Equation {
        sizes,
        ellipsis,
        result,
    } = equation(call)?;
    let side = |letters: &[char]| {
        letters
            .iter()
            .map(|letter| sizes.get(letter).cloned())
            .collect::<Option<Vec<Dim>>>()
    };
    let mut shape = side(&result.before)?;
    if result.ellipsis {
        shape.extend(ellipsis);
    }
    shape.extend(side(&result.after)?);
    facts.shape(0, shape);
    Some(())
}
