//! A step of a client: its command runs there, and its records are made here.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::pin;
use std::time::Duration;

use session_core::text::{escape_bytes, visible};
use session_core::{Session, StepFailure, StepIdentity};
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

use super::client::{Client, can_ask};
use super::connection::Connection;
use super::program::{EndedProcesses, Program};
use super::time_limit::TimeLimit;
use super::wait::asked;
use crate::error::StepError;
use crate::fingerprint::{Fingerprint, InputDigest};
use crate::protocol::{
    ClientMessage, End, Part, RUN_VARIABLE, Recorded, Replay, Run, ServerMessage, StepMessage,
};
use crate::steps::{BegunStep, OpenStep, RecordedEnd, StepRequest, Steps};

/// Bytes of a step's command that are kept, for people.
const COMMAND_BYTES: usize = 1024;

impl<R, W> Client<'_, '_, R, W>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Serves a step. Returns `false` once the client is gone.
    pub(super) async fn serve_step(self, step: &StepMessage, input: &InputDigest) -> io::Result<bool> {
        let Self { session, program, connection } = self;
        let has_value =
            step.value.unwrap_or_else(|| !step.stdout.is_some_and(|stdout| program.is_own_output(stdout)));
        let steps = Steps::of(session);
        let (questions, mut asked_about) = mpsc::unbounded_channel();
        let notify = |question: &StepIdentity| drop(questions.send(question.clone()));
        let begun = {
            let mut begun = pin!(steps.begin_asking(session, request(session, step, input), &notify));
            loop {
                tokio::select! {
                    begun = &mut begun => break begun,
                    // A client that goes while the session is paused does not start its step.
                    gone = connection.wait_for_end() => return gone.map(|()| false),
                    Some(question) = asked_about.recv() => {
                        let message = asked(&session.id().to_string(), &question, None);
                        connection.send(&ServerMessage::Asked(message)).await?;
                    }
                }
            }
        };
        match begun {
            Ok(BegunStep::Replay(recorded)) => {
                // The value of a former run is passed on wherever standard output goes.
                replay(connection, session, &recorded, step.value != Some(false)).await?;
            }
            Ok(BegunStep::Run(open)) => {
                let running = Running { session, program, step, has_value };
                return running.run(open, connection).await;
            }
            Err(error) => connection.send_error(&error).await?,
        }
        Ok(true)
    }
}

pub(super) fn request(session: &Session, step: &StepMessage, input: &InputDigest) -> StepRequest {
    let argv = step.argv.iter().map(|argument| argument.as_bytes());
    let input = step.input.then(|| input.to_string());
    StepRequest {
        name: step.name.clone(),
        key: step.key.clone(),
        fingerprint: Fingerprint::of_command(argv, input.as_deref()),
        command: Some(command_line(&step.argv)),
        on_unknown: step.if_unknown,
        on_change: step.on_change,
        inputs: step.inputs.clone(),
        max_age: step.max_age_ms.map(Duration::from_millis),
        can_ask: can_ask(session),
    }
}

pub(super) fn command_line(argv: &[OsString]) -> String {
    let line = argv.iter().map(|argument| escape_bytes(argument)).collect::<Vec<_>>().join(" ");
    crate::attempt::cut(&visible(&line), COMMAND_BYTES)
}

/// A step whose command runs.
pub(super) struct Running<'a> {
    pub(super) session: &'a Session,
    pub(super) program: &'a dyn Program,
    pub(super) step: &'a StepMessage,
    pub(super) has_value: bool,
}

impl Running<'_> {
    /// Follows a step to its end. Returns `false` once the client is gone.
    pub(super) async fn run<R, W>(
        &self,
        mut open: OpenStep,
        connection: &mut Connection<'_, R, W>,
    ) -> io::Result<bool>
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
            why: open.why().map(str::to_owned),
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
            let message = tokio::select! {
                biased;
                message = connection.next_message() => message,
                () = limit.passed(self.session), if !timed_out => {
                    timed_out = true;
                    // The client sees the end of its command, and reports it.
                    self.program.end_processes(&variable, false).await;
                    continue;
                }
            };
            match message {
                Ok(Some(ClientMessage::Part(Part(bytes)))) if self.has_value => {
                    if let Err(error) = open.add_value(&bytes).await {
                        connection.send_error(&error).await?;
                        self.abandon(open, &variable).await;
                        return Ok(false);
                    }
                }
                Ok(Some(ClientMessage::Part(_))) => {}
                Ok(Some(ClientMessage::End(end))) => {
                    let recorded = self.record(open, end, timed_out).await;
                    match recorded {
                        Ok(recorded) => connection.send(&ServerMessage::Recorded(recorded)).await?,
                        Err(error) => connection.send_error(&error).await?,
                    }
                    return Ok(true);
                }
                // Gone, or it breaks the protocol.
                Ok(_) | Err(_) => {
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

/// Sends a recorded end, with its value if it is wanted.
pub(super) async fn replay<R, W>(
    connection: &mut Connection<'_, R, W>,
    session: &Session,
    recorded: &RecordedEnd,
    wants_value: bool,
) -> io::Result<()>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let end = recorded.end;
    let replay = Replay {
        exit_code: end.exit_code,
        attempt: recorded.attempt,
        value_bytes: end.value_bytes.filter(|_| wants_value),
        too_long: end.too_long && wants_value,
        skipped: end.skipped,
    };
    let sends_value = replay.value_bytes.is_some();
    connection.send(&ServerMessage::Replay(replay)).await?;
    let mut value = recorded.value();
    if !sends_value {
        return Ok(());
    }
    loop {
        match value.next_part(session).await {
            Ok(Some(part)) => connection.send(&ServerMessage::Part(Part(part))).await?,
            Ok(None) => return Ok(()),
            Err(error) => return connection.send_error(&error.into()).await,
        }
    }
}
