//! A lane: a socket and a board for each direction. One call at a time; calls next to each other take lanes of their own.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::board::Board;
use super::packet::{FILES, Reader, Writer};
use crate::format::{file_bytes, shared_bytes};

/// A message as it came.
pub(super) struct Packet {
    pub(super) head: Vec<u8>,
    pub(super) shared: Bytes,
    pub(super) files: Vec<Bytes>,
}

impl Packet {
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.head, self.shared.clone(), &self.files)
    }
}

/// A message that can be sent again and again: its large parts are in files it carries, the last of which is its own.
pub(super) struct Message {
    head: Vec<u8>,
    files: Vec<Arc<File>>,
}

impl Message {
    pub(super) fn new(write: impl FnOnce(&mut Writer<'_>)) -> io::Result<Self> {
        let mut board = Board::new()?;
        let mut writer = Writer::with_files(&mut board);
        write(&mut writer);
        let (head, mut files) = (
            std::mem::take(&mut writer.head),
            std::mem::take(&mut writer.files),
        );
        files.push(Arc::new(board.file().try_clone()?));
        Ok(Self { head, files })
    }
}

/// Length of the message, bytes of shared memory.
const FRAME: usize = 16;
/// Instead of the bytes of shared memory: the last file takes its place.
const OWN: u64 = u64::MAX;

pub(super) struct Lane {
    socket: UnixStream,
    /// What this side writes.
    out: Board,
    /// What the other side writes.
    into: Board,
}

impl Lane {
    pub(super) fn new(socket: UnixStream, out: Board, into: Board) -> Self {
        Self { socket, out, into }
    }

    /// A lane, and what the other side needs for it: a socket, the board that it reads, the one that it writes.
    pub(super) fn pair() -> io::Result<(Self, [Arc<File>; 3])> {
        let (own, other) = UnixStream::pair()?;
        let (out, into) = (Board::new()?, Board::new()?);
        let other = File::from(std::os::fd::OwnedFd::from(other));
        let files = [
            Arc::new(other),
            Arc::new(out.file().try_clone()?),
            Arc::new(into.file().try_clone()?),
        ];
        Ok((Self::new(own, out, into), files))
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends a message whose large parts go to the board.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> io::Result<()> {
        let mut writer = Writer::new(&mut self.out);
        write(&mut writer);
        let (head, shared) = (std::mem::take(&mut writer.head), writer.shared());
        transmit(&self.socket, &head, shared, &[])
    }

    /// The board that this side writes.
    pub(super) fn board(&mut self) -> &mut Board {
        &mut self.out
    }

    /// Sends a message whose large parts are on the board, up to `shared`.
    pub(super) fn pass(&self, head: &[u8], shared: u64) -> io::Result<()> {
        transmit(&self.socket, head, shared, &[])
    }

    /// Sends a message that stands for itself: its large parts are in the files it carries.
    pub(super) fn repeat(&self, message: &Message) -> io::Result<()> {
        transmit(&self.socket, &message.head, OWN, &message.files)
    }

    /// Waits for a message until `deadline`; `None` if the other side is gone.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Packet>> {
        let left = |deadline: Instant| {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                Err(io::Error::from(io::ErrorKind::TimedOut))
            } else {
                Ok(left)
            }
        };
        let wait = |socket: &UnixStream| match deadline {
            Some(deadline) => socket.set_read_timeout(Some(left(deadline)?)),
            None => Ok(()),
        };
        wait(&self.socket)?;
        let Some((frame, mut files)) = receive_frame(&self.socket)? else {
            return Ok(None);
        };
        let number = |at: usize| {
            let bytes = frame.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let (length, shared) = (number(0), number(8));
        let mut head = Vec::new();
        let mut rest = (&self.socket).take(length);
        while (head.len() as u64) < length {
            wait(&self.socket)?;
            let mut part = [0; 1 << 16];
            match rest.read(&mut part) {
                Ok(0) => return Ok(None),
                Ok(count) => head.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let shared = match shared {
            OWN => match files.pop() {
                Some(file) => shared_bytes(&file)?,
                None => Bytes::new(),
            },
            bytes => self.into.read(bytes)?,
        };
        let files = files.into_iter().map(|file| {
            let size = file.metadata()?.len();
            file_bytes(file, size)
        });
        Ok(Some(Packet {
            head,
            shared,
            files: files.collect::<io::Result<_>>()?,
        }))
    }
}

/// The time that one send may take: the other side reads what it gets at once, unless it is stopped.
pub(super) const SENT: Duration = Duration::from_secs(10);

/// Sends a frame with files, and then the message.
pub(super) fn transmit(socket: &UnixStream, head: &[u8], shared: u64, files: &[Arc<File>]) -> io::Result<()> {
    let mut frame = [0; FRAME];
    let (length, memory) = frame.split_at_mut(8);
    length.copy_from_slice(&(head.len() as u64).to_le_bytes());
    memory.copy_from_slice(&shared.to_le_bytes());
    let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // A short message goes in one piece with its frame.
    let parts = [IoSlice::new(&frame), IoSlice::new(head)];
    let sent = loop {
        match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if sent < FRAME {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    let mut socket = socket;
    socket.write_all(head.get(sent - FRAME..).unwrap_or_default())
}

fn receive_frame(socket: &UnixStream) -> io::Result<Option<([u8; FRAME], Vec<File>)>> {
    let mut frame = [0; FRAME];
    let mut files = Vec::new();
    let mut filled = 0;
    while filled < FRAME {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let Some(rest) = frame.get_mut(filled..) else {
            break;
        };
        let mut parts = [IoSliceMut::new(rest)];
        let found = match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            // The other side ended with unread bytes.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                files.extend(descriptors.map(File::from));
            }
        }
        if found.bytes == 0 {
            return Ok(None);
        }
        filled += found.bytes;
    }
    Ok(Some((frame, files)))
}

/// Waits for the files of a new lane; `None` if the other side is gone.
pub(super) fn receive_files(socket: &UnixStream) -> io::Result<Option<Vec<File>>> {
    Ok(receive_frame(socket)?.map(|(_, files)| files))
}
