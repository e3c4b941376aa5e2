//! Reads the segments of all streams as one sequence of chunks, ascending in offsets, next to a writer that adds to them
//! and removes them.

use super::folder::{Access, Folder, Listing};
use super::index::{Entry, Tag};
use super::segment::{Part, Segment, SegmentName};
use super::{Chunk, OutputError, OutputStream};

/// A reader of a session's output.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    folder: &'a Folder,
    /// The offset after the last chunk.
    next: u64,
    sources: Vec<Source>,
}

/// The segments of one stream, or what an older version stored of all.
#[derive(Debug)]
struct Source {
    /// Those that are not opened yet, the next one last.
    rest: Vec<SegmentName>,
    open: Option<Open>,
    /// The next chunk.
    peeked: Option<Chunk>,
    /// The end of the last segment, if the next one has to begin there: those for the last bytes are removed from the
    /// oldest on.
    continues_at: Option<End>,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    /// `None` for what an older version stored.
    name: Option<SegmentName>,
    /// The number of the next entry.
    number: u64,
    /// Bytes of each stream before that entry. Only for what an older version stored.
    before: PerStream,
    /// The end of the last chunk that was read.
    end: Option<End>,
}

/// A number of bytes of each stream.
type PerStream = [u64; OutputStream::ALL.len()];

/// The end of a chunk.
#[derive(Debug, Clone, Copy)]
struct End {
    stream_offset: u64,
    offset: u64,
}

impl<'a> Merge<'a> {
    pub(crate) fn open(folder: &'a Folder, from: u64) -> Result<Self, OutputError> {
        let mut merge = Self { folder, next: from, sources: Vec::new() };
        merge.refresh()?;
        Ok(merge)
    }

    /// Returns the next chunk; `None` at the current end.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>, OutputError> {
        let mut refreshed = false;
        loop {
            for source in &mut self.sources {
                source.fill(self.folder, self.next)?;
            }
            let sources = self.sources.iter_mut().filter(|source| source.peeked.is_some());
            let first = sources.min_by_key(|source| source.peeked.as_ref().map(|chunk| chunk.offset));
            let Some(first) = first else { return Ok(None) };
            if first.peeked.as_ref().is_some_and(|chunk| chunk.offset > self.next) && !refreshed {
                // Bytes are missing, unless they were written after their source was read.
                refreshed = true;
                self.refresh()?;
                continue;
            }
            let Some(mut chunk) = first.peeked.take() else { return Ok(None) };
            chunk.skip_to(self.next);
            self.next = chunk.end();
            return Ok(Some(chunk));
        }
    }

    fn refresh(&mut self) -> Result<(), OutputError> {
        let Listing { segments, has_single, .. } = self.folder.list()?;
        self.sources.clear();
        if has_single && let Some(segment) = self.folder.single()? {
            self.sources.push(Source::single(segment, self.next)?);
        }
        for stream in OutputStream::ALL {
            let mut rest: Vec<SegmentName> =
                segments.iter().filter(|name| name.stream == stream).copied().collect();
            // Those that end before the offset are not opened.
            let passed = rest.partition_point(|name| name.offset <= self.next).saturating_sub(1);
            rest.drain(..passed);
            rest.reverse();
            self.sources.push(Source { rest, open: None, peeked: None, continues_at: None });
        }
        Ok(())
    }
}

impl Source {
    /// Begins to read what an older version stored, at an offset.
    fn single(segment: Segment, from: u64) -> Result<Self, OutputError> {
        let number = segment.entry_at(from)?;
        let mut before = PerStream::default();
        for number in 0..number {
            if let Some(read) = segment.entry(number)? {
                count(&mut before, &read.entry);
            }
        }
        let open = Some(Open { segment, name: None, number, before, end: None });
        Ok(Self { rest: Vec::new(), open, peeked: None, continues_at: None })
    }

    /// Reads the next chunk that ends behind an offset.
    fn fill(&mut self, folder: &Folder, next: u64) -> Result<(), OutputError> {
        while self.peeked.as_ref().is_none_or(|chunk| chunk.end() <= next) {
            self.peeked = None;
            if self.open.is_none() && !self.open_next(folder, next)? {
                return Ok(());
            }
            let Some(open) = &mut self.open else { return Ok(()) };
            let Some((entry, bytes)) = open.segment.checked(open.number, !self.rest.is_empty())? else {
                if self.rest.is_empty() {
                    return Ok(());
                }
                self.continues_at =
                    open.end.filter(|_| open.name.is_some_and(|name| name.part == Part::Last));
                self.open = None;
                continue;
            };
            let begins = open.number == 0;
            open.number += 1;
            let Some(chunk) = open.chunk(entry, bytes) else { continue };
            if begins
                && let Some(End { stream_offset, offset }) = self.continues_at.take()
                && chunk.stream_offset != stream_offset
                && !chunk.after_gap
            {
                return Err(OutputError::Damaged { id: folder.id, offset });
            }
            open.end = Some(End { stream_offset: chunk.stream_end(), offset: chunk.end() });
            self.peeked = Some(chunk);
        }
        Ok(())
    }

    /// Opens the next segment. Returns `false` if there is none.
    fn open_next(&mut self, folder: &Folder, next: u64) -> Result<bool, OutputError> {
        while let Some(name) = self.rest.pop() {
            let Some(segment) = folder.segment(&name, Access::Read)? else {
                // Removed since it was listed.
                self.continues_at = None;
                continue;
            };
            let number = segment.entry_at(next)?;
            self.open =
                Some(Open { segment, name: Some(name), number, before: PerStream::default(), end: None });
            return Ok(true);
        }
        Ok(false)
    }
}

impl Open {
    /// Makes a chunk of an entry; `None` for a cut, or a loss at the end.
    fn chunk(&mut self, entry: Entry, bytes: Vec<u8>) -> Option<Chunk> {
        let Entry { offset, position, tag, attempt, at, .. } = entry;
        let Tag::Chunk { stream, after_gap } = tag else { return None };
        if bytes.is_empty() {
            return None;
        }
        let before = self.before.get(stream.place()).copied().unwrap_or_default();
        count(&mut self.before, &entry);
        let stream_offset = self.name.map_or(before, |name| name.stream_offset + position);
        Some(Chunk { offset, stream, stream_offset, attempt, at, after_gap, bytes })
    }
}

fn count(bytes: &mut PerStream, entry: &Entry) {
    if let Tag::Chunk { stream, .. } = entry.tag
        && let Some(bytes) = bytes.get_mut(stream.place())
    {
        *bytes += entry.length;
    }
}
