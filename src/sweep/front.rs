//! Points that no other beats.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

/// A figure that points are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// Whether less of it is better.
    pub less_is_better: bool,
    /// Whether it is a time, which depends on the machine.
    pub timed: bool,
}

impl Measure {
    /// A figure that does not depend on the machine.
    pub fn new(name: &str, less_is_better: bool) -> Self {
        Self {
            name: name.to_owned(),
            less_is_better,
            timed: false,
        }
    }

    /// A time.
    pub fn timed(name: &str) -> Self {
        Self {
            timed: true,
            ..Self::new(name, true)
        }
    }

    /// What makes more of it better.
    pub(super) fn sign(&self) -> f64 {
        if self.less_is_better { -1.0 } else { 1.0 }
    }
}

type Figures = IndexMap<String, f64>;

/// The figures of a point, more being better; `None` where one is missing or no number.
fn goods(figures: &Figures, measures: &[Measure]) -> Option<Vec<f64>> {
    measures
        .iter()
        .map(|measure| {
            let value = measure.sign() * figures.get(&measure.name)?;
            value.is_finite().then_some(value)
        })
        .collect()
}

/// Whether one is as good in everything and better in something.
fn beats(one: &[f64], other: &[f64]) -> bool {
    let pairs = || one.iter().zip(other);
    pairs().all(|(one, other)| one >= other) && pairs().any(|(one, other)| one > other)
}

/// For each point whether none beats it. A point that lacks a measure is never among these; points that are the same in all are together.
pub fn front(points: &[&Figures], measures: &[Measure]) -> Vec<bool> {
    layers(points, measures)
        .into_iter()
        .map(|layer| layer == 0)
        .collect()
}

/// For each point the layer in which it is on the front, once all layers before are taken away; `usize::MAX` where it lacks a measure.
pub fn layers(points: &[&Figures], measures: &[Measure]) -> Vec<usize> {
    let goods: Vec<Option<Vec<f64>>> = points.iter().map(|figures| goods(figures, measures)).collect();
    let mut layers = vec![usize::MAX; points.len()];
    let mut left: Vec<(usize, &Vec<f64>)> = goods
        .iter()
        .enumerate()
        .filter_map(|(at, goods)| Some((at, goods.as_ref()?)))
        .collect();
    let mut layer = 0;
    while !left.is_empty() {
        let beaten = |own: &[f64]| left.iter().any(|(_, other)| beats(other, own));
        let (rest, found): (Vec<_>, Vec<_>) = left.iter().copied().partition(|(_, own)| beaten(own));
        for (at, _) in found {
            if let Some(place) = layers.get_mut(at) {
                *place = layer;
            }
        }
        left = rest;
        layer += 1;
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_from_who_beats_whom() {
        let measures = [
            Measure::new("f", false),
            Measure::new("b", true),
            Measure::timed("t"),
        ];
        let point = |f: f64, b: f64, t: f64| {
            Figures::from([("f".to_owned(), f), ("b".to_owned(), b), ("t".to_owned(), t)])
        };
        let mut lacking = point(1.0, 1.0, 1.0);
        lacking.shift_remove("t");
        let points = [
            point(0.9, 10.0, 1.0),
            point(0.9, 10.0, 1.0),
            point(0.9, 11.0, 1.0),
            point(0.8, 12.0, 0.5),
            point(0.8, 12.0, 2.0),
            point(f64::NAN, 1.0, 1.0),
            lacking,
        ];
        let points: Vec<&Figures> = points.iter().collect();
        let max = usize::MAX;
        assert_eq!(layers(&points, &measures), [0, 0, 1, 0, 2, max, max]);
        assert_eq!(
            front(&points, &measures),
            [true, true, false, true, false, false, false]
        );
        assert_eq!(front(&points[4..5], &measures), [true]);
        assert!(front(&[], &measures).is_empty());
    }
}
