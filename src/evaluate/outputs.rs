//! What a model's output says about each sample: scores of classes, class numbers, or values.

use super::EvaluateError;
use crate::engine::{RunValue, RunValues};
use crate::ir::{DType, Tensor};

/// Predictions of one batch, one entry a labelled position.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// Scores, one a class.
    Scores(Vec<Vec<f64>>),
    /// Class numbers.
    Classes(Vec<i64>),
    /// Values, one row a sample.
    Values(Vec<Vec<f64>>),
}

/// The output that predictions are read from: the one asked for, else the first.
pub fn output<'a>(
    values: &'a RunValues,
    order: &[String],
    wanted: Option<&str>,
) -> Result<(&'a str, &'a Tensor), EvaluateError> {
    let name = match wanted {
        Some(name) => name,
        None => order.first().map(String::as_str).unwrap_or(""),
    };
    match values.get_key_value(name) {
        Some((name, RunValue::Tensor(tensor))) => Ok((name, tensor)),
        Some(_) => Err(EvaluateError::Output {
            output: name.to_owned(),
            problem: "is not a tensor".to_owned(),
        }),
        None => Err(EvaluateError::Output {
            output: name.to_owned(),
            problem: format!("does not exist; the model has {}", order.join(", ")),
        }),
    }
}

/// Splits an output by samples for class labels of shape `labels` (`[N]` or `[N, positions...]`).
///
/// An integer output holds class numbers. A float output holds scores along axis 1, or along the last axis where only that leaves
/// the labels' shape. With a single score a sample is of class 1 where that is above `threshold`.
pub fn classes(
    name: &str,
    tensor: &Tensor,
    labels: &[u64],
    threshold: f64,
) -> Result<Predictions, EvaluateError> {
    let dims = tensor.dims();
    let wrong = || EvaluateError::Output {
        output: name.to_owned(),
        problem: format!("has shape {dims:?}, which does not fit labels of shape {labels:?}"),
    };
    let failed = |e: crate::ir::TensorError| EvaluateError::Output {
        output: name.to_owned(),
        problem: e.to_string(),
    };
    let count: u64 = labels.iter().product();
    let batch = dims.first().copied().unwrap_or(1);
    if labels.first().is_some_and(|n| *n > batch) {
        return Err(wrong());
    }
    if tensor.dtype().is_integer() || tensor.dtype() == DType::Bool {
        let classes = tensor.to_i64().map_err(failed)?;
        let per_sample: u64 = dims.iter().skip(1).product();
        if per_sample != labels.iter().skip(1).product::<u64>() {
            return Err(wrong());
        }
        return Ok(Predictions::Classes(
            classes.into_iter().take(count as usize).collect(),
        ));
    }
    let values = tensor.to_f64().map_err(failed)?;
    let positions = labels.get(1..).unwrap_or(&[]);
    let without = |axis: usize| -> Vec<u64> {
        dims.iter()
            .enumerate()
            .filter(|(at, _)| *at != axis && *at != 0)
            .map(|(_, d)| *d)
            .collect()
    };
    if dims.get(1..).is_some_and(|rest| rest == positions) && (dims.len() != 2 || labels.len() == dims.len())
    {
        return Ok(single(values, count, threshold));
    }
    // Axes of size 1 behind the classes are what global pooling leaves: [N, C, 1, 1].
    let axis = (1..dims.len())
        .filter(|axis| *axis == 1 || *axis == dims.len() - 1)
        .find(|axis| {
            without(*axis) == positions || (positions.is_empty() && without(*axis).iter().all(|d| *d == 1))
        })
        .ok_or_else(wrong)?;
    let size = dims.get(axis).copied().unwrap_or(1) as usize;
    let inner: usize = dims.iter().skip(axis + 1).product::<u64>() as usize;
    if size == 1 {
        return Ok(single(values, count, threshold));
    }
    let rows = (0..count as usize)
        .map(|position| {
            let start = position / inner.max(1) * inner * size + position % inner.max(1);
            (0..size)
                .map(|class| values.get(start + class * inner).copied().unwrap_or(f64::NAN))
                .collect()
        })
        .collect();
    Ok(Predictions::Scores(rows))
}

fn single(values: Vec<f64>, count: u64, threshold: f64) -> Predictions {
    Predictions::Classes(
        values
            .into_iter()
            .take(count as usize)
            .map(|value| i64::from(value > threshold))
            .collect(),
    )
}

/// Splits an output by samples for float targets of `rows` samples.
pub fn values(name: &str, tensor: &Tensor, rows: u64, columns: u64) -> Result<Predictions, EvaluateError> {
    let dims = tensor.dims();
    let batch = dims.first().copied().unwrap_or(1);
    if batch < rows || dims.iter().skip(1).product::<u64>() != columns {
        let problem = format!("has shape {dims:?}, the targets are {rows} samples of {columns}");
        return Err(EvaluateError::Output {
            output: name.to_owned(),
            problem,
        });
    }
    let all = tensor.to_f64().map_err(|e| EvaluateError::Output {
        output: name.to_owned(),
        problem: e.to_string(),
    })?;
    Ok(Predictions::Values(
        all.chunks(columns.max(1) as usize)
            .take(rows as usize)
            .map(<[f64]>::to_vec)
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[u64]) -> Tensor {
        let count = dims.iter().product::<u64>();
        Tensor::from_slice(dims, &(0..count).map(|v| v as f32).collect::<Vec<_>>()).unwrap()
    }

    fn scores(dims: &[u64], labels: &[u64]) -> Vec<Vec<f64>> {
        match classes("y", &tensor(dims), labels, 0.5).unwrap() {
            Predictions::Scores(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_class_axis_follows_from_the_labels() {
        assert_eq!(scores(&[2, 3], &[2]), [[0., 1., 2.], [3., 4., 5.]]);
        assert_eq!(scores(&[2, 3, 1, 1], &[2]), [[0., 1., 2.], [3., 4., 5.]]);
        assert_eq!(scores(&[1, 2, 3], &[1, 3]), [[0., 3.], [1., 4.], [2., 5.]]);
        assert_eq!(scores(&[1, 2, 3], &[1, 2]), [[0., 1., 2.], [3., 4., 5.]]);
        assert_eq!(scores(&[3, 2], &[2]).len(), 2);
        assert!(classes("y", &tensor(&[2, 3]), &[3], 0.5).is_err());
        assert!(classes("y", &tensor(&[2, 3, 4]), &[2], 0.5).is_err());
    }

    #[test]
    fn one_score_is_a_threshold() {
        for dims in [&[3][..], &[3, 1][..]] {
            assert_eq!(
                classes("y", &tensor(dims), &[3], 0.5).unwrap(),
                Predictions::Classes(vec![0, 1, 1])
            );
        }
        let numbers = Tensor::vector_i64(&[4, 2]);
        assert_eq!(
            classes("y", &numbers, &[2], 0.5).unwrap(),
            Predictions::Classes(vec![4, 2])
        );
    }
}
