//! Follows stored output, chunk by chunk.

use std::collections::VecDeque;
use std::sync::Arc;

use session_core::SessionId;
use session_core::backend::blocking;
use tokio::sync::watch;

use super::storage::{Chunk, OutputError, OutputPage, OutputStorage};

/// Bytes of one read.
const WINDOW: usize = 64 * 1024;

/// A reader that follows the output of a running program. It reads from the store, so a slow reader neither delays the
/// program nor loses output, up to the limit of what is stored.
#[derive(Debug)]
pub struct OutputFollower {
    output: Arc<dyn OutputStorage>,
    id: SessionId,
    next: u64,
    chunks: VecDeque<Chunk>,
    stored: watch::Receiver<u64>,
}

impl OutputFollower {
    pub(crate) fn new(
        output: Arc<dyn OutputStorage>,
        id: SessionId,
        from: u64,
        stored: watch::Receiver<u64>,
    ) -> Self {
        Self { output, id, next: from, chunks: VecDeque::new(), stored }
    }

    /// Returns the next chunk; `None` once the program has ended and all output was returned. Dropping the future is
    /// harmless.
    ///
    /// # Errors
    /// Those of [`OutputStorage::read`].
    ///
    /// # Panics
    /// If the storage panics.
    pub async fn next(&mut self) -> Result<Option<Chunk>, OutputError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                self.next = chunk.end();
                return Ok(Some(chunk));
            }
            // Before the read: output that arrives after it shows as a change.
            let ended = self.stored.has_changed().is_err();
            self.stored.mark_unchanged();
            let page = self.read().await?;
            if page.chunks.is_empty() {
                if ended {
                    return Ok(None);
                }
                // An error is the end of the program: read once more.
                let _ = self.stored.changed().await;
            }
            self.chunks = page.chunks.into();
        }
    }

    async fn read(&self) -> Result<OutputPage, OutputError> {
        let (output, id, next) = (Arc::clone(&self.output), self.id, self.next);
        blocking(move || output.read(id, next, WINDOW)).await
    }
}
