//! The closed set of predicates and helpers that rules may call. One table a subject; a row is also the documentation.

mod constants;
mod lists;
mod types;
mod uses;

use crate::ir::{Graph, Tensor, ValueId, ValueType};

use super::value::{Reason, Val};

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of the graph.
    Value,
    /// The values of a `*name`.
    Values,
    /// A number.
    Number,
    /// A list of numbers.
    List,
    /// A text.
    Text,
    /// A truth value.
    Truth,
    /// A constant tensor.
    Constant,
    /// A parameter of any kind.
    Any,
}

/// A predicate or helper.
pub(crate) struct Helper {
    pub(crate) name: &'static str,
    /// Name and kind of each argument.
    pub(crate) arguments: &'static [(&'static str, Kind)],
    /// Whether the last argument repeats.
    pub(crate) variadic: bool,
    pub(crate) result: Kind,
    pub(crate) docs: &'static str,
    pub(crate) run: fn(&Scope<'_>, &[Val]) -> Result<Val, Reason>,
}

/// What a helper may look at.
pub(crate) struct Scope<'a> {
    pub(crate) graph: &'a Graph,
}

impl Scope<'_> {
    /// The constant behind a value or computed by the replacement.
    pub(crate) fn tensor(&self, value: &Val) -> Option<Tensor> {
        match value {
            Val::Value(id) => self.graph.constant(*id).cloned(),
            Val::Tensor(tensor) => Some(tensor.clone()),
            _ => None,
        }
    }

    /// The type of a value.
    pub(crate) fn ty(&self, value: &Val) -> ValueType {
        match value {
            Val::Value(id) => match self.graph.constant(*id) {
                Some(tensor) => crate::ir::tensor_type(tensor),
                None => self.graph.ty(*id).clone(),
            },
            Val::Tensor(tensor) => crate::ir::tensor_type(tensor),
            _ => ValueType::Unknown,
        }
    }

    fn need_tensor(&self, value: &Val) -> Result<Tensor, Reason> {
        self.tensor(value)
            .ok_or(Reason::Borrowed("the value is no constant"))
    }
}

/// Every helper, in the order of the documentation.
pub(crate) fn all() -> impl Iterator<Item = &'static Helper> {
    let values = uses::TABLE.iter().chain(types::TABLE);
    values.chain(constants::TABLE).chain(lists::TABLE)
}

/// The predicates and helpers as a Markdown table: signature and meaning.
pub fn reference() -> String {
    let mut table = String::from("| call | meaning |\n|---|---|\n");
    for helper in all() {
        table.push_str(&format!(
            "| `{}` | {} |\n",
            helper.signature(),
            helper.docs.replace('|', "\\|")
        ));
    }
    table
}

/// The helper with this name.
pub(crate) fn find(name: &str) -> Option<&'static Helper> {
    all().find(|helper| helper.name == name)
}

impl Helper {
    /// `name(argument, ...)`.
    pub(crate) fn signature(&self) -> String {
        let mut arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if self.variadic
            && let Some(last) = arguments.last_mut()
        {
            last.push_str(", ...");
        }
        format!("{}({})", self.name, arguments.join(", "))
    }

    /// The kind that argument `index` must have.
    pub(crate) fn argument(&self, index: usize) -> Option<Kind> {
        let last = self.arguments.last().filter(|_| self.variadic);
        self.arguments.get(index).or(last).map(|(_, kind)| *kind)
    }

    /// Whether the helper takes this many arguments.
    pub(crate) fn takes(&self, count: usize) -> bool {
        count == self.arguments.len() || self.variadic && count >= self.arguments.len()
    }
}

fn truth(value: bool) -> Result<Val, Reason> {
    Ok(Val::Bool(value))
}

fn unknown(what: &'static str) -> Reason {
    Reason::Borrowed(what)
}

fn argument(arguments: &[Val], index: usize) -> &Val {
    static NOTHING: Val = Val::Absent;
    arguments.get(index).unwrap_or(&NOTHING)
}

fn id_of(arguments: &[Val], index: usize) -> Result<ValueId, Reason> {
    match argument(arguments, index) {
        Val::Value(id) => Ok(*id),
        other => Err(Reason::Owned(format!(
            "argument {} is {}, not a value",
            index + 1,
            other.kind()
        ))),
    }
}

fn int_of(arguments: &[Val], index: usize) -> Result<i64, Reason> {
    let value = argument(arguments, index);
    value.int().ok_or_else(|| {
        Reason::Owned(format!(
            "argument {} is {}, not a whole number",
            index + 1,
            value.kind()
        ))
    })
}

fn ints_of(arguments: &[Val], index: usize) -> Result<&[i64], Reason> {
    let value = argument(arguments, index);
    value.ints().ok_or_else(|| {
        Reason::Owned(format!(
            "argument {} is {}, not a list of whole numbers",
            index + 1,
            value.kind()
        ))
    })
}

fn values_of(arguments: &[Val], index: usize) -> Result<&[Option<ValueId>], Reason> {
    match argument(arguments, index) {
        Val::Values(values) => Ok(values),
        other => Err(Reason::Owned(format!(
            "argument {} is {}, not a list of values",
            index + 1,
            other.kind()
        ))),
    }
}

fn normal_axis(axis: i64, rank: usize) -> Result<usize, Reason> {
    let rank_i = rank as i64;
    let at = if axis < 0 { axis + rank_i } else { axis };
    if (0..rank_i).contains(&at) {
        Ok(at as usize)
    } else {
        Err(unknown("an axis is out of range"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_documented() {
        let mut names: Vec<&str> = super::all().map(|helper| helper.name).collect();
        assert!(
            super::all().all(|helper| helper.docs.ends_with('.')),
            "each row is documented"
        );
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
