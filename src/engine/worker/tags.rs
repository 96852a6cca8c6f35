//! What a message is.

/// A model to compile: bytes of memory, engine, program.
pub(super) const OPEN: u8 = 0;
/// A run: bytes of memory, whether to name nodes, whether held inputs count, inputs.
pub(super) const RUN: u8 = 1;
/// The same and names: float values are shown.
pub(super) const OBSERVE: u8 = 2;
/// Inputs that further runs share.
pub(super) const HOLD: u8 = 3;
/// One operator on constants; from the worker, the node that runs next.
pub(super) const NODE: u8 = 4;
/// The file of ONNX Runtime's library, to say its version.
pub(super) const LIBRARY: u8 = 5;
/// The model is not needed any more; there is no answer.
pub(super) const CLOSE: u8 = 6;

/// A run of which only the time is wanted.
pub(super) const TIME: u8 = 12;

/// What the engine does next and how long it may take.
pub(super) const BOUND: u8 = 7;
/// A part of the answer; the program says when it has looked at it.
pub(super) const PART: u8 = 13;
/// From the program: it has looked at the part.
pub(super) const SEEN: u8 = 14;
/// The answer, or the rest of it.
pub(super) const DONE: u8 = 8;
/// The engine's error.
pub(super) const ERROR: u8 = 9;

/// The engine of a model.
pub(super) const TRACT: u8 = 10;
pub(super) const ORT: u8 = 11;

/// What an engine does, as errors have it.
pub(super) fn place(name: &str) -> &'static str {
    ["compiling", "a run", "a constant", "loading"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("a call")
}
