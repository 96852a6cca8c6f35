//! What the elements of a graph input must be for the model to run, read off from how the model uses them.
//!
//! A token id must be below the number of rows of the table it picks from, a mask is 0 or 1, a sequence length is at most
//! the length of the sequence. The analysis follows an input through operators that only move or convert its elements,
//! into bodies and functions too.

use std::collections::BTreeSet;

use crate::ir::{
    Dim, FunctionIndex, Graph, Model, NodeId, Operator, Shape, Slot, Tensor, Use, ValueId, ValueType,
};

/// A constraint that one use puts on the elements of an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Demand {
    /// An index: at least 0 and below each of these sizes that is known.
    Below(Vec<Dim>),
    /// An index below each of these sizes that is known, from either end.
    Place(Vec<Dim>),
    /// 0 or 1.
    Flag,
    /// Compared with these constants.
    Compared(Vec<f64>),
    /// A length: at least 1 and at most this size.
    Length(Dim),
    /// Distinct axes of a tensor of this type; `free` axes must have size 1.
    Axes { of: ValueType, free: bool },
    /// Target sizes; an unknown one is chosen so that elements fit.
    Sizes(Option<Shape>),
    /// One and the same number everywhere.
    Fill(f64),
    /// Above zero.
    Positive,
    /// Any number of the type, quantized data.
    FullRange,
    /// A small count, at least 1.
    Count,
    /// Parts of this size along an axis: their sum is the size.
    Parts(Dim),
    /// One of these strings.
    Words(Vec<String>),
}

/// Every demand on the value that graph input `input` produces.
pub(super) fn demands(model: &Model, input: NodeId) -> Vec<Demand> {
    let functions = model.function_index();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending = vec![Step::Value(&model.graph, ValueId::new(input, 0), 0)];
    while let Some(step) = pending.pop() {
        let mut next = Vec::new();
        match step {
            // Each graph has ids of its own: a value is known by its graph as well.
            Step::Value(graph, value, depth) => {
                if depth <= DEEPEST && seen.insert((std::ptr::from_ref(graph).addr(), value)) {
                    next.extend(
                        graph
                            .uses(value)
                            .into_iter()
                            .map(|at| Step::Use(graph, at, depth)),
                    );
                }
            }
            Step::Use(graph, at, depth) => follow(&functions, graph, at, depth, &mut next, &mut found),
        }
        // The first of what follows comes next.
        pending.extend(next.into_iter().rev());
    }
    found
}

/// Bodies within bodies and calls within calls that are followed.
const DEEPEST: usize = 16;

/// What is still to be looked at, with how many bodies and calls are around it.
enum Step<'m> {
    Value(&'m Graph, ValueId, usize),
    Use(&'m Graph, Use, usize),
}

/// Operators whose results are numbers of an input, and its slot; `None` for each. Wider than `ops::is_view`: a demand on a result is
/// one on the input even where the type, the order or the number of elements changes.
const MOVES: &[(&str, Option<u32>)] = &[
    ("Identity", Some(0)),
    ("Cast", Some(0)),
    ("CastLike", Some(0)),
    ("Reshape", Some(0)),
    ("Squeeze", Some(0)),
    ("Unsqueeze", Some(0)),
    ("Flatten", Some(0)),
    ("Transpose", Some(0)),
    ("Expand", Some(0)),
    ("Tile", Some(0)),
    ("Slice", Some(0)),
    ("Pad", Some(0)),
    ("Split", Some(0)),
    ("Gather", Some(0)),
    ("GatherElements", Some(0)),
    ("GatherND", Some(0)),
    ("Dropout", Some(0)),
    ("Concat", None),
];

/// The demand of one use, and the values that its value becomes there.
fn follow<'m>(
    functions: &FunctionIndex<'m>,
    graph: &'m Graph,
    at: Use,
    depth: usize,
    next: &mut Vec<Step<'m>>,
    found: &mut Vec<Demand>,
) {
    let Some(operator) = graph.operator(at.node) else {
        return;
    };
    match at.slot {
        Slot::Capture(slot) => {
            for (_, body) in operator.bodies() {
                let inner = body.captured(slot).next();
                next.extend(inner.map(|inner| Step::Value(body, inner, depth + 1)));
            }
        }
        Slot::Input(slot) => {
            found.extend(demand(graph, at.node, operator, slot));
            if operator.domain().is_empty() && passes_on(operator, slot) {
                let outputs = graph.get(at.node).map_or(0, |node| node.outputs().len());
                next.extend((0..outputs).map(|out| Step::Value(graph, ValueId::new(at.node, out), depth)));
            }
            if let Some(function) = functions.called_by(graph, at.node)
                && let Some(input) = function.graph.inputs().get(slot as usize)
            {
                next.push(Step::Value(&function.graph, ValueId::new(*input, 0), depth + 1));
            }
            // The inputs of Loop bodies come one to one, those of Scan bodies too.
            if operator.is("Loop") || operator.is("Scan") {
                for (_, body) in operator.bodies() {
                    let input = body.inputs().get(slot as usize);
                    next.extend(input.map(|input| Step::Value(body, ValueId::new(*input, 0), depth + 1)));
                }
            }
        }
    }
}

fn passes_on(operator: &Operator, slot: u32) -> bool {
    MOVES
        .iter()
        .any(|(name, at)| operator.op_type == **name && at.is_none_or(|at| at == slot))
}

/// What the use in input slot `slot` asks for.
fn demand(graph: &Graph, node: NodeId, operator: &Operator, slot: u32) -> Option<Demand> {
    if operator.domain() == "ai.onnx.ml" {
        return words(operator);
    }
    if !operator.domain().is_empty() {
        return None;
    }
    let reader = Reader {
        graph,
        node,
        operator,
    };
    // Each operand is in one of the tables.
    reader
        .position(slot)
        .or_else(|| reader.extent(slot))
        .or_else(|| reader.number(slot))
        .or_else(|| reader.truth(slot))
}

/// An operator of ONNX's domain, with what is known of its operands.
struct Reader<'a> {
    graph: &'a Graph,
    node: NodeId,
    operator: &'a Operator,
}

impl Reader<'_> {
    fn ty(&self, index: usize) -> &ValueType {
        self.graph
            .input(self.node, index)
            .map_or(&ValueType::Unknown, |value| self.graph.ty(value))
    }

    fn dim(&self, index: usize, axis: i64) -> Dim {
        size_along(self.ty(index), axis)
    }

    /// The attribute `axis`, whose default is 0.
    fn axis(&self) -> i64 {
        self.operator.int("axis").unwrap_or(0)
    }

    fn constant(&self, index: usize) -> Option<&Tensor> {
        let value = self.graph.input(self.node, index)?;
        self.graph.constant(value)
    }

    /// The sizes that the last axis of the indices counts along, behind so many axes of the batch.
    fn indexed(&self, batch: usize) -> Vec<Dim> {
        let width = self
            .dim(1, -1)
            .fixed()
            .and_then(|width| usize::try_from(width).ok());
        let shape = self.ty(0).shape();
        let sizes = shape.into_iter().flatten().skip(batch);
        sizes.take(width.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// Operands that say where in another value something is.
    fn position(&self, slot: u32) -> Option<Demand> {
        Some(match (&*self.operator.op_type, slot) {
            ("Gather" | "GatherElements" | "ScatterElements" | "Scatter", 1) => {
                Demand::Place(vec![self.dim(0, self.axis())])
            }
            ("GatherND", 1) => {
                let batch = self.operator.int("batch_dims").unwrap_or(0).max(0) as usize;
                Demand::Place(self.indexed(batch))
            }
            ("ScatterND", 1) => Demand::Place(self.indexed(0)),
            ("OneHot", 0) => {
                let depth = self.constant(1);
                match depth.and_then(|depth| depth.to_f64().ok()?.first().copied()) {
                    Some(depth) => Demand::Below(vec![Dim::Fixed(depth as i64)]),
                    None => Demand::Below(Vec::new()),
                }
            }
            ("SoftmaxCrossEntropyLoss" | "NegativeLogLikelihoodLoss", 1) => {
                Demand::Below(vec![self.dim(0, 1)])
            }
            ("RotaryEmbedding", 3) => Demand::Below(vec![self.dim(1, 0)]),
            ("RoiAlign", 2) => Demand::Below(vec![self.dim(0, 0)]),
            ("MaxUnpool", 1) => {
                let shape = self.ty(0).shape();
                let count = shape.map(|s| s.iter().fold(Dim::Fixed(1), |product, dim| product.mul(dim)));
                Demand::Below(count.into_iter().collect())
            }
            ("LSTM" | "GRU" | "RNN", 4) => {
                let batch_first = self.operator.int("layout") == Some(1);
                Demand::Length(self.dim(0, i64::from(batch_first)))
            }
            ("ReverseSequence", 1) => {
                Demand::Length(self.dim(0, self.operator.int("time_axis").unwrap_or(0)))
            }
            _ => return None,
        })
    }

    /// Operands that say of which shape the result is, or along which axes something is done.
    fn extent(&self, slot: u32) -> Option<Demand> {
        let output = || self.graph.ty(ValueId::new(self.node, 0)).shape().cloned();
        Some(match (&*self.operator.op_type, slot) {
            ("Reshape" | "Expand" | "CenterCropPad", 1) | ("ConstantOfShape", 0) | ("Resize", 3) => {
                Demand::Sizes(output())
            }
            ("Slice" | "Pad", 3) | ("CumSum" | "CumProd", 1) | ("DFT", 2) => Demand::Axes {
                of: self.ty(0).clone(),
                free: false,
            },
            ("Squeeze", 1) => Demand::Axes {
                of: self.ty(0).clone(),
                free: true,
            },
            ("Unsqueeze", 1) => Demand::Axes {
                of: ValueType::Unknown,
                free: false,
            },
            (name, 1) if name.starts_with("Reduce") => Demand::Axes {
                of: self.ty(0).clone(),
                free: false,
            },
            ("Split", 1) => Demand::Parts(self.dim(0, self.axis())),
            _ => return None,
        })
    }

    /// Operands of which some numbers make no sense.
    fn number(&self, slot: u32) -> Option<Demand> {
        Some(match (&*self.operator.op_type, slot) {
            ("OneHot", 1) => Demand::Fill(4.0),
            ("SequenceAt" | "SequenceErase", 1) | ("SequenceInsert", 2) | ("Trilu", 1) => Demand::Fill(0.0),
            ("TopK", 1) => Demand::Fill(1.0),
            ("Resize", 2) | ("Upsample", 1) => Demand::Fill(1.0),
            ("Tile", 1) => Demand::Count,
            ("Slice", 1) | ("Range", 0) => Demand::Fill(0.0),
            ("Slice", 2) => Demand::Fill(f64::from(1 << 20)),
            ("Slice", 4) | ("Range", 2) => Demand::Fill(1.0),
            ("Range", 1) => Demand::Fill(5.0),
            ("Pad", 1) => Demand::Fill(1.0),
            ("SplitToSequence", 1) => Demand::Fill(1.0),
            ("Loop", 0) => Demand::Count,
            ("Loop", 1) => Demand::Fill(1.0),
            ("NonMaxSuppression", 2) | ("HannWindow" | "HammingWindow" | "BlackmanWindow", 0) => {
                Demand::Fill(8.0)
            }
            ("STFT", 1) => Demand::Fill(2.0),
            ("Dropout", 1) => Demand::Fill(0.5),
            ("Dropout", 2) => Demand::Fill(0.0),
            ("BatchNormalization", 4) | ("Div" | "Mod", 1) | ("QuantizeLinear" | "DequantizeLinear", 1) => {
                Demand::Positive
            }
            ("BitShift" | "Pow", 1) => Demand::Count,
            ("DequantizeLinear" | "MatMulInteger" | "ConvInteger" | "QLinearMatMul" | "QLinearConv", 0) => {
                Demand::FullRange
            }
            ("MatMulInteger" | "ConvInteger", 1) | ("QLinearMatMul" | "QLinearConv", 3) => Demand::FullRange,
            _ => return None,
        })
    }

    /// Operands that are true or false, or become so.
    fn truth(&self, slot: u32) -> Option<Demand> {
        let other = || self.constant(1 - slot.min(1) as usize)?.to_f64().ok();
        Some(match (&*self.operator.op_type, slot) {
            ("Cast", 0) if self.operator.int("to") == Some(9) => Demand::Flag,
            ("Where", 0) => Demand::Flag,
            ("Equal", _) => Demand::Compared(other()?),
            ("Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual", _) => {
                Demand::Compared(other()?.iter().flat_map(|v| [v - 1.0, *v, v + 1.0]).collect())
            }
            // 1 - mask, as attention masks are turned into biases.
            ("Sub", 1) if self.constant(0)?.single_f64() == Some(1.0) => Demand::Flag,
            _ => return None,
        })
    }
}

/// The keys of a lookup operator.
fn words(operator: &Operator) -> Option<Demand> {
    let attribute = [
        "keys_strings",
        "cats_strings",
        "classes_strings",
        "string_vocabulary",
    ];
    let tensor = operator.tensor("keys_tensor");
    let texts = attribute
        .iter()
        .find_map(|name| match operator.attribute(name)? {
            crate::ir::AttributeValue::Strings(values) => Some(&values[..]),
            _ => None,
        })
        .or_else(|| tensor?.strings().ok());
    if let Some(texts) = texts {
        return Some(Demand::Words(
            texts
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect(),
        ));
    }
    let numbers = ["keys_int64s", "cats_int64s"]
        .iter()
        .find_map(|name| operator.ints(name).map(<[i64]>::to_vec))
        .or_else(|| tensor?.to_i64().ok());
    numbers.map(|values| Demand::Compared(values.into_iter().map(|v| v as f64).collect()))
}

/// The size along an axis, which may be negative.
fn size_along(ty: &ValueType, axis: i64) -> Dim {
    let Some(shape) = ty.shape() else {
        return Dim::Unknown;
    };
    let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
    usize::try_from(axis)
        .ok()
        .and_then(|axis| shape.get(axis))
        .cloned()
        .unwrap_or(Dim::Unknown)
}

/// The size that an operator with constant weights dictates for one axis of an input of unknown size.
pub(super) fn dictated_size(graph: &Graph, input: NodeId, axis: usize, rank: usize) -> Option<i64> {
    graph.uses(ValueId::new(input, 0)).into_iter().find_map(|at| {
        let operator = graph.operator(at.node)?;
        let weight = |slot: usize| -> Option<Vec<i64>> {
            graph
                .ty(graph.input(at.node, slot)?)
                .fixed_shape()
                .filter(|shape| !shape.is_empty())
        };
        let last = axis + 1 == rank;
        match (&*operator.op_type, at.slot) {
            ("Conv" | "ConvInteger", Slot::Input(0)) if axis == 1 => {
                Some(weight(1)?.get(1)? * operator.int("group").unwrap_or(1))
            }
            ("ConvTranspose", Slot::Input(0)) if axis == 1 => weight(1)?.first().copied(),
            ("BatchNormalization" | "InstanceNormalization", Slot::Input(0)) if axis == 1 => {
                weight(1)?.first().copied()
            }
            ("MatMul" | "MatMulInteger", Slot::Input(0)) if last => {
                let shape = weight(1)?;
                shape.get(shape.len().saturating_sub(2)).copied()
            }
            ("Gemm", Slot::Input(0)) => {
                let transposed = |name: &str| operator.int(name).unwrap_or(0) != 0;
                let inner = if transposed("transA") { 0 } else { 1 };
                let shape = weight(1)?;
                (axis == inner).then(|| shape.get(usize::from(transposed("transB"))).copied())?
            }
            ("LSTM" | "GRU" | "RNN", Slot::Input(0)) if last => weight(1)?.get(2).copied(),
            ("LayerNormalization", Slot::Input(0)) if last => weight(1)?.last().copied(),
            ("Scaler", Slot::Input(0)) if last => operator.floats("offset").map(|v| v.len() as i64),
            ("TreeEnsembleClassifier" | "TreeEnsembleRegressor", Slot::Input(0)) if last => {
                operator.ints("nodes_featureids")?.iter().max().map(|v| v + 1)
            }
            ("LinearClassifier" | "LinearRegressor", Slot::Input(0)) if last => {
                let classes = operator.floats("intercepts").map_or(1, <[f32]>::len).max(1);
                operator
                    .floats("coefficients")
                    .map(|v| (v.len() / classes) as i64)
            }
            _ => None,
        }
    })
}
