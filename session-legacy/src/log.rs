//! Makes a log of what is known of an old session: seals its events, folds them, and keeps the old record beside them.

use serde_json::{Value, json};
use session_core::{
    Chain, Evidence, FORMAT, Failure, Head, Owner, PauseReason, SessionConfig, SessionEvent, SessionId,
    StoredRecord, Timestamp, UnsealedRecord,
};

use crate::fields::Notes;
use crate::origin::{Origin, boundary};
use crate::store::{LegacyEntry, LegacySession};

/// Bytes of an old record up to which it stands in the metadata, where people see it.
const METADATA_BYTES: usize = 64 * 1024;
/// Bytes of an old record in one note: six times as many if all of them are written as escapes, and still a record.
const PART_BYTES: usize = 128 * 1024;

/// What is known of an old session, in the order in which it happened.
#[derive(Debug)]
pub(crate) struct LogBuilder<'a> {
    pub(crate) origin: Origin,
    pub(crate) config: SessionConfig,
    /// The old record, as it was written.
    pub(crate) raw: &'a str,
    /// The same, as it was read.
    pub(crate) value: &'a Value,
    pub(crate) created: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    /// What happened while it ran, each with its time where that is known.
    pub(crate) steps: Vec<(Option<Timestamp>, SessionEvent)>,
    /// The last that is known of it.
    pub(crate) updated: Option<Timestamp>,
    pub(crate) end: FinalState,
}

/// How it stands with an old session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FinalState {
    /// Its work never began.
    NotStarted,
    /// Its work began, and nobody here knows whether whoever ran it lives. `by` is who counts that one as gone.
    Interrupted { by: String },
    /// It stood still for a reason that it keeps, and nobody here runs it.
    Paused(PauseReason),
    /// Its work was done.
    Completed,
    /// Its work ended badly.
    Failed(Failure),
    /// Its work was ended on request.
    Cancelled(String),
}

/// Who counts the owner of a session as gone that an old store calls running: whoever imports it, without proof.
pub(crate) fn importer(origin: &Origin) -> String {
    format!("the import from {}", origin.format)
}

impl LogBuilder<'_> {
    /// The session, or why none can be made of this.
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
            // Work that ended badly or on request may have done so before it began; all other work began.
            FinalState::Failed(_) | FinalState::Cancelled(_) if !started => {}
            FinalState::Interrupted { .. }
            | FinalState::Paused(_)
            | FinalState::Completed
            | FinalState::Failed(_)
            | FinalState::Cancelled(_) => {
                if self.started.is_none() {
                    notes.push("when it started is not known: it counts from its creation".to_owned());
                }
                writer.append(self.started, SessionEvent::Started { owner })?;
                for (at, event) in std::mem::take(&mut self.steps) {
                    let kind = event.kind();
                    if let Err(error) = writer.append(at, event) {
                        notes.push(format!(
                            "a `{kind}` has no room in a log ({error}); the old record has it"
                        ));
                    }
                }
            }
        }
        if let FinalState::Paused(_) = self.end {
            notes.push("nobody here runs it: it is let go with `interrupted`, without proof".to_owned());
        }
        self.end(&mut writer)?;
        if writer.went_back {
            notes.push(
                "some of its times lie before earlier ones: each counts as that of the one before it".into(),
            );
        }
        writer.head.map(|head| (head, writer.records)).ok_or_else(|| "has no events".to_owned())
    }

    /// When the log begins: the earliest that is known, if its creation is not.
    fn start_time(&self, notes: &mut Notes) -> Timestamp {
        if let Some(created) = self.created {
            return created;
        }
        let steps = self.steps.iter().filter_map(|(at, _)| *at);
        let known = self.started.into_iter().chain(self.updated).chain(steps).min();
        notes.push(match known {
            Some(_) => "when it was created is not known: the earliest time that it has counts".to_owned(),
            None => "it has no times at all: they are 1970-01-01".to_owned(),
        });
        known.or_else(|| Timestamp::from_millis(0)).unwrap_or_else(|| unreachable!("1970 is in the calendar"))
    }

    /// Record 1, with the old record in it; where that has no room, in notes behind it.
    fn create(&self, writer: &mut LogWriter, creator: &Owner, notes: &mut Notes) -> Result<(), String> {
        let created = |record: Option<&Value>| SessionEvent::Created {
            format: FORMAT,
            config: Box::new(self.config.clone().metadata(self.origin.metadata(record))),
            creator: creator.clone(),
            origin: None,
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
            // So that it is as old as it was, and no older.
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

/// A log while it is written. Its times never go back.
struct LogWriter {
    id: SessionId,
    chain: Chain,
    head: Option<Head>,
    records: Vec<StoredRecord>,
    at: Timestamp,
    went_back: bool,
}

impl LogWriter {
    fn new(origin: &Origin, at: Timestamp) -> Self {
        Self {
            id: origin.id,
            chain: Chain::start(origin.id),
            head: None,
            records: Vec::new(),
            at,
            went_back: false,
        }
    }

    /// Adds an event; without a time of its own it has that of the one before it.
    fn append(&mut self, at: Option<Timestamp>, event: SessionEvent) -> Result<(), String> {
        let attempt = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let now = at.unwrap_or(self.at).max(self.at);
        let draft = UnsealedRecord { at: now, attempt, flushed: 0, event };
        let mut chain = self.chain;
        let (stored, record) = chain.seal(draft).map_err(|error| error.to_string())?;
        Head::fold(&mut self.head, self.id, &record).map_err(|rejected| rejected.to_string())?;
        self.chain = chain;
        self.went_back |= at.is_some_and(|at| at < self.at);
        self.at = now;
        self.records.push(stored);
        Ok(())
    }
}

/// A text in parts of about the same size.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(boundary(rest, PART_BYTES));
        parts.push(part);
        rest = behind;
    }
    parts
}
