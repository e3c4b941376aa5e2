//! Job control: the program and this process stop and continue together, and the terminal passes between them.

use rustix::process::Pid;
use sessionkit::SessionState;
use sessionkit::log::PauseReason;
use sessionkit::runner::{ChildState, Running, STOPPED_FROM_TERMINAL};

use crate::error::Result;
use crate::job_signals::{JobSignal, JobSignals, StopReason, StopTarget};
use crate::terminal::{self, Terminal};

/// Pause reason in the log for a background program that reads from the terminal.
const BY_READING: &str = "waits for the terminal";

/// The claim of the program to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    None,
    /// It gets the terminal whenever this process has it.
    Wanted,
    /// It had the terminal when it ended.
    Past,
}

/// This process and its program as a job of a shell.
#[derive(Debug)]
pub(crate) struct Job {
    signals: JobSignals,
    terminal: Option<Terminal>,
    claim: Claim,
    /// The stop to carry out once the program is paused.
    pending_stop: Option<(StopReason, StopTarget)>,
    /// `true` while the session is paused.
    paused: bool,
    /// `true` if it was paused here, for job control, and resumes when this process continues.
    paused_by_us: bool,
}

impl Job {
    pub(crate) fn new() -> Result<Self> {
        let signals = JobSignals::new()?;
        Ok(Self {
            signals,
            terminal: None,
            claim: if terminal::wants_terminal() { Claim::Wanted } else { Claim::None },
            pending_stop: None,
            paused: false,
            paused_by_us: false,
        })
    }

    /// Returns the next job control signal. The future may be dropped.
    pub(crate) async fn next(&mut self) -> JobSignal {
        self.signals.next().await
    }

    /// Handles a signal that came before the program started.
    pub(crate) fn handle_before_start(&mut self, signal: JobSignal) {
        if let JobSignal::Stop(reason) = signal {
            self.signals.stop(reason, StopTarget::ThisProcess);
        }
    }

    /// Opens the terminal and hands it to the program, which has just started.
    pub(crate) async fn program_started(&mut self, running: &Running) {
        let program = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        self.terminal = program.and_then(Terminal::open);
        if self.claim == Claim::Wanted {
            self.hand_over_terminal(running).await;
        }
    }

    /// Returns `true` if the program has the terminal, handed over by this process, or had it when it ended.
    pub(crate) fn program_has_terminal(&self) -> bool {
        self.claim == Claim::Past || self.terminal.as_ref().is_some_and(Terminal::is_handed_over)
    }

    /// Returns `true` if this process stops once the program is paused.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.pending_stop.is_some()
    }

    /// Handles a signal while the program runs.
    pub(crate) async fn handle(&mut self, signal: JobSignal, running: &Running) {
        match signal {
            JobSignal::Stop(_) if self.pending_stop.is_some() => {}
            JobSignal::Stop(reason) if self.paused => {
                self.stop(reason, StopTarget::ThisProcess, running).await;
            }
            JobSignal::Stop(reason) => self.pause(reason, StopTarget::ThisProcess, running),
            JobSignal::Continue => self.continue_program(running).await,
        }
    }

    /// Follows a change of the program's state.
    pub(crate) async fn handle_child_state(&mut self, state: ChildState, running: &Running) {
        self.paused = state == ChildState::Paused;
        match state {
            ChildState::Stopped { signal } => {
                let reason = StopReason::of(signal);
                // The program asked for the terminal and gets it, or has it by now: it may have read before the
                // terminal was handed over.
                if reason == StopReason::NeedsTerminal && self.hand_over_terminal(running).await {
                    self.claim = Claim::Wanted;
                } else if self.terminal.is_some() {
                    self.pause(reason, StopTarget::Job, running);
                }
            }
            ChildState::Paused => {
                self.reclaim_terminal();
                if let Some((reason, target)) = self.pending_stop.take() {
                    // A request that came in the meantime paused it: it stays paused when this process continues.
                    self.paused_by_us &= is_paused_for(running, text_of(reason));
                    self.stop(reason, target, running).await;
                }
            }
            // As for a shell, background processes do not keep the terminal: its keys end the wait for them.
            ChildState::Ended => {
                self.claim = if self.program_has_terminal() { Claim::Past } else { Claim::None };
                self.reclaim_terminal();
            }
            // A stop was requested in the meantime.
            ChildState::Running | _ if self.pending_stop.is_some() => {}
            ChildState::Running | _ => {
                self.paused_by_us = false;
                if self.claim == Claim::Wanted && !self.program_has_terminal() {
                    self.hand_over_terminal(running).await;
                }
            }
        }
    }

    fn pause(&mut self, reason: StopReason, target: StopTarget, running: &Running) {
        self.pending_stop = Some((reason, target));
        self.paused_by_us = true;
        running.pause(text_of(reason));
    }

    /// Stops this process, and resumes the program once it is continued.
    async fn stop(&mut self, reason: StopReason, target: StopTarget, running: &Running) {
        let was_stopped = self.signals.stop(reason, target);
        let foreground = self.terminal.as_ref().is_none_or(Terminal::is_ours);
        // Without a shell that could continue a stopped job, the kernel does not stop it, so a stop key has no effect
        // and the program resumes. A program that reads from the background stays paused: it would only be stopped
        // again.
        if was_stopped || reason == StopReason::Requested && foreground {
            self.continue_program(running).await;
        }
    }

    async fn continue_program(&mut self, running: &Running) {
        if self.paused && !self.paused_by_us {
            // Paused by a request: only a resume request ends that.
            return;
        }
        if self.claim == Claim::Wanted {
            self.hand_over_terminal(running).await;
        }
        if self.paused_by_us {
            running.resume();
        }
    }

    async fn hand_over_terminal(&mut self, running: &Running) -> bool {
        let handed_over = self.terminal.as_mut().is_some_and(Terminal::hand_over);
        if handed_over {
            // Continues processes of the program that read too early and were stopped.
            running.wake().await;
        }
        handed_over
    }

    /// Returns the terminal to this process.
    pub(crate) fn reclaim_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.reclaim();
        }
    }
}

/// Returns the pause reason in the log.
const fn text_of(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Requested => STOPPED_FROM_TERMINAL,
        StopReason::NeedsTerminal => BY_READING,
    }
}

/// Returns `true` if the session is paused for this reason.
fn is_paused_for(running: &Running, text: &str) -> bool {
    let head = running.session().head();
    matches!(head.state(), SessionState::Paused { reason: PauseReason::Requested(reason) } if reason == text)
}
