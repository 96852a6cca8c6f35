//! Helpers about lists of whole numbers: axes, pads, permutations.

use super::super::value::{Reason, Val};
use super::{Helper, Kind, argument, int_of, ints_of, normal_axis, truth, unknown};

/// Longest list that a helper makes.
const MOST: i64 = 4096;

/// Rows of the table.
pub(super) const TABLE: &[Helper] = &[
    Helper {
        name: "len",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Number,
        docs: "Number of elements of a list.",
        run: |_, a| match argument(a, 0) {
            Val::Ints(list) => Ok(Val::Int(list.len() as i64)),
            Val::Floats(list) => Ok(Val::Int(list.len() as i64)),
            _ => Err(unknown("not a list")),
        },
    },
    Helper {
        name: "lowest",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Number,
        docs: "The lowest element; fails for an empty list.",
        run: |_, a| {
            ints_of(a, 0)?
                .iter()
                .min()
                .map(|v| Val::Int(*v))
                .ok_or(unknown("the list is empty"))
        },
    },
    Helper {
        name: "highest",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Number,
        docs: "The highest element; fails for an empty list.",
        run: |_, a| {
            ints_of(a, 0)?
                .iter()
                .max()
                .map(|v| Val::Int(*v))
                .ok_or(unknown("the list is empty"))
        },
    },
    Helper {
        name: "higher",
        arguments: &[("a", Kind::Number), ("b", Kind::Number)],
        variadic: false,
        result: Kind::Number,
        docs: "The higher of two numbers.",
        run: |_, a| chosen(a, |x, y| x >= y),
    },
    Helper {
        name: "lower",
        arguments: &[("a", Kind::Number), ("b", Kind::Number)],
        variadic: false,
        result: Kind::Number,
        docs: "The lower of two numbers.",
        run: |_, a| chosen(a, |x, y| x <= y),
    },
    Helper {
        name: "text_in",
        arguments: &[("text", Kind::Text), ("choice", Kind::Text)],
        variadic: true,
        result: Kind::Truth,
        docs: "The text is one of the choices.",
        run: |_, a| {
            let Val::Text(text) = argument(a, 0) else {
                return Err(unknown("not a text"));
            };
            truth(
                a.iter()
                    .skip(1)
                    .any(|choice| matches!(choice, Val::Text(one) if one == text)),
            )
        },
    },
    Helper {
        name: "at",
        arguments: &[("list", Kind::List), ("index", Kind::Number)],
        variadic: false,
        result: Kind::Number,
        docs: "One element, counted from 0, or from the end below 0.",
        run: |_, a| {
            let list = ints_of(a, 0)?;
            let at = normal_axis(int_of(a, 1)?, list.len())?;
            list.get(at)
                .map(|v| Val::Int(*v))
                .ok_or(unknown("no such element"))
        },
    },
    Helper {
        name: "tail",
        arguments: &[("list", Kind::List), ("from", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "The elements from an index on.",
        run: |_, a| {
            let list = ints_of(a, 0)?;
            let from = usize::try_from(int_of(a, 1)?).map_err(|_| unknown("a negative index"))?;
            list.get(from..)
                .map(|rest| Val::Ints(rest.to_vec()))
                .ok_or(unknown("no such element"))
        },
    },
    Helper {
        name: "joined",
        arguments: &[("a", Kind::List), ("b", Kind::List)],
        variadic: false,
        result: Kind::List,
        docs: "One list after the other.",
        run: |_, a| Ok(Val::Ints([ints_of(a, 0)?, ints_of(a, 1)?].concat())),
    },
    Helper {
        name: "range",
        arguments: &[("start", Kind::Number), ("end", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "`start`, `start + 1`, ... below `end`.",
        run: |_, a| {
            let (start, end) = (int_of(a, 0)?, int_of(a, 1)?);
            if end.saturating_sub(start) > MOST {
                Err(unknown("the list is too long"))
            } else {
                Ok(Val::Ints((start..end).collect()))
            }
        },
    },
    Helper {
        name: "repeated",
        arguments: &[("number", Kind::Number), ("count", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "A number, `count` times.",
        run: |_, a| {
            let (number, count) = (int_of(a, 0)?, int_of(a, 1)?);
            if (0..=MOST).contains(&count) {
                Ok(Val::Ints(vec![number; count as usize]))
            } else {
                Err(unknown("the list is too long"))
            }
        },
    },
    Helper {
        name: "sorted",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::List,
        docs: "The list in rising order.",
        run: |_, a| {
            let mut list = ints_of(a, 0)?.to_vec();
            list.sort_unstable();
            Ok(Val::Ints(list))
        },
    },
    Helper {
        name: "axes",
        arguments: &[("list", Kind::List), ("rank", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "Axes in rising order, those below 0 counted from the end; fails if one is out of range or stands twice.",
        run: |_, a| Ok(Val::Ints(normal_axes(ints_of(a, 0)?, rank_of(a, 1)?)?)),
    },
    Helper {
        name: "axis",
        arguments: &[("axis", Kind::Number), ("rank", Kind::Number)],
        variadic: false,
        result: Kind::Number,
        docs: "An axis, counted from the end when below 0.",
        run: |_, a| Ok(Val::Int(normal_axis(int_of(a, 0)?, rank_of(a, 1)?)? as i64)),
    },
    Helper {
        name: "in_place",
        arguments: &[("axes", Kind::List), ("rank", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "Axes counted from the end when below 0, in the order given.",
        run: |_, a| {
            let rank = rank_of(a, 1)?;
            ints_of(a, 0)?
                .iter()
                .map(|axis| normal_axis(*axis, rank).map(|at| at as i64))
                .collect::<Result<_, _>>()
                .map(Val::Ints)
        },
    },
    Helper {
        name: "disjoint",
        arguments: &[("a", Kind::List), ("b", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "No number stands in both lists.",
        run: |_, a| {
            let (left, right) = (ints_of(a, 0)?, ints_of(a, 1)?);
            truth(left.iter().all(|v| !right.contains(v)))
        },
    },
    Helper {
        name: "zeros",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every element is 0.",
        run: |_, a| truth(ints_of(a, 0)?.iter().all(|v| *v == 0)),
    },
    Helper {
        name: "ones",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "Every element is 1.",
        run: |_, a| truth(ints_of(a, 0)?.iter().all(|v| *v == 1)),
    },
    Helper {
        name: "trailing",
        arguments: &[("axes", Kind::List), ("rank", Kind::Number)],
        variadic: false,
        result: Kind::Truth,
        docs: "The axes are the last ones, without a gap.",
        run: |_, a| {
            let rank = rank_of(a, 1)?;
            let axes = normal_axes(ints_of(a, 0)?, rank)?;
            truth(!axes.is_empty() && axes.first() == Some(&((rank - axes.len()) as i64)))
        },
    },
    Helper {
        name: "reversed",
        arguments: &[("rank", Kind::Number)],
        variadic: false,
        result: Kind::List,
        docs: "The permutation that `Transpose` has by default.",
        run: |_, a| Ok(Val::Ints((0..rank_of(a, 0)? as i64).rev().collect())),
    },
    Helper {
        name: "permutation",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "The list holds each of 0 to n-1 once.",
        run: |_, a| truth(is_permutation(ints_of(a, 0)?)),
    },
    Helper {
        name: "identity_permutation",
        arguments: &[("list", Kind::List)],
        variadic: false,
        result: Kind::Truth,
        docs: "The list is 0, 1, ... n-1.",
        run: |_, a| truth(ints_of(a, 0)?.iter().enumerate().all(|(i, v)| *v == i as i64)),
    },
    Helper {
        name: "composed",
        arguments: &[("first", Kind::List), ("second", Kind::List)],
        variadic: false,
        result: Kind::List,
        docs: "The permutation of `Transpose` by `first`, then by `second`.",
        run: |_, a| {
            let (first, second) = (ints_of(a, 0)?, ints_of(a, 1)?);
            if first.len() != second.len() || !is_permutation(first) || !is_permutation(second) {
                return Err(unknown("not two permutations of one rank"));
            }
            let found: Option<Vec<i64>> = second.iter().map(|at| first.get(*at as usize).copied()).collect();
            found.map(Val::Ints).ok_or(unknown("not a permutation"))
        },
    },
    Helper {
        name: "spatial_pads",
        arguments: &[("pads", Kind::List)],
        variadic: false,
        result: Kind::List,
        docs: "The pads of `Pad` without those of batch and channels; fails if these are not 0 or any is negative.",
        run: |_, a| {
            let pads = ints_of(a, 0)?;
            let rank = pads.len() / 2;
            if pads.len() % 2 == 1 || rank < 3 || pads.iter().any(|pad| *pad < 0) {
                return Err(unknown("pads are negative or not those of an image"));
            }
            let (begin, end) = pads.split_at(rank);
            match (begin, end) {
                ([0, 0, begin @ ..], [0, 0, end @ ..]) => Ok(Val::Ints([begin, end].concat())),
                _ => Err(unknown("batch or channels are padded")),
            }
        },
    },
    Helper {
        name: "unsqueeze_axes",
        arguments: &[
            ("inner", Kind::List),
            ("outer", Kind::List),
            ("rank", Kind::Number),
        ],
        variadic: false,
        result: Kind::List,
        docs: "The axes of one `Unsqueeze` that does the work of two; `rank` is that of the last result.",
        run: |_, a| {
            let (inner, outer, rank) = (ints_of(a, 0)?, ints_of(a, 1)?, rank_of(a, 2)?);
            let outer = normal_axes(outer, rank)?;
            let inner = normal_axes(
                inner,
                rank.checked_sub(outer.len())
                    .ok_or(unknown("more axes than dimensions"))?,
            )?;
            let free: Vec<i64> = (0..rank as i64).filter(|axis| !outer.contains(axis)).collect();
            let moved: Option<Vec<i64>> = inner
                .iter()
                .map(|axis| free.get(*axis as usize).copied())
                .collect();
            let mut all = [outer, moved.ok_or(unknown("an axis is out of range"))?].concat();
            all.sort_unstable();
            Ok(Val::Ints(all))
        },
    },
    Helper {
        name: "squeeze_axes",
        arguments: &[
            ("inner", Kind::List),
            ("outer", Kind::List),
            ("rank", Kind::Number),
        ],
        variadic: false,
        result: Kind::List,
        docs: "The axes of one `Squeeze` that does the work of two; `rank` is that of the first operand.",
        run: |_, a| {
            let (inner, outer, rank) = (ints_of(a, 0)?, ints_of(a, 1)?, rank_of(a, 2)?);
            let inner = normal_axes(inner, rank)?;
            let kept: Vec<i64> = (0..rank as i64).filter(|axis| !inner.contains(axis)).collect();
            let outer = normal_axes(outer, kept.len())?;
            let moved: Option<Vec<i64>> = outer
                .iter()
                .map(|axis| kept.get(*axis as usize).copied())
                .collect();
            let mut all = [inner, moved.ok_or(unknown("an axis is out of range"))?].concat();
            all.sort_unstable();
            Ok(Val::Ints(all))
        },
    },
    Helper {
        name: "matmul_equation",
        arguments: &[("equation", Kind::Text)],
        variadic: false,
        result: Kind::Truth,
        docs: "The `Einsum` equation is that of `MatMul`: `ij,jk->ik` with the same leading letters in all three terms.",
        run: |_, a| match argument(a, 0) {
            Val::Text(text) => truth(is_matmul(text)),
            _ => Err(unknown("not a text")),
        },
    },
];

fn chosen(arguments: &[Val], first: fn(f64, f64) -> bool) -> Result<Val, Reason> {
    let (a, b) = (argument(arguments, 0), argument(arguments, 1));
    match (a.number(), b.number()) {
        (Some(x), Some(y)) => Ok(if first(x, y) { a.clone() } else { b.clone() }),
        _ => Err(unknown("not a number")),
    }
}

fn rank_of(arguments: &[Val], index: usize) -> Result<usize, Reason> {
    usize::try_from(int_of(arguments, index)?)
        .ok()
        .filter(|r| *r <= MOST as usize)
        .ok_or(unknown("not a rank"))
}

fn normal_axes(list: &[i64], rank: usize) -> Result<Vec<i64>, Reason> {
    let mut found = list
        .iter()
        .map(|axis| normal_axis(*axis, rank).map(|at| at as i64))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    if found.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        Err(unknown("an axis stands twice"))
    } else {
        Ok(found)
    }
}

fn is_permutation(list: &[i64]) -> bool {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted.iter().enumerate().all(|(i, v)| *v == i as i64)
}

fn is_matmul(equation: &str) -> bool {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((operands, result)) = text.split_once("->") else {
        return false;
    };
    let Some((left, right)) = operands.split_once(',') else {
        return false;
    };
    let terms = [left, right, result].map(|term| term.chars().collect::<Vec<char>>());
    let distinct = |term: &[char]| {
        term.iter()
            .enumerate()
            .all(|(i, c)| c.is_ascii_alphabetic() && !term.iter().take(i).any(|d| d == c))
    };
    let [left, right, result] = &terms;
    if !terms.iter().all(|term| distinct(term)) {
        return false;
    }
    match (left.as_slice(), right.as_slice(), result.as_slice()) {
        ([a @ .., i, j], [b @ .., j2, k], [c @ .., i2, k2]) => {
            j == j2 && i == i2 && k == k2 && a == b && b == c && i != k && !a.contains(k) && !b.contains(i)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scope, find};
    use super::*;
    use crate::ir::GraphBuilder;

    fn run(name: &str, arguments: &[Val]) -> Result<Val, Reason> {
        let graph = GraphBuilder::new().finish();
        (find(name).unwrap().run)(&Scope { graph: &graph }, arguments)
    }

    fn list(values: &[i64]) -> Val {
        Val::Ints(values.to_vec())
    }

    #[test]
    fn lists_compute_what_their_documentation_says() {
        let cases = [
            (
                "composed",
                vec![list(&[2, 0, 1]), list(&[1, 2, 0])],
                list(&[0, 1, 2]),
            ),
            (
                "unsqueeze_axes",
                vec![list(&[0]), list(&[3]), Val::Int(4)],
                list(&[0, 3]),
            ),
            (
                "unsqueeze_axes",
                vec![list(&[1]), list(&[0]), Val::Int(4)],
                list(&[0, 2]),
            ),
            (
                "squeeze_axes",
                vec![list(&[0]), list(&[2]), Val::Int(4)],
                list(&[0, 3]),
            ),
            (
                "spatial_pads",
                vec![list(&[0, 0, 1, 2, 0, 0, 3, 4])],
                list(&[1, 2, 3, 4]),
            ),
            ("axes", vec![list(&[-1, 0]), Val::Int(3)], list(&[0, 2])),
            ("trailing", vec![list(&[-1, 1]), Val::Int(3)], Val::Bool(true)),
            ("trailing", vec![list(&[0]), Val::Int(2)], Val::Bool(false)),
            (
                "matmul_equation",
                vec![Val::Text("bij, bjk -> bik".into())],
                Val::Bool(true),
            ),
            (
                "matmul_equation",
                vec![Val::Text("bij,bkj->bik".into())],
                Val::Bool(false),
            ),
            (
                "matmul_equation",
                vec![Val::Text("ij,ji->ii".into())],
                Val::Bool(false),
            ),
        ];
        for (name, arguments, wanted) in cases {
            let found = run(name, &arguments).unwrap();
            assert!(found.same_as(&wanted), "{name}{arguments:?}: {found:?}");
        }
        assert!(run("axes", &[list(&[1, -2]), Val::Int(3)]).is_err());
        assert!(run("spatial_pads", &[list(&[0, 1, 1, 1, 0, 0, 1, 1])]).is_err());
        assert!(run("composed", &[list(&[0, 0]), list(&[1, 0])]).is_err());
    }
}
