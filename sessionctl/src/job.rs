//! A program and this process as one job of a shell: who has the terminal, and that the two stop and go on together.

use rustix::process::Pid;
use sessionkit::runner::{ChildState, Running};

use crate::error::Result;
use crate::job_signals::{JobSignal, JobSignals, StopReason, StopTarget};
use crate::terminal::{self, Terminal};

/// What stands in the log for a key.
const BY_KEY: &str = "stopped from the terminal";
/// What stands there for a program in the background that wants to read.
const BY_READING: &str = "waits for the terminal";

/// This process as a job.
#[derive(Debug)]
pub(crate) struct Job {
    signals: JobSignals,
    terminal: Option<Terminal>,
    /// Whether the program is to have the terminal whenever this process has it.
    wants_terminal: bool,
    /// To be done once the program stands still.
    pending_stop: Option<(StopReason, StopTarget)>,
    /// Whether the session is paused, and whether it is for the sake of the terminal, to go on with this process.
    paused: bool,
    paused_by_us: bool,
}

impl Job {
    pub(crate) fn new() -> Result<Self> {
        let signals = JobSignals::new()?;
        Ok(Self {
            signals,
            terminal: None,
            wants_terminal: terminal::wants_terminal(),
            pending_stop: None,
            paused: false,
            paused_by_us: false,
        })
    }

    /// What a shell or a terminal says next. Dropping the future is harmless.
    pub(crate) async fn next(&mut self) -> JobSignal {
        self.signals.next().await
    }

    /// Does what was said before there was a program.
    pub(crate) fn handle_before_start(&mut self, signal: JobSignal) {
        if let JobSignal::Stop(reason) = signal {
            self.signals.stop(reason, StopTarget::ThisProcess);
        }
    }

    /// The program runs.
    pub(crate) async fn program_started(&mut self, running: &Running) {
        let program = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        self.terminal = program.and_then(Terminal::open);
        if self.wants_terminal {
            self.hand_over_terminal(running).await;
        }
    }

    /// Whether the program has the terminal, from here.
    pub(crate) fn program_has_terminal(&self) -> bool {
        self.terminal.as_ref().is_some_and(Terminal::is_handed_over)
    }

    /// Whether this process stops once the program stands still.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.pending_stop.is_some()
    }

    /// Does what was said.
    pub(crate) async fn handle(&mut self, signal: JobSignal, running: &Running) {
        match signal {
            JobSignal::Stop(_) if self.pending_stop.is_some() => {}
            JobSignal::Stop(reason) if self.paused => {
                self.stop(reason, StopTarget::ThisProcess, running).await
            }
            JobSignal::Stop(reason) => self.pause(reason, StopTarget::ThisProcess, running),
            JobSignal::Continue => self.continue_program(running).await,
        }
    }

    /// Does what the program's standing makes necessary.
    pub(crate) async fn handle_child_state(&mut self, state: ChildState, running: &Running) {
        self.paused = state == ChildState::Paused;
        match state {
            ChildState::Stopped { signal } => {
                let reason = StopReason::of(signal);
                // It asked for the terminal and gets it, or has got it since: a program may read before it was handed
                // over.
                if reason == StopReason::NeedsTerminal && self.hand_over_terminal(running).await {
                    self.wants_terminal = true;
                } else if self.terminal.is_some() {
                    self.pause(reason, StopTarget::Job, running);
                }
            }
            ChildState::Paused => {
                self.reclaim_terminal();
                if let Some((reason, target)) = self.pending_stop.take() {
                    self.stop(reason, target, running).await;
                }
            }
            // On its way to a stop that was wanted meanwhile, or for good.
            ChildState::Running | _ if self.pending_stop.is_some() => {}
            ChildState::Running | _ => {
                self.paused_by_us = false;
                if self.wants_terminal && !self.program_has_terminal() {
                    self.hand_over_terminal(running).await;
                }
            }
        }
    }

    fn pause(&mut self, reason: StopReason, target: StopTarget, running: &Running) {
        self.pending_stop = Some((reason, target));
        self.paused_by_us = true;
        running.pause(match reason {
            StopReason::Requested => BY_KEY,
            StopReason::NeedsTerminal => BY_READING,
        });
    }

    /// Stops, and goes on when somebody wants that.
    async fn stop(&mut self, reason: StopReason, target: StopTarget, running: &Running) {
        let was_stopped = self.signals.stop(reason, target);
        let foreground = self.terminal.as_ref().is_none_or(Terminal::is_ours);
        // Where no shell could make a stopped job go on, the system stops none. Then a key has no effect either. But who
        // reads in the background would be where it was.
        if was_stopped || reason == StopReason::Requested && foreground {
            self.continue_program(running).await;
        }
    }

    async fn continue_program(&mut self, running: &Running) {
        if self.paused && !self.paused_by_us {
            // Somebody else paused it, and it is for them to end that.
            return;
        }
        if self.wants_terminal {
            self.hand_over_terminal(running).await;
        }
        if self.paused_by_us {
            running.resume();
        }
    }

    async fn hand_over_terminal(&mut self, running: &Running) -> bool {
        let handed_over = self.terminal.as_mut().is_some_and(Terminal::hand_over);
        if handed_over {
            // Whoever of it was too early stands still.
            running.wake().await;
        }
        handed_over
    }

    /// Takes the terminal back.
    pub(crate) fn reclaim_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.reclaim();
        }
    }
}
