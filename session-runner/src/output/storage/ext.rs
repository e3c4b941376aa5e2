//! Convenience methods for the output in any storage.

use std::thread;
use std::time::{Duration, Instant};

use session_core::{SessionId, Timestamp};

use super::{Chunk, OutputError, OutputLimits, OutputStorage, OutputStream, OutputWriter};

/// Bytes of the first read from the end.
const WINDOW: u64 = 64 * 1024;
/// Interval between attempts to become the writer.
const BUSY_INTERVAL: Duration = Duration::from_millis(5);

/// A selection of chunks.
///
/// ```
/// use session_runner::{OutputFilter, OutputStream};
///
/// let errors_of_attempt_2 = OutputFilter::new().stream(OutputStream::Stderr).attempt(2);
/// let all_but_errors = OutputFilter::new().except(OutputStream::Stderr);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFilter {
    stream: Option<OutputStream>,
    except: Option<OutputStream>,
    attempt: Option<u32>,
    since: Option<Timestamp>,
}

impl OutputFilter {
    /// Selects all chunks.
    #[must_use]
    pub const fn new() -> Self {
        Self { stream: None, except: None, attempt: None, since: None }
    }

    /// Selects those of one stream.
    #[must_use]
    pub const fn stream(mut self, stream: OutputStream) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Selects those of all streams but one.
    #[must_use]
    pub const fn except(mut self, stream: OutputStream) -> Self {
        self.except = Some(stream);
        self
    }

    /// Selects those of one attempt.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Selects those whose first byte arrived at this time or later.
    #[must_use]
    pub const fn since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    /// Returns `true` if the chunk is selected.
    #[must_use]
    pub fn matches(&self, chunk: &Chunk) -> bool {
        self.stream.is_none_or(|stream| stream == chunk.stream)
            && self.except.is_none_or(|except| except != chunk.stream)
            && self.attempt.is_none_or(|attempt| attempt == chunk.attempt)
            && self.since.is_none_or(|since| since <= chunk.at)
    }
}

/// Convenience methods of every [`OutputStorage`]. Not implemented by hand.
pub trait OutputStorageExt: OutputStorage {
    /// Returns the offset at which the last `lines` lines of the selected chunks begin. Output after the last line end
    /// is a line, too. If there are fewer lines, the offset is 0.
    ///
    /// # Errors
    /// Those of [`OutputStorage::read`].
    fn tail(&self, id: SessionId, lines: u64, of: OutputFilter) -> Result<u64, OutputError> {
        let length = self.length(id)?.bytes;
        if lines == 0 {
            return Ok(length);
        }
        // Line ends still to be found when scanning backwards. A line end in the last byte ends the last line and is
        // skipped.
        let mut missing = lines;
        let mut seen_last = false;
        let (mut end, mut window) = (length, WINDOW);
        while end > 0 {
            let start = end.saturating_sub(window);
            let chunks = between(self, id, start, end)?;
            // Where nothing is kept, the window grows: the part that is missing may be large.
            window = if chunks.is_empty() { window.saturating_mul(2) } else { WINDOW };
            for chunk in chunks.iter().rev().filter(|chunk| of.matches(chunk)) {
                for (place, byte) in chunk.bytes.iter().enumerate().rev() {
                    let last = !std::mem::replace(&mut seen_last, true);
                    if *byte == b'\n' && !last {
                        missing -= 1;
                        if missing == 0 {
                            return Ok(chunk.offset + place as u64 + 1);
                        }
                    }
                }
            }
            end = start;
        }
        Ok(0)
    }

    /// Opens a session's output for appending, like [`OutputStorage::writer`], and waits for another writer.
    ///
    /// The lock of a writer that is gone may be held for a moment by a copy: a process that another thread of its process
    /// starts has one until its exec.
    ///
    /// # Errors
    /// Those of [`OutputStorage::writer`]; [`OutputError::Busy`] after the timeout.
    fn writer_within(
        &self,
        id: SessionId,
        limits: OutputLimits,
        timeout: Duration,
    ) -> Result<Box<dyn OutputWriter>, OutputError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.writer(id, limits) {
                Err(OutputError::Busy { .. }) if Instant::now() < deadline => thread::sleep(BUSY_INTERVAL),
                opened => return opened,
            }
        }
    }
}

impl<S: OutputStorage + ?Sized> OutputStorageExt for S {}

/// Returns the chunks between two offsets.
fn between(
    output: &(impl OutputStorage + ?Sized),
    id: SessionId,
    from: u64,
    end: u64,
) -> Result<Vec<Chunk>, OutputError> {
    let (mut chunks, mut next) = (Vec::new(), from);
    while next < end {
        let page = output.read(id, next, usize::try_from(end - next).unwrap_or(usize::MAX))?;
        let Some(last) = page.chunks.last() else { break };
        next = last.end();
        chunks.extend(page.chunks.into_iter().filter(|chunk| chunk.offset < end));
    }
    if let Some(last) = chunks.last_mut() {
        last.bytes.truncate(usize::try_from(end - last.offset).unwrap_or(usize::MAX));
    }
    Ok(chunks)
}
