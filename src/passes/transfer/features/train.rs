//! A linear head, trained on features.

use super::{Cut, Method, NAME, TransferFeatures, option, resource};
use crate::analysis;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::features::{
    Block, FeatureError, Filling, HeadTarget, Linear, Logistic, Scale, Spool, Stage, logistic, ridge,
};
use crate::ir::{Model, Operator, Tensor, TensorError, Value, ValueId, ValueType};
use crate::passes::{Change, Context, HeadTraining, PassError, PassReport, Resources, TrainedClass};
use crate::transfer::region::extract;
use crate::transfer::splice::free;

/// First opset in which Gemm broadcasts its third input by itself.
const GEMM_BROADCASTS: i64 = 7;

impl TransferFeatures {
    pub(super) fn fit(
        &self,
        cut: &Cut,
        resources: &dyn Resources,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<Linear, PassError> {
        cut.dtype()?;
        let data = resources.data(&self.data, &cut.model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let total = data.sample_range();
        let total = total.end - total.start;
        let progress = |done: u64| (context.progress)("computing features", done, Some(total));
        let (mut spool, labels) =
            collect(cut, &data, engine, resources.jobs(), &progress).map_err(resource)?;
        let scale = match self.standardize {
            true => Scale::of(&mut spool).map_err(resource)?,
            false => Scale::none(spool.width()),
        };
        let mut details = vec![format!("{} features of {} samples", spool.width(), spool.rows())];
        let mut training = HeadTraining {
            samples: spool.rows() as u64,
            features: spool.width() as u64,
            cross_entropy: None,
            steps: None,
            accuracy: None,
            classes: Vec::new(),
        };
        let linear = match (self.method, &labels) {
            (Method::Logistic, Labels::Values { .. }) => {
                return Err(option(
                    "method: logistic regression takes integer labels; float targets are for `ridge`"
                        .to_owned(),
                ));
            }
            (Method::Logistic, Labels::Classes(labels)) => {
                let classes = self.class_count(labels)?;
                let options = Logistic {
                    c: self.c,
                    ..Logistic::default()
                };
                let outcome = logistic(&mut spool, labels, classes, options, &scale).map_err(resource)?;
                details.push(format!(
                    "mean cross-entropy {:.5} after {} steps",
                    outcome.loss, outcome.steps
                ));
                training.cross_entropy = Some(outcome.loss);
                training.steps = Some(outcome.steps as u64);
                if !outcome.converged {
                    report.notes.push(format!(
                        "the search ended after {} steps before its gradient vanished; a smaller `c` helps",
                        outcome.steps
                    ));
                }
                outcome.linear
            }
            (Method::Ridge, Labels::Classes(labels)) => {
                let target = HeadTarget::Classes {
                    labels,
                    count: self.class_count(labels)?,
                };
                ridge(&mut spool, &target, self.alpha, &scale).map_err(resource)?
            }
            (Method::Ridge, Labels::Values { width, values }) => {
                let values = ndarray::Array2::from_shape_vec((spool.rows(), *width), values.clone())
                    .map_err(|error| resource(format!("the targets: {error}")))?;
                ridge(&mut spool, &HeadTarget::Values(&values), self.alpha, &scale).map_err(resource)?
            }
        };
        if let Labels::Classes(labels) = &labels {
            let right = correct(&mut spool, &linear, labels).map_err(resource)?;
            let share = right as f64 / spool.rows().max(1) as f64;
            details.push(format!("accuracy {share:.4} on the training data"));
            training.accuracy = Some(share);
            training.classes = counted(labels, linear.weights.nrows(), data.class_names());
        }
        report.training = Some(training);
        report.changes.push(Change {
            rule: "head trained".to_owned(),
            count: 1,
            details,
        });
        Ok(linear)
    }

    fn class_count(&self, labels: &[u32]) -> Result<usize, PassError> {
        let found = labels.iter().max().map_or(0, |most| *most as usize + 1);
        match self.classes {
            Some(classes) if (classes as usize) < found => Err(option(format!(
                "classes: there are labels up to {}, which {classes} classes do not have",
                found - 1
            ))),
            Some(classes) => Ok(classes as usize),
            None => Ok(found),
        }
    }
}

/// The classes of a head, and how many samples each has.
fn counted(labels: &[u32], count: usize, names: Option<&[String]>) -> Vec<TrainedClass> {
    (0..count)
        .map(|index| TrainedClass {
            index: index as u64,
            name: names.and_then(|names| names.get(index)).cloned(),
            samples: labels.iter().filter(|label| **label as usize == index).count() as u64,
        })
        .collect()
}

/// Labels of all samples.
enum Labels {
    Classes(Vec<u32>),
    Values { width: usize, values: Vec<f64> },
}

fn collect(
    cut: &Cut,
    data: &Dataset,
    engine: &dyn Engine,
    jobs: usize,
    progress: &dyn Fn(u64),
) -> Result<(Spool, Labels), FeatureError> {
    let stage = Stage::compile(&cut.model, &cut.name, engine)?;
    let mut filling = Filling::new()?;
    let mut labels: Option<Labels> = None;
    let mut done = 0;
    stage.run(data, jobs, |block| {
        take_labels(&mut labels, &block, data)?;
        filling.push(block.rows.view())?;
        done += block.rows.nrows() as u64;
        progress(done);
        Ok(())
    })?;
    let labels = labels.ok_or_else(|| unlabelled(data))?;
    Ok((filling.finish()?, labels))
}

fn unlabelled(data: &Dataset) -> FeatureError {
    FeatureError::Unlabelled {
        origin: data.origin().display().to_string(),
    }
}

fn take_labels(labels: &mut Option<Labels>, block: &Block, data: &Dataset) -> Result<(), FeatureError> {
    let tensor = block.labels.as_ref().ok_or_else(|| unlabelled(data))?;
    let label = |sample: u64, reason: String| FeatureError::Label { sample, reason };
    let unreadable = |source: TensorError| FeatureError::Tensor {
        value: "labels".to_owned(),
        source,
    };
    let count = block.rows.nrows();
    let width = tensor.elements() as usize / count.max(1);
    if tensor.dtype().is_integer() {
        if width != 1 {
            return Err(label(
                block.first,
                format!("{width} labels where one class is needed"),
            ));
        }
        let kept = labels.get_or_insert_with(|| Labels::Classes(Vec::new()));
        let Labels::Classes(kept) = kept else {
            return Ok(());
        };
        for (at, class) in tensor.to_i64().map_err(unreadable)?.into_iter().enumerate() {
            let class = u32::try_from(class)
                .ok()
                .filter(|class| *class < 1 << 20)
                .ok_or_else(|| {
                    label(
                        block.first + at as u64,
                        format!("{class} is not a class from 0 on"),
                    )
                })?;
            kept.push(class);
        }
        return Ok(());
    }
    let kept = labels.get_or_insert_with(|| Labels::Values {
        width,
        values: Vec::new(),
    });
    if let Labels::Values { values, .. } = kept {
        values.extend(tensor.to_f64().map_err(unreadable)?);
    }
    Ok(())
}

/// Samples whose largest score is that of their class.
fn correct(spool: &mut Spool, linear: &Linear, labels: &[u32]) -> Result<u64, FeatureError> {
    let mut right = 0;
    spool.for_each(|first, block| {
        let scores = block.dot(&linear.weights.t()) + &linear.bias;
        for (row, label) in scores.outer_iter().zip(labels.iter().skip(first)) {
            let own = row.get(*label as usize).copied().unwrap_or(f64::NEG_INFINITY);
            let ahead = |(at, value): (usize, &f64)| *value > own || *value == own && at < *label as usize;
            right += u64::from(!row.iter().enumerate().any(ahead));
        }
    })?;
    Ok(right)
}

/// The cut model with the head `linear` on it.
pub(super) fn with_head(cut: Cut, linear: &Linear, softmax: bool, output: &str) -> Result<Model, PassError> {
    let edit = |source| PassError::Edit { pass: NAME, source };
    let (value, dtype) = (cut.value()?, cut.dtype()?);
    let opset = cut.model.opset().unwrap_or(0);
    if opset < GEMM_BROADCASTS {
        return Err(PassError::Model {
            pass: NAME,
            node: cut.name,
            message: format!(
                "the head needs opset {GEMM_BROADCASTS} and the model has {opset}; `convert-opset` comes first"
            ),
        });
    }
    let mut model = cut.model;
    let (classes, width) = linear.weights.dim();
    let tensor = |dims: &[u64], values: Vec<f64>| {
        Tensor::from_f64(dtype, dims, &values).map_err(|e| resource(e.to_string()))
    };
    let weights = tensor(
        &[classes as u64, width as u64],
        linear.weights.iter().copied().collect(),
    )?;
    let bias = tensor(&[classes as u64], linear.bias.to_vec())?;
    let rank = model.graph.ty(value).rank();
    let output = free(&model.graph, output);
    let names = [
        free(&model.graph, &format!("{output}.weight")),
        free(&model.graph, &format!("{output}.bias")),
    ];
    let near = value.node;
    let mut editor = model.graph.edit(NAME);
    let mut rows = value;
    if rank != Some(2) {
        let flatten = Operator::new("Flatten").with("axis", 1i64);
        rows = ValueId::new(
            editor
                .add_operator(near, flatten, &[Some(rows)], vec![Value::default()])
                .map_err(edit)?,
            0,
        );
    }
    let [weight_name, bias_name] = names;
    let weights = editor.add_constant(weight_name, weights);
    let bias = editor.add_constant(bias_name, bias);
    let gemm = Operator::new("Gemm").with("transB", 1i64);
    let inputs = [Some(rows), Some(weights), Some(bias)];
    let named = |last: bool| match last {
        true => Value::named(output.clone()),
        false => Value::default(),
    };
    let mut scores = ValueId::new(
        editor
            .add_operator(near, gemm, &inputs, vec![named(!softmax)])
            .map_err(edit)?,
        0,
    );
    if softmax {
        let softmax = Operator::new("Softmax").with("axis", 1i64);
        scores = ValueId::new(
            editor
                .add_operator(near, softmax, &[Some(scores)], vec![named(true)])
                .map_err(edit)?,
            0,
        );
    }
    editor
        .add_graph_output(scores, output.clone(), ValueType::Unknown)
        .map_err(edit)?;
    drop(editor);
    analysis::infer(&mut model);
    // The features are no output any more.
    let mut headed =
        extract(&model, &[], &[output.to_string()]).map_err(|error| resource(error.to_string()))?;
    analysis::infer(&mut headed);
    Ok(headed)
}
