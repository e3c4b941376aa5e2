//! A program that runs as a session: what whoever started it holds of it.

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

/// A program that runs as a session. What others ask for in the session's log (pause, resume, cancel) is done to the
/// program without help.
///
/// Dropping it ends the program, and lets go of the session: somebody may resume it.
#[derive(Debug)]
pub struct Running {
    session: Session,
    pid: u32,
    orders: Orders,
    child_state: watch::Receiver<ChildState>,
    local_requests: watch::Sender<Option<LocalRequest>>,
    task: JoinHandle<Result<RunReport, SessionError>>,
    /// Closing it is how the task learns that nobody is interested any more.
    _alive: oneshot::Sender<()>,
    report: Option<Result<RunReport, SessionError>>,
    output: Option<Arc<dyn OutputStorage>>,
    stored: watch::Receiver<u64>,
    first_byte: u64,
}

/// How a program that ran as a session ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// How the session stands now.
    pub head: Head,
    /// Which attempt this was.
    pub attempt: u32,
    /// How the program ended; `None` if that could not be found out.
    pub ended: Option<Ended>,
    /// Processes of the program's tree that could not be ended.
    pub escaped: Vec<Escaped>,
    /// Everything that was printed, in bytes, kept or not.
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

    /// The exit code of a command that runs programs: see [`exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        // A session that was let go of has not ended, and so has no code of its own.
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

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.session.id()
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The program's process, which leads a process group of its own.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What this attempt prints, from its start, as it is stored; `None` where output is not stored.
    #[must_use]
    pub fn output(&self) -> Option<OutputFollower> {
        let output = Arc::clone(self.output.as_ref()?);
        Some(OutputFollower::new(output, self.id(), self.first_byte, self.stored.clone()))
    }

    /// Sends a signal to the program's process group, as a terminal would. How the program ends then is its own
    /// ending; to have the session cancelled, ask its manager for that.
    pub async fn signal(&self, signal: i32) {
        self.orders.signal(signal).await;
    }

    /// Whether the program runs, as it changes.
    #[must_use]
    pub fn child_state(&self) -> watch::Receiver<ChildState> {
        self.child_state.clone()
    }

    /// Stops the whole tree and pauses the session, for this reason: [`ChildState::Paused`] tells when it is so, unless
    /// the program ends before. No request stands in the log; a resume may be asked for there as for any pause.
    pub fn pause(&self, reason: impl Into<String>) {
        self.local_requests.send_replace(Some(LocalRequest::Pause(reason.into())));
    }

    /// Makes a paused session and its program go on: [`ChildState::Running`] tells when it is so.
    pub fn resume(&self) {
        self.local_requests.send_replace(Some(LocalRequest::Resume));
    }

    /// Continues those of the program's group that were stopped by somebody else. The log says nothing of it.
    pub async fn wake(&self) {
        self.orders.wake().await;
    }

    /// Waits until no process of the program is left and the session's ending survives power loss. Dropping the
    /// future is harmless; waiting again gives the same answer.
    ///
    /// # Errors
    /// `FENCED` if somebody else runs the session now; what the storage suffers, and then the session has not ended.
    ///
    /// # Panics
    /// If the task that drives the program did, or its runtime was shut down.
    pub async fn wait(&mut self) -> Result<RunReport, SessionError> {
        if let Some(report) = &self.report {
            return report.clone();
        }
        let report = match (&mut self.task).await {
            Ok(report) => report,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("the runtime ended before the program: {error}"),
            },
        };
        self.report = Some(report.clone());
        report
    }
}
