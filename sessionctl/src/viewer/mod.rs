//! A viewer of the terminal of a session: shows what its program prints, and types what is typed here.
//!
//! It has the terminal only while no other viewer has it and its job is in the foreground; otherwise it only shows. The
//! owner of the session may be another process or this one: both are at the other end of a socket.

mod last_size;
mod own_terminal;
mod plan;
mod start;
mod viewers;

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sessionkit::runner::{TerminalEnd, TerminalSize, ViewerConnection, ViewerEvent};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::own_terminal::OwnTerminal;
pub(crate) use self::plan::{Plan, Viewing};
pub(crate) use self::start::{finish, run};
pub(crate) use self::viewers::Viewers;
use crate::config::OnHangup;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::detach_keys::scanner::DetachScanner;
use crate::error::{Failure, Result};
use crate::job_signals::{JobSignal, JobSignals, StopReason, StopTarget};
use crate::signals::Signals;

/// Returns the line that the owner prints on the terminal of a viewer that was killed. It replaces `@session`.
pub(crate) fn notice(context: &Context) -> String {
    format!("session @session runs on; next: {}", context.command(&["attach", "@session"]))
}

/// The end of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewEnd {
    /// The session has ended.
    Ended(TerminalEnd),
    /// The person left it with the keys for that.
    Detached,
    /// The terminal is gone.
    TerminalGone,
    /// A signal ended this viewer and not the session.
    Signalled(i32),
    /// The owner is gone without an end of the session.
    OwnerGone,
}

/// Interval of trying to have the terminal, while another viewer or job has it.
const TAKE_INTERVAL: Duration = Duration::from_millis(200);
/// Time after which the beginning of a key's sequence is passed on without its rest.
const KEY_TIMEOUT: Duration = Duration::from_millis(50);
/// The exit code of a program that ended by itself is not above this one. What it left of its terminal's modes is meant.
const BY_SIGNAL: u8 = 128;

/// The way in which a viewer treats what it gets besides keys.
#[derive(Debug, Clone)]
pub(crate) struct ViewOptions {
    /// The keys that leave the session; `None` if there are none.
    pub(crate) keys: Option<DetachKeys>,
    pub(crate) read_only: bool,
    pub(crate) on_hangup: OnHangup,
    /// `true` to pass signals on to the program: this viewer ends with the session.
    pub(crate) passes_signals: bool,
}

/// A viewer with its terminal.
pub(crate) struct View {
    connection: ViewerConnection,
    terminal: OwnTerminal,
    options: ViewOptions,
    keys: Option<DetachScanner>,
    job: JobSignals,
    resized: Signal,
    /// Lines to print once the terminal is in order again.
    notices: Vec<String>,
    /// `true` while the owner is asked to note the modes of the terminal.
    is_taking: bool,
    /// Output that came meanwhile. Shown now, it would be changed by modes that are not meant for it, and a screen that it
    /// sets up would stay if this viewer were killed.
    held: Vec<u8>,
    /// `false` once the terminal has ended.
    has_terminal: bool,
    is_at_line_start: bool,
}

impl View {
    /// Creates the viewer of a connection that was made for this terminal.
    pub(crate) fn new(
        connection: ViewerConnection,
        terminal: BorrowedFd<'_>,
        options: ViewOptions,
    ) -> Result<Self> {
        let failed = |error: io::Error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error);
        let mut view = Self {
            connection,
            terminal: OwnTerminal::open(terminal).map_err(failed)?,
            keys: options.keys.clone().map(DetachScanner::new),
            options,
            job: JobSignals::new()?,
            resized: signal(SignalKind::window_change()).map_err(failed)?,
            notices: Vec::new(),
            is_taking: false,
            held: Vec::new(),
            has_terminal: true,
            is_at_line_start: true,
        };
        view.take();
        Ok(view)
    }

    /// Shows and types until the end. Without `signals`, this process handles them elsewhere.
    pub(crate) async fn run(mut self, mut signals: Option<Signals>) -> ViewEnd {
        let end = self.follow(&mut signals).await;
        self.finish(end).await;
        end
    }

    async fn follow(&mut self, signals: &mut Option<Signals>) -> ViewEnd {
        let mut typed = Vec::new();
        let mut flush_at = None;
        loop {
            let reads = self.terminal.is_raw() && self.connection.takes_input();
            let has_room = !self.has_terminal || self.terminal.has_room();
            tokio::select! {
                event = self.connection.next(), if has_room => match event {
                    None => return ViewEnd::OwnerGone,
                    Some(ViewerEvent::End(end)) => return ViewEnd::Ended(end),
                    Some(event) => self.handle(event),
                },
                open = self.terminal.progress(reads, &mut typed), if self.has_terminal => {
                    if !open && self.terminal_is_gone() {
                        return ViewEnd::TerminalGone;
                    }
                    if self.type_input(&std::mem::take(&mut typed)) {
                        return ViewEnd::Detached;
                    }
                    let is_pending = self.keys.as_ref().is_some_and(DetachScanner::is_pending);
                    flush_at = is_pending.then(|| Instant::now() + KEY_TIMEOUT);
                }
                () = sleep_until(flush_at) => {
                    flush_at = None;
                    let rest = self.keys.as_mut().map(DetachScanner::flush).unwrap_or_default();
                    self.pass_on(&rest);
                }
                // A shell says nothing to a running job that it brings to the foreground.
                () = tokio::time::sleep(TAKE_INTERVAL), if self.has_terminal && !self.terminal.is_raw() => {
                    self.take();
                }
                Some(()) = self.resized.recv() => self.connection.resize(TerminalSize::of(&self.terminal)),
                job_signal = self.job.next() => self.handle_job_signal(job_signal),
                number = next_signal(signals) => {
                    if let Some(end) = self.handle_signal(number) {
                        return end;
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: ViewerEvent) {
        match event {
            ViewerEvent::Output(bytes) => {
                self.push(&bytes);
                self.is_at_line_start = bytes.ends_with(b"\n");
            }
            ViewerEvent::Taken => {
                if self.is_taking && self.terminal.try_lock() {
                    self.terminal.set_raw();
                }
                self.end_taking();
            }
            ViewerEvent::Missed(bytes) => {
                self.print_line(&format!("[{bytes} bytes were not shown]"));
            }
            ViewerEvent::Suspend => self.suspend(StopTarget::Job),
            ViewerEvent::Notice { text, now: true } if self.connection.accepts_line() => {
                self.print_line(&text);
            }
            ViewerEvent::Notice { text, .. } => self.notices.push(text),
            ViewerEvent::Notification(bytes) => self.push(&bytes),
            // The loop ends with the one, and reads no more keys after the other.
            ViewerEvent::End(_) | ViewerEvent::Closed | _ => {}
        }
    }

    /// Prints a line of its own.
    fn print_line(&mut self, text: &str) {
        let begin = if self.is_at_line_start { "" } else { "\r\n" };
        self.push(format!("{begin}{text}\r\n").as_bytes());
        self.is_at_line_start = true;
    }

    /// Shows bytes, once it is known whether this viewer has the terminal.
    fn push(&mut self, bytes: &[u8]) {
        if !self.has_terminal {
            // This viewer waits for the end of the session only.
        } else if self.is_taking {
            self.held.extend(bytes);
        } else {
            self.terminal.push(bytes);
        }
    }

    fn end_taking(&mut self) {
        self.is_taking = false;
        self.terminal.push(&std::mem::take(&mut self.held));
    }

    /// Types what was typed here. Returns `true` if it leaves the session.
    fn type_input(&mut self, typed: &[u8]) -> bool {
        if typed.is_empty() {
            return false;
        }
        let (pass, detach) = match &mut self.keys {
            Some(keys) => {
                let scanned = keys.scan(typed);
                (scanned.pass, scanned.detach)
            }
            None => (typed.to_vec(), false),
        };
        self.pass_on(&pass);
        detach
    }

    fn pass_on(&mut self, keys: &[u8]) {
        if !keys.is_empty() && !self.options.read_only {
            self.connection.type_input(keys);
        }
    }

    /// Asks for the terminal, if it can be had: the owner notes its modes first.
    fn take(&mut self) {
        if !self.is_taking && !self.terminal.is_raw() && self.terminal.try_lock() {
            self.is_taking = true;
            self.connection.take_terminal();
        }
    }

    fn release(&mut self) {
        self.end_taking();
        self.terminal.release();
        self.connection.release_terminal();
    }

    /// Stops the job of this process, and resumes the session when the job runs again. Where nobody could continue the job,
    /// the system does not stop it.
    fn suspend(&mut self, target: StopTarget) {
        self.release();
        self.job.stop(StopReason::Requested, target);
        // The shell has printed lines of its own.
        self.is_at_line_start = true;
        // The system continues a stopped job whose terminal is closed, too: that is no reason to resume the session.
        if !self.terminal.is_gone() {
            self.take();
            self.connection.resize(TerminalSize::of(&self.terminal));
            self.connection.resume();
        }
    }

    fn handle_job_signal(&mut self, signal: JobSignal) {
        match signal {
            // As the key would, which the program gets. The viewer's job stops once the program has.
            JobSignal::Stop(StopReason::Requested) if self.options.passes_signals => {
                self.connection.signal(nix::sys::signal::Signal::SIGTSTP as i32);
            }
            JobSignal::Stop(StopReason::Requested) => {
                self.release();
                self.job.stop(StopReason::Requested, StopTarget::ThisProcess);
                self.take();
            }
            // Nothing is read from the background.
            JobSignal::Stop(StopReason::NeedsTerminal) => {}
            JobSignal::Continue if self.terminal.is_gone() => {}
            JobSignal::Continue => {
                if self.terminal.give_up_if_changed() {
                    self.is_at_line_start = true;
                    self.connection.release_terminal();
                }
                self.take();
                self.connection.resize(TerminalSize::of(&self.terminal));
                self.connection.resume();
            }
        }
    }

    fn handle_signal(&mut self, number: i32) -> Option<ViewEnd> {
        let hangup = SignalKind::hangup().as_raw_value();
        if number == SignalKind::window_change().as_raw_value() {
            return None;
        }
        if number == hangup && !self.must_stay() {
            return Some(ViewEnd::Signalled(number));
        }
        if number == hangup && self.options.on_hangup == OnHangup::Leave {
            self.has_terminal = false;
        } else if self.options.passes_signals {
            self.connection.signal(number);
        } else if Signals::is_stop(number) {
            return Some(ViewEnd::Signalled(number));
        }
        None
    }

    /// Takes note that the terminal is gone. Returns `true` if this viewer leaves.
    fn terminal_is_gone(&mut self) -> bool {
        self.has_terminal = false;
        if !self.must_stay() {
            return true;
        }
        if self.options.on_hangup == OnHangup::Interrupt {
            self.connection.signal(SignalKind::hangup().as_raw_value());
        }
        false
    }

    /// Returns `true` if this viewer waits for the end of the session without its terminal, too: the first process of a
    /// container, whose end would kill the others, and one that is to interrupt the session.
    fn must_stay(&self) -> bool {
        self.options.passes_signals
            && (self.options.on_hangup == OnHangup::Interrupt || std::process::id() == 1)
    }

    /// Writes the rest, restores the terminal, and prints the notices.
    async fn finish(mut self, end: ViewEnd) {
        if matches!(end, ViewEnd::Ended(_)) {
            // The owner of a short program answers after its end.
            while self.is_taking
                && let Some(event) = self.connection.next().await
            {
                self.handle(event);
            }
        }
        self.end_taking();
        if self.has_terminal {
            let mut typed = Vec::new();
            while !self.terminal.is_drained() && self.terminal.progress(false, &mut typed).await {}
        }
        let leaves_modes = matches!(end, ViewEnd::Ended(end) if end.exit_code <= BY_SIGNAL);
        if self.terminal.is_raw() && !leaves_modes {
            self.terminal.push(&self.connection.reset_sequence());
        }
        if !matches!(end, ViewEnd::Ended(_)) && !self.is_at_line_start {
            self.terminal.push(b"\r\n");
        }
        self.release();
        if end != ViewEnd::OwnerGone {
            self.connection.leave().await;
        }
        if !self.notices.is_empty() && !self.is_at_line_start && self.has_terminal {
            let _ = writeln!(io::stderr());
        }
        for notice in self.notices {
            let _ = writeln!(io::stderr(), "{notice}");
        }
    }
}

/// Writes the output of a session to stdout, which is no terminal, until the end.
pub(crate) async fn show(mut connection: ViewerConnection) -> ViewEnd {
    let mut reader_is_gone = false;
    loop {
        match connection.next().await {
            None => return ViewEnd::OwnerGone,
            Some(ViewerEvent::End(end)) => {
                connection.leave().await;
                return ViewEnd::Ended(end);
            }
            Some(ViewerEvent::Output(bytes)) if !reader_is_gone => {
                let mut out = io::stdout().lock();
                reader_is_gone = out.write_all(&bytes).and_then(|()| out.flush()).is_err();
            }
            Some(_) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn next_signal(signals: &mut Option<Signals>) -> i32 {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}
