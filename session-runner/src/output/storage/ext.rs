//! Convenience methods for reading output from any storage.

use session_core::SessionId;

use super::{OutputError, OutputStorage, OutputStream};

/// Bytes of one read.
const WINDOW: u64 = 64 * 1024;

/// Convenience methods of every [`OutputStorage`]. Not implemented by hand.
pub trait OutputStorageExt: OutputStorage {
    /// Returns the offset at which the last `lines` lines begin, of one stream or of both together. Output after the
    /// last line end is a line, too. If there are fewer lines, the offset is 0.
    ///
    /// # Errors
    /// Those of [`OutputStorage::read`].
    fn tail(&self, id: SessionId, lines: u64, of: Option<OutputStream>) -> Result<u64, OutputError> {
        let length = self.length(id)?.bytes;
        if lines == 0 {
            return Ok(length);
        }
        // Line ends still to be found when scanning backwards. A line end in the last byte ends the last line and is
        // skipped.
        let mut missing = lines;
        let mut seen_last = false;
        let mut end = length;
        while end > 0 {
            let start = end.saturating_sub(WINDOW);
            let mut from = start;
            let mut chunks = Vec::new();
            while from < end {
                let page = self.read(id, from, usize::try_from(end - from).unwrap_or(usize::MAX))?;
                let Some(last) = page.chunks.last() else { break };
                from = last.end();
                chunks.extend(page.chunks);
            }
            for chunk in chunks.iter().rev().filter(|chunk| of.is_none_or(|of| of == chunk.stream)) {
                for (offset, byte) in (chunk.offset..).zip(&chunk.bytes).rev_before(end) {
                    let last = !std::mem::replace(&mut seen_last, true);
                    if byte == b'\n' && !last {
                        missing -= 1;
                        if missing == 0 {
                            return Ok(offset + 1);
                        }
                    }
                }
            }
            end = start;
        }
        Ok(0)
    }
}

impl<S: OutputStorage + ?Sized> OutputStorageExt for S {}

trait RevBefore {
    /// Iterates over the bytes before an offset, the last one first.
    fn rev_before(self, end: u64) -> impl Iterator<Item = (u64, u8)>;
}

impl<'a, I: Iterator<Item = (u64, &'a u8)>> RevBefore for I {
    fn rev_before(self, end: u64) -> impl Iterator<Item = (u64, u8)> {
        let mut bytes: Vec<(u64, u8)> =
            self.take_while(|(offset, _)| *offset < end).map(|(offset, byte)| (offset, *byte)).collect();
        bytes.reverse();
        bytes.into_iter()
    }
}
