//! Numbers at which models turn: constants of thresholds, limits of types, lengths in shapes. Inputs around them show what other
//! inputs do not.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::ir::{AttributeValue, DType, Model, Operator, Slot, Tensor, ValueId};

/// Elements of a constant that is looked at; larger ones are weights.
const SMALL: u64 = 16;
/// Numbers that are kept.
const MOST: usize = 256;
/// Strings that are kept.
const MOST_WORDS: usize = 1 << 14;
/// The largest length that is taken from a constant.
const LONGEST: i64 = 1024;

/// What the constants of two models say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Landmarks {
    /// Numbers for inputs.
    pub(super) numbers: Vec<f64>,
    /// The largest length in a shape; inputs should be longer once.
    pub(super) length: Option<i64>,
    /// Strings for inputs, those that one model alone holds first.
    pub(super) words: Vec<Bytes>,
}

/// Operators whose small constants are thresholds, or shift and scale what is compared with them.
const TURNING: &[&str] = &[
    "Add",
    "Clip",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Sub",
    "Where",
];

/// Operators whose small constants are sizes and positions.
const SIZING: &[&str] = &[
    "Gather", "Pad", "Slice", "Split", "Expand", "Reshape", "TopK", "Trilu", "Range",
];

impl Landmarks {
    /// Reads the constants of both models.
    pub(super) fn of(models: [&Model; 2]) -> Self {
        let mut found = Self {
            words: words_of(models),
            ..Self::default()
        };
        let mut seen = BTreeSet::new();
        for model in models {
            for path in model.graph_paths() {
                let Some(graph) = model.graph_at(&path) else {
                    continue;
                };
                for id in graph.topological_order() {
                    let Some(operator) = graph.operator(id).filter(|op| op.domain().is_empty()) else {
                        continue;
                    };
                    let name = operator.op_type.as_str();
                    for value in graph.inputs_of(id).into_iter().flatten() {
                        let small = graph.constant(value).filter(|tensor| tensor.elements() <= SMALL);
                        let Some(values) = small.and_then(|tensor| tensor.to_f64().ok()) else {
                            continue;
                        };
                        if TURNING.contains(&name) {
                            values.iter().for_each(|value| found.threshold(*value, &mut seen));
                        } else if SIZING.contains(&name) {
                            found.sizes(&values);
                        }
                    }
                    match name {
                        "Cast" => {
                            let to = operator
                                .int("to")
                                .and_then(|to| DType::from_onnx(i32::try_from(to).ok()?));
                            to.into_iter().for_each(|to| found.limits(to, &mut seen));
                        }
                        // What is looked for has to be there once.
                        "IsNaN" => found.add(f64::NAN, &mut seen),
                        "IsInf" => [f64::INFINITY, f64::NEG_INFINITY]
                            .into_iter()
                            .for_each(|v| found.add(v, &mut seen)),
                        "Clip" => ["min", "max"]
                            .iter()
                            .filter_map(|name| operator.float(name))
                            .for_each(|value| found.threshold(f64::from(value), &mut seen)),
                        _ => {}
                    }
                }
            }
        }
        found
    }

    fn threshold(&mut self, value: f64, seen: &mut BTreeSet<u64>) {
        // A constant that stands for infinity, as in masks, is no place where inputs are.
        if !value.is_finite() || value.abs() > 1e8 {
            return;
        }
        for near in [value, -value, value - 1.0, value + 1.0, 1.5 * value, 0.75 * value] {
            self.add(near, seen);
        }
    }

    /// The ends of an element type, and just beyond: what happens there is the same wherever the type is defined.
    fn limits(&mut self, to: DType, seen: &mut BTreeSet<u64>) {
        match to {
            DType::F16 => [65_504.0, 65_536.0, 1e5].into_iter().for_each(|v| {
                self.add(v, seen);
                self.add(-v, seen);
            }),
            _ if to.bits() <= 16 => {
                if let Some((low, high)) = to.integer_range() {
                    [low as f64, high as f64, 0.5, 1.5, -0.5, 2.5]
                        .into_iter()
                        .for_each(|v| self.add(v, seen));
                }
            }
            DType::I32 | DType::I64 => [0.5, -0.5, 1.5, 2.5, 16_777_217.0]
                .into_iter()
                .for_each(|v| self.add(v, seen)),
            _ => {}
        }
    }

    fn add(&mut self, value: f64, seen: &mut BTreeSet<u64>) {
        if self.numbers.len() < MOST && seen.insert(value.to_bits()) {
            self.numbers.push(value);
        }
    }

    fn sizes(&mut self, values: &[f64]) {
        for value in values {
            let size = value.abs() as i64;
            if (2..=LONGEST).contains(&size) {
                self.length = self.length.max(Some(size));
            }
        }
    }
}

/// The strings in constants and attributes of two models, those that one model alone holds first.
fn words_of([first, second]: [&Model; 2]) -> Vec<Bytes> {
    let (ours, theirs) = (words_in(first), words_in(second));
    let known = |words: &[Bytes]| words.iter().cloned().collect::<BTreeSet<Bytes>>();
    let (in_ours, in_theirs) = (known(&ours), known(&theirs));
    let mut found: Vec<Bytes> = ours
        .iter()
        .filter(|word| !in_theirs.contains(*word))
        .chain(theirs.iter().filter(|word| !in_ours.contains(*word)))
        .chain(ours.iter().filter(|word| in_theirs.contains(*word)))
        .cloned()
        .collect();
    found.truncate(MOST_WORDS);
    found
}

/// The strings in the constants that operators of a model read and in their attributes, each once.
fn words_in(model: &Model) -> Vec<Bytes> {
    let mut found = Vec::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            let constants = graph.inputs_of(id).into_iter().flatten();
            for tensor in constants.filter_map(|value| graph.constant(value)) {
                found.extend(strings(tensor));
            }
            found.extend(attribute_words(operator));
        }
    }
    let mut seen: BTreeSet<Bytes> = BTreeSet::new();
    found.retain(|word| seen.insert(word.clone()));
    found
}

fn strings(tensor: &Tensor) -> Vec<Bytes> {
    match tensor.strings() {
        Ok(strings) => strings.to_vec(),
        Err(_) => Vec::new(),
    }
}

/// The strings in an operator's attributes with which an input may be compared.
fn attribute_words(operator: &Operator) -> Vec<Bytes> {
    let mut found = Vec::new();
    for attribute in operator.attributes() {
        match &attribute.value {
            AttributeValue::Strings(words) => found.extend(words.iter().cloned()),
            AttributeValue::Tensor(tensor) => found.extend(strings(tensor)),
            AttributeValue::String(word) if attribute.name == *"pattern" => found.push(word.clone()),
            AttributeValue::String(word) if attribute.name == *"delimiter" => {
                found.push(word.clone());
                let mut parted = b"a".to_vec();
                parted.extend_from_slice(word);
                parted.push(b'b');
                found.push(Bytes::from(parted));
            }
            _ => {}
        }
    }
    if operator.is("StringNormalizer") {
        let upper: Vec<Bytes> = found
            .iter()
            .map(|word| Bytes::from(word.to_ascii_uppercase()))
            .collect();
        found.extend(upper);
    }
    found
}

/// Operators that give each element of their result from elements of their inputs, whatever those are.
const ANY_NUMBER: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Clip",
    "Concat",
    "Equal",
    "Flatten",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "MatMul",
    "MatMulInteger",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "QLinearMatMul",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "Sign",
    "Sub",
    "Sum",
    "Transpose",
    "Where",
    "Xor",
    "DequantizeLinear",
];

/// Whether every use of an input takes any number of its type: none makes a size, an index or a count of it.
pub(super) fn takes_any_number(model: &Model, input: crate::ir::NodeId) -> bool {
    let graph = &model.graph;
    let mut seen = BTreeSet::new();
    let mut pending = vec![ValueId::new(input, 0)];
    while let Some(value) = pending.pop() {
        if !seen.insert(value) {
            continue;
        }
        for at in graph.uses(value) {
            if at.node == graph.sink() {
                continue;
            }
            let safe = |op: &&crate::ir::Operator| {
                op.domain().is_empty() && ANY_NUMBER.contains(&op.op_type.as_str())
            };
            if graph.operator(at.node).filter(safe).is_none() || matches!(at.slot, Slot::Capture(_)) {
                return false;
            }
            let outputs = graph.get(at.node).map_or(0, |node| node.outputs().len());
            pending.extend((0..outputs).map(|output| ValueId::new(at.node, output)));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ExternalFiles, lift, text};

    fn model(text: &str) -> Model {
        let text = format!("<ir_version: 8, opset_import: [\"\" : 17]> {text}");
        lift(text::parse_model(&text).unwrap(), &ExternalFiles::default()).unwrap()
    }

    #[test]
    fn thresholds_and_lengths_come_from_either_model() {
        let plain = model("g (float[N,S] x) => (float[N,S] y) { y = Identity(x) }");
        let clipped = model(
            "g (float[N,S] x) => (float[N,S] y) <float l = {-10000}, float h = {10000}> { y = Clip(x, l, h) }",
        );
        let cut = model(
            "g (float[N,S] x) => (float[N,T] y) <int64[1] a = {0}, int64[1] b = {16}, int64[1] c = {1}> \
             { y = Slice(x, a, b, c) }",
        );
        let found = Landmarks::of([&plain, &clipped]);
        assert!(found.numbers.contains(&15_000.0) && found.numbers.contains(&-10_000.0));
        assert_eq!(Landmarks::of([&plain, &cut]).length, Some(16));
        assert_eq!(Landmarks::of([&plain, &plain]), Landmarks::default());
        let narrow = model("g (float[N,S] x) => (float16[N,S] y) { y = Cast<to = 10>(x) }");
        assert!(Landmarks::of([&narrow, &plain]).numbers.contains(&65_536.0));
    }

    #[test]
    fn strings_come_from_both_models_those_of_one_alone_first() {
        let held = |words: &str| {
            model(&format!(
                "g (string[N] s) => (bool[N] y) <string[2] k = {{{words}}}> {{ y = Equal(s, k) }}"
            ))
        };
        let (ours, theirs) = (held("\"same\", \"abc\""), held("\"same\", \"abd\""));
        assert_eq!(Landmarks::of([&ours, &theirs]).words, ["abc", "abd", "same"]);
    }

    #[test]
    fn integers_that_make_sizes_are_not_free() {
        let any = |text| {
            let model = model(text);
            takes_any_number(&model, model.graph.inputs()[0])
        };
        assert!(any("g (int32[N,4] x) => (int32[N,4] y) { y = Add(x, x) }"));
        assert!(!any(
            "g (int64[4] x) => (float[a,b,c,d] y) { s = Abs(x) y = ConstantOfShape(s) }"
        ));
    }
}
