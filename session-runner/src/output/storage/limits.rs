//! The bounds of what is kept of a session's output.

use super::OutputStream;

const MIB: u64 = 1024 * 1024;

/// The least that is kept of the end of a stream.
const MIN_LAST: u64 = 64 * 1024;

/// The bounds of what is kept of a session's output: of each stream the first bytes of the session, the first bytes of
/// each attempt, and the last bytes over all attempts.
///
/// ```
/// use session_runner::{OutputLimits, OutputStream};
///
/// let limits = OutputLimits::default().with_last(256 * 1024 * 1024);
/// assert_eq!(limits.last(OutputStream::Stdout), 256 << 20);
/// assert_eq!(limits.last(OutputStream::Terminal), 256 << 20);
/// assert_eq!(limits.last(OutputStream::Stderr), 8 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    first: u64,
    first_of_attempt: u64,
    /// Of standard output, and of the terminal.
    last_of_stdout: u64,
    last_of_stderr: u64,
}

impl OutputLimits {
    /// The limits of output that is restored: it was bounded where it was printed, so nothing is removed.
    pub const RESTORE: Self = Self { last_of_stdout: u64::MAX, last_of_stderr: u64::MAX, ..Self::DEFAULT };

    const DEFAULT: Self =
        Self { first: 8 * MIB, first_of_attempt: MIB, last_of_stdout: 64 * MIB, last_of_stderr: 8 * MIB };

    /// Sets how many bytes of the end of standard output, and of the terminal, are kept, at least 64 KiB; by default
    /// 64 MiB. Standard error keeps its own 8 MiB.
    #[must_use]
    pub const fn with_last(mut self, bytes: u64) -> Self {
        self.last_of_stdout = if bytes < MIN_LAST { MIN_LAST } else { bytes };
        self
    }

    /// Returns how many bytes are kept of the start of each stream: 8 MiB.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Returns how many bytes are kept of the start of each attempt, of each stream: 1 MiB.
    #[must_use]
    pub const fn first_of_attempt(&self) -> u64 {
        self.first_of_attempt
    }

    /// Returns how many bytes are kept of the end of a stream.
    #[must_use]
    pub const fn last(&self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout | OutputStream::Terminal => self.last_of_stdout,
            OutputStream::Stderr => self.last_of_stderr,
        }
    }

    /// Sets small limits, so that tests reach them.
    #[cfg(test)]
    pub(crate) const fn small(first: u64, first_of_attempt: u64, last: u64) -> Self {
        Self { first, first_of_attempt, last_of_stdout: last, last_of_stderr: last }
    }
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
