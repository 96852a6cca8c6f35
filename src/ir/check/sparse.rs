//! Sparse tensors: as many indices as values, each within the dimensions.

use super::Problem;
use crate::proto;

/// The first problem of a sparse tensor. Its values and indices are still messages, for no rewrite looks into them.
pub(super) fn check(sparse: &proto::SparseTensorProto) -> Result<(), Problem> {
    let wrong = |reason| Err(Problem::SparseIndex { reason });
    if let Some(dim) = sparse.dims.iter().find(|dim| **dim < 0) {
        return Err(Problem::NegativeDim { dim: *dim });
    }
    let Some(size) = sparse
        .dims
        .iter()
        .try_fold(1i64, |product, dim| product.checked_mul(*dim))
    else {
        return wrong("the product of its dimensions overflows");
    };
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return wrong("values or indices are missing");
    };
    let [count] = values.dims.as_slice() else {
        return wrong("the values are not a vector");
    };
    let Some(read) = read(indices) else {
        return wrong("the indices are not int64 data as long as their dimensions say");
    };
    match *indices.dims.as_slice() {
        [entries] => {
            if entries != *count {
                return wrong("there is not one index for each value");
            }
            if read.iter().any(|index| !(0..size).contains(index)) {
                return wrong("an index is out of range");
            }
            if read.windows(2).any(|pair| pair.first() >= pair.last()) {
                return wrong("the indices do not ascend");
            }
        }
        [entries, rank] => {
            if entries != *count || rank != sparse.dims.len() as i64 {
                return wrong("there is not one index for each value");
            }
            let rows = read.chunks(sparse.dims.len().max(1));
            if rows
                .clone()
                .flat_map(|row| row.iter().zip(&sparse.dims))
                .any(|(index, dim)| !(0..*dim).contains(index))
            {
                return wrong("an index is out of range");
            }
            if rows.clone().zip(rows.skip(1)).any(|(a, b)| a >= b) {
                return wrong("the indices do not ascend");
            }
        }
        _ => return wrong("the indices are neither a vector nor a matrix"),
    }
    Ok(())
}

fn read(indices: &proto::TensorProto) -> Option<Vec<i64>> {
    let count = indices
        .dims
        .iter()
        .try_fold(1i64, |product, dim| product.checked_mul(*dim))?;
    let values: Vec<i64> = match &indices.raw_data {
        Some(raw) if raw.len() % 8 == 0 => raw
            .chunks(8)
            .filter_map(|bytes| bytes.try_into().ok())
            .map(i64::from_le_bytes)
            .collect(),
        Some(_) => return None,
        None => indices.int64_data.clone(),
    };
    (indices.data_type == Some(7) && values.len() as i64 == count).then_some(values)
}
