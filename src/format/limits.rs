//! What a reader accepts, and what it only warns about.

use std::fmt;

/// Bounds on what is read, so that a small file cannot ask for much memory or a deep stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nested messages. Never above 100, where the decoder stops.
    pub depth: usize,
    /// Messages in one model; each takes up to about 400 bytes of memory.
    pub messages: u64,
    /// Strings and byte strings in one model.
    pub strings: u64,
    /// Bytes read from standard input or a pipe.
    pub stream_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 100,
            messages: 1 << 22,
            strings: 1 << 24,
            stream_bytes: crate::files::LARGEST_STREAM,
        }
    }
}

/// How to read a model.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Whether a warning is an error.
    pub strict: bool,
    /// Bounds.
    pub limits: Limits,
    /// The directory of external data for a model that comes as bytes or from a stream; without one, external data is
    /// refused there.
    pub directory: Option<std::path::PathBuf>,
    /// The model by which a container was packed; without one, it is looked for beside the container.
    pub base: Option<std::path::PathBuf>,
}

/// Something about a file that the reader accepts but that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub kind: WarningKind,
    /// Where: a path such as `graph.node[3]`, or the name of a file.
    pub at: String,
}

/// The kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// A field that this version of the schema does not know; it is lost when the model is rewritten.
    UnknownField(u32),
    /// A field that may occur once occurs again; the last one wins.
    RepeatedField(u32),
    /// An external data file with more than one name; writing through the other name would change this model.
    HardLink,
    /// A recorded checksum that is not 40 hexadecimal digits.
    UnreadableChecksum,
    /// An initializer that is given again with the same elements.
    RepeatedInitializer,
    /// More warnings than are kept.
    More(u64),
}

impl WarningKind {
    /// A stable name for this kind of warning; the error's code under `strict`.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownField(_) => "unknown-field",
            Self::RepeatedField(_) => "repeated-field",
            Self::HardLink => "external-hard-link",
            Self::UnreadableChecksum => "external-unreadable-checksum",
            Self::RepeatedInitializer => "duplicate-value",
            Self::More(_) => "more-warnings",
        }
    }
}

impl Warning {
    /// Whether the model that was read is another than the file.
    pub fn repaired(&self) -> bool {
        self.kind == WarningKind::RepeatedInitializer
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        match self.kind {
            WarningKind::UnknownField(number) => {
                write!(
                    f,
                    "{at}: unknown field {number}, which a rewritten model will not have"
                )
            }
            WarningKind::RepeatedField(number) => {
                write!(f, "{at}: field {number} occurs more than once; the last one wins")
            }
            WarningKind::HardLink => write!(
                f,
                "{at}: the external data file has more than one name (hard link)"
            ),
            WarningKind::UnreadableChecksum => write!(f, "{at}: the recorded checksum is not a SHA-1 digest"),
            WarningKind::RepeatedInitializer => {
                write!(
                    f,
                    "{at}: the initializer is given twice with the same elements; one stays"
                )
            }
            WarningKind::More(count) => write!(f, "{at}: {count} more warnings"),
        }
    }
}
