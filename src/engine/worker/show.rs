//! Values of a run shown to the program while they are warm: a few at a time, in two places of the shared memory in turn.

use std::io;

use super::lane::Lane;
use super::packet::Writer;
use super::tags;

/// Bytes of values that are shown together; a larger one goes alone.
const TOGETHER: u64 = 1 << 20;

/// What values take more than their bytes, since each begins at a round place.
const MARGIN: u64 = 1 << 16;

/// Shows values; the last of them go with the answer.
pub(super) struct Show<'l> {
    lane: &'l mut Lane,
    head: Vec<u8>,
    /// Where the values that are collected begin in shared memory, and where they end.
    place: (u64, u64),
    /// Where those lie that the program looks at now.
    shown: Option<(u64, u64)>,
    failure: Option<io::Error>,
}

impl<'l> Show<'l> {
    pub(super) fn new(lane: &'l mut Lane) -> Self {
        Self {
            lane,
            head: vec![tags::PART],
            place: (0, 0),
            shown: None,
            failure: None,
        }
    }

    /// Shows one value: its place among the names, its dimensions, its elements.
    pub(super) fn value(&mut self, at: usize, dims: &[u64], elements: &[f32]) {
        if self.failure.is_some() {
            return;
        }
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let size = bytes.len() as u64;
        let collected = self.place.1 - self.place.0;
        if self.head.len() > 1 && collected + size > TOGETHER {
            self.failure = self.send().err();
        }
        if self.head.len() == 1 {
            // Where the program does not look: before what it looks at, if there is room, or behind it.
            let start = match self.shown {
                Some((start, end)) if start < size.max(TOGETHER) + MARGIN => end,
                _ => 0,
            };
            self.place = (start, start);
        }
        let mut writer = Writer::resume(self.lane.board(), std::mem::take(&mut self.head), self.place.1);
        writer.number(at as u64);
        writer.dims(dims);
        writer.bytes(bytes);
        self.place.1 = writer.shared();
        self.head = writer.head;
    }

    /// Sends what is collected, once the program has looked at what it was sent before.
    fn send(&mut self) -> io::Result<()> {
        if self.shown.take().is_some() && self.lane.receive(None)?.is_none() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        self.lane.pass(&self.head, self.place.1)?;
        self.shown = Some(self.place);
        self.head = vec![tags::PART];
        Ok(())
    }

    /// The rest of the values, or the error that came instead of further ones.
    pub(super) fn finish(mut self, error: Option<impl FnOnce(&mut Writer<'_>)>) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.shown.take().is_some() && self.lane.receive(None)?.is_none() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        match error {
            None => {
                if let Some(tag) = self.head.first_mut() {
                    *tag = tags::DONE;
                }
                self.lane.pass(&self.head, self.place.1)
            }
            Some(write) => self.lane.send(write),
        }
    }
}
