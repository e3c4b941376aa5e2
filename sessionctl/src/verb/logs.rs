//! `logs`: prints the output of a session's program, into a pipe unchanged but for the line ends of the program's
//! terminal, and on a terminal with control characters escaped, except for colours and links.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sessionkit::backend::{SessionStorageExt as _, blocking};
use sessionkit::log::Timestamp;
use sessionkit::runner::{
    Chunk, OutputError, OutputFilter, OutputLength, OutputStorage, OutputStorageExt as _, OutputStream,
};
use sessionkit::{Head, SessionId, SessionState, Store};
use tokio::time::Instant;

use crate::args::Logs;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::follow::{Follower, POLL};
use crate::render::{CarriageReturns, Rewrites, Styles, Visible, size};
use crate::status::Status;
use crate::{hints, ids, json, python};

/// Time without output after which a reason is named, if one is known.
const SILENCE: Duration = Duration::from_secs(5);
/// Approximate number of bytes read at a time.
const PAGE: usize = 256 * 1024;

#[derive(Serialize)]
struct Line<'a> {
    /// Bytes of the session's output before this, of all streams.
    offset: u64,
    /// `stdout`, `stderr` or `tty`.
    stream: &'a str,
    attempt: u32,
    at: Timestamp,
    /// Bytes of this stream that are not kept, since the line before or the start.
    #[serde(skip_serializing_if = "is_zero")]
    missing: u64,
    base64: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(crate) async fn run(args: &Logs, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let id = ids::resolve(context, &**store.manager(), &args.id, ids::Purpose::Use).await?;
    let filter = filter(args);
    let output = Context::output(&store)?;
    let tail = args.tail;
    let mut from =
        read_output(id, &output, move |output| tail.map_or(Ok(0), |lines| output.tail(id, lines, filter)))
            .await?;
    let mut printer = Printer::new(context, args);
    let mut end = args.follow.then(|| End::new(&store, context, id));
    loop {
        let page = read_output(id, &output, move |output| output.read(id, from, PAGE)).await?;
        let Some(last) = page.chunks.last() else {
            let Some(end) = &mut end else { break };
            printer.pause()?;
            if end.is_reached().await? {
                break;
            }
            continue;
        };
        from = last.end();
        for chunk in page.chunks.iter().filter(|chunk| filter.matches(chunk)) {
            printer.print(chunk)?;
        }
    }
    // The length first: what is printed later is behind it.
    let length = read_output(id, &output, move |output| output.length(id)).await?;
    let next = read_output(id, &output, move |output| output.read(id, from, 1)).await?;
    let at_end = next.chunks.is_empty();
    printer.finish(id, length, if at_end { length.bytes.saturating_sub(from) } else { 0 })?;
    hints::report_crashed(context, &store, None).await?;
    Ok(0)
}

fn filter(args: &Logs) -> OutputFilter {
    let mut filter = OutputFilter::new();
    if args.stdout {
        filter = filter.except(OutputStream::Stderr);
    }
    if args.stderr {
        filter = filter.stream(OutputStream::Stderr);
    }
    let filter = args.attempt.into_iter().fold(filter, OutputFilter::attempt);
    args.since.into_iter().fold(filter, OutputFilter::since)
}

/// Detection of the end of followed output: the output ends with the session, once that end is flushed.
struct End<'a> {
    store: &'a Store,
    id: SessionId,
    follower: Follower<'a>,
    silence: Silence<'a>,
    /// `true` once the session has ended: output that is not stored by then never will be.
    ended: bool,
}

impl<'a> End<'a> {
    fn new(store: &'a Store, context: &'a Context, id: SessionId) -> Self {
        let follower = Follower::new(context, &**store.manager(), id);
        Self { store, id, follower, silence: Silence::new(context), ended: false }
    }

    /// Returns `true` after an empty read if no more output will come. Otherwise waits until the next read is due.
    async fn is_reached(&mut self) -> Result<bool> {
        let (id, storage) = (self.id, self.store.storage());
        let failed = |error: sessionkit::manager::StorageError| Failure::from(error).about(id);
        if self.ended {
            // The end may be read before it is flushed, and is lost again if that flush fails. A deleted session is an
            // error here.
            self.ended = storage.flushed_head(id).await.map_err(failed)?.state().is_final();
            return Ok(self.ended);
        }
        let head = storage.head(id).await.map_err(failed)?;
        let head = head.ok_or(sessionkit::manager::StorageError::NotFound { id }).map_err(failed)?;
        self.ended = head.state().is_final();
        if !self.ended {
            self.silence.check(self.store, &head).await?;
            self.follower.wait(tokio::time::sleep(POLL)).await?;
        }
        Ok(false)
    }
}

/// The hint about a session that runs Python and has printed nothing, given once.
struct Silence<'a> {
    context: &'a Context,
    /// The time since which it runs and prints nothing; `None` once that is no longer of interest.
    since: Option<Instant>,
}

impl<'a> Silence<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, since: Some(Instant::now()) }
    }

    /// Gives the hint if it is due. Call it after an empty read.
    async fn check(&mut self, store: &Store, head: &Head) -> Result<()> {
        let Some(since) = self.since else { return Ok(()) };
        if !matches!(head.state(), SessionState::Running { .. }) {
            self.since = Some(Instant::now());
            return Ok(());
        }
        if since.elapsed() < SILENCE {
            return Ok(());
        }
        self.since = None;
        let (id, manager) = (head.id, &**store.manager());
        if read_output(id, &Context::output(store)?, move |output| output.length(id)).await?.bytes > 0 {
            return Ok(());
        }
        let session = manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
        let Some(origin) = session.origin.filter(python::is_buffered) else { return Ok(()) };
        if super::status_of(manager, head).await.0 != Status::Running {
            self.since = Some(Instant::now());
            return Ok(());
        }
        let text = "no output so far: Python buffers its output, unless it is a terminal";
        let words = python::unbuffered_run(&origin);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.context.hint(text, &[id], &words);
        Ok(())
    }
}

struct Printer<'a> {
    context: &'a Context,
    /// `true` if bytes are printed, not lines.
    raw: bool,
    stdout: Visible,
    stderr: Visible,
    terminal: Visible,
    /// The converter of a terminal's bytes where these are printed, unless they are to stay as they are.
    returns: Option<CarriageReturns>,
    /// `true` if the last line on the terminal is complete.
    at_line_start: bool,
    /// The offset in each stream after what was printed, once that is known.
    ends: [Option<u64>; OutputStream::ALL.len()],
    /// The attempt of the last chunk.
    attempt: Option<u32>,
    /// `true` if some output could not be stored.
    lost: bool,
}

impl<'a> Printer<'a> {
    fn new(context: &'a Context, args: &Logs) -> Self {
        let raw = args.raw || !context.term.is_terminal;
        let rewrites = if args.tail.is_some() { Rewrites::LastState } else { Rewrites::Keep };
        // What a selection begins with is no gap.
        let begins = args.tail.is_none() && args.attempt.is_none() && args.since.is_none();
        Self {
            context,
            raw,
            stdout: visible(context, OutputStream::Stdout),
            stderr: visible(context, OutputStream::Stderr),
            terminal: visible(context, OutputStream::Terminal),
            returns: (raw && !args.raw).then(|| CarriageReturns::new(rewrites)),
            at_line_start: true,
            ends: [begins.then_some(0); OutputStream::ALL.len()],
            attempt: None,
            lost: false,
        }
    }

    fn print(&mut self, chunk: &Chunk) -> Result<()> {
        let end = match (chunk.stream, &mut self.ends) {
            (OutputStream::Stdout, [end, ..])
            | (OutputStream::Stderr, [_, end, _])
            | (OutputStream::Terminal, [.., end]) => end,
        };
        let missing =
            end.replace(chunk.stream_end()).map_or(0, |end| chunk.stream_offset.saturating_sub(end));
        let before = self.attempt.replace(chunk.attempt);
        if self.context.term.json {
            let line = Line {
                offset: chunk.offset,
                stream: chunk.stream.name(),
                attempt: chunk.attempt,
                at: chunk.at,
                missing,
                base64: STANDARD.encode(&chunk.bytes),
            };
            self.lost |= chunk.after_gap;
            return self.context.term.print(&format!("{}\n", json::line(&line)));
        }
        let is_next_attempt = before.is_some_and(|before| before != chunk.attempt);
        if is_next_attempt || missing > 0 && chunk.stream == OutputStream::Terminal {
            // The line feed that may follow is not that of a carriage return before it.
            self.flush_returns()?;
        }
        if is_next_attempt && !self.raw {
            self.mark(&format!("attempt {}, {}", chunk.attempt, chunk.at))?;
        }
        if missing > 0 {
            let why = if chunk.after_gap { "could not be stored" } else { "not kept" };
            self.mark(&format!("{} of {} {why}", size(missing), chunk.stream.name()))?;
        }
        self.lost |= chunk.after_gap && missing == 0;
        if self.raw {
            let bytes = match &mut self.returns {
                Some(returns) if chunk.stream == OutputStream::Terminal => &returns.convert(&chunk.bytes),
                _ => &chunk.bytes,
            };
            return self.context.term.print_bytes(bytes);
        }
        let visible = match chunk.stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
            OutputStream::Terminal => &mut self.terminal,
        };
        let text = visible.show(&chunk.bytes);
        self.print_text(&text)
    }

    /// Prints a line about the output: on a terminal in its place, else on stderr.
    fn mark(&mut self, text: &str) -> Result<()> {
        let line = format!("[{text}]");
        if self.raw {
            self.context.term.print_stderr(&line);
            return Ok(());
        }
        let rest = self.take_rest();
        self.print_text(&rest)?;
        let end = if self.at_line_start { "" } else { "\n" };
        self.print_text(&format!("{end}{}\n", self.context.term.faint(&line)))
    }

    /// Prints the incomplete lines, since the rest of them may be long in coming.
    fn pause(&mut self) -> Result<()> {
        let held = self.returns.as_mut().map(CarriageReturns::pause).unwrap_or_default();
        self.context.term.print_bytes(&held)?;
        let text = self.stdout.pause() + &self.stderr.pause() + &self.terminal.pause();
        self.print_text(&text)
    }

    /// Prints what is held back of a terminal's bytes.
    fn flush_returns(&mut self) -> Result<()> {
        let held = self.returns.as_mut().map(CarriageReturns::flush).unwrap_or_default();
        self.context.term.print_bytes(&held)
    }

    fn print_text(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        self.context.term.print(text)
    }

    /// Returns the incomplete lines, and begins new ones.
    fn take_rest(&mut self) -> String {
        [
            (&mut self.stdout, OutputStream::Stdout),
            (&mut self.stderr, OutputStream::Stderr),
            (&mut self.terminal, OutputStream::Terminal),
        ]
        .map(|(lines, stream)| std::mem::replace(lines, visible(self.context, stream)).finish())
        .concat()
    }

    /// Prints the incomplete lines, and what is to be known of the whole output. `lost` bytes at its end could not be
    /// stored.
    fn finish(mut self, id: SessionId, length: OutputLength, lost: u64) -> Result<()> {
        self.flush_returns()?;
        let rest = self.take_rest();
        self.print_text(&rest)?;
        let at_end = format!("{} could not be stored", size(lost));
        if lost > 0 && !self.context.term.json {
            self.mark(&at_end)?;
        }
        let show = ["show", &id.to_string()];
        if length.cut.is_some() {
            let text = format!("only the first {} bytes were kept, by an older version", length.bytes);
            self.context.hint(&text, &[id], &show);
        }
        if lost > 0 && self.context.term.json {
            self.context.hint(&at_end, &[id], &show);
        }
        if self.lost {
            self.context.hint("some output could not be stored and is missing", &[id], &show);
        }
        if self.attempt.is_none() && lost == 0 {
            self.context.hint("no output", &[id], &show);
        }
        Ok(())
    }
}

fn visible(context: &Context, stream: OutputStream) -> Visible {
    let visible = Visible::new(if context.term.has_colours() { Styles::Keep } else { Styles::Strip });
    match stream {
        OutputStream::Stdout | OutputStream::Stderr => visible,
        OutputStream::Terminal => visible.overwriting_controls(),
    }
}

/// Reads output on a thread for blocking work.
async fn read_output<T: Send + 'static>(
    id: SessionId,
    output: &Arc<dyn OutputStorage>,
    read: impl FnOnce(&dyn OutputStorage) -> Result<T, OutputError> + Send + 'static,
) -> Result<T> {
    let output = Arc::clone(output);
    blocking(move || read(&*output)).await.map_err(|error| Failure::chain(error.code(), &error).about(id))
}
