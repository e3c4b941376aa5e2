//! The connection of a client to the owner of its session.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use sessionkit::ErrorCode;
use sessionkit::runner::SESSION_VARIABLE;
use sessionkit::workflow::protocol::{ClientMessage, LINE_BYTES, Refusal, ServerMessage, encode};

use crate::error::{Failure, Result};
use crate::step_summary::decision_option;

/// A connection to the owner.
pub(in crate::verb) struct Connection {
    stream: BufReader<UnixStream>,
    /// The name of what the client does.
    name: String,
}

impl Connection {
    pub(in crate::verb) fn open(socket: &Path, name: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|error| gone(&error))?;
        Ok(Self { stream: BufReader::new(stream), name: name.to_owned() })
    }

    pub(in crate::verb) fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.stream.get_mut().write_all(&encoded(message)?).map_err(|error| gone(&error))
    }

    /// Returns the next message.
    ///
    /// # Errors
    /// A refusal; an owner that is gone.
    pub(in crate::verb) fn receive(&mut self) -> Result<ServerMessage> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(|error| gone(&error))?;
        received(&line, &self.name)
    }
}

/// Returns the line of a message.
///
/// # Errors
/// `LIMIT_EXCEEDED` if it is longer than the owner reads.
pub(in crate::verb) fn encoded(message: &ClientMessage) -> Result<Vec<u8>> {
    let line = encode(message).map_err(|error| Failure::invalid(error.to_string()))?;
    if line.len() as u64 > LINE_BYTES {
        let text = "the command, its inputs and options are longer than 1 MiB";
        return Err(Failure::new(ErrorCode::LimitExceeded, text));
    }
    Ok(line)
}

/// Returns the message of a line. `name` is that of the step or each, for the decision about it.
///
/// # Errors
/// A refusal; an owner that is gone.
pub(in crate::verb) fn received(line: &[u8], name: &str) -> Result<ServerMessage> {
    if line.is_empty() {
        return Err(gone(&io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_slice(line) {
        Ok(ServerMessage::Error(refusal)) => Err(refused(refusal, name)),
        Ok(message) => Ok(message),
        Err(_) => Err(unexpected()),
    }
}

/// Returns the failure of a refused request. The session fails at its end, and a retry decides about the step.
fn refused(Refusal { code, message }: Refusal, name: &str) -> Failure {
    let known = ErrorCode::ALL.iter().copied().find(|known| known.as_str() == code);
    let failure = Failure::new(known.unwrap_or(ErrorCode::InvalidArgument), message);
    let session = std::env::var(SESSION_VARIABLE).unwrap_or_default();
    let Some(option) = decision_option(&code) else { return failure };
    failure.next(&["retry", &session, option, &format!("{name}=rerun")])
}

pub(in crate::verb) fn gone(error: &io::Error) -> Failure {
    let text = format!("the owner of this session is gone, or another process owns it now: {error}");
    Failure::new(ErrorCode::Fenced, text)
}

pub(in crate::verb) fn unexpected() -> Failure {
    Failure::new(
        ErrorCode::UnsupportedFormat,
        "the owner of this session speaks another version of the step protocol",
    )
}
