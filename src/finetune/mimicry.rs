//! Features at which a model is to be like its teacher: one more output of both, whose mean squared difference is the loss.
//!
//! The output holds the features of every cut side by side, each divided by the root mean square that it has in the teacher and weighted
//! by its size, so that the loss is the mean over the cuts of the squared difference relative to the teacher's own square.

use std::collections::BTreeSet;

use regex::RegexSet;

use super::train::{FinetuneError, Mimic};
use crate::analysis;
use crate::analysis::linear::{self, Family};
use crate::data::Dataset;
use crate::engine::stream::{Stream, in_order};
use crate::engine::{Engine, RunValue};
use crate::ir::{DType, Dim, Graph, Model, NodeId, Operator, Shape, Tensor, Value, ValueId, ValueType};
use crate::lower::Lowering;

/// The output that holds the features.
pub const FEATURES: &str = "secateur/features";

/// Samples that say how large the teacher's features are.
const MEASURED: usize = 32;

/// Operators that only move or average what they read.
const POOLING: [&str; 9] = [
    "AveragePool",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "Identity",
    "ReduceMean",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// A model and its teacher with [`FEATURES`] as their last output.
pub(super) struct Mimicry {
    pub(super) student: Model,
    pub(super) teacher: Model,
    /// The values that are compared.
    pub(super) cuts: Vec<String>,
}

impl Mimicry {
    /// Compares the values that `wanted` names, or those that the heads of the model read.
    pub(super) fn new(
        model: &Model,
        teacher: &Model,
        wanted: Option<&RegexSet>,
        data: &Dataset,
        engine: &dyn Engine,
    ) -> Result<Self, FinetuneError> {
        let (mut student, mut teacher) = (model.clone(), teacher.clone());
        for model in [&mut student, &mut teacher] {
            model.name_values();
            analysis::infer(model);
        }
        let cuts = chosen(&student.graph, &teacher.graph, wanted)?;
        let scales = scales(&teacher, &cuts, data, engine)?;
        for model in [&mut student, &mut teacher] {
            append(model, &cuts, &scales)?;
            analysis::infer(model);
        }
        Ok(Self {
            student,
            teacher,
            cuts,
        })
    }
}

/// How far the features of a model are from its teacher's: the mean over the values that `mimic` names of the squared difference,
/// relative to the teacher's own square.
pub fn distance(
    model: &Model,
    teacher: &Model,
    mimic: Mimic<'_>,
    data: &Dataset,
    (engine, jobs): (&dyn Engine, usize),
) -> Result<f64, FinetuneError> {
    let both = Mimicry::new(model, teacher, mimic.wanted, data, engine)?;
    let (names, lowering) = ([FEATURES.to_owned()], Lowering(engine));
    let student = Stream::compile(&both.student, &names, &lowering)?;
    let teacher = Stream::compile(&both.teacher, &names, &lowering)?;
    let work = |index: u64| -> Result<(f64, usize), FinetuneError> {
        let batch = data.batch(index)?;
        let run = |stream: &Stream<'_>| match stream.run(&batch)?.remove(FEATURES) {
            Some(RunValue::Tensor(tensor)) => Ok(tensor),
            _ => Err(refused("the engine answers no features".to_owned())),
        };
        let (own, other) = (run(&student)?, run(&teacher)?);
        let (own, other) = (own.view::<f32>()?, other.view::<f32>()?);
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        Ok((own.iter().zip(other.iter()).map(square).sum(), own.len()))
    };
    let (mut sum, mut count) = (0.0, 0usize);
    in_order(data.batches(), jobs, work, |(square, elements)| {
        (sum, count) = (sum + square, count + elements);
        Ok(())
    })?;
    Ok(sum / count.max(1) as f64)
}

fn refused(reason: String) -> FinetuneError {
    FinetuneError::Features { reason }
}

/// Whether both models compute a float value of this name and of one shape, with the samples along the first axis.
fn is_shared(student: &Graph, teacher: &Graph, name: &str) -> bool {
    let shape = |graph: &Graph| -> Option<Shape> {
        let value = graph.find_value(name)?;
        graph.operator(value.node)?;
        match graph.ty(value) {
            ValueType::Tensor(tensor) if tensor.dtype == Some(DType::F32) => tensor.shape.clone(),
            _ => None,
        }
    };
    let (Some(own), Some(other)) = (shape(student), shape(teacher)) else {
        return false;
    };
    let fits = |(a, b): (&Dim, &Dim)| match (a.fixed(), b.fixed()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    own.len() >= 2 && own.len() == other.len() && own.iter().zip(&other).skip(1).all(fits)
}

/// The cuts, in the order of the student's graph.
fn chosen(student: &Graph, teacher: &Graph, wanted: Option<&RegexSet>) -> Result<Vec<String>, FinetuneError> {
    let Some(wanted) = wanted else {
        return before_heads(student, teacher);
    };
    let mut cuts = Vec::new();
    let mut other: Option<String> = None;
    for id in student.topological_order() {
        let Some(node) = student.get(id).filter(|node| node.operator().is_some()) else {
            continue;
        };
        let own = node.name.as_deref().is_some_and(|name| wanted.is_match(name));
        for value in node.outputs() {
            match () {
                () if !own && !wanted.is_match(&value.name) => {}
                () if is_shared(student, teacher, &value.name) => cuts.push(value.name.to_string()),
                () => other = other.or_else(|| Some(value.name.to_string())),
            }
        }
    }
    match (cuts.is_empty(), other) {
        (false, _) => Ok(cuts),
        (true, Some(name)) => Err(refused(format!(
            "{name}: the teacher has no float value of this name and shape"
        ))),
        (true, None) => Err(refused("the patterns name no value".to_owned())),
    }
}

/// What the last layers with weights read, before it is averaged or laid out anew; where the teacher has no such value, the nearest
/// before it that it has, and the output itself.
fn before_heads(student: &Graph, teacher: &Graph) -> Result<Vec<String>, FinetuneError> {
    let mut cuts: BTreeSet<(usize, String)> = BTreeSet::new();
    let place = |id: NodeId| student.topological_order().iter().position(|other| *other == id);
    let mut add = |value: ValueId| {
        let name = student.value(value).map(|value| value.name.to_string());
        if let (Some(at), Some(name)) = (place(value.node), name) {
            cuts.insert((at, name));
        }
    };
    let is_known = |value: ValueId| {
        let name = student.value(value).map(|value| &value.name);
        name.is_some_and(|name| is_shared(student, teacher, name))
    };
    for output in student.output_values().into_iter().flatten() {
        if !is_known(output) {
            continue;
        }
        for feature in read_by_heads(student, output) {
            let feature = unpooled(student, feature, &is_known);
            if is_known(feature) {
                add(feature);
                continue;
            }
            add(output);
            for nearest in nearest(student, feature, &is_known) {
                add(nearest);
            }
        }
    }
    if cuts.is_empty() {
        return Err(refused(
            "no output depends on a feature that model and teacher share; `features` names values that they do".to_owned(),
        ));
    }
    Ok(cuts.into_iter().map(|(_, name)| name).collect())
}

/// The data inputs of the first layers with weights on the way back from an output.
fn read_by_heads(graph: &Graph, output: ValueId) -> Vec<ValueId> {
    let (mut found, mut seen, mut pending) = (Vec::new(), BTreeSet::new(), vec![output.node]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) || graph.operator(id).is_none() {
            continue;
        }
        match data_of_layer(graph, id) {
            Some(data) => found.push(data),
            None => pending.extend(graph.inputs_of(id).into_iter().flatten().map(|value| value.node)),
        }
    }
    found
}

/// What a layer with constant weights reads beside them.
fn data_of_layer(graph: &Graph, id: NodeId) -> Option<ValueId> {
    let operator = graph.operator(id)?;
    let of_slot = |slot: &usize| {
        let weight = graph.constant(graph.input(id, *slot)?)?;
        let operand = linear::operand(operator, *slot, weight.rank())?;
        graph
            .input(id, operand.other)
            .filter(|_| operand.family != Family::Lookup)
    };
    linear::weight_slots(operator).iter().find_map(of_slot)
}

/// The value that was averaged or laid out anew, where that is known to the teacher.
fn unpooled(graph: &Graph, value: ValueId, is_known: &dyn Fn(ValueId) -> bool) -> ValueId {
    let (mut at, mut best) = (value, value);
    while let Some(operator) = graph.operator(at.node) {
        if !POOLING.iter().any(|name| operator.is(name)) {
            break;
        }
        let Some(read) = graph.input(at.node, 0) else {
            break;
        };
        at = read;
        if is_known(at) {
            best = at;
        }
    }
    best
}

/// The nearest known values before one, on every way back from it.
fn nearest(graph: &Graph, value: ValueId, is_known: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
    let (mut found, mut seen, mut pending) = (Vec::new(), BTreeSet::new(), vec![value.node]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) || graph.operator(id).is_none() {
            continue;
        }
        for read in graph.inputs_of(id).into_iter().flatten() {
            match is_known(read) {
                true => found.push(read),
                false => pending.push(read.node),
            }
        }
    }
    found
}

/// By which factor each cut is multiplied.
fn scales(
    teacher: &Model,
    cuts: &[String],
    data: &Dataset,
    engine: &dyn Engine,
) -> Result<Vec<f32>, FinetuneError> {
    let stream = Stream::compile(teacher, cuts, &Lowering(engine))?;
    let range = data.sample_range();
    let samples: Vec<u64> = range.take(MEASURED).collect();
    let size = data.largest_selection().unwrap_or(8).max(1) as usize;
    let mut sums = vec![(0.0f64, 0usize, 0usize); cuts.len()];
    for rows in samples.chunks(size) {
        let batch = data.select(rows)?;
        let mut values = stream.run(&batch)?;
        for (cut, (square, elements, runs)) in cuts.iter().zip(&mut sums) {
            let Some(RunValue::Tensor(tensor)) = values.remove(cut) else {
                return Err(refused(format!("the teacher's {cut} is no tensor")));
            };
            if data.largest_selection() != Some(1) && tensor.dims().first() != Some(&(batch.ran as u64)) {
                let dims = tensor.dims();
                return Err(refused(format!(
                    "{cut} has the shape {dims:?} for {} samples: they do not lie along its first axis",
                    batch.ran
                )));
            }
            let values = tensor.view::<f32>()?;
            *square += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            (*elements, *runs) = (*elements + values.len(), *runs + batch.ran.max(1));
        }
    }
    let width = |(_, elements, runs): &(f64, usize, usize)| *elements as f64 / (*runs).max(1) as f64;
    let total: f64 = sums.iter().map(width).sum();
    let each = cuts.iter().zip(&sums).map(|(cut, sum)| {
        let mean = sum.0 / sum.1.max(1) as f64;
        match mean.is_finite() && mean > 0.0 {
            true => Ok((total / (width(sum) * mean * cuts.len() as f64)).sqrt() as f32),
            false => Err(refused(format!(
                "the teacher's {cut} has a mean square of {mean}"
            ))),
        }
    });
    each.collect()
}

/// Adds the output.
fn append(model: &mut Model, cuts: &[String], scales: &[f32]) -> Result<(), FinetuneError> {
    let graph = &mut model.graph;
    let found: Vec<ValueId> = cuts.iter().filter_map(|cut| graph.find_value(cut)).collect();
    let Some(last) = found.last().copied() else {
        return Err(refused("there is nothing to compare".to_owned()));
    };
    let mut editor = graph.edit("finetune");
    let plain = || vec![Value::named("")];
    let mut parts = Vec::with_capacity(found.len());
    for (value, scale) in found.iter().zip(scales) {
        let scale = editor.add_constant("", Tensor::scalar(*scale));
        let flat = Operator::new("Flatten").with("axis", 1i64);
        let flat = editor.add_operator(value.node, flat, &[Some(*value)], plain())?;
        let inputs = [Some(ValueId::new(flat, 0)), Some(scale)];
        let scaled = editor.add_operator(value.node, Operator::new("Mul"), &inputs, plain())?;
        parts.push(Some(ValueId::new(scaled, 0)));
    }
    let joined = Operator::new("Concat").with("axis", 1i64);
    let joined = editor.add_operator(last.node, joined, &parts, vec![Value::named(FEATURES)])?;
    let ty = ValueType::tensor(DType::F32, None::<Shape>);
    editor.add_graph_output(ValueId::new(joined, 0), FEATURES, ty)?;
    drop(editor);
    model.name_values();
    Ok(())
}
