//! The port for captured output: bytes in the order in which they came, each with the stream it came from. How they
//! get out of a program is in `capture`.

mod entry;
mod error;
mod ext;
mod file;
mod writer;

use session_core::{SessionId, Timestamp};

pub use self::error::OutputError;
pub use self::ext::OutputStorageExt;
pub use self::file::FileOutput;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
}

impl OutputStream {
    /// `stdout` or `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Some output of one stream, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// How many bytes of the session's output, of both streams and all attempts, are before it.
    pub offset: u64,
    /// Where it came from.
    pub stream: OutputStream,
    /// The attempt that it belongs to.
    pub attempt: u32,
    /// When its first byte came.
    pub at: Timestamp,
    /// Whether output is missing before it, because it could not be stored then.
    pub after_gap: bool,
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// A chunk that nothing is missing before.
    #[must_use]
    pub const fn new(offset: u64, stream: OutputStream, attempt: u32, at: Timestamp, bytes: Vec<u8>) -> Self {
        Self { offset, stream, attempt, at, after_gap: false, bytes }
    }

    /// The offset behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Chunks in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputPage {
    /// The chunks, ascending. None is the end of what is there now.
    pub chunks: Vec<Chunk>,
}

impl OutputPage {
    /// A page of these chunks.
    #[must_use]
    pub const fn new(chunks: Vec<Chunk>) -> Self {
        Self { chunks }
    }
}

/// How much output is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLength {
    /// Bytes, of both streams and all attempts: the offset behind the last one.
    pub bytes: u64,
    /// Where the limit was reached, if it was: what came after is not stored.
    pub cut: Option<OutputCut>,
}

impl OutputLength {
    /// This much.
    #[must_use]
    pub const fn new(bytes: u64, cut: Option<OutputCut>) -> Self {
        Self { bytes, cut }
    }

    /// Whether the limit was reached.
    #[must_use]
    pub const fn truncated(&self) -> bool {
        self.cut.is_some()
    }
}

/// That output reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputCut {
    /// The attempt that printed more than there was room for.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

/// What became of output that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// All of it is stored.
    Whole,
    /// With it the limit was reached: only its first bytes are stored, and nothing after it.
    Cut {
        /// How many.
        bytes: usize,
    },
    /// The limit was reached before it: it is not stored.
    Beyond,
}

/// A place where output is kept.
///
/// # Laws
/// 1. Bytes come back identical and in the order in which they were appended, with their streams, times and attempts;
///    chunks may come back joined or split.
/// 2. Offsets count bytes from 0, without gaps, over both streams and all attempts.
/// 3. What was appended survives the death of the process, a prefix of the last append at least. What a crash tore is
///    not shown.
/// 4. Output is bounded: up to the limit the bytes are identical, then it is cut, once.
/// 5. A session has one writer at a time, and any number of readers at any time.
///
/// The calls block: they are made from threads of their own, and never from an asynchronous task.
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
/// // Whoever reads keeps the offset behind what it has seen: in another process too, and while the program prints.
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
    /// Opens a session's output to append to it.
    ///
    /// # Errors
    /// [`OutputError::Busy`] where somebody else is at it; whatever the storage suffers.
    fn writer(&self, id: SessionId) -> Result<Box<dyn OutputWriter>, OutputError>;

    /// Output from an offset on, about `limit` bytes of it and at least one chunk. Output that starts in the middle of
    /// a chunk starts with the rest of that chunk. An empty page is the end of what is there now.
    ///
    /// # Errors
    /// [`OutputError::Damaged`] where the output that should come next is not what was stored.
    fn read(&self, id: SessionId, from: u64, limit: usize) -> Result<OutputPage, OutputError>;

    /// How much there is; nothing of a session that has no output.
    ///
    /// # Errors
    /// Whatever the storage suffers.
    fn length(&self, id: SessionId) -> Result<OutputLength, OutputError>;
}

/// The one who appends to a session's output. Dropping it lets the next one in.
pub trait OutputWriter: Send + std::fmt::Debug {
    /// Appends some output. Offset and gap of the chunk are not looked at: it goes to the end.
    ///
    /// # Errors
    /// Where it could not be stored. Nothing of it is shown then, and the next chunk that can be stored says that
    /// something is missing before it.
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<Stored, OutputError>;

    /// Something is missing before what is appended next: what is restored from elsewhere had a gap there.
    fn gap(&mut self);

    /// Cuts the output here, as if the limit were reached: what is restored from elsewhere was cut there.
    ///
    /// # Errors
    /// Where that could not be stored.
    fn cut(&mut self, cut: OutputCut) -> Result<(), OutputError>;

    /// How much there is.
    fn length(&self) -> OutputLength;
}

#[cfg(test)]
mod tests;
