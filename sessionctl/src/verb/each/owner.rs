//! The owner of the session, as an each talks to it: channels, with a task for each direction of the socket.

use std::path::Path;

use sessionkit::workflow::protocol::{ClientMessage, EachMessage, LINE_BYTES, ServerMessage, VERSION};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::channels::Channels;
use super::plain;
use crate::args::Each;
use crate::error::Result;
use crate::verb::client::{encoded, gone, received};

/// Messages that wait to be sent: a slow owner holds back the reader of the input, and the ends of commands.
const WAITING: usize = 4;
/// Bytes that are written in one call.
const WRITE_BYTES: usize = 64 * 1024;

/// The owner of the session, or what is in its place.
pub(super) struct Owner {
    sender: mpsc::Sender<ClientMessage>,
    /// The sender for the reader of the input, until that starts.
    items: Option<mpsc::Sender<ClientMessage>>,
    received: mpsc::UnboundedReceiver<Result<ServerMessage>>,
}

impl Owner {
    /// Connects to the owner, and begins the each.
    pub(super) async fn connect(socket: &Path, args: &Each) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.map_err(|error| gone(&error))?;
        let (read, mut write) = stream.into_split();
        let first = encoded(&ClientMessage::Each(Box::new(message(args))))?;
        write.write_all(&first).await.map_err(|error| gone(&error))?;
        let (owner, channels) = Self::with_channels();
        tokio::spawn(send(write, channels.messages, channels.items));
        tokio::spawn(receive(read, channels.replies, args.name.clone()));
        Ok(owner)
    }

    /// Puts a plain run of the commands in the place of an owner.
    pub(super) fn plain(args: &Each) -> Self {
        let (owner, channels) = Self::with_channels();
        tokio::spawn(plain::serve(message(args), channels));
        owner
    }

    fn with_channels() -> (Self, Channels) {
        let (sender, messages) = mpsc::channel(WAITING);
        let (items_sender, items) = mpsc::channel(1);
        let (replies, received) = mpsc::unbounded_channel();
        (Self { sender, items: Some(items_sender), received }, Channels { messages, items, replies })
    }

    /// Returns a sender for the ends of items.
    pub(super) fn sender(&self) -> mpsc::Sender<ClientMessage> {
        self.sender.clone()
    }

    /// Returns the sender for the items, which come after all that is sent otherwise.
    pub(super) fn take_items(&mut self) -> mpsc::Sender<ClientMessage> {
        self.items.take().unwrap_or_else(|| self.sender.clone())
    }

    /// Sends a message without waiting.
    pub(super) fn send(&self, message: ClientMessage) {
        let sender = self.sender.clone();
        // An owner that is gone is noticed where its messages are received.
        tokio::spawn(async move { sender.send(message).await });
    }

    /// Returns the next message. The future can be dropped without loss.
    ///
    /// # Errors
    /// A refusal; an owner that is gone.
    pub(super) async fn receive(&mut self) -> Result<ServerMessage> {
        match self.received.recv().await {
            Some(message) => message,
            None => Err(gone(&std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn message(args: &Each) -> EachMessage {
    EachMessage {
        version: VERSION,
        name: args.name.clone(),
        key: args.key.clone(),
        argv: args.command.clone(),
        jobs: args.jobs.get(),
        max_failures: (!args.keep_going).then(|| args.max_failures.get()),
        retries: args.retries,
        backoff_ms: u64::try_from(args.backoff.as_millis()).unwrap_or(u64::MAX),
        if_unknown: args.if_unknown,
        on_change: args.on_change.unwrap_or_default(),
        values: args.values,
    }
}

/// Writes the messages, as many as there are in one call. Ends of items come before further items of the input.
async fn send(
    mut write: OwnedWriteHalf,
    mut messages: mpsc::Receiver<ClientMessage>,
    mut items: mpsc::Receiver<ClientMessage>,
) {
    loop {
        let next = tokio::select! {
            biased;
            message = messages.recv() => message,
            Some(message) = items.recv() => Some(message),
        };
        let Some(mut message) = next else { return };
        let mut lines = Vec::new();
        loop {
            let Ok(line) = encoded(&message) else { return };
            lines.extend(line);
            match messages.try_recv() {
                Ok(next) if lines.len() < WRITE_BYTES => message = next,
                Ok(next) => {
                    let Ok(line) = encoded(&next) else { return };
                    lines.extend(line);
                    break;
                }
                Err(_) => break,
            }
        }
        if write.write_all(&lines).await.is_err() {
            return;
        }
    }
}

/// Reads the messages. They wait without a limit, so that the owner never waits for this process: there are no more than the
/// items that may run, and the values of the end.
async fn receive(read: OwnedReadHalf, replies: mpsc::UnboundedSender<Result<ServerMessage>>, name: String) {
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let message = match (&mut read).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(_) => received(&line, &name),
            Err(error) => Err(gone(&error)),
        };
        let is_last = message.is_err();
        if replies.send(message).is_err() || is_last {
            return;
        }
    }
}
