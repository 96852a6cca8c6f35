//! Rule texts to syntax trees.

use super::ast::{Binary, Expr, OperatorCall, Span, Spanned, Statement, Unary};
use super::lexer::{SyntaxError, Token, tokens};

/// Nesting that a rule may have.
const MAX_DEPTH: usize = 40;

/// Reads the statements of a `match` or `replace` text.
pub(crate) fn statements(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let mut found = Vec::new();
    loop {
        while parser.take_newline() {}
        if parser.at_end() {
            return Ok(found);
        }
        found.push(parser.statement()?);
        if !parser.at_end() && !parser.take_newline() {
            return Err(parser.unexpected("the end of the statement"));
        }
    }
}

/// Reads one expression, such as a clause of `where`.
pub(crate) fn expression(text: &str) -> Result<Spanned, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let found = parser.expression()?;
    while parser.take_newline() {}
    if parser.at_end() {
        Ok(found)
    } else {
        Err(parser.unexpected("the end of the clause"))
    }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    end: usize,
}

impl Parser {
    fn new(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self {
            tokens: tokens(text)?,
            at: 0,
            depth: 0,
            end: text.len(),
        })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn peek_after(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(
            Span {
                start: self.end,
                end: self.end,
            },
            |(_, span)| *span,
        )
    }

    fn since(&self, start: Span) -> Span {
        let end = self
            .at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .map_or(start.end, |(_, span)| span.end);
        Span {
            start: start.start,
            end,
        }
    }

    fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn take_newline(&mut self) -> bool {
        let found = self.peek() == Some(&Token::Newline);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Name(name)) if name == word);
        self.at += usize::from(found);
        found
    }

    fn require(&mut self, symbol: &str) -> Result<(), SyntaxError> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{symbol}`")))
        }
    }

    fn unexpected(&self, wanted: &str) -> SyntaxError {
        let found = match self.peek() {
            None => "the end of the text".to_owned(),
            Some(Token::Newline) => "the end of the line".to_owned(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Parameter(name)) => format!("`@{name}`"),
            Some(Token::Int(value)) => format!("`{value}`"),
            Some(Token::Float(value)) => format!("`{value}`"),
            Some(Token::Text(text)) => format!("\"{text}\""),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
        };
        SyntaxError::new(format!("expected {wanted}, found {found}"), self.span())
    }

    fn name(&mut self, what: &str) -> Result<(String, Span), SyntaxError> {
        let span = self.span();
        match self.peek() {
            Some(Token::Name(name)) if !name.contains('.') => {
                let name = name.clone();
                self.at += 1;
                Ok((name, span))
            }
            _ => Err(self.unexpected(what)),
        }
    }

    fn statement(&mut self) -> Result<Statement, SyntaxError> {
        let mut outputs = vec![self.name("the name of a result")?];
        while self.take(",") {
            outputs.push(self.name("the name of a result")?);
        }
        self.require("=")?;
        Ok(Statement {
            outputs,
            value: self.expression()?,
        })
    }

    fn expression(&mut self) -> Result<Spanned, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::new("nested too deeply", self.span()));
        }
        let found = self.chain(0);
        self.depth -= 1;
        found
    }

    /// Binary operators by how tightly they bind.
    fn chain(&mut self, level: usize) -> Result<Spanned, SyntaxError> {
        if level == 2 && self.word_is("not") {
            let start = self.span();
            self.at += 1;
            let inner = self.chain(2)?;
            return Ok(Spanned {
                expr: Expr::Unary(Unary::Not, Box::new(inner)),
                span: self.since(start),
            });
        }
        if level == 5 {
            return self.prefix();
        }
        let start = self.span();
        let mut left = self.chain(level + 1)?;
        while let Some(operator) = self.binary(level) {
            let right = self.chain(level + 1)?;
            left = Spanned {
                expr: Expr::Binary(operator, Box::new(left), Box::new(right)),
                span: self.since(start),
            };
        }
        Ok(left)
    }

    fn word_is(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(name)) if name == word)
    }

    fn binary(&mut self, level: usize) -> Option<Binary> {
        let found = match (level, self.peek()?) {
            (0, Token::Name(word)) if word == "or" => Binary::Or,
            (1, Token::Name(word)) if word == "and" => Binary::And,
            (2, Token::Name(word)) if word == "in" => Binary::In,
            (2, Token::Symbol(symbol)) => match *symbol {
                "==" => Binary::Equal,
                "!=" => Binary::NotEqual,
                "<" => Binary::Less,
                "<=" => Binary::LessEqual,
                ">" => Binary::Greater,
                ">=" => Binary::GreaterEqual,
                _ => return None,
            },
            (3, Token::Symbol("+")) => Binary::Add,
            (3, Token::Symbol("-")) => Binary::Subtract,
            (4, Token::Symbol("*")) => Binary::Multiply,
            (4, Token::Symbol("/")) => Binary::Divide,
            _ => return None,
        };
        self.at += 1;
        Some(found)
    }

    fn prefix(&mut self) -> Result<Spanned, SyntaxError> {
        let start = self.span();
        if self.take("-") {
            let inner = self.prefix()?;
            let expr = match inner.expr {
                Expr::Int(value) => Expr::Int(-value),
                Expr::Float(value) => Expr::Float(-value),
                _ => Expr::Unary(Unary::Minus, Box::new(inner)),
            };
            return Ok(Spanned {
                expr,
                span: self.since(start),
            });
        }
        if self.take("(") {
            let mut inner = self.expression()?;
            self.require(")")?;
            inner.span = self.since(start);
            return Ok(inner);
        }
        if self.take("[") {
            let items = self.list("]")?;
            return Ok(Spanned {
                expr: Expr::List(items),
                span: self.since(start),
            });
        }
        if self.take("*") {
            let (name, _) = self.name("the name of a list of values")?;
            return Ok(Spanned {
                expr: Expr::Splat(name),
                span: self.since(start),
            });
        }
        let expr = match self.peek() {
            Some(Token::Int(value)) => Expr::Int(*value),
            Some(Token::Float(value)) => Expr::Float(*value),
            Some(Token::Text(text)) => Expr::Text(text.clone()),
            Some(Token::Parameter(name)) => Expr::Parameter(name.clone()),
            Some(Token::Name(name)) => return self.named(name.clone()),
            _ => return Err(self.unexpected("a value, a literal, an operator or a helper")),
        };
        self.at += 1;
        Ok(Spanned { expr, span: start })
    }

    fn list(&mut self, close: &str) -> Result<Vec<Spanned>, SyntaxError> {
        let mut items = Vec::new();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            items.push(self.expression()?);
            if self.take(close) {
                return Ok(items);
            }
            self.require(",")?;
        }
    }

    fn named(&mut self, name: String) -> Result<Spanned, SyntaxError> {
        let start = self.span();
        if matches!(name.as_str(), "or" | "and" | "not" | "in") {
            return Err(self.unexpected("a value, a literal, an operator or a helper"));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let capital = last.starts_with(|c: char| c.is_ascii_uppercase());
        let opens = match self.peek_after() {
            Some(Token::Symbol("(")) => true,
            // A comparison never starts with `< name =` or `< *`.
            Some(Token::Symbol("<")) => capital && self.attribute_list_follows(),
            _ => false,
        };
        self.at += 1;
        if opens && capital {
            let call = self.operator(&name, start)?;
            return Ok(Spanned {
                expr: Expr::Operator(Box::new(call)),
                span: self.since(start),
            });
        }
        if opens {
            self.require("(")?;
            let arguments = self.list(")")?;
            return Ok(Spanned {
                expr: Expr::Helper { name, arguments },
                span: self.since(start),
            });
        }
        let expr = match name.as_str() {
            "true" => Expr::Bool(true),
            "false" => Expr::Bool(false),
            _ if name.contains('.') => return Err(SyntaxError::new("a name of a value has no dots", start)),
            _ => Expr::Value {
                optional: self.take("?"),
                name,
            },
        };
        Ok(Spanned {
            expr,
            span: self.since(start),
        })
    }

    fn attribute_list_follows(&self) -> bool {
        let token = |offset: usize| self.tokens.get(self.at + offset).map(|(token, _)| token);
        match token(2) {
            Some(Token::Symbol("*")) => true,
            Some(Token::Name(_)) => token(3) == Some(&Token::Symbol("=")),
            _ => false,
        }
    }

    fn operator(&mut self, name: &str, start: Span) -> Result<OperatorCall, SyntaxError> {
        let (domain, op_type) = name.rsplit_once('.').unwrap_or(("", name));
        let domain = if domain == "ai.onnx" { "" } else { domain };
        let mut call = OperatorCall {
            domain: domain.to_owned(),
            op_type: op_type.to_owned(),
            name_span: start,
            attributes: Vec::new(),
            rest: None,
            operands: Vec::new(),
        };
        if self.take("<") {
            loop {
                let at = self.span();
                if self.take("*") {
                    let (name, _) = self.name("the name of the other attributes")?;
                    if call.rest.replace((name, at)).is_some() {
                        return Err(SyntaxError::new("the other attributes are named twice", at));
                    }
                } else {
                    let (name, span) = self.name("the name of an attribute")?;
                    self.require("=")?;
                    // A bare comparison would swallow the closing `>`.
                    let value = self.attribute_value()?;
                    if call.attributes.iter().any(|(known, _)| *known == name) {
                        return Err(SyntaxError::new(format!("attribute {name} is given twice"), span));
                    }
                    call.attributes.push((name, value));
                }
                if self.take(">") {
                    break;
                }
                self.require(",")?;
            }
        }
        self.require("(")?;
        call.operands = self.list(")")?;
        Ok(call)
    }

    /// `a or b` and arithmetic, without comparisons.
    fn attribute_value(&mut self) -> Result<Spanned, SyntaxError> {
        let start = self.span();
        let mut left = self.chain(3)?;
        while self.take_word("or") {
            let right = self.chain(3)?;
            left = Spanned {
                expr: Expr::Binary(Binary::Or, Box::new(left), Box::new(right)),
                span: self.since(start),
            };
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_with_attributes_nesting_and_rests_parse() {
        let found = statements(
            "c = Conv <*conv> (x, W, b?)  # comment\n y = BatchNormalization <epsilon = @eps> (c,\n s)\n",
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        let Expr::Operator(conv) = &found[0].value.expr else {
            panic!()
        };
        assert_eq!((conv.op_type.as_str(), conv.operands.len()), ("Conv", 3));
        assert_eq!(conv.rest.as_ref().map(|r| r.0.as_str()), Some("conv"));
        assert!(matches!(&conv.operands[2].expr, Expr::Value { optional: true, name } if name == "b"));
        let nested =
            statements("y = Reshape <shape = [0, -1] + @a or [2]> (Add(Mul(b or 0, -1.5), *xs))").unwrap();
        let Expr::Operator(reshape) = &nested[0].value.expr else {
            panic!()
        };
        assert!(matches!(
            reshape.attributes[0].1.expr,
            Expr::Binary(Binary::Or, ..)
        ));
    }

    #[test]
    fn clauses_bind_as_usual() {
        let clause = expression("not constant(x) or rank(W) + 1 == 2 and @a in [1, 2]").unwrap();
        let Expr::Binary(Binary::Or, left, right) = clause.expr else {
            panic!()
        };
        assert!(matches!(left.expr, Expr::Unary(Unary::Not, _)));
        assert!(matches!(right.expr, Expr::Binary(Binary::And, ..)));
        assert!(expression("dim(W, 0) < 3").is_ok());
    }

    #[test]
    fn errors_point_at_the_text() {
        let error = statements("y = Add(x,").unwrap_err();
        assert!(error.message.contains("found the end of the text"), "{error:?}");
        let error = statements("y = Add(x) z").unwrap_err();
        assert_eq!(error.span, Span { start: 11, end: 12 });
        assert!(expression("a ==").is_err());
        assert!(statements("y = Add <a = 1, a = 2> (x)").is_err());
        assert!(expression(&"(".repeat(100)).is_err());
    }
}
