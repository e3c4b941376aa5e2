//! Runs child processes as durable sessions: supervision, captured output.
//!
//! A program that runs for hours should be seen, stopped and paused from elsewhere, leave nothing behind when the process
//! that started it is killed, and be run again after a crash. A [`Runner`] makes a session of it: what others ask for
//! in the session's log (pause, resume, cancel) is done to the program, and what becomes of the program goes to the log.
//!
//! ```no_run
//! use std::sync::Arc;
//! use session_core::{InMemorySessionManager, SessionConfig};
//! use session_runner::{Command, FileOutput, Runner, supervise_main};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // First thing in `main`, before the runtime: this binary is its own supervisor.
//! supervise_main();
//!
//! let manager = InMemorySessionManager::new();
//! let runner = Runner::new(&manager).output(Arc::new(FileOutput::new("/var/lib/builder/output")));
//! let build = Command::new("make").arg("-j8").cwd("/src/project").env("CC", "clang");
//! let mut running = runner.spawn(SessionConfig::new("build").name("nightly"), build).await?;
//!
//! let mut output = running.output().expect("it is stored");
//! while let Some(chunk) = output.next().await? {
//!     println!("{} bytes of {} at {}", chunk.bytes.len(), chunk.stream.name(), chunk.offset);
//! }
//! let report = running.wait().await?;
//! assert_eq!(report.exit_code(), 0);
//! # Ok(()) }
//! ```
//!
//! # Map
//! - [`Command`] says what to run, [`Runner`] runs it or runs it again, [`Running`] is held while it runs, [`RunReport`]
//!   says how it ended, [`exit_code`] what a command line says then.
//! - **Supervision.** The program runs under a small process, this same binary under a hidden verb: see [`supervise_main`].
//!   It outlives its owner, and takes the whole tree with it: TERM, one second, KILL. It is the tree's subreaper, so that
//!   no fork and no session of its own lets a process get away; what cannot be ended is named ([`Escaped`]). A signal
//!   reaches descendants of the program and nobody else: ids are checked behind a pidfd.
//! - **Output.** [`OutputStorage`] is the port, [`FileOutput`] keeps it in files that `cat` can show. Nothing is held in
//!   memory, no failure to store ends the work, and [`OutputFollower`] reads along without holding up the program.
//! - **Progress.** Programs report through their owner's socket ([`report`]), or in their output as terminals know it
//!   (OSC 9;4).
//!
//! - **Terminals.** A program leads a process group of its own. With [`Stdin::Inherit`] it is stopped by the system when
//!   it reads from this process's terminal, until somebody makes it the terminal's foreground group (`tcsetpgrp`).
//!   [`Running::child_state`] tells of stops, [`Running::wake`], [`Running::pause`] and [`Running::resume`] answer them.
//!
//! Whoever kills a supervisor takes away the only one who knows the tree. Its owner then ends every process that has the
//! owner's socket in its environment; with the owner killed as well, whoever runs the session again does, or calls
//! [`Runner::end_leftovers`]. A process that threw its environment away is found by neither.
//!
//! Whatever a program leaves behind when it ends is ended with it.
//!
//! Linux only: pidfds and `/proc` are what makes the promises above possible without `unsafe`.

mod capture;
mod child_state;
mod command;
mod error;
mod exit;
mod follow;
mod leftovers;
mod osc;
mod outcome;
mod output;
mod report;
#[cfg(feature = "report-protocol")]
#[doc(hidden)]
pub mod report_protocol;
mod run_loop;
mod runner;
mod running;
mod socket;
mod supervisor;
mod supervisor_client;

pub use capture::OutputInterceptor;
pub use child_state::ChildState;
pub use command::{Command, Forwarding, Stdin};
pub use error::RunError;
pub use exit::{TIMED_OUT, TROUBLE, exit_code, signal_name};
pub use follow::OutputFollower;
pub use output::{
    Chunk, FileOutput, OutputCut, OutputError, OutputLength, OutputPage, OutputStorage, OutputStorageExt,
    OutputStream, OutputWriter, Stored,
};
pub use report::{ReportError, SOCKET_VARIABLE, report};
pub use runner::{ATTEMPT_VARIABLE, Runner, SESSION_VARIABLE, STORE_VARIABLE};
pub use running::{RunReport, Running};
pub use socket::sweep_sockets;
pub use supervisor::protocol::{Ended, Escaped};
pub use supervisor::supervise_main;
pub use supervisor_client::LaunchError;

/// An error with all its causes, for where only a text is kept.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
