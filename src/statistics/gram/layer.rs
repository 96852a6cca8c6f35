//! Which nodes have weights that multiply rows, and how weights and rows are laid out.

use ndarray::Array3;

use crate::ir::{DType, Graph, NodeId, NodeKind, Operator, Tensor, TensorError, ValueId};

/// What a layer's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Geometry {
    /// The last axis of the input; all axes before it are positions.
    LastAxis,
    /// Windows of an input `[N, C, spatial...]`.
    Windows {
        kernel: Vec<usize>,
        strides: Vec<usize>,
        dilations: Vec<usize>,
        /// Before all axes, then after all.
        pads: Vec<i64>,
        /// `SAME_UPPER` or `SAME_LOWER`: pads follow from the input's size.
        same: Option<Same>,
    },
}

/// Where odd padding goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Same {
    Upper,
    Lower,
}

/// How the weight tensor holds the matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Output channels first: `[M, D]` or `[M, C / group, kernel...]`.
    OutputsFirst,
    /// `[D, M]`.
    InputsFirst,
}

/// A node that multiplies rows of its input with a constant weight: Conv, Gemm or MatMul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The node.
    pub node: NodeId,
    /// What messages call it.
    pub label: String,
    /// The value that it reads.
    pub input: ValueId,
    /// The constant weight.
    pub weight: ValueId,
    /// The bias's input slot, for operators that have one.
    pub bias_slot: Option<usize>,
    /// Matrices: the groups of a convolution, else 1.
    pub groups: usize,
    /// Output channels of one group.
    pub outputs: usize,
    /// Columns of one group's rows: channels times taps of the kernel, channels outermost.
    pub columns: usize,
    /// Input channels of one group.
    pub channels: usize,
    pub(super) geometry: Geometry,
    pub(super) name: String,
    layout: Layout,
    dims: Vec<u64>,
    dtype: DType,
}

/// Most columns of a layer whose moments are taken.
const MOST_COLUMNS: usize = 16_384;

/// Why a node that has weights has no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The weights are computed.
    #[error("its weights are not constant")]
    NotConstant,
    /// The weights have a type other than float.
    #[error("its weights are not float")]
    NotFloat,
    /// Each output of a transposed convolution sums several positions.
    #[error("a transposed convolution has no rows")]
    Transposed,
    /// Recurrent layers feed their own outputs back.
    #[error("a recurrent layer reads its own outputs")]
    Recurrent,
    /// The first operand of a matrix product is the constant.
    #[error("the constant is the first operand")]
    FirstOperand,
    /// Gemm with `transA`.
    #[error("its first operand is transposed")]
    TransposedInput,
    /// A stack of matrices, or a weight of unexpected rank.
    #[error("its weight has another rank than the operator's usual one")]
    Rank,
    /// Attributes that contradict the weight.
    #[error("its attributes do not fit its weight")]
    Attributes,
    /// The matrix, a number in double precision for each pair of columns, would take more than two gigabytes.
    #[error("its rows have more than {MOST_COLUMNS} columns")]
    TooWide,
}

/// A node that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The node.
    pub node: String,
    /// Why.
    pub reason: SkipReason,
}

/// Every layer of `graph`, in topological order, and the nodes with weights that are none.
pub fn layers(graph: &Graph) -> (Vec<Layer>, Vec<Skipped>) {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id).filter(|operator| operator.domain().is_empty()) else {
            continue;
        };
        match of(graph, id, operator) {
            Ok(Some(layer)) => found.push(layer),
            Ok(None) => {}
            Err(reason) => skipped.push(Skipped {
                node: graph.label(id),
                reason,
            }),
        }
    }
    (found, skipped)
}

fn is_constant(graph: &Graph, value: ValueId) -> bool {
    let constant = matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    );
    constant && graph.constant(value).is_some()
}

fn of(graph: &Graph, id: NodeId, operator: &Operator) -> Result<Option<Layer>, SkipReason> {
    match &*operator.op_type {
        "ConvTranspose" => return Err(SkipReason::Transposed),
        "LSTM" | "GRU" | "RNN" => return Err(SkipReason::Recurrent),
        "Conv" | "Gemm" | "MatMul" => {}
        _ => return Ok(None),
    }
    let (Some(input), Some(weight)) = (graph.input(id, 0), graph.input(id, 1)) else {
        return Ok(None);
    };
    if !is_constant(graph, weight) {
        if operator.is("MatMul") && !is_constant(graph, input) {
            // A product of two activations has no weights.
            return Ok(None);
        }
        return Err(if is_constant(graph, input) {
            SkipReason::FirstOperand
        } else {
            SkipReason::NotConstant
        });
    }
    let Some(tensor) = graph.constant(weight) else {
        return Err(SkipReason::NotConstant);
    };
    if !tensor.dtype().is_float() {
        return Err(SkipReason::NotFloat);
    }
    let dims: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
    if dims.contains(&0) {
        return Err(SkipReason::Rank);
    }
    let (layout, groups, outputs, channels, taps, geometry) = match (&*operator.op_type, dims.as_slice()) {
        ("MatMul", [rows, columns]) => (Layout::InputsFirst, 1, *columns, *rows, 1, Geometry::LastAxis),
        ("Gemm", [a, b]) => {
            if operator.int("transA").unwrap_or(0) != 0 {
                return Err(SkipReason::TransposedInput);
            }
            match operator.int("transB").unwrap_or(0) {
                0 => (Layout::InputsFirst, 1, *b, *a, 1, Geometry::LastAxis),
                _ => (Layout::OutputsFirst, 1, *a, *b, 1, Geometry::LastAxis),
            }
        }
        ("Conv", [outputs, channels, kernel @ ..]) if !kernel.is_empty() => {
            let groups = usize::try_from(operator.int("group").unwrap_or(1)).unwrap_or(0);
            if groups == 0 || outputs % groups != 0 {
                return Err(SkipReason::Attributes);
            }
            let geometry = windows(operator, kernel).ok_or(SkipReason::Attributes)?;
            (
                Layout::OutputsFirst,
                groups,
                outputs / groups,
                *channels,
                kernel.iter().product(),
                geometry,
            )
        }
        _ => return Err(SkipReason::Rank),
    };
    if channels.saturating_mul(taps) > MOST_COLUMNS {
        return Err(SkipReason::TooWide);
    }
    Ok(Some(Layer {
        node: id,
        label: graph.label(id),
        input,
        weight,
        bias_slot: (!operator.is("MatMul")).then_some(2),
        groups,
        outputs,
        columns: channels * taps,
        channels,
        geometry,
        name: graph
            .value(input)
            .map(|value| value.name.to_string())
            .unwrap_or_default(),
        layout,
        dims: tensor.dims().to_vec(),
        dtype: tensor.dtype(),
    }))
}

fn windows(operator: &Operator, kernel: &[usize]) -> Option<Geometry> {
    let rank = kernel.len();
    let steps = |name: &str| -> Option<Vec<usize>> {
        let Some(values) = operator.ints(name) else {
            return Some(vec![1; rank]);
        };
        let steps: Vec<usize> = values
            .iter()
            .map(|step| usize::try_from(*step).ok().filter(|step| *step > 0))
            .collect::<Option<_>>()?;
        (steps.len() == rank).then_some(steps)
    };
    let same = match operator.string("auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" => Some(Same::Upper),
        "SAME_LOWER" => Some(Same::Lower),
        "VALID" => None,
        _ => {
            let pads = operator.ints("pads").map_or(vec![0; 2 * rank], <[i64]>::to_vec);
            return (pads.len() == 2 * rank).then_some(Geometry::Windows {
                kernel: kernel.to_vec(),
                strides: steps("strides")?,
                dilations: steps("dilations")?,
                pads,
                same: None,
            });
        }
    };
    Some(Geometry::Windows {
        kernel: kernel.to_vec(),
        strides: steps("strides")?,
        dilations: steps("dilations")?,
        pads: vec![0; 2 * rank],
        same,
    })
}

impl Layer {
    /// The name under which statistics of the layer's rows are kept: layers that read one value in the same way share it.
    pub fn key(&self) -> String {
        let list = |values: &[usize]| values.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        match &self.geometry {
            Geometry::LastAxis => format!("{} rows", self.name),
            Geometry::Windows {
                kernel,
                strides,
                dilations,
                pads,
                same,
            } => {
                let pads = match same {
                    Some(Same::Upper) => "same-upper".to_owned(),
                    Some(Same::Lower) => "same-lower".to_owned(),
                    None => pads.iter().map(i64::to_string).collect::<Vec<_>>().join(","),
                };
                format!(
                    "{} windows {} strides {} dilations {} pads {pads} groups {}",
                    self.name,
                    list(kernel),
                    list(strides),
                    list(dilations),
                    self.groups
                )
            }
        }
    }

    /// Elements of one input channel among a row's columns.
    pub fn taps(&self) -> usize {
        self.columns / self.channels.max(1)
    }

    /// The axis of the weight that output channels lie on.
    pub fn output_axis(&self) -> usize {
        match self.layout {
            Layout::OutputsFirst => 0,
            Layout::InputsFirst => 1,
        }
    }

    /// The name of the value whose rows the weights multiply.
    pub fn input_name(&self) -> &str {
        &self.name
    }

    /// The weights as matrices `[groups, outputs, columns]`.
    ///
    /// # Errors
    /// When the tensor does not hold what it declares.
    pub fn matrices(&self, weight: &Tensor) -> Result<Array3<f64>, TensorError> {
        let values = weight.to_f64()?;
        let wrong = |_| TensorError::Type {
            expected: "the weight of the layer",
            found: weight.dtype(),
        };
        match self.layout {
            Layout::OutputsFirst => {
                Array3::from_shape_vec((self.groups, self.outputs, self.columns), values).map_err(wrong)
            }
            Layout::InputsFirst => {
                let stored =
                    Array3::from_shape_vec((1, self.columns, self.outputs), values).map_err(wrong)?;
                Ok(stored.permuted_axes([0, 2, 1]).as_standard_layout().into_owned())
            }
        }
    }

    /// The weight tensor that holds these matrices.
    ///
    /// # Errors
    /// When the matrices have another number of elements than the weight.
    pub fn tensor(&self, matrices: &Array3<f64>) -> Result<Tensor, TensorError> {
        Tensor::from_f64(self.dtype, &self.dims, &self.flat(matrices))
    }

    /// The elements of the matrices in the order of the weight tensor.
    pub fn flat<T: Clone>(&self, matrices: &Array3<T>) -> Vec<T> {
        match self.layout {
            Layout::OutputsFirst => matrices.iter().cloned().collect(),
            Layout::InputsFirst => matrices.view().permuted_axes([0, 2, 1]).iter().cloned().collect(),
        }
    }
}
