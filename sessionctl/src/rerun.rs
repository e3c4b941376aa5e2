//! Runs the commands of crashed sessions again, several at once, for `recover --policy resume`.

use std::sync::Arc;

use sessionkit::runner::{Command, Runner};
use sessionkit::{Head, Session, SessionSummary, WorkError, WorkHandler};
use tokio::sync::{OnceCell, mpsc};

/// Runs a session's command again, with its output captured only.
#[derive(Debug)]
pub(crate) struct Rerun {
    /// Set once the manager is there that this belongs to.
    runner: OnceCell<Runner>,
    ended: mpsc::UnboundedSender<()>,
}

impl Rerun {
    /// A handler, and what says of each session that it has ended.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<()>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Arc::new(Self { runner: OnceCell::new(), ended }), ends)
    }

    /// What it runs programs with.
    pub(crate) fn set_runner(&self, runner: Runner) {
        // There is one manager in this process, and so one runner.
        let _ = self.runner.set(runner);
    }

    async fn run_again(&self, session: Session) -> Result<(), WorkError> {
        let command = session.origin().and_then(Command::from_origin);
        let (Some(command), Some(runner)) = (command, self.runner.get()) else {
            return Err(WorkError::new("there is no program that could be run again"));
        };
        let mut running = runner.run(session, command).await?;
        // It ends its session itself.
        running.wait().await?;
        Ok(())
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
