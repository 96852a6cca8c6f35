//! Scores of classes as shares, or as the number of the best one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ops::Ops;
use super::{option, unfit};
use crate::ir::{Graph, Operator, ValueType};
use crate::passes::PassError;

/// What becomes of scores of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Classes {
    /// Shares that sum up to 1, under the output's name.
    Softmax,
    /// The number of the best class, `int64`, without the axis of the classes: the output `classes`.
    Argmax,
}

/// A graph behind the output with scores.
pub(super) struct Made {
    pub(super) graph: Graph,
    /// Its input.
    pub(super) input: String,
    /// Its output.
    pub(super) output: String,
}

/// The graph for scores of type `ty` in `output`.
pub(super) fn classes(classes: Classes, axis: i64, output: &str, ty: &ValueType) -> Result<Made, PassError> {
    let (Some(dtype), Some(rank)) = (ty.dtype(), ty.rank()) else {
        return Err(unfit(
            output,
            format!("is {ty}: its rank is not known before it runs"),
        ));
    };
    if !dtype.is_float() {
        return Err(unfit(output, format!("is {ty}, which holds no scores")));
    }
    let rank = i64::try_from(rank).unwrap_or(i64::MAX);
    if !(-rank..rank).contains(&axis) {
        return Err(option(format!(
            "axis: {output} is {ty}, which has no axis {axis}"
        )));
    }
    let input = "classes/scores".to_owned();
    let mut ops = Ops::new("classes");
    let scores = ops.input(&input, ty.clone());
    let (operator, name) = match classes {
        Classes::Softmax => (Operator::new("Softmax"), output),
        Classes::Argmax => (Operator::new("ArgMax").with("keepdims", 0), "classes"),
    };
    let result = ops.apply(operator.with("axis", axis), &[scores]);
    ops.output(name, result, ValueType::Unknown);
    Ok(Made {
        graph: ops.finish(),
        input,
        output: name.to_owned(),
    })
}
