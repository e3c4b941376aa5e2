//! The bar of a terminal, drawn into memory by `indicatif`, or the lines of several sessions. The renderer decides when
//! to write it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use super::lock;
use super::view::{self, View};

/// Columns below which only a line of text is shown.
const NARROW: u16 = 48;

/// A function that returns the width of the terminal.
pub(super) type Columns = Box<dyn Fn() -> u16 + Send + Sync>;

pub(super) struct Bar {
    inner: ProgressBar,
    frame: FrameBuffer,
    drawn: bool,
    /// The number of lines of the previous frame, if that was of several sessions.
    lines: usize,
}

impl Bar {
    pub(super) fn new(columns: Columns) -> Self {
        let inner = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::hidden());
        let frame = FrameBuffer { columns: Arc::new(columns), bytes: Arc::default() };
        Self { inner, frame, drawn: false, lines: 0 }
    }

    /// Draws the bar on the line of the cursor, or a line for each session from there on, over the previous frame.
    pub(super) fn draw(&mut self, view: &View) -> Vec<u8> {
        let columns = self.frame.width();
        let Some(progress) = view.session() else {
            let mut bytes = self.hide();
            let text = view.text(columns.into());
            self.lines = text.lines().count();
            bytes.extend(text.replace('\n', "\r\n").bytes());
            return bytes;
        };
        let mut bytes = self.erase_lines();
        if !std::mem::replace(&mut self.drawn, true) {
            self.inner.set_draw_target(ProgressDrawTarget::term_like(Box::new(self.frame.clone())));
        }
        let narrow = columns < NARROW;
        let template = match view.percent() {
            _ if narrow => "{wide_msg}",
            Some(_) => "{operation}[{bar:20}] {percent:>3}% {prefix}{wide_msg}",
            None => "{spinner} {operation}{prefix}{wide_msg}",
        };
        self.inner.set_style(style(template, view::operation(progress)));
        self.inner.set_prefix(view::numbers(progress));
        self.inner.set_message(if narrow { view.text(columns.into()) } else { view::step(progress) });
        self.inner.set_position(view.percent().unwrap_or(0));
        if view.spins() {
            self.inner.tick();
        }
        // Discards frames that the setters drew: the next one clears the line.
        self.frame.take();
        self.inner.force_draw();
        bytes.extend(self.frame.take());
        bytes
    }

    /// Removes the bar, or the lines.
    pub(super) fn hide(&mut self) -> Vec<u8> {
        let mut erase = self.erase_lines();
        if !std::mem::replace(&mut self.drawn, false) {
            return erase;
        }
        erase.extend(self.inner.suspend(|| self.frame.take()));
        self.inner.set_draw_target(ProgressDrawTarget::hidden());
        self.frame.take();
        erase
    }

    /// Removes the lines of several sessions. The cursor is in the last one, and afterwards at the start of the first.
    fn erase_lines(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.lines) {
            0 => Vec::new(),
            lines => format!("\r\u{1b}[2K{}", "\u{1b}[1A\u{1b}[2K".repeat(lines - 1)).into_bytes(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // Without `hide`, no last frame is drawn.
        self.inner.set_draw_target(ProgressDrawTarget::hidden());
    }
}

fn style(template: &str, operation: String) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("our own templates are well-formed");
    let style = style.with_key("operation", move |_: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&operation);
    });
    style.progress_chars("#-").tick_chars("|/-\\ ")
}

/// A terminal in memory, whose bytes are written later.
#[derive(Clone)]
struct FrameBuffer {
    columns: Arc<Columns>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl FrameBuffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.bytes))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the trait requires it")]
    fn put(&self, text: &str) -> io::Result<()> {
        lock(&self.bytes).extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn move_by(&self, count: usize, direction: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.put(&format!("\u{1b}[{count}{direction}")) }
    }
}

impl TermLike for FrameBuffer {
    /// Returns one column less than the terminal has: after the last column some terminals wrap and others do not.
    fn width(&self) -> u16 {
        (self.columns)().saturating_sub(1).max(1)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.move_by(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.move_by(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.move_by(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.move_by(columns, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.put(line)?;
        self.put("\r\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sheet").finish_non_exhaustive()
    }
}
