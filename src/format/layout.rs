//! Which tensors of a changed model go to an external data file, and where in it.

use bytes::Bytes;
use indexmap::IndexMap;
use prost::Message as _;

use super::error::FormatError;
use super::external::{self, ExternalFiles};
use super::tensors::{self, Role};
use crate::proto;
use crate::proto::tensor_proto::DataLocation;

/// Tensors of this size on start at a page, so that a runtime can map them; smaller ones start at a cache line.
const PAGE_ALIGNED_FROM: u64 = 1 << 20;
const PAGE: u64 = 4096;
const LINE: u64 = 64;
static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// When tensors leave the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// The largest model file in bytes.
    pub(super) largest_message: u64,
    /// The smallest tensor in bytes that goes to the data file.
    pub(super) smallest_tensor: u64,
}

/// The content of a data file.
#[derive(Debug, Default)]
pub(super) struct DataFile {
    /// The content in order, padding included.
    pub(super) pieces: Vec<Bytes>,
    length: u64,
    placed: IndexMap<(usize, usize), u64>,
}

impl DataFile {
    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.length
    }

    /// Itself, where there is anything in it.
    pub(super) fn filled(self) -> Option<Self> {
        Some(self).filter(|data| !data.pieces.is_empty())
    }

    /// Adds a tensor and returns its offset; one that shares its bytes with an earlier one is not written twice.
    pub(super) fn place(&mut self, bytes: &Bytes) -> u64 {
        let key = (bytes.as_ptr() as usize, bytes.len());
        if let Some(offset) = self.placed.get(&key) {
            return *offset;
        }
        let size = bytes.len() as u64;
        let offset = self
            .length
            .next_multiple_of(if size >= PAGE_ALIGNED_FROM { PAGE } else { LINE });
        let padding = (offset - self.length) as usize;
        if let Some(zeros) = ZEROS.get(..padding).filter(|zeros| !zeros.is_empty()) {
            self.pieces.push(Bytes::from_static(zeros));
        }
        self.pieces.push(bytes.clone());
        self.length = offset + size;
        self.placed.insert(key, offset);
        offset
    }
}

/// Takes the bytes of every external tensor into the message; nothing is copied. Says whether there was any.
pub(super) fn inline(model: &mut proto::ModelProto, files: &ExternalFiles) -> Result<bool, FormatError> {
    let mut found = false;
    tensors::visit_mut(model, &mut |tensor, _| {
        let bytes = files.tensor(tensor).map_err(|problem| {
            external::failure(tensor, &tensors::Place::root("a tensor without a name"), problem)
        })?;
        if let Some(bytes) = bytes {
            tensor.raw_data = Some(bytes);
            tensor.data_location = None;
            tensor.external_data.clear();
            found = true;
        }
        Ok::<_, FormatError>(())
    })?;
    Ok(found)
}

/// Moves tensors of a model that carries all its data to a data file, if the model is larger than one message may be or
/// `wanted`. The tensors name the data file `name`, which has its final length. `None` when nothing moves.
pub(super) fn externalize(
    model: &mut proto::ModelProto,
    wanted: bool,
    policy: Policy,
    name: &str,
) -> Result<Option<DataFile>, FormatError> {
    if !wanted && encoded_len(model) <= policy.largest_message {
        return Ok(None);
    }
    let mut data = DataFile::default();
    for roles in [&[Role::Initializer][..], &[Role::Initializer, Role::Other]] {
        tensors::visit_mut(model, &mut |tensor, role| {
            if roles.contains(&role)
                && let Some(bytes) = tensor
                    .raw_data
                    .take_if(|b| !b.is_empty() && b.len() as u64 >= policy.smallest_tensor)
            {
                let offset = data.place(&bytes);
                tensor.data_location = Some(DataLocation::External as i32);
                tensor.external_data = entries(name, offset, bytes.len());
            }
            Ok::<_, FormatError>(())
        })?;
        // Runtimes expect external data of initializers; attributes follow only if the message needs it.
        if encoded_len(model) <= policy.largest_message {
            return Ok(data.filled());
        }
    }
    Err(FormatError::ModelTooLarge {
        bytes: encoded_len(model),
        limit: policy.largest_message,
    })
}

/// Gives every tensor that names the data file `old` the name `new`.
pub(super) fn rename_data(model: &mut proto::ModelProto, old: &str, new: &str) {
    let Ok(()) = tensors::visit_mut(model, &mut |tensor, _| {
        for entry in &mut tensor.external_data {
            if entry.key.as_deref() == Some("location") && entry.value.as_deref() == Some(old) {
                entry.value = Some(new.to_owned());
            }
        }
        Ok::<_, std::convert::Infallible>(())
    });
}

/// Size of the model as one message.
pub(super) fn encoded_len(model: &proto::ModelProto) -> u64 {
    model.encoded_len() as u64
}

/// The entries of a tensor that lies in a data file.
pub(super) fn entries(name: &str, offset: u64, length: usize) -> Vec<proto::StringStringEntryProto> {
    [
        ("location", name.to_owned()),
        ("offset", offset.to_string()),
        ("length", length.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| proto::StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(sizes: &[usize]) -> proto::ModelProto {
        let initializer = sizes
            .iter()
            .map(|size| proto::TensorProto {
                dims: vec![*size as i64],
                data_type: Some(2),
                raw_data: Some(vec![7u8; *size].into()),
                ..Default::default()
            })
            .collect();
        let constant = proto::AttributeProto {
            t: Some(proto::TensorProto {
                raw_data: Some(vec![9u8; 5000].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let node = vec![proto::NodeProto {
            attribute: vec![constant],
            ..Default::default()
        }];
        let graph = proto::GraphProto {
            initializer,
            node,
            ..Default::default()
        };
        proto::ModelProto {
            graph: Some(graph),
            ..Default::default()
        }
    }

    fn offsets(model: &proto::ModelProto) -> Vec<Option<String>> {
        let tensors = &model.graph.as_ref().unwrap().initializer;
        tensors
            .iter()
            .map(|t| t.external_data.get(1).and_then(|entry| entry.value.clone()))
            .collect()
    }

    const POLICY: Policy = Policy {
        largest_message: 8000,
        smallest_tensor: 1024,
    };

    #[test]
    fn a_small_model_keeps_its_data_unless_told() {
        let mut small = model(&[1024]);
        assert!(externalize(&mut small, false, POLICY, "x").unwrap().is_none());
        assert_eq!(offsets(&small), [None]);
        assert_eq!(
            externalize(&mut small, true, POLICY, "x")
                .unwrap()
                .unwrap()
                .length,
            1024
        );
        assert_eq!(offsets(&small), [Some("0".to_owned())]);
    }

    #[test]
    fn a_large_model_moves_initializers_aligned_and_keeps_small_ones_and_attributes() {
        let mut large = model(&[2000, 100, 3000, 1 << 20]);
        let data = externalize(&mut large, false, POLICY, "x").unwrap().unwrap();
        assert_eq!(
            offsets(&large),
            [Some("0".into()), None, Some("2048".into()), Some("8192".into())]
        );
        assert_eq!(
            data.pieces.iter().map(Bytes::len).sum::<usize>() as u64,
            8192 + (1 << 20)
        );
        assert!(
            large.graph.unwrap().node[0].attribute[0]
                .t
                .as_ref()
                .unwrap()
                .raw_data
                .is_some()
        );
    }

    #[test]
    fn attributes_move_only_when_they_must_and_an_error_says_when_that_is_not_enough() {
        let tight = Policy {
            largest_message: 4000,
            ..POLICY
        };
        let mut large = model(&[2000]);
        let data = externalize(&mut large, false, tight, "x").unwrap().unwrap();
        assert_eq!(data.length, 2048 + 5000);
        let tiny = Policy {
            largest_message: 40,
            ..POLICY
        };
        assert_eq!(
            externalize(&mut model(&[2000]), false, tiny, "x")
                .unwrap_err()
                .code(),
            "model-too-large"
        );
    }

    #[test]
    fn shared_bytes_are_written_once() {
        let mut twice = model(&[2000, 2000]);
        let graph = twice.graph.as_mut().unwrap();
        graph.initializer[1].raw_data = graph.initializer[0].raw_data.clone();
        assert_eq!(
            externalize(&mut twice, true, POLICY, "x")
                .unwrap()
                .unwrap()
                .length,
            2000
        );
        assert_eq!(offsets(&twice), [Some("0".to_owned()), Some("0".to_owned())]);
    }
}
