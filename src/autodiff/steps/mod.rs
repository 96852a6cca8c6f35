//! Operators that are programs: written out in operators that have gradient rules, in the forward pass already.

mod attention;
mod gates;
mod recurrent;

pub(super) use attention::attention;
pub(super) use recurrent::{gru, lstm, rnn};
