//! Gemm in the form that engines have kernels on codes for: both factors 1, the left operand as it is, a bias with one number for
//! each column. What has no such form becomes MatMul with Mul and Add.

use crate::analysis::linear::{Product, column_bias, product};
use crate::ir::{
    DType, EditError, Editor, Graph, Name, NodeId, Operator, Tensor, TensorError, Value, ValueId, ValueType,
};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum GemmError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Brings a Gemm into the plain form. Answers the node that multiplies now, and whether anything changed; for another operator that
/// is the node itself. A transposed right operand stays one, unless the product becomes a MatMul, for which it has to be turned first.
/// `columns` are those of its result.
pub(super) fn plain(
    editor: &mut Editor<'_>,
    node: NodeId,
    columns: Option<u64>,
) -> Result<(NodeId, bool), GemmError> {
    let Some(gemm) = product(editor.graph(), node).filter(|product| product.is_gemm) else {
        return Ok((node, false));
    };
    let unscaled = gemm.alpha == 1.0 && !gemm.left_transposed;
    let Some(bias) = gemm.bias else {
        return match unscaled {
            true => Ok((node, false)),
            false => apart(editor, &gemm),
        };
    };
    let constant = editor.graph().constant(bias).cloned();
    let rows = constant
        .as_ref()
        .zip(columns)
        .and_then(|(tensor, columns)| column_bias(tensor, columns));
    let (Some(tensor), Some(values), true) = (constant, rows, unscaled) else {
        return apart(editor, &gemm);
    };
    if gemm.beta == 1.0 && tensor.rank() == 1 && tensor.elements() == values.len() as u64 {
        return Ok((node, false));
    }
    let scaled: Vec<f64> = values.iter().map(|value| value * f64::from(gemm.beta)).collect();
    let tensor = Tensor::from_f64(tensor.dtype(), &[scaled.len() as u64], &scaled)?;
    let name = suffixed(editor, bias, "columns");
    let fresh = editor.add_constant(name, tensor);
    editor.set_input(node, 2, Some(fresh))?;
    editor.remove_attribute(node, "beta")?;
    editor.remove_unused(bias.node);
    Ok((node, true))
}

/// Brings every Gemm of a graph with a constant right operand into the plain form, but for those that `skip` names. Weights that only
/// such a Gemm reads are transposed where they have to be. Answers how many changed.
pub(super) fn plain_products(
    graph: &mut Graph,
    pass: &'static str,
    skip: &dyn Fn(&Graph, NodeId) -> bool,
) -> Result<u64, GemmError> {
    let mut count = 0;
    for node in graph.topological_order() {
        let Some(gemm) = product(graph, node).filter(|product| product.is_gemm) else {
            continue;
        };
        let Some(tensor) = graph.constant(gemm.right).filter(|_| !skip(graph, node)) else {
            continue;
        };
        let columns = tensor.dims().get(usize::from(!gemm.right_transposed)).copied();
        let mut editor = graph.edit(pass);
        let (_, mut changed) = plain(&mut editor, node, columns)?;
        if !changed && turned(&mut editor, &gemm, columns)? {
            changed = plain(&mut editor, node, columns)?.1;
        }
        count += u64::from(changed);
    }
    Ok(count)
}

/// Stores the right operand of a Gemm that is to be taken apart as it multiplies. Answers whether it did.
fn turned(editor: &mut Editor<'_>, gemm: &Product, columns: Option<u64>) -> Result<bool, GemmError> {
    let graph = editor.graph();
    let rows = gemm.bias.map(|bias| {
        let tensor = graph.constant(bias).zip(columns);
        tensor
            .and_then(|(tensor, columns)| column_bias(tensor, columns))
            .is_some()
    });
    let is_plain = gemm.alpha == 1.0 && !gemm.left_transposed && rows.unwrap_or(true);
    let tensor = graph.constant(gemm.right).cloned();
    let Some(tensor) =
        tensor.filter(|_| gemm.right_transposed && !is_plain && graph.use_count(gemm.right) == 1)
    else {
        return Ok(false);
    };
    let [rows, width] = match tensor.dims() {
        [rows, width] => [*rows as usize, *width as usize],
        _ => return Ok(false),
    };
    let values = tensor.to_f64()?;
    let order = (0..width).flat_map(|column| (0..rows).map(move |row| row * width + column));
    let values: Vec<f64> = order.filter_map(|at| values.get(at).copied()).collect();
    let tensor = Tensor::from_f64(tensor.dtype(), &[width as u64, rows as u64], &values)?;
    let name = suffixed(editor, gemm.right, "turned");
    let fresh = editor.add_constant(name, tensor);
    editor.set_input(gemm.node, 1, Some(fresh))?;
    editor.remove_attribute(gemm.node, "transB")?;
    editor.remove_unused(gemm.right.node);
    Ok(true)
}

/// MatMul, Mul and Add in place of a Gemm whose right operand is not transposed.
fn apart(editor: &mut Editor<'_>, gemm: &Product) -> Result<(NodeId, bool), GemmError> {
    if gemm.right_transposed {
        return Ok((gemm.node, false));
    }
    let node = gemm.node;
    let output = ValueId::new(node, 0);
    let ty = editor.graph().ty(output).clone();
    let dtype = ty.dtype().or(editor.graph().ty(gemm.right).dtype());
    let stem = suffixed(editor, output, "");
    let add = |editor: &mut Editor<'_>, operator: &str, inputs: &[ValueId], suffix: &str, ty: ValueType| {
        let mut operator = Operator::new(operator);
        if operator.is("Transpose") {
            operator = operator.with("perm", vec![1, 0]);
        }
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let name = Name::from(format!("{stem}{suffix}"));
        editor.add_operator(node, operator, &inputs, vec![Value::typed(name, ty)])
    };
    let factor = |editor: &mut Editor<'_>, value: f32, suffix: &str| -> Result<ValueId, GemmError> {
        let tensor = Tensor::from_f64(dtype.unwrap_or(DType::F32), &[], &[f64::from(value)])?;
        Ok(editor.add_constant(Name::from(format!("{stem}{suffix}")), tensor))
    };
    let mut left = gemm.left;
    if gemm.left_transposed {
        left = ValueId::new(
            add(editor, "Transpose", &[left], "turned", ValueType::Unknown)?,
            0,
        );
    }
    let multiplied = add(editor, "MatMul", &[left, gemm.right], "product", ty.clone())?;
    let mut result = ValueId::new(multiplied, 0);
    if gemm.alpha != 1.0 {
        let alpha = factor(editor, gemm.alpha, "alpha")?;
        result = ValueId::new(add(editor, "Mul", &[result, alpha], "scaled", ty.clone())?, 0);
    }
    if let Some(mut bias) = gemm.bias {
        if gemm.beta != 1.0 {
            let beta = factor(editor, gemm.beta, "beta")?;
            let own = editor.graph().ty(bias).clone();
            bias = ValueId::new(add(editor, "Mul", &[bias, beta], "bias", own)?, 0);
        }
        result = ValueId::new(add(editor, "Add", &[result, bias], "biased", ty)?, 0);
    }
    editor.replace(output, result)?;
    editor.remove_unused(node);
    Ok((multiplied, true))
}

fn suffixed(editor: &Editor<'_>, value: ValueId, suffix: &str) -> Name {
    let name = editor.graph().value(value).map(|value| value.name.to_string());
    Name::from(format!("{}_{suffix}", name.unwrap_or_default()))
}
