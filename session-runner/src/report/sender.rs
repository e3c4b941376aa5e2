//! The child's side of its owner's socket: reports progress from any descendant of a running session.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Pid;
use session_core::{ErrorCode, ProgressReport};

use super::protocol::{DetachedOwner, REQUEST_BYTES, Refusal, Request, Response};
use crate::procfs::Process;

/// The reason why a report was not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The socket is no longer served: the owner is gone, or another process owns the session now.
    #[error("the process that started this one no longer owns the session: {0}")]
    Fenced(io::Error),
    /// The owner refused the report.
    #[error("{message}")]
    Refused {
        /// The stable error code.
        code: String,
        /// The owner's message.
        message: String,
    },
    /// The connection to the owner failed.
    #[error("cannot communicate with the owner of the session: {0}")]
    Io(io::Error),
}

impl ReportError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Fenced(_) => ErrorCode::Fenced,
            Self::Refused { code, .. } => ErrorCode::ALL
                .iter()
                .copied()
                .find(|known| known.as_str() == code)
                .unwrap_or(ErrorCode::InvalidArgument),
            Self::Io(_) => ErrorCode::StorageUnavailable,
        }
    }
}

/// Reports progress to the owner that listens at this socket, and waits for its response. While the session is paused,
/// the response comes only after it resumes.
///
/// # Errors
/// [`ReportError`], if the report was not delivered.
pub fn report(socket: &Path, report: ProgressReport) -> Result<(), ReportError> {
    send(socket, &Request::Report(report))
}

/// Reports a child of this process that is going to own another session, started inside this one, before it starts its
/// program. From then on, neither the end of this session nor a request to it reaches that process or its descendants.
///
/// The process needs a session of its own (`setsid`), and must not have the socket in its environment: a process that
/// has is ended if the supervisor of this session is killed.
///
/// # Errors
/// [`ReportError`], if the report was not delivered.
pub fn report_detached(socket: &Path, child: u32) -> Result<(), ReportError> {
    let process = i32::try_from(child).ok().and_then(Pid::from_raw).map(Process::read).transpose();
    let process = process.map_err(ReportError::Io)?.flatten();
    let process = process.ok_or_else(|| ReportError::Io(io::ErrorKind::NotFound.into()))?;
    send(socket, &Request::Detached(DetachedOwner { pid: child, start_time: process.start_time }))
}

fn send(socket: &Path, request: &Request) -> Result<(), ReportError> {
    let mut stream = UnixStream::connect(socket).map_err(classify)?;
    let mut line = serde_json::to_vec(request).map_err(|error| ReportError::Io(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(classify)?;
    let mut response = String::new();
    BufReader::new(stream).take(REQUEST_BYTES).read_line(&mut response).map_err(classify)?;
    if response.is_empty() {
        return Err(ReportError::Fenced(io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_str(&response) {
        Ok(Response::Ok(_)) => Ok(()),
        Ok(Response::Error(Refusal { code, message })) => Err(ReportError::Refused { code, message }),
        Err(error) => Err(ReportError::Io(error.into())),
    }
}

/// Maps the signs that an owner is gone: no socket file, no listener, or a connection that breaks off.
fn classify(error: io::Error) -> ReportError {
    let signs = [
        io::ErrorKind::NotFound,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
    ];
    if signs.contains(&error.kind()) { ReportError::Fenced(error) } else { ReportError::Io(error) }
}
