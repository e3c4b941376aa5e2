//! A log in memory with the head that its writer holds, as in a manager.

use session_core::backend::{Chain, Lifecycle, UnsealedRecord};
use session_core::{EventKind, Head, Record, SessionEvent, SessionId, TransitionError};

use crate::oracle::instant;

/// A session's log as lines, with its writer's head.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) id: SessionId,
    pub(crate) lines: Vec<String>,
    pub(crate) records: Vec<Record>,
    pub(crate) head: Option<Head>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            id: SessionId::from_bytes(*b"0123456789abcdef"),
            lines: Vec::new(),
            records: Vec::new(),
            head: None,
        }
    }

    /// Appends an event with the current attempt.
    ///
    /// # Panics
    /// If the machine refuses it.
    pub(crate) fn push(&mut self, event: SessionEvent) -> &mut Self {
        self.offer(event).unwrap_or_else(|rejected| panic!("refused: {rejected}"));
        self
    }

    /// Offers an event with the current attempt.
    pub(crate) fn offer(&mut self, event: SessionEvent) -> Result<(), TransitionError> {
        let attempt = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        self.offer_as(event, attempt)
    }

    /// Offers an event with a given attempt. A refused event changes nothing.
    pub(crate) fn offer_as(&mut self, event: SessionEvent, attempt: u32) -> Result<(), TransitionError> {
        let at = instant(self.revision() + 1);
        self.offer_at(event, attempt, at)
    }

    pub(crate) fn offer_at(
        &mut self,
        event: SessionEvent,
        attempt: u32,
        at: session_core::Timestamp,
    ) -> Result<(), TransitionError> {
        let mut chain = self.chain();
        let flushed = self.revision();
        let (stored, record) = chain.seal(UnsealedRecord { at, attempt, flushed, event }).expect("it fits");
        let mut head = self.head.clone();
        let folded = Head::fold(&mut head, self.id, &record);
        if folded.is_err() {
            assert_eq!(head, self.head, "a refused record changed the head");
            return folded;
        }
        self.lines.push(stored.line().to_owned());
        self.records.push(record);
        self.head = head;
        Ok(())
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lines.len() as u64
    }

    pub(crate) fn head(&self) -> &Head {
        self.head.as_ref().expect("it was created")
    }

    pub(crate) fn life(&self) -> Option<&Lifecycle> {
        self.head.as_ref().map(|head| &head.lifecycle)
    }

    pub(crate) fn allows(&self, kind: EventKind) -> bool {
        Lifecycle::allowed(self.life()).contains(&kind)
    }

    fn chain(&self) -> Chain {
        self.head.as_ref().map_or(Chain::start(self.id), |head| Chain::at(self.id, head.tip))
    }

    /// Reads the records from the lines alone, and asserts that they are what was written.
    pub(crate) fn read(&self) -> Vec<Record> {
        let mut chain = Chain::start(self.id);
        let read: Vec<Record> = self
            .lines
            .iter()
            .map(|line| chain.check(line.as_bytes()).expect("the chain holds").decode().expect("it reads"))
            .collect();
        for (read, written) in read.iter().zip(&self.records) {
            assert_eq!(read, written, "revision {} reads back as another record", written.envelope.seq);
        }
        assert_eq!(read.len(), self.records.len());
        read
    }
}
