//! Restores output where some of it may already be stored.

use std::sync::Arc;
use std::time::Duration;

use session_core::SessionId;
use session_runner::{
    Chunk, OutputCut, OutputError, OutputLimits, OutputStorage, OutputStorageExt as _, OutputWriter,
};

/// Time to wait for another writer of the same output.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

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
        Ok(Self { id, length: there.bytes, cut: there.cut.is_some(), output, writer: None })
    }

    /// Becomes the only writer, once, and reads again what others have written in the meantime.
    fn write(&mut self) -> Result<&mut Box<dyn OutputWriter>, OutputError> {
        let Self { id, length, cut, output, writer } = self;
        match writer {
            Some(writer) => Ok(writer),
            none => {
                let alone = output.writer_within(*id, OutputLimits::RESTORE, BUSY_TIMEOUT)?;
                let there = output.length(*id)?;
                (*length, *cut) = (there.bytes, there.cut.is_some());
                Ok(none.insert(alone))
            }
        }
    }

    /// Stores the part of a chunk that is missing.
    pub(super) fn append(&mut self, mut chunk: Chunk) -> Result<(), OutputError> {
        if chunk.end() <= self.length {
            return Ok(());
        }
        self.write()?;
        chunk.skip_to(self.length);
        if !chunk.bytes.is_empty() {
            self.write()?.restore(&chunk)?;
            self.length = chunk.end();
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, cut: OutputCut) -> Result<(), OutputError> {
        if !self.cut {
            self.write()?;
        }
        if !self.cut {
            self.write()?.restore_cut(cut)?;
            self.cut = true;
        }
        Ok(())
    }
}
