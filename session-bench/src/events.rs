//! The events that are appended: what a session that runs commands writes, some 230 bytes each.

use session_core::{
    Chain, Clock as _, Head, Owner, SessionConfig, SessionEvent, SessionId, StoredRecord, SystemClock,
    UnsealedRecord,
};

/// What work appends most.
pub(crate) fn command() -> SessionEvent {
    SessionEvent::CommandExecuted {
        command: "cargo test --workspace --all-features".to_owned(),
        exit_code: Some(0),
        signal: None,
        duration_ms: 83_412,
        output_bytes: 120_332,
    }
}

/// A session whose log grows as one asks.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) head: Head,
    chain: Chain,
}

impl Log {
    /// A running session, with its first two records.
    pub(crate) fn begin(name: &str, owner: &Owner) -> (Self, Vec<StoredRecord>) {
        Self::begin_with(SessionConfig::new("bench").name(name), owner)
    }

    /// As [`begin`](Self::begin), with more than a name.
    pub(crate) fn begin_with(config: SessionConfig, owner: &Owner) -> (Self, Vec<StoredRecord>) {
        let id = SessionId::random();
        let config = config.queued();
        let created = SessionEvent::Created {
            format: session_core::FORMAT,
            config: Box::new(config),
            creator: owner.clone(),
            origin: None,
        };
        let mut chain = Chain::start(id);
        let (first, record) = chain.seal(draft(0, 0, created)).expect("the event has room");
        let head = Head::begin(id, &record).expect("a log begins so");
        let mut log = Self { head, chain };
        let second = log.next(SessionEvent::Started { owner: owner.clone() });
        (log, vec![first, second])
    }

    /// The next record.
    pub(crate) fn next(&mut self, event: SessionEvent) -> StoredRecord {
        let attempt = self.head.lifecycle.attempt_for(event.kind());
        let draft = draft(attempt, self.head.tip.revision, event);
        let (stored, record) = self.chain.seal(draft).expect("the event has room");
        self.head.apply(&record).expect("the event may follow");
        stored
    }
}

fn draft(attempt: u32, flushed: u64, event: SessionEvent) -> UnsealedRecord {
    UnsealedRecord { at: SystemClock.now(), attempt, flushed, event }
}

/// Now, as records say it.
pub(crate) fn now() -> session_core::Timestamp {
    SystemClock.now()
}

/// The bytes that one append adds to a log, line end included.
pub(crate) fn line() -> Vec<u8> {
    let owner = session_core::this_process().expect("a process knows itself");
    let (mut log, _) = Log::begin("bench", &owner);
    let mut line = log.next(command()).line().as_bytes().to_vec();
    line.push(b'\n');
    line
}
