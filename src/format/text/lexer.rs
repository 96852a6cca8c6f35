//! Tokens of ONNX text, each with the bytes it covers.
//!
//! The rule language is written in the same tokens: it gives more of them a meaning (`*`, `?`, `|`), so that the lexer
//! knows symbols that plain ONNX text never uses.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::error::{TextError, TextProblem};

/// Every symbol of one character.
const SYMBOLS: &str = "()[]{}<>,:=.@?*|+-/!&;";

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKind<'a> {
    /// `[A-Za-z_][A-Za-z0-9_]*`, keywords included.
    Identifier(&'a str),
    /// A string literal, decoded: a backslash stands before any character that is meant literally.
    Text(Cow<'a, str>),
    /// `x"00ff"`, bytes that need not be UTF-8.
    Bytes(Vec<u8>),
    /// Digits with an optional sign.
    Integer(&'a str),
    /// A number with a point or exponent, `-inf`, `-nan`, or `nan(0x7fc00001)`; `inf` and `nan` alone are identifiers.
    Float(&'a str),
    /// One of the single characters that stand for themselves.
    Symbol(char),
    /// `=>`.
    Arrow,
    /// `...`, where printing left data out.
    Ellipsis,
    /// The end of the text.
    End,
}

impl fmt::Display for TokenKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identifier(text) | Self::Integer(text) | Self::Float(text) => {
                write!(f, "`{text}`")
            }
            Self::Text(text) if text.chars().count() <= 40 => write!(f, "{text:?}"),
            Self::Text(_) => f.write_str("a string"),
            Self::Bytes(_) => f.write_str("a byte string"),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::Arrow => f.write_str("`=>`"),
            Self::Ellipsis => f.write_str("`...`"),
            Self::End => f.write_str("the end of the text"),
        }
    }
}

/// A token and the byte range it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub(crate) kind: TokenKind<'a>,
    /// Byte range in the source.
    pub(crate) span: Range<usize>,
}

/// Reads one token after the other; a copy of it looks ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer<'a> {
    source: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `source`.
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, position: 0 }
    }

    /// The text that is read.
    pub(crate) fn source(&self) -> &'a str {
        self.source
    }

    /// The next token; at the end of the text, [`TokenKind::End`] again and again.
    pub(crate) fn next_token(&mut self) -> Result<Token<'a>, TextError> {
        self.skip_blanks();
        let start = self.position;
        let kind = match self.byte(0) {
            None => TokenKind::End,
            Some(b'"') => self.string(start)?,
            Some(b'x') if self.byte(1) == Some(b'"') => self.byte_string(start)?,
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => self.word(start),
            Some(byte) if byte.is_ascii_digit() => self.number(start),
            Some(b'-') if self.byte(1).is_some_and(|next| next.is_ascii_digit()) => self.number(start),
            Some(b'-') if self.byte(1).is_some_and(|next| next.is_ascii_alphabetic()) => {
                self.negative_word(start)?
            }
            Some(b'=') if self.byte(1) == Some(b'>') => self.fixed(2, TokenKind::Arrow),
            Some(b'.') if self.rest().starts_with("...") => self.fixed(3, TokenKind::Ellipsis),
            Some(_) => self.symbol(start)?,
        };
        Ok(Token {
            kind,
            span: start..self.position,
        })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.position + ahead).copied()
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.position..).unwrap_or_default()
    }

    fn slice(&self, start: usize) -> &'a str {
        self.source.get(start..self.position).unwrap_or_default()
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&accept) {
            self.position += 1;
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
            if self.byte(0) != Some(b'#') {
                return;
            }
            self.skip_while(|byte| byte != b'\n');
        }
    }

    fn fixed(&mut self, length: usize, kind: TokenKind<'a>) -> TokenKind<'a> {
        self.position += length;
        kind
    }

    fn error(&self, span: Range<usize>, problem: TextProblem) -> TextError {
        TextError::new(self.source, span, problem)
    }

    fn symbol(&mut self, start: usize) -> Result<TokenKind<'a>, TextError> {
        let found = self.rest().chars().next().unwrap_or_default();
        if !SYMBOLS.contains(found) {
            return Err(self.error(start..start + found.len_utf8(), TextProblem::Character { found }));
        }
        Ok(self.fixed(1, TokenKind::Symbol(found)))
    }

    fn word(&mut self, start: usize) -> TokenKind<'a> {
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let word = self.slice(start);
        // The bits of a NaN that is not the canonical one are part of the literal.
        if word == "nan" && self.rest().starts_with("(0x") {
            let mut ahead = *self;
            ahead.position += 3;
            ahead.skip_while(|byte| byte.is_ascii_hexdigit());
            if ahead.byte(0) == Some(b')') {
                self.position = ahead.position + 1;
                return TokenKind::Float(self.slice(start));
            }
        }
        TokenKind::Identifier(word)
    }

    fn negative_word(&mut self, start: usize) -> Result<TokenKind<'a>, TextError> {
        self.position += 1;
        self.skip_while(|byte| byte.is_ascii_alphabetic());
        let literal = self.slice(start);
        if is_special_float(literal) {
            return Ok(TokenKind::Float(literal));
        }
        Err(self.error(
            start..self.position,
            TextProblem::Number {
                literal: literal.to_owned(),
                wanted: "number",
            },
        ))
    }

    fn number(&mut self, start: usize) -> TokenKind<'a> {
        self.position += 1;
        self.skip_while(|byte| byte.is_ascii_digit());
        let mut float = false;
        // `1...` is a number before an ellipsis.
        if self.byte(0) == Some(b'.') && !self.rest().starts_with("...") {
            float = true;
            self.position += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            float = true;
            self.position += 1;
            if matches!(self.byte(0), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        if float {
            TokenKind::Float(self.slice(start))
        } else {
            TokenKind::Integer(self.slice(start))
        }
    }

    /// Moves past the closing quote of a literal whose opening quote is next; true if it has escapes.
    fn quoted(&mut self, start: usize) -> Result<bool, TextError> {
        self.position += 1;
        let mut escapes = false;
        loop {
            match self.byte(0) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    // The escaped character may have several bytes, none of which is a quote or a backslash.
                    self.position += 2;
                }
                Some(_) => self.position += 1,
                None => {
                    self.position = self.source.len();
                    return Err(self.error(start..self.source.len(), TextProblem::UnterminatedString));
                }
            }
        }
        self.position += 1;
        Ok(escapes)
    }

    fn string(&mut self, start: usize) -> Result<TokenKind<'a>, TextError> {
        let escapes = self.quoted(start)?;
        let inside = self.source.get(start + 1..self.position - 1).unwrap_or_default();
        if !escapes {
            return Ok(TokenKind::Text(Cow::Borrowed(inside)));
        }
        let mut decoded = String::with_capacity(inside.len());
        let mut characters = inside.chars();
        while let Some(character) = characters.next() {
            decoded.extend(if character == '\\' {
                characters.next()
            } else {
                Some(character)
            });
        }
        Ok(TokenKind::Text(Cow::Owned(decoded)))
    }

    fn byte_string(&mut self, start: usize) -> Result<TokenKind<'a>, TextError> {
        self.position += 1;
        self.quoted(start)?;
        let inside = self
            .source
            .as_bytes()
            .get(start + 2..self.position - 1)
            .unwrap_or_default();
        let (pairs, rest) = inside.as_chunks::<2>();
        let decoded: Option<Vec<u8>> = pairs
            .iter()
            .map(|&[high, low]| Some(hexadecimal(high)? << 4 | hexadecimal(low)?))
            .collect();
        match decoded {
            Some(bytes) if rest.is_empty() => Ok(TokenKind::Bytes(bytes)),
            _ => Err(self.error(start..self.position, TextProblem::ByteString)),
        }
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// True for `inf`, `infinity` and `nan` in any case, with an optional sign.
pub(crate) fn is_special_float(word: &str) -> bool {
    let word = word.strip_prefix('-').unwrap_or(word);
    ["inf", "infinity", "nan"]
        .iter()
        .any(|special| word.eq_ignore_ascii_case(special))
}

/// True if `name` reads back as an identifier without quotes.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> String {
        let mut lexer = Lexer::new(source);
        let mut shown = Vec::new();
        loop {
            match lexer.next_token() {
                Ok(token) if token.kind == TokenKind::End => break,
                Ok(token) => {
                    let name = match &token.kind {
                        TokenKind::Identifier(_) => "id",
                        TokenKind::Text(_) => "text",
                        TokenKind::Bytes(_) => "bytes",
                        TokenKind::Integer(_) => "int",
                        TokenKind::Float(_) => "float",
                        _ => "",
                    };
                    shown.push(format!("{name}{}", token.kind));
                }
                Err(error) => {
                    shown.push(format!("! {}", error.problem()));
                    break;
                }
            }
        }
        shown.join(" ")
    }

    #[test]
    fn tokens_of_every_kind() {
        for (source, expected) in [
            ("a _b1 # note\n c", "id`a` id`_b1` id`c`"),
            (
                "1 -2 3.5 1. 1e5 -1.5E-3",
                "int`1` int`-2` float`3.5` float`1.` float`1e5` float`-1.5E-3`",
            ),
            (
                "inf -inf -NaN nan(0x7fc00001)",
                "id`inf` float`-inf` float`-NaN` float`nan(0x7fc00001)`",
            ),
            ("nan (x)", "id`nan` `(` id`x` `)`"),
            ("g()=>(y)", "id`g` `(` `)` `=>` `(` id`y` `)`"),
            ("= > a.b:c", "`=` `>` id`a` `.` id`b` `:` id`c`"),
            (r#""a\"b\\c\n""#, r#"text"a\"b\\cn""#),
            ("x\"00fF\" x \"00\"", "bytesa byte string id`x` text\"00\""),
            ("{1, ...} 1...", "`{` int`1` `,` `...` `}` int`1` `...`"),
            ("<*rest> b?", "`<` `*` id`rest` `>` id`b` `?`"),
            ("\"open", "! this string has no closing quote"),
            ("\"open\\", "! this string has no closing quote"),
            (
                "x\"0\"",
                "! a byte string x\"...\" holds pairs of hexadecimal digits",
            ),
            ("-abc", "! -abc is not a valid number"),
            ("a é", "id`a` ! unexpected character 'é'"),
            ("\"é\\é\"", "text\"éé\""),
        ] {
            assert_eq!(kinds(source), expected, "{source}");
        }
    }

    #[test]
    fn spans_cover_the_source_bytes() {
        let source = "y = \"é\" 12";
        let mut lexer = Lexer::new(source);
        let mut spans = Vec::new();
        while let Ok(token) = lexer.next_token() {
            if token.kind == TokenKind::End {
                break;
            }
            spans.push(&source[token.span]);
        }
        assert_eq!(spans, ["y", "=", "\"é\"", "12"]);
    }
}
