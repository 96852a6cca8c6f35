//! Element types that the runtime's safe interface does not carry, at the model's inputs and outputs.
//!
//! Such an input becomes one of a wider type followed by a Cast, and such an output a Cast to the wider type. Every value of the
//! narrow type is one of the wider type, so both ways are exact.

use std::collections::HashMap;

use super::failed;
use crate::engine::{EngineError, RunValue};
use crate::ir::{DType, Tensor, decode_minifloat, packed_bits};
use crate::proto;
use crate::proto::type_proto::Value as TypeValue;

/// The type that carries another one across the boundary.
pub(super) fn carrier(dtype: DType) -> Option<DType> {
    Some(match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F4E2M1
        | DType::F8E8M0 => DType::F32,
        _ => return None,
    })
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
        let Some(graph) = &mut model.graph else { return crossings };
        let mut casts = Vec::new();
        for input in &mut graph.input {
            let Some((narrow, wide)) = tensor_type(input).and_then(|dtype| Some((dtype, carrier(dtype)?))) else {
                continue;
            };
            let name = input.name.clone().unwrap_or_default();
            // A default would have to be carried as well; the caller cannot override it then.
            if graph.initializer.iter().any(|initializer| initializer.name.as_deref() == Some(name.as_str())) {
                continue;
            }
            let outside = format!("{name}/carrier");
            casts.push(cast(&outside, &name, narrow));
            set_type(input, outside.clone(), wide);
            crossings.inputs.insert(name, (outside, narrow));
        }
        graph.node.splice(0..0, casts);
        for output in &mut graph.output {
            let Some((narrow, wide)) = tensor_type(output).and_then(|dtype| Some((dtype, carrier(dtype)?))) else {
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
            (Some((outside, _)), RunValue::Tensor(tensor)) => Ok((outside.clone(), RunValue::Tensor(widen(tensor)?))),
            _ => Ok((name.to_owned(), value.clone())),
        }
    }

    /// The name and value that an output of the runtime stands for.
    pub(super) fn outward(&self, name: &str, value: RunValue) -> Result<(String, RunValue), EngineError> {
        match (self.outputs.get(name), value) {
            (Some((inside, narrow)), RunValue::Tensor(tensor)) => {
                Ok((inside.clone(), RunValue::Tensor(narrow_to(*narrow, &tensor)?)))
            }
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
    if matches!(dtype, DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ) {
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

fn widen(tensor: &Tensor) -> Result<Tensor, EngineError> {
    let wrong = |e: crate::ir::TensorError| failed(e.to_string());
    match carrier(tensor.dtype()) {
        Some(DType::I8) => {
            let values: Vec<i8> = tensor.to_i64().map_err(wrong)?.into_iter().map(|v| v as i8).collect();
            Tensor::from_slice(tensor.dims(), &values).map_err(wrong)
        }
        Some(DType::U8) => {
            let values: Vec<u8> = tensor.to_i64().map_err(wrong)?.into_iter().map(|v| v as u8).collect();
            Tensor::from_slice(tensor.dims(), &values).map_err(wrong)
        }
        Some(_) => Tensor::from_slice(tensor.dims(), &tensor.to_f32().map_err(wrong)?).map_err(wrong),
        None => Ok(tensor.clone()),
    }
}

fn narrow_to(dtype: DType, tensor: &Tensor) -> Result<Tensor, EngineError> {
    let wrong = |e: crate::ir::TensorError| failed(e.to_string());
    let bits = dtype.bits();
    let codes: Vec<u32> = if dtype.is_float() {
        let mut table: HashMap<u32, u32> = HashMap::new();
        for code in 0..1u32 << bits {
            let value = decode_minifloat(dtype, code) as f32;
            table.entry(if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).or_insert(code);
        }
        let code = |value: &f32| {
            let key = if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
            table.get(&key).copied().ok_or_else(|| failed(format!("{value} is no {dtype}")))
        };
        tensor.view::<f32>().map_err(wrong)?.iter().map(code).collect::<Result<_, _>>()?
    } else {
        tensor.to_i64().map_err(wrong)?.into_iter().map(|value| value as u32 & ((1 << bits) - 1)).collect()
    };
    let mut raw = vec![0u8; (codes.len() * bits).div_ceil(8)];
    for (index, code) in codes.iter().enumerate() {
        let at = index * bits;
        if let Some(byte) = raw.get_mut(at / 8) {
            *byte |= (code << (at % 8)) as u8;
        }
    }
    debug_assert!(codes.iter().enumerate().all(|(index, code)| packed_bits(&raw, bits, index) == *code));
    Tensor::from_raw(dtype, tensor.dims().iter().copied(), raw).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_there_and_back() {
        for dtype in [DType::I4, DType::U4, DType::I2, DType::U2, DType::F4E2M1, DType::F8E4M3FN, DType::F8E5M2FNUZ, DType::F8E8M0] {
            let bits = dtype.bits();
            let count = 1u64 << bits;
            let mut raw = vec![0u8; (count as usize * bits).div_ceil(8)];
            for code in 0..count as usize {
                raw[code * bits / 8] |= (code << (code * bits % 8)) as u8;
            }
            let tensor = Tensor::from_raw(dtype, [count], raw).unwrap();
            let back = narrow_to(dtype, &widen(&tensor).unwrap()).unwrap();
            let same = |(a, b): (&f64, &f64)| a == b && a.is_sign_negative() == b.is_sign_negative() || a.is_nan() && b.is_nan();
            assert!(tensor.to_f64().unwrap().iter().zip(&back.to_f64().unwrap()).all(same), "{dtype}");
        }
    }
}
