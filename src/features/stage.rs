//! Running a model up to one value.

use std::collections::BTreeSet;

use ndarray::Array2;

use crate::data::{Batch, DataError, Dataset};
use crate::engine::stream::{Stream, in_order};
use crate::engine::{Engine, EngineError, RunValue};
use crate::ir::{Graph, Model, NodeKind, Tensor, TensorError, ValueId};
use crate::linalg::LinalgError;
use crate::lower::Lowering;

/// Why features could not be taken or a head could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The data failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A tensor does not hold what it declares.
    #[error("{value}: {source}")]
    Tensor {
        /// The value.
        value: String,
        /// What is wrong.
        source: TensorError,
    },
    /// The engine did not answer the value.
    #[error("the engine did not answer the value {value:?}")]
    Missing {
        /// The value.
        value: String,
    },
    /// It is not known which part of the value belongs to which sample.
    #[error(
        "{value} has the shape {dims:?} for {samples} samples: none of its axes is known to be the batch; run one sample at a time (`batch: 1`)"
    )]
    Rows {
        /// The value.
        value: String,
        /// Its dimensions.
        dims: Vec<u64>,
        /// Samples that ran.
        samples: usize,
    },
    /// Samples have different numbers of features.
    #[error("{value} has {found} features at sample {sample}, and {expected} before")]
    Width {
        /// The value.
        value: String,
        /// Index of the first sample of the batch.
        sample: u64,
        /// Features before.
        expected: usize,
        /// Features here.
        found: usize,
    },
    /// A feature is not finite.
    #[error("{value} is not finite at sample {sample}")]
    NotFinite {
        /// The value.
        value: String,
        /// Index of the sample.
        sample: u64,
    },
    /// The data has no labels.
    #[error("{origin} has no labels to train on")]
    Unlabelled {
        /// Where the data is.
        origin: String,
    },
    /// Labels are not what the method needs.
    #[error("sample {sample}: {reason}")]
    Label {
        /// Index of the sample.
        sample: u64,
        /// What is wrong.
        reason: String,
    },
    /// A class has no sample.
    #[error("class {class} of {classes} has no sample in the training data")]
    EmptyClass {
        /// The class.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// One class cannot be told from another.
    #[error("all samples are of one class")]
    OneClass,
    /// Least squares have no solution.
    #[error("{0}; a larger `alpha` helps")]
    Linalg(#[from] LinalgError),
    /// The temporary file failed.
    #[error("the temporary file with features: {0}")]
    Spool(#[from] std::io::Error),
    /// The result cannot be written.
    #[error("{file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// What failed.
        source: std::io::Error,
    },
}

impl FeatureError {
    /// A stable code: that of what failed, where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Engine(error) => error.code(),
            _ => "features",
        }
    }
}

/// A model compiled up to one value.
pub struct Stage<'m> {
    stream: Stream<'m>,
    value: String,
}

/// Features of one batch of samples.
#[derive(Clone, Debug)]
pub struct Block {
    /// Index of the first sample.
    pub first: u64,
    /// `[N, D]`, N real samples.
    pub rows: Array2<f32>,
    /// Labels of the samples, as the data has them.
    pub labels: Option<Tensor>,
}

impl<'m> Stage<'m> {
    /// Compiles `model`, which may go on behind `value`.
    ///
    /// # Errors
    /// When the engine cannot run the model.
    pub fn compile(model: &'m Model, value: &str, engine: &dyn Engine) -> Result<Self, FeatureError> {
        Ok(Self {
            stream: Stream::compile(model, &[value.to_owned()], &Lowering(engine))?,
            value: value.to_owned(),
        })
    }

    /// Runs the data's shard with `jobs` threads and hands over the features of each batch, in the order of the samples. All axes
    /// but the batch become one, in row-major order.
    ///
    /// # Errors
    /// When a run fails, it is not known which part of the value belongs to which sample, or `consume` fails.
    pub fn run(
        &self,
        data: &Dataset,
        jobs: usize,
        mut consume: impl FnMut(Block) -> Result<(), FeatureError>,
    ) -> Result<(), FeatureError> {
        let work = |index: u64| -> Result<Block, FeatureError> { self.block(data.batch(index)?) };
        let mut width = None;
        in_order(data.batches(), jobs, work, |block| {
            let found = block.rows.ncols();
            let expected = *width.get_or_insert(found);
            if found != expected {
                return Err(FeatureError::Width {
                    value: self.value.clone(),
                    sample: block.first,
                    expected,
                    found,
                });
            }
            consume(block)
        })
    }

    fn block(&self, batch: Batch) -> Result<Block, FeatureError> {
        let mut values = self.stream.run(&batch)?;
        let Some(RunValue::Tensor(tensor)) = values.remove(&self.value) else {
            return Err(FeatureError::Missing {
                value: self.value.clone(),
            });
        };
        let failed = |source: TensorError| FeatureError::Tensor {
            value: self.value.clone(),
            source,
        };
        let wrong = || FeatureError::Rows {
            value: self.value.clone(),
            dims: tensor.dims().to_vec(),
            samples: batch.ran,
        };
        let rows = self
            .stream
            .places()
            .samples_first(&self.value, &tensor, &batch)
            .ok_or_else(wrong)?;
        let width = rows.dims().iter().skip(1).product::<u64>() as usize;
        let real = rows.to_f32().map_err(failed)?;
        if let Some(at) = real.iter().position(|value| !value.is_finite()) {
            return Err(FeatureError::NotFinite {
                value: self.value.clone(),
                sample: batch.first + (at / width.max(1)) as u64,
            });
        }
        let rows = Array2::from_shape_vec((batch.count, width), real.to_vec()).map_err(|_| wrong())?;
        Ok(Block {
            first: batch.first,
            rows,
            labels: batch.labels,
        })
    }
}

/// The data input of the last Gemm or MatMul of the main graph with constant weights: where a classifier's own head begins.
pub fn last_product(graph: &Graph) -> Option<ValueId> {
    let products = graph.topological_order().into_iter().rev().filter(|id| {
        graph.operator(*id).is_some_and(|operator| {
            operator.domain().is_empty() && (operator.is("Gemm") || operator.is("MatMul"))
        })
    });
    for id in products {
        let (Some(data), Some(weights)) = (graph.input(id, 0), graph.input(id, 1)) else {
            continue;
        };
        if !from_constants(graph, data) && from_constants(graph, weights) {
            return Some(data);
        }
    }
    None
}

/// Whether a value depends on no input of the graph.
fn from_constants(graph: &Graph, value: ValueId) -> bool {
    let mut seen = BTreeSet::new();
    let mut pending = vec![value.node];
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Input(_) | NodeKind::Capture(_)) => return false,
            Some(NodeKind::Operator(_)) => {
                let read = graph.inputs_of(id).into_iter().chain(graph.captures_of(id));
                pending.extend(read.flatten().map(|value| value.node));
            }
            _ => {}
        }
    }
    true
}
