//! Shows how far a session is to whoever looks on: a bar on a terminal, lines elsewhere. It is fed with
//! [`SessionProgress`] and not with events, because observers hear of progress only once that is durable.

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

/// How often a spinner turns, and how often it is tried again to show what could not be shown.
const TICK: Duration = Duration::from_millis(200);
/// Between two frames of a bar, at least.
const FRAME: Duration = Duration::from_millis(50);

/// Shows how far a session is.
///
/// - On a terminal: one bar with percent, steps, what is being done and the time left; a spinner in its place where no
///   percentage is known. It is taken away at the end.
/// - Elsewhere: a line at each 10 %, and every 10 s if something changed; at the end a last one if something did.
/// - Before the first report: nothing.
///
/// Steps and phases are made visible ([`visible`](session_core::text::visible)): nothing that a program reports can
/// control the terminal.
///
/// **Output of others.** A bar stays on the line that the cursor is in, and what somebody else writes there at the same
/// time would be mixed up with it. So everything else that goes to the same place goes through [`write_above`](Self::write_above):
/// the bar is taken away, the output written, and the bar is drawn again, in one go under one lock. It is only
/// drawn while the cursor is at the start of a line, for the end of an unfinished line (a prompt) is somebody else's, and
/// never again once the output moves the cursor by itself: then the screen is the program's.
///
/// No method waits for a reader who does not read: what cannot be shown now is shown later. Only
/// [`write_above`](Self::write_above) takes as long as its caller's writes do.
pub struct ProgressRenderer {
    /// Never held while something is written.
    latest: Mutex<Latest>,
    /// Taken before `latest` where both are. Whoever holds it may be writing, and that may take long.
    output: Mutex<Output>,
    is_bar: bool,
}

#[derive(Default)]
struct Latest {
    view: Option<View>,
    /// Whether it was not shown yet.
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

/// Where progress goes when it is not beside something else.
trait Sink: Write + Send {
    /// Whether a write would not have to wait.
    fn is_ready(&self) -> bool;
}

/// Somewhere else than the standard error output.
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
    /// On the standard error output: a bar if that is a terminal with a cursor to move (`TERM` is set and not `dumb`),
    /// else lines.
    #[must_use]
    pub fn stderr() -> Self {
        if stderr::is_terminal() {
            Self::new(Form::Bar(Bar::new(Box::new(stderr::columns))), Box::new(Stderr::open()))
        } else {
            Self::new(Form::Lines(Lines::default()), Box::new(Stderr::open()))
        }
    }

    /// A bar on a terminal of the caller's; `columns` says how wide that is.
    #[must_use]
    pub fn bar(
        terminal: impl Write + Send + 'static,
        columns: impl Fn() -> u16 + Send + Sync + 'static,
    ) -> Self {
        Self::new(Form::Bar(Bar::new(Box::new(columns))), Box::new(PlainSink(terminal)))
    }

    /// Lines, to be written to the caller's file.
    #[must_use]
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self::new(Form::Lines(Lines::default()), Box::new(PlainSink(out)))
    }

    fn new(form: Form, out: Box<dyn Sink>) -> Self {
        let is_bar = matches!(form, Form::Bar(_));
        let output = Output { form, screen: Screen::default(), out };
        Self { latest: Mutex::default(), output: Mutex::new(output), is_bar }
    }

    /// Shows this. Nothing before the first report, and nothing after [`finish`](Self::finish).
    pub fn show(&self, progress: &SessionProgress) {
        let mut latest = lock(&self.latest);
        // A session that is completed is at 100 %, whether it ever said how far it is or not.
        if latest.finished || latest.view.is_none() && !view::is_reported(progress) {
            return;
        }
        latest.view = Some(View::new(progress));
        latest.stale = true;
        drop(latest);
        self.draw(Instant::now());
    }

    /// Output of somebody else, for where progress is shown: `write` is called with these bytes, and before and after
    /// them with what takes the progress away and shows it again.
    pub fn write_above(&self, bytes: &[u8], write: impl FnMut(&[u8])) {
        self.write_without_bar(lock(&self.output), bytes, write);
    }

    /// As [`write_above`](Self::write_above), for a line that stands by itself: where somebody else's is unfinished, it begins
    /// in the next one.
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
        let away = output.form.hide();
        if !away.is_empty() {
            write(&away);
        }
        write(bytes);
        output.screen.record(bytes);
        let frame = output.frame(&mut lock(&self.latest), Instant::now());
        if let Some(frame) = frame {
            write(&frame);
        }
    }

    /// Takes a bar away, or writes the last line. Nothing is shown after it.
    pub fn finish(&self) {
        let view = {
            let mut latest = lock(&self.latest);
            if std::mem::replace(&mut latest.finished, true) {
                return;
            }
            latest.view.take()
        };
        // Whoever writes beside it has taken the bar away, and will not show it again.
        let Some(mut output) = self.free_output() else { return };
        let free = output.screen.is_line_free();
        let bytes = match (&mut output.form, view) {
            (Form::Bar(bar), _) => bar.hide(),
            (Form::Lines(lines), Some(view)) if free => lines.last(&view),
            (Form::Lines(_), _) => return,
        };
        output.write(&bytes);
    }

    /// Shows all that is reported, until the session has ended or nobody can report any more, and finishes. Dropping the
    /// future leaves what is shown as it is, for [`finish`](Self::finish) to take away.
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

    /// Whether something is to be shown though nothing new is reported.
    fn needs_ticks(&self) -> bool {
        let latest = lock(&self.latest);
        latest.stale || self.is_bar && latest.view.as_ref().is_some_and(View::spins)
    }

    fn draw(&self, now: Instant) {
        // Whoever writes beside it shows what is new afterwards.
        let Some(mut output) = self.free_output() else { return };
        let frame = output.frame(&mut lock(&self.latest), now);
        if let Some(bytes) = frame {
            output.write(&bytes);
        }
    }

    /// The output, if a write to it would not have to wait, for nobody.
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
    /// What shows the latest, if it is to be shown now and may be.
    fn frame(&mut self, latest: &mut Latest, now: Instant) -> Option<Vec<u8>> {
        if latest.finished || !self.screen.is_line_free() {
            return None;
        }
        let view = latest.view.as_ref()?;
        let (bytes, done) = match &mut self.form {
            Form::Bar(bar) => (bar.draw(view), true),
            Form::Lines(lines) => lines.next(view, now),
        };
        latest.stale &= !done;
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Progress that cannot be shown is nobody's trouble.
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
