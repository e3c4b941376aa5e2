//! The hook for applications that write to the same place as the output that is forwarded.

use super::storage::OutputStream;

/// Lets the application interleave its own terminal output (such as a progress bar or a log) with the child's. Without
/// it the two would mix in the middle of a line.
pub trait OutputInterceptor: Send + Sync + std::fmt::Debug {
    /// Forwards a piece of output: calls `write` with these bytes, and before and after them with the bytes that the
    /// application itself writes there.
    ///
    /// Called on a thread of its own for each stream, so concurrently for several. `write` blocks while the destination is
    /// not read, and the program waits meanwhile once its pipe is full. `write` reports no errors: bytes that could not
    /// be written are dropped.
    fn pass_on(&self, stream: OutputStream, bytes: &[u8], write: &mut dyn FnMut(&[u8]));
}
