//! Gram matrices as tensors of a statistics file.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, SafeTensors};

use super::{Gram, GramSums, Grams};
use crate::linalg::Sums;
use crate::statistics::error::FileFault;
use crate::statistics::stored::{value_and_field, words};

const KIND: &str = "gram";

/// Name, type, shape and bytes of a tensor.
pub(in crate::statistics) type Field = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors: for each key `matrix` f64 `[groups, D, D]`, `sum` f64 `[groups, D]` and `rows` u64 `[groups]`. A part has the sums before
/// rounding beside them: `matrix_exact` i64 `[groups, D (D + 1) / 2, 3]` and `sum_exact` i64 `[groups, D, 3]`.
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
        let Some(sums) = grams.sums.get(key) else { continue };
        let mut exact = |field: &str, of: fn(&GramSums) -> &Sums<2>| {
            let count = sums.first().map_or(0, |first| of(first).len());
            let words = sums.iter().flat_map(|sums| of(sums).words());
            let bytes = words.flat_map(i64::to_le_bytes).collect();
            add(field, Dtype::I64, vec![groups.len(), count, 3], bytes);
        };
        exact("matrix_exact", |sums| &sums.triangle);
        exact("sum_exact", |sums| &sums.sum);
    }
    fields
}

/// Reads what [`write`] wrote.
pub(in crate::statistics) fn read(tensors: &SafeTensors<'_>) -> Result<Grams, FileFault> {
    let mut keys: BTreeMap<String, [Option<Vec<u64>>; 5]> = BTreeMap::new();
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
            "matrix_exact" => (3, Dtype::I64),
            "sum_exact" => (4, Dtype::I64),
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
    let mut grams = Grams::default();
    for (key, fields) in keys {
        let groups = shapes.get(&key).and_then(|shape| group_list(shape, &fields));
        let groups = groups.ok_or_else(|| FileFault::Fields(key.clone()))?;
        if let [_, _, Some(rows), Some(matrices), Some(sums)] = &fields {
            let sums = sum_list(groups.len(), rows, matrices, sums);
            grams
                .sums
                .insert(key.clone(), sums.ok_or_else(|| FileFault::Fields(key.clone()))?);
        }
        grams.by_key.insert(key, groups);
    }
    Ok(grams)
}

fn sum_list(groups: usize, rows: &[u64], matrices: &[u64], sums: &[u64]) -> Option<Vec<GramSums>> {
    let read = |words: &[u64], group: usize| {
        let each = words.len() / groups.max(1);
        let own = words.get(group * each..(group + 1) * each)?;
        let words: Vec<i64> = own.iter().map(|word| word.cast_signed()).collect();
        Sums::from_words(&words)
    };
    let each = rows.iter().enumerate();
    each.map(|(group, rows)| GramSums::stored(read(matrices, group)?, read(sums, group)?, *rows))
        .collect()
}

fn group_list(shape: &[usize], fields: &[Option<Vec<u64>>; 5]) -> Option<Vec<Gram>> {
    let ([groups, columns], [Some(matrices), Some(sums), Some(rows), ..]) = (shape, fields) else {
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
