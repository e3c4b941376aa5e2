//! The port for captured output: bytes in order of arrival, each with its stream. `capture` reads them from the
//! program.

mod ext;
mod file_output;
mod folder;
mod index;
mod limits;
mod merge;
mod output_error;
mod segment;
mod writer;

use session_core::{SessionId, Timestamp};

pub use self::ext::{OutputFilter, OutputStorageExt};
pub use self::file_output::FileOutput;
pub use self::limits::OutputLimits;
pub use self::output_error::OutputError;

/// A stream of the program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputStream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// The program's terminal. Standard output and standard error are one stream there.
    Terminal,
}

impl OutputStream {
    /// All streams.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Terminal];

    /// Returns the place of this stream in arrays of all.
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
            Self::Terminal => 2,
        }
    }

    /// Returns `stdout`, `stderr` or `tty`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Terminal => "tty",
        }
    }
}

/// A piece of output of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// The number of bytes before it in the session's output, kept or not, over all streams and attempts. A chunk
    /// that does not begin at the end of the one before it follows output that is not kept.
    pub offset: u64,
    /// Its stream.
    pub stream: OutputStream,
    /// The number of bytes before it in its stream, kept or not, over all attempts.
    pub stream_offset: u64,
    /// Its attempt.
    pub attempt: u32,
    /// The time at which its first byte arrived.
    pub at: Timestamp,
    /// `true` if output before it is missing because it could not be stored.
    pub after_gap: bool,
    /// The bytes; at least one.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Creates a chunk of which all bytes before it are known and kept.
    #[must_use]
    pub const fn new(
        offset: u64,
        stream: OutputStream,
        stream_offset: u64,
        attempt: u32,
        at: Timestamp,
        bytes: Vec<u8>,
    ) -> Self {
        Self { offset, stream, stream_offset, attempt, at, after_gap: false, bytes }
    }

    /// Returns the offset after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Returns the offset in its stream after its last byte.
    #[must_use]
    pub fn stream_end(&self) -> u64 {
        self.stream_offset + self.bytes.len() as u64
    }

    /// Removes its bytes before an offset of the session's output.
    pub fn skip_to(&mut self, offset: u64) {
        let Some(skip @ 1..) = offset.checked_sub(self.offset) else { return };
        let bytes = usize::try_from(skip).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..bytes);
        self.offset += bytes as u64;
        self.stream_offset += bytes as u64;
        self.after_gap = false;
    }
}

/// Chunks, ascending in offsets, with nothing that is kept between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputPage {
    /// The chunks, ascending. An empty page is the current end of the output.
    pub chunks: Vec<Chunk>,
}

impl OutputPage {
    /// Creates a page of these chunks.
    #[must_use]
    pub const fn new(chunks: Vec<Chunk>) -> Self {
        Self { chunks }
    }
}

/// The length of a session's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLength {
    /// Bytes of all streams and attempts, kept or not: the offset after the last byte.
    pub bytes: u64,
    /// The end of what an older version stored, which stopped at a limit. Later output was not counted.
    pub cut: Option<OutputCut>,
}

impl OutputLength {
    /// Creates a length.
    #[must_use]
    pub const fn new(bytes: u64, cut: Option<OutputCut>) -> Self {
        Self { bytes, cut }
    }
}

/// The point at which an older version stopped to store output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputCut {
    /// The attempt whose output exceeded the limit.
    pub attempt: u32,
    /// The time of the cut.
    pub at: Timestamp,
}

/// A storage for captured output.
///
/// # Laws
/// 1. Bytes that are kept are read back identical and in the order in which they were appended, with their streams,
///    times and attempts; chunks may be joined or split.
/// 2. Offsets count bytes from 0, kept or not, over all streams and attempts.
/// 3. Appended output survives the death of the process; of an append that it interrupted, at least a prefix does.
///    Output torn by a crash is not returned.
/// 4. Output is bounded by [`OutputLimits`]: at least what they say is kept. What is not kept shows in the offsets.
/// 5. A session has one writer at a time, and any number of readers at any time.
///
/// The calls block. Make them on a blocking thread, never in an asynchronous task.
///
/// ```
/// use session_core::{Clock, SessionId, SystemClock};
/// use session_runner::{FileOutput, OutputLimits, OutputStorage, OutputStream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let (output, id) = (FileOutput::new(folder.path()), SessionId::random());
/// let mut writer = output.writer(id, OutputLimits::default())?;
/// writer.append(OutputStream::Stdout, 1, SystemClock.now(), b"compiling\n")?;
/// writer.append(OutputStream::Stderr, 1, SystemClock.now(), b"done\n")?;
///
/// // A reader keeps the offset after the last chunk. It may be in another process, and read while the program prints.
/// let mut from = 0;
/// let mut text = Vec::new();
/// while let page = output.read(id, from, 64 * 1024)?
///     && let Some(last) = page.chunks.last()
/// {
///     from = last.end();
///     text.extend(page.chunks.iter().flat_map(|chunk| &chunk.bytes).copied());
/// }
/// assert_eq!((text.as_slice(), output.length(id)?.bytes), (&b"compiling\ndone\n"[..], 15));
/// # Ok(()) }
/// ```
pub trait OutputStorage: Send + Sync + std::fmt::Debug {
    /// Opens a session's output for appending.
    ///
    /// # Errors
    /// [`OutputError::Busy`] if another writer has it open; errors of the storage.
    fn writer(&self, id: SessionId, limits: OutputLimits) -> Result<Box<dyn OutputWriter>, OutputError>;

    /// Reads what is kept of the output from an offset on: about `limit` bytes, and at least one chunk. An offset in the
    /// middle of a chunk returns the rest of that chunk first. An empty page is the current end of the output.
    ///
    /// # Errors
    /// [`OutputError::Damaged`] if the next output is not what was stored.
    fn read(&self, id: SessionId, from: u64, limit: usize) -> Result<OutputPage, OutputError>;

    /// Returns the length of a session's output; 0 for a session without output.
    ///
    /// # Errors
    /// Errors of the storage.
    fn length(&self, id: SessionId) -> Result<OutputLength, OutputError>;
}

/// The single writer of a session's output. Dropping it allows the next one.
pub trait OutputWriter: Send + std::fmt::Debug {
    /// Appends a piece of output at the end. Returns the number of bytes, of this stream and from before this piece, that
    /// it removed to keep to the limits.
    ///
    /// # Errors
    /// If it cannot be stored as a whole. It is counted in the offsets, and the next chunk of its stream is marked as
    /// following a gap.
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<u64, OutputError>;

    /// Appends a chunk from another storage at its own offset, which is not before the end.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn restore(&mut self, chunk: &Chunk) -> Result<(), OutputError>;

    /// Records the cut of an older version at the end, for output from another storage.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn restore_cut(&mut self, cut: OutputCut) -> Result<(), OutputError>;

    /// Returns the length of the output.
    fn length(&self) -> OutputLength;
}

#[cfg(test)]
mod tests;
