//! Builds the log of an old session: seals its events, folds them, and keeps the old record with them.

use serde_json::{Value, json};
use session_core::backend::{Chain, FORMAT, UnsealedRecord};
use session_core::{
    Evidence, Failure, Head, Owner, PauseReason, SessionConfig, SessionEvent, SessionId, StoredRecord,
    Timestamp,
};

use crate::fields::Notes;
use crate::origin::{Origin, boundary};
use crate::store::{LegacyEntry, LegacySession};

/// Maximum bytes of an old record in the metadata, where people see it.
const METADATA_BYTES: usize = 64 * 1024;
/// Bytes of an old record in one note. Even six times as many, if all are escaped, fit into a record.
const PART_BYTES: usize = 128 * 1024;

/// The known facts about an old session, from which its log is built.
#[derive(Debug)]
pub(crate) struct LogBuilder<'a> {
    pub(crate) origin: Origin,
    pub(crate) config: SessionConfig,
    /// The text of the old record.
    pub(crate) raw: &'a str,
    /// The parsed old record.
    pub(crate) value: &'a Value,
    pub(crate) created: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    /// Events while it ran, each with its time if that is known.
    pub(crate) steps: Vec<(Option<Timestamp>, SessionEvent)>,
    /// The time of its last known activity.
    pub(crate) updated: Option<Timestamp>,
    pub(crate) end: FinalState,
}

/// The final state of an imported session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FinalState {
    /// It never started.
    NotStarted,
    /// It started, and it is unknown if its process is alive. `by` names who declared its owner dead.
    Interrupted { by: String },
    /// It was paused for this reason, and no process here runs it.
    Paused(PauseReason),
    /// It completed.
    Completed,
    /// It failed.
    Failed(Failure),
    /// It was cancelled on request.
    Cancelled(String),
}

/// Returns the name under which the import declares the owner of a running session dead, without proof.
pub(crate) fn importer(origin: &Origin) -> String {
    format!("the import from {}", origin.format)
}

impl LogBuilder<'_> {
    /// Builds the session; an unreadable entry with the reason if that is impossible.
    pub(crate) fn build(mut self, mut notes: Notes) -> LegacyEntry {
        let source = self.origin.source.clone();
        match self.write(&mut notes) {
            Ok((head, records)) => LegacyEntry::Session(Box::new(LegacySession {
                source,
                legacy_id: self.origin.legacy_id,
                head,
                records,
                notes,
            })),
            Err(reason) => LegacyEntry::unreadable(source, reason),
        }
    }

    fn write(&mut self, notes: &mut Notes) -> Result<(Head, Vec<StoredRecord>), String> {
        let owner = self.origin.owner();
        let mut writer = LogWriter::new(&self.origin, self.start_time(notes));
        self.create(&mut writer, &owner, notes)?;
        let started = self.started.is_some() || !self.steps.is_empty();
        match &self.end {
            FinalState::NotStarted => {}
            // A session may have failed or been cancelled before it started; all others started.
            FinalState::Failed(_) | FinalState::Cancelled(_) if !started => {}
            FinalState::Interrupted { .. }
            | FinalState::Paused(_)
            | FinalState::Completed
            | FinalState::Failed(_)
            | FinalState::Cancelled(_) => {
                if self.started.is_none() {
                    notes.push("its start time is not known: the time of its creation is used".to_owned());
                }
                writer.append(self.started, SessionEvent::Started { owner })?;
                for (at, event) in std::mem::take(&mut self.steps) {
                    let kind = event.kind();
                    if let Err(error) = writer.append(at, event) {
                        notes.push(format!(
                            "a `{kind}` does not fit into a log ({error}); it is only in the old record"
                        ));
                    }
                }
            }
        }
        if let FinalState::Paused(_) = self.end {
            notes.push(
                "no process here runs it: its owner is released by `interrupted`, without proof".to_owned(),
            );
        }
        self.end(&mut writer)?;
        if writer.has_decreasing_times {
            notes.push(
                "some of its times are before earlier ones: each is replaced by the time before it".into(),
            );
        }
        writer.head.map(|head| (head, writer.records)).ok_or_else(|| "has no events".to_owned())
    }

    /// Returns the time at which the log begins: the earliest known one, if its creation is not known.
    fn start_time(&self, notes: &mut Notes) -> Timestamp {
        if let Some(created) = self.created {
            return created;
        }
        let steps = self.steps.iter().filter_map(|(at, _)| *at);
        let known = self.started.into_iter().chain(self.updated).chain(steps).min();
        notes.push(match known {
            Some(_) => "its creation time is not known: its earliest time is used".to_owned(),
            None => "it has no times: 1970-01-01 is used".to_owned(),
        });
        known.or_else(|| Timestamp::from_millis(0)).unwrap_or_else(|| unreachable!("1970 is in the calendar"))
    }

    /// Appends record 1 with the old record in it; if that does not fit, in notes after it.
    fn create(&self, writer: &mut LogWriter, creator: &Owner, notes: &mut Notes) -> Result<(), String> {
        let created = |record: Option<&Value>| SessionEvent::Created {
            format: FORMAT,
            config: Box::new(self.config.clone().metadata(self.origin.metadata(record))),
            creator: creator.clone(),
            origin: None,
            inherits: 0,
        };
        if self.raw.len() <= METADATA_BYTES && writer.append(None, created(Some(self.value))).is_ok() {
            return Ok(());
        }
        writer.append(None, created(None))?;
        let parts = parts(self.raw);
        notes.push(
            "its old record is too large or too deep for metadata: it is in `session.imported` notes".into(),
        );
        for (at, text) in parts.iter().enumerate() {
            let data = json!({ "format": self.origin.format.name(), "part": at + 1, "of": parts.len(), "text": text });
            writer.append(None, SessionEvent::Noted { kind: "session.imported".to_owned(), data })?;
        }
        Ok(())
    }

    fn end(&self, writer: &mut LogWriter) -> Result<(), String> {
        let at = self.updated;
        let interrupted = |by: String| SessionEvent::Interrupted { evidence: Evidence::Forced { by } };
        match &self.end {
            // Preserves the time of its last activity.
            FinalState::NotStarted => match at.filter(|at| *at > writer.at) {
                Some(_) => {
                    let data = json!({ "format": self.origin.format.name(), "last_activity": at });
                    writer.append(at, SessionEvent::Noted { kind: "session.imported".to_owned(), data })
                }
                None => Ok(()),
            },
            FinalState::Interrupted { by } => writer.append(at, interrupted(by.clone())),
            FinalState::Paused(reason) => {
                writer.append(at, SessionEvent::Paused { reason: reason.clone() })?;
                writer.append(at, interrupted(importer(&self.origin)))
            }
            FinalState::Completed => {
                let now = at.unwrap_or(writer.at).max(writer.at);
                let summary = writer.head.as_ref().map(|head| head.summary(now)).unwrap_or_default();
                writer.append(at, SessionEvent::Completed { summary })
            }
            FinalState::Failed(error) => writer.append(at, SessionEvent::Failed { error: error.clone() }),
            FinalState::Cancelled(reason) => {
                writer.append(at, SessionEvent::Cancelled { reason: reason.clone() })
            }
        }
    }
}

/// A log under construction. Its times never decrease.
struct LogWriter {
    id: SessionId,
    chain: Chain,
    head: Option<Head>,
    records: Vec<StoredRecord>,
    at: Timestamp,
    has_decreasing_times: bool,
}

impl LogWriter {
    fn new(origin: &Origin, at: Timestamp) -> Self {
        Self {
            id: origin.id,
            chain: Chain::start(origin.id),
            head: None,
            records: Vec::new(),
            at,
            has_decreasing_times: false,
        }
    }

    /// Appends an event. Without a time of its own it gets the time of the event before it.
    fn append(&mut self, at: Option<Timestamp>, event: SessionEvent) -> Result<(), String> {
        let attempt = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let now = at.unwrap_or(self.at).max(self.at);
        let unsealed = UnsealedRecord { at: now, attempt, flushed: 0, event };
        let mut chain = self.chain;
        let (stored, record) = chain.seal(unsealed).map_err(|error| error.to_string())?;
        Head::fold(&mut self.head, self.id, &record).map_err(|error| error.to_string())?;
        self.chain = chain;
        self.has_decreasing_times |= at.is_some_and(|at| at < self.at);
        self.at = now;
        self.records.push(stored);
        Ok(())
    }
}

/// Splits a text into parts of at most `PART_BYTES` bytes.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, remaining) = rest.split_at(boundary(rest, PART_BYTES));
        parts.push(part);
        rest = remaining;
    }
    parts
}
