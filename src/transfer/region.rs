//! A part of a model, from named values to named values.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis;
use crate::ir::{
    Constant, Graph, GraphBuilder, GraphOutput, Input, Model, NodeId, NodeKind, Slot, Value, ValueId,
};

/// First IR version in which an initializer need not be listed among the graph inputs.
const UNLISTED_INITIALIZERS: i64 = 4;

/// Why a part cannot be cut out.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum RegionError {
    /// No value of the main graph has this name.
    #[error("the main graph has no value {value:?}{}", hint(value, nearest))]
    NoValue {
        /// The name.
        value: String,
        /// The value whose name is most like it.
        nearest: Option<String>,
    },
    /// The value stands in a body or a function.
    #[error(
        "the main graph has no value {value:?}: it stands in {place}, and parts are cut out of the main graph alone"
    )]
    Elsewhere {
        /// The name.
        value: String,
        /// The body or function.
        place: String,
    },
    /// There has to be at least one output.
    #[error("a part needs at least one output")]
    NoOutput,
    /// A name is given twice.
    #[error("value {value:?} is named twice")]
    Twice {
        /// The name.
        value: String,
    },
    /// The part reads a graph input that is not among its inputs.
    #[error("{output:?} depends on the graph input {input:?}, which the inputs do not cut off")]
    OpenInput {
        /// An output of the part.
        output: String,
        /// The graph input.
        input: String,
    },
    /// No output depends on this input.
    #[error("no output depends on the input {value:?}")]
    IdleInput {
        /// The name.
        value: String,
    },
}

fn hint(value: &str, nearest: &Option<String>) -> String {
    if value.contains(',') {
        return "; several values are given one by one: the option once for each, or as a YAML list"
            .to_owned();
    }
    nearest
        .as_ref()
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// The part of the main graph that computes `outputs` from `inputs`, as a model of its own. Without `inputs` it starts where
/// the graph does. Names, functions, imports and metadata are those of `model`; tensors are shared with it.
pub fn extract(model: &Model, inputs: &[String], outputs: &[String]) -> Result<Model, RegionError> {
    let mut typed = model.clone();
    analysis::infer(&mut typed);
    let graph = &typed.graph;
    if outputs.is_empty() {
        return Err(RegionError::NoOutput);
    }
    let names = named(graph);
    let placed = |error| elsewhere(&typed, error);
    let cuts = find_all(&names, inputs).map_err(placed)?;
    let ends = find_all(&names, outputs).map_err(placed)?;
    let open_ended = inputs.is_empty();
    let cut: BTreeSet<ValueId> = cuts.iter().copied().collect();
    let reached = reach(graph, &cut, &ends, open_ended)?;
    if let Some(idle) = cuts.iter().find(|value| !reached.cuts.contains(value)) {
        return Err(RegionError::IdleInput {
            value: name(graph, *idle),
        });
    }
    let part = copy(graph, &cuts, &ends, &reached.nodes);
    let mut result = Model {
        graph: part,
        ..model.clone()
    };
    // Training information names values that may be gone.
    result.header.training_info.clear();
    if result.ir_version() < UNLISTED_INITIALIZERS {
        result.header.ir_version = Some(UNLISTED_INITIALIZERS);
    }
    Ok(result)
}

/// The values of a graph by name.
fn named(graph: &Graph) -> BTreeMap<String, ValueId> {
    let mut names = BTreeMap::new();
    for id in graph.node_ids() {
        for (output, value) in graph
            .get(id)
            .map(|node| node.outputs())
            .into_iter()
            .flatten()
            .enumerate()
        {
            if !value.name.is_empty() && !value.omitted {
                names.insert(value.name.to_string(), ValueId::new(id, output));
            }
        }
    }
    // A graph output may have another name than the value it stands for.
    for (output, value) in graph.outputs().iter().zip(graph.output_values()) {
        if let Some(value) = value {
            names.entry(output.name.to_string()).or_insert(value);
        }
    }
    names
}

/// The values of the main graph with these names, each named once.
pub fn find(graph: &Graph, wanted: &[String]) -> Result<Vec<ValueId>, RegionError> {
    find_all(&named(graph), wanted)
}

fn find_all(names: &BTreeMap<String, ValueId>, wanted: &[String]) -> Result<Vec<ValueId>, RegionError> {
    let mut found = Vec::with_capacity(wanted.len());
    for value in wanted {
        let id = *names.get(value).ok_or_else(|| RegionError::NoValue {
            value: value.clone(),
            nearest: most_like(names, value),
        })?;
        if found.contains(&id) {
            return Err(RegionError::Twice { value: value.clone() });
        }
        found.push(id);
    }
    Ok(found)
}

/// The error for a value that some other graph of the model computes.
fn elsewhere(model: &Model, error: RegionError) -> RegionError {
    let RegionError::NoValue { value, .. } = &error else {
        return error;
    };
    let computes = |graph: &Graph| {
        let owned = graph.node_ids().filter_map(|id| graph.get(id));
        owned
            .filter(|node| !matches!(node.kind, NodeKind::Capture(_)))
            .any(|node| node.outputs().iter().any(|output| *output.name == **value))
    };
    let place = model.graph_paths().into_iter().find_map(|path| {
        model.graph_at(&path).filter(|graph| computes(graph))?;
        analysis::graph_name(model, &path)
    });
    match place {
        Some(place) => RegionError::Elsewhere {
            value: value.clone(),
            place,
        },
        None => error,
    }
}

/// The name that shares the longest beginning and end with `wanted`, if they share most of it.
fn most_like(names: &BTreeMap<String, ValueId>, wanted: &str) -> Option<String> {
    let score = |name: &str| {
        let front = name
            .bytes()
            .zip(wanted.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let back = name
            .bytes()
            .rev()
            .zip(wanted.bytes().rev())
            .take_while(|(a, b)| a == b)
            .count();
        front + back
    };
    let best = names.keys().max_by_key(|name| score(name))?;
    (score(best) * 2 > wanted.len()).then(|| best.clone())
}

fn name(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

struct Reached {
    nodes: BTreeSet<NodeId>,
    cuts: BTreeSet<ValueId>,
}

/// The nodes behind `ends` up to the cut.
fn reach(
    graph: &Graph,
    cut: &BTreeSet<ValueId>,
    ends: &[ValueId],
    open_ended: bool,
) -> Result<Reached, RegionError> {
    let mut reached = Reached {
        nodes: BTreeSet::new(),
        cuts: BTreeSet::new(),
    };
    for end in ends {
        let mut pending = vec![*end];
        while let Some(value) = pending.pop() {
            if cut.contains(&value) {
                reached.cuts.insert(value);
                continue;
            }
            if let Some(NodeKind::Input(input)) = graph.get(value.node).map(|node| &node.kind)
                && !open_ended
                && input.default.is_none()
            {
                return Err(RegionError::OpenInput {
                    output: name(graph, *end),
                    input: name(graph, value),
                });
            }
            if reached.nodes.insert(value.node) {
                pending.extend(graph.inputs_of(value.node).into_iter().flatten());
                pending.extend(graph.captures_of(value.node).into_iter().flatten());
            }
        }
    }
    Ok(reached)
}

fn copy(graph: &Graph, cuts: &[ValueId], ends: &[ValueId], nodes: &BTreeSet<NodeId>) -> Graph {
    let mut part = Part {
        graph,
        builder: GraphBuilder::new(),
        copies: BTreeMap::new(),
    };
    part.inputs(cuts, nodes);
    let made = part.nodes(cuts, nodes);
    part.connect(made);
    part.outputs(ends);
    part.keep_notes();
    part.builder.finish()
}

/// A part of a graph as it is copied.
struct Part<'g> {
    graph: &'g Graph,
    builder: GraphBuilder,
    copies: BTreeMap<ValueId, ValueId>,
}

impl Part<'_> {
    /// Inputs for the cut values, then those of the graph that the part keeps.
    fn inputs(&mut self, cuts: &[ValueId], nodes: &BTreeSet<NodeId>) {
        let graph = self.graph;
        let kept_inputs = graph
            .inputs()
            .iter()
            .filter(|id| nodes.contains(id) && !cuts.iter().any(|cut| cut.node == **id));
        let starts = cuts
            .iter()
            .copied()
            .chain(kept_inputs.map(|id| ValueId::new(*id, 0)));
        for (index, start) in starts.enumerate() {
            let Some(value) = graph.value(start) else { continue };
            let mut input = match graph.get(start.node).map(|node| &node.kind) {
                Some(NodeKind::Input(input)) => (**input).clone(),
                _ => Input::default(),
            };
            input.index = index as u32;
            let value = Value {
                declared: None,
                ..value.clone()
            };
            self.copies.insert(start, self.builder.input(value, input));
        }
    }

    /// Every node of the part, so that the order of the file decides about positions. Answers operators and their copies, which read
    /// nothing yet.
    fn nodes(&mut self, cuts: &[ValueId], nodes: &BTreeSet<NodeId>) -> Vec<(NodeId, NodeId)> {
        let mut made = Vec::new();
        let order = self.graph.topological_order();
        for id in order.iter().filter(|id| nodes.contains(id)) {
            let Some(node) = self.graph.get(*id) else { continue };
            let meta = node.meta.as_deref().cloned();
            let outputs: Vec<Value> = node
                .outputs()
                .iter()
                .enumerate()
                .map(|(output, value)| {
                    // The cut value of a node that the part needs for another output has its name at the input.
                    if cuts.contains(&ValueId::new(*id, output)) {
                        Value::default()
                    } else {
                        value.clone()
                    }
                })
                .collect();
            let count = outputs.len();
            let copy = match &node.kind {
                NodeKind::Constant(constant) => {
                    let constant = Constant {
                        listed_input: None,
                        ..(**constant).clone()
                    };
                    let value = outputs.into_iter().next().unwrap_or_default();
                    self.builder
                        .constant(value, constant, node.name.clone(), meta)
                        .node
                }
                NodeKind::Operator(operator) => {
                    let copy = self.builder.operator(
                        operator.clone(),
                        operator.input_count(),
                        operator.capture_count(),
                        outputs,
                        node.name.clone(),
                        meta,
                    );
                    made.push((*id, copy));
                    copy
                }
                _ => continue,
            };
            for output in 0..count {
                self.copies
                    .entry(ValueId::new(*id, output))
                    .or_insert(ValueId::new(copy, output));
            }
        }
        made
    }

    /// Lets copies read what the operators read.
    fn connect(&mut self, made: Vec<(NodeId, NodeId)>) {
        for (id, copy) in made {
            let inputs = self
                .graph
                .inputs_of(id)
                .into_iter()
                .enumerate()
                .map(|(at, value)| (Slot::Input(at as u32), value));
            let captures = self
                .graph
                .captures_of(id)
                .into_iter()
                .enumerate()
                .map(|(at, value)| (Slot::Capture(at as u32), value));
            for (slot, value) in inputs.chain(captures) {
                if let Some(value) = value.and_then(|value| self.copies.get(&value)) {
                    self.builder.connect(*value, copy, slot);
                }
            }
        }
    }

    /// Outputs for the ends.
    fn outputs(&mut self, ends: &[ValueId]) {
        let graph = self.graph;
        let declared: Vec<(ValueId, &GraphOutput)> = graph
            .output_values()
            .into_iter()
            .zip(graph.outputs())
            .filter_map(|(value, output)| Some((value?, output)))
            .collect();
        for end in ends {
            let Some(value) = graph.value(*end) else { continue };
            // What the file says about a graph output fills what inference leaves open.
            let ty = match declared.iter().find(|(of, _)| of == end) {
                Some((_, output)) if !value.ty.contradicts(&output.ty) => value.ty.refined_by(&output.ty),
                _ => value.ty.clone(),
            };
            let output = GraphOutput {
                name: value.name.clone(),
                declared: None,
                ty,
            };
            self.builder.output(output, self.copies.get(end).copied());
        }
    }

    /// What the file notes about values that the part has.
    fn keep_notes(&mut self) {
        let builder = &mut self.builder;
        let initializers: BTreeSet<String> = builder
            .graph()
            .initializers()
            .into_iter()
            .map(|(id, _)| name(builder.graph(), ValueId::new(id, 0)))
            .collect();
        let names = named(builder.graph());
        let meta = builder.meta();
        *meta = self.graph.meta.clone();
        meta.other_value_info
            .retain(|(_, info)| info.name.as_ref().is_some_and(|name| initializers.contains(name)));
        meta.quantization.retain(|entry| {
            entry
                .tensor_name
                .as_ref()
                .is_some_and(|name| names.contains_key(name))
        });
    }
}
