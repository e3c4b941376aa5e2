//! Renders the progress of a session, or of several: a bar on a terminal, lines elsewhere. It takes [`SessionProgress`] and not
//! events, because observers receive progress only after it is durable.

mod bar;
mod lines;
mod screen;
mod stderr;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use session_core::SessionProgress;
use tokio::sync::watch;

use self::bar::Bar;
use self::lines::Lines;
use self::screen::Screen;
use self::stderr::Stderr;
use self::view::View;

/// Interval between two steps of a spinner, and between two attempts to show pending progress.
const TICK: Duration = Duration::from_millis(200);
/// Minimum time between two frames of a bar.
const FRAME: Duration = Duration::from_millis(50);

/// A renderer of the progress of a session, or of several ([`show_sessions`](Self::show_sessions)).
///
/// - On a terminal: one bar with operation, percent, steps, the current step and the time left; a spinner instead if no
///   percentage is known. It is removed at the end.
/// - Elsewhere: a line at each 10 %, and every 10 s if something changed; at the end a last one if something changed.
/// - Before the first report: nothing.
///
/// Control characters in steps and phases are escaped ([`visible`](session_core::text::visible)): reported text cannot
/// control the terminal.
///
/// **Other output.** A bar occupies the line of the cursor and would mix with output that others write there at the
/// same time. Therefore all other output to the same terminal goes through [`write_above`](Self::write_above), which
/// removes the bar, writes the output and draws the bar again, in one step under one lock. The bar is drawn only while
/// the cursor is at the start of a line, because the rest of an unfinished line (a prompt) belongs to its writer. Once
/// the output moves the cursor itself, the screen belongs to the program and the bar is never drawn again.
///
/// No method waits for a reader that does not read: progress that cannot be shown now is shown later. Only
/// [`write_above`](Self::write_above) and [`write_line_above`](Self::write_line_above) take as long as the caller's
/// writes do.
pub struct ProgressRenderer {
    /// Never locked during a write.
    latest: Mutex<Latest>,
    /// Locked before `latest` if both are. Its holder may be writing, which may take long.
    output: Mutex<Output>,
    is_bar: bool,
    names_operation: bool,
}

#[derive(Default)]
struct Latest {
    view: Option<View>,
    /// `true` while it is not shown yet.
    stale: bool,
    finished: bool,
}

struct Output {
    form: Form,
    screen: Screen,
    out: Box<dyn Sink>,
}

enum Form {
    Bar(Bar),
    Lines(Lines),
}

/// The destination of progress that is written by itself, not around other output.
trait Sink: Write + Send {
    /// Returns `true` if a write would not block.
    fn is_ready(&self) -> bool;
}

/// A writer of the caller, which is always ready.
struct PlainSink<W>(W);

impl<W: Write> Write for PlainSink<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Sink for PlainSink<W> {
    fn is_ready(&self) -> bool {
        true
    }
}

impl ProgressRenderer {
    /// Creates a renderer on standard error: a bar if that is a terminal with a movable cursor (`TERM` is set and not
    /// `dumb`), otherwise lines.
    #[must_use]
    pub fn stderr() -> Self {
        if stderr::is_terminal() {
            Self::new(Form::Bar(Bar::new(Box::new(stderr::columns))), Box::new(Stderr::open()))
        } else {
            Self::new(Form::Lines(Lines::default()), Box::new(Stderr::open()))
        }
    }

    /// Creates a renderer with a bar on the caller's terminal; `columns` returns its width.
    #[must_use]
    pub fn bar(
        terminal: impl Write + Send + 'static,
        columns: impl Fn() -> u16 + Send + Sync + 'static,
    ) -> Self {
        Self::new(Form::Bar(Bar::new(Box::new(columns))), Box::new(PlainSink(terminal)))
    }

    /// Creates a renderer that writes lines to the caller's file.
    #[must_use]
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self::new(Form::Lines(Lines::default()), Box::new(PlainSink(out)))
    }

    fn new(form: Form, out: Box<dyn Sink>) -> Self {
        let is_bar = matches!(form, Form::Bar(_));
        let output = Output { form, screen: Screen::default(), out };
        Self { latest: Mutex::default(), output: Mutex::new(output), is_bar, names_operation: true }
    }

    /// Leaves out the operation, for a program that shows a single session which its user has just named.
    #[must_use]
    pub const fn without_operation(mut self) -> Self {
        self.names_operation = false;
        self
    }

    /// Shows this progress, except before the first report and after [`finish`](Self::finish).
    pub fn show(&self, progress: &SessionProgress) {
        let mut latest = lock(&self.latest);
        // A completed session is at 100 % even if it never reported progress.
        if latest.finished || latest.view.is_none() && !view::is_reported(progress) {
            return;
        }
        let operation = if self.names_operation { progress.operation.as_str() } else { "" };
        latest.view = Some(View::one(progress, operation));
        latest.stale = true;
        drop(latest);
        self.draw(Instant::now());
    }

    /// Shows the progress of several sessions, in place of what was shown before: on a terminal a line for each, as
    /// [`format_sessions`](session_core::format_sessions) returns them, at most 10; elsewhere these lines every 10 s if
    /// something changed. Does nothing after [`finish`](Self::finish).
    pub fn show_sessions(&self, sessions: &[SessionProgress]) {
        let mut latest = lock(&self.latest);
        if latest.finished {
            return;
        }
        latest.view = Some(View::Several(sessions.to_vec())).filter(|_| !sessions.is_empty());
        latest.stale = true;
        drop(latest);
        self.draw(Instant::now());
    }

    /// Writes other output to the place where progress is shown, above the bar. Calls `write` with these bytes, and
    /// before and after them with the sequences that remove the bar and draw it again.
    pub fn write_above(&self, bytes: &[u8], write: impl FnMut(&[u8])) {
        self.write_without_bar(lock(&self.output), bytes, write);
    }

    /// Writes a line of the application like [`write_above`](Self::write_above). If other output has left an unfinished
    /// line, it begins on the next one.
    pub fn write_line_above(&self, line: &str, write: impl FnMut(&[u8])) {
        let output = lock(&self.output);
        let begin = if output.screen.is_line_used() { "\n" } else { "" };
        self.write_without_bar(output, format!("{begin}{line}\n").as_bytes(), write);
    }

    fn write_without_bar(
        &self,
        mut output: MutexGuard<'_, Output>,
        bytes: &[u8],
        mut write: impl FnMut(&[u8]),
    ) {
        let erase = output.form.hide();
        if !erase.is_empty() {
            write(&erase);
        }
        write(bytes);
        output.screen.record(bytes);
        let frame = output.frame(&mut lock(&self.latest), Instant::now());
        if let Some(frame) = frame {
            write(&frame);
        }
    }

    /// Removes the bar, or writes the last line. Nothing is shown after it.
    pub fn finish(&self) {
        let view = {
            let mut latest = lock(&self.latest);
            if std::mem::replace(&mut latest.finished, true) {
                return;
            }
            latest.view.take()
        };
        // A concurrent `write_above` has removed the bar and will not draw it again.
        let Some(mut output) = self.free_output() else { return };
        let free = output.screen.is_line_free();
        let bytes = match (&mut output.form, view) {
            (Form::Bar(bar), _) => bar.hide(),
            (Form::Lines(lines), Some(view)) if free => lines.last(&view),
            (Form::Lines(_), _) => return,
        };
        output.write(&bytes);
    }

    /// Shows every report until the session has ended or the sender is dropped, and finishes. Dropping the future
    /// leaves the display as it is; [`finish`](Self::finish) removes it.
    pub async fn follow(&self, mut progress: watch::Receiver<SessionProgress>) {
        loop {
            let now = progress.borrow_and_update().clone();
            self.show(&now);
            if now.state.is_final() {
                break;
            }
            tokio::time::sleep(FRAME).await;
            let ended = loop {
                tokio::select! {
                    changed = progress.changed() => break changed.is_err(),
                    () = tokio::time::sleep(TICK), if self.needs_ticks() => self.draw(Instant::now()),
                }
            };
            if ended {
                break;
            }
        }
        self.finish();
    }

    /// Returns `true` if a redraw is needed without a new report.
    fn needs_ticks(&self) -> bool {
        let latest = lock(&self.latest);
        latest.stale || self.is_bar && latest.view.as_ref().is_some_and(View::spins)
    }

    fn draw(&self, now: Instant) {
        // A concurrent `write_above` shows the new progress after its output.
        let Some(mut output) = self.free_output() else { return };
        let frame = output.frame(&mut lock(&self.latest), now);
        if let Some(bytes) = frame {
            output.write(&bytes);
        }
    }

    /// Locks the output if neither the lock nor a write to it would block.
    fn free_output(&self) -> Option<MutexGuard<'_, Output>> {
        let output = match self.output.try_lock() {
            Ok(output) => output,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        output.out.is_ready().then_some(output)
    }
}

impl Output {
    /// Returns the bytes that show the latest progress, if it is due and the line is free.
    fn frame(&mut self, latest: &mut Latest, now: Instant) -> Option<Vec<u8>> {
        if latest.finished || !self.screen.is_line_free() {
            return None;
        }
        let (bytes, done) = match (&mut self.form, &latest.view) {
            (form, None) => (form.hide(), true),
            (Form::Bar(bar), Some(view)) => (bar.draw(view), true),
            (Form::Lines(lines), Some(view)) => lines.next(view, now),
        };
        latest.stale &= !done;
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Writes bytes. Errors are dropped: progress is best effort.
    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let _ = self.out.write_all(bytes).and_then(|()| self.out.flush());
    }
}

impl Form {
    fn hide(&mut self) -> Vec<u8> {
        match self {
            Self::Bar(bar) => bar.hide(),
            Self::Lines(_) => Vec::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ProgressRenderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressRenderer").finish_non_exhaustive()
    }
}
