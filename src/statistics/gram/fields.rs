//! Gram matrices as tensors of a statistics file.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, SafeTensors};

use super::{Gram, Grams};
use crate::statistics::file::{FileFault, value_and_field, words};

const KIND: &str = "gram";

/// Name, type, shape and bytes of a tensor.
pub(in crate::statistics) type Field = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors: for each key `matrix` f64 `[groups, D, D]`, `sum` f64 `[groups, D]` and `rows` u64 `[groups]`.
pub(in crate::statistics) fn write(grams: &Grams) -> Vec<Field> {
    let mut fields = Vec::new();
    for (key, groups) in &grams.by_key {
        let columns = groups.first().map_or(0, Gram::columns);
        let mut add = |field: &str, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>| {
            fields.push((format!("{KIND}/{key}/{field}"), dtype, shape, bytes));
        };
        let matrices = groups.iter().flat_map(|gram| gram.matrix.iter());
        add(
            "matrix",
            Dtype::F64,
            vec![groups.len(), columns, columns],
            matrices.flat_map(|value| value.to_le_bytes()).collect(),
        );
        let sums = groups.iter().flat_map(|gram| gram.sum.iter());
        add(
            "sum",
            Dtype::F64,
            vec![groups.len(), columns],
            sums.flat_map(|value| value.to_le_bytes()).collect(),
        );
        let rows = groups.iter().flat_map(|gram| gram.rows.to_le_bytes());
        add("rows", Dtype::U64, vec![groups.len()], rows.collect());
    }
    fields
}

/// Reads what [`write`] wrote.
pub(in crate::statistics) fn read(tensors: &SafeTensors<'_>) -> Result<Grams, FileFault> {
    let mut keys: BTreeMap<String, [Option<Vec<u64>>; 3]> = BTreeMap::new();
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let Some((key, field)) = value_and_field(name, KIND) else {
            continue;
        };
        let words = words(view.data());
        let (slot, dtype) = match field {
            "matrix" => (0, Dtype::F64),
            "sum" => (1, Dtype::F64),
            "rows" => (2, Dtype::U64),
            _ => continue,
        };
        if view.dtype() != dtype {
            return Err(FileFault::Fields(key.to_owned()));
        }
        if slot == 1 {
            shapes.insert(key.to_owned(), view.shape().to_vec());
        }
        if let Some(place) = keys.entry(key.to_owned()).or_default().get_mut(slot) {
            *place = Some(words);
        }
    }
    let mut by_key = BTreeMap::new();
    for (key, fields) in keys {
        let groups = shapes.get(&key).and_then(|shape| group_list(shape, &fields));
        by_key.insert(key.clone(), groups.ok_or(FileFault::Fields(key))?);
    }
    Ok(Grams { by_key })
}

fn group_list(shape: &[usize], fields: &[Option<Vec<u64>>; 3]) -> Option<Vec<Gram>> {
    let ([groups, columns], [Some(matrices), Some(sums), Some(rows)]) = (shape, fields) else {
        return None;
    };
    let (groups, columns) = (*groups, *columns);
    let square = columns.checked_mul(columns)?;
    if columns == 0
        || Some(matrices.len()) != groups.checked_mul(square)
        || Some(sums.len()) != groups.checked_mul(columns)
        || rows.len() != groups
    {
        return None;
    }
    let float = |words: &[u64]| {
        words
            .iter()
            .map(|word| f64::from_bits(*word))
            .collect::<Vec<f64>>()
    };
    matrices
        .chunks_exact(square)
        .zip(sums.chunks_exact(columns))
        .zip(rows)
        .map(|((matrix, sum), rows)| {
            Some(Gram {
                matrix: Array2::from_shape_vec((columns, columns), float(matrix)).ok()?,
                sum: Array1::from_vec(float(sum)),
                rows: *rows,
            })
        })
        .collect()
}
