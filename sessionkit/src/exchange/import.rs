//! Import of sessions from an export stream. The stream is read twice: once to check it, and once to store it.

use std::collections::HashMap;

use session_core::backend::{CheckedLog, Imported, SessionStorageExt as _, Tip, blocking};
use session_core::{SessionId, StorageError};
use session_runner::OutputError;

use super::ExchangeError;
use super::parse::{Item, Parser};
use super::restore::Restore;
use crate::store::Store;

/// Bytes of lines that are added to a log at a time.
const PENDING_BYTES: usize = 256 * 1024;

/// The first pass over a stream: checks that it is a complete, undamaged export. Stores nothing.
#[derive(Debug, Default)]
pub struct ImportCheck {
    parser: Parser,
    found: Vec<(SessionId, Tip)>,
}

/// The sessions of a stream that passed the check.
#[derive(Debug)]
pub struct ImportPlan {
    found: Vec<(SessionId, Tip)>,
}

/// The second pass over a stream: stores each session's log completely, or not at all. A long log waits in a temporary
/// file until it is complete: the memory that an import takes does not grow with the sessions.
#[derive(Debug)]
pub struct Import {
    store: Store,
    parser: Parser,
    log: Option<CheckedLog>,
    /// Lines of the log that were not added to it yet.
    pending: Vec<Vec<u8>>,
    pending_bytes: usize,
    output: Option<Restore>,
    report: ImportReport,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Sessions that were new.
    pub imported: Vec<SessionId>,
    /// Sessions that already existed with the same log.
    pub skipped: Vec<SessionId>,
}

impl ImportCheck {
    /// Starts a check.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks the next line, which includes its line feed.
    ///
    /// # Errors
    /// [`ExchangeError::Damaged`] or [`ExchangeError::Newer`]: do not import this stream.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ExchangeError> {
        if let Item::End(id, tip) = self.parser.line(line)? {
            self.found.push((id, tip));
        }
        Ok(())
    }

    /// Checks that the stream is complete.
    ///
    /// # Errors
    /// [`ExchangeError::Damaged`] if it ends too early.
    pub fn finish(self) -> Result<ImportPlan, ExchangeError> {
        self.parser.finish()?;
        Ok(ImportPlan { found: self.found })
    }
}

impl Store {
    /// Starts storing a stream that passed the check. An interrupted import can be repeated: sessions that already
    /// exist are skipped.
    ///
    /// # Errors
    /// [`ExchangeError::Exists`] if a session already exists with a different log; nothing is stored then.
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
            log: None,
            pending: Vec::new(),
            pending_bytes: 0,
            output: None,
            report: ImportReport::default(),
        })
    }
}

impl Import {
    /// Stores the next line, which includes its line feed.
    ///
    /// # Errors
    /// Errors of the store; [`ExchangeError::Damaged`] if the stream changed since the check.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), ExchangeError> {
        match self.parser.line(line)? {
            Item::Frame => {}
            Item::Session(id) => self.log = Some(CheckedLog::new(id)),
            Item::Record => {
                self.pending_bytes += line.len();
                self.pending.push(line.strip_suffix(b"\n").unwrap_or(line).to_vec());
                if self.pending_bytes >= PENDING_BYTES {
                    self.add_pending().await?;
                }
            }
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

    /// Returns the result so far.
    #[must_use]
    pub fn finish(self) -> ImportReport {
        self.report
    }

    /// Stores the session's log, after all of its lines have been read, and opens its output.
    async fn store_log(&mut self) -> Result<(), ExchangeError> {
        self.add_pending().await?;
        let Some(log) = self.log.take() else { return Ok(()) };
        let id = log.id();
        match self.store.storage().import_log(log).await {
            Ok(Imported::New(_)) => self.report.imported.push(id),
            Ok(Imported::AlreadyThere(_) | _) => self.report.skipped.push(id),
            Err(StorageError::Conflict { .. }) => return Err(ExchangeError::Exists { id }),
            Err(error) => return Err(error.into()),
        }
        self.output = match self.store.output() {
            Some(output) => Some(blocking(move || Restore::open(id, output)).await?),
            // A store without output storage still stores the log.
            None => None,
        };
        Ok(())
    }

    /// Adds the pending lines to the log, which may write them to a temporary file.
    async fn add_pending(&mut self) -> Result<(), ExchangeError> {
        let Some(mut log) = self.log.take() else { return Ok(()) };
        let lines = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let add = move || lines.iter().try_for_each(|line| log.add(line)).map(|()| log);
        self.log = Some(blocking(add).await?);
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
