//! The table of conditions, over every cut of a log, every mark and every stored head.

use serde_json::json;
use session_core::backend::{FORMAT, Sum, UnsealedRecord};
use session_core::{SessionConfig, SessionEvent, StoredRecord, Timestamp};

use super::*;

struct Log {
    id: SessionId,
    records: Vec<StoredRecord>,
    heads: Vec<Head>,
}

/// Creates a log of six records, each claiming that all up to the second record before it were flushed.
fn log() -> Log {
    let id = SessionId::random();
    let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let config = Box::new(SessionConfig::new("test"));
    let mut events = vec![
        SessionEvent::Created { format: FORMAT, config, creator: owner.clone(), origin: None, inherits: 0 },
        SessionEvent::Started { owner },
    ];
    events.extend((0..4).map(|n| SessionEvent::Noted { kind: "test.note".into(), data: json!(n) }));
    let (mut chain, mut head) = (Chain::start(id), None);
    let mut log = Log { id, records: Vec::new(), heads: Vec::new() };
    for (n, event) in (0u64..).zip(events) {
        let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
        let unsealed = UnsealedRecord { at, attempt: u32::from(n > 0), flushed: n.saturating_sub(2), event };
        let (stored, record) = chain.seal(unsealed).unwrap();
        Head::fold(&mut head, id, &record).unwrap();
        log.records.push(stored);
        log.heads.push(head.clone().unwrap());
    }
    log
}

impl Log {
    fn lines(&self) -> Vec<String> {
        self.records.iter().map(|record| record.line().to_owned()).collect()
    }

    fn mark(&self, revision: usize) -> Option<Tip> {
        Some(self.records[revision.checked_sub(1)?].tip())
    }

    fn head(&self, revision: usize) -> Option<&Head> {
        self.heads.get(revision.checked_sub(1)?)
    }
}

#[test]
fn a_log_that_ends_too_early_is_corrupt_and_names_the_loss() {
    let log = log();
    for remaining in 0..=6 {
        for marked in 0..=6 {
            for stored in 0..=6 {
                let case = format!("{remaining} remaining, {marked} marked, head of {stored}");
                let lines = &log.lines()[..remaining];
                let audit = Audit::from_lines(log.id, lines, log.head(stored), log.mark(marked));
                // The remaining records claim flushes of earlier ones only, which are all present.
                let known = marked.max(stored);
                let expected = if remaining == 0 || remaining < known {
                    Condition::Corrupt
                } else if stored != remaining {
                    Condition::Degraded
                } else {
                    Condition::Healthy
                };
                assert_eq!(audit.condition(), expected, "{case}");
                assert_eq!(audit.readable(), remaining as u64, "{case}");
                assert_eq!(audit.head(), log.head(remaining), "{case}");
                assert_eq!(audit.refusal().is_some(), expected == Condition::Corrupt, "{case}");
                if expected == Condition::Corrupt && known > remaining {
                    let message = audit.refusal().unwrap().to_string();
                    assert!(
                        message.contains(&format!("readable up to revision {remaining}")),
                        "{case}: {message}"
                    );
                    assert!(message.contains(&format!("revision {known} was stored")), "{case}: {message}");
                }
            }
        }
    }
}

#[test]
fn damaged_records_are_detected_and_later_ones_prove_flushes() {
    let log = log();
    for at in 0..6 {
        let mut changed = log.lines();
        changed[at] = changed[at].replace(":\"2023-", ":\"2024-");
        let mut dropped = log.lines();
        dropped.remove(at);
        let mut doubled = log.lines();
        doubled.insert(at, doubled[at].clone());
        let mut swapped = log.lines();
        swapped.swap(at, (at + 1).min(5));
        for (name, lines, readable) in [
            ("changed", changed, at),
            ("dropped", dropped, at),
            ("doubled", doubled, at + 1),
            ("swapped", swapped, at),
        ] {
            let audit = Audit::from_lines(log.id, &lines, log.head(6), log.mark(6));
            if at == 5 && name == "doubled" {
                assert_eq!(audit.condition(), Condition::Degraded);
                assert_eq!(audit.behind(), lines[6].len() as u64 + 1);
                continue;
            }
            if at == 5 && name == "swapped" {
                assert_eq!(audit.condition(), Condition::Healthy);
                continue;
            }
            assert_eq!(audit.condition(), Condition::Corrupt, "{name} {at}");
            assert_eq!(audit.readable(), readable as u64, "{name} {at}");
            // Neither mark nor head: the records after the hole prove it. Record 6 claims that 3 was flushed; the line
            // right after the hole cannot be checked, since its predecessor is missing.
            let audit = Audit::from_lines(log.id, &lines, None, None);
            let proven = if name == "changed" && at < 4 { 3 } else { 0 };
            assert!(audit.flushed() >= proven, "{name} {at}: {}", audit.flushed());
        }
    }
}

#[test]
fn a_log_that_replaced_the_flushed_one_is_corrupt() {
    let log = log();
    for revision in 1..=6 {
        let tip = log.records[revision - 1].tip();
        let other = Tip { sum: Sum::from_u64(!tip.sum.as_u64()), ..tip };
        let audit = Audit::from_lines(log.id, log.lines(), log.head(6), Some(other));
        assert_eq!(audit.condition(), Condition::Corrupt, "{revision}");
        let message = audit.refusal().unwrap().to_string();
        assert!(
            message.contains(&format!("revision {revision} differs from the record that was stored")),
            "{message}"
        );
    }
}

#[test]
fn a_wrong_head_with_all_records_is_degraded() {
    let log = log();
    let mut wrong = log.heads[5].clone();
    wrong.name = "another name".into();
    for stored in [None, log.head(3), Some(&wrong)] {
        let audit = Audit::from_lines(log.id, log.lines(), stored, log.mark(6));
        assert_eq!(audit.condition(), Condition::Degraded);
        assert!(audit.has_stale_head() && audit.refusal().is_none());
        assert_eq!(audit.head(), log.head(6));
        assert!(audit.health(Vec::new()).problem.unwrap().to_string().contains("head"));
    }
}

#[test]
fn a_line_stored_under_a_wrong_number_breaks_the_chain() {
    let log = log();
    let mut auditor = Auditor::new(log.id, None);
    for (seq, line) in [1, 2, 4, 5, 6, 7].into_iter().zip(log.lines()) {
        auditor.add_line(seq, line.as_bytes());
    }
    let audit = auditor.finish(log.head(6));
    assert_eq!((audit.readable(), audit.condition()), (2, Condition::Corrupt));
}

#[test]
fn an_overlong_line_breaks_the_chain_without_being_read() {
    let log = log();
    let mut auditor = Auditor::new(log.id, None);
    for (seq, line) in (1..).zip(log.lines().iter().take(3)) {
        auditor.add_line(seq, line.as_bytes());
    }
    auditor.add_overlong_line(400_000_000);
    for (seq, line) in (5..).zip(log.lines().iter().skip(4)) {
        auditor.add_line(seq, line.as_bytes());
    }
    let audit = auditor.finish(log.head(6));
    assert_eq!((audit.readable(), audit.condition()), (3, Condition::Corrupt));
    assert!(audit.behind() > 400_000_000);
}

/// Seals a line that no manager would write.
fn sealed(log: &Log, line: &str) -> String {
    use xxhash_rust::xxh3::xxh3_64;
    let before = log.records[5].tip().sum.as_u64().to_be_bytes();
    let sum = xxh3_64(&[before.as_slice(), line.as_bytes()].concat());
    format!("{line},\"sum\":\"{sum:016x}\"}}")
}

#[test]
fn broken_rules_and_unknown_kinds_are_told_apart() {
    let log = log();
    let begin = r#"{"seq":7,"at":"2026-11-21T09:30:00.123Z","attempt":1,"flushed":0,"event":"#;
    for (event, condition, refusal) in [
        (r#"{"iteration_completed":{"number":9,"changes":{}}}"#, Condition::Invalid, "INVALID_LOG"),
        (r#"{"teleported":{}}"#, Condition::Unsupported, "UNSUPPORTED_FORMAT"),
        (r"[]", Condition::Invalid, "CORRUPT"),
    ] {
        let mut lines = log.lines();
        lines.push(sealed(&log, &format!("{begin}{event}")));
        let audit = Audit::from_lines(log.id, &lines, log.head(6), log.mark(6));
        assert_eq!(audit.condition(), condition, "{event}");
        assert_eq!(audit.refusal().unwrap().code().as_str(), refusal, "{event}");
        assert_eq!(audit.readable(), 7, "all of it can be read");
        assert_eq!(audit.head(), log.head(6));
    }
}

#[test]
fn possible_owners_come_from_records_and_head() {
    let log = log();
    let audit = Audit::from_lines(log.id, &log.lines()[..1], log.head(6), log.mark(6));
    assert_eq!(audit.owners().len(), 1);
    let dead = audit.owners()[0].instance;
    let refused = refuse_while_owned(log.id, audit.owners(), &[]).unwrap_err();
    assert!(refused.to_string().contains("may still be owned by"), "{refused}");
    refuse_while_owned(log.id, audit.owners(), &[dead]).unwrap();
}

#[test]
fn an_unacknowledged_loss_keeps_the_session_degraded() {
    let log = log();
    let audit = Audit::from_lines(log.id, log.lines(), log.head(6), log.mark(6));
    assert_eq!(audit.health(Vec::new()).condition, Condition::Healthy);
    assert_eq!(audit.health(vec!["lost-1".into()]).condition, Condition::Degraded);
}
