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
//!   [`supervise_main`], and [`supervise_test`] for tests. The supervisor outlives its owner and ends the tree after it: TERM, one second, KILL. It
//!   is the tree's subreaper, so that no process escapes by forking; a process that
//!   cannot be ended is reported ([`Escaped`]). A signal reaches descendants of the program and no other process: ids
//!   are checked behind a pidfd.
//! - **Background processes.** The end of the program is not the end of its output: it is read until no process holds
//!   it, for at most [`Command::linger`] of silence. Then background processes are ended, except those that have a
//!   session of their own (`setsid`) or ignore HUP (`nohup`): they are left running and reported
//!   ([`RunReport::left_running`]). [`Command::keep_background`] leaves all of them. A cancel and a deadline end those
//!   with a session of their own, too; the death of the owner does not.
//! - **Output.** [`OutputStorage`] is the port, [`FileOutput`] stores output in files that `cat` can show. Nothing is
//!   kept in memory, a failure to store does not end the program, and an [`OutputFollower`] reads along without slowing
//!   it down.
//! - **Progress.** Programs report through their owner's socket ([`report`]), or in their output with the terminal
//!   sequence OSC 9;4.
//! - **Terminals.** With [`Command::terminal`] the program has a terminal of its own: what it prints there is stored as one
//!   stream and shown to viewers. A [`ViewerConnection`] views it, from this process ([`Runner::viewer`]) or another one
//!   of this user ([`ViewerConnection::attach`]): several at a time, each of which comes and goes without an effect on the
//!   program. [`type_text`] types without viewing. [`attachable_sessions`] finds these terminals, [`TerminalHandle`]
//!   prints a line at the viewers, or ends them.
//! - **This process's terminal.** A program leads a process group of its own. With [`Stdin::Inherit`] the system stops it
//!   when it reads from this process's terminal, until the caller makes it the terminal's foreground group (`tcsetpgrp`).
//!   [`Running::child_state`] reports stops; [`Running::wake`], [`Running::pause`] and [`Running::resume`] respond to
//!   them.
//!
//! # Limits
//! If the supervisor is killed, no process knows the tree any more. The owner then ends every process that has the
//! owner's socket in its environment. If the owner was killed as well, the next process that runs the session again, or
//! calls [`Runner::end_leftovers`], does so. Neither finds a process that has cleared its environment.
//!
//! Linux only: pidfds and `/proc` make these guarantees possible without `unsafe`. The feature `runner` of `sessionkit` adds
//! nothing on other systems.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "`session-runner` needs Linux: depend on it with `[target.'cfg(target_os = \"linux\")'.dependencies]`"
);

mod ask_hook;
mod child_state;
mod command;
mod connection;
mod exit;
mod inherited_descriptors;
mod limit_error;
mod linger;
mod outcome;
mod output;
mod prepared;
mod procfs;
mod program_signal;
mod report;
#[cfg(feature = "report-protocol")]
#[doc(hidden)]
pub mod report_protocol;
mod run_error;
mod run_log;
mod run_loop;
mod run_state;
mod runner;
mod running;
mod runtime_folder;
mod stops;
mod streams;
mod supervisor;
mod terminal;
mod variables;
mod workplace;

pub use child_state::ChildState;
pub use command::{Command, Forwarding, Stdin};
pub use connection::{Connection, ConnectionHandler, ProgramHandle};
pub use exit::{TIMED_OUT, TROUBLE, exit_code, signal_name};
pub use inherited_descriptors::close_inherited_descriptors;
pub use outcome::RunReport;
pub use output::{
    Chunk, FileOutput, OutputCut, OutputError, OutputFilter, OutputFollower, OutputInterceptor, OutputLength,
    OutputLimits, OutputPage, OutputStorage, OutputStorageExt, OutputStream, OutputWriter,
};
pub use prepared::PreparedCommand;
pub use program_signal::{SignalError, SignalTarget, signal_program};
pub use report::{ReportError, report, report_detached, sweep_sockets};
pub use run_error::RunError;
pub use run_loop::{ASK_HOOK_FAILED, STOPPED_FROM_TERMINAL, TERMINAL_RESIZED};
pub use runner::{RunPermit, Runner};
pub use running::Running;
pub use session_core::Terminal;
pub use supervisor::client::LaunchError;
pub use supervisor::entry::{supervise_main, supervise_test};
pub use supervisor::leftovers::{EndedProcesses, ProgramLeftovers};
pub use supervisor::messages::{BackgroundProcess, Ended, Escaped};
pub use terminal::attach_socket::attachable_sessions;
pub use terminal::client::{AttachError, ViewerConnection, ViewerEvent, ViewerOptions, type_text};
pub use terminal::frame::TerminalEnd;
pub use terminal::handle::TerminalHandle;
pub use terminal::pty::{TerminalSize, check_terminal};
pub use variables::{ATTEMPT_VARIABLE, SESSION_VARIABLE, SOCKET_VARIABLE, STORE_VARIABLE};
pub use workplace::{Completion, Place, SetUp, SetUpEnd, Workplace, WorkplaceError};

/// Formats an error with all its causes, for places that store only a text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
