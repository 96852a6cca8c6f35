//! Element types that the runtime's safe interface does not carry, at the model's inputs and outputs.
//!
//! Such an input becomes one of a wider type followed by a Cast, and such an output a Cast to the wider type. Every value of the
//! narrow type is one of the wider type, so both ways are exact.

use std::collections::HashMap;

use super::failed;
use crate::engine::{EngineError, RunValue, carrier};
use crate::ir::{DType, TensorError};
use crate::proto;
use crate::proto::type_proto::Value as TypeValue;

/// The type that carries another one across the boundary; the interface itself carries bfloat16.
fn carrier(dtype: DType) -> Option<DType> {
    if dtype == DType::BF16 {
        None
    } else {
        carrier::carrier(dtype)
    }
}

/// Inputs and outputs that cross in another type, by name.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    inputs: HashMap<String, (String, DType)>,
    outputs: HashMap<String, (String, DType)>,
}

impl Crossings {
    /// Rewrites the interface of a model.
    pub(super) fn apply(model: &mut proto::ModelProto) -> Self {
        let mut crossings = Self::default();
        let Some(graph) = &mut model.graph else {
            return crossings;
        };
        let mut casts = Vec::new();
        for input in &mut graph.input {
            let Some((narrow, wide)) = tensor_type(input).and_then(|dtype| Some((dtype, carrier(dtype)?)))
            else {
                continue;
            };
            let name = input.name.clone().unwrap_or_default();
            // A default would have to be carried as well; the caller cannot override it then.
            if graph
                .initializer
                .iter()
                .any(|initializer| initializer.name.as_deref() == Some(name.as_str()))
            {
                continue;
            }
            let outside = format!("{name}/carrier");
            casts.push(cast(&outside, &name, narrow));
            set_type(input, outside.clone(), wide);
            crossings.inputs.insert(name, (outside, narrow));
        }
        graph.node.splice(0..0, casts);
        for output in &mut graph.output {
            let Some((narrow, wide)) = tensor_type(output).and_then(|dtype| Some((dtype, carrier(dtype)?)))
            else {
                continue;
            };
            let name = output.name.clone().unwrap_or_default();
            let outside = format!("{name}/carried");
            graph.node.push(cast(&name, &outside, wide));
            set_type(output, outside.clone(), wide);
            crossings.outputs.insert(outside, (name, narrow));
        }
        crossings
    }

    /// The name and value to feed for an input.
    pub(super) fn inward(&self, name: &str, value: &RunValue) -> Result<(String, RunValue), EngineError> {
        match (self.inputs.get(name), value) {
            (Some((outside, _)), RunValue::Tensor(tensor)) => Ok((
                outside.clone(),
                RunValue::Tensor(carrier::widen(tensor).map_err(wrong)?),
            )),
            _ => Ok((name.to_owned(), value.clone())),
        }
    }

    /// The name and value that an output of the runtime stands for.
    pub(super) fn outward(&self, name: &str, value: RunValue) -> Result<(String, RunValue), EngineError> {
        match (self.outputs.get(name), value) {
            (Some((inside, narrow)), RunValue::Tensor(tensor)) => Ok((
                inside.clone(),
                RunValue::Tensor(carrier::narrow(*narrow, &tensor).map_err(wrong)?),
            )),
            (_, value) => Ok((name.to_owned(), value)),
        }
    }
}

fn tensor_type(info: &proto::ValueInfoProto) -> Option<DType> {
    match info.r#type.as_ref()?.value.as_ref()? {
        TypeValue::TensorType(tensor) => DType::from_onnx(tensor.elem_type?),
        _ => None,
    }
}

fn set_type(info: &mut proto::ValueInfoProto, name: String, dtype: DType) {
    info.name = Some(name);
    if let Some(TypeValue::TensorType(tensor)) = info.r#type.as_mut().and_then(|ty| ty.value.as_mut()) {
        tensor.elem_type = Some(dtype.onnx());
    }
}

fn cast(from: &str, to: &str, dtype: DType) -> proto::NodeProto {
    let int = |name: &str, value: i64| proto::AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(2),
        i: Some(value),
        ..Default::default()
    };
    let mut attribute = vec![int("to", i64::from(dtype.onnx()))];
    // Values are in range but for infinities, which saturation would make finite.
    if matches!(
        dtype,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ
    ) {
        attribute.push(int("saturate", 0));
    }
    proto::NodeProto {
        op_type: Some("Cast".to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute,
        ..Default::default()
    }
}

fn wrong(error: TensorError) -> EngineError {
    failed(error.to_string())
}
