//! The condition of every cut of a log under every mark.

use serde_json::json;
use session_core::backend::{FORMAT, UnsealedRecord};
use session_core::{Owner, SessionConfig, SessionEvent, Timestamp, limits::RECORD_BYTES};

use super::*;
use crate::slots::Mark;

const BOOT: &str = "this boot";

struct Log {
    id: SessionId,
    bytes: Vec<u8>,
    /// The tip, end offset and head of each record.
    places: Vec<(Tip, u64, Head)>,
}

/// Creates a log of six records. Each claims that all but the two records before it are flushed.
fn log(id: SessionId) -> Log {
    let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let config = Box::new(SessionConfig::new("test"));
    let mut events = vec![
        SessionEvent::Created { format: FORMAT, config, creator: owner.clone(), origin: None, inherits: 0 },
        SessionEvent::Started { owner },
    ];
    events.extend((0..4).map(|n| SessionEvent::Noted { kind: "test.note".into(), data: json!(n) }));
    let (mut chain, mut head) = (Chain::start(id), None);
    let mut log = Log { id, bytes: Vec::new(), places: Vec::new() };
    for (n, event) in (0u64..).zip(events) {
        let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
        let draft = UnsealedRecord { at, attempt: u32::from(n > 0), flushed: n.saturating_sub(2), event };
        let (stored, record) = chain.seal(draft).unwrap();
        Head::fold(&mut head, id, &record).unwrap();
        log.bytes.extend_from_slice(stored.line().as_bytes());
        log.bytes.push(b'\n');
        log.places.push((stored.tip(), log.bytes.len() as u64, head.clone().unwrap()));
    }
    log
}

impl Log {
    /// Returns the end of the line of the n-th record, counted from 0.
    fn end_of(&self, n: usize) -> usize {
        usize::try_from(self.places[n].1).unwrap()
    }

    /// Returns slots with a mark after `flushed` records and a head after `seen` records.
    fn slots(&self, flushed: usize, seen: usize, boot: &str) -> Slots {
        let mark = flushed.checked_sub(1).map(|n| Mark { tip: self.places[n].0, length: self.places[n].1 });
        let head = seen.checked_sub(1).map(|n| self.places[n].clone());
        let length = head.as_ref().map_or(0, |(_, length, _)| *length);
        let boot = boot.to_owned().into();
        let head = head.map(|(.., head)| std::borrow::Cow::Owned(head));
        Slots { newest: Some(Slot { boot, head, ..Slot::new(1, "", mark, length, None) }), older: None }
    }

    fn assess(&self, bytes: &[u8], slots: &Slots) -> Assessment {
        let trusting = assess(self.id, bytes, slots, BOOT, CachedHead::Use).unwrap();
        let full = assess(self.id, bytes, slots, BOOT, CachedHead::Ignore).unwrap();
        assert_eq!(trusting.condition(), full.condition());
        assert_eq!((trusting.tip, trusting.end, &trusting.head), (full.tip, full.end, &full.head));
        full
    }
}

#[test]
fn every_cut_and_mark_has_the_expected_condition() {
    let log = log(SessionId::random());
    for cut in 0..=log.bytes.len() {
        let readable = log.places.iter().filter(|(_, end, _)| *end <= cut as u64).count();
        let at_a_line_end = cut == 0 || log.bytes[cut - 1] == b'\n';
        // Every mark at the ends of lines; within a line, the marks on both sides of the readable records.
        let near = log.places.iter().any(|(_, end, _)| end.abs_diff(cut as u64) <= 1);
        let marks = if near { 0..=log.places.len() } else { readable..=(readable + 1).min(log.places.len()) };
        for flushed in marks.clone() {
            for seen in flushed..=*marks.end() {
                for boot in [BOOT, "an earlier boot"] {
                    let found = log.assess(&log.bytes[..cut], &log.slots(flushed, seen, boot));
                    let expected = match () {
                        () if readable == 0 || readable < flushed => Condition::Corrupt,
                        () if readable < seen && boot == BOOT => Condition::Degraded,
                        () if at_a_line_end => Condition::Healthy,
                        () => Condition::Torn,
                    };
                    let case = format!("cut at {cut}, {flushed} flushed, {seen} seen in {boot}");
                    assert_eq!(found.condition(), expected, "{case}");
                    assert_eq!(found.readable(), readable as u64, "{case}");
                    assert_eq!(
                        found.head.as_ref(),
                        readable.checked_sub(1).map(|n| &log.places[n].2),
                        "{case}"
                    );
                }
            }
        }
    }
}

#[test]
fn zeroed_lines_are_torn_changed_lines_are_degraded() {
    let log = log(SessionId::random());
    let line = |n: usize| log.end_of(n - 1)..log.end_of(n);
    let slots = log.slots(0, 0, BOOT);
    // Record 4 with a block that was never written: no line after it claims more than is readable.
    let mut zeroed = log.bytes.clone();
    zeroed[line(3)][10..20].fill(0);
    let end = line(4).end;
    assert_eq!(log.assess(&zeroed[..end], &slots).condition(), Condition::Torn);
    let mut wrong = log.bytes.clone();
    wrong[line(3)][10] ^= 1;
    let found = log.assess(&wrong[..end], &slots);
    assert_eq!((found.condition(), found.readable()), (Condition::Degraded, 3));
    assert_eq!(found.length, end as u64);
}

#[test]
fn records_after_a_gap_prove_what_was_flushed() {
    let log = log(SessionId::random());
    let slots = log.slots(0, 0, BOOT);
    let line = |n: usize| log.end_of(n - 1)..log.end_of(n);
    // Without record 4: record 5, the first after the gap, has no predecessor to verify it; record 6 claims 3.
    let mut without = log.bytes.clone();
    without.drain(line(3));
    let found = log.assess(&without, &slots);
    assert_eq!((found.flushed, found.condition()), (3, Condition::Degraded));
    // Without records 3 and 4 it claims one more than is readable.
    let mut without = log.bytes.clone();
    without.drain(line(2).start..line(3).end);
    let found = log.assess(&without, &slots);
    assert_eq!((found.flushed, found.readable(), found.condition()), (3, 2, Condition::Corrupt));
}

#[test]
fn a_log_replaced_by_another_is_corrupt() {
    let (log, other) = (log(SessionId::random()), log(SessionId::random()));
    let found = log.assess(&other.bytes, &log.slots(0, 0, BOOT));
    assert_eq!((found.condition(), found.readable()), (Condition::Corrupt, 0));
    // The mark of another log with the same revisions: the log was written again from an older copy.
    let mut slots = log.slots(6, 6, BOOT);
    if let Some(slot) = &mut slots.newest {
        slot.mark = other.slots(5, 5, BOOT).mark();
        slot.head = None;
    }
    let found = log.assess(&log.bytes, &slots);
    assert_eq!((found.condition(), found.replaced), (Condition::Corrupt, Some(5)));
}

#[test]
fn illegal_and_malformed_records_make_a_log_invalid() {
    let id = SessionId::random();
    let started = log(id);
    let (tip, ..) = started.places[1];
    let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let event = SessionEvent::ResumeRequested { by: "a user".into() };
    let (illegal, _) = Chain::at(id, tip).seal(UnsealedRecord { at, attempt: 1, flushed: 0, event }).unwrap();
    let mut bytes = started.bytes[..started.end_of(1)].to_vec();
    bytes.extend_from_slice(illegal.line().as_bytes());
    bytes.push(b'\n');
    let found = started.assess(&bytes, &Slots::default());
    assert_eq!((found.condition(), found.readable()), (Condition::Invalid, 3));
    assert!(matches!(found.refusal(), Some(StorageError::Invalid { revision: 3, .. })));

    // A line that is not a record but has a valid sum, and has the largest size.
    let body = format!("{{\"seq\":3{}", " ".repeat(RECORD_BYTES - 100));
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&tip.sum.as_u64().to_be_bytes());
    hasher.update(body.as_bytes());
    let mut bytes = started.bytes[..started.end_of(1)].to_vec();
    bytes.extend_from_slice(format!("{body},\"sum\":\"{:016x}\"}}\n", hasher.digest()).as_bytes());
    let found = started.assess(&bytes, &Slots::default());
    assert_eq!((found.condition(), found.readable()), (Condition::Invalid, 3));
    assert!(matches!(found.refusal(), Some(StorageError::Corrupt { readable: 2, .. })));
}
