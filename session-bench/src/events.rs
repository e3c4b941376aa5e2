//! The events that the benchmarks append: those of a session that runs commands, about 230 bytes each.

use session_core::backend::{Chain, UnsealedRecord};
use session_core::{
    Clock as _, Head, Owner, SessionConfig, SessionEvent, SessionId, StoredRecord, SystemClock,
};

/// Returns the event that sessions append most often.
pub(crate) fn command() -> SessionEvent {
    SessionEvent::CommandExecuted {
        command: "cargo test --workspace --all-features".to_owned(),
        exit_code: Some(0),
        signal: None,
        duration_ms: 83_412,
        output_bytes: 120_332,
        main: false,
        stop: None,
    }
}

/// The log of a session under construction.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) head: Head,
    chain: Chain,
}

impl Log {
    /// Creates the log of a running session, and returns it with its first two records.
    pub(crate) fn begin(name: &str, owner: &Owner) -> (Self, Vec<StoredRecord>) {
        Self::begin_with(SessionConfig::new("bench").name(name), owner)
    }

    /// Creates a log like [`begin`](Self::begin), with a config.
    pub(crate) fn begin_with(config: SessionConfig, owner: &Owner) -> (Self, Vec<StoredRecord>) {
        let id = SessionId::random();
        let config = config.queued();
        let created = SessionEvent::Created {
            format: session_core::backend::FORMAT,
            config: Box::new(config),
            creator: owner.clone(),
            origin: None,
            inherits: 0,
        };
        let mut chain = Chain::start(id);
        let (first, record) = chain.seal(unsealed(0, 0, created)).expect("the event is within the limits");
        let head = Head::begin(id, &record).expect("the first event is valid");
        let mut log = Self { head, chain };
        let second = log.next(SessionEvent::Started { owner: owner.clone() });
        (log, vec![first, second])
    }

    /// Seals the next record.
    pub(crate) fn next(&mut self, event: SessionEvent) -> StoredRecord {
        let attempt = self.head.lifecycle.attempt_for(event.kind());
        let record = unsealed(attempt, self.head.tip.revision, event);
        let (stored, record) = self.chain.seal(record).expect("the event is within the limits");
        self.head.apply(&record).expect("the event is valid here");
        stored
    }
}

fn unsealed(attempt: u32, flushed: u64, event: SessionEvent) -> UnsealedRecord {
    UnsealedRecord { at: SystemClock.now(), attempt, flushed, event }
}

/// Returns the current time as records store it.
pub(crate) fn now() -> session_core::Timestamp {
    SystemClock.now()
}

/// Returns the bytes that one append adds to a log, with the line feed.
pub(crate) fn line() -> Vec<u8> {
    let owner = session_core::backend::this_process().expect("the identity of this process can be read");
    let (mut log, _) = Log::begin("bench", &owner);
    let mut line = log.next(command()).line().as_bytes().to_vec();
    line.push(b'\n');
    line
}
