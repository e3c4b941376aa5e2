//! The outputs: data on stdout, everything else on stderr, colours on terminals or as requested.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::termios::{isatty, tcgetwinsize};
use sessionkit::SessionProgress;
use sessionkit::observers::ProgressRenderer;
use sessionkit::runner::{OutputInterceptor, OutputStream, Runner, TerminalHandle};
use sessionkit::tokio::sync::watch;

use crate::args::ColorWhen;
use crate::error::{Failure, Result};

/// The use of colours on one output.
#[derive(Debug, Clone, Copy)]
enum Paint {
    Plain,
    Colours,
}

impl Paint {
    fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Self::Colours if !sgr.is_empty() => format!("\u{1b}[{sgr}m{text}\u{1b}[0m"),
            Self::Colours | Self::Plain => text.to_owned(),
        }
    }
}

/// The outputs of this process.
#[derive(Debug)]
pub(crate) struct Term {
    /// `true` if the output is JSON, for programs.
    pub(crate) json: bool,
    /// `true` if stdout is a terminal.
    pub(crate) is_terminal: bool,
    out: Paint,
    err: Paint,
    /// Everything for stderr goes through the renderer, because of its progress bar.
    progress: Arc<ProgressRenderer>,
    /// The terminal of the program that this process runs: its viewers have the terminal that stderr was.
    viewers: Arc<OnceLock<TerminalHandle>>,
}

impl Term {
    pub(crate) fn new(json: bool, color: ColorWhen) -> Self {
        let wanted = |terminal: bool| {
            let colours = match color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                // no-color.org: any value but the empty one.
                ColorWhen::Auto => {
                    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                }
            };
            if colours && !json { Paint::Colours } else { Paint::Plain }
        };
        let is_terminal = io::stdout().is_terminal();
        Self {
            json,
            is_terminal,
            out: wanted(is_terminal),
            err: wanted(io::stderr().is_terminal()),
            // The person at the terminal has just typed the command.
            progress: Arc::new(ProgressRenderer::stderr().without_operation()),
            viewers: Arc::default(),
        }
    }

    /// Writes text to stdout.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes bytes to stdout unchanged.
    #[expect(clippy::unused_self, reason = "all output of the command goes through this type")]
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes a line to stderr. Errors are ignored: there is no other place to report them.
    ///
    /// While viewers have the terminal, they print it, once it is in order again.
    pub(crate) fn print_stderr(&self, line: &str) {
        match self.viewers.get() {
            Some(viewers) => viewers.notify(line, false),
            None => print_stderr(&self.progress, line),
        }
    }

    /// Writes a line to stderr that is of use only immediately.
    pub(crate) fn print_stderr_now(&self, line: &str) {
        match self.viewers.get() {
            Some(viewers) => viewers.notify(line, true),
            None => print_stderr(&self.progress, line),
        }
    }

    /// Returns `true` if lines for stderr are passed on to viewers.
    pub(crate) fn has_viewers(&self) -> bool {
        self.viewers.get().is_some()
    }

    /// Passes lines for stderr on to the viewers of a terminal, if stderr is the terminal that they have.
    pub(crate) fn show_at(&self, viewers: &TerminalHandle) {
        if io::stderr().is_terminal() {
            let _ = self.viewers.set(viewers.clone());
        }
    }

    /// Returns a function that writes lines like [`print_stderr`](Self::print_stderr), from any thread.
    pub(crate) fn stderr_printer(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let (progress, viewers) = (Arc::clone(&self.progress), Arc::clone(&self.viewers));
        move |line| match viewers.get() {
            Some(viewers) => viewers.notify(line, false),
            None => print_stderr(&progress, line),
        }
    }

    /// Returns a runner that keeps the forwarded output of its programs apart from the progress bar.
    pub(crate) fn intercept_output(&self, runner: &Runner) -> Runner {
        runner.clone().intercept_output(Arc::new(Foreground {
            progress: Arc::clone(&self.progress),
            stdout: is_same_output(io::stdout().as_fd(), io::stderr().as_fd()),
        }))
    }

    /// Shows progress while a program runs in the foreground, except with JSON output.
    pub(crate) async fn with_progress<T>(
        &self,
        progress: watch::Receiver<SessionProgress>,
        work: impl Future<Output = T>,
    ) -> T {
        if self.json {
            return work.await;
        }
        let last = progress.clone();
        // Boxed, because they would make the future of each verb that runs programs large.
        let (mut work, follow) = (Box::pin(work), Box::pin(self.progress.follow(progress)));
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            () = follow => work.await,
        };
        let last = last.borrow().clone();
        self.progress.show(&last);
        self.progress.finish();
        done
    }

    /// Returns `true` if the reader of stdout is gone. Otherwise only a write would notice, and the next one may be
    /// days away.
    #[expect(clippy::unused_self, reason = "all output of the command goes through this type")]
    pub(crate) fn reader_is_gone(&self) -> bool {
        let out = io::stdout();
        let mut stdout = [PollFd::new(&out, PollFlags::empty())];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = PollFlags::ERR | PollFlags::HUP;
        poll(&mut stdout, Some(&no_wait)).is_ok()
            && stdout.iter().any(|stdout| stdout.revents().intersects(gone))
    }

    /// Returns the number of columns of stdout, if it is a terminal.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = self.is_terminal.then(|| tcgetwinsize(io::stdout()).ok()).flatten()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Returns `true` if stdout has colours.
    pub(crate) const fn has_colours(&self) -> bool {
        matches!(self.out, Paint::Colours)
    }

    /// Styles an error on stderr.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.err.paint("1;31", text)
    }

    /// Styles secondary text on stderr.
    pub(crate) fn faint(&self, text: &str) -> String {
        self.err.paint("2", text)
    }

    /// Styles a heading on stdout.
    pub(crate) fn heading(&self, text: &str) -> String {
        self.out.paint("1", text)
    }

    /// Colours text on stdout by an SGR code.
    pub(crate) fn tint(&self, sgr: &str, text: &str) -> String {
        self.out.paint(sgr, text)
    }
}

fn print_stderr(progress: &ProgressRenderer, line: &str) {
    progress.write_line_above(line, |bytes| drop(io::stderr().lock().write_all(bytes)));
}

/// The interceptor that writes a foreground program's output past the progress bar.
#[derive(Debug)]
struct Foreground {
    progress: Arc<ProgressRenderer>,
    /// `true` if stdout goes to the same place as the progress bar.
    stdout: bool,
}

impl OutputInterceptor for Foreground {
    fn pass_on(&self, stream: OutputStream, bytes: &[u8], write: &mut dyn FnMut(&[u8])) {
        match stream {
            OutputStream::Stdout | OutputStream::Terminal if !self.stdout => write(bytes),
            OutputStream::Stdout | OutputStream::Stderr | OutputStream::Terminal => {
                self.progress.write_above(bytes, write);
            }
        }
    }
}

/// Returns `true` if two outputs are the same file. Two terminals are treated as the same: a terminal has several
/// names.
fn is_same_output(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    if isatty(one) && isatty(other) {
        return true;
    }
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}
