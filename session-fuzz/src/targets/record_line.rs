//! Fuzz target for one line of a log, at any position.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use session_core::backend::{Chain, Tip, UnsealedRecord, follows};
use session_core::limits::{LimitError, NESTING, RECORD_BYTES};
use session_core::{Head, SessionId};

use super::{head, is_unsafe};
use crate::{InputOutcome, REPAIR, repair, samples};

/// Checks a line: byte 1 selects a sample, byte 2 the record that the line follows, and the rest is the line.
///
/// A line that passes the check is a single line and safe to display. Its event can be sealed again, to a line that
/// decodes to the same event, and sealing that event again gives the same line.
pub fn record_line(input: &[u8]) -> InputOutcome {
    let ([flags, sample, place], line) = head(input);
    let sample = samples::select(sample);
    let place = usize::from(place) % (sample.records.len() + 1);
    let before = place.checked_sub(1).map(|at| &sample.records[at]);
    let chain = before.map_or(Chain::start(sample.id), |record| Chain::at(sample.id, record.tip()));
    let seed = before
        .map_or(sample.id.as_bytes().to_vec(), |record| record.tip().sum.as_u64().to_be_bytes().to_vec());
    let repaired = (flags & REPAIR != 0).then(|| repair::line(&seed, line)).flatten();
    let line = repaired.as_ref().map_or(line, |(line, _)| line);

    let mut after = chain;
    let Ok(stored) = after.check(line) else {
        assert_eq!(after, chain, "a refused line does not change the chain");
        return InputOutcome::Refused;
    };
    assert_eq!(stored.line().as_bytes(), line);
    assert!(line.len() < RECORD_BYTES && !is_unsafe(stored.line()), "{}", stored.line());
    let sum = repair::sum_of(&seed, &line[..line.len() - 26]);
    assert_eq!((stored.revision(), stored.tip().sum.as_u64()), (place as u64 + 1, sum));
    assert_eq!(after.tip(), Some(stored.tip()));

    let envelope = stored.envelope().ok();
    if let Some(before) = before {
        assert_eq!(
            follows(before.line().as_bytes(), line),
            envelope,
            "the two ways to read the envelope differ"
        );
    }
    let Ok(record) = stored.decode() else { return InputOutcome::Refused };
    assert_eq!(Some(record.envelope), envelope);
    record.event.check().expect("a reader refuses what a writer refuses");
    let Levels(levels) = serde_json::from_str(stored.line()).expect("the line is JSON");
    assert!(levels <= NESTING, "{levels} levels");

    // Seals the event again, as a writer would.
    let unsealed = || UnsealedRecord {
        at: record.envelope.at,
        attempt: record.envelope.attempt,
        flushed: record.envelope.flushed,
        event: record.event.clone(),
    };
    let (again, sealed) = match chain.clone().seal(unsealed()) {
        Ok(sealed) => sealed,
        // A number such as 1e15 gets longer when it is written out.
        Err(LimitError::Exceeded { .. }) if line.len() > RECORD_BYTES / 8 => return InputOutcome::Accepted,
        Err(error) => panic!("the line is valid but cannot be sealed again: {error}"),
    };
    assert_eq!(sealed.event, record.event);
    assert!(!is_unsafe(again.line()));
    let mut check = chain;
    assert_eq!(check.check(again.line().as_bytes()).expect("a sealed line is valid"), again);
    let reread = again.decode().expect("a sealed line can be decoded");
    assert_eq!(reread, sealed);
    let (third, _) = chain.clone().seal(unsealed()).expect("as before");
    assert_eq!(third, again, "a record has only one form");

    // The state machine applies the record or leaves the head unchanged.
    let mut folded = before.map(|_| sample.heads[place - 1].clone());
    let unchanged = folded.clone();
    if Head::fold(&mut folded, sample.id, &record).is_err() {
        assert_eq!(folded, unchanged, "a rejected record changes nothing");
        return InputOutcome::Refused;
    }
    let folded = folded.expect("there is a head after a record");
    assert_eq!((folded.id, folded.tip), (sample.id, stored.tip()));
    assert_eq!(record.envelope.seq, place as u64 + 1);
    assert!(record.envelope.flushed < record.envelope.seq);
    check_head(&folded);
    InputOutcome::Accepted
}

/// The nesting depth of a JSON text. It is determined by the grammar alone, because an unknown member may contain a
/// number that no double can represent.
struct Levels(usize);

impl<'de> Deserialize<'de> for Levels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let inner = match raw.as_bytes().first() {
            Some(b'{') => serde_json::Deserializer::from_str(raw).deserialize_map(Inner),
            Some(b'[') => serde_json::Deserializer::from_str(raw).deserialize_seq(Inner),
            _ => return Ok(Self(0)),
        };
        inner.map(|inner| Self(inner + 1)).map_err(serde::de::Error::custom)
    }
}

/// A visitor that returns the depth of the deepest value in an array or object.
struct Inner;

impl<'de> Visitor<'de> for Inner {
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut deepest = 0;
        while let Some((IgnoredAny, Levels(levels))) = map.next_entry()? {
            deepest = deepest.max(levels);
        }
        Ok(deepest)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut deepest = 0;
        while let Some(Levels(levels)) = seq.next_element()? {
            deepest = deepest.max(levels);
        }
        Ok(deepest)
    }
}

/// Checks that a head is within its size limit and round-trips through JSON.
pub(super) fn check_head(head: &Head) {
    let json = serde_json::to_string(head).expect("a head is JSON");
    assert!(json.len() <= session_core::limits::HEAD_BYTES, "{} bytes: {json}", json.len());
    assert!(!is_unsafe(&json), "{json}");
    let read: Head = serde_json::from_str(&json).expect("a head can be parsed");
    assert_eq!(&read, head);
}

/// Returns the records of the unbroken chain in a log, and the offset of their end, without using a storage.
pub(super) fn chain_of(id: SessionId, log: &[u8]) -> (Vec<session_core::StoredRecord>, usize) {
    let (mut chain, mut records, mut end) = (Chain::start(id), Vec::new(), 0);
    for piece in log.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = piece.strip_suffix(b"\n") else { break };
        let Ok(record) = chain.check(line) else { break };
        end += piece.len();
        records.push(record);
    }
    let tip: Option<Tip> = records.last().map(session_core::StoredRecord::tip);
    assert_eq!(chain.tip(), tip);
    (records, end)
}
