//! Descriptions of values in examples: `float[2,3] > 0`, `constant int64[2] = {1, -1}`.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::ir::{DType, Dim, Shape, Tensor, TensorError, ValueType};

use super::random::Scale;

/// What the symbol of a freed dimension begins with.
const FREED: &str = "size";

/// A described value.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// `Some(true)` for `constant`, `Some(false)` for `input`.
    pub(super) constant: Option<bool>,
    pub(super) dtype: DType,
    pub(super) dims: Shape,
    pub(super) range: Range,
}

/// Which elements stand beside the random ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// None.
    Moderate,
    /// Ties, and numbers at which functions saturate.
    Saturating,
    /// Zeros of both signs and NaN.
    Undefined,
    /// Infinities, and all of the above.
    Infinite,
}

impl Kind {
    fn elements(self) -> &'static [f64] {
        match self {
            Self::Moderate => &[],
            Self::Saturating => &[20.0, 40.0, -1.0, -1.0, 0.0, 1.0, -40.0, 20.0],
            Self::Undefined => &[0.0, -0.0, f64::NAN, 1.0],
            Self::Infinite => &[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN],
        }
    }
}

/// Which elements the value has.
#[derive(Clone, Debug)]
pub(super) enum Range {
    /// Any of a moderate size.
    Free,
    /// Above a number.
    Above(f64),
    /// Below a number.
    Below(f64),
    /// Between two numbers, both included.
    Between(f64, f64),
    /// These, or one number everywhere.
    Exactly(Vec<f64>),
}

/// Why an example gives no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    /// The description cannot be read.
    #[error("`{text}`: {what}; write `float[2,3]`, `float[N] > 0`, `int64[2] = {{1, -1}}`")]
    Syntax { text: String, what: &'static str },
    /// The value is described by something else than a text.
    #[error("{name} is described by a text such as `float[2,3]`")]
    NoText { name: String },
    /// A symbol without a size.
    #[error("a dimension has no size")]
    NoSize,
    /// The elements do not fit the type or the dimensions.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Spec {
    /// Reads a description.
    pub(super) fn parse(text: &str) -> Result<Self, SpecError> {
        let wrong = |what: &'static str| SpecError::Syntax {
            text: text.to_owned(),
            what,
        };
        let mut rest = text.trim();
        let mut constant = None;
        for (word, value) in [("constant ", true), ("input ", false)] {
            if let Some(after) = rest.strip_prefix(word) {
                constant = Some(value);
                rest = after.trim_start();
            }
        }
        let name_end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let dtype = rest
            .get(..name_end)
            .and_then(DType::from_name)
            .ok_or_else(|| wrong("no element type"))?;
        rest = rest.get(name_end..).unwrap_or_default().trim_start();
        let mut dims = Shape::new();
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_once(']').ok_or_else(|| wrong("no `]`"))?;
            for dim in inside.split(',').map(str::trim).filter(|dim| !dim.is_empty()) {
                dims.push(
                    dim.parse::<u32>()
                        .map_or_else(|_| Dim::symbol(dim), |number| Dim::Fixed(i64::from(number))),
                );
            }
            rest = after.trim();
        }
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong("not a number"));
        let range = if rest.is_empty() {
            Range::Free
        } else if let Some(after) = rest.strip_prefix('>') {
            Range::Above(number(after)?)
        } else if let Some(after) = rest.strip_prefix('<') {
            Range::Below(number(after)?)
        } else if let Some(after) = rest.strip_prefix("in") {
            let inside = after
                .trim()
                .strip_prefix('[')
                .and_then(|t| t.strip_suffix(']'))
                .ok_or_else(|| wrong("no range"))?;
            let (low, high) = inside.split_once(',').ok_or_else(|| wrong("no range"))?;
            Range::Between(number(low)?, number(high)?)
        } else if let Some(after) = rest.strip_prefix('=') {
            match after.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                Some(list) => Range::Exactly(list.split(',').map(number).collect::<Result<_, _>>()?),
                None => Range::Exactly(vec![number(after)?]),
            }
        } else {
            return Err(wrong("not a condition"));
        };
        Ok(Self {
            constant,
            dtype,
            dims,
            range,
        })
    }

    pub(super) fn ty(&self) -> ValueType {
        ValueType::tensor(self.dtype, self.dims.clone())
    }

    /// The same with every dimension free: a symbol for each number.
    pub(super) fn freed(mut self) -> Self {
        for dim in &mut self.dims {
            if let Some(number) = dim.fixed() {
                *dim = Dim::symbol(format!("{FREED}{number}"));
            }
        }
        self
    }

    /// The same with other sizes.
    pub(super) fn scaled(mut self, scale: &Scale) -> Self {
        for dim in &mut self.dims {
            if let Some(number) = dim.fixed() {
                *dim = Dim::Fixed(scale.of(number));
            }
        }
        self
    }

    /// Gives the symbols of the shape that have none yet sizes of 1 to 6.
    pub(super) fn draw_sizes(&self, sizes: &mut BTreeMap<String, i64>, random: &mut ChaCha8Rng) {
        for dim in &self.dims {
            dim.for_each_symbol(&mut |symbol| {
                sizes
                    .entry(symbol.to_string())
                    .or_insert_with(|| 1 + i64::from(random.next_u32() % 6));
            });
        }
    }

    /// Gives the symbols of the shape their sizes: a freed dimension its number, others 2, 3 and so on.
    pub(super) fn name_sizes(&self, sizes: &mut BTreeMap<String, i64>) {
        for dim in &self.dims {
            dim.for_each_symbol(&mut |symbol| {
                let next = 2 + sizes.len() as i64;
                let number = symbol.strip_prefix(FREED).and_then(|number| number.parse().ok());
                sizes.entry(symbol.to_string()).or_insert(number.unwrap_or(next));
            });
        }
    }

    /// Whether the elements are given.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.range, Range::Exactly(_))
    }

    /// Random elements that fit, and special ones where anything fits.
    pub(super) fn tensor(
        &self,
        random: &mut ChaCha8Rng,
        sizes: &BTreeMap<String, i64>,
        kind: Kind,
    ) -> Result<Tensor, SpecError> {
        let dims: Option<Vec<u64>> = self
            .dims
            .iter()
            .map(|dim| {
                dim.evaluate(&|symbol| sizes.get(symbol).copied())
                    .and_then(|d| u64::try_from(d).ok())
            })
            .collect();
        let dims = dims.ok_or(SpecError::NoSize)?;
        let count = dims.iter().product::<u64>() as usize;
        let values: Vec<f64> = match &self.range {
            Range::Exactly(list) if list.len() == 1 => vec![list.first().copied().unwrap_or(0.0); count],
            Range::Exactly(list) => list.clone(),
            range => (0..count)
                .map(|index| element(range, self.dtype, index, kind, random))
                .collect(),
        };
        Ok(tensor_of(self.dtype, &dims, &values)?)
    }
}

fn element(range: &Range, dtype: DType, index: usize, kind: Kind, random: &mut ChaCha8Rng) -> f64 {
    let unit = f64::from(random.next_u32()) / f64::from(u32::MAX);
    if dtype == DType::Bool {
        return f64::from(u8::from(unit > 0.5));
    }
    let whole = !dtype.is_float();
    let specials = kind.elements();
    let value = match range {
        Range::Free if !specials.is_empty() && !whole && index.is_multiple_of(2) => {
            return specials.get(index / 2 % specials.len()).copied().unwrap_or(0.0);
        }
        Range::Free if dtype.is_unsigned_integer() => unit * 14.0,
        Range::Free if whole => unit * 14.0 - 7.0,
        Range::Free => unit * 5.0 - 2.5,
        Range::Above(low) => {
            low + if whole {
                1.0 + unit * 5.0
            } else {
                0.05 + unit * 2.0
            }
        }
        Range::Below(high) => {
            high - if whole {
                1.0 + unit * 5.0
            } else {
                0.05 + unit * 2.0
            }
        }
        Range::Between(low, high) => low + unit * (high - low),
        Range::Exactly(_) => 0.0,
    };
    if whole { value.round() } else { value }
}

/// Numbers as a tensor of any type that holds them.
pub(super) fn tensor_of(dtype: DType, dims: &[u64], values: &[f64]) -> Result<Tensor, TensorError> {
    match dtype {
        DType::Bool => Tensor::from_bools(dims, &values.iter().map(|v| *v != 0.0).collect::<Vec<_>>()),
        DType::I64 => Tensor::from_slice(dims, &values.iter().map(|v| *v as i64).collect::<Vec<_>>()),
        DType::I32 => Tensor::from_slice(dims, &values.iter().map(|v| *v as i32).collect::<Vec<_>>()),
        DType::I16 => Tensor::from_slice(dims, &values.iter().map(|v| *v as i16).collect::<Vec<_>>()),
        DType::I8 => Tensor::from_slice(dims, &values.iter().map(|v| *v as i8).collect::<Vec<_>>()),
        DType::U8 => Tensor::from_slice(dims, &values.iter().map(|v| *v as u8).collect::<Vec<_>>()),
        DType::U16 => Tensor::from_slice(dims, &values.iter().map(|v| *v as u16).collect::<Vec<_>>()),
        DType::U32 => Tensor::from_slice(dims, &values.iter().map(|v| *v as u32).collect::<Vec<_>>()),
        DType::U64 => Tensor::from_slice(dims, &values.iter().map(|v| *v as u64).collect::<Vec<_>>()),
        float => Tensor::from_f64(float, dims, values),
    }
}
