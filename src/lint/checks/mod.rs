//! The checks, one file each, in the order of their codes.

use super::check::Check;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// Every check, sorted by its code.
        pub fn checks() -> &'static [Check] {
            const CHECKS: &[Check] = &[$($name::CHECK),*];
            CHECKS
        }
    };
}

checks! {
    asymmetric_codes,
    batch_norm_variance,
    constant_condition,
    constant_subgraph,
    contradicting_declaration,
    contradictory_shapes,
    dead_node,
    denormal_weights,
    duplicate_node_name,
    duplicate_weights,
    dynamic_shape,
    embedded_weights,
    external_gap,
    external_overlap,
    flattening_softmax,
    float16_overflow,
    float16_underflow,
    float64_island,
    index_through_float,
    inference_dropout,
    int64_range,
    invalid_scale,
    ir_version_too_new,
    message_limit,
    opaque_operator,
    opset_too_new,
    opset_too_old,
    output_not_computed,
    overridable_initializer,
    qdq_axis,
    qdq_bias_scale,
    saturated_codes,
    superseded_operator,
    training_mode,
    unfused_batch_norm,
    unfused_qdq,
    unnamed_dimension,
    unsupported_attribute,
    unsupported_operator,
    unused_function,
    unused_initializer,
    unused_input,
    weight_not_finite,
    zero_channels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_written_as_codes_are() {
        assert!(checks().is_sorted_by_key(|check| check.code));
        for check in checks() {
            assert!(
                check
                    .code
                    .chars()
                    .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-'),
                "{}",
                check.code
            );
            assert!(
                check.summary.ends_with('.') && check.summary.len() <= 110,
                "{}: {}",
                check.code,
                check.summary
            );
            assert!(
                check.about.len() > 100 && !check.cure.text.ends_with('.'),
                "{}",
                check.code
            );
        }
    }
}
