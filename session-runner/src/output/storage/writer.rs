//! Appends to the segments of a session's output: first the bytes, then the entry that makes them valid.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use session_core::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::folder::{Access, Folder};
use super::index::{CHUNK, ENTRY, Entry, MAX_OFFSET, Tag};
use super::segment::{Part, Segment, SegmentName};
use super::{Chunk, OutputCut, OutputError, OutputLength, OutputLimits, OutputStream, OutputWriter};

/// Output that arrives later than this after the first byte of a chunk begins a new chunk with its own time.
const JOIN_WINDOW: Duration = Duration::from_secs(1);
/// Bounds an index together with the bytes: a segment has room for chunks of this average size.
const AVERAGE_CHUNK_BYTES: u64 = 32;
/// Maximum bytes of a segment.
const SEGMENT: u64 = 8 * 1024 * 1024;
/// The number of segments into which the last bytes of a stream are divided. The oldest is removed as a whole, and the
/// newest grows meanwhile: up to two of them are kept beyond the limit.
const PARTS_OF_LAST: u64 = 8;
/// Segments for the last bytes of a stream that are allowed in any case. Only losses, each of which begins a segment, make
/// more of them than the limit needs.
const MAX_LAST_SEGMENTS: u64 = 64;

/// The single writer of a session's output.
#[derive(Debug)]
pub(crate) struct FileWriter {
    folder: Folder,
    /// Locked.
    _lock: File,
    limits: OutputLimits,
    length: OutputLength,
    streams: [Stream; OutputStream::ALL.len()],
}

/// One stream of the output.
#[derive(Debug, Default)]
struct Stream {
    /// The offset in the stream after its last byte.
    end: u64,
    /// The attempt of the last byte, and the offset in the stream at which that attempt began.
    attempt: u32,
    attempt_start: u64,
    /// All segments, ascending, each with the offset in the stream after its last byte.
    segments: VecDeque<(SegmentName, u64)>,
    /// The files of the last segment, while it may grow.
    open: Option<OpenSegment>,
    /// `true` if output before the next chunk could not be stored.
    gap: bool,
    /// Attempt and time of the last such output, if this writer has seen it and stored nothing since.
    lost: Option<(u32, Timestamp)>,
}

#[derive(Debug)]
struct OpenSegment {
    name: SegmentName,
    files: Segment,
    /// Bytes in it.
    length: u64,
    /// The number of its entries.
    entries: u64,
    /// The last chunk, while it may grow.
    chunk: Option<OpenChunk>,
}

/// Bytes of an index for which space is reserved ahead: a block of most file systems.
const RESERVED: u64 = 4096;

/// The segment that was open before a new one, if there is a new one and there was one before.
type Replaced = Option<Option<OpenSegment>>;

struct OpenChunk {
    entry: Entry,
    /// The hash of the chunk's bytes so far.
    hash: Xxh3,
}

impl fmt::Debug for OpenChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl FileWriter {
    /// Opens the last segments at their last valid entries, and cuts what a crash left after them.
    pub(crate) fn open(folder: Folder, limits: OutputLimits) -> Result<Self, OutputError> {
        let lock = folder.lock()?;
        let listing = folder.list()?;
        for half in &listing.halves {
            folder.remove_file(half)?;
        }
        let (length, streams) = Default::default();
        let mut writer = Self { folder, _lock: lock, limits, length, streams };
        if listing.has_single {
            writer.continue_single()?;
        }
        for name in listing.segments {
            writer.add_segment(name)?;
        }
        for open in writer.streams.iter().filter_map(|stream| stream.open.as_ref()) {
            let Segment { bytes, index, .. } = &open.files;
            index.set_len(open.entries * ENTRY as u64).map_err(open.files.error("cut"))?;
            bytes.set_len(open.length).map_err(open.files.error("cut"))?;
        }
        Ok(writer)
    }

    /// Begins after what an older version stored.
    fn continue_single(&mut self) -> Result<(), OutputError> {
        let Some(single) = self.folder.single()? else { return Ok(()) };
        let Some((last, entry)) = single.last()? else { return Ok(()) };
        entry.extend(&mut self.length);
        for number in 0..=last {
            if let Some(Entry { tag: Tag::Chunk { stream, .. }, length, .. }) =
                single.entry(number)?.map(|read| read.entry)
            {
                self.stream(stream).end += length;
            }
        }
        let is_cut = self.length.cut.is_some();
        for stream in &mut self.streams {
            stream.gap = is_cut;
        }
        Ok(())
    }

    /// Adds the next segment of its stream; an older one than that is complete.
    fn add_segment(&mut self, name: SegmentName) -> Result<(), OutputError> {
        let Some(files) = self.folder.segment(&name, Access::Write)? else { return Ok(()) };
        let Some((last, entry)) = files.last()? else {
            // Created by a process that died before it stored anything.
            return self.folder.remove(&name);
        };
        let (length, entries) = (entry.position + entry.length, last + 1);
        let stream = self.stream(name.stream);
        // The entry of a loss at the end.
        stream.gap = entry.length == 0;
        stream.end = name.stream_offset + length;
        stream.segments.push_back((name, stream.end));
        stream.open = Some(OpenSegment { name, files, length, entries, chunk: None });
        entry.extend(&mut self.length);
        Ok(())
    }

    fn stream(&mut self, stream: OutputStream) -> &mut Stream {
        let [stdout, stderr, terminal] = &mut self.streams;
        match stream {
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => stderr,
            OutputStream::Terminal => terminal,
        }
    }

    /// Stores at most one chunk. Returns its length, and the number of bytes that were removed for it.
    fn store(
        &mut self,
        of: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<(u64, u64), OutputError> {
        let (limits, end) = (self.limits, self.length.bytes);
        let stream = self.stream(of);
        let (part, room) = stream.part(&limits);
        let piece = bytes.get(..usize::try_from(room.min(CHUNK)).unwrap_or(usize::MAX)).unwrap_or(bytes);
        let length = piece.len() as u64;
        let (replaced, removed) = self.make_room(of, part, length)?;
        if let Err(error) = self.write(of, attempt, at, piece) {
            if let Some(before) = replaced {
                self.withdraw(of, before);
            }
            return Err(error);
        }
        let stream = self.stream(of);
        stream.end += length;
        (stream.gap, stream.lost) = (false, None);
        if let Some((_, segment_end)) = stream.segments.back_mut() {
            *segment_end += length;
        }
        self.length = OutputLength::new(end + length, None);
        Ok((length, removed))
    }

    /// Writes a piece at the end of the open segment of a stream.
    fn write(
        &mut self,
        of: OutputStream,
        attempt: u32,
        at: Timestamp,
        piece: &[u8],
    ) -> Result<(), OutputError> {
        let (end, length) = (self.length.bytes, piece.len() as u64);
        let stream = self.stream(of);
        let after_gap = stream.gap;
        let Some(open) = &mut stream.open else { return Ok(()) };
        let begin = || {
            let tag = Tag::Chunk { stream: of, after_gap };
            OpenChunk {
                entry: Entry { offset: end, position: open.length, length: 0, tag, attempt, at },
                hash: Xxh3::new(),
            }
        };
        let grown = open.chunk.take().filter(|chunk| {
            chunk.entry.end() == end
                && !after_gap
                && chunk.entry.attempt == attempt
                && chunk.entry.length + length <= CHUNK
                && at.since(chunk.entry.at) < JOIN_WINDOW
        });
        let number = if grown.is_some() { open.entries.saturating_sub(1) } else { open.entries };
        let mut chunk = grown.unwrap_or_else(begin);
        open.files.bytes.write_all_at(piece, open.length).map_err(open.files.error("write"))?;
        chunk.entry.length += length;
        chunk.hash.update(piece);
        open.write_entry(number, &chunk)?;
        open.entries = number + 1;
        open.length += length;
        open.chunk = Some(chunk);
        Ok(())
    }

    /// Makes the open segment of a stream one that can take so many bytes. Returns the segment that was open before, if
    /// this is a new one, and the number of bytes that were removed for it.
    fn make_room(
        &mut self,
        of: OutputStream,
        part: Part,
        length: u64,
    ) -> Result<(Replaced, u64), OutputError> {
        let (end, limits) = (self.length.bytes, self.limits);
        let size = segment_size(part, limits.last(of));
        let stream = self.stream(of);
        let fits = stream.open.as_ref().is_some_and(|open| {
            open.name.part == part
                && open.name.stream_offset + open.length == stream.end
                && open.length + length <= size
                && open.entries < size / AVERAGE_CHUNK_BYTES
        });
        if fits {
            return Ok((None, 0));
        }
        let name = SegmentName { offset: end, stream: of, stream_offset: stream.end, part };
        let files = self.folder.create(&name)?;
        let stream = self.stream(of);
        stream.segments.push_back((name, name.stream_offset));
        let before = stream.open.replace(OpenSegment { name, files, length: 0, entries: 0, chunk: None });
        Ok((Some(before), self.remove_oldest(of)))
    }

    /// Removes a new segment that nothing could be stored in, as on a full disk.
    fn withdraw(&mut self, of: OutputStream, before: Option<OpenSegment>) {
        let stream = self.stream(of);
        let new = std::mem::replace(&mut stream.open, before);
        stream.segments.pop_back();
        if let Some(OpenSegment { name, .. }) = new {
            // An empty one is ignored by readers, and removed by the next writer.
            let _ = self.folder.remove(&name);
        }
    }

    /// Removes the oldest segments that need not be kept. Returns the number of their bytes.
    fn remove_oldest(&mut self, of: OutputStream) -> u64 {
        let keep = self.limits.last(of);
        let most = MAX_LAST_SEGMENTS.max(keep / segment_size(Part::Last, keep) * 2);
        let mut removed = 0;
        loop {
            let stream = self.stream(of);
            let is_last = |(name, _): &&(SegmentName, u64)| name.part == Part::Last;
            let number = stream.segments.iter().filter(is_last).count() as u64;
            let Some(place) = stream.segments.iter().position(|segment| is_last(&segment)) else { break };
            let Some((name, end)) = stream.segments.get(place).copied() else { break };
            if number <= 1 || (stream.end - end < keep && number <= most) {
                break;
            }
            if self.folder.remove(&name).is_err() {
                // Tried again with the next segment: keeping too much loses nothing.
                break;
            }
            self.stream(of).segments.remove(place);
            removed += end - name.stream_offset;
        }
        removed
    }

    /// Counts bytes that could not be stored.
    fn lose(&mut self, of: OutputStream, attempt: u32, at: Timestamp, bytes: u64) {
        self.length.bytes += bytes;
        let stream = self.stream(of);
        stream.end += bytes;
        (stream.gap, stream.lost) = (true, Some((attempt, at)));
    }
}

/// Returns the size of a segment, if this many of the last bytes are kept.
fn segment_size(part: Part, keep: u64) -> u64 {
    match part {
        Part::First => SEGMENT,
        Part::Last => (keep / PARTS_OF_LAST).clamp(CHUNK, SEGMENT),
    }
}

impl Drop for FileWriter {
    /// Counts what was lost at the end: the next chunk, which would show it, may never come. On a full disk there is room for
    /// one more line, because the index has space beyond its end.
    fn drop(&mut self) {
        for of in OutputStream::ALL {
            let end = self.length.bytes;
            let stream = self.stream(of);
            if let (Some((attempt, at)), Some(open)) = (stream.lost, &stream.open) {
                let tag = Tag::Chunk { stream: of, after_gap: true };
                let entry = Entry { offset: end, position: open.length, length: 0, tag, attempt, at };
                // Without it, only the session's log says that output was lost.
                let _ = open.write_entry(open.entries, &OpenChunk { entry, hash: Xxh3::new() });
            }
        }
    }
}

impl Stream {
    fn begin_attempt(&mut self, attempt: u32) {
        if self.attempt != attempt {
            (self.attempt, self.attempt_start) = (attempt, self.end);
        }
    }

    /// Returns the part that the next byte belongs to, and how many bytes belong to it at least.
    fn part(&self, limits: &OutputLimits) -> (Part, u64) {
        let first = limits.first().max(self.attempt_start.saturating_add(limits.first_of_attempt()));
        match first.checked_sub(self.end) {
            Some(room @ 1..) => (Part::First, room),
            Some(0) | None => (Part::Last, u64::MAX),
        }
    }
}

impl OpenSegment {
    fn write_entry(&self, number: u64, chunk: &OpenChunk) -> Result<(), OutputError> {
        let position = number * ENTRY as u64;
        if position.is_multiple_of(RESERVED) {
            // Space for the next entries, so that a loss is counted on a full disk, too. Not all file systems have it.
            let _ = fallocate(&self.files.index, FallocateFlags::KEEP_SIZE, position, 2 * RESERVED);
        }
        let line = chunk.entry.line(&chunk.hash);
        self.files.index.write_all_at(line.as_bytes(), position).map_err(self.files.error("write"))
    }
}

impl OutputWriter for FileWriter {
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<u64, OutputError> {
        self.stream(stream).begin_attempt(attempt);
        let (mut rest, mut removed) = (bytes, 0);
        while !rest.is_empty() {
            match self.store(stream, attempt, at, rest) {
                Ok((length, of_segments)) => {
                    rest = rest.get(usize::try_from(length).unwrap_or(usize::MAX)..).unwrap_or_default();
                    removed += of_segments;
                }
                Err(error) => {
                    self.lose(stream, attempt, at, rest.len() as u64);
                    return Err(error);
                }
            }
        }
        Ok(removed)
    }

    fn restore(&mut self, chunk: &Chunk) -> Result<(), OutputError> {
        if chunk.end() > MAX_OFFSET {
            let error = io::Error::new(io::ErrorKind::InvalidData, "its offset is too high");
            return Err(OutputError::io("restore output to", self.folder.path())(error));
        }
        self.length.bytes = self.length.bytes.max(chunk.offset);
        let stream = self.stream(chunk.stream);
        stream.end = stream.end.max(chunk.stream_offset);
        stream.gap |= chunk.after_gap;
        self.append(chunk.stream, chunk.attempt, chunk.at, &chunk.bytes).map(drop)
    }

    fn restore_cut(&mut self, cut: OutputCut) -> Result<(), OutputError> {
        let OutputCut { attempt, at } = cut;
        let (of, limits) = (OutputStream::Stdout, self.limits);
        let (part, _) = self.stream(of).part(&limits);
        self.make_room(of, part, 0)?;
        let end = self.length.bytes;
        let stream = self.stream(of);
        if let Some(open) = &mut stream.open {
            let entry = Entry { offset: end, position: open.length, length: 0, tag: Tag::Cut, attempt, at };
            open.write_entry(open.entries, &OpenChunk { entry, hash: Xxh3::new() })?;
            open.entries += 1;
            open.chunk = None;
        }
        for stream in &mut self.streams {
            stream.gap = true;
        }
        self.length.cut = Some(cut);
        Ok(())
    }

    fn length(&self) -> OutputLength {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileOutput, OutputStorage};
    use session_core::SessionId;

    fn open(output: &FileOutput, root: &std::path::Path, id: SessionId) -> FileWriter {
        drop(output.writer(id, OutputLimits::default()).unwrap());
        let folder = Folder::open(root, id, Access::Write, true).unwrap();
        FileWriter::open(folder, OutputLimits::default()).unwrap()
    }

    /// A failed write, as on a full disk, is counted in the offsets and marked as a gap.
    #[test]
    fn a_failed_write_is_counted_and_marked() {
        let at = Timestamp::from_millis(1_795_253_400_000).unwrap();
        for (of, broken) in [OutputStream::Stdout, OutputStream::Terminal]
            .into_iter()
            .flat_map(|of| ["bytes", "index"].map(|broken| (of, broken)))
        {
            let folder = tempfile::tempdir().unwrap();
            let (output, id) = (FileOutput::new(folder.path()), SessionId::random());
            let mut writer = open(&output, folder.path(), id);
            writer.append(of, 1, at, b"before ").unwrap();
            let files = &mut writer.stream(of).open.as_mut().unwrap().files;
            let file = if broken == "bytes" { &mut files.bytes } else { &mut files.index };
            *file = File::open("/dev/null").unwrap();
            assert!(writer.append(of, 1, at, b"lost ").is_err());
            writer.append(OutputStream::Stderr, 1, at, b"other ").unwrap();
            writer.append(of, 1, at, b"after ").unwrap();
            writer.append(of, 1, at, b"that ").unwrap();
            let chunks = output.read(id, 0, usize::MAX).unwrap().chunks;
            let found: Vec<_> = chunks
                .iter()
                .map(|chunk| (chunk.offset, chunk.after_gap, std::str::from_utf8(&chunk.bytes).unwrap()))
                .collect();
            assert_eq!(
                found,
                [(0, false, "before "), (12, false, "other "), (18, true, "after that ")],
                "{of:?} {broken}"
            );
            assert_eq!(writer.length().bytes, 29);
            // What is lost at the end shows in the length, and before the next chunk.
            let name = writer.stream(of).open.as_ref().unwrap().name.bytes();
            drop(writer);
            let mut writer = output.writer(id, OutputLimits::default()).unwrap();
            writer.append(of, 1, at, b"!").unwrap();
            assert!(!output.read(id, 29, 10).unwrap().chunks[0].after_gap);
            drop(writer);
            let mut writer = open(&output, folder.path(), id);
            writer.stream(of).open.as_mut().unwrap().files.bytes =
                File::open(output.folder(id).join(&name)).unwrap();
            assert!(writer.append(of, 1, at, b"the end").is_err());
            drop(writer);
            assert_eq!(output.length(id).unwrap().bytes, 37);
            assert_eq!(output.read(id, 30, 10).unwrap().chunks, []);
            output.writer(id, OutputLimits::default()).unwrap().append(of, 2, at, b"?").unwrap();
            let after = &output.read(id, 30, 10).unwrap().chunks[0];
            assert!(after.after_gap && after.offset == 37, "{after:?}");
        }
    }

    /// Compares the example on the page that describes the format with what the code writes.
    #[test]
    fn the_documented_example_matches_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (output, id) = (FileOutput::new(folder.path()), SessionId::random());
        let at = |millis: i64| Timestamp::from_millis(1_795_253_400_000 + millis).unwrap();
        let mut writer = open(&output, folder.path(), id);
        writer.append(OutputStream::Stdout, 1, at(123), b"compiling\n").unwrap();
        writer.append(OutputStream::Stdout, 1, at(456), b"ok\n").unwrap();
        writer.append(OutputStream::Stderr, 1, at(456), b"stray\n").unwrap();
        writer.append(OutputStream::Stdout, 2, at(2000), b"again\n").unwrap();
        writer.append(OutputStream::Terminal, 3, at(4000), b"ready\r\n").unwrap();
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/output.md")).unwrap();
        let folder = output.folder(id);
        for name in [
            "000000000000-out-000000000000-first",
            "00000000000d-err-000000000000-first",
            "000000000019-tty-000000000000-first",
        ] {
            let index = std::fs::read_to_string(folder.join(format!("{name}.index"))).unwrap();
            assert!(page.contains(&format!("`{name}.index`\n\n```\n{index}```")), "{name}\n{index}");
        }
    }
}
