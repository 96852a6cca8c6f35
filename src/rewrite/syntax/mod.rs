//! The text of rules: a small superset of ONNX text. The grammar is in `docs/rules.md`.

mod ast;
mod lexer;
mod parser;

pub(crate) use ast::{Binary, Expr, OperatorCall, Span, Spanned, Statement, Unary};
pub(crate) use parser::{expression, statements};
