//! The handle of a program that runs as a session, and its report at the end.

use std::sync::Arc;

use session_core::{Head, Session, SessionError, SessionId};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::child_state::{ChildState, LocalRequest};
use crate::exit::{TROUBLE, exit_code};
use crate::follow::OutputFollower;
use crate::output::OutputStorage;
use crate::run_loop::RunLoop;
use crate::supervisor::protocol::{Ended, Escaped};
use crate::supervisor_client::Orders;

/// A program that runs as a session. Requests in the session's log (pause, resume, cancel) are applied to the program
/// without help from the holder of this handle.
///
/// Dropping it ends the program and releases the session, which can then be resumed.
#[derive(Debug)]
pub struct Running {
    session: Session,
    pid: u32,
    orders: Orders,
    child_state: watch::Receiver<ChildState>,
    local_requests: watch::Sender<Option<LocalRequest>>,
    task: JoinHandle<Result<RunReport, SessionError>>,
    /// Its drop notifies the task that this handle is gone.
    _alive: oneshot::Sender<()>,
    report: Option<Result<RunReport, SessionError>>,
    output: Option<Arc<dyn OutputStorage>>,
    stored: watch::Receiver<u64>,
    first_byte: u64,
}

/// The outcome of a program that ran as a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// The head of the session after the run.
    pub head: Head,
    /// The number of this attempt.
    pub attempt: u32,
    /// The end of the program; `None` if it is unknown.
    pub ended: Option<Ended>,
    /// Processes of the program's tree that could not be ended.
    pub escaped: Vec<Escaped>,
    /// Bytes that the program printed, stored or not.
    pub output_bytes: u64,
}

impl RunReport {
    pub(crate) const fn new(
        head: Head,
        attempt: u32,
        ended: Option<Ended>,
        escaped: Vec<Escaped>,
        output_bytes: u64,
    ) -> Self {
        Self { head, attempt, ended, escaped, output_bytes }
    }

    /// Returns the exit code for a command that runs programs: see [`exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        // A released session has not ended, so it has no exit code of its own.
        exit_code(&self.head).unwrap_or(TROUBLE)
    }
}

impl Running {
    pub(crate) fn new(run_loop: RunLoop, output: Option<Arc<dyn OutputStorage>>) -> Self {
        let (alive, handle_dropped) = oneshot::channel();
        let (local_requests, requests) = watch::channel(None);
        Self {
            session: run_loop.session.clone(),
            pid: run_loop.pid,
            orders: run_loop.orders.clone(),
            output,
            stored: run_loop.capture.stored(),
            first_byte: run_loop.capture.start_offset(),
            child_state: run_loop.child_state.subscribe(),
            local_requests,
            task: tokio::spawn(run_loop.run(handle_dropped, requests)),
            _alive: alive,
            report: None,
        }
    }

    /// Returns the session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.session.id()
    }

    /// Returns the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the process id of the program, which leads a process group of its own.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Follows the output of this attempt from its start, as it is stored; `None` if output is not stored.
    #[must_use]
    pub fn output(&self) -> Option<OutputFollower> {
        let output = Arc::clone(self.output.as_ref()?);
        Some(OutputFollower::new(output, self.id(), self.first_byte, self.stored.clone()))
    }

    /// Sends a signal to the program: INT, QUIT, TERM, HUP, CONT, TSTP, STOP and KILL to its process group, as a terminal
    /// or a shell would, all others to its first process. The session then ends by the program's own
    /// exit status; to cancel the session, use its manager.
    pub async fn signal(&self, signal: i32) {
        self.orders.signal(signal).await;
    }

    /// Watches the run state of the program.
    #[must_use]
    pub fn child_state(&self) -> watch::Receiver<ChildState> {
        self.child_state.clone()
    }

    /// Stops the whole tree and pauses the session for this reason. [`ChildState::Paused`] follows, unless the program
    /// ends first. The log gets no pause request; a resume may be requested there as for any pause.
    pub fn pause(&self, reason: impl Into<String>) {
        self.local_requests.send_replace(Some(LocalRequest::Pause(reason.into())));
    }

    /// Resumes a paused session and its program. [`ChildState::Running`] follows.
    pub fn resume(&self) {
        self.local_requests.send_replace(Some(LocalRequest::Resume));
    }

    /// Continues processes of the program's group that a signal from elsewhere stopped. Nothing is logged.
    pub async fn wake(&self) {
        self.orders.wake().await;
    }

    /// Waits until no process of the program is left and the end of the session is flushed. Dropping the future is
    /// harmless; waiting again returns the same result.
    ///
    /// # Errors
    /// `FENCED` if another process owns the session now; errors of the storage, after which the session has not ended.
    ///
    /// # Panics
    /// If the task of the run loop panicked, or its runtime was shut down.
    pub async fn wait(&mut self) -> Result<RunReport, SessionError> {
        if let Some(report) = &self.report {
            return report.clone();
        }
        let report = match (&mut self.task).await {
            Ok(report) => report,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("the runtime shut down before the program ended: {error}"),
            },
        };
        self.report = Some(report.clone());
        report
    }
}
