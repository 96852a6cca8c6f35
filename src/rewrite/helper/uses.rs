//! Helpers about what reads a value.

use super::super::apply::readers_of;
use super::super::value::{Reason, Val};
use super::{Helper, Kind, Scope, id_of, truth};

/// Rows of the table.
pub(super) const TABLE: &[Helper] = &[
    Helper {
        name: "only_use",
        arguments: &[("value", Kind::Value)],
        variadic: true,
        result: Kind::Truth,
        docs: "Each value is read exactly once: by the pattern. Graph outputs and captures by bodies count as readers.",
        run: only_use,
    },
    Helper {
        name: "uses",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Number,
        docs: "How many times the value is read. Graph outputs and captures by bodies count as readers.",
        run: |scope, a| Ok(Val::Int(scope.graph.use_count(id_of(a, 0)?) as i64)),
    },
    Helper {
        name: "not_read_by",
        arguments: &[("value", Kind::Value), ("operator", Kind::Text)],
        variadic: true,
        result: Kind::Truth,
        docs: "No reader of the value is one of these operators.",
        run: |scope, a| {
            let mut readers = readers_of(scope.graph, id_of(a, 0)?).filter_map(|id| scope.graph.operator(id));
            let named = |op_type: &str| {
                a.iter()
                    .skip(1)
                    .any(|name| matches!(name, Val::Text(text) if text == op_type))
            };
            truth(!readers.any(|operator| named(&operator.op_type)))
        },
    },
    Helper {
        name: "is_graph_output",
        arguments: &[("value", Kind::Value)],
        variadic: false,
        result: Kind::Truth,
        docs: "The value is an output of its graph.",
        run: |scope, a| truth(scope.graph.is_graph_output(id_of(a, 0)?)),
    },
    Helper {
        name: "left_out",
        arguments: &[],
        variadic: false,
        result: Kind::Any,
        docs: "Nothing: an operand of a replacement that is left out before others.",
        run: |_, _| Ok(Val::Absent),
    },
];

fn only_use(scope: &Scope<'_>, arguments: &[Val]) -> Result<Val, Reason> {
    for index in 0..arguments.len() {
        let id = id_of(arguments, index)?;
        if scope.graph.use_count(id) != 1 {
            return truth(false);
        }
    }
    truth(true)
}
