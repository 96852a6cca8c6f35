//! What each operator does to types and shapes, one file an operator family; this file is the dispatch table.
//!
//! A rule sets what it knows and leaves the rest open. Element types follow from the operator table's type variables, so
//! a rule sets one only where attributes decide it.

mod attention;
mod broadcast;
mod contrib;
pub(super) mod control;
mod convolution;
mod elementwise;
mod gather;
mod generate;
pub(super) mod matmul;
mod ml;
mod normalise;
mod pooling;
mod preview;
mod quantize;
mod recurrent;
mod reduce;
mod reshape;
mod resize;
mod select;
mod sequence;
mod signal;
mod slicing;
mod text;

pub(super) use convolution::Window;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::call::{Call, Facts, Rule};
use crate::ops::{Traits, operator_names};

/// The rules of one family.
type Family = &'static [(&'static str, Rule)];

/// The families of ONNX's own operators.
const ONNX: &[Family] = &[
    attention::RULES,
    convolution::RULES,
    elementwise::RULES,
    gather::RULES,
    generate::RULES,
    matmul::RULES,
    normalise::RULES,
    pooling::RULES,
    quantize::RULES,
    recurrent::RULES,
    reduce::RULES,
    reshape::RULES,
    resize::RULES,
    select::RULES,
    sequence::RULES,
    signal::RULES,
    slicing::RULES,
    text::RULES,
];

/// What opaque operators do that ONNX Runtime has under these names in ONNX's own domain, in versions that the specification
/// does not have them in. None of their later forms gives another shape.
const OPAQUE: Family = &[
    ("GroupNormalization", contrib::like_first),
    ("LayerNormalization", opaque_normalization),
    ("SimplifiedLayerNormalization", opaque_normalization),
];

fn opaque_normalization(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.dtype(0, call.dtype(0));
    normalise::layer(call, facts)
}

static TABLE: LazyLock<HashMap<(&'static str, &'static str), Rule>> = LazyLock::new(|| {
    let own = ONNX
        .iter()
        .flat_map(|family| family.iter())
        .map(|(name, rule)| (("", *name), *rule));
    let ml = ml::RULES
        .iter()
        .map(|(name, rule)| (("ai.onnx.ml", *name), *rule));
    let contrib = contrib::RULES
        .iter()
        .map(|(name, rule)| (("com.microsoft", *name), *rule));
    let preview = preview::RULES
        .iter()
        .map(|(name, rule)| (("ai.onnx.preview", *name), *rule));
    let training = preview::TRAINING
        .iter()
        .map(|(name, rule)| (("ai.onnx.preview.training", *name), *rule));
    own.chain(ml)
        .chain(contrib)
        .chain(preview)
        .chain(training)
        .collect()
});

/// Domain and type of every operator whose shapes are inferred.
pub fn operators() -> Vec<(&'static str, &'static str)> {
    let bodies = control::WITH_BODIES.iter().map(|(name, _)| ("", *name));
    let unary = operator_names().filter(|name| Traits::of("", name).elementwise_unary);
    let unary = unary.map(|name| ("", name));
    TABLE.keys().copied().chain(bodies).chain(unary).collect()
}

/// What is known of the outputs of one operator without bodies.
pub(super) fn infer_operator(call: &Call<'_>) -> Facts {
    let mut facts = Facts::new(call.outputs);
    let operator = call.operator;
    // A reference to an attribute of the enclosing function may stand for any value.
    if !operator.has_references() {
        let name = operator.op_type.as_str();
        let own = TABLE.get(&(operator.domain(), name));
        let _ = match own.or_else(|| {
            OPAQUE
                .iter()
                .find(|(of, _)| operator.is_opaque() && *of == name)
                .map(|(_, rule)| rule)
        }) {
            // An early end leaves the outputs that were not set unknown.
            Some(rule) => rule(call, &mut facts),
            None if Traits::of(operator.domain(), &operator.op_type).elementwise_unary => {
                elementwise::same_shape(call, &mut facts)
            }
            None => None,
        };
    }
    call.element_types(&mut facts);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::schemas;

    #[test]
    fn rules_belong_to_operators_of_the_table() {
        for (domain, name) in TABLE.keys() {
            let without_schema = *domain == "com.microsoft" || domain.starts_with("ai.onnx.preview");
            assert!(
                without_schema || !schemas(domain, name).is_empty(),
                "{domain} {name}"
            );
        }
        let listed: usize = ONNX.iter().map(|family| family.len()).sum();
        let others = [ml::RULES, contrib::RULES, preview::RULES, preview::TRAINING];
        let others: usize = others.iter().map(|family| family.len()).sum();
        assert_eq!(listed + others, TABLE.len(), "an operator has two rules");
    }
}
