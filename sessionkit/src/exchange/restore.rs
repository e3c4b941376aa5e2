//! Puts output where some of it may be already.

use std::sync::Arc;

use session_core::SessionId;
use session_runner::{Chunk, OutputCut, OutputError, OutputStorage, OutputWriter, Stored};

/// The output of one session, as far as it is there.
#[derive(Debug)]
pub(super) struct Restore {
    id: SessionId,
    length: u64,
    cut: bool,
    output: Arc<dyn OutputStorage>,
    /// Opened when something is missing, and not before: what is complete is not touched.
    writer: Option<Box<dyn OutputWriter>>,
}

impl Restore {
    pub(super) fn open(id: SessionId, output: Arc<dyn OutputStorage>) -> Result<Self, OutputError> {
        let there = output.length(id)?;
        Ok(Self { id, length: there.bytes, cut: there.truncated(), output, writer: None })
    }

    fn writer(&mut self) -> Result<&mut Box<dyn OutputWriter>, OutputError> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => Ok(none.insert(self.output.writer(self.id)?)),
        }
    }

    /// Stores what of a chunk is not there yet.
    pub(super) fn append(&mut self, mut chunk: Chunk) -> Result<(), OutputError> {
        let there = usize::try_from(self.length.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        if self.cut || there >= chunk.bytes.len() {
            return Ok(());
        }
        chunk.bytes.drain(..there);
        let writer = self.writer()?;
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
            self.writer()?.cut(cut)?;
            self.cut = true;
        }
        Ok(())
    }
}
