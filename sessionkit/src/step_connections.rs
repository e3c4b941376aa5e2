//! Connects the owner's socket of a running program with the steps of its session.

use std::io;

use session_core::async_trait::async_trait;
use session_runner::{Connection, ConnectionHandler, Ended, ProgramHandle};
use session_workflow::protocol::{FileIdentity, KEY_VARIABLE, RUN_VARIABLE};
use session_workflow::server::{self, EndedProcesses, Program};

/// The handler of the connections of steps.
#[derive(Debug)]
pub(crate) struct StepConnections;

#[async_trait]
impl ConnectionHandler for StepConnections {
    fn handles(&self, kind: &str) -> bool {
        matches!(kind, "step" | "input" | "each" | "ask" | "sleep")
    }

    fn variables(&self) -> &[&str] {
        &[KEY_VARIABLE, RUN_VARIABLE]
    }

    async fn serve(&self, connection: Connection) -> io::Result<()> {
        let Connection { session, program, first_line, mut read, mut write, .. } = connection;
        server::serve(&session, &RunningProgram(program), first_line, &mut read, &mut write).await
    }
}

struct RunningProgram(ProgramHandle);

#[async_trait]
impl Program for RunningProgram {
    async fn end_processes(&self, variable: &str, spare_separate: bool) -> EndedProcesses {
        let ended = self.0.end_processes(variable, spare_separate).await;
        EndedProcesses { left: ended.left, separate: ended.separate }
    }

    async fn is_stopped(&self, exit_code: Option<i32>, signal: Option<i32>) -> bool {
        let ended = exit_code.map(Ended::Exited).or(signal.map(Ended::Signalled));
        match ended {
            Some(ended) => self.0.is_stopped(ended).await,
            None => true,
        }
    }

    fn is_own_output(&self, file: FileIdentity) -> bool {
        self.0.is_output(file.device, file.inode)
    }
}
