//! The handle of a program that runs as a session.

use std::sync::Arc;

use session_core::{Session, SessionError, SessionId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::child_state::{ChildState, LocalRequest};
use crate::outcome::RunReport;
use crate::output::{OutputFollower, OutputStorage};
use crate::run_loop::RunLoop;
use crate::stops::Stops;
use crate::supervisor::client::Orders;
use crate::supervisor::messages::BackgroundProcess;
use crate::terminal::handle::TerminalHandle;

/// A program that runs as a session. Requests in the session's log (pause, resume, cancel) are applied to the program
/// without help from the holder of this handle.
///
/// Dropping it ends the program and releases the session, which can then be resumed.
///
/// ```no_run
/// use session_core::SessionConfig;
/// use session_runner::{Command, Runner};
///
/// # async fn example(runner: &Runner) -> Result<(), Box<dyn std::error::Error>> {
/// let mut running = runner.spawn(SessionConfig::new("build"), Command::new("make")).await?;
/// println!("{} is process {:?}", running.id(), running.pid());
/// running.pause("a demonstration");                // the whole tree is stopped
/// running.resume();
/// let progress = running.session().progress().snapshot();
/// println!("{:?} %", progress.percent);
/// println!("exit code {}", running.wait().await?.exit_code());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Running {
    session: Session,
    pid: u32,
    orders: Orders,
    child_state: watch::Receiver<ChildState>,
    lingering: watch::Receiver<Option<Vec<BackgroundProcess>>>,
    local_requests: watch::Sender<Option<LocalRequest>>,
    /// The number of stop signals that were sent.
    stop_signals: mpsc::UnboundedSender<i32>,
    task: JoinHandle<Result<RunReport, SessionError>>,
    /// Its drop notifies the task that this handle is gone.
    _alive: oneshot::Sender<()>,
    report: Option<Result<RunReport, SessionError>>,
    output: Option<Arc<dyn OutputStorage>>,
    stored: watch::Receiver<u64>,
    first_byte: u64,
    terminal: Option<TerminalHandle>,
}

impl Running {
    pub(crate) fn new(run_loop: RunLoop, output: Option<Arc<dyn OutputStorage>>) -> Self {
        let (alive, handle_dropped) = oneshot::channel();
        let (local_requests, requests) = watch::channel(None);
        let (stop_signals, stops) = mpsc::unbounded_channel();
        Self {
            session: run_loop.session.clone(),
            pid: run_loop.pid,
            orders: run_loop.orders.clone(),
            output,
            stored: run_loop.capture.stored(),
            first_byte: run_loop.capture.start_offset(),
            terminal: run_loop.capture.terminal().cloned(),
            child_state: run_loop.child_state.subscribe(),
            lingering: run_loop.lingering.subscribe(),
            local_requests,
            stop_signals,
            task: tokio::spawn(run_loop.run(handle_dropped, requests, stops)),
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
    /// or a shell would, all others to its first process. To cancel the session, use its manager.
    ///
    /// INT, QUIT, TERM and HUP stop the attempt: if the program then dies of the signal, or ends within 10 seconds (TERM: 2
    /// minutes), the session has not ended. It is interrupted after TERM and HUP, and can be resumed by anyone; after INT
    /// and QUIT it is completed if the exit code is 0, else stopped, and only a person resumes it. A paused program is
    /// ended within its grace period, and its session stays paused.
    ///
    /// After the end of the first process, INT, QUIT, TERM and HUP end the wait for its background processes.
    pub async fn signal(&self, signal: i32) {
        if Stops::is_stop(signal) {
            // Refused after the end of the session, which is harmless.
            let _ = self.stop_signals.send(signal);
        }
        self.orders.signal(signal).await;
    }

    /// Watches the background processes that are waited for. `None` until the wait after the end of the program takes
    /// longer than a second, and again once they are being ended. Without processes, only output is waited for.
    #[must_use]
    pub fn lingering(&self) -> watch::Receiver<Option<Vec<BackgroundProcess>>> {
        self.lingering.clone()
    }

    /// Returns the program's terminal, if it has one of its own.
    #[must_use]
    pub fn terminal(&self) -> Option<&TerminalHandle> {
        self.terminal.as_ref()
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
