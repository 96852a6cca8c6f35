//! L-BFGS: minimisation of a smooth function from its gradients (Nocedal and Wright, Numerical Optimization, algorithm 7.5), with a line
//! search for the strong Wolfe conditions (algorithms 3.5 and 3.6).

use std::collections::VecDeque;

use ndarray::Array1;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// Largest absolute value of the gradient's elements.
    pub gradient: f64,
    /// Steps.
    pub steps: usize,
}

/// Where the search ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimum {
    /// The point.
    pub point: Array1<f64>,
    /// The function there.
    pub value: f64,
    /// Largest absolute value of the gradient's elements there.
    pub gradient: f64,
    /// Steps taken.
    pub steps: usize,
}

/// Pairs of differences that the Hessian is approximated from.
const MEMORY: usize = 10;
/// Share of the decrease that the slope promises, which a step has to reach.
const DECREASE: f64 = 1e-4;
/// Share of the slope that may be left after a step.
const CURVATURE: f64 = 0.9;
/// Evaluations of one line search.
const EVALUATIONS: usize = 25;

/// Minimises `evaluate`, which answers value and gradient, from `start` on. It ends early where no step lowers the value any more,
/// which in floating point happens next to the minimum.
///
/// # Errors
/// Those of `evaluate`.
pub fn minimise<E>(
    start: Array1<f64>,
    stop: Stop,
    mut evaluate: impl FnMut(&Array1<f64>) -> Result<(f64, Array1<f64>), E>,
) -> Result<Minimum, E> {
    let (mut value, mut slope) = evaluate(&start)?;
    let mut point = start;
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut steps = 0;
    while steps < stop.steps && largest(&slope) > stop.gradient {
        let mut direction = descent(&slope, &pairs);
        if direction.dot(&slope) >= 0.0 {
            pairs.clear();
            direction = -&slope;
        }
        let first = if pairs.is_empty() {
            (1.0 / norm(&slope)).min(1.0)
        } else {
            1.0
        };
        let mut line = Line {
            evaluate: &mut evaluate,
            point: &point,
            direction: &direction,
            value,
            slope: direction.dot(&slope),
        };
        let Some(found) = line.search(first)? else {
            // The old curvature may be what is wrong; without it there is nothing better to be had.
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            continue;
        };
        let moved = &direction * found.step;
        let turned = &found.gradient - &slope;
        let curvature = moved.dot(&turned);
        if curvature > f64::EPSILON * norm(&moved) * norm(&turned) {
            pairs.push_back(Pair {
                inverse: 1.0 / curvature,
                moved: moved.clone(),
                turned,
            });
            if pairs.len() > MEMORY {
                pairs.pop_front();
            }
        }
        point += &moved;
        (value, slope) = (found.value, found.gradient);
        steps += 1;
    }
    Ok(Minimum {
        gradient: largest(&slope),
        point,
        value,
        steps,
    })
}

struct Pair {
    moved: Array1<f64>,
    turned: Array1<f64>,
    inverse: f64,
}

/// The negative gradient times the approximate inverse Hessian.
fn descent(slope: &Array1<f64>, pairs: &VecDeque<Pair>) -> Array1<f64> {
    let mut direction = -slope;
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.inverse * pair.moved.dot(&direction);
        direction.scaled_add(-share, &pair.turned);
        shares.push(share);
    }
    if let Some(last) = pairs.back() {
        direction *= 1.0 / (last.inverse * last.turned.dot(&last.turned));
    }
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = pair.inverse * pair.turned.dot(&direction);
        direction.scaled_add(share - back, &pair.moved);
    }
    direction
}

struct Line<'a, F> {
    evaluate: &'a mut F,
    point: &'a Array1<f64>,
    direction: &'a Array1<f64>,
    value: f64,
    slope: f64,
}

struct Found {
    step: f64,
    value: f64,
    gradient: Array1<f64>,
}

/// One end of the interval that holds a good step.
#[derive(Clone, Copy)]
struct End {
    step: f64,
    value: f64,
    slope: f64,
}

impl<F> Line<'_, F> {
    fn search<E>(&mut self, first: f64) -> Result<Option<Found>, E>
    where
        F: FnMut(&Array1<f64>) -> Result<(f64, Array1<f64>), E>,
    {
        let origin = End {
            step: 0.0,
            value: self.value,
            slope: self.slope,
        };
        let (mut before, mut interval) = (origin, None);
        let mut step = first;
        let mut best: Option<Found> = None;
        for _ in 0..EVALUATIONS {
            let trial = self.point + &(self.direction * step);
            let (value, gradient) = (self.evaluate)(&trial)?;
            let slope = gradient.dot(self.direction);
            let here = End { step, value, slope };
            let low = interval.map_or(before, |(low, _): (End, End)| low);
            let enough = value <= self.value + DECREASE * step * self.slope;
            if enough && slope.abs() <= CURVATURE * self.slope.abs() {
                return Ok(Some(Found {
                    step,
                    value,
                    gradient,
                }));
            }
            if enough && best.as_ref().is_none_or(|best| value < best.value) {
                best = Some(Found {
                    step,
                    value,
                    gradient,
                });
            }
            // A value that is not a number counts as too high.
            interval = Some(if !enough || value >= low.value {
                (low, here)
            } else {
                match interval {
                    None if slope < 0.0 => {
                        before = here;
                        step *= 2.0;
                        continue;
                    }
                    None => (here, before),
                    Some((low, high)) if slope * (high.step - low.step) >= 0.0 => (here, low),
                    Some((_, high)) => (here, high),
                }
            });
            let Some((low, high)) = interval else { break };
            if (high.step - low.step).abs() <= 1e-14 * high.step.abs().max(low.step.abs()) {
                break;
            }
            step = inside(low, high);
        }
        Ok(best)
    }
}

/// The minimum of the parabola through both ends, kept away from them.
fn inside(low: End, high: End) -> f64 {
    let width = high.step - low.step;
    let bend = high.value - low.value - low.slope * width;
    let share = if bend.is_finite() && bend > 0.0 {
        (-low.slope * width / (2.0 * bend)).clamp(0.1, 0.9)
    } else {
        0.5
    };
    low.step + share * width
}

fn norm(vector: &Array1<f64>) -> f64 {
    vector.dot(vector).sqrt()
}

fn largest(vector: &Array1<f64>) -> f64 {
    vector.iter().fold(0.0, |most, value| value.abs().max(most))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn finds_the_bottom_of_a_curved_valley() {
        // Rosenbrock's function; its minimum is at (1, 1).
        let found = minimise(
            array![-1.2, 1.0],
            Stop {
                gradient: 1e-9,
                steps: 200,
            },
            |p| {
                let (x, y) = (p[0], p[1]);
                let value = (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2);
                let slope = array![-2.0 * (1.0 - x) - 400.0 * x * (y - x * x), 200.0 * (y - x * x)];
                Ok::<_, std::convert::Infallible>((value, slope))
            },
        )
        .unwrap();
        assert!(
            (&found.point - &array![1.0, 1.0]).iter().all(|d| d.abs() < 1e-8),
            "{found:?}"
        );
        assert!(found.steps < 80, "{found:?}");
    }

    #[test]
    fn scales_that_differ_by_a_million_do_not_matter_and_an_infinite_value_is_stepped_back_from() {
        let scale = array![1e-3, 1.0, 1e3];
        let found = minimise(
            array![5.0, 5.0, 5.0],
            Stop {
                gradient: 1e-8,
                steps: 300,
            },
            |p| {
                let value = if p[0] < -100.0 {
                    f64::INFINITY
                } else {
                    (&(p * p) * &scale).sum()
                };
                Ok::<_, std::convert::Infallible>((value, 2.0 * p * &scale))
            },
        )
        .unwrap();
        assert!(found.value < 1e-11, "{found:?}");
        assert!(found.gradient <= 1e-8, "{found:?}");
    }
}
