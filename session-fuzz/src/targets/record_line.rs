//! One line of a log, at any place of it.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use session_core::limits::{LimitError, NESTING, RECORD_BYTES};
use session_core::{Chain, Head, SessionId, Tip, UnsealedRecord, follows};

use super::{head, is_unsafe};
use crate::{InputOutcome, REPAIR, repair, samples};

/// Byte 1 chooses a story, byte 2 the record of it that the line comes after.
///
/// A line that opens is one line, shows nothing dangerous, and what it says can be sealed again: to a line that says the
/// same, which sealed once more is itself.
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
        assert_eq!(after, chain, "a line that is refused moves nothing");
        return InputOutcome::Refused;
    };
    assert_eq!(stored.line().as_bytes(), line);
    assert!(line.len() < RECORD_BYTES && !is_unsafe(stored.line()), "{}", stored.line());
    let sum = repair::sum_of(&seed, &line[..line.len() - 26]);
    assert_eq!((stored.revision(), stored.tip().sum.as_u64()), (place as u64 + 1, sum));
    assert_eq!(after.tip(), Some(stored.tip()));

    let envelope = stored.envelope().ok();
    if let Some(before) = before {
        assert_eq!(follows(before.line().as_bytes(), line), envelope, "the two ways to read it differ");
    }
    let Ok(record) = stored.decode() else { return InputOutcome::Refused };
    assert_eq!(Some(record.envelope), envelope);
    record.event.check().expect("what a writer refuses, a reader refuses");
    let Levels(levels) = serde_json::from_str(stored.line()).expect("it is JSON");
    assert!(levels <= NESTING, "{levels} levels");

    // Once more, as a writer would have written it.
    let unsealed = || UnsealedRecord {
        at: record.envelope.at,
        attempt: record.envelope.attempt,
        flushed: record.envelope.flushed,
        event: record.event.clone(),
    };
    let (again, sealed) = match chain.clone().seal(unsealed()) {
        Ok(sealed) => sealed,
        // 1e15 has five times as many digits once it is written out.
        Err(LimitError::Exceeded { .. }) if line.len() > RECORD_BYTES / 8 => return InputOutcome::Accepted,
        Err(error) => panic!("it opens and cannot be sealed: {error}"),
    };
    assert_eq!(sealed.event, record.event);
    assert!(!is_unsafe(again.line()));
    let mut check = chain;
    assert_eq!(check.check(again.line().as_bytes()).expect("what was sealed opens"), again);
    let reread = again.decode().expect("what was sealed can be read");
    assert_eq!(reread, sealed);
    let (third, _) = chain.clone().seal(unsealed()).expect("as before");
    assert_eq!(third, again, "the same record has one form");

    // And the machine takes it or leaves it.
    let mut folded = before.map(|_| sample.heads[place - 1].clone());
    let unchanged = folded.clone();
    if Head::fold(&mut folded, sample.id, &record).is_err() {
        assert_eq!(folded, unchanged, "a record that is rejected changes nothing");
        return InputOutcome::Refused;
    }
    let folded = folded.expect("there is a head after a record");
    assert_eq!((folded.id, folded.tip), (sample.id, stored.tip()));
    assert_eq!(record.envelope.seq, place as u64 + 1);
    assert!(record.envelope.flushed < record.envelope.seq);
    check_head(&folded);
    InputOutcome::Accepted
}

/// How deep a text that is JSON is nested. By the grammar alone: it has no largest number, and a member that nobody knows
/// may well hold one that no double does.
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

/// The deepest of the values in an array or object.
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

/// A head keeps its size, and reads back to itself.
pub(super) fn check_head(head: &Head) {
    let json = serde_json::to_string(head).expect("a head is JSON");
    assert!(json.len() <= session_core::limits::HEAD_BYTES, "{} bytes: {json}", json.len());
    assert!(!is_unsafe(&json), "{json}");
    let read: Head = serde_json::from_str(&json).expect("a head reads back");
    assert_eq!(&read, head);
}

/// The records that lines alone show, without a storage: each follows from the one before.
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
