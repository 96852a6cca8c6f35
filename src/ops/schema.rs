//! Schemas of ONNX's own operators (`ai.onnx`, `ai.onnx.ml`), every version, read from the table `onnx.tsv`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The table: facts of the specification, one row an operator version.
const TABLE: &str = include_str!("onnx.tsv");

/// One version of an operator.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Domain; empty for ONNX's own.
    pub domain: &'static str,
    /// Operator type.
    pub op_type: &'static str,
    /// First opset version that has this form.
    pub since: i64,
    /// Whether the operator may no longer be used from this version on.
    pub deprecated: bool,
    /// Fewest and most input slots.
    pub inputs_range: (usize, usize),
    /// Fewest and most outputs.
    pub outputs_range: (usize, usize),
    /// Formal inputs.
    pub inputs: Vec<Parameter>,
    /// Formal outputs.
    pub outputs: Vec<Parameter>,
    /// Attributes, by name.
    pub attributes: Vec<AttributeSchema>,
}

/// A formal input or output.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name in the specification.
    pub name: &'static str,
    /// Type variable (`T`) or type (`tensor(int64)`).
    pub ty: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether it takes all remaining slots.
    pub variadic: bool,
    /// Whether the slots of a variadic parameter have one type.
    pub homogeneous: bool,
}

/// A formal attribute.
#[derive(Clone, Debug)]
pub struct AttributeSchema {
    /// Name.
    pub name: &'static str,
    /// Kind: `int`, `floats`, `tensor`, `graph` ...
    pub kind: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Value when it is left out.
    pub default: Option<AttributeDefault>,
}

/// A default value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum AttributeDefault {
    Int(i64),
    Float(f32),
    String(&'static str),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<&'static str>),
}

/// Properties that hold for every version of an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// The first two operands may be swapped, bit for bit.
    pub commutative: bool,
    /// Two runs on the same inputs may differ: never folded, never merged.
    pub random: bool,
    /// Each output element depends on one element of the one tensor input at the same place.
    pub elementwise_unary: bool,
    /// Each output element depends on one element of each input, after broadcasting.
    pub elementwise_broadcast: bool,
}

const COMMUTATIVE: &[&str] = &[
    "Add",
    "Mul",
    "And",
    "Or",
    "Xor",
    "Equal",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
];
const RANDOM: &[&str] = &[
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
];
const UNARY: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];
const BROADCAST: &[&str] = &[
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

impl Traits {
    /// The properties of an operator of ONNX's own domain; all `false` for one that is not known.
    pub fn of(domain: &str, op_type: &str) -> Self {
        if !domain.is_empty() {
            return Self::default();
        }
        Self {
            commutative: COMMUTATIVE.contains(&op_type),
            random: RANDOM.contains(&op_type),
            elementwise_unary: UNARY.contains(&op_type),
            elementwise_broadcast: BROADCAST.contains(&op_type),
        }
    }
}

impl Schema {
    /// The attribute with this name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeSchema> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The formal input of an input slot; a variadic one takes all slots from its own on.
    pub fn input(&self, slot: usize) -> Option<&Parameter> {
        self.inputs
            .get(slot)
            .or_else(|| self.inputs.last().filter(|p| p.variadic))
    }

    /// The formal output of an output slot.
    pub fn output(&self, slot: usize) -> Option<&Parameter> {
        self.outputs
            .get(slot)
            .or_else(|| self.outputs.last().filter(|p| p.variadic))
    }

    /// The slot of the formal input with this name.
    pub fn input_slot(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|p| p.name == name)
    }
}

/// Versions by operator type, oldest first; the two domains share no operator type that would mix (tested).
type Index = HashMap<&'static str, Vec<Schema>>;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index::new();
    for schema in TABLE.lines().filter_map(parse_row) {
        index.entry(schema.op_type).or_default().push(schema);
    }
    for versions in index.values_mut() {
        versions.sort_by_key(|schema| schema.since);
    }
    index
});

/// The form of an operator that holds in opset `version` of its domain; `None` for an operator that is not ONNX's own or
/// newer than that.
pub fn schema(domain: &str, op_type: &str, version: i64) -> Option<&'static Schema> {
    schemas(domain, op_type)
        .iter()
        .rev()
        .find(|schema| schema.since <= version)
}

/// Every version of an operator, oldest first.
pub fn schemas(domain: &str, op_type: &str) -> &'static [Schema] {
    match INDEX.get(op_type) {
        Some(versions) if versions.first().is_some_and(|first| first.domain == domain) => versions,
        _ => &[],
    }
}

/// The types of all operators of the table, in no particular order.
pub fn operator_names() -> impl Iterator<Item = &'static str> {
    INDEX.keys().copied()
}

fn parse_row(line: &'static str) -> Option<Schema> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (domain, op_type) = (next()?, next()?);
    let since = next()?.parse().ok()?;
    let deprecated = next()? == "deprecated";
    let mut number = || next()?.parse::<usize>().ok();
    let inputs_range = (number()?, number()?);
    let outputs_range = (number()?, number()?);
    let inputs = parse_parameters(fields.next()?);
    let outputs = parse_parameters(fields.next()?);
    let attributes = fields
        .next()?
        .split(' ')
        .filter(|a| *a != "-")
        .filter_map(parse_attribute)
        .collect();
    Some(Schema {
        domain,
        op_type,
        since,
        deprecated,
        inputs_range,
        outputs_range,
        inputs,
        outputs,
        attributes,
    })
}

fn parse_parameters(text: &'static str) -> Vec<Parameter> {
    if text == "-" {
        return Vec::new();
    }
    // Types such as `map(string, float)` hold no comma in this table, so commas only separate parameters.
    text.split(',')
        .filter_map(|item| {
            let (name, ty) = item.split_once(':')?;
            let homogeneous = !name.ends_with('~');
            let name = name.trim_end_matches('~');
            let (optional, variadic) = (name.ends_with('?'), name.ends_with('*'));
            Some(Parameter {
                name: name.trim_end_matches(['?', '*']),
                ty,
                optional,
                variadic,
                homogeneous,
            })
        })
        .collect()
}

fn parse_attribute(text: &'static str) -> Option<AttributeSchema> {
    let (name, rest) = text.split_once(':')?;
    let (kind, default) = match rest.split_once('=') {
        Some((kind, value)) => (kind, parse_default(kind, value)),
        None => (rest, None),
    };
    Some(AttributeSchema {
        name: name.trim_end_matches('!'),
        kind,
        required: name.ends_with('!'),
        default,
    })
}

fn parse_default(kind: &str, value: &'static str) -> Option<AttributeDefault> {
    let list = || {
        value
            .trim_matches(['[', ']'])
            .split(',')
            .filter(|item| !item.is_empty())
    };
    Some(match kind {
        "int" => AttributeDefault::Int(value.parse().ok()?),
        "float" => AttributeDefault::Float(value.parse().ok()?),
        "string" => AttributeDefault::String(value.trim_matches('"')),
        "ints" => AttributeDefault::Ints(list().map(|v| v.parse().ok()).collect::<Option<_>>()?),
        "floats" => AttributeDefault::Floats(list().map(|v| v.parse().ok()).collect::<Option<_>>()?),
        "strings" => AttributeDefault::Strings(list().map(|v| v.trim_matches('"')).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_parses() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(INDEX.values().map(Vec::len).sum::<usize>(), rows);
        for versions in INDEX.values() {
            assert!(
                versions.windows(2).all(|pair| pair[0].domain == pair[1].domain),
                "{}",
                versions[0].op_type
            );
        }
        for schema in INDEX.values().flatten() {
            for attribute in &schema.attributes {
                assert!(
                    !attribute.kind.is_empty() && !attribute.name.is_empty(),
                    "{}",
                    schema.op_type
                );
            }
        }
    }

    #[test]
    fn the_version_in_force_is_the_newest_not_above_the_opset() {
        assert_eq!(schema("", "Clip", 10).map(|s| s.since), Some(6));
        assert_eq!(schema("", "Clip", 11).map(|s| s.since), Some(11));
        assert!(schema("", "Gelu", 19).is_none());
        let batch_norm = schema("", "BatchNormalization", 17).unwrap();
        assert_eq!(
            batch_norm.attribute("epsilon").unwrap().default,
            Some(AttributeDefault::Float(1e-5))
        );
        assert_eq!(batch_norm.outputs_range, (1, 3));
    }

    #[test]
    fn trait_lists_name_operators_of_the_table() {
        for name in COMMUTATIVE.iter().chain(RANDOM).chain(UNARY).chain(BROADCAST) {
            assert!(!schemas("", name).is_empty(), "{name}");
        }
    }
}
