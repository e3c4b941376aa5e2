//! A child's side of its owner's socket: reports progress, from anywhere below a running session.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use session_core::{ErrorCode, ProgressReport};

use crate::socket::{REQUEST_BYTES, Refusal, Request, Response};

/// The variable that names the socket, in the environment of every program that runs as a session.
pub const SOCKET_VARIABLE: &str = "SESSIONCTL_SOCKET";

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Nobody listens any more: the owner is gone, or somebody else runs the session now.
    #[error("the session is no longer run by the process that started this one")]
    Fenced(#[source] io::Error),
    /// The owner does not accept the report.
    #[error("{message}")]
    Refused {
        /// The stable code.
        code: String,
        /// What is wrong with it.
        message: String,
    },
    /// The owner could not be talked to.
    #[error("cannot talk to the session")]
    Io(#[source] io::Error),
}

impl ReportError {
    /// The stable code.
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

/// Reports progress to the owner that listens at this socket, and waits for its answer: while the session is paused,
/// until it goes on.
///
/// # Errors
/// [`ReportError`]; nothing was reported then.
pub fn report(socket: &Path, report: ProgressReport) -> Result<(), ReportError> {
    let mut stream = UnixStream::connect(socket).map_err(gone)?;
    let mut line =
        serde_json::to_vec(&Request::Report(report)).map_err(|error| ReportError::Io(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(gone)?;
    let mut answer = String::new();
    BufReader::new(stream).take(REQUEST_BYTES).read_line(&mut answer).map_err(gone)?;
    if answer.is_empty() {
        return Err(ReportError::Fenced(io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_str(&answer) {
        Ok(Response::Ok(_)) => Ok(()),
        Ok(Response::Error(Refusal { code, message })) => Err(ReportError::Refused { code, message }),
        Err(error) => Err(ReportError::Io(error.into())),
    }
}

/// How the end of an owner shows: its file is gone, nobody listens at it, or it goes away in the middle.
fn gone(error: io::Error) -> ReportError {
    let signs = [
        io::ErrorKind::NotFound,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
    ];
    if signs.contains(&error.kind()) { ReportError::Fenced(error) } else { ReportError::Io(error) }
}
