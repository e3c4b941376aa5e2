//! Appends to the two files of a session's output: first the bytes, then the entry that makes them valid.

use std::fmt;
use std::fs::TryLockError;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use session_core::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::files::Files;
use super::index::{CHUNK, ENTRY, Entry, Tag};
use super::{OutputCut, OutputError, OutputLength, OutputStream, OutputWriter, Stored};

/// Output that arrives later than this after the first byte of a chunk begins a new chunk with its own time.
const JOIN_WINDOW: Duration = Duration::from_secs(1);
/// Bounds the index together with the bytes: it has room for chunks of this average size.
const AVERAGE_CHUNK_BYTES: u64 = 32;

/// The single writer of a session's output.
#[derive(Debug)]
pub(crate) struct FileWriter {
    files: Files,
    limit: u64,
    /// The offset after the last valid byte.
    end: u64,
    /// The number of entries.
    entries: u64,
    /// The last chunk, while it may grow.
    open: Option<OpenChunk>,
    cut: Option<OutputCut>,
    /// `true` if output since the last entry could not be stored.
    gap: bool,
}

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
    /// Opens the files at the last valid entry, and cuts what a crash left after it.
    pub(crate) fn open(files: Files, limit: u64) -> Result<Self, OutputError> {
        match files.index.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutputError::Busy { id: files.id }),
            Err(TryLockError::Error(error)) => {
                return Err(OutputError::io("lock", files.path("index"))(error));
            }
        }
        let last = files.last()?;
        let entries = last.map_or(0, |(position, _)| position + 1);
        let end = last.map_or(0, |(_, entry)| entry.end());
        let cut = last.and_then(|(_, entry)| entry.cut());
        files.index.set_len(entries * ENTRY as u64).map_err(OutputError::io("cut", files.path("index")))?;
        files.bytes.set_len(end).map_err(OutputError::io("cut", files.path("bytes")))?;
        Ok(Self { files, limit, end, entries, open: None, cut, gap: false })
    }

    /// Stores at most one chunk. The caller has checked the `room` for it.
    fn store(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<(), OutputError> {
        let length = bytes.len() as u64;
        let grows = self.open.as_ref().is_some_and(|open| {
            let same = matches!(open.entry.tag, Tag::Chunk { stream: before, .. } if before == stream);
            same && !self.gap
                && open.entry.attempt == attempt
                && open.entry.length + length <= CHUNK
                && at.since(open.entry.at) < JOIN_WINDOW
        });
        let mut open = self.open.take().filter(|_| grows).unwrap_or_else(|| {
            let tag = Tag::Chunk { stream, after_gap: self.gap };
            OpenChunk { entry: Entry { offset: self.end, length: 0, tag, attempt, at }, hash: Xxh3::new() }
        });
        self.files
            .bytes
            .write_all_at(bytes, self.end)
            .map_err(OutputError::io("write", self.files.path("bytes")))?;
        open.entry.length += length;
        open.hash.update(bytes);
        let position = if grows { self.entries.saturating_sub(1) } else { self.entries };
        self.write_entry(position, &open)?;
        self.entries = position + 1;
        self.end += length;
        self.gap = false;
        self.open = Some(open);
        Ok(())
    }

    fn write_entry(&self, position: u64, open: &OpenChunk) -> Result<(), OutputError> {
        self.files
            .index
            .write_all_at(open.entry.line(&open.hash).as_bytes(), position * ENTRY as u64)
            .map_err(OutputError::io("write", self.files.path("index")))
    }

    fn room(&self) -> u64 {
        if self.entries > self.limit / AVERAGE_CHUNK_BYTES { 0 } else { self.limit.saturating_sub(self.end) }
    }
}

impl OutputWriter for FileWriter {
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<Stored, OutputError> {
        let mut stored = 0;
        while let Some(rest) = bytes.get(stored..).filter(|rest| !rest.is_empty()) {
            if self.cut.is_some() {
                return Ok(if stored == 0 { Stored::Beyond } else { Stored::Cut { bytes: stored } });
            }
            let room = self.room().min(CHUNK);
            let next = rest.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(rest);
            let done = match room {
                0 => self.cut(OutputCut { attempt, at }),
                _ => self.store(stream, attempt, at, next),
            };
            if let Err(error) = done {
                self.gap = true;
                return Err(error);
            }
            stored += if room == 0 { 0 } else { next.len() };
            if self.cut.is_some() {
                return Ok(Stored::Cut { bytes: stored });
            }
        }
        Ok(Stored::Whole)
    }

    fn gap(&mut self) {
        self.gap = true;
    }

    fn cut(&mut self, cut: OutputCut) -> Result<(), OutputError> {
        let OutputCut { attempt, at } = cut;
        let entry = Entry { offset: self.end, length: 0, tag: Tag::Cut, attempt, at };
        self.write_entry(self.entries, &OpenChunk { entry, hash: Xxh3::new() })?;
        self.entries += 1;
        self.open = None;
        self.cut = Some(cut);
        Ok(())
    }

    fn length(&self) -> OutputLength {
        OutputLength { bytes: self.end, cut: self.cut }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{FileOutput, OutputStorage};
    use session_core::SessionId;

    #[test]
    fn a_failed_write_is_marked_as_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let (output, id) = (FileOutput::new(folder.path()), SessionId::random());
        drop(output.writer(id).unwrap());
        let at = Timestamp::from_millis(1_795_253_400_000).unwrap();
        let open =
            |name: &str| File::options().read(true).write(true).open(output.folder(id).join(name)).unwrap();
        for broken in ["bytes", "index"] {
            let files = Files { id, bytes: open("bytes"), index: open("index"), folder: output.folder(id) };
            let mut writer = FileWriter::open(files, 1 << 20).unwrap();
            writer.append(OutputStream::Stdout, 1, at, b"before ").unwrap();
            // A file that cannot be written, as on a full disk.
            let replace = |writer: &mut FileWriter, file: File| match broken {
                "bytes" => std::mem::replace(&mut writer.files.bytes, file),
                _ => std::mem::replace(&mut writer.files.index, file),
            };
            let kept = replace(&mut writer, File::open("/dev/null").unwrap());
            for _ in 0..3 {
                assert!(writer.append(OutputStream::Stdout, 1, at, b"lost ").is_err());
            }
            replace(&mut writer, kept);
            writer.append(OutputStream::Stdout, 1, at, b"after ").unwrap();
            writer.append(OutputStream::Stdout, 1, at, b"that ").unwrap();
        }
        let chunks = output.read(id, 0, usize::MAX).unwrap().chunks;
        let found: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.after_gap, std::str::from_utf8(&chunk.bytes).unwrap()))
            .collect();
        assert_eq!(
            found,
            [(false, "before "), (true, "after that "), (false, "before "), (true, "after that ")]
        );
    }

    /// Compares the example on the page that describes the format with what the code writes.
    #[test]
    fn the_documented_example_matches_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (output, id) = (FileOutput::new(folder.path()).limit(64), SessionId::random());
        let at = |millis: i64| Timestamp::from_millis(1_795_253_400_000 + millis).unwrap();
        let mut writer = output.writer(id).unwrap();
        writer.append(OutputStream::Stdout, 1, at(123), b"compiling\n").unwrap();
        writer.append(OutputStream::Stdout, 1, at(456), b"ok\n").unwrap();
        writer.append(OutputStream::Stderr, 1, at(456), b"stray\n").unwrap();
        drop(writer);
        let open =
            |name: &str| File::options().read(true).write(true).open(output.folder(id).join(name)).unwrap();
        let files = Files { id, bytes: open("bytes"), index: open("index"), folder: output.folder(id) };
        let mut writer = FileWriter::open(files, 64).unwrap();
        writer.gap = true;
        let last = b"again, and this time with more than there is room for\n";
        writer.append(OutputStream::Stdout, 2, at(2000), last).unwrap();
        let index = std::fs::read_to_string(output.folder(id).join("index")).unwrap();
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/output.md")).unwrap();
        assert!(page.contains(&format!("```\n{index}```")), "{index}");
    }
}
