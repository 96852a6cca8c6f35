//! Tokens of rule texts.

use super::ast::Span;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name; operators may have dots (`ai.onnx.ml.Scaler`).
    Name(String),
    /// `@name`
    Parameter(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// Punctuation of one or two characters.
    Symbol(&'static str),
    /// The end of a line on which a statement may end.
    Newline,
}

const SYMBOLS: [&str; 21] = [
    "==", "!=", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", "?", "*", "+", "-", "/", "{", "}", ":",
    ";",
];

/// A text that is not of the language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Span,
}

impl SyntaxError {
    pub(crate) fn new(message: impl Into<String>, span: Span) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }
}

/// Splits a text into tokens. `#` starts a comment. Newlines inside brackets and after a comma do not count.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, SyntaxError> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let span = |end| Span { start, end };
        match byte {
            b'\n' => {
                at += 1;
                let continues = matches!(found.last(), Some((Token::Symbol("," | "="), _)));
                if depth == 0 && !continues {
                    found.push((Token::Newline, span(at)));
                }
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'#' => at += bytes.iter().skip(at).take_while(|b| **b != b'\n').count(),
            b'"' => {
                let length = bytes
                    .iter()
                    .skip(at + 1)
                    .take_while(|b| **b != b'"' && **b != b'\n')
                    .count();
                at += length + 2;
                if bytes.get(at - 1) != Some(&b'"') {
                    return Err(SyntaxError::new(
                        "a text that does not end",
                        span(text.len().min(at)),
                    ));
                }
                found.push((
                    Token::Text(text.get(start + 1..at - 1).unwrap_or_default().to_owned()),
                    span(at),
                ));
            }
            b'@' => {
                at += 1 + name_length(bytes, at + 1, false);
                if at == start + 1 {
                    return Err(SyntaxError::new("a name is missing after @", span(at)));
                }
                found.push((
                    Token::Parameter(text.get(start + 1..at).unwrap_or_default().to_owned()),
                    span(at),
                ));
            }
            b'0'..=b'9' => {
                at += number_length(bytes, at);
                let written = text.get(start..at).unwrap_or_default();
                let token = match written.parse::<i64>() {
                    Ok(value) => Token::Int(value),
                    Err(_) => Token::Float(
                        written
                            .parse()
                            .map_err(|_| SyntaxError::new("not a number", span(at)))?,
                    ),
                };
                found.push((token, span(at)));
            }
            _ if byte.is_ascii_alphabetic() || byte == b'_' => {
                at += name_length(bytes, at, true);
                found.push((
                    Token::Name(text.get(start..at).unwrap_or_default().to_owned()),
                    span(at),
                ));
            }
            _ => {
                let Some(symbol) = SYMBOLS
                    .into_iter()
                    .find(|s| bytes.get(at..).is_some_and(|rest| rest.starts_with(s.as_bytes())))
                else {
                    return Err(SyntaxError::new("a character that no rule uses", span(at + 1)));
                };
                at += symbol.len();
                match symbol {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                found.push((Token::Symbol(symbol), span(at)));
            }
        }
    }
    Ok(found)
}

fn name_length(bytes: &[u8], at: usize, dots: bool) -> usize {
    bytes
        .iter()
        .skip(at)
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || (dots && **b == b'.'))
        .count()
}

fn number_length(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    end += digits(end);
    // `9..` is a range, not a number.
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end - at
}
