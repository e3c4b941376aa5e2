//! `logs`: prints the output of a session's program, unchanged into a pipe and with control characters escaped on a
//! terminal, except for colours and links.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sessionkit::backend::SessionStorageExt as _;
use sessionkit::runner::{
    Chunk, OutputError, OutputLength, OutputStorage, OutputStorageExt as _, OutputStream,
};
use sessionkit::{SessionId, Store};

use crate::args::Logs;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::follow::{Follower, POLL};
use crate::render::{Styles, Visible};
use crate::{hints, ids, json};

/// Approximate number of bytes read at a time.
const PAGE: usize = 256 * 1024;
/// Number of empty reads after which the output limit is checked.
const LENGTH_CHECK_EVERY: u32 = 10;

#[derive(Serialize)]
struct Line<'a> {
    /// Bytes of the session's output before this, of both streams.
    offset: u64,
    /// `stdout` or `stderr`.
    stream: &'a str,
    base64: String,
}

pub(crate) async fn run(args: &Logs, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let id = ids::resolve(context, &**store.manager(), &args.id, ids::Purpose::Use).await?;
    let only = match (args.stdout, args.stderr) {
        (true, _) => Some(OutputStream::Stdout),
        (false, true) => Some(OutputStream::Stderr),
        (false, false) => None,
    };
    let output = Context::output(&store)?;
    let tail = args.tail;
    let mut from =
        blocking(id, &output, move |output| tail.map_or(Ok(0), |lines| output.tail(id, lines, only))).await?;
    let mut printer = Printer::new(context, args);
    let mut end = args.follow.then(|| End::new(&store, context, id));
    loop {
        let page = blocking(id, &output, move |output| output.read(id, from, PAGE)).await?;
        let Some(last) = page.chunks.last() else {
            let Some(end) = &mut end else { break };
            printer.pause()?;
            if end.is_reached(&output).await? {
                break;
            }
            continue;
        };
        from = last.end();
        for chunk in page.chunks.iter().filter(|chunk| only.is_none_or(|only| only == chunk.stream)) {
            printer.print(chunk)?;
        }
    }
    let length = blocking(id, &output, move |output| output.length(id)).await?;
    printer.finish(id, length)?;
    hints::report_crashed(context, &store, None).await?;
    Ok(0)
}

/// Detection of the end of followed output: the output ends with the session, once that end is flushed.
struct End<'a> {
    store: &'a Store,
    context: &'a Context,
    id: SessionId,
    follower: Follower<'a>,
    /// `true` once the session has ended: output that is not stored by then never will be.
    ended: bool,
    /// Number of empty reads.
    idle: u32,
    /// `true` once the hint about the output limit was printed.
    truncation_hinted: bool,
}

impl<'a> End<'a> {
    fn new(store: &'a Store, context: &'a Context, id: SessionId) -> Self {
        let follower = Follower::new(context, &**store.manager(), id);
        Self { store, context, id, follower, ended: false, idle: 0, truncation_hinted: false }
    }

    /// Returns `true` after an empty read if no more output will come. Otherwise waits until the next read is due.
    async fn is_reached(&mut self, output: &Arc<dyn OutputStorage>) -> Result<bool> {
        let (id, storage) = (self.id, self.store.storage());
        let failed = |error: sessionkit::manager::StorageError| Failure::from(error).about(id);
        if self.ended {
            // The end may be read before it is flushed, and is lost again if that flush fails. A deleted session is an
            // error here.
            self.ended = storage.flushed_head(id).await.map_err(failed)?.state().is_final();
            return Ok(self.ended);
        }
        let head = storage.head(id).await.map_err(failed)?;
        self.ended = head
            .ok_or(sessionkit::manager::StorageError::NotFound { id })
            .map_err(failed)?
            .state()
            .is_final();
        if !self.ended {
            self.idle += 1;
            if !self.truncation_hinted
                && self.idle.is_multiple_of(LENGTH_CHECK_EVERY)
                && blocking(id, output, move |output| output.length(id)).await?.truncated()
            {
                self.truncation_hinted = true;
                let text = "output limit reached: further output is not stored";
                self.context.hint(text, &[id], &["show", &id.to_string()]);
            }
            self.follower.wait(tokio::time::sleep(POLL)).await?;
        }
        Ok(false)
    }
}

struct Printer<'a> {
    context: &'a Context,
    /// `true` if bytes are printed as they are.
    raw: bool,
    stdout: Visible,
    stderr: Visible,
    /// `true` if some output could not be stored.
    gap: bool,
}

impl<'a> Printer<'a> {
    fn new(context: &'a Context, args: &Logs) -> Self {
        let styles = if context.term.has_colours() { Styles::Keep } else { Styles::Strip };
        let raw = args.raw || !context.term.is_terminal;
        Self { context, raw, stdout: Visible::new(styles), stderr: Visible::new(styles), gap: false }
    }

    fn print(&mut self, chunk: &Chunk) -> Result<()> {
        let term = &self.context.term;
        self.gap |= chunk.after_gap;
        if term.json {
            let line = Line {
                offset: chunk.offset,
                stream: chunk.stream.name(),
                base64: STANDARD.encode(&chunk.bytes),
            };
            return term.print(&format!("{}\n", json::line(&line)));
        }
        if self.raw {
            return term.print_bytes(&chunk.bytes);
        }
        let visible = match chunk.stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        term.print(&visible.show(&chunk.bytes))
    }

    /// Prints the incomplete lines, since the rest of them may be long in coming.
    fn pause(&mut self) -> Result<()> {
        let text = self.stdout.pause() + &self.stderr.pause();
        if text.is_empty() { Ok(()) } else { self.context.term.print(&text) }
    }

    fn finish(self, id: SessionId, length: OutputLength) -> Result<()> {
        let Self { context, stdout, stderr, gap, .. } = self;
        context.term.print(&format!("{}{}", stdout.finish(), stderr.finish()))?;
        let show = ["show", &id.to_string()];
        if length.truncated() {
            context.hint(&format!("only the first {} bytes were kept", length.bytes), &[id], &show);
        }
        if gap {
            context.hint("some output could not be stored and is missing", &[id], &show);
        }
        if length.bytes == 0 {
            context.hint("no output", &[id], &show);
        }
        Ok(())
    }
}

/// Reads output on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    id: SessionId,
    output: &Arc<dyn OutputStorage>,
    read: impl FnOnce(&dyn OutputStorage) -> Result<T, OutputError> + Send + 'static,
) -> Result<T> {
    let output = Arc::clone(output);
    let read = tokio::task::spawn_blocking(move || read(&*output)).await;
    let read = read.expect("reading does not panic and is never aborted");
    read.map_err(|error| Failure::chain(error.code(), &error).about(id))
}
