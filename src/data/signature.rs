//! What a model takes: the inputs that data has to fill.

use crate::ir::{DType, Dim, Graph, NodeKind, Shape};

/// What the ONNX specification denotes the type of a value with that holds images (`TypeProto.denotation`).
pub const IMAGE: &str = "IMAGE";

/// The inputs of a model, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Inputs without a default.
    pub inputs: Vec<InputSignature>,
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSignature {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Declared shape; `None` when the rank is unknown.
    pub shape: Option<Shape>,
    /// Whether its type is denoted as that of images.
    pub is_denoted_image: bool,
}

/// Whether the input of this name takes images as they are decoded: see [`InputSignature::takes_images`].
pub fn takes_images(graph: &Graph, name: &str) -> bool {
    let (signature, _) = Signature::of(graph);
    let mut inputs = signature.inputs.iter();
    inputs.any(|input| input.name == name && input.takes_images())
}

impl Signature {
    /// The inputs of a graph that a caller has to give. An input that is not a tensor, or of unknown element type, is left out and
    /// named in the second answer.
    pub fn of(graph: &Graph) -> (Self, Vec<String>) {
        let (mut inputs, mut other) = (Vec::new(), Vec::new());
        for id in graph.inputs() {
            let Some(node) = graph.get(*id) else { continue };
            let (NodeKind::Input(input), Some(value)) = (&node.kind, node.outputs().first()) else {
                continue;
            };
            if input.default.is_some() {
                continue;
            }
            match value.ty.dtype() {
                Some(dtype) => {
                    inputs.push(InputSignature {
                        name: value.name.to_string(),
                        dtype,
                        shape: value.ty.shape().cloned(),
                        is_denoted_image: input
                            .declared
                            .as_ref()
                            .and_then(|declared| declared.r#type.as_ref()?.denotation.as_deref())
                            == Some(IMAGE),
                    });
                }
                None => other.push(value.name.to_string()),
            }
        }
        (Self { inputs }, other)
    }

    /// The batch size that the model fixes: the first dimension of its first input of rank 1 or more, when that is a number.
    pub fn fixed_batch(&self) -> Option<u64> {
        let first = self
            .inputs
            .iter()
            .find_map(|input| input.shape.as_ref().filter(|s| !s.is_empty()))?
            .first()?;
        first.fixed().and_then(|size| u64::try_from(size).ok())
    }
}

impl InputSignature {
    /// The shape as messages show it.
    pub fn shape_text(&self) -> String {
        match &self.shape {
            None => "any shape".to_owned(),
            Some(shape) => {
                format!(
                    "[{}]",
                    shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
                )
            }
        }
    }

    /// Whether it takes images as they are decoded, and says so: `uint8 [N, H, W, 3]` denoted `IMAGE`, of any height and width.
    pub fn takes_images(&self) -> bool {
        self.is_denoted_image && self.could_take_images()
    }

    /// Whether it has the type of images as they are decoded: `uint8 [N, H, W, 3]` of any height and width.
    pub fn could_take_images(&self) -> bool {
        let Some([_, height, width, channels]) = self.shape.as_deref() else {
            return false;
        };
        let open = |dim: &Dim| dim.fixed().is_none();
        self.dtype == DType::U8 && open(height) && open(width) && channels.fixed() == Some(3)
    }

    /// Whether `dims` fit: the same rank, and the same size where the model says a number.
    pub fn fits(&self, dims: &[u64]) -> bool {
        self.shape.as_ref().is_none_or(|shape| {
            shape.len() == dims.len()
                && shape
                    .iter()
                    .zip(dims)
                    .all(|(want, have)| want.fixed().is_none_or(|size| u64::try_from(size) == Ok(*have)))
        })
    }
}
