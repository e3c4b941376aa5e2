//! The program of a session, as far as its steps need it.

use async_trait::async_trait;

use crate::protocol::FileIdentity;

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
