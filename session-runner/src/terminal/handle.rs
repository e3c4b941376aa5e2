//! The handle of the terminal of a running program, and what its thread reports.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use super::frame::TerminalEnd;
use super::pty::TerminalSize;

/// An event at the terminal, for the loop of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TerminalEvent {
    /// A key was typed that sends a signal to the process group in the foreground.
    Key {
        /// The signal's number.
        signal: i32,
        /// The group's id, if it is known.
        group: Option<u32>,
    },
    /// A viewer passes on a signal that it got.
    Signal(i32),
    /// A viewer's job runs again after a stop.
    Resume,
    /// The size is another one than the log has.
    Resized(TerminalSize),
}

/// A command for the thread of a terminal.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop the job of the viewer that typed last.
    Suspend,
    /// Print a line at the viewers.
    Notice { text: String, now: bool },
    /// Notify the people at the viewers.
    Announce { title: String, text: String },
    /// End the viewers, and report when they have ended.
    End(TerminalEnd, oneshot::Sender<()>),
}

/// The terminal of a running program: what its viewers get besides the program's output.
#[derive(Debug, Clone)]
pub struct TerminalHandle {
    commands: Sender<Command>,
    wake: Arc<UnixStream>,
}

impl TerminalHandle {
    pub(crate) fn new(commands: Sender<Command>, wake: UnixStream) -> Self {
        Self { commands, wake: Arc::new(wake) }
    }

    /// Prints a line at each viewer: immediately, on a line of its own, or once its terminal is in order again.
    pub fn notify(&self, text: impl Into<String>, now: bool) {
        self.send(Command::Notice { text: text.into(), now });
    }

    /// Notifies the people at the viewers, by the means of their terminals. Nothing is printed or stored.
    pub(crate) fn announce(&self, title: &str, text: &str) {
        self.send(Command::Announce { title: title.to_owned(), text: text.to_owned() });
    }

    /// Stops the job of the viewer that typed last, whose session was paused.
    pub(crate) fn suspend(&self) {
        self.send(Command::Suspend);
    }

    /// Ends the viewers, after the session has ended: they get the rest of the output and this end. Returns when they are
    /// gone, or do not read.
    pub async fn end(&self, end: TerminalEnd) {
        let (done, ended) = oneshot::channel();
        self.send(Command::End(end, done));
        // An error is a thread that has ended.
        let _ = ended.await;
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // A full pipe wakes the thread, too.
            let _ = (&*self.wake).write(&[0]);
        }
    }
}
