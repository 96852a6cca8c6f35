//! Named tensors of a weight file: safetensors or an npz archive.

use std::fs::File;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use super::error::DataError;
use super::foreign;
use super::npz::{ArrayFile, array_names};
use crate::format::file_bytes;
use crate::ir::{DType, Tensor};

/// The tensors of a `.safetensors`, `.npz` or `.npy` file, by name in ascending order. Those of a safetensors file are
/// slices of the mapped file, those of an archive are read one by one.
pub fn read_weights(path: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("safetensors") => safetensors(path),
        Some("npz" | "npy") => array_names(path)?
            .into_iter()
            .map(|name| {
                let file = ArrayFile::open(path, &name)?;
                let array = file.read(0, file.dims.first().copied().unwrap_or(1))?;
                let tensor = array
                    .tensor()
                    .map_err(|error| wrong(path, format!("array {name:?}: {error}")))?;
                Ok((name, tensor))
            })
            .collect(),
        _ => Err(wrong(
            path,
            foreign::described(path, "weights are read from .safetensors, .npz and .npy files"),
        )),
    }
}

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::Read {
        file: path.to_owned(),
        reason,
    }
}

fn safetensors(path: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
    let failed = |error: std::io::Error| wrong(path, error.to_string());
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let bytes = file_bytes(file, size).map_err(failed)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| wrong(path, foreign::described(path, &error.to_string())))?;
    let mut read = Vec::with_capacity(tensors.len());
    for (name, view) in tensors.iter() {
        let dtype = dtype(view.dtype()).ok_or_else(|| {
            wrong(
                path,
                format!("tensor {name:?}: ONNX has no element type {:?}", view.dtype()),
            )
        })?;
        let dims: Vec<u64> = view.shape().iter().map(|size| *size as u64).collect();
        let tensor = Tensor::from_raw(dtype, dims, bytes.slice_ref(view.data()))
            .map_err(|error| wrong(path, format!("tensor {name:?}: {error}")))?;
        read.push((name.to_owned(), tensor));
    }
    read.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(read)
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F8_E4M3 => DType::F8E4M3FN,
        Dtype::F8_E5M2 => DType::F8E5M2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::write_npz;

    #[test]
    fn both_containers_give_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let a = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let b = Tensor::scalar(7i64);
        let npz = folder.path().join("w.npz");
        write_npz(&npz, [("b", &b), ("a", &a)]).unwrap();
        let raw = [a.raw_bytes().unwrap(), b.raw_bytes().unwrap()];
        let views = [
            ("b", Dtype::I64, vec![], &raw[1]),
            ("a", Dtype::F32, vec![2, 3], &raw[0]),
        ]
        .map(|(name, dtype, dims, bytes)| {
            (
                name,
                safetensors::tensor::TensorView::new(dtype, dims, bytes).unwrap(),
            )
        });
        let packed = folder.path().join("w.safetensors");
        safetensors::serialize_to_file(views, None, &packed).unwrap();
        for path in [npz, packed] {
            let read = read_weights(&path).unwrap();
            assert_eq!(
                read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
                ["a", "b"]
            );
            assert!(
                read[0].1.same_as(&a) && read[1].1.same_as(&b),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, b"\x10\0\0\0\0\0\0\0{").unwrap();
        assert!(
            read_weights(&path)
                .unwrap_err()
                .to_string()
                .contains("w.safetensors")
        );
        let other = read_weights(&folder.path().join("w.bin")).unwrap_err();
        assert!(other.to_string().contains("safetensors"));
    }
}
