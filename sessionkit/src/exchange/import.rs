//! Takes sessions from the stream, which is read twice: once to see that all of it is right, and once more to store it.

use std::collections::HashMap;

use session_core::{Imported, SessionId, SessionStorageExt as _, StorageError, Tip};
use session_runner::OutputError;

use super::parse::{Item, Parser};
use super::restore::Restore;
use super::{ExchangeError, blocking};
use crate::store::Store;

/// The first reading: says whether the stream is what an export wrote. Nothing is stored.
#[derive(Debug, Default)]
pub struct ImportCheck {
    parser: Parser,
    found: Vec<(SessionId, Tip)>,
}

/// A stream that was found to be right.
#[derive(Debug)]
pub struct ImportPlan {
    found: Vec<(SessionId, Tip)>,
}

/// The second reading, which stores each session when its last line has come: all of its log, or nothing of it.
#[derive(Debug)]
pub struct Import {
    store: Store,
    parser: Parser,
    log: Vec<Vec<u8>>,
    session: Option<SessionId>,
    output: Option<Restore>,
    report: ImportReport,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Sessions that were not there before.
    pub imported: Vec<SessionId>,
    /// Sessions that were there already, with the same log.
    pub skipped: Vec<SessionId>,
}

impl ImportCheck {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next line, its line end included.
    ///
    /// # Errors
    /// What is wrong with it: nothing of this stream should be stored.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ExchangeError> {
        if let Item::End(id, tip) = self.parser.line(line)? {
            self.found.push((id, tip));
        }
        Ok(())
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// Where it ends too early.
    pub fn finish(self) -> Result<ImportPlan, ExchangeError> {
        self.parser.finish()?;
        Ok(ImportPlan { found: self.found })
    }
}

impl Store {
    /// Begins to store a stream that was found to be right. Where it was cut off, it can be done again: what is there
    /// already is skipped.
    ///
    /// # Errors
    /// [`ExchangeError::Exists`] where a session is there with another log; nothing is stored then.
    pub async fn import(&self, plan: ImportPlan) -> Result<Import, ExchangeError> {
        let mut seen = HashMap::new();
        for (id, tip) in plan.found {
            let known = match self.storage().head(id).await {
                Ok(head) => head.map(|head| head.tip),
                Err(StorageError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if known.is_some_and(|known| known != tip)
                || seen.insert(id, tip).is_some_and(|other| other != tip)
            {
                return Err(ExchangeError::Exists { id });
            }
        }
        Ok(Import {
            store: self.clone(),
            parser: Parser::default(),
            log: Vec::new(),
            session: None,
            output: None,
            report: ImportReport::default(),
        })
    }
}

impl Import {
    /// The next line, its line end included.
    ///
    /// # Errors
    /// What is wrong with it, after all; what the store suffers.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), ExchangeError> {
        match self.parser.line(line)? {
            Item::Frame => {}
            Item::Session(id) => {
                self.log.clear();
                self.session = Some(id);
            }
            Item::Record => self.log.push(line.strip_suffix(b"\n").unwrap_or(line).to_vec()),
            Item::Output(chunk) => {
                self.store_log().await?;
                self.restore(|restore| restore.append(chunk)).await?;
            }
            Item::Cut(cut) => {
                self.store_log().await?;
                self.restore(move |restore| restore.cut(cut)).await?;
            }
            Item::End(..) => {
                self.store_log().await?;
                self.output = None;
            }
        }
        Ok(())
    }

    /// What was done, so far or in all.
    #[must_use]
    pub fn finish(self) -> ImportReport {
        self.report
    }

    /// Stores the session's log, once all of its lines have come, and opens its output.
    async fn store_log(&mut self) -> Result<(), ExchangeError> {
        let Some(id) = self.session.take() else { return Ok(()) };
        let log = std::mem::take(&mut self.log);
        match self.store.storage().import(id, &log).await {
            Ok(Imported::New(_)) => self.report.imported.push(id),
            Ok(Imported::AlreadyThere(_) | _) => self.report.skipped.push(id),
            Err(StorageError::Conflict { .. }) => return Err(ExchangeError::Exists { id }),
            Err(error) => return Err(error.into()),
        }
        self.output = match self.store.output() {
            Some(output) => Some(blocking(move || Restore::open(id, output)).await?),
            // A store that keeps no output keeps the log.
            None => None,
        };
        Ok(())
    }

    async fn restore(
        &mut self,
        step: impl FnOnce(&mut Restore) -> Result<(), OutputError> + Send + 'static,
    ) -> Result<(), ExchangeError> {
        if let Some(mut restore) = self.output.take() {
            let (restore, done) = blocking(move || {
                let done = step(&mut restore);
                (restore, done)
            })
            .await;
            self.output = Some(restore);
            done?;
        }
        Ok(())
    }
}
