//! Protobuf messages to bytes.

use bytes::Bytes;
use prost::Message as _;

use super::rope::Rope;
use crate::proto;

/// The bytes of a model, in pieces that share its tensors.
pub fn encode(model: &proto::ModelProto) -> Rope {
    let mut rope = Rope::new();
    model.encode_raw(&mut rope);
    rope
}

/// The bytes of a model in one buffer; for small models and tests.
pub fn encode_to_bytes(model: &proto::ModelProto) -> Bytes {
    Bytes::from(model.encode_to_vec())
}
