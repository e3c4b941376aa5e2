//! Logs to damage, and a forger that computes valid sums.

use serde_json::json;
use session_core::backend::{Chain, ChainError, UnsealedRecord};
use session_core::{Owner, ProgressReport, SessionConfig, SessionEvent, SessionId, StoredRecord, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

pub(crate) fn instant(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_795_253_400_000 + i64::try_from(seq).unwrap() * 1_000).unwrap()
}

pub(crate) fn owner() -> Owner {
    serde_json::from_value(json!({
        "instance": "00000000-0000-4000-8000-000000000001",
        "host": "build-7", "machine": "m", "boot": "b", "pid": 4711, "start_time": 7,
    }))
    .unwrap()
}

pub(crate) fn note(data: serde_json::Value) -> SessionEvent {
    SessionEvent::Noted { kind: "test.note".to_owned(), data }
}

pub(crate) fn draft(seq: u64, event: SessionEvent) -> UnsealedRecord {
    UnsealedRecord { at: instant(seq), attempt: u32::from(seq > 1), flushed: seq - 1, event }
}

/// Returns a log of `records` records whose lines all differ.
pub(crate) fn log(id: SessionId, records: u64) -> Vec<StoredRecord> {
    let mut chain = Chain::start(id);
    (1..=records)
        .map(|seq| {
            let event = match seq {
                1 => SessionEvent::Created {
                    format: 1,
                    config: Box::new(SessionConfig::new("work").name("name").label("team", "data")),
                    creator: owner(),
                    origin: None,
                    inherits: 0,
                },
                2 => SessionEvent::Started { owner: owner() },
                _ if seq % 3 == 0 => note(json!({"number": seq, "text": "J\u{9b}\u{202e}ä"})),
                _ => SessionEvent::ProgressReported { report: ProgressReport::new().percent(12.5).step("s") },
            };
            chain.seal(draft(seq, event)).unwrap().0
        })
        .collect()
}

/// Returns a line with a valid sum around any content, as only a writer of the format or a forger creates it.
pub(crate) fn forge(before: &[u8], body: &str) -> String {
    let sum = xxh3_64(&[before, body.as_bytes()].concat());
    format!("{body},\"sum\":\"{sum:016x}\"}}")
}

/// Reads a file of lines: the records of the unbroken chain, and the error that ended it.
pub(crate) fn read(id: SessionId, file: &[u8]) -> (Vec<StoredRecord>, Option<ChainError>) {
    let (mut chain, mut records) = (Chain::start(id), Vec::new());
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let checked = line.strip_suffix(b"\n").ok_or(ChainError::Form).and_then(|line| chain.check(line));
        match checked {
            Ok(record) => records.push(record),
            Err(broken) => return (records, Some(broken)),
        }
    }
    (records, None)
}

pub(crate) fn file<'a>(lines: impl IntoIterator<Item = &'a StoredRecord>) -> Vec<u8> {
    lines.into_iter().flat_map(|record| [record.line().as_bytes(), b"\n"].concat()).collect()
}

/// Returns JSON in the form that a writer puts into a line.
pub(crate) fn escaped(json: &str) -> String {
    json.chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                format!("\\u{:04x}", u32::from(c))
            }
            c => c.to_string(),
        })
        .collect()
}
