//! The pass `clean-names`.

mod numbers;
mod words;

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::numbers::Numbered;
use self::words::{identifier, is_identifier};
use crate::ir::edit::NewNames;
use crate::ir::{ConstantOrigin, Graph, GraphPath, Model, Name, Node, NodeId, NodeKind, ValueId};
use crate::passes::scope::training_names;
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};

const NAME: &str = "clean-names";

/// Gives nodes, values and initializers short names that are valid identifiers.
///
/// A node is named by its operator and a number (`Conv_0`), a value by its node (`Conv_0_output`), a constant by the first node that reads it
/// and what it is there (`Conv_0_weight`, `Conv_0_bias`). Names consist of letters, digits and `_`, are distinct, and follow from the graph
/// alone: the same graph gets the same names, and a second run changes nothing. Bodies are named with the graph around them, functions each
/// by itself. Inputs and outputs of the graph and of functions keep their names, and so does what `keep` matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CleanNames {
    /// What gets other names; everything by default.
    pub parts: Vec<NamePart>,
}

/// What names are cleaned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NamePart {
    /// Nodes.
    Nodes,
    /// Results of nodes, and inputs of bodies.
    Values,
    /// Initializers and results of Constant nodes.
    Initializers,
}

impl Pass for CleanNames {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let plan = self.plan(model, context);
        report.add("node name", plan.nodes.len() as u64);
        report.add("value name", plan.results);
        report.add("initializer name", plan.constants);
        if report.changed {
            model.rename_values(&plan.values);
            for (path, id, name) in plan.nodes {
                if let Some(graph) = model.graph_at_mut(&path) {
                    graph
                        .edit(NAME)
                        .set_node_name(id, Some(name))
                        .map_err(|source| PassError::Edit { pass: NAME, source })?;
                }
            }
        }
        leave_interface(&model.graph, &mut report);
        Ok(report)
    }
}

impl CleanNames {
    fn plan(&self, model: &Model, context: &Context<'_>) -> CleanPlan {
        let mut plan = CleanPlan::default();
        let called = model.function_index();
        let functions = (0..model.functions.len()).map(GraphPath::function);
        for root in std::iter::once(GraphPath::MAIN).chain(functions) {
            let pinned = match root.function {
                None => training_names(model),
                Some(_) => HashSet::new(),
            };
            let mut naming = Naming {
                options: self,
                model,
                context,
                pinned,
                numbered: Numbered::of(model, &called, &root),
                values: HashSet::new(),
                nodes: HashSet::new(),
            };
            naming.reserve();
            naming.plan(&mut plan);
        }
        plan
    }
}

/// Says which names stay that are no identifiers.
fn leave_interface(graph: &Graph, report: &mut PassReport) {
    let inputs = graph.inputs().iter().map(|id| graph.label(*id));
    let outputs = graph.outputs().iter().map(|output| output.name.to_string());
    let mut said = HashSet::new();
    for (kind, name) in inputs
        .map(|name| ("inputs", name))
        .chain(outputs.map(|name| ("outputs", name)))
    {
        if !is_identifier(&name) && said.insert(name.clone()) {
            let cure = format!("rename --{kind} gives it another name");
            report.leave_curable(name, "callers know it by this name", cure);
        }
    }
}

/// What gets which name: only what has another one now.
#[derive(Default)]
struct CleanPlan {
    values: NewNames,
    results: u64,
    constants: u64,
    nodes: Vec<(GraphPath, NodeId, Name)>,
}

/// The naming of one graph with all its bodies: names are distinct in it.
struct Naming<'a> {
    options: &'a CleanNames,
    model: &'a Model,
    context: &'a Context<'a>,
    /// What training information goes by.
    pinned: HashSet<String>,
    numbered: Numbered<'a>,
    /// Names of values that are taken.
    values: HashSet<Name>,
    /// Names of nodes that are taken.
    nodes: HashSet<Name>,
}

impl Naming<'_> {
    fn renames(&self, part: NamePart) -> bool {
        self.options.parts.is_empty() || self.options.parts.contains(&part)
    }

    /// What a value is; `None` for one that keeps its name, and one that another graph names.
    fn part_of(&self, path: &GraphPath, graph: &Graph, id: ValueId) -> Option<NamePart> {
        let node = graph.get(id.node)?;
        let value = graph.value(id).filter(|value| !value.omitted)?;
        let outermost = path.bodies.is_empty();
        let part = match &node.kind {
            NodeKind::Input(_) if !outermost => NamePart::Values,
            NodeKind::Operator(_) => NamePart::Values,
            NodeKind::Constant(_) => NamePart::Initializers,
            _ => return None,
        };
        let shown = outermost && graph.is_graph_output(id);
        let kept = self.context.keeps(&value.name) || self.pinned.contains(value.name.as_str());
        (self.renames(part) && !shown && !kept).then_some(part)
    }

    /// Whether a node gets another name. What stands among the initializers has none.
    fn renames_node(&self, node: &Node) -> bool {
        let named = match &node.kind {
            NodeKind::Operator(_) => true,
            NodeKind::Constant(constant) => matches!(constant.origin, ConstantOrigin::Node { .. }),
            _ => false,
        };
        let kept = node.name.as_deref().is_some_and(|name| self.context.keeps(name));
        named && self.renames(NamePart::Nodes) && !kept
    }

    /// Takes the names that stay.
    fn reserve(&mut self) {
        let (mut values, mut nodes) = (HashSet::new(), HashSet::new());
        for path in self.numbered.paths() {
            let Some(graph) = self.model.graph_at(path) else {
                continue;
            };
            for (id, node) in graph.node_ids().filter_map(|id| Some((id, graph.get(id)?))) {
                // A captured value has the name that the graph around gives it.
                if matches!(node.kind, NodeKind::Capture(_)) {
                    continue;
                }
                if !self.renames_node(node) {
                    nodes.extend(node.name.clone());
                }
                for (output, value) in node.outputs().iter().enumerate() {
                    if self.part_of(path, graph, ValueId::new(id, output)).is_none() {
                        values.insert(value.name.clone());
                    }
                }
            }
        }
        (self.values, self.nodes) = (values, nodes);
    }

    /// Names everything, graph by graph, each node after what it reads.
    fn plan(&mut self, plan: &mut CleanPlan) {
        let paths: Vec<GraphPath> = self.numbered.paths().to_vec();
        for path in paths {
            let Some(graph) = self.model.graph_at(&path) else {
                continue;
            };
            let mut own: HashMap<ValueId, Name> = HashMap::new();
            let mut unread = 0usize;
            for id in graph.topological_order() {
                let Some(node) = graph.get(id) else { continue };
                let mut named = None;
                for (output, value) in node.outputs().iter().enumerate() {
                    let of = ValueId::new(id, output);
                    let Some(part) = self.part_of(&path, graph, of) else {
                        continue;
                    };
                    let wanted = self.wanted(&path, graph, of, &mut unread);
                    let name = fresh(wanted, &mut self.values);
                    named = Some(name.clone());
                    if name == value.name {
                        continue;
                    }
                    own.insert(of, name);
                    match part {
                        NamePart::Initializers => plan.constants += 1,
                        NamePart::Nodes | NamePart::Values => plan.results += 1,
                    }
                }
                if !self.renames_node(node) {
                    continue;
                }
                // A Constant node goes by the name of what it holds.
                let held = named.or_else(|| node.outputs().first().map(|value| value.name.clone()));
                let wanted = match self.numbered.stem(&path, id) {
                    Some(stem) => stem.to_owned(),
                    None => identifier(held.as_deref().unwrap_or("Constant")),
                };
                let name = fresh(wanted, &mut self.nodes);
                if node.name.as_ref() != Some(&name) {
                    plan.nodes.push((path.clone(), id, name));
                }
            }
            plan.values.insert(path, own);
        }
    }

    /// What a value is to be called, unless that is taken.
    fn wanted(&self, path: &GraphPath, graph: &Graph, id: ValueId, unread: &mut usize) -> String {
        let kind = graph.get(id.node).map(|node| &node.kind);
        if matches!(kind, Some(NodeKind::Constant(_))) {
            return self.numbered.place_of(path, id).unwrap_or_else(|| {
                *unread += 1;
                format!("constant_{}", *unread - 1)
            });
        }
        if let Some(stem) = self.numbered.stem(path, id.node) {
            let several = graph.get(id.node).is_some_and(|node| node.outputs().len() > 1);
            return if several {
                format!("{stem}_output_{}", id.output)
            } else {
                format!("{stem}_output")
            };
        }
        let index = graph.inputs().iter().position(|input| *input == id.node);
        let body = self.numbered.body(path).unwrap_or_else(|| "body".to_owned());
        format!("{body}_input_{}", index.unwrap_or_default())
    }
}

/// `wanted`, or the first of it with a number behind that is not taken.
fn fresh(wanted: String, taken: &mut HashSet<Name>) -> Name {
    let mut name = Name::from(wanted.as_str());
    let mut number = 1u64;
    while !taken.insert(name.clone()) {
        number += 1;
        name = Name::from(format!("{wanted}_{number}"));
    }
    name
}
