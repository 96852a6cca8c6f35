//! `docs/operators.md`: what the code knows of each operator, out of the tables that the code itself asks.

use std::collections::{BTreeMap, BTreeSet};

use secateur::ir::DType;
use secateur::ops::{Schema, Traits, operator_names, schemas};
use secateur::{analysis, autodiff, axes, engine, fold, lower, passes};

/// Domain and type.
type Name = (&'static str, &'static str);

/// A table of the code, and how it is called on the page.
struct Concern {
    name: &'static str,
    /// What yes, not needed and missing mean.
    meaning: &'static str,
    known: BTreeSet<Name>,
    /// Whether an operator that the table lacks has no need of it.
    spared: fn(Name) -> bool,
}

const ONNX: &str = "";

fn named(names: impl IntoIterator<Item = &'static str>) -> BTreeSet<Name> {
    names.into_iter().map(|name| (ONNX, name)).collect()
}

fn newest((domain, op_type): Name) -> Option<&'static Schema> {
    schemas(domain, op_type).last()
}

/// Whether any input may be a tensor of floats.
fn reads_floats(name: Name) -> bool {
    newest(name).is_none_or(|schema| {
        schema.inputs.iter().any(|input| {
            let types = schema.type_set(input.ty);
            types.is_none_or(|types| {
                [DType::F32, DType::F64]
                    .iter()
                    .any(|dtype| types.has_dtype(*dtype))
            })
        })
    })
}

/// Whether the operator makes, reads or takes apart codes, which its name says.
fn is_quantized((_, op_type): Name) -> bool {
    ["QLinear", "QGemm", "Quantize", "quantize", "Integer", "NBits"]
        .iter()
        .any(|part| op_type.contains(part))
}

fn reads_nothing(name: Name) -> bool {
    newest(name).is_some_and(|schema| schema.inputs.is_empty())
}

fn runs((domain, op_type): Name) -> bool {
    let version = newest((domain, op_type)).map_or(1, |schema| schema.since);
    engine::tract_runs(domain, op_type, version)
}

fn never_folds(name: Name) -> bool {
    let bodies = |schema: &Schema| {
        schema
            .attributes
            .iter()
            .any(|attribute| attribute.kind.starts_with("graph"))
    };
    Traits::of(name.0, name.1).random || reads_nothing(name) || newest(name).is_some_and(bodies)
}

fn concerns() -> [Concern; 7] {
    let coverage = autodiff::coverage();
    [
        Concern {
            name: "shapes",
            meaning: "types and shapes of results are inferred; missing: they are as declared, or unknown",
            known: analysis::operators_with_shapes().into_iter().collect(),
            spared: |_| false,
        },
        Concern {
            name: "axes",
            meaning: "channels are pruned through it; not needed: it reads nothing; missing: it pins what it reads",
            known: axes::operators().into_iter().collect(),
            spared: reads_nothing,
        },
        Concern {
            name: "gradients",
            meaning: "gradients pass through it, or are 0 as it is piecewise constant; not needed: it reads no floats; missing: a \
                      gradient through it is refused",
            known: named(coverage.iter().map(|row| row.operator)),
            spared: |name| !reads_floats(name),
        },
        Concern {
            name: "lowering",
            meaning: "some form of it is rewritten for tract; not needed: tract runs it as it stands; missing: tract refuses it",
            known: lower::operators().into_iter().collect(),
            spared: runs,
        },
        Concern {
            name: "folding",
            meaning: "constants are computed by kernels of secateur's own; not needed: the engine computes them, or it is random, has \
                      bodies or reads nothing, and stays; missing: it stays although its inputs are constants",
            known: named(fold::operators()),
            spared: |name| never_folds(name) || runs(name) && !fold::is_refused(name.1),
        },
        Concern {
            name: "quantization",
            meaning: "some engine has it on codes, or its weight can be codes; not needed: it reads no floats, or is on codes already; \
                      missing: it runs in float",
            known: named(passes::quantized_operators())
                .into_iter()
                .chain(named(analysis::linear::WEIGHTED.iter().map(|(name, _)| *name)))
                .collect(),
            spared: |name| !reads_floats(name) || is_quantized(name),
        },
        Concern {
            name: "cost",
            meaning: "its multiply-accumulates are counted; not needed: they count as none; missing: the number of a model with it is \
                      not known",
            known: analysis::counted_operators().into_iter().collect(),
            spared: |(domain, op_type)| !analysis::is_uncounted(domain, op_type),
        },
    ]
}

/// Every operator of ONNX's table and of the tables of the concerns.
fn operators(concerns: &[Concern]) -> BTreeSet<Name> {
    let specified = operator_names().map(|name| match schemas(ONNX, name).is_empty() {
        true => ("ai.onnx.ml", name),
        false => (ONNX, name),
    });
    let known = concerns.iter().flat_map(|concern| concern.known.iter().copied());
    specified.chain(known).collect()
}

fn page() -> String {
    let concerns = concerns();
    let mut text = String::from(
        "# Operators\n\nWhat the code knows of each operator, out of its own tables. Generated; `UPDATE=1 cargo test` renews it.\n\n",
    );
    for concern in &concerns {
        text.push_str(&format!("- *{}*: {}.\n", concern.name, concern.meaning));
    }
    text.push_str(
        "\n*Opset* is the one that brought the newest form. What each engine makes of the specification's own tests is in \
         [engine-coverage.md](engine-coverage.md).\n",
    );
    let mut domains: BTreeMap<&str, Vec<Name>> = BTreeMap::new();
    for name in operators(&concerns) {
        domains.entry(name.0).or_default().push(name);
    }
    for (domain, names) in domains {
        let title = if domain.is_empty() { "ai.onnx" } else { domain };
        let heads: Vec<&str> = concerns.iter().map(|concern| concern.name).collect();
        text.push_str(&format!(
            "\n## {title}\n\n| operator | opset | {} |\n|---|---|{}\n",
            heads.join(" | "),
            "---|".repeat(heads.len())
        ));
        for name in names {
            let opset = match newest(name) {
                Some(schema) if schema.deprecated => format!("until {}", schema.since - 1),
                Some(schema) => schema.since.to_string(),
                None => String::new(),
            };
            let cells: Vec<&str> = concerns
                .iter()
                .map(|concern| match concern.known.contains(&name) {
                    true => "yes",
                    false if (concern.spared)(name) => "not needed",
                    false => "missing",
                })
                .collect();
            text.push_str(&format!("| {} | {opset} | {} |\n", name.1, cells.join(" | ")));
        }
    }
    text
}

#[test]
fn the_page_of_operators_is_up_to_date() {
    super::committed("docs/operators.md", &page());
}

#[test]
fn tables_know_no_operator_that_the_specification_lacks() {
    for concern in concerns() {
        assert!(
            concern.known.len() > 10,
            "{} knows {:?}",
            concern.name,
            concern.known
        );
        for (domain, op_type) in concern.known {
            let specified = matches!(domain, "" | "ai.onnx.ml");
            assert!(
                !specified || !schemas(domain, op_type).is_empty(),
                "{}: there is no operator {op_type} in {domain:?}",
                concern.name
            );
        }
    }
}

#[test]
fn the_committed_page_shows_every_operator_that_a_table_knows() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut domain, mut shown) = (String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            domain = if title == "ai.onnx" {
                String::new()
            } else {
                title.to_owned()
            };
        } else if let Some(row) = line.strip_prefix("| ") {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            shown.insert((domain.clone(), cells[0].to_owned()), cells[2..].join(","));
        }
    }
    for (column, concern) in concerns().iter().enumerate() {
        for (domain, op_type) in &concern.known {
            let row = shown.get(&((*domain).to_owned(), (*op_type).to_owned()));
            let cell = row.and_then(|cells| cells.split(',').nth(column));
            assert_eq!(cell, Some("yes"), "{}: {domain} {op_type}", concern.name);
        }
    }
}
