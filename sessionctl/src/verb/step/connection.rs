//! The connection of a step to the owner of its session.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use sessionkit::ErrorCode;
use sessionkit::runner::SESSION_VARIABLE;
use sessionkit::workflow::protocol::{
    ClientMessage, End, FileIdentity, LINE_BYTES, PART_BYTES, Part, Recorded, Refusal, Replay, Run,
    ServerMessage, StepMessage, VERSION, encode,
};

use super::command::{Ended, Input, Output};
use crate::args::Step;
use crate::error::{Failure, Result};
use crate::step_summary::decision_option;

/// A connection to the owner.
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
    /// The name of the step.
    name: String,
}

/// The owner's answer to a step.
pub(super) enum Begun {
    Run(Run),
    Replay(Replay),
}

/// Returns the message that begins a step.
pub(super) fn message(args: &Step) -> ClientMessage {
    let stdout = rustix::fs::fstat(io::stdout().as_fd()).ok();
    ClientMessage::Step(Box::new(StepMessage {
        version: VERSION,
        name: args.name.clone(),
        key: args.key.clone(),
        argv: args.command.clone(),
        input: args.stdin,
        if_unknown: args.if_unknown,
        on_change: args.on_change.unwrap_or_default(),
        keep_failure: args.keep_failure,
        ok: args.ok.clone(),
        timeout_ms: args.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        value: (args.value || args.no_value).then_some(args.value),
        stdout: stdout.map(|file| FileIdentity { device: file.st_dev, inode: file.st_ino }),
        inputs: Vec::new(),
        max_age_ms: None,
    }))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
impl Connection {
    pub(super) fn open(socket: &Path, name: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|error| gone(&error))?;
        Ok(Self { stream: BufReader::new(stream), name: name.to_owned() })
    }

    /// Sends the input of the step that follows: the owner makes the fingerprint from it.
    pub(super) fn send_input(&mut self, input: &mut Input) -> Result<()> {
        let mut failed = None;
        input.read_parts(|part| {
            failed = self.send(&ClientMessage::Input(Part(part.to_vec()))).err();
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)
    }

    pub(super) fn begin(&mut self, message: &ClientMessage) -> Result<Begun> {
        self.send(message)?;
        match self.receive()? {
            ServerMessage::Run(run) => Ok(Begun::Run(run)),
            ServerMessage::Replay(replay) => Ok(Begun::Replay(replay)),
            ServerMessage::Error(refusal) => Err(self.refused(refusal)),
            _ => Err(unexpected()),
        }
    }

    /// Returns the next part of a recorded value.
    pub(super) fn part(&mut self) -> Result<Vec<u8>> {
        match self.receive()? {
            ServerMessage::Part(Part(bytes)) if !bytes.is_empty() => Ok(bytes),
            ServerMessage::Error(refusal) => Err(self.refused(refusal)),
            _ => Err(unexpected()),
        }
    }

    /// Reports the end of the command, with its value if it has one, and waits until it is recorded.
    pub(super) fn end(&mut self, ended: &Ended, value: Option<&Output>) -> Result<Recorded> {
        let mut too_long = false;
        if let Some(output) = value {
            too_long = output.is_too_long();
            for part in output.bytes().chunks(PART_BYTES).filter(|_| !too_long) {
                self.send(&ClientMessage::Part(Part(part.to_vec())))?;
            }
        }
        self.send(&ClientMessage::End(End {
            exit_code: ended.exit_code(),
            signal: ended.signal(),
            too_long,
        }))?;
        match self.receive()? {
            ServerMessage::Recorded(recorded) => Ok(recorded),
            ServerMessage::Error(refusal) => Err(self.refused(refusal)),
            _ => Err(unexpected()),
        }
    }

    /// Returns the failure of a refused step. The session fails at its end, and a retry decides about the step.
    fn refused(&self, Refusal { code, message }: Refusal) -> Failure {
        let known = ErrorCode::ALL.iter().copied().find(|known| known.as_str() == code);
        let failure = Failure::new(known.unwrap_or(ErrorCode::InvalidArgument), message);
        let session = std::env::var(SESSION_VARIABLE).unwrap_or_default();
        let Some(option) = decision_option(&code) else { return failure };
        failure.next(&["retry", &session, option, &format!("{}=rerun", self.name)])
    }

    fn send(&mut self, message: &ClientMessage) -> Result<()> {
        let line = encode(message).map_err(|error| Failure::invalid(error.to_string()))?;
        self.stream.get_mut().write_all(&line).map_err(|error| gone(&error))
    }

    fn receive(&mut self) -> Result<ServerMessage> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(|error| gone(&error))?;
        if line.is_empty() {
            return Err(gone(&io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|_| unexpected())
    }
}

fn gone(error: &io::Error) -> Failure {
    let text = format!("the owner of this session is gone, or another process owns it now: {error}");
    Failure::new(ErrorCode::Fenced, text)
}

fn unexpected() -> Failure {
    Failure::new(
        ErrorCode::UnsupportedFormat,
        "the owner of this session speaks another version of the step protocol",
    )
}
