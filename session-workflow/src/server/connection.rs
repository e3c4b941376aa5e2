//! The connection of a client: lines with one message each.

use std::io;

use session_core::ErrorCode;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::StepError;
use crate::protocol::{ClientMessage, LINE_BYTES, Refusal, ServerMessage, encode};

/// The connection to a client.
pub(super) struct Connection<'a, R, W> {
    read: &'a mut R,
    write: &'a mut W,
    /// The last line, or the beginning of the next one.
    line: Vec<u8>,
}

impl<'a, R: AsyncBufRead + Unpin + Send, W: AsyncWrite + Unpin + Send> Connection<'a, R, W> {
    /// Takes over a connection whose first line was read already.
    pub(super) const fn new(read: &'a mut R, write: &'a mut W, first: Vec<u8>) -> Self {
        Self { read, write, line: first }
    }

    /// Reads to the end of the line that was begun: the future can be dropped without loss.
    async fn read_rest(&mut self) -> io::Result<bool> {
        let room = LINE_BYTES.saturating_sub(self.line.len() as u64);
        let read = (&mut *self.read).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.ends_with(b"\n") {
            return Ok(true);
        }
        if read == 0 && room > 0 {
            return Ok(false);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {LINE_BYTES} bytes")))
    }

    /// Returns the message of the line that was read, or of the next one; `None` at the end of the connection. The future can be
    /// dropped without loss.
    pub(super) async fn next_message(&mut self) -> io::Result<Option<ClientMessage>> {
        if !self.line.ends_with(b"\n") && !self.read_rest().await? {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.map(Some).map_err(Into::into)
    }

    /// Returns the next message if it has arrived already.
    pub(super) async fn arrived_message(&mut self) -> io::Result<Option<ClientMessage>> {
        tokio::select! {
            biased;
            message = self.next_message() => match message? {
                Some(message) => Ok(Some(message)),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = std::future::ready(()) => Ok(None),
        }
    }

    /// Waits until the client closes the connection. One that has sent its next message already is not gone.
    pub(super) async fn wait_for_end(&mut self) -> io::Result<()> {
        if self.read.fill_buf().await?.is_empty() { Ok(()) } else { std::future::pending().await }
    }

    /// Waits until the client closes the connection, or sends a message while it has none to send.
    pub(super) async fn wait_for_end_or_message(&mut self) -> io::Result<()> {
        self.read.fill_buf().await.map(drop)
    }

    pub(super) async fn send(&mut self, message: &ServerMessage) -> io::Result<()> {
        self.write.write_all(&encode(message)?).await
    }

    pub(super) async fn send_error(&mut self, error: &StepError) -> io::Result<()> {
        self.send(&ServerMessage::Error(Refusal::new(error.code(), error.to_string()))).await
    }

    /// Refuses a message that breaks the protocol: the connection ends.
    pub(super) async fn refuse(&mut self, code: ErrorCode, message: impl Into<String>) -> io::Result<()> {
        self.send(&ServerMessage::Error(Refusal::new(code, message))).await
    }
}
