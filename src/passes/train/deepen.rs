//! The pass `deepen`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::growth::{option, patterns, same};
use crate::analysis;
use crate::ir::{
    DType, EditError, Editor, Graph, Model, Name, NodeId, Operator, Tensor, TensorError, Value, ValueId,
};
use crate::passes::{About, Change, Context, Pass, PassError, PassReport, Safety, Selector, prepare};

const NAME: &str = "deepen";

/// Largest identity matrix, in rows.
const MOST: i64 = 1 << 12;

/// Adds layers that pass on what they get, as a start for further training.
///
/// Behind an activation that does nothing the second time (Relu, Clip) comes a new layer with weights that are an identity, and the
/// same activation again: a convolution with as many channels where the value is `[N, C, H, W]`, a matrix product where the
/// features are the last axis of `[N, D]` or `[T, N, D]`. Behind LSTM, GRU and RNN comes a matrix product without an
/// activation. Outputs stay as they are, bit for bit where every number is finite; the result is compared with the model before
/// on synthetic inputs all the same (Net2Net).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Deepen {
    /// Where: patterns over names of nodes and of the values they give; all places by default.
    pub layers: Vec<String>,
    /// New layers at each place.
    pub count: u32,
    /// Height and width of the kernel of new convolutions; odd.
    pub kernel: u32,
}

impl Default for Deepen {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            count: 1,
            kernel: 3,
        }
    }
}

/// A place for a new layer.
struct Place {
    value: ValueId,
    /// The activation to repeat.
    activation: Option<NodeId>,
    shape: Form,
    dtype: DType,
}

/// The form of the layer.
#[derive(Clone, Copy)]
enum Form {
    /// Channels of `[N, C, spatial...]`, and how many spatial axes there are.
    Convolution(i64, usize),
    /// Features of the last axis.
    Product(i64),
}

impl Pass for Deepen {
    fn about(&self) -> About {
        About::new(NAME, Safety::Rounding)
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("layers", &self.layers)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if self.kernel.is_multiple_of(2) || self.kernel > 31 {
            return Err(option(
                NAME,
                format!("kernel: {} is not odd and below 32", self.kernel),
            ));
        }
        if self.count == 0 || self.count > 16 {
            return Err(option(NAME, format!("count: {} is not in 1 to 16", self.count)));
        }
        let layers = patterns(NAME, "layers", &self.layers)?;
        let mut report = prepare::fold(model, context)?;
        model.name_values();
        let before = model.clone();
        let mut details = Vec::new();
        let ids: Vec<NodeId> = model.graph.topological_order();
        for id in ids {
            for output in 0..model.graph.get(id).map_or(0, |node| node.outputs().len()) {
                let value = ValueId::new(id, output);
                let name = value_name(&model.graph, value);
                let label = model.graph.label(id);
                if !self.layers.is_empty() && !layers.is_match(&name) && !layers.is_match(&label)
                    || context.keeps(&name)
                    || context.keeps(&label)
                {
                    continue;
                }
                let place = match place(&model.graph, value) {
                    None => continue,
                    Some(Ok(place)) => place,
                    Some(Err(reason)) => {
                        report.notes.push(format!("{name} stays: {reason}"));
                        continue;
                    }
                };
                let mut at = place.value;
                for number in 1..=self.count {
                    let prefix = format!("{name}_deeper_{number}");
                    at = self.insert(&mut model.graph, &place, at, &prefix)?;
                }
                details.push(format!("{name}: {}", described(&place, self)));
            }
        }
        if details.is_empty() {
            report.notes.push("there is no place for a new layer".to_owned());
            return Ok(report);
        }
        analysis::infer(model);
        same(NAME, &before, model, context, &mut report)?;
        report.changed = true;
        report.changes.push(Change {
            rule: "layer added".to_owned(),
            count: details.len() as u64 * u64::from(self.count),
            details,
        });
        Ok(report)
    }
}

fn described(place: &Place, pass: &Deepen) -> String {
    match place.shape {
        Form::Convolution(channels, _) => format!("{} x convolution of {channels} channels", pass.count),
        Form::Product(features) => format!("{} x product of {features} features", pass.count),
    }
}

fn value_name(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

/// Whether a layer fits behind a value; `None` where nobody would expect one.
fn place(graph: &Graph, value: ValueId) -> Option<Result<Place, &'static str>> {
    let operator = graph.operator(value.node)?;
    if !operator.domain().is_empty() || graph.use_count(value) == 0 {
        return None;
    }
    let recurrent = matches!(operator.op_type.as_str(), "LSTM" | "GRU" | "RNN");
    let repeats = match operator.op_type.as_str() {
        "Relu" => true,
        // Bounds that are computed are the same the second time, but nobody clips an activation that way.
        "Clip" => [1, 2].iter().all(|slot| {
            graph
                .input(value.node, *slot)
                .is_none_or(|bound| graph.constant(bound).is_some())
        }),
        _ => false,
    };
    if !(repeats || recurrent && value.output == 0) {
        return None;
    }
    if graph.is_graph_output(value) {
        return Some(Err("it is an output of the model"));
    }
    let ty = graph.ty(value);
    let (Some(dtype), Some(shape)) = (ty.dtype(), ty.shape()) else {
        return Some(Err("its shape is not known"));
    };
    if !matches!(dtype, DType::F32 | DType::F64 | DType::F16) {
        return Some(Err("it is no float tensor that layers take"));
    }
    let (axis, form): (usize, fn(i64, usize) -> Form) = match shape.len() {
        4.. if !recurrent => (1, |size, rank| Form::Convolution(size, rank - 2)),
        2.. => (shape.len() - 1, |size, _| Form::Product(size)),
        _ => return Some(Err("it has too few axes")),
    };
    let Some(size) = shape.get(axis).and_then(|dim| dim.fixed()) else {
        return Some(Err("its number of features is not known"));
    };
    if !(1..=MOST).contains(&size) {
        return Some(Err("an identity of its size would be too large"));
    }
    Some(Ok(Place {
        value,
        activation: repeats.then_some(value.node),
        shape: form(size, shape.len()),
        dtype,
    }))
}

impl Deepen {
    /// A layer behind `at`; everything that read `at` reads it.
    fn insert(
        &self,
        graph: &mut Graph,
        place: &Place,
        at: ValueId,
        prefix: &str,
    ) -> Result<ValueId, PassError> {
        let edit = |source: EditError| PassError::Edit { pass: NAME, source };
        let tensor = identity(place, i64::from(self.kernel)).map_err(|source| PassError::Model {
            pass: NAME,
            node: prefix.to_owned(),
            message: source.to_string(),
        })?;
        let ty = graph.ty(at).clone();
        let readers = graph.uses(at);
        let activation = place
            .activation
            .and_then(|id| Some((graph.operator(id)?.clone(), graph.inputs_of(id))));
        let weight_name = free(graph, &format!("{prefix}.weight"));
        let (layer_name, result_name) = (free(graph, prefix), free(graph, &format!("{prefix}_out")));
        let mut editor: Editor<'_> = graph.edit(NAME);
        let weights = editor.add_constant(weight_name, tensor);
        let operator = match place.shape {
            Form::Convolution(_, spatial) => {
                let kernel = i64::from(self.kernel);
                Operator::new("Conv")
                    .with("kernel_shape", vec![kernel; spatial])
                    .with("pads", vec![kernel / 2; 2 * spatial])
            }
            Form::Product(_) => Operator::new("MatMul"),
        };
        let inputs = [Some(at), Some(weights)];
        let layer = editor
            .add_operator(
                at.node,
                operator,
                &inputs,
                vec![Value::typed(layer_name, ty.clone())],
            )
            .map_err(edit)?;
        let mut result = ValueId::new(layer, 0);
        if let Some((activation, mut inputs)) = activation {
            if let Some(first) = inputs.first_mut() {
                *first = Some(result);
            }
            let id = editor
                .add_operator(at.node, activation, &inputs, vec![Value::typed(result_name, ty)])
                .map_err(edit)?;
            result = ValueId::new(id, 0);
        }
        editor
            .replace_where(at, result, |used| readers.contains(&used))
            .map_err(edit)?;
        Ok(result)
    }
}

/// The weights of a layer that passes on what it gets.
fn identity(place: &Place, kernel: i64) -> Result<Tensor, TensorError> {
    let (size, dims, inner) = match place.shape {
        Form::Convolution(size, spatial) => {
            let area = kernel.pow(spatial as u32);
            let dims = [size, size]
                .into_iter()
                .chain(std::iter::repeat_n(kernel, spatial))
                .collect::<Vec<_>>();
            (size, dims, area)
        }
        Form::Product(size) => (size, vec![size, size], 1),
    };
    let mut values = vec![0.0; (size * size * inner) as usize];
    for at in 0..size {
        // The middle of the kernel: all of its sides are odd.
        if let Some(value) = values.get_mut(((at * size + at) * inner + inner / 2) as usize) {
            *value = 1.0;
        }
    }
    let dims: Vec<u64> = dims.into_iter().map(|size| size as u64).collect();
    Tensor::from_f64(place.dtype, &dims, &values)
}

/// `wanted`, or `wanted` with the lowest number that no value of the graph has.
fn free(graph: &Graph, wanted: &str) -> Name {
    let mut name = wanted.to_owned();
    let mut number = 0u64;
    while graph.find_value(&name).is_some() {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    Name::from(name)
}
