//! Serves the steps of other programs over a connection, on behalf of the owner of their session.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use async_trait::async_trait;
use session_core::text::{escape_bytes, visible};
use session_core::{ErrorCode, Session, SessionState, StepFailure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::error::StepError;
use crate::fingerprint::{Fingerprint, InputDigest};
use crate::protocol::{
    ClientMessage, End, FileIdentity, LINE_BYTES, Part, RUN_VARIABLE, Recorded, Refusal, Replay, Run,
    ServerMessage, StepMessage, VERSION, encode,
};
use crate::steps::{BegunStep, OpenStep, RecordedEnd, StepRequest, Steps};

/// Bytes of a step's command that are kept, for people.
const COMMAND_BYTES: usize = 1024;

/// The program of the session, as far as its steps need it.
#[async_trait]
pub trait Program: Send + Sync {
    /// Ends every process with this variable (`NAME=value`) in its environment, and their descendants. With
    /// `spare_separate`, those that have a session of their own are left running.
    async fn end_processes(&self, variable: &str, spare_separate: bool) -> EndedProcesses;

    /// Returns `true` if an end with this exit code or signal, now, is the result of a stop of the session.
    async fn is_stopped(&self, exit_code: Option<i32>, signal: Option<i32>) -> bool;

    /// Returns `true` if this is the output of the session itself.
    fn is_own_output(&self, file: FileIdentity) -> bool;
}

/// The result of ending processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedProcesses {
    /// The ids of processes that could not be ended.
    pub left: Vec<u32>,
    /// The ids of processes that were left running because they have a session of their own.
    pub separate: Vec<u32>,
}

/// Serves the steps of one client until it closes the connection. `first` is its first line, which was read already.
///
/// # Errors
/// Those of the connection. The processes of a step that ran are ended then, too.
pub async fn serve<R, W>(
    session: &Session,
    program: &dyn Program,
    first: Vec<u8>,
    read: &mut R,
    write: &mut W,
) -> io::Result<()>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut connection = Connection { read, write, line: first };
    let steps = Steps::of(session);
    let mut is_first = true;
    let mut input = InputDigest::default();
    loop {
        if !std::mem::take(&mut is_first) && !connection.read_line().await? {
            return Ok(());
        }
        let step = match serde_json::from_slice(&connection.line) {
            Ok(ClientMessage::Input(Part(bytes))) => {
                input.add(&bytes);
                continue;
            }
            Ok(ClientMessage::Step(step)) if step.version == VERSION => step,
            Ok(ClientMessage::Step(step)) => {
                let found = step.version;
                let message = format!(
                    "the owner of the session speaks version {VERSION} of the step protocol, not {found}"
                );
                return connection.refuse(ErrorCode::UnsupportedFormat, message).await;
            }
            Ok(ClientMessage::Part(_) | ClientMessage::End(_)) => {
                return connection
                    .refuse(ErrorCode::InvalidArgument, "no step runs on this connection")
                    .await;
            }
            Err(error) => return connection.refuse(ErrorCode::InvalidArgument, error.to_string()).await,
        };
        let has_value =
            step.value.unwrap_or_else(|| !step.stdout.is_some_and(|stdout| program.is_own_output(stdout)));
        let begun = tokio::select! {
            begun = steps.begin(session, request(&step, &std::mem::take(&mut input))) => begun,
            // A client that goes while the session is paused does not start its step.
            gone = connection.wait_for_end() => return gone,
        };
        match begun {
            Ok(BegunStep::Replay(recorded)) => {
                // The value of a former run is passed on wherever standard output goes.
                connection.replay(session, &recorded, step.value != Some(false)).await?;
            }
            Ok(BegunStep::Run(open)) => {
                let running = Running { session, program, step: &step, has_value };
                if !running.run(open, &mut connection).await? {
                    return Ok(());
                }
            }
            Err(error) => connection.send_error(&error).await?,
        }
    }
}

fn request(step: &StepMessage, input: &InputDigest) -> StepRequest {
    let argv = step.argv.iter().map(|argument| argument.as_bytes());
    let input = step.input.then(|| input.to_string());
    StepRequest {
        name: step.name.clone(),
        key: step.key.clone(),
        fingerprint: Fingerprint::of_command(argv, input.as_deref()),
        command: Some(command_line(&step.argv)),
        on_unknown: step.if_unknown,
        on_change: step.on_change,
    }
}

fn command_line(argv: &[OsString]) -> String {
    let line = argv.iter().map(|argument| escape_bytes(argument)).collect::<Vec<_>>().join(" ");
    crate::steps::cut(&visible(&line), COMMAND_BYTES)
}

/// A step whose command runs.
struct Running<'a> {
    session: &'a Session,
    program: &'a dyn Program,
    step: &'a StepMessage,
    has_value: bool,
}

/// An act of a client while its command runs.
enum Event {
    Part(Part),
    End(End),
    Gone,
    Timeout,
}

impl Running<'_> {
    /// Follows a step to its end. Returns `false` once the client is gone.
    async fn run<R, W>(&self, mut open: OpenStep, connection: &mut Connection<'_, R, W>) -> io::Result<bool>
    where
        R: AsyncBufRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let run = format!("{}:{}", self.session.id(), open.start());
        let order = Run {
            key: open.key().to_string(),
            run: run.clone(),
            because: open.because(),
            value: self.has_value,
        };
        if self.has_value {
            open.set_value();
        }
        let variable = format!("{RUN_VARIABLE}={run}");
        let mut limit = TimeLimit::new(self.step.timeout_ms.map(Duration::from_millis));
        let mut timed_out = false;
        if connection.send(&ServerMessage::Run(order)).await.is_err() {
            self.abandon(open, &variable).await;
            return Ok(false);
        }
        loop {
            let event = tokio::select! {
                biased;
                event = connection.next_event() => event,
                () = limit.passed(self.session), if !timed_out => Ok(Event::Timeout),
            };
            match event {
                Ok(Event::Part(Part(bytes))) if self.has_value => {
                    if let Err(error) = open.add_value(&bytes).await {
                        connection.send_error(&error).await?;
                        self.abandon(open, &variable).await;
                        return Ok(false);
                    }
                }
                Ok(Event::Part(_)) => {}
                Ok(Event::End(end)) => {
                    let recorded = self.record(open, end, timed_out).await;
                    match recorded {
                        Ok(recorded) => connection.send(&ServerMessage::Recorded(recorded)).await?,
                        Err(error) => connection.send_error(&error).await?,
                    }
                    return Ok(true);
                }
                Ok(Event::Timeout) => {
                    timed_out = true;
                    // The client sees the end of its command, and reports it.
                    self.program.end_processes(&variable, false).await;
                }
                Ok(Event::Gone) | Err(_) => {
                    self.abandon(open, &variable).await;
                    return Ok(false);
                }
            }
        }
    }

    /// Ends the processes of a step whose client is gone. Only then is its name free.
    async fn abandon(&self, open: OpenStep, variable: &str) {
        open.set_ending();
        let EndedProcesses { left, separate } = self.program.end_processes(variable, true).await;
        if left.is_empty() {
            let mut error = "the client that ran it has gone".to_owned();
            if !separate.is_empty() {
                error = format!("{error}; left running, with a session of their own: {separate:?}");
            }
            let failure = StepFailure { unknown: true, error: Some(error), ..StepFailure::default() };
            if let Err(error) = open.fail(failure).await {
                tracing::debug!(session = %self.session.id(), %error, "could not record the unknown end of a step");
            }
        } else {
            let step = open.step().to_string();
            let message =
                format!("processes of step `{step}`, whose client is gone, cannot be ended: {left:?}");
            open.keep_open(&message).await;
        }
    }

    async fn record(&self, mut open: OpenStep, end: End, timed_out: bool) -> Result<Recorded, StepError> {
        let End { exit_code, signal, too_long } = end;
        let failure =
            |unknown| StepFailure { exit_code, signal, timed_out, unknown, ..StepFailure::default() };
        if timed_out {
            open.fail(failure(false)).await?;
            return Ok(Recorded::TimedOut);
        }
        let stopped =
            signal.is_some() || exit_code.is_none() || self.program.is_stopped(exit_code, signal).await;
        let Some(code) = exit_code.filter(|_| !stopped) else {
            open.fail(failure(true)).await?;
            return Ok(Recorded::Unknown);
        };
        if code == 0 || self.step.keep_failure || self.step.ok.contains(&code) {
            if too_long {
                open.set_too_long();
            }
            open.complete(code).await?;
            Ok(Recorded::Completed)
        } else {
            open.fail(failure(false)).await?;
            Ok(Recorded::Failed)
        }
    }
}

/// The time limit of a step. The time in which the session is paused does not count.
struct TimeLimit {
    left: Option<Duration>,
}

impl TimeLimit {
    const fn new(limit: Option<Duration>) -> Self {
        Self { left: limit }
    }

    /// Waits until the limit has passed. Dropped before, it keeps the time that is left.
    async fn passed(&mut self, session: &Session) {
        if self.left.is_none() {
            return std::future::pending().await;
        }
        let mut view = session.watch();
        loop {
            let is_paused = matches!(view.borrow_and_update().state(), SessionState::Paused { .. });
            if is_paused {
                if view.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let mut counted = Counted { left: &mut self.left, since: Instant::now() };
            let left = counted.left.unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                changed = view.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
            counted.count();
        }
    }
}

/// Counts the time of a wait also if it is dropped.
struct Counted<'a> {
    left: &'a mut Option<Duration>,
    since: Instant,
}

impl Counted<'_> {
    fn count(&mut self) {
        let now = Instant::now();
        *self.left = self.left.map(|left| left.saturating_sub(now - self.since));
        self.since = now;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

/// The connection to a client.
struct Connection<'a, R, W> {
    read: &'a mut R,
    write: &'a mut W,
    /// The last line, or the beginning of the next one.
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin + Send, W: AsyncWrite + Unpin + Send> Connection<'_, R, W> {
    /// Reads the next line. Returns `false` at the end of the connection.
    async fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.read_rest().await
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

    async fn next_event(&mut self) -> io::Result<Event> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        if !self.read_rest().await? {
            return Ok(Event::Gone);
        }
        Ok(match serde_json::from_slice(&self.line)? {
            ClientMessage::Part(part) => Event::Part(part),
            ClientMessage::End(end) => Event::End(end),
            ClientMessage::Step(_) | ClientMessage::Input(_) => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Waits until the client closes the connection. One that has sent its next message already is not gone.
    async fn wait_for_end(&mut self) -> io::Result<()> {
        if self.read.fill_buf().await?.is_empty() { Ok(()) } else { std::future::pending().await }
    }

    async fn send(&mut self, message: &ServerMessage) -> io::Result<()> {
        self.write.write_all(&encode(message)?).await
    }

    async fn send_error(&mut self, error: &StepError) -> io::Result<()> {
        self.send(&ServerMessage::Error(Refusal::new(error.code(), error.to_string()))).await
    }

    /// Refuses a message that breaks the protocol: the connection ends.
    async fn refuse(&mut self, code: ErrorCode, message: impl Into<String>) -> io::Result<()> {
        self.send(&ServerMessage::Error(Refusal::new(code, message))).await
    }

    async fn replay(
        &mut self,
        session: &Session,
        recorded: &RecordedEnd,
        wants_value: bool,
    ) -> io::Result<()> {
        let end = recorded.end;
        let replay = Replay {
            exit_code: end.exit_code,
            attempt: recorded.attempt,
            value_bytes: end.value_bytes.filter(|_| wants_value),
            too_long: end.too_long && wants_value,
            skipped: end.skipped,
        };
        let sends_value = replay.value_bytes.is_some();
        self.send(&ServerMessage::Replay(replay)).await?;
        let mut value = recorded.value();
        if !sends_value {
            return Ok(());
        }
        loop {
            match value.next_part(session).await {
                Ok(Some(part)) => self.send(&ServerMessage::Part(Part(part))).await?,
                Ok(None) => return Ok(()),
                Err(error) => return self.send_error(&error.into()).await,
            }
        }
    }
}

/// A program that cannot be stopped and has no output: for tests, and for sessions without a program.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgram;

#[async_trait]
impl Program for NoProgram {
    async fn end_processes(&self, _variable: &str, _spare_separate: bool) -> EndedProcesses {
        EndedProcesses::default()
    }

    async fn is_stopped(&self, _exit_code: Option<i32>, _signal: Option<i32>) -> bool {
        false
    }

    fn is_own_output(&self, _file: FileIdentity) -> bool {
        false
    }
}
