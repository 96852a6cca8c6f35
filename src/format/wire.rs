//! A walk over the bytes of a model that decodes nothing.
//!
//! It bounds depth, sizes and counts before the decoder allocates, and finds what the decoder drops in silence: unknown
//! fields and singular fields that occur twice. Tensor bytes are skipped, not read.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;

use super::error::{FormatError, WireProblem};
use super::limits::{Limits, Warning, WarningKind};

/// A message type of the schema.
struct Message {
    name: &'static str,
    fields: &'static [Field],
}

/// A field of a message type.
struct Field {
    number: u32,
    name: &'static str,
    kind: Kind,
    repeated: bool,
    /// Which fields may not be present together: the members of a oneof share a slot.
    slot: usize,
}

/// How a field is written.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Message(usize),
}

include!(concat!(env!("OUT_DIR"), "/wire_schema.rs"));

/// Warnings kept; a hostile file can have millions.
const KEPT_WARNINGS: usize = 64;
const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

/// Checks that `bytes` are a well-formed `ModelProto` within `limits`; returns what is unusual about it.
pub(super) fn check_model(bytes: &[u8], limits: &Limits) -> Result<Vec<Warning>, FormatError> {
    let mut walker = Walker {
        start: bytes.as_ptr() as usize,
        limits,
        depth_limit: limits.depth.min(100),
        messages: 0,
        strings: 0,
        path: Vec::new(),
        warnings: Vec::new(),
        dropped: 0,
    };
    walker.message(MODEL, bytes)?;
    if walker.dropped > 0 {
        walker.warnings.push(Warning {
            kind: WarningKind::More(walker.dropped),
            at: "model".to_owned(),
        });
    }
    Ok(walker.warnings)
}

/// Bounds for what has been admitted already.
static ADMITTED: Limits = Limits {
    depth: 0,
    messages: 0,
    strings: 0,
    stream_bytes: 0,
};

struct Walker<'a> {
    start: usize,
    limits: &'a Limits,
    depth_limit: usize,
    messages: u64,
    strings: u64,
    path: Vec<(&'static str, Option<u32>)>,
    warnings: Vec<Warning>,
    dropped: u64,
}

impl Walker<'_> {
    /// Reads parts of a message that [`check_model`] has admitted.
    fn admitted() -> Self {
        Self {
            start: 0,
            limits: &ADMITTED,
            depth_limit: 100,
            messages: 0,
            strings: 0,
            path: Vec::new(),
            warnings: Vec::new(),
            dropped: 0,
        }
    }

    fn message(&mut self, message: usize, mut bytes: &[u8]) -> Result<(), FormatError> {
        let Some(schema) = MESSAGES.get(message) else {
            return Ok(());
        };
        self.messages += 1;
        if self.path.len() > self.depth_limit {
            return Err(self.error(bytes, WireProblem::Depth(self.depth_limit)));
        }
        if self.messages > self.limits.messages {
            return Err(self.error(bytes, WireProblem::Messages(self.limits.messages)));
        }
        let mut seen = [0u32; SLOTS];
        while !bytes.is_empty() {
            let at = bytes;
            let (number, wire_type) = self.tag(&mut bytes)?;
            let Some(field) = schema.fields.iter().find(|field| field.number == number) else {
                self.warn(WarningKind::UnknownField(number), schema);
                self.skip(number, wire_type, &mut bytes, 0)?;
                continue;
            };
            let count = seen.get_mut(field.slot).map_or(0, |count| {
                let before = *count;
                *count = count.saturating_add(1);
                before
            });
            if count > 0 && !field.repeated {
                self.warn(WarningKind::RepeatedField(number), schema);
            }
            self.path.push((field.name, field.repeated.then_some(count)));
            self.field(field, wire_type, at, &mut bytes)?;
            self.path.pop();
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire_type: u8,
        at: &[u8],
        bytes: &mut &[u8],
    ) -> Result<(), FormatError> {
        match (field.kind, wire_type) {
            (Kind::Varint, 0) => self.varint(bytes).map(drop),
            (Kind::Fixed64, 1) => self.take(bytes, 8).map(drop),
            (Kind::Fixed32, 5) => self.take(bytes, 4).map(drop),
            (Kind::Varint | Kind::Fixed32 | Kind::Fixed64, 2) if field.repeated => {
                self.delimited(bytes).map(drop)
            }
            (Kind::Bytes | Kind::Text, 2) => {
                self.strings += 1;
                if self.strings > self.limits.strings {
                    return Err(self.error(at, WireProblem::Strings(self.limits.strings)));
                }
                let text = self.delimited(bytes)?;
                if field.kind == Kind::Text && std::str::from_utf8(text).is_err() {
                    return Err(self.error(text, WireProblem::Utf8));
                }
                Ok(())
            }
            (Kind::Message(inner), 2) => {
                let content = self.delimited(bytes)?;
                self.message(inner, content)
            }
            _ => Err(self.error(at, WireProblem::WireType(wire_type))),
        }
    }

    /// Skips an unknown field.
    fn skip(&self, number: u32, wire_type: u8, bytes: &mut &[u8], depth: usize) -> Result<(), FormatError> {
        match wire_type {
            0 => self.varint(bytes).map(drop),
            1 => self.take(bytes, 8).map(drop),
            2 => self.delimited(bytes).map(drop),
            3 => {
                if self.path.len() + depth >= self.depth_limit {
                    return Err(self.error(bytes, WireProblem::Depth(self.depth_limit)));
                }
                loop {
                    if bytes.is_empty() {
                        return Err(self.error(bytes, WireProblem::Group));
                    }
                    let at = *bytes;
                    match self.tag(bytes)? {
                        (end, 4) if end == number => return Ok(()),
                        (_, 4) => return Err(self.error(at, WireProblem::Group)),
                        (inner, wire_type) => self.skip(inner, wire_type, bytes, depth + 1)?,
                    }
                }
            }
            4 => Err(self.error(bytes, WireProblem::Group)),
            5 => self.take(bytes, 4).map(drop),
            other => Err(self.error(bytes, WireProblem::WireType(other))),
        }
    }

    fn tag(&self, bytes: &mut &[u8]) -> Result<(u32, u8), FormatError> {
        let at = *bytes;
        let tag = self.varint(bytes)?;
        let number = tag >> 3;
        match u32::try_from(number) {
            Ok(small) if number != 0 && number <= MAX_FIELD_NUMBER => Ok((small, (tag & 7) as u8)),
            _ => Err(self.error(at, WireProblem::FieldNumber(number))),
        }
    }

    fn varint(&self, bytes: &mut &[u8]) -> Result<u64, FormatError> {
        let at = *bytes;
        let mut value = 0u64;
        for shift in 0..10 {
            let Some((byte, rest)) = bytes.split_first() else {
                return Err(self.error(at, WireProblem::Truncated));
            };
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << (shift * 7);
            if byte & 0x80 == 0 {
                if shift == 9 && *byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(self.error(at, WireProblem::Varint))
    }

    fn delimited<'b>(&self, bytes: &mut &'b [u8]) -> Result<&'b [u8], FormatError> {
        let declared = self.varint(bytes)?;
        let available = bytes.len() as u64;
        match usize::try_from(declared) {
            Ok(length) if declared <= available => self.take(bytes, length),
            _ => Err(self.error(bytes, WireProblem::DeclaredSize { declared, available })),
        }
    }

    fn take<'b>(&self, bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8], FormatError> {
        let (taken, rest) = bytes
            .split_at_checked(length)
            .ok_or_else(|| self.error(bytes, WireProblem::Truncated))?;
        *bytes = rest;
        Ok(taken)
    }

    fn warn(&mut self, kind: WarningKind, schema: &Message) {
        let repeats = |kind: WarningKind| matches!(kind, WarningKind::RepeatedField(_));
        // The first of these is always kept: it tells that a message stands in parts.
        let first = repeats(kind) && !self.warnings.iter().any(|warning| repeats(warning.kind));
        if self.warnings.len() < KEPT_WARNINGS || first {
            let at = if self.path.is_empty() {
                schema.name.to_owned()
            } else {
                self.location()
            };
            self.warnings.push(Warning { kind, at });
        } else {
            self.dropped += 1;
        }
    }

    fn error(&self, at: &[u8], problem: WireProblem) -> FormatError {
        let at_path = if self.path.is_empty() {
            "ModelProto".to_owned()
        } else {
            self.location()
        };
        FormatError::Malformed {
            at: at_path,
            offset: (at.as_ptr() as usize).saturating_sub(self.start) as u64,
            problem,
        }
    }

    fn location(&self) -> String {
        let mut text = String::new();
        for (position, (name, index)) in self.path.iter().enumerate() {
            if position > 0 {
                text.push('.');
            }
            text.push_str(name);
            if let Some(index) = index {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "[{index}]");
            }
        }
        text
    }
}

/// A field of a message that [`check_model`] has admitted.
pub(super) struct Found<'b> {
    pub(super) number: u32,
    /// The value of a field of variable length; 0 for others.
    pub(super) varint: u64,
    /// The content of a field with a length, or the bytes of a fixed one; empty for others.
    pub(super) content: &'b [u8],
}

/// The fields of a message that [`check_model`] has admitted, as far as they can be read; groups end it.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let walker = Walker::admitted();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (number, wire_type) = walker.tag(&mut bytes).ok()?;
        let (varint, content) = match wire_type {
            0 => (walker.varint(&mut bytes).ok()?, Default::default()),
            1 => (0, walker.take(&mut bytes, 8).ok()?),
            2 => (0, walker.delimited(&mut bytes).ok()?),
            5 => (0, walker.take(&mut bytes, 4).ok()?),
            _ => return None,
        };
        Some(Found {
            number,
            varint,
            content,
        })
    })
}

/// Calls `visitor` with the bytes of each message of the type called `name` in a model that [`check_model`] has admitted.
pub(super) fn visit_messages<'b>(bytes: &'b [u8], name: &str, visitor: &mut dyn FnMut(&'b [u8])) {
    visit_in(MODEL, bytes, name, visitor);
}

fn visit_in<'b>(message: usize, bytes: &'b [u8], name: &str, visitor: &mut dyn FnMut(&'b [u8])) {
    let Some(schema) = MESSAGES.get(message) else {
        return;
    };
    if schema.name == name {
        return visitor(bytes);
    }
    for found in fields(bytes) {
        let known = schema.fields.iter().find(|field| field.number == found.number);
        if let Some(Kind::Message(inner)) = known.map(|field| field.kind) {
            visit_in(inner, found.content, name, visitor);
        }
    }
}

/// Where a field of a message that [`check_model`] has admitted stands in it.
pub(super) struct Span {
    pub(super) number: u32,
    /// From its tag to its end.
    pub(super) whole: Range<usize>,
    /// Where its tag ends.
    tag: usize,
    /// The content of a field with a length; of others nothing, at their end.
    content: Range<usize>,
}

/// The fields of a message that [`check_model`] has admitted by their places, groups included.
pub(super) fn spans(bytes: &[u8]) -> impl Iterator<Item = Span> {
    let walker = Walker::admitted();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = bytes.len() - rest.len();
        let (number, wire_type) = walker.tag(&mut rest).ok()?;
        let tag = bytes.len() - rest.len();
        let length = if wire_type == 2 {
            walker.delimited(&mut rest).ok()?.len()
        } else {
            walker.skip(number, wire_type, &mut rest, 0).ok()?;
            0
        };
        let end = bytes.len() - rest.len();
        Some(Span {
            number,
            whole: start..end,
            tag,
            content: end - length..end,
        })
    })
}

/// What is done with messages: gets the name of the field that a message is and its bytes, and answers the pieces of what takes their place.
pub(super) type Editor<'e, E> = &'e mut dyn FnMut(&'static str, Bytes) -> Result<Option<Vec<Bytes>>, E>;

/// Hands each message of the type called `name` in a model that [`check_model`] has admitted to `editor`, in the order of the file. The pieces
/// of the new model, in which every other byte is as it was but the lengths around what is new; `None` where nothing is.
pub(super) fn edit_messages<E>(
    bytes: &Bytes,
    name: &str,
    editor: Editor<'_, E>,
) -> Result<Option<Vec<Bytes>>, E> {
    edit_in(MODEL, bytes, name, editor)
}

fn edit_in<E>(
    message: usize,
    bytes: &Bytes,
    name: &str,
    editor: Editor<'_, E>,
) -> Result<Option<Vec<Bytes>>, E> {
    let Some(schema) = MESSAGES.get(message) else {
        return Ok(None);
    };
    let mut pieces = Vec::new();
    let mut kept = 0;
    for span in spans(bytes) {
        let known = schema.fields.iter().find(|field| field.number == span.number);
        let Some((field, Kind::Message(inner))) = known.map(|field| (field.name, field.kind)) else {
            continue;
        };
        let content = bytes.slice(span.content.clone());
        let wanted = MESSAGES.get(inner).is_some_and(|inner| inner.name == name);
        let edited = if wanted {
            editor(field, content)?
        } else {
            edit_in(inner, &content, name, editor)?
        };
        if let Some(edited) = edited {
            let mut length = Vec::new();
            prost::encoding::encode_varint(edited.iter().map(|piece| piece.len() as u64).sum(), &mut length);
            pieces.push(bytes.slice(kept..span.tag));
            pieces.push(Bytes::from(length));
            pieces.extend(edited);
            kept = span.whole.end;
        }
    }
    if pieces.is_empty() {
        return Ok(None);
    }
    pieces.push(bytes.slice(kept..));
    Ok(Some(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(bytes: &[u8]) -> Result<Vec<(&'static str, String)>, &'static str> {
        check_model(bytes, &Limits::default())
            .map(|found| found.into_iter().map(|w| (w.kind.code(), w.at)).collect())
            .map_err(|error| error.code())
    }

    #[test]
    fn unknown_and_repeated_fields_are_found_with_their_path() {
        // graph { node {} node { field 99: varint } }
        assert_eq!(
            codes(&[0x3a, 7, 0x0a, 0, 0x0a, 3, 0x98, 0x06, 1]),
            Ok(vec![("unknown-field", "graph.node[1]".to_owned())])
        );
        // ir_version twice
        assert_eq!(
            codes(&[0x08, 7, 0x08, 8]),
            Ok(vec![("repeated-field", "ModelProto".to_owned())])
        );
        // Both members of Dimension's oneof: dim_value then dim_param, in graph.input[0].type.tensor_type.shape.dim[0].
        let dim = [0x08, 1, 0x12, 1, b'n'];
        let mut bytes = dim.to_vec();
        for tag in [0x0a, 0x12, 0x0a, 0x12, 0x5a, 0x3a] {
            bytes.splice(0..0, [tag, bytes.len() as u8]);
        }
        assert_eq!(
            codes(&bytes),
            Ok(vec![(
                "repeated-field",
                "graph.input[0].type.tensor_type.shape.dim[0]".to_owned()
            )])
        );
    }

    #[test]
    fn malformed_bytes_are_named() {
        use WireProblem::*;
        // A graph input whose type is a sequence of a sequence ... 60 times: 120 messages deep.
        let mut deep = Vec::new();
        for tag in [0x0a, 0x22].repeat(60).into_iter().chain([0x12, 0x5a, 0x3a]) {
            let mut header = vec![tag];
            prost::encoding::encode_varint(deep.len() as u64, &mut header);
            deep.splice(0..0, header);
        }
        let endless = [[0x08].as_slice(), &[0xff; 10]].concat();
        let huge = [[0x3a].as_slice(), &[0xff; 8], &[0x7f]].concat();
        let cases: [(&[u8], WireProblem); 11] = [
            (&[0x08], Truncated),
            (
                &[0x3a, 5, 0x0a],
                DeclaredSize {
                    declared: 5,
                    available: 1,
                },
            ),
            (
                &huge,
                DeclaredSize {
                    declared: i64::MAX as u64,
                    available: 0,
                },
            ),
            (&endless, Varint),
            (&[0x00, 1], FieldNumber(0)),
            (&[0x0a, 0], WireType(2)),
            (&[0x12, 1, 0xff], Utf8),
            (&[0x9b, 0x06], Group),
            (&[0x9c, 0x06], Group),
            (&[0x9e, 0x06], WireType(6)),
            (&deep, Depth(100)),
        ];
        for (bytes, expected) in cases {
            match check_model(bytes, &Limits::default()) {
                Err(FormatError::Malformed { problem, .. }) => assert_eq!(problem, expected, "{bytes:02x?}"),
                other => panic!("{bytes:02x?}: {other:?}"),
            }
        }
    }

    #[test]
    fn counts_are_bounded() {
        let limits = Limits {
            messages: 3,
            strings: 2,
            ..Limits::default()
        };
        let code = |bytes: &[u8]| check_model(bytes, &limits).err().map(|error| error.code());
        assert_eq!(code(&[0x42, 0, 0x42, 0]), None);
        assert_eq!(code(&[0x42, 0, 0x42, 0, 0x42, 0]), Some("too-many-messages"));
        assert_eq!(code(&[0x12, 0, 0x1a, 0, 0x22, 0]), Some("too-many-strings"));
    }

    #[test]
    fn warnings_are_bounded() {
        let many = [0x98, 0x06, 1].repeat(100);
        let found = check_model(&many, &Limits::default()).unwrap();
        assert_eq!(found.len(), KEPT_WARNINGS + 1);
        assert_eq!(
            found.last().map(|w| w.kind),
            Some(WarningKind::More(100 - KEPT_WARNINGS as u64))
        );
        // ir_version three times behind as many unknown fields.
        let found = check_model(&[&many[..], &[0x08, 7].repeat(3)].concat(), &Limits::default()).unwrap();
        let repeated = found
            .iter()
            .filter(|found| matches!(found.kind, WarningKind::RepeatedField(1)));
        assert_eq!((repeated.count(), found.len()), (1, KEPT_WARNINGS + 2));
    }

    #[test]
    fn messages_are_edited_and_every_other_byte_stays() {
        // An unknown group, graph { unknown 99, initializer { raw_data } with a length in two bytes, name }, ir_version.
        let tensor = [0x4au8, 3, 1, 2, 3];
        let inside = [
            &[0x98u8, 0x06, 1, 0x2a, 0x85, 0x00][..],
            &tensor,
            &[0x12, 1, b'g'],
        ]
        .concat();
        let group = [0x9bu8, 0x06, 0x08, 1, 0x9c, 0x06];
        let model = [&group[..], &[0x3a, inside.len() as u8], &inside, &[0x08, 7]].concat();
        check_model(&model, &Limits::default()).unwrap();
        let model = Bytes::from(model);
        let edit = |new: Option<Vec<Bytes>>| {
            let mut seen = Vec::new();
            let edited = edit_messages(&model, "TensorProto", &mut |field, bytes| {
                seen.push((field, bytes));
                Ok::<_, ()>(new.clone())
            });
            assert_eq!(seen, [("initializer", Bytes::copy_from_slice(&tensor))]);
            edited.unwrap()
        };
        assert_eq!(edit(None), None);
        let long = vec![7u8; 200];
        let edited = edit(Some(vec![Bytes::from(long.clone()), Bytes::from_static(&[8])])).unwrap();
        let inside = [
            &[0x98u8, 0x06, 1, 0x2a, 0xc9, 0x01][..],
            &long,
            &[8, 0x12, 1, b'g'],
        ]
        .concat();
        let length = [0x3a, inside.len() as u8 | 0x80, 1];
        assert!((128..256).contains(&inside.len()));
        assert_eq!(
            edited.concat(),
            [&group[..], &length, &inside, &[0x08, 7]].concat()
        );
    }
}
