//! Puts output where some of it may be already.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use session_core::SessionId;
use session_runner::{Chunk, OutputCut, OutputError, OutputStorage, OutputWriter, Stored};

/// How long another one that restores the same output is waited for, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The output of one session, as far as it is there. All calls block.
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

    /// Begins to write, unless that was done: alone from here on, and behind what others have written meanwhile.
    fn write(&mut self) -> Result<&mut Box<dyn OutputWriter>, OutputError> {
        let Self { id, length, cut, output, writer } = self;
        match writer {
            Some(writer) => Ok(writer),
            none => {
                let deadline = Instant::now() + PATIENCE;
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

    /// How much of a chunk is there, or has no room.
    fn known(&self, chunk: &Chunk) -> usize {
        let there = usize::try_from(self.length.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        if self.cut { usize::MAX } else { there }
    }

    /// Stores what of a chunk is not there yet.
    pub(super) fn append(&mut self, mut chunk: Chunk) -> Result<(), OutputError> {
        if self.known(&chunk) >= chunk.bytes.len() {
            return Ok(());
        }
        self.write()?;
        let there = self.known(&chunk);
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
