//! The table of gradient rules, one file an operator family.
//!
//! With g = ∂loss/∂y, a vector-Jacobian product answers ∂loss/∂x for each input x that it is asked for. A formula may use the
//! operator's inputs and outputs, which are at hand in the forward pass.

mod activation;
mod binary;
mod convolution;
mod elementwise;
mod gather;
mod matmul;
mod normalise;
mod pad;
mod pooling;
mod reduce;
mod reshape;
mod resize;
mod slice;
mod softmax;
mod spread;

use super::emit::{Emitter, Fault, Var};
use super::layout::axis_of;
use super::steps;
use crate::ir::Operator;
use crate::ops;

/// What a rule answers: the gradient of each input, in the order of the inputs; trailing ones may be left out.
pub(super) type Grads<'e> = Vec<Option<Var<'e>>>;

/// One row of the table.
pub(super) struct Rule {
    /// Operator of ONNX's own domain.
    pub(super) operator: &'static str,
    slots: Slots,
    pub(super) form: Form,
}

/// Inputs through which an operator is differentiated.
enum Slots {
    All,
    Only(&'static [usize]),
}

/// How an operator is differentiated.
pub(super) enum Form {
    /// A vector-Jacobian product.
    Product(for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>),
    /// The operator written out in operators of this table; answers its outputs.
    Steps(for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>),
    /// The gradient is 0 wherever there is one.
    Flat,
}

/// A rule for every input.
const fn all(operator: &'static str, product: for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>) -> Rule {
    Rule {
        operator,
        slots: Slots::All,
        form: Form::Product(product),
    }
}

/// A rule for the first input.
const fn first(operator: &'static str, product: for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>) -> Rule {
    only(operator, &[0], product)
}

/// A rule for some inputs.
const fn only(
    operator: &'static str,
    slots: &'static [usize],
    product: for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>,
) -> Rule {
    Rule {
        operator,
        slots: Slots::Only(slots),
        form: Form::Product(product),
    }
}

/// An operator that is written out first.
const fn written_out(
    operator: &'static str,
    slots: &'static [usize],
    steps: for<'c, 'e> fn(&'c Call<'e>) -> Grads<'e>,
) -> Rule {
    Rule {
        operator,
        slots: Slots::Only(slots),
        form: Form::Steps(steps),
    }
}

/// A piecewise constant operator.
const fn flat(operator: &'static str) -> Rule {
    Rule {
        operator,
        slots: Slots::Only(&[]),
        form: Form::Flat,
    }
}

/// Families and their rules.
const FAMILIES: &[(&str, &[Rule])] = &[
    ("Elementwise", elementwise::RULES),
    ("Activations", activation::RULES),
    ("Arithmetic", binary::RULES),
    ("Matrix products", matmul::RULES),
    ("Convolution", convolution::RULES),
    ("Pooling", pooling::RULES),
    ("Normalisation", normalise::RULES),
    ("Softmax", softmax::RULES),
    ("Shapes", reshape::RULES),
    ("Slices", slice::RULES),
    ("Padding", pad::RULES),
    ("Gathering", gather::RULES),
    ("Reductions", reduce::RULES),
    ("Resizing", resize::RULES),
    (
        "Written out first",
        &[
            written_out("LSTM", &[0, 1, 2, 3, 5, 6, 7], steps::lstm),
            written_out("GRU", &[0, 1, 2, 3, 5], steps::gru),
            written_out("RNN", &[0, 1, 2, 3, 5], steps::rnn),
            written_out("Attention", &[0, 1, 2, 3, 4, 5], steps::attention),
        ],
    ),
    (
        "Piecewise constant (gradient 0)",
        &[
            flat("ArgMax"),
            flat("ArgMin"),
            flat("Ceil"),
            flat("ConstantOfShape"),
            flat("Equal"),
            flat("EyeLike"),
            flat("Floor"),
            flat("Greater"),
            flat("GreaterOrEqual"),
            flat("Hardmax"),
            flat("IsInf"),
            flat("IsNaN"),
            flat("Less"),
            flat("LessOrEqual"),
            flat("NonZero"),
            flat("Round"),
            flat("Shape"),
            flat("Sign"),
            flat("Size"),
        ],
    ),
];

/// The rule of an operator.
pub(super) fn rule(domain: &str, op_type: &str) -> Option<&'static Rule> {
    if !domain.is_empty() {
        return None;
    }
    FAMILIES
        .iter()
        .flat_map(|(_, rules)| rules.iter())
        .find(|rule| rule.operator == op_type)
}

impl Rule {
    /// Whether the operator is differentiated through this input.
    pub(super) fn passes(&self, slot: usize) -> bool {
        match self.slots {
            Slots::All => true,
            Slots::Only(slots) => slots.contains(&slot),
        }
    }
}

/// An operator that gradients pass through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The operator's family.
    pub family: &'static str,
    /// The operator.
    pub operator: &'static str,
    /// Names of the inputs that have gradients.
    pub inputs: Vec<&'static str>,
}

/// Every operator that gradients pass through, by family.
pub fn coverage() -> Vec<Coverage> {
    let row = |family: &'static str, rule: &Rule| {
        let schema = ops::schemas("", rule.operator).last();
        let names = schema
            .map(|schema| schema.inputs.iter().map(|input| input.name))
            .into_iter()
            .flatten();
        let inputs = names
            .enumerate()
            .filter(|(slot, _)| rule.passes(*slot))
            .map(|(_, name)| name)
            .collect();
        Coverage {
            family,
            operator: rule.operator,
            inputs,
        }
    };
    FAMILIES
        .iter()
        .flat_map(|(family, rules)| rules.iter().map(move |rule| row(family, rule)))
        .collect()
}

/// One operator whose gradient is asked for.
pub(super) struct Call<'e> {
    pub(super) e: &'e Emitter,
    pub(super) operator: Operator,
    pub(super) inputs: Vec<Option<Var<'e>>>,
    pub(super) outputs: Vec<Option<Var<'e>>>,
    /// ∂loss/∂output of each output.
    pub(super) grads: Vec<Option<Var<'e>>>,
    /// Which inputs want a gradient.
    pub(super) needs: Vec<bool>,
}

impl<'e> Call<'e> {
    /// Whether input `slot` wants a gradient.
    pub(super) fn needs(&self, slot: usize) -> bool {
        self.needs.get(slot).copied().unwrap_or(false)
    }

    /// Records that this form has no rule.
    pub(super) fn refuse(&self, reason: &str) -> Grads<'e> {
        self.e.fault(Fault::Form(reason.to_owned()));
        Vec::new()
    }

    /// An input that is there.
    pub(super) fn optional(&self, slot: usize) -> Option<&Var<'e>> {
        self.inputs.get(slot).and_then(Option::as_ref)
    }

    /// A required input; a fault where it is missing.
    pub(super) fn input(&self, slot: usize) -> Var<'e> {
        self.optional(slot).cloned().unwrap_or_else(|| self.missing())
    }

    fn missing(&self) -> Var<'e> {
        self.e
            .fault(Fault::Form("an input or output is missing".to_owned()));
        self.e.ints(&[])
    }

    /// The first input.
    pub(super) fn x(&self) -> Var<'e> {
        self.input(0)
    }

    /// The first output.
    pub(super) fn y(&self) -> Var<'e> {
        self.outputs
            .first()
            .cloned()
            .flatten()
            .unwrap_or_else(|| self.missing())
    }

    /// The gradient of an output; zeros where nothing reads it.
    pub(super) fn grad(&self, output: usize) -> Var<'e> {
        if let Some(Some(g)) = self.grads.get(output) {
            return g.clone();
        }
        match self.outputs.get(output).cloned().flatten() {
            Some(y) => y.zeros_like(),
            None => self.missing(),
        }
    }

    /// The gradient of the first output.
    pub(super) fn g(&self) -> Var<'e> {
        self.grad(0)
    }

    /// Whether a gradient arrives at another output than the first.
    pub(super) fn has_side_gradients(&self) -> bool {
        self.grads.iter().skip(1).any(Option::is_some)
    }

    /// The answer for an operator of one differentiable input.
    pub(super) fn answer(&self, gradient: Var<'e>) -> Grads<'e> {
        vec![Some(gradient)]
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.operator.int(name).unwrap_or(default)
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str, default: f64) -> f64 {
        self.operator.float(name).map_or(default, f64::from)
    }

    /// A list attribute.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.operator.ints(name).map(<[i64]>::to_vec)
    }

    /// An axis attribute as an index into `rank` axes; a fault where it is out of range.
    pub(super) fn axis(&self, default: i64, rank: usize) -> usize {
        axis_of(self.int("axis", default), rank).unwrap_or_else(|| {
            self.e.fault(Fault::Form("its axis is out of range".to_owned()));
            0
        })
    }

    /// An input that holds integers which are known as numbers.
    pub(super) fn numbers(&self, slot: usize) -> Option<Vec<i64>> {
        self.e.numbers(self.optional(slot)?.id)
    }

    /// A list that is an attribute in some opsets and an input in others. `None` where it is left out; a fault where it
    /// is computed at run time.
    pub(super) fn list(&self, name: &str, slot: usize) -> Option<Vec<i64>> {
        if let Some(values) = self.ints(name) {
            return Some(values);
        }
        self.optional(slot)?;
        let numbers = self.numbers(slot);
        if numbers.is_none() {
            self.e.fault(Fault::Symbolic(format!("its {name}")));
        }
        numbers
    }

    /// Axes as indices into `rank` axes, from an attribute or an input; `None` where they are left out.
    pub(super) fn axes(&self, slot: usize, rank: usize) -> Option<Vec<usize>> {
        let axes = self.list("axes", slot)?;
        Some(
            axes.iter()
                .filter_map(|axis| {
                    let axis = axis_of(*axis, rank);
                    if axis.is_none() {
                        self.e.fault(Fault::Form("an axis is out of range".to_owned()));
                    }
                    axis
                })
                .collect(),
        )
    }
}
