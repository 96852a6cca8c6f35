//! Integer operators in place of a product.

use std::collections::HashMap;

use super::error::ProductError;
use super::product::Product;
use super::tied::{self, Lookup, Table, reads_rows};
use super::{NAME, QuantizeDynamic};
use crate::analysis::linear;
use crate::ir::{
    DType, EditError, Editor, GraphPath, Model, Name, NodeId, Operator, Shape, Tensor, Value, ValueId,
    ValueType,
};

/// What was done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) products: u64,
    pub(super) inputs: u64,
    pub(super) trimmed: u64,
    /// Codes of some weight are captured by a body.
    pub(super) captured: bool,
}

/// How a weight is stored: graph, constant, the axis of its outputs and the side that it multiplies from.
type WeightKey = (GraphPath, ValueId, usize, usize);

/// Replaces products one after the other, in topological order.
pub(super) struct Replacer<'a> {
    options: &'a QuantizeDynamic,
    /// Codes, scale and zero point of inputs, in their own graph.
    inputs: HashMap<(GraphPath, ValueId), [ValueId; 3]>,
    /// Codes, scale and zero point of weights, in the graph that holds the weight.
    weights: HashMap<WeightKey, [ValueId; 3]>,
    /// What these weights are called.
    names: HashMap<(GraphPath, ValueId), String>,
    /// Tables of codes that lookups share.
    tables: Vec<Table>,
    pub(super) done: Done,
}

impl<'a> Replacer<'a> {
    pub(super) fn new(options: &'a QuantizeDynamic) -> Self {
        Self {
            options,
            inputs: HashMap::new(),
            weights: HashMap::new(),
            names: HashMap::new(),
            tables: Vec::new(),
            done: Done::default(),
        }
    }

    /// Puts integer operators in place of one product.
    pub(super) fn replace(&mut self, model: &mut Model, product: &Product) -> Result<(), ProductError> {
        let stored = self.stored(model, product)?;
        let mut weight = stored;
        for value in &mut weight {
            *value = model.capture(NAME, &product.origin.path, &product.path, *value)?;
        }
        self.done.captured |= product.origin.path != product.path;
        let Some(graph) = model.graph_at_mut(&product.path) else {
            return Ok(());
        };
        // Products before this one have been replaced: what it reads is asked for now.
        let Some(matrix) = linear::product(graph, product.node) else {
            return Ok(());
        };
        let (input, input_turned) = match product.weight_slot {
            0 => (matrix.right, matrix.right_transposed),
            _ => (matrix.left, matrix.left_transposed),
        };
        let mut editor = graph.edit(NAME);
        let [mut codes, input_scale, input_zero] =
            self.input_codes(&mut editor, &product.path, product.node, input)?;
        let mut build = Build::new(&mut editor, product.node);
        if input_turned {
            let turn = Operator::new("Transpose").with("perm", vec![1, 0]);
            let shape = build.editor.graph().ty(input).shape().cloned();
            let shape = shape.map(|shape| shape.iter().rev().cloned().collect::<Shape>());
            codes = build.add(turn, &[codes], "turned", ValueType::tensor(DType::U8, shape))?;
        }
        let [weight_codes, scales, zeros] = weight;
        let inputs = match product.weight_slot {
            0 => [weight_codes, codes, zeros, input_zero],
            _ => [codes, weight_codes, input_zero, zeros],
        };
        let integer = build.result(DType::I32);
        let sum = build.add(Operator::new("MatMulInteger"), &inputs, "integer", integer)?;
        let cast = Operator::new("Cast").with("to", i64::from(DType::F32.onnx()));
        let float = build.result(DType::F32);
        let real = build.add(cast, &[sum], "cast", float.clone())?;
        let scale = build.add(
            Operator::new("Mul"),
            &[input_scale, scales],
            "scale",
            ValueType::Unknown,
        )?;
        let scale = build.times(scale, matrix.alpha, "alpha", ValueType::Unknown)?;
        let mut result = build.add(Operator::new("Mul"), &[real, scale], "scaled", float.clone())?;
        if let Some(bias) = matrix.bias {
            let bias = build.bias(bias, matrix.beta)?;
            result = build.add(Operator::new("Add"), &[result, bias], "biased", float)?;
        }
        editor.replace(ValueId::new(product.node, 0), result)?;
        editor.remove_unused(product.node);
        self.done.products += 1;
        Ok(())
    }

    /// Codes, scale and zero point of the input, made once for all products that read it.
    fn input_codes(
        &mut self,
        editor: &mut Editor<'_>,
        path: &GraphPath,
        near: NodeId,
        input: ValueId,
    ) -> Result<[ValueId; 3], ProductError> {
        if let Some(known) = self.inputs.get(&(path.clone(), input)) {
            return Ok(*known);
        }
        let name = label(editor, input);
        let shape = editor.graph().ty(input).shape().cloned();
        let scalar = |dtype| ValueType::tensor(dtype, Some(Shape::default()));
        let outputs = vec![
            Value::typed(suffixed(&name, "quantized"), ValueType::tensor(DType::U8, shape)),
            Value::typed(suffixed(&name, "scale"), scalar(DType::F32)),
            Value::typed(suffixed(&name, "zero_point"), scalar(DType::U8)),
        ];
        let operator = Operator::new("DynamicQuantizeLinear");
        let node = editor.add_operator(near, operator, &[Some(input)], outputs)?;
        let found = [0, 1, 2].map(|output| ValueId::new(node, output));
        self.inputs.insert((path.clone(), input), found);
        self.done.inputs += 1;
        Ok(found)
    }

    /// Weights that are stored as codes more than once, as products read them in different ways.
    pub(super) fn repeated(&self) -> Vec<String> {
        let mut counts: HashMap<(&GraphPath, ValueId), usize> = HashMap::new();
        for (path, weight, _, _) in self.weights.keys() {
            *counts.entry((path, *weight)).or_default() += 1;
        }
        let mut found: Vec<String> = counts
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .filter_map(|(place, _)| self.names.get(&(place.0.clone(), place.1)))
            .map(|name| {
                format!("{name} is stored as codes once for each way in which products read it: plain and transposed")
            })
            .collect();
        found.sort();
        found
    }

    /// The lookups that gather from the codes of a product's weight.
    fn lookups(&self, model: &Model, product: &Product) -> Vec<Lookup> {
        let graph = model.graph_at(&product.origin.path);
        let Some(graph) = graph.filter(|_| reads_rows(product.output_axis, product.weight_slot)) else {
            return Vec::new();
        };
        tied::lookups(graph, &product.origin).unwrap_or_default()
    }

    /// Has lookups of tables gather the codes that products read. Answers how many tables there are.
    pub(super) fn gather(&mut self, model: &mut Model) -> Result<u64, ProductError> {
        for table in &self.tables {
            table.gather(model)?;
        }
        Ok(self.tables.len() as u64)
    }

    /// Codes, scale and zero point of the weight, beside it.
    fn stored(&mut self, model: &mut Model, product: &Product) -> Result<[ValueId; 3], ProductError> {
        let origin = &product.origin;
        let key = (
            origin.path.clone(),
            origin.value,
            product.output_axis,
            product.weight_slot,
        );
        if let Some(known) = self.weights.get(&key) {
            return Ok(*known);
        }
        let left = product.weight_slot == 0;
        let coded = self.options.weight(&product.tensor, product.output_axis, left)?;
        let lookups = self.lookups(model, product);
        let graph = model
            .graph_at_mut(&origin.path)
            .ok_or(EditError::NoNode(origin.value.node.index()))?;
        let mut editor = graph.edit(NAME);
        let name = product.name.as_str();
        let scale = editor.add_constant(suffixed(name, "scale"), coded.scales.clone());
        let zeros = editor.add_constant(suffixed(name, "zero_point"), coded.zeros.clone());
        let codes = match lookups.is_empty() {
            true => editor.add_constant(suffixed(name, "quantized"), coded.codes),
            false => {
                drop(editor);
                let (table, codes) = Table::store(model, product, &coded, (scale, lookups))?;
                self.tables.push(table);
                codes
            }
        };
        let found = [codes, scale, zeros];
        self.done.trimmed += coded.trimmed;
        self.names
            .insert((origin.path.clone(), origin.value), product.name.clone());
        self.weights.insert(key, found);
        Ok(found)
    }
}

/// Operators that are added for one product.
struct Build<'e, 'g> {
    editor: &'e mut Editor<'g>,
    near: NodeId,
    stem: String,
    shape: Option<Shape>,
}

impl<'e, 'g> Build<'e, 'g> {
    fn new(editor: &'e mut Editor<'g>, near: NodeId) -> Self {
        let output = ValueId::new(near, 0);
        let (stem, shape) = (label(editor, output), editor.graph().ty(output).shape().cloned());
        Self {
            editor,
            near,
            stem,
            shape,
        }
    }

    /// The type of a value with the shape of the result.
    fn result(&self, dtype: DType) -> ValueType {
        ValueType::tensor(dtype, self.shape.clone())
    }

    fn add(
        &mut self,
        operator: Operator,
        inputs: &[ValueId],
        suffix: &str,
        ty: ValueType,
    ) -> Result<ValueId, ProductError> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let value = Value::typed(suffixed(&self.stem, suffix), ty);
        let node = self
            .editor
            .add_operator(self.near, operator, &inputs, vec![value])?;
        Ok(ValueId::new(node, 0))
    }

    /// `value` times a number.
    fn times(
        &mut self,
        value: ValueId,
        factor: f32,
        suffix: &str,
        ty: ValueType,
    ) -> Result<ValueId, ProductError> {
        if factor == 1.0 {
            return Ok(value);
        }
        let name = suffixed(&self.stem, suffix);
        let factor = self.editor.add_constant(name, Tensor::scalar(factor));
        self.add(Operator::new("Mul"), &[value, factor], suffix, ty)
    }

    /// The bias with its factor, multiplied out where it is constant.
    fn bias(&mut self, bias: ValueId, beta: f32) -> Result<ValueId, ProductError> {
        let known = self.editor.graph().constant(bias).cloned();
        match known.filter(|tensor| tensor.dtype() == DType::F32 && beta != 1.0) {
            Some(tensor) => {
                let scaled: Vec<f32> = tensor.to_f32()?.iter().map(|value| value * beta).collect();
                let name = suffixed(&label(self.editor, bias), "scaled");
                let tensor = Tensor::from_slice(tensor.dims(), &scaled)?;
                Ok(self.editor.add_constant(name, tensor))
            }
            None => {
                let ty = self.editor.graph().ty(bias).clone();
                self.times(bias, beta, "bias", ty)
            }
        }
    }
}

fn label(editor: &Editor<'_>, value: ValueId) -> String {
    editor
        .graph()
        .value(value)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

fn suffixed(stem: &str, suffix: &str) -> Name {
    Name::from(format!("{stem}_{suffix}"))
}
