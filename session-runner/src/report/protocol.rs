//! Requests of a program to its owner, and their responses: one line of JSON each.
//!
//! `{"report":{"percent":42,"step":"linking"}}` is answered by `{"ok":true}` or
//! `{"error":{"code":"INVALID_ARGUMENT","message":"…"}}`. A connection may carry any number of them.
//! `{"detached":{"pid":4711,"start_time":918273}}` names a process that owns another session, which has a life of its
//! own: no request to this session reaches it or its descendants. Requests with other members are served by the
//! [`ConnectionHandler`](crate::ConnectionHandler), if it knows them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use session_core::{ErrorCode, ProgressReport, Session, SessionState, StorageError};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Maximum bytes of one request.
pub(crate) const REQUEST_BYTES: u64 = 1024 * 1024;
/// Maximum characters of the message of a refusal.
const MESSAGE_CHARS: usize = 500;
/// Time after which a silent connection is closed to make room for another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Report(ProgressReport),
    Detached(DetachedOwner),
}

/// A process that owns another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DetachedOwner {
    pub(crate) pid: u32,
    /// Its start time, in clock ticks since boot.
    pub(crate) start_time: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Ok(bool),
    Error(Refusal),
}

/// The reason why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// A stable error code.
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refusal {
    /// Creates a refusal and truncates the message, which may repeat a long request: the other side reads a limited
    /// number of bytes.
    pub(crate) fn new(code: ErrorCode, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().chars().take(MESSAGE_CHARS).collect();
        Self { code: code.as_str().to_owned(), message }
    }
}

/// A connection that another handler serves from now on.
#[derive(Debug)]
pub(crate) struct HandOver<R, W> {
    /// The line that it has to answer.
    pub(crate) line: Vec<u8>,
    pub(crate) read: BufReader<R>,
    pub(crate) write: W,
}

/// Answers requests until the child closes the connection, sends an incomplete or too long line, or stays silent for
/// too long. Returns the connection at the first request with a member that `is_other` accepts.
pub(crate) async fn serve_connection<R, W, F, Fut>(
    read: R,
    mut write: W,
    handler: &F,
    is_other: impl Fn(&str) -> bool,
) -> io::Result<Option<HandOver<R, W>>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Fn(Request) -> Fut,
    Fut: Future<Output = Result<(), Refusal>>,
{
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut read).take(REQUEST_BYTES);
        match tokio::time::timeout(IDLE_TIMEOUT, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(None),
            Ok(Err(error)) => return Err(error),
        }
        let complete = line.ends_with(b"\n");
        let result = if complete {
            match serde_json::from_slice(&line) {
                Ok(request) => handler(request).await,
                Err(_) if member(&line).is_some_and(|member| is_other(&member)) => {
                    return Ok(Some(HandOver { line, read, write }));
                }
                Err(error) => Err(Refusal::new(ErrorCode::InvalidArgument, error.to_string())),
            }
        } else {
            let message = format!("a request is one line of at most {REQUEST_BYTES} bytes");
            Err(Refusal::new(ErrorCode::LimitExceeded, message))
        };
        let response = match result {
            Ok(()) => Response::Ok(true),
            Err(refusal) => Response::Error(refusal),
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        if !complete {
            return Ok(None);
        }
    }
}

/// Returns the name of the only member of a request.
fn member(line: &[u8]) -> Option<String> {
    let members: HashMap<String, &RawValue> = serde_json::from_slice(line).ok()?;
    members.into_keys().next()
}

/// Sends a refusal on a connection that is not served further.
pub(crate) async fn refuse(mut write: impl AsyncWrite + Unpin, refusal: Refusal) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Response::Error(refusal))?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// Accepts a progress report of a child, waiting while the session is paused.
pub(crate) async fn accept_report(session: Session, report: ProgressReport) -> Result<(), Refusal> {
    let mut view = session.watch();
    while !session.progress().is_ended()
        && matches!(view.borrow_and_update().state(), SessionState::Paused { .. })
    {
        if view.changed().await.is_err() {
            break;
        }
    }
    if session.progress().is_ended() {
        return Err(Refusal::new(ErrorCode::Fenced, "the session has ended, or somebody else runs it"));
    }
    let reported = session.progress().report(report);
    reported.map(|_changed| ()).map_err(|error| {
        let error = StorageError::from(error);
        Refusal::new(error.code(), error.to_string())
    })
}
