//! What expressions of a rule are worth, given what a match has bound.

use super::helper::{self, Scope};
use super::syntax::{Binary, Expr, OperatorCall, Spanned, Unary};
use super::value::{Reason, Val};

/// Evaluates expressions over some bindings.
pub(crate) trait Evaluate {
    /// The graph.
    fn scope(&self) -> Scope<'_>;

    /// What `x`, `@eps` or `*rest` is bound to.
    fn lookup(&self, key: &str) -> Option<Val>;

    /// What an operator gives; only a replacement has operators.
    fn operator(&mut self, call: &OperatorCall) -> Result<Val, Reason> {
        Err(Reason::Owned(format!("{} cannot stand here", call.op_type)))
    }

    /// Evaluates an expression. An error says why it has no value.
    fn eval(&mut self, expression: &Spanned) -> Result<Val, Reason> {
        Ok(match &expression.expr {
            Expr::Int(value) => Val::Int(*value),
            Expr::Float(value) => Val::Float(*value),
            Expr::Bool(value) => Val::Bool(*value),
            Expr::Text(text) => Val::Text(text.clone()),
            Expr::List(items) => {
                let items: Vec<Val> = items
                    .iter()
                    .map(|item| self.eval(item))
                    .collect::<Result<_, _>>()?;
                list(&items)?
            }
            Expr::Value { name, .. } => match self.lookup(name) {
                Some(value) => value,
                None => self.bound(&format!("*{name}"))?,
            },
            Expr::Splat(name) => self.bound(&format!("*{name}"))?,
            Expr::Parameter(name) => self.bound(&format!("@{name}"))?,
            Expr::Operator(call) => return self.operator(call),
            Expr::Helper { name, arguments } => {
                let Some(helper) = helper::find(name) else {
                    return Err(Reason::Owned(format!("there is no helper {name}")));
                };
                let arguments: Vec<Val> = arguments.iter().map(|a| self.eval(a)).collect::<Result<_, _>>()?;
                return (helper.run)(&self.scope(), &arguments);
            }
            Expr::Unary(Unary::Not, inner) => match self.eval(inner)? {
                Val::Bool(value) => Val::Bool(!value),
                other => return Err(Reason::Owned(format!("`not` of {}", other.kind()))),
            },
            Expr::Unary(Unary::Minus, inner) => match self.eval(inner)? {
                Val::Int(value) => Val::Int(
                    value
                        .checked_neg()
                        .ok_or(Reason::Borrowed("an integer overflows"))?,
                ),
                Val::Float(value) => Val::Float(-value),
                other => return Err(Reason::Owned(format!("`-` of {}", other.kind()))),
            },
            Expr::Binary(Binary::Or, left, right) => match self.eval(left) {
                // What cannot be answered leaves the decision to the other side.
                Err(reason) => match self.eval(right) {
                    Ok(Val::Bool(false)) => return Err(reason),
                    other => return other,
                },
                Ok(Val::Absent | Val::Bool(false)) => return self.eval(right),
                Ok(value) => value,
            },
            Expr::Binary(Binary::And, left, right) => match self.eval(left)? {
                Val::Bool(false) => Val::Bool(false),
                Val::Bool(true) => return self.eval(right),
                other => return Err(Reason::Owned(format!("`and` of {}", other.kind()))),
            },
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                binary(*operator, &left, &right)?
            }
        })
    }

    /// A binding that must be there.
    fn bound(&self, key: &str) -> Result<Val, Reason> {
        self.lookup(key)
            .ok_or_else(|| Reason::Owned(format!("{key} is not bound")))
    }
}

fn list(items: &[Val]) -> Result<Val, Reason> {
    if let Some(ints) = items.iter().map(Val::int).collect::<Option<Vec<i64>>>() {
        return Ok(Val::Ints(ints));
    }
    let numbers: Option<Vec<f64>> = items.iter().map(Val::number).collect();
    numbers
        .map(Val::Floats)
        .ok_or(Reason::Borrowed("a list holds numbers"))
}

fn binary(operator: Binary, left: &Val, right: &Val) -> Result<Val, Reason> {
    let wrong = || Reason::Owned(format!("{} and {} do not go together", left.kind(), right.kind()));
    Ok(match operator {
        Binary::Equal => Val::Bool(left.same_as(right)),
        Binary::NotEqual => Val::Bool(!left.same_as(right)),
        Binary::In => match right {
            Val::Ints(items) => Val::Bool(left.int().is_some_and(|value| items.contains(&value))),
            Val::Floats(items) => Val::Bool(left.number().is_some_and(|value| items.contains(&value))),
            _ => return Err(wrong()),
        },
        Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
            let (a, b) = (
                left.number().ok_or_else(wrong)?,
                right.number().ok_or_else(wrong)?,
            );
            Val::Bool(match operator {
                Binary::Less => a < b,
                Binary::LessEqual => a <= b,
                Binary::Greater => a > b,
                _ => a >= b,
            })
        }
        Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide => {
            arithmetic(operator, left, right)?
        }
        Binary::Or | Binary::And => return Err(wrong()),
    })
}

fn arithmetic(operator: Binary, left: &Val, right: &Val) -> Result<Val, Reason> {
    let overflow = Reason::Borrowed("an integer overflows or is divided by 0");
    let whole = |a: i64, b: i64| match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        // A quotient that is no whole number is no dimension.
        _ => a
            .checked_rem(b)
            .filter(|rest| *rest == 0)
            .and_then(|_| a.checked_div(b)),
    };
    if let (Some(a), Some(b)) = (left.int(), right.int()) {
        return whole(a, b).map(Val::Int).ok_or(overflow);
    }
    if let (Some(a), Some(b)) = (left.ints(), right.ints()) {
        if a.len() != b.len() {
            return Err(Reason::Borrowed("two lists of different lengths"));
        }
        return a
            .iter()
            .zip(b)
            .map(|(a, b)| whole(*a, *b))
            .collect::<Option<_>>()
            .map(Val::Ints)
            .ok_or(overflow);
    }
    match (left.number(), right.number()) {
        (Some(a), Some(b)) => Ok(Val::Float(match operator {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            _ => a / b,
        })),
        _ => Err(Reason::Owned(format!(
            "{} and {} are not added or multiplied",
            left.kind(),
            right.kind()
        ))),
    }
}
