//! The pass `eliminate-dead-code`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sweep::is_removable;
use crate::ir::{FunctionIndex, Graph, Model, NodeId, Operator, ValueId};
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};

const NAME: &str = "eliminate-dead-code";

/// Operators whose trailing or optional outputs may be left out without changing what the others compute. Not among them:
/// BatchNormalization, whose number of outputs says (before opset 14) that it is in training mode.
const OPTIONAL_OUTPUTS: &[&str] = &[
    "Dropout",
    "GRU",
    "LSTM",
    "LayerNormalization",
    "MaxPool",
    "RNN",
    "SoftmaxCrossEntropyLoss",
    "Unique",
];

/// Removes what no graph output depends on.
///
/// Unused operators, constants and initializers, in bodies and functions too; values that bodies capture and do not read;
/// optional outputs that nothing reads; functions that nothing calls. Graph inputs and graph outputs stay, used or not, and so
/// does what `keep`, quantization annotations or training information name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EliminateDeadCode {
    /// Keep functions that nothing calls.
    pub keep_functions: bool,
}

impl Pass for EliminateDeadCode {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        scope::for_each_root(model, NAME, context, |graph, scope| {
            eliminate(graph, scope, &mut report)
        })?;
        if !self.keep_functions {
            report.merge(Self::remove_functions(model, context));
        }
        Ok(report)
    }
}

/// Readers before what they read, so one sweep finds everything.
fn eliminate(graph: &mut Graph, scope: &Scope<'_>, report: &mut PassReport) -> Result<(), PassError> {
    for id in graph.topological_order().into_iter().rev() {
        let Some(node) = graph.get(id) else { continue };
        if !graph.is_used(id) {
            if is_removable(graph, scope, id) {
                let what = if node.operator().is_some() {
                    "unused operator"
                } else {
                    "unused constant"
                };
                graph.edit(NAME).remove(id).map_err(|error| scope.defect(error))?;
                report.add(what, 1);
            }
            continue;
        }
        let Some(operator) = node.operator() else { continue };
        let bodies: Vec<_> = operator.bodies().map(|(at, _)| at).collect();
        if scope.protected(graph, id) {
            continue;
        }
        for body in &bodies {
            if let Some(inner) = graph.body_mut(id, *body) {
                eliminate(inner, scope, report)?;
            }
        }
        if !bodies.is_empty() {
            let pruned = graph
                .edit(NAME)
                .prune_captures(id)
                .map_err(|error| scope.defect(error))?;
            report.add("unused capture", pruned as u64);
        }
        leave_out_outputs(graph, scope, id, report)?;
    }
    Ok(())
}

/// Leaves out optional outputs that nothing reads.
fn leave_out_outputs(
    graph: &mut Graph,
    scope: &Scope<'_>,
    id: NodeId,
    report: &mut PassReport,
) -> Result<(), PassError> {
    let Some(node) = graph.get(id) else { return Ok(()) };
    let Some(operator) = node.operator() else {
        return Ok(());
    };
    if node.outputs().len() < 2 {
        return Ok(());
    }
    let Some(schema) = scope
        .schema(operator)
        .filter(|schema| OPTIONAL_OUTPUTS.contains(&schema.op_type))
    else {
        return Ok(());
    };
    let unused = |output: usize| graph.use_count(ValueId::new(id, output)) == 0;
    let optional = |output: usize| schema.output(output).is_some_and(|parameter| parameter.optional);
    let omitted: Vec<bool> = node.outputs().iter().map(|value| value.omitted).collect();
    let total = omitted.len();
    let kept = (0..total)
        .rev()
        .find(|output| !(unused(*output) && optional(*output)))
        .map_or(0, |last| last + 1);
    let inner: Vec<usize> = (0..kept)
        .filter(|output| omitted.get(*output) == Some(&false) && unused(*output) && optional(*output))
        .collect();
    let trailing = omitted
        .iter()
        .skip(kept.max(1))
        .filter(|omitted| !**omitted)
        .count();
    let mut editor = graph.edit(NAME);
    for output in &inner {
        editor
            .omit_output(ValueId::new(id, *output))
            .map_err(|error| scope.defect(error))?;
    }
    if trailing > 0 {
        editor
            .truncate_outputs(id, kept.max(1))
            .map_err(|error| scope.defect(error))?;
    }
    report.add("unused optional output", (inner.len() + trailing) as u64);
    Ok(())
}

impl EliminateDeadCode {
    /// Removes functions that neither the main graph nor a function in use calls. All stay where there is training
    /// information: a training graph may call any of them.
    pub(super) fn remove_functions(model: &mut Model, context: &Context<'_>) -> PassReport {
        let mut report = PassReport::default();
        if model.functions.is_empty() || !model.header.training_info.is_empty() {
            return report;
        }
        let index = model.function_index();
        let mut used: BTreeSet<usize> = BTreeSet::new();
        for (at, function) in model.functions.iter().enumerate() {
            if function
                .header
                .name
                .as_deref()
                .is_some_and(|name| context.keeps(name))
            {
                used.insert(at);
            }
        }
        let mut pending: Vec<&Graph> = used
            .iter()
            .filter_map(|at| model.functions.get(*at))
            .map(|f| &f.graph)
            .collect();
        pending.push(&model.graph);
        while let Some(graph) = pending.pop() {
            let mut calls = Vec::new();
            collect_calls(graph, &index, &mut calls);
            for at in calls {
                if used.insert(at) {
                    pending.extend(model.functions.get(at).map(|function| &function.graph));
                }
            }
        }
        report.add("unused function", (model.functions.len() - used.len()) as u64);
        let mut at = 0;
        model.functions.retain(|_| {
            at += 1;
            used.contains(&(at - 1))
        });
        report
    }
}

fn collect_calls(graph: &Graph, index: &FunctionIndex<'_>, found: &mut Vec<usize>) {
    for id in graph.node_ids() {
        found.extend(index.place_called_by(graph, id));
        for (_, body) in graph.operator(id).into_iter().flat_map(Operator::bodies) {
            collect_calls(body, index, found);
        }
    }
}
