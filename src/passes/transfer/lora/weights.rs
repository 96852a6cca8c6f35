//! The weights that modules may stand for.

use crate::ir::{Graph, NodeId, Tensor, ValueId};
use crate::transfer::lora::without_kohya;
use crate::transfer::modules;
use crate::transfer::units::weight_behind;

/// How a weight lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `[O, I, kernel...]`.
    OutputsFirst,
    /// `[I, O]`.
    InputsFirst,
    /// `[rows, features]`: read by Gather.
    Rows,
}

/// A weight and one node that reads it.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) constant: ValueId,
    pub(super) node: NodeId,
    pub(super) slot: usize,
    pub(super) tensor: Tensor,
    pub(super) form: Form,
    /// What the node multiplies it by.
    pub(super) factor: f64,
    modules: Vec<String>,
    own_name: String,
}

impl Weight {
    pub(super) fn name(&self, graph: &Graph) -> String {
        match self.own_name.is_empty() {
            true => graph.label(self.node),
            false => self.own_name.clone(),
        }
    }

    /// What the weight's own name says about its module.
    fn module_of_name(&self) -> Option<&str> {
        self.own_name.strip_suffix(".weight")
    }

    fn all_modules(&self) -> impl Iterator<Item = &str> {
        self.modules
            .iter()
            .map(String::as_str)
            .chain(self.module_of_name())
    }
}

/// A constant of codes, which stands for a weight that was quantized.
struct Coded {
    name: String,
    /// Modules that it may belong to, by its name and by the nodes that read it.
    modules: Vec<String>,
}

/// What tools append to the name of a weight that they quantize.
const OF_CODES: [&str; 3] = ["_quantized", "_Q8", "_Q4"];

/// Every constant of codes that may be a weight.
fn coded(graph: &Graph) -> Vec<Coded> {
    let mut found = Vec::new();
    for node in graph.topological_order() {
        for value in graph.inputs_of(node).into_iter().flatten() {
            let is_codes = |tensor: &Tensor| {
                let dtype = tensor.dtype();
                tensor.rank() >= 2 && dtype.bits() <= 8 && (dtype.is_integer() || dtype.is_float())
            };
            if !graph.constant(value).is_some_and(is_codes) {
                continue;
            }
            let name = graph
                .value(value)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            let stem = OF_CODES.iter().find_map(|end| name.strip_suffix(*end));
            let stem = stem.unwrap_or(&name);
            let mut modules = vec![stem.strip_suffix(".weight").unwrap_or(stem).to_owned()];
            let readers = graph.uses(ValueId::new(node, 0)).into_iter().map(|at| at.node);
            let is_pair = graph
                .operator(node)
                .is_some_and(|operator| operator.is("DequantizeLinear"));
            let behind = readers.filter(|_| is_pair);
            for id in std::iter::once(node).chain(behind) {
                modules.extend(modules::of_node(graph, id));
            }
            found.push(Coded { name, modules });
        }
    }
    found
}

/// All of them.
pub(super) struct Weights {
    pub(super) all: Vec<Weight>,
    coded: Vec<Coded>,
}

impl Weights {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut all = Vec::new();
        for node in graph.topological_order() {
            let Some(operator) = graph
                .operator(node)
                .filter(|operator| operator.domain().is_empty())
            else {
                continue;
            };
            let number = |name: &str| operator.int(name).unwrap_or(0);
            let (slot, form, factor) = match &*operator.op_type {
                "Conv" => (1, Form::OutputsFirst, 1.0),
                "Gemm" => {
                    let form = match number("transB") != 0 {
                        true => Form::OutputsFirst,
                        false => Form::InputsFirst,
                    };
                    (1, form, f64::from(operator.float("alpha").unwrap_or(1.0)))
                }
                "MatMul" => (1, Form::InputsFirst, 1.0),
                "Gather" if number("axis") == 0 => (0, Form::Rows, 1.0),
                _ => continue,
            };
            let Some(found) = weight_behind(graph, node, slot, form != Form::Rows) else {
                continue;
            };
            if !found.tensor.dtype().is_float() || found.tensor.rank() < 2 {
                continue;
            }
            let form = match (form, found.transposed) {
                (Form::OutputsFirst, true) => Form::InputsFirst,
                (Form::InputsFirst, true) => Form::OutputsFirst,
                (form, _) => form,
            };
            all.push(Weight {
                constant: found.constant,
                node: found.node,
                slot: found.slot,
                tensor: found.tensor.clone(),
                form,
                factor,
                modules: modules::of_node(graph, node),
                own_name: graph
                    .value(found.constant)
                    .map(|value| value.name.to_string())
                    .unwrap_or_default(),
            });
        }
        let coded = coded(graph);
        Self { all, coded }
    }

    /// The codes that a module's weight is stored as, by name.
    pub(super) fn codes(&self, module: &str) -> Option<&str> {
        let short = without_kohya(module).unwrap_or(module);
        let tail = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
        let fits = |own: &String| {
            own == module || own.replace(['.', '/'], "_") == short || tail(own, module) || tail(module, own)
        };
        let found = self.coded.iter().find(|codes| codes.modules.iter().any(fits))?;
        Some(&found.name)
    }

    /// The readers of the one weight that a module stands for, none if there is no such weight. An error lists several weights.
    ///
    /// The path of a node counts before the name of a weight, which several nodes may share, and a whole name before an end.
    pub(super) fn find(&self, module: &str, embedding: bool) -> Result<Vec<usize>, Vec<String>> {
        let short = without_kohya(module).unwrap_or(module);
        let flat = |name: &str| name.replace(['.', '/'], "_");
        let tail = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
        let ends = |name: &str| {
            let words: Vec<&str> = name.split('.').collect();
            (1..words.len().saturating_sub(1))
                .filter_map(|from| words.get(from..))
                .any(|words| words.join("_") == short)
        };
        let levels: [&dyn Fn(&Weight) -> bool; 5] = [
            &|weight| weight.modules.iter().any(|own| own == module),
            &|weight| weight.module_of_name() == Some(module),
            &|weight| weight.all_modules().any(|own| flat(own) == short),
            &|weight| {
                weight
                    .all_modules()
                    .any(|own| tail(own, module) || tail(module, own))
            },
            &|weight| weight.all_modules().any(ends),
        ];
        for level in levels {
            let fits = |weight: &Weight| (weight.form == Form::Rows) == embedding && level(weight);
            let found: Vec<usize> = (0..self.all.len())
                .filter(|at| self.all.get(*at).is_some_and(fits))
                .collect();
            let mut constants: Vec<ValueId> = found
                .iter()
                .filter_map(|at| Some(self.all.get(*at)?.constant))
                .collect();
            constants.sort_unstable();
            constants.dedup();
            match constants.len() {
                0 => {}
                1 => return Ok(found),
                _ => {
                    let mut names: Vec<String> = found
                        .iter()
                        .filter_map(|at| Some(self.all.get(*at)?.own_name.clone()))
                        .collect();
                    names.sort();
                    names.dedup();
                    return Err(names);
                }
            }
        }
        Ok(Vec::new())
    }

    /// The module whose name is most like one that is not there.
    pub(super) fn nearest(&self, module: &str) -> Option<&str> {
        let short = without_kohya(module).unwrap_or(module).replace(['.', '/'], "_");
        let common = |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| {
            a.zip(b).take_while(|(a, b)| a == b).count()
        };
        let score = |name: &str| {
            let name = name.replace('.', "_");
            common(&mut name.bytes(), &mut short.bytes())
                + common(&mut name.bytes().rev(), &mut short.bytes().rev())
        };
        let best = self
            .all
            .iter()
            .flat_map(Weight::all_modules)
            .max_by_key(|name| score(name))?;
        (score(best) * 2 > short.len()).then_some(best)
    }
}
