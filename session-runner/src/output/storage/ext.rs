//! Convenience methods for reading output from any storage.

use session_core::{SessionId, Timestamp};

use super::{Chunk, OutputError, OutputStorage, OutputStream};

/// Bytes of the first read from the end.
const WINDOW: u64 = 64 * 1024;

/// A selection of chunks.
///
/// ```
/// use session_runner::{OutputFilter, OutputStream};
///
/// let errors_of_attempt_2 = OutputFilter::new().stream(OutputStream::Stderr).attempt(2);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFilter {
    stream: Option<OutputStream>,
    attempt: Option<u32>,
    since: Option<Timestamp>,
}

impl OutputFilter {
    /// Selects all chunks.
    #[must_use]
    pub const fn new() -> Self {
        Self { stream: None, attempt: None, since: None }
    }

    /// Selects those of one stream.
    #[must_use]
    pub const fn stream(mut self, stream: OutputStream) -> Self {
        self.stream = Some(stream);
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
            let chunks = self.between(id, start, end)?;
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

    /// Returns the chunks between two offsets.
    ///
    /// # Errors
    /// Those of [`OutputStorage::read`].
    fn between(&self, id: SessionId, from: u64, end: u64) -> Result<Vec<Chunk>, OutputError> {
        let (mut chunks, mut next) = (Vec::new(), from);
        while next < end {
            let page = self.read(id, next, usize::try_from(end - next).unwrap_or(usize::MAX))?;
            let Some(last) = page.chunks.last() else { break };
            next = last.end();
            chunks.extend(page.chunks.into_iter().filter(|chunk| chunk.offset < end));
        }
        if let Some(last) = chunks.last_mut() {
            let room = usize::try_from(end - last.offset).unwrap_or(usize::MAX);
            last.bytes.truncate(room);
        }
        Ok(chunks)
    }
}

impl<S: OutputStorage + ?Sized> OutputStorageExt for S {}
