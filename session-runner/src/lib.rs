//! Runs child processes as durable sessions: supervision, captured output.
//!
//! A program that runs for hours should be observable, stoppable and pausable from other processes, leave nothing
//! behind when the process that started it is killed, and be restartable after a crash. A [`Runner`] makes it a
//! session: requests in the session's log (pause, resume, cancel) are applied to the program, and what happens to the
//! program is recorded in the log.
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
//! - [`Command`] describes the program, [`Runner`] runs it or runs it again, [`Running`] is the handle while it runs,
//!   [`RunReport`] is its outcome, and [`exit_code`] the exit code for a command line.
//! - **Supervision.** The program runs under a small process, which is this same binary started with a hidden verb: see
//!   [`supervise_main`], and [`supervise_test`] for tests. The supervisor outlives its owner and ends the whole tree after it: TERM, one second, KILL. It
//!   is the tree's subreaper, so that no process escapes by forking or by starting a session of its own; a process that
//!   cannot be ended is reported ([`Escaped`]). A signal reaches descendants of the program and no other process: ids
//!   are checked behind a pidfd.
//! - **Output.** [`OutputStorage`] is the port, [`FileOutput`] stores output in files that `cat` can show. Nothing is
//!   kept in memory, a failure to store does not end the program, and an [`OutputFollower`] reads along without slowing
//!   it down.
//! - **Progress.** Programs report through their owner's socket ([`report`]), or in their output with the terminal
//!   sequence OSC 9;4.
//! - **Terminals.** A program leads a process group of its own. With [`Stdin::Inherit`] the system stops it when it
//!   reads from this process's terminal, until the caller makes it the terminal's foreground group (`tcsetpgrp`).
//!   [`Running::child_state`] reports stops; [`Running::wake`], [`Running::pause`] and [`Running::resume`] respond to
//!   them.
//!
//! # Limits
//! If the supervisor is killed, no process knows the tree any more. The owner then ends every process that has the
//! owner's socket in its environment. If the owner was killed as well, the next process that runs the session again, or
//! calls [`Runner::end_leftovers`], does so. Neither finds a process that has cleared its environment.
//!
//! Processes that a program leaves behind when it ends are ended with it.
//!
//! Linux only: pidfds and `/proc` make these guarantees possible without `unsafe`. The feature `runner` of `sessionkit` adds
//! nothing on other systems.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "`session-runner` needs Linux: depend on it with `[target.'cfg(target_os = \"linux\")'.dependencies]`"
);

mod capture;
mod child_state;
mod command;
mod error;
mod exit;
mod follow;
mod inherited_descriptors;
mod leftovers;
mod osc;
mod outcome;
mod output;
mod program_signal;
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
pub use inherited_descriptors::close_inherited_descriptors;
pub use output::{
    Chunk, FileOutput, OutputCut, OutputError, OutputLength, OutputPage, OutputStorage, OutputStorageExt,
    OutputStream, OutputWriter, Stored,
};
pub use program_signal::{SignalError, SignalTarget, signal_program};
pub use report::{ReportError, SOCKET_VARIABLE, report};
pub use runner::{ATTEMPT_VARIABLE, Runner, SESSION_VARIABLE, STORE_VARIABLE};
pub use running::{RunReport, Running};
pub use socket::sweep_sockets;
pub use supervisor::entry::{supervise_main, supervise_test};
pub use supervisor::protocol::{Ended, Escaped};
pub use supervisor_client::LaunchError;

/// Formats an error with all its causes, for places that store only a text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
