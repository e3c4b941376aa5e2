//! Low-level reading of a log: lines, and the chain of their sums. `condition` interprets a break of the chain.

use std::io;

use session_core::backend::{Chain, CheckedLine, Tip};
use session_core::limits::RECORD_BYTES;
use session_core::{Head, SessionId};

use crate::disk::DiskFile;
use crate::error::FoldError;

const FIRST_READ: usize = 4 * 1024;
const LARGEST_READ: usize = 256 * 1024;

/// A source that can be read at any offset.
pub(crate) trait ReadAt {
    /// Reads from an offset; 0 is the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for dyn DiskFile + '_ {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }
}

/// Reads exactly `length` bytes; returns `None` if the end comes before.
pub(crate) fn read_exactly<S: ReadAt + ?Sized>(
    source: &S,
    mut offset: u64,
    length: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let mut rest = bytes.as_mut_slice();
    while !rest.is_empty() {
        let n = source.read_at(rest, offset)?;
        if n == 0 {
            return Ok(None);
        }
        offset += n as u64;
        rest = rest.get_mut(n..).unwrap_or_default();
    }
    Ok(Some(bytes))
}

/// One line of a log.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The bytes before the line end; of a line that is longer than any record, only enough to detect that.
    pub(crate) bytes: &'a [u8],
    /// The offset after its line end.
    pub(crate) end: u64,
    /// `true` if it has a line end.
    pub(crate) complete: bool,
    /// `true` if the part that `bytes` leaves out has a zero byte.
    zeroes: bool,
}

impl Line<'_> {
    /// Returns `true` if the line has a zero byte. No record has one: a block was never written.
    fn has_zeroes(&self) -> bool {
        self.zeroes || memchr::memchr(0, self.bytes).is_some()
    }
}

/// The lines of a log from an offset on. Keeps one read in memory, and at most the start of an overlong line.
#[derive(Debug)]
pub(crate) struct LineReader<'a, S: ?Sized> {
    source: &'a S,
    buffer: Vec<u8>,
    /// The start of the next line in the buffer.
    start: usize,
    /// The offset of the next read.
    position: u64,
    read_size: usize,
}

impl<'a, S: ReadAt + ?Sized> LineReader<'a, S> {
    pub(crate) const fn from(source: &'a S, offset: u64) -> Self {
        Self { source, buffer: Vec::new(), start: 0, position: offset, read_size: FIRST_READ }
    }

    /// Reads the next line; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let (mut searched, mut zeroes) = (0, false);
        loop {
            let unsearched = self.buffer.get(self.start + searched..).unwrap_or_default();
            let line_end = memchr::memchr(b'\n', unsearched);
            let complete = line_end.is_some();
            searched += line_end.map_or(unsearched.len(), |at| at + 1);
            let content = if complete { searched - 1 } else { searched };
            if !complete {
                if content > RECORD_BYTES {
                    // No record is that long: the rest of the line matters only for the zeroes in it.
                    zeroes |= self.line_prefix(content).contains(&0);
                    self.buffer.truncate(self.start + RECORD_BYTES);
                    searched = RECORD_BYTES;
                }
                if self.fill()? {
                    continue;
                }
                if content == 0 {
                    return Ok(None);
                }
            }
            let begin = self.start;
            self.start += searched;
            let end = self.position - (self.buffer.len() - self.start) as u64;
            let bytes = self.buffer.get(begin..begin + content.min(searched)).unwrap_or_default();
            return Ok(Some(Line { bytes, end, complete, zeroes }));
        }
    }

    fn line_prefix(&self, length: usize) -> &[u8] {
        self.buffer.get(self.start..).and_then(|rest| rest.get(..length)).unwrap_or_default()
    }

    /// Appends a read to the buffer; returns `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let filled = self.buffer.len();
        self.buffer.resize(filled + self.read_size, 0);
        let n = self.source.read_at(self.buffer.get_mut(filled..).unwrap_or_default(), self.position)?;
        self.buffer.truncate(filled + n);
        self.position += n as u64;
        self.read_size = (self.read_size * 2).min(LARGEST_READ);
        Ok(n > 0)
    }
}

/// The next item of a chain.
#[derive(Debug)]
pub(crate) enum ChainItem<'a> {
    /// The next record.
    Record(CheckedLine<'a>),
    /// The end of the log, at a line end.
    End,
    /// Bytes that are not the next record.
    Break(ChainBreak),
}

/// The kind of bytes at which the chain breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainBreak {
    /// A line without its end, or zeroes: a write that a crash cut short.
    Torn,
    /// A complete line whose sum does not match: a record was changed or lost.
    Mismatch,
}

/// A reader of the unbroken chain of a log.
#[derive(Debug)]
pub(crate) struct ChainReader<'a, S: ?Sized> {
    lines: LineReader<'a, S>,
    chain: Chain,
    end: u64,
}

impl<'a, S: ReadAt + ?Sized> ChainReader<'a, S> {
    /// Creates a reader that starts at the end of the record to which `chain` belongs.
    pub(crate) const fn from(source: &'a S, chain: Chain, offset: u64) -> Self {
        Self { lines: LineReader::from(source, offset), chain, end: offset }
    }

    /// Returns the end of the last record that was read.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the last record that was read.
    pub(crate) const fn tip(&self) -> Option<Tip> {
        self.chain.tip()
    }

    /// Reads the next item. [`ChainItem::Break`] is the last one.
    pub(crate) fn next(&mut self) -> io::Result<ChainItem<'_>> {
        let Some(line) = self.lines.next()? else { return Ok(ChainItem::End) };
        if line.complete
            && let Ok(record) = self.chain.pass(line.bytes)
        {
            self.end = line.end;
            return Ok(ChainItem::Record(record));
        }
        Ok(ChainItem::Break(if line.complete && !line.has_zeroes() {
            ChainBreak::Mismatch
        } else {
            ChainBreak::Torn
        }))
    }
}

/// Folds a record into the head before it.
pub(crate) fn fold(head: &mut Option<Head>, id: SessionId, record: CheckedLine<'_>) -> Result<(), FoldError> {
    Ok(Head::fold(head, id, &record.decode()?)?)
}

#[cfg(test)]
mod tests;
