//! Which types a schema's type variables may stand for, read from the table `types.tsv`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::schema::Schema;
use crate::ir::{DType, ValueType};

/// The table: facts of the specification, one row an operator version.
const TABLE: &str = include_str!("types.tsv");

/// A set of types: element types of dense tensors, and whole kinds beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSet {
    /// Bit `n` stands for the element type with ONNX number `n`.
    tensors: u64,
    sequences: bool,
    optionals: bool,
    maps: bool,
    sparse: bool,
}

impl TypeSet {
    /// The set that a formal parameter without a type variable names, such as `tensor(int64)`.
    pub fn of_literal(text: &str) -> Option<Self> {
        let mut set = Self::default();
        match text
            .strip_prefix("tensor(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            Some(name) => set.add_dtype(DType::from_name(name)?),
            None => set.add_kind(text.split('(').next()?)?,
        }
        Some(set)
    }

    fn add_dtype(&mut self, dtype: DType) {
        self.tensors |= 1 << dtype.onnx();
    }

    fn add_kind(&mut self, kind: &str) -> Option<()> {
        match kind {
            "seq" => self.sequences = true,
            "optional" => self.optionals = true,
            "map" => self.maps = true,
            "sparse" => self.sparse = true,
            _ => return None,
        }
        Some(())
    }

    fn parse(text: &str) -> Self {
        let mut set = Self::default();
        for word in text.split(' ') {
            match DType::from_name(word) {
                Some(dtype) => set.add_dtype(dtype),
                None => {
                    set.add_kind(word);
                }
            }
        }
        set
    }

    /// Whether a dense tensor of this element type is in the set.
    pub fn has_dtype(&self, dtype: DType) -> bool {
        self.tensors & (1 << dtype.onnx()) != 0
    }

    /// The element type, when the set has dense tensors of one element type and nothing else.
    pub fn only_dtype(&self) -> Option<DType> {
        let tensors_only = !(self.sequences || self.optionals || self.maps || self.sparse);
        if tensors_only && self.tensors.count_ones() == 1 {
            DType::from_onnx(self.tensors.trailing_zeros() as i32)
        } else {
            None
        }
    }

    /// Whether a value of this type may be in the set, as far as the type is known.
    pub fn admits(&self, ty: &ValueType) -> bool {
        match ty {
            ValueType::Unknown | ValueType::Opaque => true,
            ValueType::Tensor(tensor) => match tensor.dtype {
                Some(dtype) => self.has_dtype(dtype),
                None => self.tensors != 0,
            },
            ValueType::Sparse(_) => self.sparse,
            ValueType::Sequence(_) => self.sequences,
            ValueType::Optional(_) => self.optionals,
            ValueType::Map(..) => self.maps,
        }
    }
}

type Variables = Vec<(&'static str, TypeSet)>;

static INDEX: LazyLock<HashMap<(&'static str, &'static str, i64), Variables>> = LazyLock::new(|| {
    let mut classes: HashMap<&'static str, TypeSet> = HashMap::new();
    let mut index = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&'static str> = line.split('\t').collect();
        match fields.as_slice() {
            ["=", name, types] => {
                classes.insert(name, TypeSet::parse(types));
            }
            [domain, op_type, since, variables] => {
                let Ok(since) = since.parse::<i64>() else { continue };
                let variables = variables
                    .split(' ')
                    .filter_map(|item| item.split_once('='))
                    .filter_map(|(variable, class)| Some((variable, *classes.get(class)?)))
                    .collect();
                index.insert((*domain, *op_type, since), variables);
            }
            _ => {}
        }
    }
    index
});

impl Schema {
    /// What the type `ty` of a formal parameter, a type variable or a type, may stand for.
    pub fn type_set(&self, ty: &str) -> Option<TypeSet> {
        if ty.ends_with(')') {
            return TypeSet::of_literal(ty);
        }
        let variables = INDEX.get(&(self.domain, self.op_type, self.since))?;
        variables
            .iter()
            .find(|(variable, _)| *variable == ty)
            .map(|(_, set)| *set)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{schema, schemas};
    use super::*;

    #[test]
    fn every_type_variable_of_every_schema_has_a_set() {
        let names: std::collections::BTreeSet<_> = TABLE
            .lines()
            .filter(|line| !line.starts_with(['#', '=']))
            .filter_map(|line| {
                line.split_once('\t')
                    .map(|(domain, rest)| (domain, rest.split('\t').next().unwrap_or("")))
            })
            .collect();
        assert!(names.len() > 200);
        for (domain, op_type) in names {
            for schema in schemas(domain, op_type) {
                for parameter in schema.inputs.iter().chain(&schema.outputs) {
                    assert!(
                        schema.type_set(parameter.ty).is_some(),
                        "{op_type} {} {}",
                        schema.since,
                        parameter.ty
                    );
                }
            }
        }
    }

    #[test]
    fn sets_say_which_types_are_allowed() {
        let not = schema("", "Not", 13).unwrap().type_set("T").unwrap();
        assert_eq!(not.only_dtype(), Some(DType::Bool));
        assert!(!not.admits(&ValueType::tensor(DType::F32, None)));
        let identity = schema("", "Identity", 16).unwrap().type_set("V").unwrap();
        assert!(identity.admits(&ValueType::Sequence(Box::default())) && identity.has_dtype(DType::F32));
    }
}
