//! Classical models: domain `ai.onnx.ml`.

use super::super::call::{Call, Facts, Rule, product};
use super::elementwise::same_shape;
use crate::ir::{AttributeValue, DType, Dim, ValueType};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ArrayFeatureExtractor", extract),
    ("Binarizer", same_shape),
    ("CastMap", cast_map),
    ("CategoryMapper", |call, facts| {
        // Strings become integers and integers strings.
        let dtype = call.dtype(0)?;
        facts.dtype(
            0,
            Some(if dtype == DType::String {
                DType::I64
            } else {
                DType::String
            }),
        );
        same_shape(call, facts)
    }),
    ("DictVectorizer", |call, facts| {
        if let Some(ValueType::Map(_, value)) = call.ty(0) {
            facts.dtype(0, value.dtype());
        }
        let words =
            list_length(call, "string_vocabulary").or_else(|| list_length(call, "int64_vocabulary"))?;
        facts.shape(0, [Dim::Fixed(1), Dim::Fixed(words)]);
        Some(())
    }),
    ("FeatureVectorizer", |call, facts| {
        let sizes = call
            .ints("inputdimensions")
            .unwrap_or(&[])
            .iter()
            .copied()
            .map(Dim::Fixed);
        let width = sizes.reduce(|a, b| a.add(&b)).unwrap_or(Dim::Unknown);
        facts.shape(0, [samples(call), width]);
        Some(())
    }),
    ("Imputer", same_shape),
    ("LabelEncoder", label_encoder),
    ("LinearClassifier", classifier),
    ("LinearRegressor", |call, facts| {
        rows(call, facts, call.int_or("targets", 1))
    }),
    ("Normalizer", same_shape),
    ("OneHotEncoder", |call, facts| {
        let count = list_length(call, "cats_int64s").or_else(|| list_length(call, "cats_strings"))?;
        facts.shape(0, call.shape(0)?.iter().cloned().chain([Dim::Fixed(count)]));
        Some(())
    }),
    ("SVMClassifier", classifier),
    ("SVMRegressor", |call, facts| rows(call, facts, 1)),
    ("Scaler", same_shape),
    ("TreeEnsemble", |call, facts| {
        rows(call, facts, call.int_or("n_targets", 1))
    }),
    ("TreeEnsembleClassifier", classifier),
    ("TreeEnsembleRegressor", |call, facts| {
        rows(call, facts, call.int_or("n_targets", 1))
    }),
    ("ZipMap", zip_map),
];

fn list_length(call: &Call<'_>, name: &str) -> Option<i64> {
    match call.operator.attribute(name)? {
        AttributeValue::Ints(values) => Some(values.len() as i64),
        AttributeValue::Strings(values) => Some(values.len() as i64),
        AttributeValue::Floats(values) => Some(values.len() as i64),
        _ => None,
    }
}

/// Samples in `[N, F]`; a vector is one sample.
fn samples(call: &Call<'_>) -> Dim {
    match call.rank(0) {
        Some(1) => Dim::Fixed(1),
        _ => call.dim(0, 0),
    }
}

fn rows(call: &Call<'_>, facts: &mut Facts, width: i64) -> Option<()> {
    facts.shape(0, [samples(call), Dim::Fixed(width)]);
    Some(())
}

/// Labels `[N]` and scores `[N, classes]`. How many scores a model of two classes gives depends on its coefficients, so those
/// stay open.
fn classifier(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let texts = ["classlabels_strings"]
        .iter()
        .find_map(|name| list_length(call, name))
        .filter(|count| *count > 0);
    let numbers = ["classlabels_int64s", "classlabels_ints"]
        .iter()
        .find_map(|name| list_length(call, name))
        .filter(|c| *c > 0);
    facts.dtype(
        0,
        Some(if texts.is_some() {
            DType::String
        } else {
            DType::I64
        }),
    );
    let classes = texts
        .or(numbers)
        .filter(|count| *count > 2)
        .map_or(Dim::Unknown, Dim::Fixed);
    let scores = if call.operator.op_type == "SVMClassifier" {
        Dim::Unknown
    } else {
        classes
    };
    facts.shape(0, [samples(call)]);
    facts.shape(1, [samples(call), scores]);
    Some(())
}

fn zip_map(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let texts = list_length(call, "classlabels_strings").is_some_and(|count| count > 0);
    let key = if texts { DType::String } else { DType::I64 };
    let value = ValueType::tensor(DType::F32, Some([].into_iter().collect()));
    facts.whole(
        0,
        ValueType::Sequence(Box::new(ValueType::Map(key, Box::new(value)))),
    );
    Some(())
}

fn cast_map(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(
        0,
        match call.operator.string("cast_to").unwrap_or("TO_FLOAT") {
            "TO_FLOAT" => Some(DType::F32),
            "TO_STRING" => Some(DType::String),
            "TO_INT64" => Some(DType::I64),
            _ => None,
        },
    );
    let sparse = call.operator.string("map_form") == Some("SPARSE");
    facts.shape(
        0,
        [
            Dim::Fixed(1),
            if sparse {
                Dim::Fixed(call.int_or("max_map", 1))
            } else {
                Dim::Unknown
            },
        ],
    );
    Some(())
}

/// Columns by index: `[..., F]` to `[..., indices]`; a vector becomes one row.
fn extract(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    let (_, outer) = data.split_last()?;
    let count = product(indices);
    if outer.is_empty() {
        facts.shape(0, [Dim::Fixed(1), count]);
    } else {
        facts.shape(0, outer.iter().cloned().chain([count]));
    }
    Some(())
}

fn label_encoder(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let values = [
        ("values_strings", DType::String),
        ("values_int64s", DType::I64),
        ("values_floats", DType::F32),
    ];
    let listed = values
        .iter()
        .find(|(name, _)| list_length(call, name).is_some_and(|count| count > 0));
    let dtype = match (listed, call.operator.tensor("values_tensor")) {
        (Some((_, dtype)), _) => Some(*dtype),
        (None, Some(tensor)) => Some(tensor.dtype()),
        // Opset 1 maps strings to integers and back.
        (None, None) => call.dtype(0).map(|dtype| {
            if dtype == DType::String {
                DType::I64
            } else {
                DType::String
            }
        }),
    };
    facts.dtype(0, dtype);
    same_shape(call, facts)
}
