//! Which weights of a graph are quantized, and who reads them.

use std::sync::Arc;

use ndarray::Array3;

use super::options::{Coding, Form, Overrides};
use super::rounding::Coded;
use super::widths::Planned;
use super::{NAME, QuantizeWeights, nbits};
use crate::analysis::linear::{self, Family, Hidden, Operand, Reading};
use crate::ir::{
    BodyIndex, DType, Graph, GraphPath, Model, NodeId, NodeKind, Slot, Use, ValueId, opset_version,
};
use crate::passes::layer_patterns::layer_names;
use crate::passes::left::LeftAlone;
use crate::passes::{Context, PassError};
use crate::quantize::{Granularity, Kind, Scheme};

/// One operator that reads a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::passes::quantize) struct Reader {
    /// Where it reads it; for a reader behind a Transpose or in a body, where the way to it starts.
    pub(in crate::passes::quantize) at: Use,
    /// What the weight is to it.
    pub(in crate::passes::quantize) operand: Operand,
    /// Bodies between the weight and the operator.
    pub(in crate::passes::quantize) bodies: Vec<(NodeId, BodyIndex)>,
    /// The operator, in the innermost of these bodies.
    pub(in crate::passes::quantize) node: NodeId,
    /// `at` is the operator's own slot.
    pub(in crate::passes::quantize) straight: bool,
    /// The type in which `at` reads it.
    pub(in crate::passes::quantize) dtype: DType,
}

impl Reader {
    fn of(reading: &Reading, stored: DType) -> Self {
        let straight = reading.is_straight();
        Self {
            at: match straight {
                true => Use {
                    node: reading.node,
                    slot: Slot::Input(reading.operand.slot as u32),
                },
                false => reading.first,
            },
            operand: reading.operand,
            bodies: reading.bodies.clone(),
            node: reading.node,
            straight,
            dtype: reading.dtype.filter(|_| straight).unwrap_or(stored),
        }
    }

    /// Whether the operator is a matrix product whose second operand is the weight itself.
    pub(super) fn is_right_product(&self) -> bool {
        let product = matches!(self.operand.family, Family::MatMul | Family::Gemm);
        self.straight && product && self.operand.slot == 1
    }

    /// Whether the operator gathers rows of the weight as it is stored.
    pub(in crate::passes::quantize) fn is_lookup(&self) -> bool {
        self.operand.family == Family::Lookup && self.operand.output_axis == Some(0)
    }
}

/// One weight.
#[derive(Clone, Debug)]
pub(in crate::passes::quantize) struct WeightTarget {
    pub(in crate::passes::quantize) weight: ValueId,
    /// Axis of the output channels.
    pub(in crate::passes::quantize) channel_axis: usize,
    /// Axis that is summed over, where it is one.
    pub(super) sum_axis: Option<usize>,
    pub(super) rank: usize,
    pub(in crate::passes::quantize) readers: Vec<Reader>,
    /// How it is coded: the widest of what the options say of its readers.
    pub(super) coding: Coding,
    /// What gradients say of it.
    pub(super) planned: Option<Arc<Planned>>,
    /// A table in blocks along its rows serves all of its readers.
    pub(super) is_block_table: bool,
    /// Codes that another pass chose.
    pub(in crate::passes::quantize) chosen: Option<Arc<Chosen>>,
}

/// Codes of one weight, and what it loses by them.
#[derive(Debug)]
pub(in crate::passes::quantize) struct Chosen {
    pub(in crate::passes::quantize) coded: Coded,
    /// Weight minus its code's value, as matrices `[groups, outputs, columns]`.
    pub(in crate::passes::quantize) apart: Array3<f64>,
}

impl WeightTarget {
    /// The constant weight in slot 1 of `node`, as that node alone reads it.
    pub(in crate::passes::quantize) fn of_node(graph: &Graph, node: NodeId, coding: Coding) -> Option<Self> {
        let (operator, weight) = (graph.operator(node)?, graph.input(node, 1)?);
        let tensor = graph.constant(weight)?;
        let operand = linear::operand(operator, 1, tensor.rank())?;
        let at = Use {
            node,
            slot: Slot::Input(1),
        };
        Some(Self {
            weight,
            channel_axis: operand.output_axis?,
            sum_axis: operand.sum_axis,
            rank: tensor.rank(),
            readers: vec![Reader {
                at,
                operand,
                bodies: Vec::new(),
                node,
                straight: true,
                dtype: tensor.dtype(),
            }],
            coding,
            planned: None,
            is_block_table: false,
            chosen: None,
        })
    }

    /// How scales are laid out over the weight.
    pub(in crate::passes::quantize) fn granularity(&self) -> Granularity {
        self.coding.granularity(self.channel_axis, self.sum_axis)
    }

    /// The scheme of one output channel.
    pub(super) fn scheme(&self, channel: usize) -> Scheme {
        let width = self.planned.as_ref().and_then(|planned| planned.width(channel));
        Scheme {
            bits: width.or(self.coding.bits),
            ..self.coding.scheme()
        }
    }

    /// Whether each output channel has a scale.
    pub(in crate::passes::quantize) fn is_per_channel(&self) -> bool {
        self.coding.per_channel
    }

    /// The narrowest type that scales are read in.
    pub(in crate::passes::quantize) fn scale_dtype(&self) -> DType {
        let half = |wanted| self.readers.iter().any(|reader| reader.dtype == wanted);
        match (half(DType::BF16), half(DType::F16)) {
            (true, _) => DType::BF16,
            (_, true) => DType::F16,
            _ => DType::F32,
        }
    }

    /// The first opset that has DequantizeLinear in the type of the scales.
    pub(super) fn opset(&self) -> i64 {
        let blocked = matches!(self.granularity(), Granularity::Blocked { .. });
        let kind = self.coding.kind.opset(blocked);
        match self.scale_dtype() {
            DType::F32 => kind,
            _ => kind.max(19),
        }
    }

    /// Whether rows of it are gathered.
    pub(super) fn is_table(&self) -> bool {
        self.readers.iter().any(Reader::is_lookup)
    }

    /// Whether every reader is a matrix product with the weight, a matrix, on its right, and all read it the same way.
    pub(super) fn is_matrix_product(&self) -> bool {
        let same = |reader: &Reader| reader.operand.output_axis == Some(self.channel_axis);
        self.rank == 2
            && self
                .readers
                .iter()
                .all(|reader| reader.is_right_product() && same(reader))
    }
}

/// What may be quantized, and why the rest is not.
pub(in crate::passes::quantize) struct Search<'a> {
    options: &'a QuantizeWeights,
    context: &'a Context<'a>,
    /// Another pass has the other operators and says what becomes of them.
    among_others: bool,
    /// Codes become floats again before anything reads them, and engines do so once: no reader is then too far away, and no operator
    /// costs more than another.
    looked_up: bool,
    excluded: regex::RegexSet,
    overrides: Overrides<'a>,
}

/// Why a weight stays as it is.
struct Refusal {
    /// The layer that it is about, where that need not be the first one.
    layer: Option<String>,
    why: String,
    /// What would change that.
    cure: String,
    /// What is said of the other layers that read the weight, where the reason lies with one of them.
    others: &'static str,
}

impl Refusal {
    fn new(why: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            layer: None,
            why: why.into(),
            cure: cure.into(),
            others: "",
        }
    }

    /// About one layer; the others follow it.
    fn of(layer: String, why: &str, others: &'static str) -> Self {
        Self {
            layer: Some(layer),
            others,
            ..Self::new(why, "")
        }
    }
}

/// What one layer asks of its weight.
struct Wish {
    layer: String,
    coding: Coding,
}

/// What the layers that read a weight ask of it, how they read it, and why some layer does not take part.
type Asked = (Vec<Wish>, Vec<Reader>, Option<Refusal>);

impl<'a> Search<'a> {
    pub(in crate::passes::quantize) fn new(
        options: &'a QuantizeWeights,
        context: &'a Context<'a>,
    ) -> Result<Self, PassError> {
        let excluded = crate::schema::patterns(&options.exclude).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("exclude: {error}"),
        })?;
        Ok(Self {
            options,
            context,
            among_others: false,
            looked_up: false,
            excluded,
            overrides: Overrides::new(options)?,
        })
    }

    /// The same, for codes that become floats again before anything reads them.
    pub(in crate::passes::quantize) fn looked_up(self) -> Self {
        Self {
            looked_up: true,
            ..self
        }
    }

    /// The same, silent about operators that the options do not name.
    pub(super) fn among_others(self, among_others: bool) -> Self {
        Self { among_others, ..self }
    }

    /// The weights of every graph that the options cover, with the opset that the graph goes by. Why there are none is said first: bodies
    /// then still read the weights themselves.
    pub(in crate::passes::quantize) fn everywhere(
        &self,
        model: &Model,
        left: &mut LeftAlone,
    ) -> Vec<(GraphPath, i64, Vec<WeightTarget>)> {
        let paths = model.graph_paths();
        for path in &paths {
            self.without_constants(model, path, left);
        }
        let mut all = Vec::new();
        for path in paths {
            let version = opset_version(model.opsets(&path), "");
            if let (Some(version), Some(graph)) = (version, model.graph_at(&path)) {
                let found = self.targets(graph, left);
                all.push((path, version, found));
            }
        }
        all
    }

    /// The weights of `graph` that the options cover.
    pub(in crate::passes::quantize) fn targets(
        &self,
        graph: &Graph,
        left: &mut LeftAlone,
    ) -> Vec<WeightTarget> {
        let mut found = Vec::new();
        for id in graph.node_ids() {
            let weight = ValueId::new(id, 0);
            let is_constant = matches!(graph.get(id).map(|node| &node.kind), Some(NodeKind::Constant(_)));
            let Some(tensor) = graph
                .constant(weight)
                .filter(|tensor| is_constant && tensor.dtype().is_float())
            else {
                continue;
            };
            let readings = linear::readings(graph, weight);
            let Some(first) = readings.weights.first() else {
                continue;
            };
            let label = label_of(graph, first);
            match self.target(graph, weight, tensor.dtype(), &readings, left) {
                Ok(target) => found.push(target),
                Err(Some(refusal)) => {
                    let layer = refusal.layer.unwrap_or(label);
                    for other in readings.weights.iter().filter(|_| !refusal.others.is_empty()) {
                        let other = label_of(graph, other);
                        if other != layer {
                            left.add(other, refusal.others, "");
                        }
                    }
                    left.add(layer, refusal.why, refusal.cure);
                }
                Err(None) => {}
            }
        }
        found
    }

    fn target(
        &self,
        graph: &Graph,
        weight: ValueId,
        dtype: DType,
        readings: &linear::Readings,
        left: &mut LeftAlone,
    ) -> Result<WeightTarget, Option<Refusal>> {
        let refuse = |why: &str, cure: &str| Err(Some(Refusal::new(why, cure)));
        let tensor = graph.constant(weight);
        let elements = tensor.map_or(0, crate::ir::Tensor::elements);
        let rank = tensor.map_or(0, crate::ir::Tensor::rank);
        let (wishes, readers, refused) = self.readers(graph, weight, dtype, readings)?;
        let Some(mut coding) = widest(&wishes) else {
            return Err(refused.filter(|_| !self.among_others));
        };
        if elements < self.options.minimum_elements {
            return refuse("its weight has few elements", "lower --minimum-elements");
        }
        if let Some(Refusal { why, .. }) = refused {
            return refuse(
                &format!("its weight is shared, and {why}"),
                "name it with the others in --operators",
            );
        }
        if let Some(other) = readings.others.first() {
            let by = match (&other.operator, other.label.is_empty()) {
                (Some(operator), false) => format!("{} ({operator})", other.label),
                _ => other.label.clone(),
            };
            return refuse(
                &format!("{by} reads it as float, so that codes would only add to the file"),
                "",
            );
        }
        if readings
            .weights
            .iter()
            .any(|reading| reading.transposed && !reading.bodies.is_empty() && !self.looked_up)
        {
            return refuse(
                "a body reads it behind a Transpose, which ONNX Runtime does not load behind DequantizeLinear",
                "fold the Transpose first: `simplify --max-growth 1`",
            );
        }
        if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return refuse(
                &match self.looked_up {
                    true => format!("its weight is {dtype}, and not float, float16 or bfloat16"),
                    false => format!(
                        "its weight is {dtype}, and DequantizeLinear gives float, float16 and bfloat16"
                    ),
                },
                "",
            );
        }
        if let Some(note) = disagreement(graph, weight, &wishes, coding) {
            left.add("", note, "");
        }
        let lookup = readers.iter().any(Reader::is_lookup);
        // Rows that are gathered have a scale each; other readers follow.
        let lead = readers.iter().position(Reader::is_lookup).unwrap_or(0);
        let Some(operand) = readers.get(lead).map(|reader| reader.operand) else {
            return refuse("no operator reads it as its weight", "");
        };
        let is_block_table = lookup
            && self.options.form == Form::MatMulNBits
            && tensor.is_some_and(|tensor| nbits::serves(graph, tensor, &readings.weights, coding.block));
        if lookup && !is_block_table {
            coding = coding.of_rows();
        }
        if operand.output_axis.is_none() {
            coding.per_channel = false;
        }
        Ok(WeightTarget {
            weight,
            channel_axis: operand.output_axis.unwrap_or(0),
            sum_axis: if is_block_table { Some(1) } else { operand.sum_axis },
            rank,
            readers,
            coding,
            planned: None,
            is_block_table,
            chosen: None,
        })
    }

    /// What the layers that read a weight ask of it, how they read it, and why a layer does not take part. Refuses a weight that one of
    /// them wants as it is.
    fn readers(
        &self,
        graph: &Graph,
        weight: ValueId,
        dtype: DType,
        readings: &linear::Readings,
    ) -> Result<Asked, Option<Refusal>> {
        let (mut wishes, mut readers) = (Vec::new(), Vec::new());
        let mut refused: Option<Refusal> = None;
        for reading in &readings.weights {
            let Some(inner) = reading.graph(graph) else {
                continue;
            };
            let operator = inner.operator(reading.node).map(|one| one.op_type.to_string());
            let operator = operator.unwrap_or_default();
            if !self.options.operators.contains(&operator) {
                refused.get_or_insert(Refusal::new(
                    format!("{operator} is not among the operators"),
                    format!("name it with the others in --operators{}", self.costs(&operator)),
                ));
                continue;
            }
            let layer = inner.label(reading.node);
            let names = layer_names(inner, reading.node, false);
            if names.iter().any(|name| self.excluded.is_match(name)) {
                let others = "it shares its weight with a layer that is excluded";
                return Err(Some(Refusal::of(layer, "excluded", others)));
            }
            if names.iter().any(|name| self.context.keeps(name)) {
                let others = "it shares its weight with a layer that keep protects";
                return Err(Some(Refusal::of(layer, "protected by keep", others)));
            }
            let mut names = layer_names(inner, reading.node, true);
            names.extend(graph.value(weight).map(|value| value.name.to_string()));
            let Some(coding) = self.overrides.coding(&names) else {
                let others = "it shares its weight with a layer that `layers` leaves in float";
                return Err(Some(Refusal::of(layer, "so `layers` says", others)));
            };
            wishes.push(Wish { layer, coding });
            readers.push(Reader::of(reading, dtype));
        }
        Ok((wishes, readers, refused))
    }

    /// What quantized weights of an operator cost where it runs.
    fn costs(&self, operator: &str) -> &'static str {
        match operator {
            "Conv" | "ConvTranspose" if !self.looked_up => {
                " (ONNX Runtime then dequantizes its weight in every run)"
            }
            _ => "",
        }
    }

    /// Says why operators of the graph at `path` that have weights have none that is constant.
    pub(in crate::passes::quantize) fn without_constants(
        &self,
        model: &Model,
        path: &GraphPath,
        left: &mut LeftAlone,
    ) {
        let Some(graph) = model.graph_at(path).filter(|_| !self.among_others) else {
            return;
        };
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            if NARROW.contains(&&*operator.op_type) && !operator.domain().is_empty() {
                left.add(graph.label(id), "its weight is codes already", "");
                continue;
            }
            let named = self.options.operators.iter().any(|name| operator.is(name));
            let slots = linear::weight_slots(operator);
            let mut operands: Vec<ValueId> = slots.iter().filter_map(|slot| graph.input(id, *slot)).collect();
            // What a Gather takes rows of is often the shape of something.
            operands.retain(|value| graph.ty(*value).dtype().is_none_or(DType::is_float));
            if !named || operands.is_empty() {
                continue;
            }
            let constant = |value: &ValueId| linear::origin(model, path, *value).is_some();
            if operands.iter().any(constant) {
                continue;
            }
            let hidden = operands
                .iter()
                .find_map(|value| linear::hidden(model, path, *value));
            match hidden {
                Some(Hidden::Computed) | None if operator.is("Gather") => {}
                Some(hidden) => left.add(graph.label(id), hidden.why(), hidden.cure()),
                None if slots.len() > 1 && slots.contains(&0) => {
                    left.add(graph.label(id), "it multiplies two activations", "");
                }
                None => left.add(graph.label(id), "its weight is computed", ""),
            }
        }
    }
}

/// What messages call the layer of a reading.
fn label_of(graph: &Graph, reading: &Reading) -> String {
    let inner = reading.graph(graph);
    inner.map(|inner| inner.label(reading.node)).unwrap_or_default()
}

/// The coding with the most bits; of several the first.
fn widest(wishes: &[Wish]) -> Option<Coding> {
    let mut codings = wishes.iter().map(|wish| wish.coding);
    let first = codings.next()?;
    Some(
        codings.fold(first, |wide, next| match levels(next) > levels(wide) {
            true => next,
            false => wide,
        }),
    )
}

/// Bits that codes make use of.
fn levels(coding: Coding) -> u32 {
    coding.bits.unwrap_or(coding.kind.bits())
}

/// Says that two layers ask for different codings of the weight that they share.
fn disagreement(graph: &Graph, weight: ValueId, wishes: &[Wish], taken: Coding) -> Option<String> {
    let other = wishes.iter().find(|wish| wish.coding != taken)?;
    let first = wishes.iter().find(|wish| wish.coding == taken)?;
    let name = graph.value(weight).map(|value| value.name.to_string());
    let of = |coding: Coding| match (coding.bits, coding.block) {
        (Some(bits), _) => format!("{bits} bits of {}", coding.kind.name()),
        (None, 0) => coding.kind.name().to_owned(),
        (None, block) => format!("{} in blocks of {block}", coding.kind.name()),
    };
    Some(format!(
        "{} is the weight of {}, which asks for {}, and of {}, which asks for {}: it is {} for all that read it",
        name.unwrap_or_default(),
        first.layer,
        of(taken),
        other.layer,
        of(other.coding),
        of(taken),
    ))
}

/// Operators of other domains whose weights are codes.
const NARROW: &[&str] = &[
    "MatMulNBits",
    "MatMulBnb4",
    "GatherBlockQuantized",
    "DynamicQuantizeLSTM",
];

/// The type that rows of a table are coded in: engines gather whole bytes.
pub(super) fn row_kind(kind: Kind) -> Kind {
    match (
        kind.bits() < 8 || kind.is_float(),
        kind.is_signed() || kind.is_float(),
    ) {
        (false, _) => kind,
        (true, true) => Kind::Int8,
        (true, false) => Kind::Uint8,
    }
}
