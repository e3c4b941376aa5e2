//! Restores output where some of it may already be stored.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use session_core::SessionId;
use session_runner::{Chunk, OutputCut, OutputError, OutputStorage, OutputWriter, Stored};

/// Time to wait for another writer of the same output.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between attempts to become the writer.
const POLL: Duration = Duration::from_millis(20);

/// The output of one session that is being restored. All calls block.
#[derive(Debug)]
pub(super) struct Restore {
    id: SessionId,
    length: u64,
    cut: bool,
    output: Arc<dyn OutputStorage>,
    /// Opened only when something is missing, so that complete output is not touched.
    writer: Option<Box<dyn OutputWriter>>,
}

impl Restore {
    pub(super) fn open(id: SessionId, output: Arc<dyn OutputStorage>) -> Result<Self, OutputError> {
        let there = output.length(id)?;
        Ok(Self { id, length: there.bytes, cut: there.truncated(), output, writer: None })
    }

    /// Becomes the only writer, once, and reads again what others have written in the meantime.
    fn write(&mut self) -> Result<&mut Box<dyn OutputWriter>, OutputError> {
        let Self { id, length, cut, output, writer } = self;
        match writer {
            Some(writer) => Ok(writer),
            none => {
                let deadline = Instant::now() + BUSY_TIMEOUT;
                let alone = loop {
                    match output.writer(*id) {
                        Err(OutputError::Busy { .. }) if Instant::now() < deadline => thread::sleep(POLL),
                        opened => break opened?,
                    }
                };
                let there = output.length(*id)?;
                (*length, *cut) = (there.bytes, there.truncated());
                Ok(none.insert(alone))
            }
        }
    }

    /// Returns how many bytes of a chunk need not be written, because they are stored or beyond the limit.
    fn present_bytes(&self, chunk: &Chunk) -> usize {
        let there = usize::try_from(self.length.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        if self.cut { usize::MAX } else { there }
    }

    /// Stores the part of a chunk that is missing.
    pub(super) fn append(&mut self, mut chunk: Chunk) -> Result<(), OutputError> {
        if self.present_bytes(&chunk) >= chunk.bytes.len() {
            return Ok(());
        }
        self.write()?;
        let there = self.present_bytes(&chunk);
        if there >= chunk.bytes.len() {
            return Ok(());
        }
        chunk.bytes.drain(..there);
        let writer = self.write()?;
        if chunk.after_gap && there == 0 {
            writer.gap();
        }
        let stored = writer.append(chunk.stream, chunk.attempt, chunk.at, &chunk.bytes)?;
        self.length += chunk.bytes.len() as u64;
        self.cut = stored != Stored::Whole;
        Ok(())
    }

    pub(super) fn cut(&mut self, cut: OutputCut) -> Result<(), OutputError> {
        if !self.cut {
            self.write()?;
        }
        if !self.cut {
            self.write()?.cut(cut)?;
            self.cut = true;
        }
        Ok(())
    }
}
