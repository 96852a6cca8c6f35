//! One token of lookahead over a text, with the checks that every construct needs.

use std::borrow::Cow;

use super::error::{TextError, TextProblem};
use super::lexer::{Lexer, Token, TokenKind};

/// Levels of nested types and graphs that are read. The wire format's own decoder stops at 100 messages, which a body
/// within a body uses up three at a time.
const DEPTH_LIMIT: usize = 64;

/// A position in a text: the token there, and what comes after it.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first token of `source`.
    pub(crate) fn new(source: &'a str) -> Result<Self, TextError> {
        let mut lexer = Lexer::new(source);
        let token = lexer.next_token()?;
        Ok(Self {
            lexer,
            token,
            depth: 0,
        })
    }

    /// The token here.
    pub(crate) fn token(&self) -> &Token<'a> {
        &self.token
    }

    /// What the token after the one here is; an unreadable one counts as the end, and is reported when it is reached.
    pub(crate) fn following(&self) -> TokenKind<'a> {
        let mut ahead = self.lexer;
        ahead.next_token().map_or(TokenKind::End, |token| token.kind)
    }

    /// Moves on and gives the token that was here.
    pub(crate) fn advance(&mut self) -> Result<Token<'a>, TextError> {
        let next = self.lexer.next_token()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// `problem`, said of the token here.
    pub(crate) fn error(&self, problem: TextProblem) -> TextError {
        TextError::new(self.lexer.source(), self.token.span.clone(), problem)
    }

    /// `problem`, said of the bytes `span`.
    pub(crate) fn error_at(&self, span: std::ops::Range<usize>, problem: TextProblem) -> TextError {
        TextError::new(self.lexer.source(), span, problem)
    }

    /// The error that `expected` does not stand here.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> TextError {
        if self.token.kind == TokenKind::Ellipsis {
            return self.error(TextProblem::Elided);
        }
        self.error(TextProblem::Expected {
            expected: expected.into(),
            found: self.token.kind.to_string(),
        })
    }

    /// True if `symbol` stands here.
    pub(crate) fn at(&self, symbol: char) -> bool {
        self.token.kind == TokenKind::Symbol(symbol)
    }

    /// Moves past `symbol` if it stands here.
    pub(crate) fn accept(&mut self, symbol: char) -> Result<bool, TextError> {
        let here = self.at(symbol);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    /// Moves past `symbol`, which must stand here.
    pub(crate) fn require(&mut self, symbol: char) -> Result<(), TextError> {
        if self.accept(symbol)? {
            Ok(())
        } else {
            Err(self.expected(format!("`{symbol}`")))
        }
    }

    /// Moves past the separator or the closing symbol of a list; true if another item follows.
    pub(crate) fn separator(&mut self, close: char) -> Result<bool, TextError> {
        if self.accept(',')? {
            return Ok(true);
        }
        if self.accept(close)? {
            return Ok(false);
        }
        Err(self.expected(format!("`,` or `{close}`")))
    }

    /// Moves past `=>`.
    pub(crate) fn expect_arrow(&mut self) -> Result<(), TextError> {
        if self.token.kind != TokenKind::Arrow {
            return Err(self.expected("`=>`"));
        }
        self.advance()?;
        Ok(())
    }

    /// Fails unless the text ends here.
    pub(crate) fn expect_end(&self, otherwise: &str) -> Result<(), TextError> {
        if self.token.kind == TokenKind::End {
            Ok(())
        } else {
            Err(self.expected(otherwise))
        }
    }

    /// An identifier or a quoted name, if one stands here.
    pub(crate) fn optional_name(&mut self) -> Result<Option<Cow<'a, str>>, TextError> {
        let name = match &self.token.kind {
            TokenKind::Identifier(name) => Cow::Borrowed(*name),
            TokenKind::Text(name) => name.clone(),
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(name))
    }

    /// An identifier or a quoted name.
    pub(crate) fn name(&mut self, what: &str) -> Result<String, TextError> {
        match self.optional_name()? {
            Some(name) => Ok(name.into_owned()),
            None => Err(self.expected(what)),
        }
    }

    /// A quoted string.
    pub(crate) fn string(&mut self) -> Result<String, TextError> {
        let TokenKind::Text(text) = &self.token.kind else {
            return Err(self.expected("a quoted string"));
        };
        let text = text.clone().into_owned();
        self.advance()?;
        Ok(text)
    }

    /// An integer that fits 64 bits with sign.
    pub(crate) fn integer(&mut self) -> Result<i64, TextError> {
        let TokenKind::Integer(literal) = self.token.kind else {
            return Err(self.expected("an integer"));
        };
        let value = literal
            .parse()
            .map_err(|_| self.invalid_number(literal, "int64"))?;
        self.advance()?;
        Ok(value)
    }

    /// The error that the number here is not a `wanted`.
    pub(crate) fn invalid_number(&self, literal: &str, wanted: &'static str) -> TextError {
        self.error(TextProblem::Number {
            literal: literal.to_owned(),
            wanted,
        })
    }

    /// Reads `inside` one level deeper.
    pub(crate) fn nested<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, TextError>,
    ) -> Result<T, TextError> {
        if self.depth >= DEPTH_LIMIT {
            return Err(self.error(TextProblem::TooDeep { limit: DEPTH_LIMIT }));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }
}
