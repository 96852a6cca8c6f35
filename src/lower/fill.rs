//! Tensors that are filled with one number.

use super::Rule;
use super::site::Site;
use crate::ir::{EditError, Operator, Tensor};

pub(super) const RULES: &[Rule] = &[("", "ConstantOfShape", constant_of_shape)];

/// Without a value these are zeros of type float; tract makes zeros of type float64.
fn constant_of_shape(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(shape), None) = (site.input(0), site.attribute("value")) else {
        return Ok(false);
    };
    let operator = Operator::new("ConstantOfShape").with("value", Tensor::scalar(0_f32));
    let y = site.node(operator, &[shape])?;
    site.replace(0, y)?;
    Ok(true)
}
