//! The pass `quantize-dynamic`: integer matrix products whose activation ranges are found in every run.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distinct::distinct_names;
use super::quantize::Saturation;
use super::{
    About, Context, ConvertOpset, DeduplicateInitializers, Pass, PassError, PassReport, Safety, Selector,
    Simplify,
};
use crate::analysis;
use crate::ir::{
    DType, EditError, Editor, Graph, Model, Name, NodeId, NodeKind, Operator, Tensor, TensorError, Value,
    ValueId, ValueType, opset_version,
};
use crate::quantize::{
    Granularity, Kind, QuantizeError, Scheme, fit_pairs, pack, quantize_tensor, tensor_parameters, worst_pair,
};

const NAME: &str = "quantize-dynamic";
/// First opset with DynamicQuantizeLinear; scales by channel are plain tensors and need no newer one.
const OPSET: i64 = 11;

/// Turns matrix products with constant weights into integer ones that find the range of their input in every run.
///
/// Needs no data. The input becomes unsigned 8-bit codes through DynamicQuantizeLinear, once for all products that read it; the
/// weight is stored as signed 8-bit codes with a scale for each column. Convolutions stay float: engines run them several times
/// slower in this form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantizeDynamic {
    /// One scale for each output column; else one for the whole weight.
    pub per_channel: bool,
    /// What is done about weights whose products saturate on x86 processors without VNNI.
    pub saturation: Saturation,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes that stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for QuantizeDynamic {
    fn default() -> Self {
        Self {
            per_channel: true,
            saturation: Saturation::default(),
            minimum_elements: 256,
            exclude: Vec::new(),
            prepare: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ProductError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A product to be replaced.
struct Product {
    node: NodeId,
    input: ValueId,
    weight: ValueId,
    /// The weight is `[N, K]`.
    transposed: bool,
    /// Bias to add, and its factor.
    bias: Option<(ValueId, f32)>,
}

impl Pass for QuantizeDynamic {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate)
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![Selector::new("exclude", &self.exclude)]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let excluded = regex::RegexSet::new(&self.exclude).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("exclude: {error}"),
        })?;
        let original = model.clone();
        let mut report = PassReport::default();
        if self.prepare {
            report.changes = Simplify::default().run(model, context)?.changes;
        }
        if model.opset().is_some_and(|version| version < OPSET) {
            report.merge(ConvertOpset { version: OPSET }.run(model, context)?);
        }
        model.name_values();
        analysis::infer(model);
        let (mut products, mut quantized, mut trimmed) = (0, 0, 0);
        for path in model.graph_paths() {
            if opset_version(model.opsets(&path), "").is_none_or(|version| version < OPSET) {
                continue;
            }
            let Some(graph) = model.graph_at_mut(&path) else {
                continue;
            };
            let found = self.find(graph, context, &excluded, &mut report.notes);
            let mut editor = graph.edit(NAME);
            let mut codes: HashMap<ValueId, [ValueId; 3]> = HashMap::new();
            for product in found {
                let label = editor.graph().label(product.node);
                match self.replace(&mut editor, &product, &mut codes) {
                    Ok(channels) => {
                        products += 1;
                        trimmed += channels;
                    }
                    Err(ProductError::Edit(source)) => return Err(PassError::Edit { pass: NAME, source }),
                    Err(other) => report.notes.push(format!("{label} stays float: {other}")),
                }
            }
            quantized += codes.len() as u64;
        }
        if products == 0 {
            *model = original;
            let nothing = "no matrix product with a constant weight: nothing to quantize".to_owned();
            report.notes.push(nothing);
            return Ok(PassReport {
                notes: report.notes,
                left: report.left,
                ..PassReport::default()
            });
        }
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        analysis::infer(model);
        report.add("integer-product", products);
        report.add("quantized-input", quantized);
        report.add("saturation-avoided-in-channel", trimmed);
        report.merge(DeduplicateInitializers::default().run(model, context)?);
        Ok(report)
    }
}

impl QuantizeDynamic {
    fn find(
        &self,
        graph: &Graph,
        context: &Context<'_>,
        excluded: &regex::RegexSet,
        notes: &mut Vec<String>,
    ) -> Vec<Product> {
        let mut found = Vec::new();
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id).filter(|operator| operator.domain().is_empty()) else {
                continue;
            };
            let is_gemm = operator.is("Gemm");
            if !is_gemm && !operator.is("MatMul") {
                continue;
            }
            let mut leave = |why: &str| notes.push(format!("{} stays float: {why}", graph.label(id)));
            let (Some(input), Some(weight)) = (graph.input(id, 0), graph.input(id, 1)) else {
                continue;
            };
            let constant = matches!(
                graph.get(weight.node).map(|node| &node.kind),
                Some(NodeKind::Constant(_))
            );
            let Some(tensor) = graph
                .constant(weight)
                .filter(|tensor| constant && tensor.rank() == 2)
            else {
                leave("its second operand is not a constant matrix");
                continue;
            };
            if tensor.dtype() != DType::F32
                || graph.ty(input).dtype().is_some_and(|dtype| dtype != DType::F32)
            {
                leave("its operands are not of type float");
                continue;
            }
            if tensor.elements() < self.minimum_elements {
                leave("its weight is small");
                continue;
            }
            let node = graph.get(id);
            let own = node
                .and_then(|node| node.name.as_ref())
                .map(|name| name.to_string());
            let outputs = node
                .into_iter()
                .flat_map(|node| node.outputs())
                .map(|value| value.name.to_string());
            if own
                .into_iter()
                .chain(outputs)
                .any(|name| excluded.is_match(&name) || context.keeps(&name))
            {
                leave("excluded");
                continue;
            }
            let factor = |name: &str| operator.float(name).unwrap_or(1.0);
            if is_gemm && (factor("alpha") != 1.0 || operator.int("transA").unwrap_or(0) != 0) {
                leave("alpha is not 1, or A is transposed");
                continue;
            }
            let bias = graph
                .input(id, 2)
                .filter(|_| is_gemm)
                .map(|bias| (bias, factor("beta")));
            if bias.is_some_and(|(bias, beta)| beta != 1.0 && graph.constant(bias).is_none()) {
                leave("beta is not 1");
                continue;
            }
            found.push(Product {
                node: id,
                input,
                weight,
                transposed: is_gemm && operator.int("transB").unwrap_or(0) != 0,
                bias,
            });
        }
        found
    }

    /// Puts integer operators in place of one product. Answers the channels whose codes were changed against saturation.
    fn replace(
        &self,
        editor: &mut Editor<'_>,
        product: &Product,
        codes: &mut HashMap<ValueId, [ValueId; 3]>,
    ) -> Result<u64, ProductError> {
        let Some(tensor) = editor.graph().constant(product.weight).cloned() else {
            return Ok(0);
        };
        let tensor = if product.transposed {
            transpose(&tensor)?
        } else {
            tensor
        };
        let (weight, scales, trimmed) = self.weight(&tensor)?;
        let near = product.node;
        let label = |editor: &Editor<'_>, value: ValueId| {
            editor
                .graph()
                .value(value)
                .map(|value| value.name.to_string())
                .unwrap_or_default()
        };
        let (stem, weight_name) = (
            label(editor, ValueId::new(near, 0)),
            label(editor, product.weight),
        );
        let [input, input_scale, input_zero] = match codes.get(&product.input) {
            Some(known) => *known,
            None => {
                let name = label(editor, product.input);
                let shape = editor.graph().ty(product.input).shape().cloned();
                let scalar = || Some(crate::ir::Shape::default());
                let outputs = vec![
                    Value::typed(suffixed(&name, "quantized"), ValueType::tensor(DType::U8, shape)),
                    Value::typed(suffixed(&name, "scale"), ValueType::tensor(DType::F32, scalar())),
                    Value::typed(
                        suffixed(&name, "zero_point"),
                        ValueType::tensor(DType::U8, scalar()),
                    ),
                ];
                let operator = Operator::new("DynamicQuantizeLinear");
                let node = editor.add_operator(near, operator, &[Some(product.input)], outputs)?;
                let found = [0, 1, 2].map(|output| ValueId::new(node, output));
                codes.insert(product.input, found);
                found
            }
        };
        let zeros = pack(scales.dims(), &vec![0; scales.elements() as usize], Kind::Int8)?;
        let weight = editor.add_constant(suffixed(&weight_name, "quantized"), weight);
        let scales = editor.add_constant(suffixed(&weight_name, "scale"), scales);
        let zeros = editor.add_constant(suffixed(&weight_name, "zero_point"), zeros);
        let ty = editor.graph().ty(ValueId::new(near, 0)).clone();
        let shape = ty.shape().cloned();
        let add = |editor: &mut Editor<'_>, operator, inputs: &[ValueId], suffix: &str, dtype: DType| {
            let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
            let value = Value::typed(suffixed(&stem, suffix), ValueType::tensor(dtype, shape.clone()));
            editor
                .add_operator(near, operator, &inputs, vec![value])
                .map(|node| ValueId::new(node, 0))
        };
        let inputs = [input, weight, input_zero, zeros];
        let sum = add(
            editor,
            Operator::new("MatMulInteger"),
            &inputs,
            "integer",
            DType::I32,
        )?;
        let cast = Operator::new("Cast").with("to", i64::from(DType::F32.onnx()));
        let real = add(editor, cast, &[sum], "cast", DType::F32)?;
        let scale_value = Value::named(suffixed(&stem, "scale"));
        let scale = editor.add_operator(
            near,
            Operator::new("Mul"),
            &[Some(input_scale), Some(scales)],
            vec![scale_value],
        )?;
        let inputs = [real, ValueId::new(scale, 0)];
        let mut result = add(editor, Operator::new("Mul"), &inputs, "scaled", DType::F32)?;
        if let Some((bias, beta)) = product.bias {
            let mut bias = bias;
            if beta != 1.0
                && let Some(values) = editor.graph().constant(bias).cloned()
            {
                let scaled: Vec<f32> = values.to_f32()?.iter().map(|value| value * beta).collect();
                let name = suffixed(&label(editor, bias), "scaled");
                bias = editor.add_constant(name, Tensor::from_slice(values.dims(), &scaled)?);
            }
            result = add(
                editor,
                Operator::new("Add"),
                &[result, bias],
                "biased",
                DType::F32,
            )?;
        }
        editor.replace(ValueId::new(near, 0), result)?;
        editor.remove_unused(near);
        Ok(trimmed)
    }

    /// Codes of a `[K, N]` weight, their scales, and the columns that were kept from saturating.
    fn weight(&self, tensor: &Tensor) -> Result<(Tensor, Tensor, u64), ProductError> {
        let granularity = if self.per_channel {
            Granularity::PerChannel(1)
        } else {
            Granularity::PerTensor
        };
        let mut found = tensor_parameters(tensor, granularity, &Scheme::new(Kind::Int8, true))?;
        let columns = tensor.dims().get(1).copied().unwrap_or(1) as usize;
        let rows = tensor.dims().first().copied().unwrap_or(1) as usize;
        let values = tensor.to_f32()?;
        let mut trimmed: Vec<(usize, i32)> = Vec::new();
        let mut changed = 0;
        if self.saturation == Saturation::Avoid {
            for (group, parameters) in found.iter_mut().enumerate() {
                let members = if self.per_channel {
                    group..group + 1
                } else {
                    0..columns
                };
                let order: Vec<usize> = members
                    .flat_map(|column| (0..rows).map(move |row| row * columns + column))
                    .collect();
                let gathered: Vec<f32> = order
                    .iter()
                    .map(|at| values.get(*at).copied().unwrap_or(0.0))
                    .collect();
                if worst_pair(&gathered, rows, parameters.scale) <= 1.0 {
                    continue;
                }
                if let Some(fitted) = fit_pairs(&gathered, rows, parameters.scale) {
                    parameters.scale = fitted.scale;
                    trimmed.extend(order.into_iter().zip(fitted.codes));
                    changed += 1;
                }
            }
        }
        let mut codes = quantize_tensor(tensor, &found, granularity, Kind::Int8)?;
        if !trimmed.is_empty() {
            let mut whole: Vec<i32> = codes.to_i64()?.into_iter().map(|code| code as i32).collect();
            for (at, code) in trimmed {
                if let Some(slot) = whole.get_mut(at) {
                    *slot = code;
                }
            }
            codes = pack(tensor.dims(), &whole, Kind::Int8)?;
        }
        let scales: Vec<f32> = found.iter().map(|p| p.scale).collect();
        let dims: &[u64] = if self.per_channel { &[columns as u64] } else { &[] };
        Ok((codes, Tensor::from_slice(dims, &scales)?, changed))
    }
}

fn suffixed(stem: &str, suffix: &str) -> Name {
    Name::from(format!("{stem}_{suffix}"))
}

fn transpose(tensor: &Tensor) -> Result<Tensor, TensorError> {
    let [rows, columns] = match tensor.dims() {
        [rows, columns] => [*rows as usize, *columns as usize],
        _ => return Ok(tensor.clone()),
    };
    let values = tensor.to_f32()?;
    let turned: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| row * columns + column))
        .map(|at| values.get(at).copied().unwrap_or(0.0))
        .collect();
    Tensor::from_slice(&[columns as u64, rows as u64], &turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_turned() {
        let x = Tensor::from_slice::<f32>(&[2, 3], &[1., 2., 3., 4., 5., 6.]).unwrap();
        let turned = transpose(&x).unwrap();
        assert_eq!(turned.dims(), [3, 2]);
        assert_eq!(&*turned.to_f32().unwrap(), [1., 4., 2., 5., 3., 6.]);
    }

    #[test]
    fn columns_that_would_saturate_get_other_codes() {
        let x = Tensor::from_slice::<f32>(&[2, 2], &[1.0, 1.0, 1.0, -1.0]).unwrap();
        let pass = QuantizeDynamic::default();
        let (codes, scales, changed) = pass.weight(&x).unwrap();
        assert_eq!(changed, 1);
        assert_eq!(codes.to_i64().unwrap(), [64, 127, 64, -127]);
        let scales = scales.to_f32().unwrap().into_owned();
        assert!((scales[0] * 64.0 - 1.0).abs() < 0.02 && (scales[1] * 127.0 - 1.0).abs() < 1e-6);
    }
}
