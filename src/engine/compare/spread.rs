//! What rounding leaves known of each element of an output: runs of the reference that round in other ways say how far it moves.

use super::figures::Comparison;
use super::noise::MARGIN;
use super::tensors::{compare, numbers};
use super::verdict::{Tolerances, Verdict};
use crate::engine::{RunValue, RunValues};

/// A difference so many times beyond what one way of rounding explains is explained by no other way either.
const HOPELESS: f64 = 64.0 * MARGIN;

/// What is known beside the runs of how an output comes about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origins {
    /// It rests on numbers that overflow in the reference: where it is infinite or undefined, it does not say what the function is.
    pub overflow: bool,
    /// It rests on a function that is infinite at a finite place: next to that, what rounding moves by half of itself may be any
    /// number.
    pub pole: bool,
}

/// The outputs that differ on one sample.
pub struct Doubtful<'r> {
    outputs: Vec<Output<'r>>,
    tolerances: &'r Tolerances,
}

struct Output<'r> {
    name: &'r str,
    comparison: &'r Comparison,
    expected: &'r RunValue,
    elements: Option<Elements>,
    /// Whether a run explains the output as a whole.
    whole: bool,
}

/// The elements of a float output.
struct Elements {
    expected: Vec<f64>,
    found: Vec<f64>,
    /// How far each moved, where it stayed finite.
    spread: Vec<f64>,
    /// Whether it was finite in some runs, or infinite or undefined in another way.
    unsteady: Vec<bool>,
    /// Whether it is infinite or undefined without an infinite input.
    over: Vec<bool>,
    allowed: f64,
}

impl<'r> Doubtful<'r> {
    /// The outputs in `differing` that both runs have.
    pub fn new(
        (expected, found): (&'r RunValues, &'r RunValues),
        differing: &'r [(String, Comparison)],
        tolerances: &'r Tolerances,
    ) -> Self {
        let output = |(name, comparison): &'r (String, Comparison)| {
            let expected = expected.get(name)?;
            Some(Output {
                name,
                comparison,
                expected,
                elements: Elements::of(expected, found.get(name)?, tolerances),
                whole: false,
            })
        };
        Self {
            outputs: differing.iter().filter_map(output).collect(),
            tolerances,
        }
    }

    /// Takes in a run of the reference without the infinite inputs: what is a number in it does not overflow.
    pub fn without_infinities(&mut self, finite: &RunValues) {
        for output in &mut self.outputs {
            let run = finite.get(output.name);
            if let Some(elements) = &mut output.elements {
                let over = run.and_then(|run| elements.read(run));
                let over = over.map(|values| values.iter().map(|v| !v.is_finite()).collect());
                elements.over = over.unwrap_or_else(|| vec![false; elements.expected.len()]);
            }
        }
    }

    /// Takes in a run of the reference that rounded in another way.
    pub fn add(&mut self, moved: &RunValues) {
        for output in &mut self.outputs {
            let Some(moved) = moved.get(output.name) else {
                continue;
            };
            match &mut output.elements {
                Some(elements) => output.whole |= !elements.add(moved),
                None => output.whole |= output.comes_from(&compare(output.expected, moved, self.tolerances)),
            }
        }
    }

    /// The outputs whose difference is explained by now; `origins` knows how an output comes about.
    pub fn explained(&self, origins: impl Fn(&str) -> Origins) -> Vec<String> {
        let explained = |output: &&Output<'_>| {
            let elements = output.elements.as_ref();
            output.whole || elements.is_some_and(|elements| elements.are_explained(origins(output.name)))
        };
        let names = self.outputs.iter().filter(explained);
        names.map(|output| output.name.to_owned()).collect()
    }

    /// Whether an output differs by so much more than the runs explain that further ones are in vain.
    pub fn is_hopeless(&self, origins: impl Fn(&str) -> Origins) -> bool {
        self.outputs.iter().any(|output| {
            let elements = output.elements.as_ref().filter(|_| !output.whole);
            elements.is_some_and(|elements| elements.are_hopeless(origins(output.name)))
        })
    }
}

impl Output<'_> {
    /// Whether a run that differs like this from the reference explains an output that is not compared by element.
    fn comes_from(&self, noise: &Comparison) -> bool {
        let comparison = self.comparison;
        // One element on an edge says nothing of others that no tolerance lets move.
        let few = !comparison.is_exact() || comparison.differing as f64 <= MARGIN * noise.differing as f64;
        let near = comparison.reason().is_none() && few && comparison.max_abs() <= MARGIN * noise.max_abs();
        noise.whole() == Verdict::Different && (noise.reason().is_some() || near)
    }
}

impl Elements {
    /// `None` where elements are not floats, or not those of one shape and type.
    fn of(expected: &RunValue, found: &RunValue, tolerances: &Tolerances) -> Option<Self> {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (expected, found) else {
            return None;
        };
        if !a.dtype().is_float() || a.dtype() != b.dtype() || a.dims() != b.dims() {
            return None;
        }
        let (expected, found) = (numbers(a)?, numbers(b)?);
        let finite = expected.iter().filter(|v| v.is_finite());
        let largest = finite.fold(0.0, |most: f64, v| most.max(v.abs()));
        Some(Self {
            spread: vec![0.0; expected.len()],
            unsteady: vec![false; expected.len()],
            over: expected.iter().map(|v| !v.is_finite()).collect(),
            allowed: tolerances.of(a.dtype()) * largest,
            expected,
            found,
        })
    }

    /// What another run gave, if it has these elements.
    fn read(&self, value: &RunValue) -> Option<Vec<f64>> {
        let RunValue::Tensor(tensor) = value else {
            return None;
        };
        numbers(tensor).filter(|numbers| numbers.len() == self.expected.len())
    }

    /// Takes in what another run gave; whether it has these elements.
    fn add(&mut self, moved: &RunValue) -> bool {
        let Some(moved) = self.read(moved) else {
            return false;
        };
        let places = self.spread.iter_mut().zip(&mut self.unsteady);
        for ((spread, unsteady), (a, m)) in places.zip(self.expected.iter().zip(&moved)) {
            if a.is_finite() && m.is_finite() {
                *spread = spread.max((a - m).abs());
            } else {
                *unsteady |= !same(*a, *m);
            }
        }
        true
    }

    /// Expected and found numbers, what the expected one moved by, and whether nothing of it is known.
    fn all(&self, pole: bool) -> impl Iterator<Item = (f64, f64, f64, bool)> {
        let pairs = self.expected.iter().zip(&self.found);
        let moves = self.spread.iter().zip(&self.unsteady);
        pairs.zip(moves).map(move |((a, b), (spread, unsteady))| {
            // A zero is what a guard puts in the place of a pole.
            let half = pole && *a != 0.0 && *spread >= a.abs() / 2.0;
            (*a, *b, *spread, *unsteady || half)
        })
    }

    /// The most that an element moved of which something is known.
    fn noise(&self, pole: bool) -> f64 {
        let known = self.all(pole).filter(|(_, _, _, unknown)| !unknown);
        known.fold(0.0, |most: f64, (_, _, spread, _)| most.max(spread))
    }

    fn are_explained(&self, origins: Origins) -> bool {
        let noise = self.noise(origins.pole);
        let room = if noise > self.allowed {
            MARGIN * noise
        } else {
            self.allowed
        };
        self.all(origins.pole)
            .zip(&self.over)
            .all(|((a, b, _, unknown), over)| {
                let near = a.is_finite() && b.is_finite() && (a - b).abs() <= room;
                let overflow = origins.overflow && *over && !a.is_finite() && b.is_finite();
                near || unknown || overflow || same(a, b)
            })
    }

    fn are_hopeless(&self, origins: Origins) -> bool {
        let room = (HOPELESS * self.noise(origins.pole)).max(self.allowed);
        self.all(origins.pole)
            .any(|(a, b, _, unknown)| !unknown && a.is_finite() && b.is_finite() && (a - b).abs() > room)
    }
}

fn same(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;

    fn run(values: &[f32]) -> RunValues {
        let tensor = Tensor::from_slice(&[values.len() as u64], values).unwrap();
        RunValues::from([("y".to_owned(), RunValue::Tensor(tensor))])
    }

    fn explained(expected: &[f32], found: &[f32], runs: &[&[f32]], origins: Origins) -> bool {
        let (expected, found) = (run(expected), run(found));
        let tolerances = Tolerances::default();
        let differing = [("y".to_owned(), compare(&expected["y"], &found["y"], &tolerances))];
        assert_eq!(differing[0].1.whole(), Verdict::Different);
        let mut doubtful = Doubtful::new((&expected, &found), &differing, &tolerances);
        runs.iter().for_each(|values| doubtful.add(&run(values)));
        !doubtful.explained(|_| origins).is_empty()
    }

    const POLE: Origins = Origins {
        overflow: false,
        pole: true,
    };

    #[test]
    fn an_element_that_rounding_moves_to_infinity_is_unknown_and_no_other_one() {
        let none = Origins::default();
        let inf = f32::INFINITY;
        assert!(explained(&[65504.0, 1.0], &[inf, 1.0], &[&[inf, 1.0]], none));
        assert!(!explained(&[65504.0, 1.0], &[inf, 100.0], &[&[inf, 1.0]], none));
        assert!(!explained(&[1.0, 65504.0], &[1.0, inf], &[&[inf, 65504.0]], none));
        assert!(!explained(&[65504.0, 1.0], &[inf, 1.0], &[&[65000.0, 1.0]], none));
    }

    #[test]
    fn what_moves_by_half_of_itself_is_unknown_next_to_a_pole_alone() {
        let (expected, found) = ([-1.4e7, 1.0], [f32::INFINITY, 1.0]);
        let runs: [&[f32]; 1] = [&[2e7, 1.0]];
        assert!(explained(&expected, &found, &runs, POLE));
        assert!(!explained(&expected, &found, &runs, Origins::default()));
        assert!(!explained(&expected, &found, &[&[-1.41e7, 1.0]], POLE));
        assert!(!explained(
            &[0.0, 1.0],
            &[f32::INFINITY, 1.0],
            &[&[1e7, 1.0]],
            POLE
        ));
        // The noise of a difference of equal numbers is no pole: it has a size.
        assert!(!explained(
            &[1e-7, 0.0],
            &[5.0, 0.0],
            &[&[-1e-7, 0.0]],
            Origins::default()
        ));
    }

    #[test]
    fn an_overflow_of_the_reference_is_unknown_and_one_of_the_model_is_not() {
        let overflow = Origins {
            overflow: true,
            pole: false,
        };
        let inf = f32::INFINITY;
        assert!(explained(&[inf, 1.0], &[3.0, 1.0], &[], overflow));
        assert!(!explained(&[inf, 1.0], &[3.0, 2.0], &[], overflow));
        assert!(!explained(&[3.0, 1.0], &[inf, 1.0], &[], overflow));
        assert!(!explained(&[inf, 1.0], &[-inf, 1.0], &[], overflow));
        // What is infinite because of an infinite input is no overflow.
        let (expected, found) = (run(&[inf, inf]), run(&[3.0, inf]));
        let tolerances = Tolerances::default();
        let differing = [("y".to_owned(), compare(&expected["y"], &found["y"], &tolerances))];
        for (finite, excused) in [([inf, 0.0], true), ([0.0, inf], false)] {
            let mut doubtful = Doubtful::new((&expected, &found), &differing, &tolerances);
            doubtful.without_infinities(&run(&finite));
            assert_eq!(
                !doubtful.explained(|_| overflow).is_empty(),
                excused,
                "{finite:?}"
            );
        }
    }

    #[test]
    fn far_more_than_rounding_does_is_hopeless() {
        let (expected, found) = (run(&[1.0, 2.0]), run(&[1.5, 2.0]));
        let tolerances = Tolerances::default();
        let differing = [("y".to_owned(), compare(&expected["y"], &found["y"], &tolerances))];
        let mut doubtful = Doubtful::new((&expected, &found), &differing, &tolerances);
        doubtful.add(&run(&[1.0, 2.000_001]));
        assert!(doubtful.is_hopeless(|_| Origins::default()));
        doubtful.add(&run(&[1.01, 2.0]));
        assert!(!doubtful.is_hopeless(|_| Origins::default()));
    }
}
