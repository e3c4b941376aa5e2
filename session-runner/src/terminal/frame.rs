//! The protocol between the owner of a session with a terminal and its viewers: frames over a Unix socket.
//!
//! A frame is a tag, the length of its payload in four bytes, least significant first, and the payload. The first frame
//! of a viewer is [`Hello`], with the descriptor of its terminal; the first of an owner is [`Welcome`] or a refusal.
//! Their form is the same in all versions, so that each side can say what the other one is.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use session_core::SessionId;

use super::pty::TerminalSize;

/// The version of this protocol.
pub(crate) const VERSION: u32 = 2;
/// Maximum bytes of a payload.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// Bytes of tag and length.
const HEADER: usize = 5;

/// The first frame of a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// `true` if it shows the output; otherwise it only types.
    pub(crate) shows: bool,
    /// `true` if what it types is dropped.
    pub(crate) read_only: bool,
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    /// Printed on its terminal if it leaves without a farewell.
    pub(crate) notice: String,
}

/// The first frame of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) version: u32,
    pub(crate) session: SessionId,
}

/// The last frame of an owner: the session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TerminalEnd {
    /// The exit code for a command that ran the session.
    pub exit_code: u8,
    /// `true` if SIGINT ended the program.
    pub interrupted: bool,
}

impl TerminalEnd {
    /// Creates the end of a session.
    #[must_use]
    pub const fn new(exit_code: u8, interrupted: bool) -> Self {
        Self { exit_code, interrupted }
    }
}

/// A frame of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ViewerFrame {
    Hello(Hello),
    /// Bytes that were typed.
    Input(Vec<u8>),
    /// The size of its terminal has changed.
    Resize(TerminalSize),
    /// It is about to change the modes of its terminal. The owner reads them and answers with [`OwnerFrame::Taken`].
    Take,
    /// It has restored them.
    Release,
    /// A signal for the program.
    Signal(i32),
    /// Its job runs again after a stop.
    Resume,
    /// It leaves, with its terminal in order.
    Farewell,
    /// Text to type as a whole, from a process that views nothing.
    Type(Vec<u8>),
}

/// A frame of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerFrame {
    Welcome(Welcome),
    /// The reason why this viewer is not served, or text not typed.
    Refused(String),
    /// Bytes that the program printed.
    Output(Vec<u8>),
    /// Answers [`ViewerFrame::Take`].
    Taken,
    /// Bytes that this viewer has missed, because it was too slow.
    Missed(u64),
    /// The session was paused from the terminal: the viewer's job is to stop.
    Suspend,
    /// A line for the person at the terminal: immediately, or once the terminal is in order again.
    Notice {
        text: String,
        now: bool,
    },
    /// A notification for the person at the terminal, by the terminal's own means.
    Notification {
        title: String,
        text: String,
    },
    /// The program's terminal is closed: nothing can be typed at it any more.
    Closed,
    End(TerminalEnd),
    /// The text was typed.
    Typed,
}

impl ViewerFrame {
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Hello(hello) => json(b'h', hello),
            Self::Input(bytes) => frame(b'i', bytes),
            Self::Resize(TerminalSize { rows, columns }) => json(b's', &(rows, columns)),
            Self::Take => frame(b't', &[]),
            Self::Release => frame(b'r', &[]),
            Self::Signal(signal) => json(b'k', signal),
            Self::Resume => frame(b'c', &[]),
            Self::Farewell => frame(b'f', &[]),
            Self::Type(text) => frame(b'y', text),
        }
    }

    fn decode(tag: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match tag {
            b'h' => Self::Hello(parse(&payload)?),
            b'i' => Self::Input(payload),
            b's' => {
                let (rows, columns) = parse(&payload)?;
                Self::Resize(TerminalSize { rows, columns })
            }
            b't' => Self::Take,
            b'r' => Self::Release,
            b'k' => Self::Signal(parse(&payload)?),
            b'c' => Self::Resume,
            b'f' => Self::Farewell,
            b'y' => Self::Type(payload),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

impl OwnerFrame {
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Welcome(welcome) => json(b'H', welcome),
            Self::Refused(reason) => frame(b'X', reason.as_bytes()),
            Self::Output(bytes) => encode_output(bytes),
            Self::Taken => frame(b'T', &[]),
            Self::Missed(bytes) => json(b'M', bytes),
            Self::Suspend => frame(b'Z', &[]),
            Self::Notice { text, now } => json(b'N', &(text, now)),
            Self::Notification { title, text } => json(b'Q', &(title, text)),
            Self::Closed => frame(b'C', &[]),
            Self::End(end) => json(b'E', end),
            Self::Typed => frame(b'Y', &[]),
        }
    }

    fn decode(tag: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match tag {
            b'H' => Self::Welcome(parse(&payload)?),
            b'X' => Self::Refused(String::from_utf8_lossy(&payload).into_owned()),
            b'O' => Self::Output(payload),
            b'T' => Self::Taken,
            b'M' => Self::Missed(parse(&payload)?),
            b'Z' => Self::Suspend,
            b'N' => {
                let (text, now) = parse(&payload)?;
                Self::Notice { text, now }
            }
            b'Q' => {
                let (title, text) = parse(&payload)?;
                Self::Notification { title, text }
            }
            b'C' => Self::Closed,
            b'E' => Self::End(parse(&payload)?),
            b'Y' => Self::Typed,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// Encodes the frame of output, without a copy of the bytes in between.
pub(crate) fn encode_output(bytes: &[u8]) -> io::Result<Vec<u8>> {
    frame(b'O', bytes)
}

fn frame(tag: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(tag);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

fn json(tag: u8, payload: &impl Serialize) -> io::Result<Vec<u8>> {
    frame(tag, &serde_json::to_vec(payload)?)
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(payload)?)
}

/// The bytes of frames that were received in part.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    /// The number of bytes of frames that were taken already.
    taken: usize,
}

impl FrameBuffer {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend(bytes);
    }

    /// Returns the next frame of a viewer.
    pub(crate) fn next_of_viewer(&mut self) -> io::Result<Option<ViewerFrame>> {
        self.next()
            .and_then(|frame| frame.map(|(tag, payload)| ViewerFrame::decode(tag, payload)).transpose())
    }

    /// Returns the next frame of an owner.
    pub(crate) fn next_of_owner(&mut self) -> io::Result<Option<OwnerFrame>> {
        self.next().and_then(|frame| frame.map(|(tag, payload)| OwnerFrame::decode(tag, payload)).transpose())
    }

    fn next(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, after)) = rest.split_at_checked(HEADER) else { return Ok(None) };
        let &[tag, a, b, c, d] = header else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(payload) = after.get(..length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.taken += HEADER + length;
        Ok(Some((tag, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_split_anywhere_are_read_whole() {
        let size = TerminalSize { rows: 50, columns: 132 };
        let hello = Hello {
            version: VERSION,
            shows: true,
            read_only: true,
            rows: 24,
            columns: 80,
            notice: "it runs on".into(),
        };
        let frames = [
            ViewerFrame::Hello(hello),
            ViewerFrame::Input(b"ls\r".to_vec()),
            ViewerFrame::Input(Vec::new()),
            ViewerFrame::Resize(size),
            ViewerFrame::Take,
            ViewerFrame::Release,
            ViewerFrame::Signal(15),
            ViewerFrame::Resume,
            ViewerFrame::Type(b"yes".to_vec()),
            ViewerFrame::Farewell,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect();
        for step in [1, 2, 3, 7, bytes.len()] {
            let (mut buffer, mut read) = (FrameBuffer::default(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend(piece);
                while let Some(frame) = buffer.next_of_viewer().unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames);
        }
    }

    #[test]
    fn frames_of_an_owner_are_read_back() {
        let session = SessionId::random();
        for sent in [
            OwnerFrame::Welcome(Welcome { version: VERSION, session }),
            OwnerFrame::Refused("no".into()),
            OwnerFrame::Output(vec![0, 255]),
            OwnerFrame::Taken,
            OwnerFrame::Missed(7),
            OwnerFrame::Suspend,
            OwnerFrame::Notice { text: "it waits".into(), now: true },
            OwnerFrame::Notification { title: "it".into(), text: "asks".into() },
            OwnerFrame::Closed,
            OwnerFrame::End(TerminalEnd::new(130, true)),
            OwnerFrame::Typed,
        ] {
            let mut buffer = FrameBuffer::default();
            buffer.extend(&sent.encode().unwrap());
            assert_eq!(buffer.next_of_owner().unwrap(), Some(sent));
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [&b"?\0\0\0\0"[..], b"i\xff\xff\xff\xff", b"h\x01\0\0\0{", b"s\x02\0\0\0[]"] {
            let mut buffer = FrameBuffer::default();
            buffer.extend(bytes);
            assert!(buffer.next_of_viewer().is_err(), "{bytes:?}");
        }
        assert!(frame(b'i', &vec![0; MAX_PAYLOAD + 1]).is_err());
    }
}
