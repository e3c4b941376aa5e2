//! Runs child processes as durable sessions: supervision, captured output.

mod capture;
mod command;
mod drive;
mod ending;
mod error;
mod exit;
mod follow;
mod osc;
mod output;
mod report;
mod runner;
mod running;
mod socket;
mod stragglers;
mod supervised;
mod supervisor;

pub use command::{Command, PassOn, Stdin};
pub use error::RunError;
pub use exit::{TIMED_OUT, TROUBLE, exit_code};
pub use follow::OutputFollower;
pub use output::{
    Chunk, FileOutput, OutputError, OutputLength, OutputPage, OutputStorage, OutputStorageExt, OutputStream,
    OutputWriter, Stored,
};
pub use report::{ReportError, SOCKET_VARIABLE, report};
pub use runner::{ATTEMPT_VARIABLE, Runner, SESSION_VARIABLE, STORE_VARIABLE};
pub use running::{RunReport, Running};
pub use socket::sweep_sockets;
pub use supervised::LaunchError;
pub use supervisor::protocol::{Ended, Escaped};
pub use supervisor::supervise_main;

/// An error with all its causes, for where only a text is kept.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
