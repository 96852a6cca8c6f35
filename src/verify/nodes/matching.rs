//! Which values of a model stand for which of the reference, and where the model is cut so that each node is judged alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::codes::{self, is_code, is_dequantize, is_quantize};
use super::cut::{CutPlan, Form, Source, name_of};
use crate::ir::{DType, Graph, NodeId, NodeKind, Slot, ValueId, ValueType};
use crate::ops::Traits;

/// How names of codes end that stand for the value before.
const CODE_SUFFIX: &str = "_quantized";

/// Lowest and highest number of codes, and the distance of two.
pub(super) type Span = (f64, f64, f64);

/// One comparison: an end of the cut and the reference's value.
pub(super) struct Row {
    pub(super) node: NodeId,
    pub(super) value: String,
    /// Where the result is a code.
    pub(super) span: Option<Span>,
}

/// What stands for what.
#[derive(Default)]
pub(super) struct Matching {
    pub(super) plan: CutPlan,
    /// One for each end of the plan.
    pub(super) rows: Vec<Row>,
    /// Values that the reference has to show.
    pub(super) expose: BTreeSet<String>,
}

impl Matching {
    /// Matches `graph` with the reference, which shows the values `there`.
    pub(super) fn new(reference: &Graph, graph: &Graph, there: &HashSet<String>) -> Self {
        let known = Known::new(reference, there, value_names(graph));
        let stand = Counterparts::find(graph, &known);
        let mut matcher = Matcher {
            graph,
            known: &known,
            found: Self::default(),
        };
        for (value, name) in &stand.given {
            matcher.redirect(*value, name, |_, _| false);
        }
        for (value, name) in &stand.floats {
            matcher.judge_float(*value, name);
        }
        for (value, name) in &stand.codes {
            matcher.judge_codes(*value, name);
        }
        matcher.found
    }
}

/// Names of the values of a graph.
pub(super) fn value_names(graph: &Graph) -> HashSet<String> {
    graph
        .node_ids()
        .filter_map(|id| graph.get(id))
        .flat_map(|node| node.outputs())
        .filter(|value| !value.omitted && !value.name.is_empty())
        .map(|value| value.name.to_string())
        .collect()
}

/// Named values that depend on data, in topological order, with their types.
fn named(graph: &Graph) -> impl Iterator<Item = (ValueId, String, DType)> {
    let depends = codes::data_dependent(graph);
    let nodes = graph.topological_order().into_iter();
    nodes.filter(move |id| depends.contains(id)).flat_map(move |id| {
        let count = graph.get(id).map_or(0, |node| node.outputs().len());
        (0..count).filter_map(move |output| {
            let value = ValueId::new(id, output);
            Some((
                value,
                name_of(graph, value)?.to_string(),
                graph.ty(value).dtype()?,
            ))
        })
    })
}

/// Values of the reference that depend on data, and their types.
struct Known<'a> {
    graph: &'a Graph,
    types: HashMap<String, (ValueId, DType)>,
    /// Names in the model.
    theirs: HashSet<String>,
}

impl<'a> Known<'a> {
    fn new(graph: &'a Graph, there: &HashSet<String>, theirs: HashSet<String>) -> Self {
        let types = named(graph)
            .filter(|(_, name, _)| there.contains(name))
            .map(|(value, name, dtype)| (name, (value, dtype)))
            .collect();
        Self { graph, types, theirs }
    }

    fn dtype(&self, name: &str) -> Option<DType> {
        self.types.get(name).map(|(_, dtype)| *dtype)
    }

    /// Whether a value of the model may have the shape of the reference's value of this name: one that was made smaller on purpose is
    /// neither given nor compared.
    fn fits(&self, graph: &Graph, value: ValueId, name: &str) -> bool {
        let shape = |ty: &ValueType| ty.shape().cloned();
        let Some((theirs, _)) = self.types.get(name) else {
            return true;
        };
        match (shape(self.graph.ty(*theirs)), shape(graph.ty(value))) {
            (Some(theirs), Some(own)) => {
                !ValueType::tensor(None, Some(own)).contradicts(&ValueType::tensor(None, Some(theirs)))
            }
            _ => true,
        }
    }

    /// The value that codes made from `name` stand for: behind clamps that the model leaves to the range of its codes.
    fn behind_clamps(&self, name: String) -> String {
        let Some((value, _)) = self.types.get(&name) else {
            return name;
        };
        let uses = self.graph.uses(*value);
        let [only] = uses.as_slice() else { return name };
        let clamps = self
            .graph
            .operator(only.node)
            .is_some_and(|operator| operator.is("Relu") || operator.is("Clip"));
        match name_of(self.graph, ValueId::new(only.node, 0)) {
            Some(next)
                if clamps
                    && only.slot == Slot::Input(0)
                    && !self.theirs.contains(next.as_str())
                    && self.types.contains_key(next.as_str()) =>
            {
                self.behind_clamps(next.to_string())
            }
            _ => name,
        }
    }
}

/// The values of the model that stand for values of the reference, by the reference's names.
#[derive(Default)]
struct Counterparts {
    /// Floats that are judged, in topological order.
    floats: Vec<(ValueId, String)>,
    float_of: HashMap<ValueId, String>,
    /// Codes that are judged.
    codes: BTreeMap<ValueId, String>,
    /// Values whose readers get the reference's and which are not judged themselves.
    given: Vec<(ValueId, String)>,
}

impl Counterparts {
    fn find(graph: &Graph, known: &Known<'_>) -> Self {
        let mut found = Self::default();
        for (value, name, dtype) in named(graph) {
            let theirs = known.dtype(&name).filter(|_| known.fits(graph, value, &name));
            let computed = graph.operator(value.node).is_some();
            if let Some(coded) = found.decoded(graph, value.node) {
                let name = if theirs.is_some() { name } else { coded };
                found.given.push((value, name));
            } else if is_code(dtype) && computed {
                let coded = found.coded(graph, known, value, &name);
                if let Some(coded) = coded.filter(|coded| known.fits(graph, value, coded)) {
                    found.codes.insert(value, coded);
                }
            } else if theirs.is_some_and(DType::is_float) && dtype.is_float() {
                found.floats.push((value, name.clone()));
                found.float_of.insert(value, name);
            } else if theirs == Some(dtype) && computed {
                // Indices and flags that depend on data: another one would make what follows incomparable.
                found.given.push((value, name));
            }
        }
        found
    }

    /// What the codes stand for that a DequantizeLinear reads.
    fn decoded(&self, graph: &Graph, node: NodeId) -> Option<String> {
        let code = graph.input(node, 0).filter(|_| is_dequantize(graph, node))?;
        self.codes.get(&code).cloned()
    }

    /// What codes stand for: by the DequantizeLinear behind them, the value that they are made from, or their name.
    fn coded(&self, graph: &Graph, known: &Known<'_>, value: ValueId, name: &str) -> Option<String> {
        let shown = graph
            .uses(value)
            .into_iter()
            .filter(|reader| is_dequantize(graph, reader.node) && reader.slot == Slot::Input(0))
            .find_map(|reader| name_of(graph, ValueId::new(reader.node, 0)))
            .map(|name| name.to_string())
            .filter(|name| known.dtype(name).is_some());
        if shown.is_some() {
            return shown;
        }
        let source = graph
            .input(value.node, 0)
            .filter(|_| is_quantize(graph, value.node))
            .and_then(|value| self.float_of.get(&value).cloned());
        let stem = name
            .strip_suffix(CODE_SUFFIX)
            .filter(|stem| codes::coding(graph, value).is_some() && known.dtype(stem).is_some());
        let guess = source.or_else(|| stem.map(str::to_owned));
        guess.map(|name| known.behind_clamps(name))
    }
}

/// A matching that is being made.
struct Matcher<'a> {
    graph: &'a Graph,
    known: &'a Known<'a>,
    found: Matching,
}

impl Matcher<'_> {
    /// A float is judged where nothing rounds it; what rounds it reads what the model computes.
    fn judge_float(&mut self, value: ValueId, name: &str) {
        let graph = self.graph;
        let rounds = |node: NodeId, slot: Slot| is_quantize(graph, node) && slot == Slot::Input(0);
        let is_input = matches!(
            graph.get(value.node).map(|node| &node.kind),
            Some(NodeKind::Input(_))
        );
        if !is_input {
            self.redirect(value, name, rounds);
        }
        let is_coded = graph
            .uses(value)
            .iter()
            .any(|reader| rounds(reader.node, reader.slot));
        let random = graph
            .operator(value.node)
            .is_some_and(|operator| Traits::of(operator.domain(), &operator.op_type).random);
        if !is_input && !is_coded && !random {
            self.show(value, value.node, name, None);
        }
    }

    /// Codes are judged by what they stand for, at the node whose result they round.
    fn judge_codes(&mut self, value: ValueId, name: &str) {
        let graph = self.graph;
        let coding = codes::coding(graph, value).zip(graph.ty(value).dtype());
        let reads_codes = |node: NodeId, slot: Slot| is_dequantize(graph, node) && slot == Slot::Input(0);
        if let Some((coding, dtype)) = coding {
            self.give(value, name, Form::Codes(coding, dtype), reads_codes);
        }
        let source = graph
            .input(value.node, 0)
            .filter(|source| is_quantize(graph, value.node) && graph.operator(source.node).is_some());
        let node = source.map_or(value.node, |source| source.node);
        let span = coding.and_then(|(coding, dtype)| codes::span(graph, coding, dtype));
        let shown = graph
            .uses(value)
            .into_iter()
            .find(|reader| reads_codes(reader.node, reader.slot));
        match (shown, coding) {
            (Some(reader), _) => self.show(ValueId::new(reader.node, 0), node, name, span),
            (None, Some((coding, dtype))) if self.known.dtype(name) == Some(DType::F32) => {
                self.end(value, Form::Codes(coding, dtype), node, name, span);
            }
            _ => {}
        }
    }

    /// Lets the readers of `value` read the reference's value `name` instead, but for those that are spared.
    fn redirect(&mut self, value: ValueId, name: &str, spared: impl Fn(NodeId, Slot) -> bool) {
        let form = match (self.known.dtype(name), self.graph.ty(value).dtype()) {
            (Some(theirs), Some(own)) if theirs != own => Form::Cast(own),
            _ => Form::Same,
        };
        self.give(value, name, form, spared);
    }

    fn give(&mut self, value: ValueId, name: &str, form: Form, spared: impl Fn(NodeId, Slot) -> bool) {
        for reader in self.graph.uses(value) {
            if reader.node == self.graph.sink() || spared(reader.node, reader.slot) {
                continue;
            }
            let source = Source {
                given: name.to_owned(),
                form,
            };
            self.found.plan.sources.insert((reader.node, reader.slot), source);
            self.found.expose.insert(name.to_owned());
        }
    }

    fn show(&mut self, value: ValueId, node: NodeId, name: &str, span: Option<Span>) {
        let form = match (self.known.dtype(name), self.graph.ty(value).dtype()) {
            (Some(theirs), Some(own)) if theirs != own => Form::Cast(theirs),
            _ => Form::Same,
        };
        self.end(value, form, node, name, span);
    }

    fn end(&mut self, value: ValueId, form: Form, node: NodeId, name: &str, span: Option<Span>) {
        self.found.plan.ends.push((value, form));
        self.found.rows.push(Row {
            node,
            value: name.to_owned(),
            span,
        });
        self.found.expose.insert(name.to_owned());
    }
}
