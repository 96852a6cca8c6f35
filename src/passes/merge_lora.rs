//! The pass `merge-lora`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::growth::option;
use super::{About, Change, Context, Needs, Pass, PassError, PassReport, Safety};
use crate::analysis;
use crate::ir::{EditError, Graph, Model, NodeId, Slot, Tensor, ValueId};
use crate::transfer::lora::{Adapter, adapters};

const NAME: &str = "merge-lora";

/// Adds a low-rank adapter (LoRA) to the weights that it was trained for.
///
/// The adapter is a safetensors or npz file with pairs of matrices, named as PEFT (`lora_A`, `lora_B`) or kohya (`lora_down`,
/// `lora_up`) name them; each weight becomes `W + scale · alpha / r · B · A`. A module `a.b` stands for the weight `a.b.weight`, or for the
/// weight of the Gemm, MatMul, Conv or Gather whose node has the path `/a/b/`; `rename` rewrites module names first. Every adapter has to
/// find its weight, unless `partial` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MergeLora {
    /// The file with the adapter.
    pub adapter: PathBuf,
    /// Alpha of every module whose file says none; the file's own comes first.
    pub alpha: Option<f64>,
    /// What the adapter counts; a negative number takes it out of weights that it was merged into.
    pub scale: f64,
    /// Rewrites of module names: pairs of a regular expression and what stands for its match, with `$1` for groups.
    pub rename: Vec<(String, String)>,
    /// Leave adapters out that find no weight.
    pub partial: bool,
}

impl Default for MergeLora {
    fn default() -> Self {
        Self {
            adapter: PathBuf::new(),
            alpha: None,
            scale: 1.0,
            rename: Vec::new(),
            partial: false,
        }
    }
}

/// How a weight lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `[O, I, kernel...]`.
    OutputsFirst,
    /// `[I, O]`.
    InputsFirst,
    /// `[rows, features]`: read by Gather.
    Rows,
}

/// A weight that an adapter may be for.
#[derive(Clone, Copy, Debug)]
struct Weight {
    id: NodeId,
    form: Form,
}

impl Pass for MergeLora {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
            .replacing()
            .needing(Needs::SOURCE)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        if self.adapter.as_os_str().is_empty() {
            return Err(option(NAME, "adapter: a file is needed".to_owned()));
        }
        for (name, value) in [("scale", Some(self.scale)), ("alpha", self.alpha)] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(option(NAME, format!("{name}: {value} is no factor")));
            }
        }
        let rules = self.rules()?;
        let resources = context.resources(NAME, "there is nothing to read the adapter with")?;
        let in_file =
            |error: &dyn std::fmt::Display| resource(format!("{}: {error}", self.adapter.display()));
        let tensors = resources.tensors(&self.adapter).map_err(resource)?;
        let adapters = adapters(&tensors).map_err(|error| in_file(&error))?;
        analysis::infer(model);
        let weights = weights(&model.graph);
        let mut report = PassReport::default();
        let mut sums: BTreeMap<NodeId, Vec<f64>> = BTreeMap::new();
        let mut details = Vec::new();
        for (module, adapter) in &adapters {
            let named = rules.iter().fold(module.clone(), |name, (pattern, text)| {
                pattern.replace_all(&name, text.as_str()).into_owned()
            });
            let weight = match find(&model.graph, &weights, &named, adapter.embedding) {
                Ok(Some(weight)) => weight,
                Ok(None) if self.partial => {
                    report.notes.push(format!("{named}: there is no such weight"));
                    continue;
                }
                Ok(None) => {
                    return Err(in_file(&format!(
                        "{named}: there is no such weight; `rename` rewrites names, `partial` leaves it out"
                    )));
                }
                Err(names) => {
                    return Err(in_file(&format!(
                        "{named} stands for several weights: {}",
                        names.join(", ")
                    )));
                }
            };
            let Some(alpha) = adapter.alpha.or(self.alpha) else {
                return Err(option(
                    NAME,
                    format!(
                        "alpha: the file has none for {module}, and without it the size of the adapter is not known"
                    ),
                ));
            };
            let factor = self.scale * alpha / adapter.rank() as f64;
            let delta =
                delta(&model.graph, module, adapter, weight, factor).map_err(|message| in_file(&message))?;
            let name = weight_name(&model.graph, weight.id);
            details.push(format!(
                "{module} -> {name}, rank {}, times {factor}",
                adapter.rank()
            ));
            match sums.get_mut(&weight.id) {
                Some(sum) => sum.iter_mut().zip(delta).for_each(|(sum, delta)| *sum += delta),
                None => {
                    sums.insert(weight.id, delta);
                }
            }
        }
        let mut editor = model.graph.edit(NAME);
        for (id, sum) in sums {
            let Some(tensor) = editor.graph().constant(ValueId::new(id, 0)).cloned() else {
                continue;
            };
            let failed = |error: crate::ir::TensorError| resource(error.to_string());
            let mut values = tensor.to_f64().map_err(failed)?;
            values
                .iter_mut()
                .zip(sum)
                .for_each(|(value, delta)| *value += delta);
            let merged = Tensor::from_f64(tensor.dtype(), tensor.dims(), &values).map_err(failed)?;
            editor
                .set_constant(id, merged)
                .map_err(|source: EditError| PassError::Edit { pass: NAME, source })?;
            report.changed = true;
        }
        drop(editor);
        report.changes.push(Change {
            rule: "adapter merged".to_owned(),
            count: details.len() as u64,
            details,
        });
        Ok(report)
    }
}

impl MergeLora {
    fn rules(&self) -> Result<Vec<(Regex, String)>, PassError> {
        self.rename
            .iter()
            .map(|(pattern, text)| {
                let pattern =
                    Regex::new(pattern).map_err(|error| option(NAME, format!("rename: {error}")))?;
                Ok((pattern, text.clone()))
            })
            .collect()
    }
}

fn weight_name(graph: &Graph, id: NodeId) -> String {
    graph
        .value(ValueId::new(id, 0))
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

/// Weights of layers by what modules may call them: the weight's own name, and the paths of the nodes that read it.
fn weights(graph: &Graph) -> BTreeMap<String, Vec<Weight>> {
    let mut named: BTreeMap<String, Vec<Weight>> = BTreeMap::new();
    for id in graph.node_ids() {
        let value = ValueId::new(id, 0);
        if graph
            .constant(value)
            .is_none_or(|tensor| !tensor.dtype().is_float())
        {
            continue;
        }
        for used in graph.uses(value) {
            let (Some(operator), Slot::Input(slot)) = (graph.operator(used.node), used.slot) else {
                continue;
            };
            let form = match (operator.op_type.as_str(), slot) {
                ("Conv", 1) => Form::OutputsFirst,
                ("Gemm", 1) if operator.int("transB").unwrap_or(0) != 0 => Form::OutputsFirst,
                ("Gemm" | "MatMul", 1) => Form::InputsFirst,
                ("Gather", 0) => Form::Rows,
                _ => continue,
            };
            let weight = Weight { id, form };
            let mut names = vec![weight_name(graph, id)];
            names.extend(path(&graph.label(used.node)).map(|path| format!("{path}.weight")));
            for name in names {
                let known = named.entry(name).or_default();
                if !known.iter().any(|other| other.id == id) {
                    known.push(weight);
                }
            }
        }
    }
    named
}

/// The module that a node's name stands for: `/a/b/MatMul` is of `a.b`. A part that repeats the one before it with a number, as in
/// `/layer/layer.0/`, stands for both.
fn path(label: &str) -> Option<String> {
    let (module, _) = label.strip_prefix('/')?.rsplit_once('/')?;
    let mut parts: Vec<&str> = Vec::new();
    for part in module.split('/') {
        if parts
            .last()
            .is_some_and(|last| part.strip_prefix(last).is_some_and(|rest| rest.starts_with('.')))
        {
            parts.pop();
        }
        parts.push(part);
    }
    Some(parts.join("."))
}

/// The weight of a module: by its whole name, or by the only name that ends with it or that it ends with. An error lists several.
fn find(
    graph: &Graph,
    weights: &BTreeMap<String, Vec<Weight>>,
    module: &str,
    embedding: bool,
) -> Result<Option<Weight>, Vec<String>> {
    let wanted = format!("{module}.weight");
    let fits = |weight: &&Weight| (weight.form == Form::Rows) == embedding;
    let pick = |names: &mut dyn Iterator<Item = &Vec<Weight>>| -> Vec<Weight> {
        let mut found: Vec<Weight> = names.flatten().filter(fits).copied().collect();
        found.sort_by_key(|weight| weight.id);
        found.dedup_by_key(|weight| weight.id);
        found
    };
    let exact = pick(&mut weights.get(&wanted).into_iter());
    let found = match exact.is_empty() {
        false => exact,
        true => {
            let tail =
                |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
            pick(
                &mut weights
                    .iter()
                    .filter(|(name, _)| tail(name, &wanted) || tail(&wanted, name))
                    .map(|(_, found)| found),
            )
        }
    };
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => Err(several
            .iter()
            .map(|weight| weight_name(graph, weight.id))
            .collect()),
    }
}

/// What is added to a weight, in its own order.
fn delta(
    graph: &Graph,
    module: &str,
    adapter: &Adapter,
    weight: Weight,
    factor: f64,
) -> Result<Vec<f64>, String> {
    let product = adapter.product(module).map_err(|error| error.to_string())? * factor;
    let dims: Vec<u64> = graph
        .constant(ValueId::new(weight.id, 0))
        .map(|tensor| tensor.dims().to_vec())
        .unwrap_or_default();
    let outputs = adapter.outer.dims().first().copied().unwrap_or(0);
    let mut natural: Vec<u64> = vec![outputs];
    natural.extend(adapter.inner.dims().iter().skip(1));
    // A linear adapter of a convolution with a kernel of ones.
    if weight.form == Form::OutputsFirst && natural.len() == 2 && dims.iter().skip(2).all(|size| *size == 1) {
        natural.resize(dims.len().max(2), 1);
    }
    let turned = weight.form != Form::OutputsFirst;
    let expected: Vec<u64> = match turned {
        true => natural.iter().rev().copied().collect(),
        false => natural.clone(),
    };
    if dims != expected || turned && natural.len() != 2 {
        return Err(format!(
            "{module}: the adapter is for {expected:?}, and {} is {dims:?}",
            weight_name(graph, weight.id)
        ));
    }
    Ok(match turned {
        true => product.t().iter().copied().collect(),
        false => product.iter().copied().collect(),
    })
}
