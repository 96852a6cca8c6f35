//! What runtimes take, as data: written from their documentation and from what they answer, with the source named in each file.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ir::DType;

/// One release of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// The runtime.
    pub(super) target: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// Opsets of ONNX's own domain that it takes, from and to.
    pub(super) opsets: (i64, i64),
    /// The newest IR version that it reads; `None` where it does not say.
    pub(super) ir_version: Option<i64>,
}

/// Every release, oldest first for each runtime.
pub(super) fn releases() -> &'static [Release] {
    static ROWS: LazyLock<Vec<Release>> =
        LazyLock::new(|| rows(include_str!("releases.tsv")).filter_map(release).collect());
    &ROWS
}

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split('\t').collect())
}

fn release(row: Vec<&'static str>) -> Option<Release> {
    let [target, version, first, last, ir] = row[..] else {
        return None;
    };
    Some(Release {
        target,
        version,
        opsets: (first.parse().ok()?, last.parse().ok()?),
        ir_version: ir.parse().ok(),
    })
}

/// The operators of ONNX's own domain that a runtime lists; `None` where the table does not have it.
pub(super) fn listed(target: &str) -> Option<&'static [&'static str]> {
    static LISTS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
        let lists = rows(include_str!("operators.tsv"));
        let list = |row: Vec<&'static str>| Some((*row.first()?, row.get(1)?.split(' ').collect()));
        lists.filter_map(list).collect()
    });
    LISTS.get(target).map(Vec::as_slice)
}

/// A form of an operator that a runtime refuses.
#[derive(Clone, Debug)]
pub(super) struct Restriction {
    /// The runtime.
    pub(super) target: &'static str,
    /// The operators.
    pub(super) operators: Vec<&'static str>,
    /// The attribute.
    pub(super) attribute: &'static str,
    /// Its values that are taken, as text or as a number.
    pub(super) taken: Vec<&'static str>,
    /// What the runtime says of others.
    pub(super) why: &'static str,
}

/// Every restriction.
pub(super) fn restrictions() -> &'static [Restriction] {
    static ROWS: LazyLock<Vec<Restriction>> = LazyLock::new(|| {
        let row = |row: Vec<&'static str>| {
            let [target, operators, attribute, taken, why] = row[..] else {
                return None;
            };
            Some(Restriction {
                target,
                operators: operators.split(' ').collect(),
                attribute,
                taken: taken.split(' ').collect(),
                why,
            })
        };
        rows(include_str!("attributes.tsv")).filter_map(row).collect()
    });
    &ROWS
}

/// A kernel of ONNX Runtime on the CPU.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The first version of the operator that it is for.
    pub(super) first: i64,
    /// The last one; `None` where it is for the first alone.
    pub(super) last: Option<i64>,
    /// Type variables or formal parameters, and the element types that they may be.
    pub(super) types: Vec<(&'static str, Vec<DType>)>,
}

/// What ONNX Runtime has for an operator.
#[derive(Clone, Debug, Default)]
pub(super) struct Kernels {
    /// The kernels.
    pub(super) kernels: Vec<Kernel>,
    /// The first version in which the operator is a function of others, where it is one.
    pub(super) function: Option<i64>,
}

/// What ONNX Runtime has for an operator of a domain.
pub(super) fn kernels(domain: &str, op_type: &str) -> Option<&'static Kernels> {
    type Index = HashMap<&'static str, HashMap<&'static str, Kernels>>;
    static KERNELS: LazyLock<Index> = LazyLock::new(|| {
        let mut index = Index::new();
        for row in rows(include_str!("ort.tsv")) {
            let [domain, op_type, first, last, types] = row[..] else {
                continue;
            };
            let Ok(first) = first.parse() else { continue };
            let entry = index.entry(domain).or_default().entry(op_type).or_default();
            if last == "function" {
                entry.function = Some(first);
                continue;
            }
            let named = types.split(';').filter_map(|part| part.split_once('='));
            entry.kernels.push(Kernel {
                first,
                last: last.parse().ok(),
                types: named
                    .map(|(name, list)| (name, list.split(' ').filter_map(DType::from_name).collect()))
                    .collect(),
            });
        }
        index
    });
    KERNELS.get(domain)?.get(op_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_table_is_read() {
        let lines = |table: &'static str| rows(table).count();
        assert_eq!(releases().len(), lines(include_str!("releases.tsv")));
        assert_eq!(restrictions().len(), lines(include_str!("attributes.tsv")));
        assert_eq!(lines(include_str!("operators.tsv")), 3);
        for target in ["tensorrt", "qnn", "webgpu"] {
            let list = listed(target).unwrap();
            assert!(list.len() > 70 && list.is_sorted(), "{target}");
        }
        assert!(kernels("", "Conv").is_some_and(|found| found.kernels.len() == 3));
        assert!(kernels("", "HardSwish").is_some_and(|found| found.function == Some(14)));
        assert!(kernels("", "ImageDecoder").is_none());
    }

    #[test]
    fn operators_and_attributes_of_the_tables_exist() {
        for target in ["tensorrt", "qnn", "webgpu"] {
            for op in listed(target).unwrap() {
                assert!(!crate::ops::schemas("", op).is_empty(), "{target}: {op}");
            }
        }
        for row in restrictions() {
            assert!(releases().iter().any(|known| known.target == row.target));
            for op in &row.operators {
                let known = crate::ops::schemas("", op);
                assert!(
                    known
                        .iter()
                        .any(|schema| schema.attribute(row.attribute).is_some()),
                    "{op} has no {}",
                    row.attribute
                );
            }
        }
    }
}
