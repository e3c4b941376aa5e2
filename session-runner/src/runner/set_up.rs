//! The set-up of a place: a command that runs in it before the program, under a supervisor of its own.

use std::os::fd::AsFd as _;
use std::time::Duration;

use session_core::backend::HeldSessionLock;
use session_core::{Failure, FailureCause, FailureError, Session, SessionError};

use super::Runner;
use super::permit::cancelled;
use crate::command::Command;
use crate::output::capture::Capture;
use crate::report::protocol::{Refusal, Request, accept_report};
use crate::report::socket::ReportSocket;
use crate::run_error::RunError;
use crate::streams::Streams;
use crate::supervisor::client::{Launch, LaunchError, launch};
use crate::supervisor::messages::{Ended, ORPHAN_GRACE, Report, Spare};
use crate::workplace::{Place, SetUp, SetUpEnd};

/// The end of a set-up, and why it was ended if it did not end by itself.
struct RanSetUp {
    ended: Option<Ended>,
    stop: Option<SetUpStop>,
}

/// The reason why a set-up was ended.
enum SetUpStop {
    Cancelled(String),
    Fenced(SessionError),
    Deadline,
}

impl Runner {
    /// Runs the set-up of a place, if it has one that has not succeeded there. Dropping the future ends it.
    pub(super) async fn set_up_place(
        &self,
        session: &Session,
        lock: Option<&HeldSessionLock>,
        place: &Place,
        like: &Command,
    ) -> Result<(), RunError> {
        let Some(set_up) = &place.set_up else { return Ok(()) };
        match set_up.begin(session).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(self.refuse(session, error).await?),
        }
        let ran = self.run_set_up(session, lock, place, &**set_up, like).await;
        let (ended, stop, error) = match ran {
            Ok(RanSetUp { ended, stop }) => (ended, stop, None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        let end = SetUpEnd {
            exit_code: ended.and_then(Ended::exit_code).filter(|_| stop.is_none()),
            signal: ended.and_then(Ended::signal).filter(|_| stop.is_none()),
            error,
        };
        let recorded = match &stop {
            // Another process has the session, and its log.
            Some(SetUpStop::Fenced(_)) => Ok(()),
            _ => set_up.end(session, end).await,
        };
        match stop {
            Some(SetUpStop::Cancelled(reason)) => {
                session.cancel(reason.clone()).await?;
                return Err(SessionError::Cancelled { reason }.into());
            }
            Some(SetUpStop::Fenced(error)) => return Err(error.into()),
            Some(SetUpStop::Deadline) => {
                let failure = Failure::new(FailureCause::Timeout, "the time limit passed during its set-up");
                session.fail(failure.clone()).await?;
                return Err(SessionError::Failed { id: session.id(), source: FailureError(failure) }.into());
            }
            None => {}
        }
        match recorded {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(session, error).await?),
        }
    }

    /// Runs the command to its end, and ends what it leaves.
    async fn run_set_up(
        &self,
        session: &Session,
        lock: Option<&HeldSessionLock>,
        place: &Place,
        set_up: &dyn SetUp,
        like: &Command,
    ) -> Result<RanSetUp, LaunchError> {
        let own = LaunchError::own;
        let command = Command::new("/bin/sh").arg("-c").arg(set_up.command()).cwd(set_up.directory());
        let command = if like.merge { command.merge() } else { command };
        let command = command.pass_on(like.pass_on).keep_running();
        let writer = self.writer(session.id(), like.output_limits()).await.unwrap_or_else(|error| {
            tracing::warn!(session = %session.id(), %error, "the output of the set-up is not stored");
            None
        });
        let reporting = session.clone();
        let socket =
            ReportSocket::listen(move |request| on_request(reporting.clone(), request), None).map_err(own)?;
        let Streams { stdin, stdout, stderr, captured, terminal: _ } =
            Streams::open(&command).map_err(own)?;
        let copies = captured.iter().map(|(stream, read)| Ok((stream.place(), read.try_clone()?)));
        let outputs = copies.collect::<std::io::Result<Vec<_>>>().map_err(own)?;
        let mut env = place.variables.clone();
        env.extend(like.variables());
        env.extend(self.variables(session, &socket));
        let order = Launch {
            argv: command.argv.clone(),
            cwd: command.directory().map_err(LaunchError::Directory)?,
            env,
            stdin,
            stdout,
            stderr,
            outputs,
            terminal: None,
            lock: lock.map(|lock| lock.as_fd().try_clone_to_owned()).transpose().map_err(own)?,
            own_session: like.own_session || like.terminal.is_some(),
            umask: like.umask,
            socket: Some(socket.path().to_owned()),
        };
        let mut supervised = launch(order, None).await?;
        let streams = captured.into_iter().map(|(stream, pipe)| self.captured_stream(stream, pipe, &command));
        let streams = streams.collect::<std::io::Result<Vec<_>>>().map_err(own)?;
        let mut capture = Capture::start(streams, None, writer, session.attempt()).map_err(own)?;
        let limit = session.config().deadline_ms.map(Duration::from_millis);
        let mut deadline = std::pin::pin!(async move {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        });
        let (mut ended, mut stop) = (None, None);
        loop {
            let now = tokio::select! {
                report = supervised.reports.next() => match report {
                    Some(Report::Ended { status, .. }) => {
                        ended = Some(status);
                        // What it has left in the background ends with it, as for a step.
                        supervised.orders.end(ORPHAN_GRACE, Spare::OwnSession).await;
                        continue;
                    }
                    Some(_) => continue,
                    None => break,
                },
                reason = cancelled(session), if stop.is_none() => SetUpStop::Cancelled(reason),
                error = session.fenced(), if stop.is_none() => SetUpStop::Fenced(error),
                () = &mut deadline, if stop.is_none() => SetUpStop::Deadline,
            };
            stop = Some(now);
            supervised.orders.end(like.grace, Spare::Nothing).await;
        }
        capture.stop_reading();
        capture.ended().await;
        drop(capture.take());
        socket.close();
        Ok(RanSetUp { ended, stop })
    }
}

/// Handles a request of the set-up: only reports are served.
async fn on_request(session: Session, request: Request) -> Result<(), Refusal> {
    match request {
        Request::Report(report) => accept_report(session, report).await,
        Request::Detached(_) => Ok(()),
    }
}
