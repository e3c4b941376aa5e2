//! The work handler of `recover --policy resume`: runs the commands of crashed sessions again, concurrently.

use std::sync::Arc;

use rustix::fs::Mode;
use sessionkit::manager::WorkHandler;
use sessionkit::runner::{Command, Runner};
use sessionkit::{Head, Session, SessionSummary, WorkError};
use tokio::sync::{OnceCell, mpsc, watch};

/// Runs a session's command again and captures its output without forwarding it.
#[derive(Debug)]
pub(crate) struct Rerun {
    /// Set once the manager exists that this handler belongs to.
    runner: OnceCell<Runner>,
    ended: mpsc::UnboundedSender<()>,
    /// The signals so far. A program that starts later gets them, too.
    signals: watch::Sender<Vec<i32>>,
    umask: Mode,
}

impl Rerun {
    /// Creates a handler, and a channel that receives one message for each run that has ended.
    pub(crate) fn new(umask: Mode) -> (Arc<Self>, mpsc::UnboundedReceiver<()>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Arc::new(Self { runner: OnceCell::new(), ended, signals: watch::Sender::default(), umask }), ends)
    }

    /// Sends a signal to all programs, as `run` does with its own.
    pub(crate) fn signal(&self, number: i32) {
        self.signals.send_modify(|signals| signals.push(number));
    }

    /// Sets the runner for the programs.
    pub(crate) fn set_runner(&self, runner: Runner) {
        // This process has one manager, and so one runner.
        let _ = self.runner.set(runner);
    }

    async fn run_again(&self, session: Session) -> Result<(), WorkError> {
        let command = session.origin().and_then(Command::from_origin);
        let (Some(command), Some(runner)) = (command, self.runner.get()) else {
            return Err(WorkError::new("the session has no command to run again"));
        };
        let (mut signals, mut sent) = (self.signals.subscribe(), 0);
        let mut running = runner.run(session, command.umask(self.umask.as_raw_mode())).await?;
        loop {
            let new: Vec<i32> = signals.borrow_and_update().iter().skip(sent).copied().collect();
            sent += new.len();
            for number in new {
                running.signal(number).await;
            }
            tokio::select! {
                // The runner ends the session itself.
                ended = running.wait() => return ended.map(drop).map_err(WorkError::from),
                Ok(()) = signals.changed() => {}
            }
        }
    }
}

#[sessionkit::async_trait::async_trait]
impl WorkHandler for Rerun {
    fn handles(&self, head: &Head) -> bool {
        head.command.is_some()
    }

    async fn run(&self, session: Session) -> Result<SessionSummary, WorkError> {
        let ended = self.run_again(session).await;
        let _ = self.ended.send(());
        ended.map(|()| SessionSummary::new())
    }
}
