//! A command whose supervisor starts while its session is being created.

use crate::command::Command;
use crate::supervisor::waiting::WaitingSupervisor;

/// A command, and the process that is to supervise its program if that was started already. Dropping it ends that process.
///
/// ```no_run
/// use session_core::{InMemorySessionManager, SessionConfig, SessionManager};
/// use session_runner::{Command, Runner};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = InMemorySessionManager::new();
/// let runner = Runner::new(&manager);
/// let command = Command::new("make").prepare();
/// let id = runner.create(SessionConfig::new("build"), command.command()).await?;
/// println!("session {id}");
/// let mut running = runner.run(manager.start_session(id).await?, command).await?;
/// running.wait().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PreparedCommand {
    pub(crate) command: Command,
    /// `None` if it is started with the program.
    pub(crate) supervisor: Option<WaitingSupervisor>,
}

impl PreparedCommand {
    /// Returns the command.
    #[must_use]
    pub const fn command(&self) -> &Command {
        &self.command
    }
}

impl From<Command> for PreparedCommand {
    /// Takes a command whose supervisor is started with its program.
    fn from(command: Command) -> Self {
        Self { command, supervisor: None }
    }
}

impl Command {
    /// Starts the process that will supervise the program, which takes about as long as creating a session: then both
    /// happen side by side. If it cannot be started, the error is that of the [run](crate::Runner::run).
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn prepare(self) -> PreparedCommand {
        let supervisor = WaitingSupervisor::start(self.own_session || self.terminal.is_some());
        PreparedCommand { command: self, supervisor: supervisor.and_then(Result::ok) }
    }
}
