//! What the texts of a rule say, before names are resolved.

/// A range of bytes in a rule's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// `y, z = expression`.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) outputs: Vec<(String, Span)>,
    pub(crate) value: Spanned,
}

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Spanned {
    pub(crate) expr: Expr,
    pub(crate) span: Span,
}

/// An expression: a value, a parameter, a literal, an operator or a helper.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// `1`, `-2`
    Int(i64),
    /// `1.5`, `-0.0`
    Float(f64),
    /// `true`
    Bool(bool),
    /// `"text"`
    Text(String),
    /// `[1, 2]`
    List(Vec<Spanned>),
    /// `x`, or `x?` in a pattern
    Value { name: String, optional: bool },
    /// `*xs` in a list of operands
    Splat(String),
    /// `@axes`
    Parameter(String),
    /// `Add <..> (x, y)`
    Operator(Box<OperatorCall>),
    /// `same_shape(x, y)`
    Helper { name: String, arguments: Vec<Spanned> },
    /// `not p`, `-x`
    Unary(Unary, Box<Spanned>),
    /// `a or b`, `a == b`, `a + b`
    Binary(Binary, Box<Spanned>, Box<Spanned>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// An operator with attributes and operands.
#[derive(Clone, Debug)]
pub(crate) struct OperatorCall {
    pub(crate) domain: String,
    pub(crate) op_type: String,
    /// Span of the operator's name.
    pub(crate) name_span: Span,
    pub(crate) attributes: Vec<(String, Spanned)>,
    /// `<*rest>`
    pub(crate) rest: Option<(String, Span)>,
    pub(crate) operands: Vec<Spanned>,
}

impl Spanned {
    /// Calls `visit` on this expression and every part of it, outer before inner.
    pub(crate) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Spanned)) {
        visit(self);
        match &self.expr {
            Expr::List(items) | Expr::Helper { arguments: items, .. } => {
                items.iter().for_each(|item| item.walk(visit))
            }
            Expr::Operator(call) => {
                call.attributes.iter().for_each(|(_, value)| value.walk(visit));
                call.operands.iter().for_each(|operand| operand.walk(visit));
            }
            Expr::Unary(_, inner) => inner.walk(visit),
            Expr::Binary(_, left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            _ => {}
        }
    }
}
