//! Activation functions that recurrent layers name in their attributes.

use super::super::emit::Var;
use super::super::vjp::Call;
use crate::ir::Operator;

/// An activation function with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Activation {
    name: String,
    alpha: f32,
    beta: f32,
}

/// The activation functions of a layer: `defaults` for each direction, unless it names its own. `None` for an unknown one.
pub(super) fn activations(c: &Call<'_>, directions: usize, defaults: &[&str]) -> Option<Vec<Activation>> {
    let named: Vec<String> = match c.operator.attribute("activations") {
        Some(crate::ir::AttributeValue::Strings(names)) => names
            .iter()
            .map(|name| String::from_utf8_lossy(name).to_lowercase())
            .collect(),
        _ => (0..directions)
            .flat_map(|_| defaults.iter().map(|name| name.to_lowercase()))
            .collect(),
    };
    if named.len() != directions * defaults.len() {
        return None;
    }
    // Each function takes as many parameters from the lists as it has.
    let mut alphas = c
        .operator
        .floats("activation_alpha")
        .unwrap_or_default()
        .iter()
        .copied();
    let mut betas = c
        .operator
        .floats("activation_beta")
        .unwrap_or_default()
        .iter()
        .copied();
    named
        .into_iter()
        .map(|name| {
            let (alpha, beta) = match name.as_str() {
                "affine" | "scaledtanh" => (Some(1.0), Some(if name == "affine" { 0.0 } else { 1.0 })),
                "hardsigmoid" => (Some(0.2), Some(0.5)),
                "leakyrelu" => (Some(0.01), None),
                "thresholdedrelu" | "elu" => (Some(1.0), None),
                "relu" | "tanh" | "sigmoid" | "softsign" | "softplus" => (None, None),
                _ => return None,
            };
            let alpha = alpha.map_or(0.0, |default| alphas.next().unwrap_or(default));
            let beta = beta.map_or(0.0, |default| betas.next().unwrap_or(default));
            Some(Activation { name, alpha, beta })
        })
        .collect()
}

impl Activation {
    /// Applies the function.
    pub(super) fn apply<'e>(&self, x: &Var<'e>) -> Var<'e> {
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        match self.name.as_str() {
            "sigmoid" => x.sigmoid(),
            "tanh" => x.tanh(),
            "relu" => x.unary("Relu"),
            "affine" => x * alpha + beta,
            "scaledtanh" => (x * beta).tanh() * alpha,
            "softsign" => x.unary("Softsign"),
            "softplus" => x.unary("Softplus"),
            "hardsigmoid" => x.apply(
                Operator::new("HardSigmoid")
                    .with("alpha", self.alpha)
                    .with("beta", self.beta),
            ),
            "leakyrelu" => x.apply(Operator::new("LeakyRelu").with("alpha", self.alpha)),
            "elu" => x.apply(Operator::new("Elu").with("alpha", self.alpha)),
            _ => x.apply(Operator::new("ThresholdedRelu").with("alpha", self.alpha)),
        }
    }
}
