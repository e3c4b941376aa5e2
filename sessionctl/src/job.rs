//! A program and this process as one job of a shell: who has the terminal, and that the two stop and go on together.

use rustix::process::Pid;
use sessionkit::runner::{ChildState, Running};

use crate::fail::Result;
use crate::stops::{Stop, Stops, Whom, Word};
use crate::terminal::{self, Terminal};

/// What stands in the log for a key.
const BY_KEY: &str = "stopped from the terminal";
/// What stands there for a program in the background that wants to read.
const BY_READING: &str = "waits for the terminal";

/// This process as a job.
#[derive(Debug)]
pub(crate) struct Job {
    stops: Stops,
    terminal: Option<Terminal>,
    /// Whether the program is to have the terminal whenever this process has it.
    wanted: bool,
    /// To be done once the program stands still.
    stopping: Option<(Stop, Whom)>,
    /// Whether the session is paused, and whether it is for the sake of the terminal, to go on with this process.
    paused: bool,
    held: bool,
}

impl Job {
    pub(crate) fn new() -> Result<Self> {
        let stops = Stops::catch()?;
        Ok(Self {
            stops,
            terminal: None,
            wanted: terminal::is_wanted(),
            stopping: None,
            paused: false,
            held: false,
        })
    }

    /// What a shell or a terminal says next. Dropping the future is harmless.
    pub(crate) async fn next(&mut self) -> Word {
        self.stops.next().await
    }

    /// Does what was said before there was a program.
    pub(crate) fn heard_early(&mut self, word: Word) {
        if let Word::Stop(why) = word {
            self.stops.stop(why, Whom::Myself);
        }
    }

    /// The program runs.
    pub(crate) async fn begin(&mut self, running: &Running) {
        let program = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        self.terminal = program.and_then(Terminal::open);
        if self.wanted {
            self.give(running).await;
        }
    }

    /// Whether the program has the terminal, from here.
    pub(crate) fn has_given(&self) -> bool {
        self.terminal.as_ref().is_some_and(Terminal::is_given)
    }

    /// Whether this process stops once the program stands still.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Does what was said.
    pub(crate) async fn heard(&mut self, word: Word, running: &Running) {
        match word {
            Word::Stop(_) if self.stopping.is_some() => {}
            Word::Stop(why) if self.paused => self.stop(why, Whom::Myself, running).await,
            Word::Stop(why) => self.pause(why, Whom::Myself, running),
            Word::Continue => self.goes_on(running).await,
        }
    }

    /// Does what the program's standing makes necessary.
    pub(crate) async fn program_stands(&mut self, standing: ChildState, running: &Running) {
        self.paused = standing == ChildState::Paused;
        match standing {
            ChildState::Stopped { signal } => {
                let why = Stop::of(signal);
                // It asked for the terminal and gets it, or has got it since: a program may read before it was handed
                // over.
                if why == Stop::Reading && self.give(running).await {
                    self.wanted = true;
                } else if self.terminal.is_some() {
                    self.pause(why, Whom::Job, running);
                }
            }
            ChildState::Paused => {
                self.take();
                if let Some((why, whom)) = self.stopping.take() {
                    self.stop(why, whom, running).await;
                }
            }
            // On its way to a stop that was wanted meanwhile, or for good.
            ChildState::Running | _ if self.stopping.is_some() => {}
            ChildState::Running | _ => {
                self.held = false;
                if self.wanted && !self.has_given() {
                    self.give(running).await;
                }
            }
        }
    }

    fn pause(&mut self, why: Stop, whom: Whom, running: &Running) {
        self.stopping = Some((why, whom));
        self.held = true;
        running.pause(match why {
            Stop::Wanted => BY_KEY,
            Stop::Reading => BY_READING,
        });
    }

    /// Stops, and goes on when somebody wants that.
    async fn stop(&mut self, why: Stop, whom: Whom, running: &Running) {
        let was_stopped = self.stops.stop(why, whom);
        let foreground = self.terminal.as_ref().is_none_or(Terminal::is_own);
        // Where no shell could make a stopped job go on, the system stops none. Then a key has no effect either. But who
        // reads in the background would be where it was.
        if was_stopped || why == Stop::Wanted && foreground {
            self.goes_on(running).await;
        }
    }

    async fn goes_on(&mut self, running: &Running) {
        if self.paused && !self.held {
            // Somebody else paused it, and it is for them to end that.
            return;
        }
        if self.wanted {
            self.give(running).await;
        }
        if self.held {
            running.resume();
        }
    }

    async fn give(&mut self, running: &Running) -> bool {
        let given = self.terminal.as_mut().is_some_and(Terminal::give);
        if given {
            // Whoever of it was too early stands still.
            running.wake().await;
        }
        given
    }

    /// Takes the terminal back.
    pub(crate) fn take(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.take();
        }
    }
}
