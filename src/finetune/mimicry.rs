//! Features at which a model is to be like its teacher: one more output of both, whose mean squared difference is the loss.
//!
//! The output holds the features of every cut side by side, each divided by the root mean square that it has in the teacher and weighted
//! by its size, so that the loss is the mean over the cuts of the squared difference relative to the teacher's own square.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;

use super::error::FinetuneError;
use super::training::Mimic;
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
    pub(super) cuts: Vec<Cut>,
}

/// Two values that are compared, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) student: String,
    pub(super) teacher: String,
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
        let names = |of: fn(&Cut) -> &String| cuts.iter().map(of).cloned().collect::<Vec<_>>();
        let (own, others) = (names(|cut| &cut.student), names(|cut| &cut.teacher));
        let scales = scales(&teacher, &others, data, engine)?;
        for (model, names) in [(&mut student, own), (&mut teacher, others)] {
            append(model, &names, &scales)?;
            analysis::infer(model);
        }
        Ok(Self {
            student,
            teacher,
            cuts,
        })
    }

    /// The values of the student that are compared.
    pub(super) fn names(&self) -> Vec<String> {
        self.cuts.iter().map(|cut| cut.student.clone()).collect()
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

/// Whether two values are computed, float, and of one shape, with the samples along the first axis.
fn are_alike(student: &Graph, own: ValueId, teacher: &Graph, other: ValueId) -> bool {
    let shape = |graph: &Graph, value: ValueId| -> Option<Shape> {
        graph.operator(value.node)?;
        match graph.ty(value) {
            ValueType::Tensor(tensor) if tensor.dtype == Some(DType::F32) => tensor.shape.clone(),
            _ => None,
        }
    };
    let (Some(own), Some(other)) = (shape(student, own), shape(teacher, other)) else {
        return false;
    };
    let fits = |(a, b): (&Dim, &Dim)| match (a.fixed(), b.fixed()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    own.len() >= 2 && own.len() == other.len() && own.iter().zip(&other).skip(1).all(fits)
}

/// The value of the same name that is alike in the teacher.
fn namesake(student: &Graph, teacher: &Graph, value: ValueId) -> Option<ValueId> {
    let name = &student.value(value)?.name;
    let other = teacher.find_value(name)?;
    are_alike(student, value, teacher, other).then_some(other)
}

fn name_of(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

/// The cuts, in the order of the student's graph.
fn chosen(student: &Graph, teacher: &Graph, wanted: Option<&RegexSet>) -> Result<Vec<Cut>, FinetuneError> {
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
        for (output, value) in node.outputs().iter().enumerate() {
            if !own && !wanted.is_match(&value.name) {
                continue;
            }
            let name = value.name.to_string();
            match namesake(student, teacher, ValueId::new(id, output)) {
                Some(_) => cuts.push(Cut {
                    student: name.clone(),
                    teacher: name,
                }),
                None => other = other.or(Some(name)),
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

/// What the last layers with weights read in both models, before it is averaged or laid out anew; where pruning cut that, the nearest
/// values before it that the teacher has by name, and the output itself.
fn before_heads(student: &Graph, teacher: &Graph) -> Result<Vec<Cut>, FinetuneError> {
    let order = student.topological_order();
    let place = |id: NodeId| order.iter().position(|other| *other == id).unwrap_or_default();
    let mut cuts: BTreeMap<(usize, String), String> = BTreeMap::new();
    let mut add = |own: ValueId, other: ValueId| {
        cuts.insert((place(own.node), name_of(student, own)), name_of(teacher, other));
    };
    for output in student.output_values().into_iter().flatten() {
        let Some(same_output) = namesake(student, teacher, output) else {
            continue;
        };
        for (head, feature) in read_by_heads(student, output) {
            let other = teacher
                .find_value(&name_of(student, ValueId::new(head, 0)))
                .and_then(|result| data_of_layer(teacher, result.node));
            if let Some((own, other)) = other.and_then(|other| unpooled(student, feature, teacher, other)) {
                add(own, other);
                continue;
            }
            add(output, same_output);
            for (own, other) in nearest(student, teacher, feature) {
                add(own, other);
            }
        }
    }
    if cuts.is_empty() {
        return Err(refused(
            "no output depends on a feature that model and teacher share; `features` names values that they do"
                .to_owned(),
        ));
    }
    let cuts = cuts.into_iter();
    Ok(cuts
        .map(|((_, student), teacher)| Cut { student, teacher })
        .collect())
}

/// The first layers with weights on the way back from an output, each with its data input.
fn read_by_heads(graph: &Graph, output: ValueId) -> Vec<(NodeId, ValueId)> {
    let (mut found, mut seen, mut pending) = (Vec::new(), BTreeSet::new(), vec![output.node]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) || graph.operator(id).is_none() {
            continue;
        }
        match data_of_layer(graph, id) {
            Some(data) => found.push((id, data)),
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

/// The values that two were averaged or laid out anew from, as far back as they are alike.
fn unpooled(student: &Graph, own: ValueId, teacher: &Graph, other: ValueId) -> Option<(ValueId, ValueId)> {
    let read = |graph: &Graph, value: ValueId| -> Option<ValueId> {
        let operator = graph.operator(value.node)?;
        let pools = POOLING.iter().any(|name| operator.is(name));
        graph.input(value.node, 0).filter(|_| pools)
    };
    let (mut own, mut other, mut best) = (own, other, None);
    loop {
        if are_alike(student, own, teacher, other) {
            best = Some((own, other));
        }
        match (read(student, own), read(teacher, other)) {
            (Some(before), Some(same)) => (own, other) = (before, same),
            _ => return best,
        }
    }
}

/// The nearest values before one that the teacher has by name, on every way back from it.
fn nearest(student: &Graph, teacher: &Graph, value: ValueId) -> Vec<(ValueId, ValueId)> {
    let (mut found, mut seen, mut pending) = (Vec::new(), BTreeSet::new(), vec![value.node]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) || student.operator(id).is_none() {
            continue;
        }
        for read in student.inputs_of(id).into_iter().flatten() {
            match namesake(student, teacher, read) {
                Some(other) => found.push((read, other)),
                None => pending.push(read.node),
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
