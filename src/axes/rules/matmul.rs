//! Matrix products.

use std::collections::BTreeMap;

use super::super::elements::Axis;
use super::super::rule::{Axes, Rule, SumKind};

pub(super) fn matmul(rule: &mut Rule<'_>) -> Option<()> {
    product(rule, 0, 1)
}

/// Zero points: a scalar, or one value a row of A (2) and a column of B (3).
pub(super) fn matmul_integer(rule: &mut Rule<'_>) -> Option<()> {
    if rule
        .axes(2)
        .is_some_and(|axes| axes.iter().any(|axis| axis.is_free()))
    {
        return None;
    }
    product(rule, 0, 1)?;
    per_column(rule, 1, &[3])
}

pub(super) fn qlinear_matmul(rule: &mut Rule<'_>) -> Option<()> {
    let mut per_row = |slot| {
        rule.axes(slot)
            .is_some_and(|axes| axes.iter().any(|axis| axis.is_free()))
    };
    if per_row(1) || per_row(2) || per_row(6) || per_row(7) {
        return None;
    }
    product(rule, 0, 3)?;
    per_column(rule, 3, &[4, 5])
}

fn per_column(rule: &mut Rule<'_>, weights: usize, slots: &[usize]) -> Option<()> {
    let columns = *rule.axes(weights)?.last()?;
    for slot in slots {
        if let Some(axes) = rule.axes(*slot)
            && let Some((at, axis)) = axes.iter().enumerate().find(|(_, axis)| axis.is_free())
        {
            rule.same(*axis, columns, *slot, at);
        }
    }
    Some(())
}

/// `[..., M, K] x [..., K, N]`, an operand of rank 1 promoted.
pub(super) fn product(rule: &mut Rule<'_>, left: usize, right: usize) -> Option<()> {
    let (a, b) = (rule.axes(left)?, rule.axes(right)?);
    let inner = a.len().checked_sub(1)?;
    rule.tie(*a.last()?, right, b.len().saturating_sub(2));
    if rule.tensor(left).is_none() && rule.tensor(right).is_none() {
        rule.sum(left, inner, SumKind::Sum);
    }
    let mut result: Axes = if a.len() > 2 || b.len() > 2 {
        rule.broadcast(&[left, right], 2)?
    } else {
        Axes::new()
    };
    if a.len() > 1 {
        result.push(a[a.len() - 2]);
    }
    if b.len() > 1 {
        result.push(*b.last()?);
    }
    rule.set(0, result);
    Some(())
}

/// `[M, K] x [K, N] + C`, both transposed on request.
pub(super) fn gemm(rule: &mut Rule<'_>) -> Option<()> {
    let (a, b) = (rule.axes(0)?, rule.axes(1)?);
    if a.len() != 2 || b.len() != 2 {
        return None;
    }
    let at_a = usize::from(rule.int("transA", 0) != 0);
    let at_b = usize::from(rule.int("transB", 0) != 0);
    rule.same(a[1 - at_a], b[at_b], 0, 1 - at_a);
    if rule.tensor(0).is_none() && rule.tensor(1).is_none() {
        rule.sum(0, 1 - at_a, SumKind::Sum);
    }
    let result = [a[at_a], b[1 - at_b]];
    if rule.has(2) {
        let c = rule.axes(2)?;
        for (at, axis) in c.iter().enumerate() {
            let target = *result.get((at + 2).checked_sub(c.len())?)?;
            if rule.dim(2, at)?.fixed() != Some(1) {
                rule.same(*axis, target, 2, at);
            }
        }
    }
    rule.set(0, result);
    Some(())
}

/// One axis a letter; no ellipsis, no letter twice in a term.
pub(super) fn einsum(rule: &mut Rule<'_>) -> Option<()> {
    let equation: String = rule
        .operator
        .string("equation")?
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (terms, result) = equation.split_once("->")?;
    let terms: Vec<Vec<char>> = terms.split(',').map(|term| term.chars().collect()).collect();
    if equation.contains('.') || terms.len() != rule.inputs.len() {
        return None;
    }
    let mut letters: BTreeMap<char, Axis> = BTreeMap::new();
    for (slot, term) in terms.iter().enumerate() {
        let axes = rule.axes(slot)?;
        let repeated = term
            .iter()
            .enumerate()
            .any(|(at, letter)| term[..at].contains(letter));
        if axes.len() != term.len() || repeated {
            return None;
        }
        for (at, letter) in term.iter().enumerate() {
            if rule.dim(slot, at)?.fixed() == Some(1) {
                continue;
            }
            match letters.get(letter).copied() {
                None => {
                    letters.insert(*letter, axes[at]);
                }
                Some(known) => {
                    rule.same(axes[at], known, slot, at);
                    if !axes[at].is_free() {
                        letters.insert(*letter, Axis::Fixed);
                    }
                }
            }
        }
    }
    let kept: Vec<char> = result.chars().collect();
    for letter in letters.keys().filter(|letter| !kept.contains(letter)) {
        let place = terms
            .iter()
            .enumerate()
            .find_map(|(slot, term)| Some((slot, term.iter().position(|c| c == letter)?)));
        if let Some((slot, at)) = place {
            rule.sum(slot, at, SumKind::Sum);
        }
    }
    rule.set(
        0,
        kept.iter()
            .map(|letter| letters.get(letter).copied().unwrap_or(Axis::Fixed)),
    );
    Some(())
}
