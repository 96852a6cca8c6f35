//! The pass `rename`.

mod entries;
mod taken;

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::entries::Entries;
use crate::ir::edit::NewNames;
use crate::ir::{Graph, GraphPath, Model, Name, NodeId, NodeKind, ValueId};
use crate::passes::scope::training_names;
use crate::passes::{About, Context, Interface, Pass, PassError, PassReport, Safety};

const NAME: &str = "rename";

/// Gives inputs, outputs, nodes and values other names.
///
/// Each entry is a name and what it becomes. One that begins with `^` is a regular expression: what it matches of a name is replaced, and `$1`
/// stands for its first group; `${1}` before a letter, a digit or `_`, in the file of a pipeline `$${1}`. All names change at once, so two
/// can swap theirs. Names in bodies and functions are renamed like those of the main graph; whoever reads a renamed value reads it under its
/// new name. Order and types of inputs and outputs stay, and so does everything that is computed: the result is compared with the model
/// under its new names. An entry that names nothing, a name that is taken and two names that become one are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rename {
    /// New names of graph inputs, by their old ones. Data of later steps and of the comparison go by the new ones.
    pub inputs: BTreeMap<String, String>,
    /// New names of graph outputs.
    pub outputs: BTreeMap<String, String>,
    /// New names of nodes.
    pub nodes: BTreeMap<String, String>,
    /// New names of values that are neither inputs nor outputs of the graph: results of nodes, initializers.
    pub values: BTreeMap<String, String>,
}

impl Pass for Rename {
    fn about(&self) -> About {
        let about = About::new(NAME, Safety::Exact);
        // Data that were described for the old inputs may not fit the new ones.
        if self.inputs.is_empty() {
            about
        } else {
            about.replacing()
        }
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let maps = [&self.inputs, &self.outputs, &self.nodes, &self.values];
        if maps.iter().all(|map| map.is_empty()) {
            return Err(option(
                "say what gets another name: inputs, outputs, nodes or values, each as OLD=NEW",
            ));
        }
        let mut plan = RenamePlan::default();
        plan.interface(self, &model.graph, context)?;
        plan.values(self, model, context)?;
        plan.nodes(self, model, context)?;
        plan.check(model)?;
        let mut report = PassReport::default();
        report.add("input", plan.interface.inputs.len() as u64);
        report.add("output", plan.interface.outputs.len() as u64);
        report.add("node", plan.nodes.len() as u64);
        report.add("value", plan.inner);
        model.rename_values(&plan.values);
        for (path, id, name) in plan.nodes {
            if let Some(graph) = model.graph_at_mut(&path) {
                graph
                    .edit(NAME)
                    .set_node_name(id, Some(name))
                    .map_err(|source| PassError::Edit { pass: NAME, source })?;
            }
        }
        report.interface = Some(plan.interface).filter(|interface| !interface.is_empty());
        Ok(report)
    }
}

fn option(message: impl Into<String>) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.into(),
    }
}

/// What gets which name.
#[derive(Default)]
struct RenamePlan {
    values: NewNames,
    /// How many of them are neither inputs nor outputs of the main graph.
    inner: u64,
    nodes: Vec<(GraphPath, NodeId, Name)>,
    interface: Interface,
}

/// The graph inputs of a graph with their names.
fn inputs(graph: &Graph) -> impl Iterator<Item = (ValueId, &Name)> {
    graph.inputs().iter().filter_map(move |id| {
        let value = ValueId::new(*id, 0);
        Some((value, &graph.value(value)?.name))
    })
}

/// The graph outputs of a graph with their names.
fn outputs(graph: &Graph) -> impl Iterator<Item = (ValueId, &Name)> {
    let values = graph.output_values().into_iter();
    let named = values.zip(graph.outputs());
    named.filter_map(|(value, output)| Some((value?, &output.name)))
}

impl RenamePlan {
    /// Inputs and outputs of the main graph.
    fn interface(&mut self, options: &Rename, graph: &Graph, context: &Context<'_>) -> Result<(), PassError> {
        let mut own: HashMap<ValueId, Name> = HashMap::new();
        let mut entries = Entries::of("inputs", &options.inputs)?;
        for (value, old) in inputs(graph) {
            if let Some(new) = entries.new_name(old, context)? {
                self.interface.inputs.insert(old.to_string(), new.to_string());
                own.insert(value, new);
            }
        }
        entries.finish("input", inputs(graph).map(|(_, name)| name.as_str()))?;
        let mut entries = Entries::of("outputs", &options.outputs)?;
        for (value, old) in outputs(graph) {
            if let Some(new) = entries.new_name(old, context)? {
                self.interface.outputs.insert(old.to_string(), new.to_string());
                own.insert(value, new);
            }
        }
        entries.finish("output", outputs(graph).map(|(_, name)| name.as_str()))?;
        // An input that is an output as well is one value, and has one name.
        let shown: HashSet<ValueId> = outputs(graph).map(|(value, _)| value).collect();
        for (_, old) in inputs(graph).filter(|(value, _)| shown.contains(value)) {
            if self.interface.inputs.get(old.as_str()) != self.interface.outputs.get(old.as_str()) {
                return Err(option(format!(
                    "{old:?} is an input and an output of the graph at once: give it the same new name under inputs and under outputs"
                )));
            }
        }
        self.values.insert(GraphPath::MAIN, own);
        Ok(())
    }

    /// What is neither an input nor an output of the main graph, in every graph.
    fn values(&mut self, options: &Rename, model: &Model, context: &Context<'_>) -> Result<(), PassError> {
        let mut entries = Entries::of("values", &options.values)?;
        if options.values.is_empty() {
            return Ok(());
        }
        let graph = &model.graph;
        let taken = inputs(graph).map(|(_, name)| ("input", name));
        let given = outputs(graph).map(|(_, name)| ("output", name));
        for (kind, name) in taken.chain(given) {
            if options.values.contains_key(name.as_str()) {
                return Err(option(format!(
                    "values: {name:?} is an {kind} of the graph; give its new name under {kind}s"
                )));
            }
        }
        let mut known: Vec<String> = Vec::new();
        for path in model.graph_paths() {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            let main = path == GraphPath::MAIN;
            let mut own: HashMap<ValueId, Name> = HashMap::new();
            for (value, old) in defined(graph) {
                let is_input = graph.inputs().contains(&value.node);
                if main && (is_input || graph.is_graph_output(value)) {
                    continue;
                }
                known.push(old.to_string());
                if let Some(new) = entries.new_name(old, context)? {
                    own.insert(value, new);
                }
            }
            self.inner += own.len() as u64;
            self.values.entry(path).or_default().extend(own);
        }
        entries.finish("value", known.iter().map(String::as_str))
    }

    /// Nodes of every graph.
    fn nodes(&mut self, options: &Rename, model: &Model, context: &Context<'_>) -> Result<(), PassError> {
        let mut entries = Entries::of("nodes", &options.nodes)?;
        if options.nodes.is_empty() {
            return Ok(());
        }
        let mut known: Vec<String> = Vec::new();
        for path in model.graph_paths() {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            for (id, old) in named_nodes(graph) {
                known.push(old.to_string());
                if let Some(new) = entries.new_name(old, context)? {
                    self.nodes.push((path.clone(), id, new));
                }
            }
        }
        entries.finish("node", known.iter().map(String::as_str))
    }

    /// Refuses names that something else has, and names that training information goes by.
    fn check(&self, model: &Model) -> Result<(), PassError> {
        let pinned = training_names(model);
        let mut values = taken::Taken::default();
        let mut nodes = taken::Taken::default();
        let renamed: HashMap<(&GraphPath, NodeId), &Name> = self
            .nodes
            .iter()
            .map(|(path, id, name)| ((path, *id), name))
            .collect();
        for path in &model.graph_paths() {
            let Some(graph) = model.graph_at(path) else {
                continue;
            };
            let own = self.values.get(path);
            for (value, old) in defined(graph) {
                let new = own.and_then(|own| own.get(&value));
                if new.is_some() && path.function.is_none() && pinned.contains(old.as_str()) {
                    return Err(option(format!(
                        "the training information of the model goes by the name {old:?}"
                    )));
                }
                values.add(path, old, new);
            }
            for (id, old) in named_nodes(graph) {
                nodes.add(path, old, renamed.get(&(path, id)).copied());
            }
        }
        match values.clash("value").or_else(|| nodes.clash("node")) {
            Some(words) => Err(option(words)),
            None => Ok(()),
        }
    }
}

/// The values that a graph defines and that have a name: captured ones are defined by the graph around.
fn defined(graph: &Graph) -> impl Iterator<Item = (ValueId, &Name)> {
    let nodes = graph.node_ids().filter_map(move |id| Some((id, graph.get(id)?)));
    nodes
        .filter(|(_, node)| !matches!(node.kind, NodeKind::Capture(_)))
        .flat_map(|(id, node)| {
            let values = node.outputs().iter().enumerate();
            values
                .filter(|(_, value)| !value.omitted && !value.name.is_empty())
                .map(move |(output, value)| (ValueId::new(id, output), &value.name))
        })
}

/// The nodes of a graph that have a name.
fn named_nodes(graph: &Graph) -> impl Iterator<Item = (NodeId, &Name)> {
    graph.node_ids().filter_map(move |id| {
        let name = graph.get(id)?.name.as_ref()?;
        Some((id, name)).filter(|(_, name)| !name.is_empty())
    })
}
