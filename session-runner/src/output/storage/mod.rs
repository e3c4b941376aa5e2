//! The port for captured output: bytes in order of arrival, each with its stream. `capture` reads them from the
//! program.

mod ext;
mod file_output;
mod files;
mod index;
mod output_error;
mod writer;

use session_core::{SessionId, Timestamp};

pub use self::ext::OutputStorageExt;
pub use self::file_output::FileOutput;
pub use self::output_error::OutputError;

/// A stream of the program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
}

impl OutputStream {
    /// Returns `stdout` or `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of output of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// The number of bytes before it in the session's output, over both streams and all attempts.
    pub offset: u64,
    /// Its stream.
    pub stream: OutputStream,
    /// Its attempt.
    pub attempt: u32,
    /// The time at which its first byte arrived.
    pub at: Timestamp,
    /// `true` if output before it is missing, because it could not be stored.
    pub after_gap: bool,
    /// The bytes; at least one.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Creates a chunk without a gap before it.
    #[must_use]
    pub const fn new(offset: u64, stream: OutputStream, attempt: u32, at: Timestamp, bytes: Vec<u8>) -> Self {
        Self { offset, stream, attempt, at, after_gap: false, bytes }
    }

    /// Returns the offset after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Consecutive chunks.
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

/// The length of stored output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLength {
    /// Bytes of both streams and all attempts: the offset after the last byte.
    pub bytes: u64,
    /// The cut at the limit, if it was reached. Later output is not stored.
    pub cut: Option<OutputCut>,
}

impl OutputLength {
    /// Creates a length.
    #[must_use]
    pub const fn new(bytes: u64, cut: Option<OutputCut>) -> Self {
        Self { bytes, cut }
    }

    /// Returns `true` if the limit was reached.
    #[must_use]
    pub const fn truncated(&self) -> bool {
        self.cut.is_some()
    }
}

/// The point at which output reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputCut {
    /// The attempt whose output exceeded the limit.
    pub attempt: u32,
    /// The time of the cut.
    pub at: Timestamp,
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// All bytes are stored.
    Whole,
    /// It reached the limit: only its first bytes are stored, and no later output.
    Cut {
        /// The number of stored bytes.
        bytes: usize,
    },
    /// The limit had been reached before: nothing is stored.
    Beyond,
}

/// A storage for captured output.
///
/// # Laws
/// 1. Bytes are read back identical and in the order in which they were appended, with their streams, times and
///    attempts; chunks may be joined or split.
/// 2. Offsets count bytes from 0, without gaps, over both streams and all attempts.
/// 3. Appended output survives the death of the process; of an append that it interrupted, at least a prefix does.
///    Output torn by a crash is not returned.
/// 4. Output is bounded: up to the limit the bytes are identical, then it is cut once.
/// 5. A session has one writer at a time, and any number of readers at any time.
///
/// The calls block. Make them on a blocking thread, never in an asynchronous task.
///
/// ```
/// use session_core::{Clock, SessionId, SystemClock};
/// use session_runner::{FileOutput, OutputStorage, OutputStream, Stored};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let (output, id) = (FileOutput::new(folder.path()).limit(1024), SessionId::random());
/// let mut writer = output.writer(id)?;
/// assert_eq!(writer.append(OutputStream::Stdout, 1, SystemClock.now(), b"compiling\n")?, Stored::Whole);
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
    fn writer(&self, id: SessionId) -> Result<Box<dyn OutputWriter>, OutputError>;

    /// Reads output from an offset on: about `limit` bytes, and at least one chunk. An offset in the middle of a chunk
    /// returns the rest of that chunk first. An empty page is the current end of the output.
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
    /// Appends a piece of output at the end.
    ///
    /// # Errors
    /// If it cannot be stored. None of it is read back then, and the next chunk that is stored is marked as following a
    /// gap.
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<Stored, OutputError>;

    /// Marks a gap before the next append, for output that is restored from a source with a gap there.
    fn gap(&mut self);

    /// Cuts the output here, as if the limit were reached, for output that is restored from a source that was cut
    /// there.
    ///
    /// # Errors
    /// If the cut cannot be stored.
    fn cut(&mut self, cut: OutputCut) -> Result<(), OutputError>;

    /// Returns the length of the output.
    fn length(&self) -> OutputLength;
}

#[cfg(test)]
mod tests;
