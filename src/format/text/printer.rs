//! The output under construction: names, strings, numbers, indentation and lists.

use std::fmt::Write as _;

use super::lexer::is_identifier;
use super::names::starts_type;

/// Columns after which lists and values continue on the next line.
const WIDTH: usize = 110;

/// How a model is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrintOptions {
    /// The most values of a tensor that are printed; `...` stands for the rest, and such a text cannot be read back.
    /// None prints everything.
    pub max_elements: Option<usize>,
}

/// Text under construction.
#[derive(Debug)]
pub(super) struct Printer<'o> {
    pub(super) out: String,
    pub(super) options: &'o PrintOptions,
    indent: usize,
}

impl<'o> Printer<'o> {
    pub(super) fn new(options: &'o PrintOptions) -> Self {
        Self {
            out: String::new(),
            options,
            indent: 0,
        }
    }

    /// Prints `inside` one step further to the right.
    pub(super) fn indented(&mut self, inside: impl FnOnce(&mut Self)) {
        self.indent += 1;
        inside(self);
        self.indent -= 1;
    }

    pub(super) fn line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub(super) fn display(&mut self, value: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = write!(self.out, "{value}");
    }

    pub(super) fn quoted(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                self.out.push('\\');
            }
            self.out.push(character);
        }
        self.out.push('"');
    }

    /// A name, in quotes where it is not an identifier.
    pub(super) fn name(&mut self, name: &str) {
        if is_identifier(name) {
            self.push(name)
        } else {
            self.quoted(name)
        }
    }

    /// A name where a type could stand as well.
    pub(super) fn untyped_name(&mut self, name: &str) {
        if starts_type(name) {
            self.quoted(name)
        } else {
            self.name(name)
        }
    }

    /// Bytes, as a string where they are UTF-8.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.quoted(text),
            Err(_) => self.hexadecimal(bytes),
        }
    }

    pub(super) fn hexadecimal(&mut self, bytes: &[u8]) {
        self.push("x\"");
        for byte in bytes {
            let _ = write!(self.out, "{byte:02x}");
        }
        self.push("\"");
    }

    /// The shortest literal that reads back to the same bits.
    pub(super) fn float32(&mut self, value: f32) {
        match value.to_bits() {
            0x7fc0_0000 => self.push("nan"),
            0xffc0_0000 => self.push("-nan"),
            bits if value.is_nan() => self.display(format_args!("nan(0x{bits:08x})")),
            _ => self.display(format_args!("{value:?}")),
        }
    }

    /// The shortest literal that reads back to the same bits.
    pub(super) fn float64(&mut self, value: f64) {
        match value.to_bits() {
            0x7ff8_0000_0000_0000 => self.push("nan"),
            0xfff8_0000_0000_0000 => self.push("-nan"),
            bits if value.is_nan() => self.display(format_args!("nan(0x{bits:016x})")),
            _ => self.display(format_args!("{value:?}")),
        }
    }

    /// Items separated by commas: in one line where they fit, else one item a line.
    pub(super) fn list<T>(
        &mut self,
        open: &str,
        close: &str,
        items: impl IntoIterator<Item = T>,
        mut print: impl FnMut(&mut Self, T),
    ) {
        self.push(open);
        let start = self.out.len();
        let mut ends = Vec::new();
        self.indented(|printer| {
            for item in items {
                print(printer, item);
                ends.push(printer.out.len());
            }
        });
        let line_start = self
            .out
            .get(..start)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |newline| newline + 1);
        let body = self.out.split_off(start);
        let fits = (start - line_start) + body.len() + 2 * ends.len() <= WIDTH && !body.contains('\n');
        let mut from = 0;
        self.indented(|printer| {
            for (index, end) in ends.iter().enumerate() {
                if index > 0 {
                    printer.push(",");
                }
                if !fits {
                    printer.line();
                } else if index > 0 {
                    printer.push(" ");
                }
                printer.push(body.get(from..end - start).unwrap_or_default());
                from = end - start;
            }
        });
        if !fits && !ends.is_empty() {
            self.line();
        }
        self.push(close);
    }

    /// The values of a tensor in braces, at most `max_elements` of them.
    pub(super) fn values<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut print: impl FnMut(&mut Self, T),
    ) {
        let shown = self.options.max_elements.unwrap_or(usize::MAX).min(values.len());
        let elided = shown < values.len();
        self.push("{");
        let mut line_start = self.out.rfind('\n').map_or(0, |newline| newline + 1);
        self.indented(|printer| {
            for (index, value) in values.take(shown).enumerate() {
                if index > 0 {
                    printer.push(",");
                    if printer.out.len() - line_start > WIDTH {
                        line_start = printer.out.len() + 1;
                        printer.line();
                    } else {
                        printer.push(" ");
                    }
                }
                print(printer, value);
            }
        });
        if elided {
            self.push(if shown > 0 { ", ..." } else { "..." });
        }
        self.push("}");
    }
}
