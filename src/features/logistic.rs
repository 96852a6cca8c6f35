//! Multinomial logistic regression with an L2 penalty.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::lbfgs::{Stop, minimise};
use super::{FeatureError, Linear, Scale, Spool};

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic {
    /// Inverse strength of the penalty: the sum of losses counts `c` times as much as half the square of the weights.
    pub c: f64,
    /// The search stops where no element of the gradient of what is minimised is larger.
    pub tolerance: f64,
    /// Steps at most.
    pub steps: usize,
}

impl Default for Logistic {
    fn default() -> Self {
        Self {
            c: 1.0,
            tolerance: 1e-4,
            steps: 1000,
        }
    }
}

/// A fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The map from features to logits.
    pub linear: Linear,
    /// Mean cross-entropy of the training samples, without the penalty, in nats.
    pub loss: f64,
    /// Steps of the search.
    pub steps: usize,
    /// Whether the gradient fell below the tolerance.
    pub converged: bool,
}

/// Minimises `c · Σ cross-entropy + |W|² / 2` over standardised features; the bias is not penalised. Each of the `classes` needs
/// a sample: without one its bias has no minimum.
///
/// # Errors
/// When a class has no sample or the rows cannot be read.
pub fn logistic(
    spool: &mut Spool,
    labels: &[u32],
    classes: usize,
    options: Logistic,
    scale: &Scale,
) -> Result<Outcome, FeatureError> {
    let mut counts = vec![0usize; classes];
    for label in labels {
        if let Some(count) = counts.get_mut(*label as usize) {
            *count += 1;
        }
    }
    if classes < 2 {
        return Err(FeatureError::OneClass);
    }
    if let Some(class) = counts.iter().position(|count| *count == 0) {
        return Err(FeatureError::EmptyClass { class, classes });
    }
    let width = spool.width();
    let count = spool.rows().max(1) as f64;
    let penalty = 1.0 / (options.c * count);
    let start = Array1::zeros(classes * (width + 1));
    let stop = Stop {
        gradient: options.tolerance * penalty,
        steps: options.steps,
    };
    // A point is the weights [K, D] of standardised features, row by row, and then the bias [K]. Rows on disk are plain, so that
    // the scale is applied to weights and gradients: K · D products instead of N · D.
    let found = minimise(start, stop, |point| -> Result<_, FeatureError> {
        let (weights, bias) = parts(point, classes, width);
        let plain = scale.unscaled(&weights.to_owned(), &bias.to_owned());
        let mut loss = 0.0;
        let mut gradient = Array2::<f64>::zeros((classes, width));
        let mut total = Array1::<f64>::zeros(classes);
        spool.for_each(|first, block| {
            let mut logits = block.dot(&plain.weights.t());
            logits += &plain.bias;
            loss += residuals(logits.view_mut(), labels.get(first..).unwrap_or_default());
            general_mat_mul(1.0, &logits.t(), &block, 1.0, &mut gradient);
            total += &logits.sum_axis(Axis(0));
        })?;
        let shift = total
            .view()
            .insert_axis(Axis(1))
            .dot(&scale.mean.view().insert_axis(Axis(0)));
        let gradient = (gradient - shift) / &scale.deviation / count + &weights * penalty;
        let value = loss / count + 0.5 * penalty * weights.iter().map(|weight| weight * weight).sum::<f64>();
        let mut slope = Array1::zeros(point.len());
        slope
            .slice_mut(s![..classes * width])
            .assign(&Array1::from_iter(gradient.iter().copied()));
        slope.slice_mut(s![classes * width..]).assign(&(total / count));
        Ok((value, slope))
    })?;
    let (weights, bias) = parts(&found.point, classes, width);
    let squares = weights.iter().map(|weight| weight * weight).sum::<f64>();
    Ok(Outcome {
        linear: scale.unscaled(&weights.to_owned(), &bias.to_owned()),
        loss: found.value - 0.5 * penalty * squares,
        steps: found.steps,
        converged: found.gradient <= options.tolerance * penalty,
    })
}

fn parts(
    point: &Array1<f64>,
    classes: usize,
    width: usize,
) -> (ArrayView2<'_, f64>, ndarray::ArrayView1<'_, f64>) {
    let (weights, bias) = point.view().split_at(Axis(0), classes * width);
    // A view of one run of elements always takes a shape of as many.
    let weights = match weights.into_shape_with_order((classes, width)) {
        Ok(weights) => weights,
        Err(_) => ArrayView2::from(&[] as &[[f64; 0]]),
    };
    (weights, bias)
}

/// Turns logits `[N, K]` into probabilities less one at the label, and answers the sum of the losses.
fn residuals(mut logits: ArrayViewMut2<'_, f64>, labels: &[u32]) -> f64 {
    let mut loss = 0.0;
    for (mut row, label) in logits.outer_iter_mut().zip(labels) {
        let most = row.iter().fold(f64::NEG_INFINITY, |most, value| value.max(most));
        let own = row.get(*label as usize).copied().unwrap_or(most);
        let mut sum = 0.0;
        for value in &mut row {
            *value = (*value - most).exp();
            sum += *value;
        }
        loss += sum.ln() + most - own;
        row /= sum;
        if let Some(value) = row.get_mut(*label as usize) {
            *value -= 1.0;
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::super::Filling;
    use super::*;

    fn spool(rows: &Array2<f32>) -> Spool {
        let mut filling = Filling::new().unwrap();
        filling.push(rows.view()).unwrap();
        filling.finish().unwrap()
    }

    #[test]
    fn the_gradient_vanishes_at_the_result() {
        let rows = Array2::from_shape_fn((60, 3), |(row, column)| {
            ((row * 7 + column * 13 + row * row * (column + 1)) % 19) as f32 * 10.0 + 500.0
        });
        let labels: Vec<u32> = (0..60).map(|row| (row * row + row / 3) as u32 % 3).collect();
        let mut spool = spool(&rows);
        let scale = Scale::of(&mut spool).unwrap();
        let options = Logistic {
            c: 0.7,
            tolerance: 1e-7,
            steps: 1000,
        };
        let found = logistic(&mut spool, &labels, 3, options, &scale).unwrap();
        assert!(found.converged, "{found:?}");
        // Written out from the definition: c · Zᵀ (P - Y) + W = 0.
        let standard = scale.apply(rows.mapv(f64::from).view());
        let mut scores = rows.mapv(f64::from).dot(&found.linear.weights.t()) + &found.linear.bias;
        let loss = residuals(scores.view_mut(), &labels);
        let weights = &found.linear.weights * &scale.deviation;
        let slope = scores.t().dot(&standard) * 0.7 + &weights;
        assert!(slope.iter().all(|value| value.abs() < 1e-6), "{slope}");
        assert!(scores.sum_axis(Axis(0)).iter().all(|value| value.abs() < 1e-6));
        assert!((loss / 60.0 - found.loss).abs() < 1e-9);
    }

    #[test]
    fn a_class_without_a_sample_is_refused() {
        let mut spool = spool(&array![[1.0f32], [2.0]]);
        let scale = Scale::none(1);
        let error = logistic(&mut spool, &[0, 2], 3, Logistic::default(), &scale).unwrap_err();
        assert!(
            matches!(error, FeatureError::EmptyClass { class: 1, classes: 3 }),
            "{error}"
        );
        let error = logistic(&mut spool, &[0, 0], 1, Logistic::default(), &scale).unwrap_err();
        assert!(matches!(error, FeatureError::OneClass), "{error}");
    }
}
