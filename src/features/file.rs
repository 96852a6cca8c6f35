//! Features in an npz file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{FeatureError, Stage};
use crate::data::{Dataset, NpzStream};
use crate::ir::DType;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Samples.
    pub samples: u64,
    /// Features of each.
    pub width: u64,
    /// Whether there are labels.
    pub labelled: bool,
}

/// Labels on their way through a temporary file: they come with the features and are written behind them.
struct Labels {
    file: BufWriter<File>,
    dtype: DType,
    rest: Vec<u64>,
}

/// Streams the features of the data's shard into an npz file with the array `features` `[N, D]` (float32) and, where the data has
/// labels, `labels` as the data has them. The file appears when it is complete.
///
/// # Errors
/// When a run fails or the file cannot be written.
pub fn write_features(
    stage: &Stage<'_>,
    data: &Dataset,
    jobs: usize,
    path: &Path,
    progress: &dyn Fn(u64),
) -> Result<Written, FeatureError> {
    let failed = |source: io::Error| FeatureError::Write {
        file: path.display().to_string(),
        source,
    };
    let range = data.sample_range();
    let samples = range.end - range.start;
    let mut stream = NpzStream::create(path).map_err(failed)?;
    let mut labels: Option<Labels> = None;
    let mut width = None;
    let mut done = 0;
    stage.run(data, jobs, |block| {
        if width.is_none() {
            width = Some(block.rows.ncols() as u64);
            stream
                .start("features", DType::F32, &[samples, block.rows.ncols() as u64])
                .map_err(failed)?;
        }
        let rows = block.rows.as_standard_layout();
        stream
            .write(bytemuck::cast_slice(rows.as_slice().unwrap_or_default()))
            .map_err(failed)?;
        if let Some(tensor) = &block.labels {
            let rest = tensor.dims().get(1..).unwrap_or_default();
            let kept = match &mut labels {
                Some(kept) => kept,
                None => labels.insert(Labels {
                    file: BufWriter::new(tempfile::tempfile()?),
                    dtype: tensor.dtype(),
                    rest: rest.to_vec(),
                }),
            };
            let raw = tensor.raw().map_err(|source| FeatureError::Tensor {
                value: "labels".to_owned(),
                source,
            })?;
            kept.file.write_all(&raw)?;
        }
        done += block.rows.nrows() as u64;
        progress(done);
        Ok(())
    })?;
    let labelled = labels.is_some();
    if let Some(labels) = labels {
        let mut file = labels.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let dims: Vec<u64> = [samples].into_iter().chain(labels.rest).collect();
        stream.start("labels", labels.dtype, &dims).map_err(failed)?;
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            stream
                .write(buffer.get(..count).unwrap_or_default())
                .map_err(failed)?;
        }
    }
    stream.finish().map_err(failed)?;
    Ok(Written {
        samples,
        width: width.unwrap_or(0),
        labelled,
    })
}
