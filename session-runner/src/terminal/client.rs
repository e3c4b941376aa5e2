//! The side of a viewer: the connection to the owner of a session with a terminal.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream as StdStream;

use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use session_core::{ErrorCode, SessionId};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::attach_socket::socket_of;
use super::frame::{FrameBuffer, Hello, OwnerFrame, TerminalEnd, VERSION, ViewerFrame};
use super::notification::notification;
use super::pty::TerminalSize;
use super::terminal_state::TerminalState;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that may wait for the owner.
const MAX_WAITING: usize = 64 * 1024;
/// Bytes of notifications that may wait. Further ones are dropped.
const MAX_NOTIFICATIONS: usize = 4096;

/// The reason why a viewer cannot attach, or a text is not typed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The session has no terminal, or no owner on this machine.
    #[error("session {id} has no terminal that can be attached to on this machine")]
    NoTerminal {
        /// The session.
        id: SessionId,
    },
    /// The owner refused.
    #[error("{reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// The owner is gone, or the connection failed.
    #[error("the connection to the owner of the session failed: {0}")]
    Connection(io::Error),
}

impl AttachError {
    /// Returns the stable error code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoTerminal { .. } | Self::Refused { .. } => ErrorCode::IllegalTransition,
            Self::Connection(_) => ErrorCode::StorageUnavailable,
        }
    }
}

/// The way in which a viewer introduces itself.
#[derive(Debug, Clone, Copy)]
pub struct ViewerOptions<'a> {
    /// The viewer's terminal; `None` for one that only shows.
    pub terminal: Option<BorrowedFd<'a>>,
    /// `true` to drop what it types.
    pub read_only: bool,
    /// The line that the owner prints on the viewer's terminal if the viewer is killed, with the session's id in place of
    /// `@session`.
    pub notice: &'a str,
}

/// An event for a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewerEvent {
    /// Bytes that the program printed, unchanged.
    Output(Vec<u8>),
    /// The owner has noted the modes of the viewer's terminal, which may be changed now.
    Taken,
    /// This viewer was too slow and has missed so many bytes; what it shows is drawn again.
    Missed(u64),
    /// The session was paused from the terminal: the viewer's job is to stop.
    Suspend,
    /// A line for the person at the terminal.
    Notice {
        /// The line.
        text: String,
        /// `true` to print it immediately, otherwise once the terminal is in order again.
        now: bool,
    },
    /// A notification for the person at the terminal: bytes to show between the program's output. They print nothing.
    Notification(Vec<u8>),
    /// The program's terminal is closed: all output was shown, and what is typed now is for another reader.
    Closed,
    /// The session has ended.
    End(TerminalEnd),
}

/// A connection to the owner of a session with a terminal.
#[derive(Debug)]
pub struct ViewerConnection {
    session: Option<SessionId>,
    socket: UnixStream,
    frames: FrameBuffer,
    waiting: VecDeque<u8>,
    buffer: Vec<u8>,
    /// `true` once the program's terminal is closed.
    is_closed: bool,
    /// Notifications that wait until no sequence of the program is half shown.
    notifications: Vec<u8>,
    /// The modes that the output shown here has set.
    state: TerminalState,
}

impl ViewerConnection {
    /// Attaches to the terminal of a session that runs on this machine.
    ///
    /// # Errors
    /// If there is none, or its owner refuses.
    pub async fn attach(id: SessionId, options: ViewerOptions<'_>) -> Result<Self, AttachError> {
        let connected = Self::greet(connect(id)?, hello(options, true), options.terminal).await?;
        connected.ok_or_else(disconnected)
    }

    /// Introduces itself to the owner at the other end, which was given its end by
    /// [`Runner::viewer`](crate::Runner::viewer). `None` if the owner is gone before there was a terminal.
    ///
    /// # Errors
    /// If the owner refuses.
    pub async fn first(stream: StdStream, options: ViewerOptions<'_>) -> Result<Option<Self>, AttachError> {
        Self::greet(stream, hello(options, true), options.terminal).await
    }

    async fn greet(
        stream: StdStream,
        hello: Hello,
        terminal: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Self>, AttachError> {
        let failed = AttachError::Connection;
        send_hello(&stream, hello, terminal).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let socket = UnixStream::from_std(stream).map_err(failed)?;
        let (frames, waiting) = (FrameBuffer::default(), VecDeque::new());
        let state = TerminalState::new(TerminalSize::default());
        let buffer = vec![0; READ_BYTES];
        let mut connection = Self {
            session: None,
            socket,
            frames,
            waiting,
            buffer,
            is_closed: false,
            notifications: Vec::new(),
            state,
        };
        match connection.next_frame().await {
            Some(OwnerFrame::Welcome(welcome)) => {
                connection.session = Some(welcome.session);
                Ok(Some(connection))
            }
            Some(OwnerFrame::Refused(reason)) => Err(AttachError::Refused { reason }),
            Some(_) => Err(failed(io::ErrorKind::InvalidData.into())),
            None => Ok(None),
        }
    }

    /// Returns the session's id.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Returns the next event; `None` once the owner is gone. Sends what waits, too. The future may be dropped.
    pub async fn next(&mut self) -> Option<ViewerEvent> {
        loop {
            if !self.notifications.is_empty() && self.state.is_ground() {
                return Some(ViewerEvent::Notification(std::mem::take(&mut self.notifications)));
            }
            return Some(match self.next_frame().await? {
                OwnerFrame::Output(bytes) => {
                    self.state.advance(&bytes, None);
                    ViewerEvent::Output(bytes)
                }
                OwnerFrame::Taken => ViewerEvent::Taken,
                OwnerFrame::Missed(bytes) => ViewerEvent::Missed(bytes),
                OwnerFrame::Suspend => ViewerEvent::Suspend,
                OwnerFrame::Notice { text, now } => ViewerEvent::Notice { text, now },
                OwnerFrame::Notification { title, text } => {
                    if self.notifications.len() < MAX_NOTIFICATIONS {
                        self.notifications.extend(notification(&title, &text));
                    }
                    continue;
                }
                OwnerFrame::Closed => {
                    self.is_closed = true;
                    ViewerEvent::Closed
                }
                OwnerFrame::End(end) => ViewerEvent::End(end),
                OwnerFrame::Welcome(_) | OwnerFrame::Refused(_) | OwnerFrame::Typed => continue,
            });
        }
    }

    async fn next_frame(&mut self) -> Option<OwnerFrame> {
        loop {
            if let Some(frame) = self.frames.next_of_owner().ok()? {
                return Some(frame);
            }
            let writes = if self.waiting.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.socket.ready(writes).await.ok()?;
            if ready.is_writable() {
                self.flush();
            }
            if ready.is_readable() {
                match self.socket.try_read(&mut self.buffer) {
                    Ok(0) => return None,
                    Ok(read) => self.frames.extend(self.buffer.get(..read).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return None,
                }
            }
        }
    }

    /// Returns the bytes that bring a terminal that has shown all output so far back to its default modes: from the
    /// alternate screen, with mouse reports off and so on. Empty if the program has left nothing to reset.
    #[must_use]
    pub fn reset_sequence(&self) -> Vec<u8> {
        self.state.reset()
    }

    /// Returns `true` if a line of text may be printed between the program's output: it does not use the whole screen, and
    /// no control sequence is half shown.
    #[must_use]
    pub fn accepts_line(&self) -> bool {
        !self.state.is_alternate_screen() && self.state.is_ground()
    }

    /// Returns `true` if more may be read from the viewer's terminal: the owner has taken what was sent so far, and the
    /// program's terminal is open. After that, keys are for another reader.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        self.waiting.len() < MAX_WAITING && !self.is_closed
    }

    /// Types bytes at the program's terminal.
    pub fn type_input(&mut self, bytes: &[u8]) {
        self.send(&ViewerFrame::Input(bytes.to_vec()));
    }

    /// Reports the size of the viewer's terminal.
    pub fn resize(&mut self, size: TerminalSize) {
        self.send(&ViewerFrame::Resize(size));
    }

    /// Asks the owner to note the modes of the viewer's terminal, which it restores if the viewer is killed.
    /// [`ViewerEvent::Taken`] follows.
    pub fn take_terminal(&mut self) {
        self.send(&ViewerFrame::Take);
    }

    /// Reports that the modes are restored.
    pub fn release_terminal(&mut self) {
        self.send(&ViewerFrame::Release);
    }

    /// Sends a signal to the program.
    pub fn signal(&mut self, signal: i32) {
        self.send(&ViewerFrame::Signal(signal));
    }

    /// Resumes the session, after the viewer's job was stopped with it.
    pub fn resume(&mut self) {
        self.send(&ViewerFrame::Resume);
    }

    /// Takes leave: the viewer's terminal is in order, and the session runs on.
    pub async fn leave(mut self) {
        self.send(&ViewerFrame::Farewell);
        while !self.waiting.is_empty() && self.socket.writable().await.is_ok() {
            let before = self.waiting.len();
            self.flush();
            if self.waiting.len() == before {
                break;
            }
        }
    }

    fn send(&mut self, frame: &ViewerFrame) {
        self.waiting.extend(frame.encode().unwrap_or_default());
        self.flush();
    }

    /// Sends as much as possible without waiting. A failure shows in what is received.
    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let (next, _) = self.waiting.as_slices();
            match self.socket.try_write(next) {
                Ok(sent @ 1..) => drop(self.waiting.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.waiting.clear(),
            }
        }
    }
}

/// Types a text at the terminal of a session that runs on this machine: all of it, or nothing.
///
/// # Errors
/// If there is no terminal, or if the text cannot be typed as a whole: the program reads whole lines and one is longer
/// than the system holds, or it has not read what was typed before.
pub async fn type_text(id: SessionId, text: &[u8]) -> Result<(), AttachError> {
    let options = ViewerOptions { terminal: None, read_only: false, notice: "" };
    let greeted = ViewerConnection::greet(connect(id)?, hello(options, false), None).await?;
    let mut connection = greeted.ok_or_else(disconnected)?;
    if text.len() > MAX_WAITING {
        let reason = format!("a text of more than {MAX_WAITING} bytes cannot be typed as a whole");
        return Err(AttachError::Refused { reason });
    }
    connection.send(&ViewerFrame::Type(text.to_vec()));
    loop {
        match connection.next_frame().await.ok_or_else(disconnected)? {
            OwnerFrame::Typed => return Ok(()),
            OwnerFrame::Refused(reason) => return Err(AttachError::Refused { reason }),
            OwnerFrame::Welcome(_)
            | OwnerFrame::Output(_)
            | OwnerFrame::Taken
            | OwnerFrame::Missed(_)
            | OwnerFrame::Suspend
            | OwnerFrame::Notice { .. }
            | OwnerFrame::Notification { .. }
            | OwnerFrame::Closed
            | OwnerFrame::End(_) => {}
        }
    }
}

fn disconnected() -> AttachError {
    AttachError::Connection(io::ErrorKind::UnexpectedEof.into())
}

fn connect(id: SessionId) -> Result<StdStream, AttachError> {
    let path = socket_of(id).ok_or(AttachError::NoTerminal { id })?;
    StdStream::connect(path).map_err(AttachError::Connection)
}

fn hello(options: ViewerOptions<'_>, shows: bool) -> Hello {
    let size = options.terminal.map_or(TerminalSize { rows: 0, columns: 0 }, TerminalSize::of);
    Hello {
        version: VERSION,
        shows,
        read_only: options.read_only,
        rows: size.rows,
        columns: size.columns,
        notice: options.notice.to_owned(),
    }
}

fn send_hello(stream: &StdStream, hello: Hello, terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = ViewerFrame::Hello(hello).encode()?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = terminal.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Fits into the buffer of a new socket.
    rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
