//! Detection of changes to a log: every single bit, and every way to drop, double, swap or smuggle a line.

use session_core::StoredRecord;
use session_core::backend::{Chain, ChainError, follows};

use crate::support::{file, id, log, read};

/// Asserts that everything before the damage is returned unchanged, and nothing after it.
#[track_caller]
fn assert_noticed(original: &[StoredRecord], damaged: &[u8], good: usize, what: &str) {
    let (records, broken) = read(id(1), damaged);
    assert!(broken.is_some(), "{what}: not noticed");
    assert_eq!(records, original[..good], "{what}: read something else");
}

#[test]
fn every_flipped_bit_of_a_log_is_noticed() {
    let original = log(id(1), 25);
    let good = file(&original);
    assert!(good.len() > 4096, "only {} bytes", good.len());
    assert_eq!(read(id(1), &good), (original.clone(), None));
    let mut line = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut damaged = good.clone();
            damaged[at] ^= 1 << bit;
            assert_noticed(&original, &damaged, line, &format!("bit {bit} of byte {at}"));
        }
        line += usize::from(good[at] == b'\n');
    }
    println!("{} single bits of {} bytes", good.len() * 8, good.len());
}

#[test]
fn every_cut_of_a_log_leaves_whole_lines_or_is_noticed() {
    let original = log(id(1), 16);
    let good = file(&original);
    for end in 0..good.len() {
        let (records, broken) = read(id(1), &good[..end]);
        let whole = good[..end].split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(records, original[..whole], "cut at {end}");
        let at_line_end = end == 0 || good[end - 1] == b'\n';
        assert_eq!(broken, (!at_line_end).then_some(ChainError::Form), "cut at {end}");
        // A line is valid without its line end; with anything else missing it is not.
        let rest = good[..end].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut chain =
            original[..whole].last().map_or(Chain::start(id(1)), |last| Chain::at(id(1), last.tip()));
        let complete = original.get(whole).is_some_and(|next| next.line().as_bytes() == rest);
        assert_eq!(chain.check(rest).is_ok(), complete, "cut at {end}");
    }
}

#[test]
fn a_dropped_doubled_swapped_or_foreign_line_is_noticed() {
    let original = log(id(1), 16);
    let foreign = log(id(2), 16);
    // A log that differs from the other one from the fourth last record on.
    let mut parted = original[..12].to_vec();
    parted.extend_from_slice(&log(id(1), 17)[13..]);
    for at in 0..original.len() {
        let whole: Vec<&StoredRecord> = original.iter().collect();
        if at + 1 < original.len() {
            // The chain cannot show that its last record is missing: the flushed mark does.
            let mut lines = whole.clone();
            lines.remove(at);
            assert_noticed(&original, &file(lines), at, &format!("{at} dropped"));
        }
        for to in 0..=original.len() {
            let mut lines = whole.clone();
            lines.insert(to, &original[at]);
            // Of two equal lines the second does not belong.
            let good = if to == at { at + 1 } else { to };
            assert_noticed(&original, &file(lines), good, &format!("{at} doubled at {to}"));
        }
        for other in at + 1..original.len() {
            let mut lines = whole.clone();
            lines.swap(at, other);
            assert_noticed(&original, &file(lines), at, &format!("{at} and {other} swapped"));
        }
        for stranger in &foreign {
            let mut lines = whole.clone();
            lines[at] = stranger;
            assert_noticed(&original, &file(lines), at, &format!("{at} replaced by a foreign line"));
        }
        let spliced = original[..at].iter().chain(&foreign[at..]);
        assert_noticed(&original, &file(spliced), at, &format!("the rest of another log from {at} on"));
    }
    assert_noticed(&original, &file(&parted), 12, "parted");
    let (records, broken) = read(id(2), &file(&original));
    assert_eq!((records.len(), broken), (0, Some(ChainError::Sum)), "a log under another session's id");
}

#[test]
fn records_after_a_hole_prove_each_other() {
    let original = log(id(1), 8);
    for pair in original.windows(2) {
        let proven = follows(pair[0].line().as_bytes(), pair[1].line().as_bytes()).expect("it follows");
        assert_eq!((proven.seq, proven.flushed), (pair[1].revision(), pair[1].revision() - 1));
    }
    assert!(follows(original[2].line().as_bytes(), original[4].line().as_bytes()).is_none(), "a hole");
    assert!(follows(b"\0\0\0\0", original[4].line().as_bytes()).is_none(), "zeros");
    let mut changed = original[4].line().to_owned();
    changed = changed.replacen("\"flushed\":4", "\"flushed\":5", 1);
    assert!(follows(original[3].line().as_bytes(), changed.as_bytes()).is_none(), "a changed claim");
}

/// A record that a storage returns under another number, or in place of another one, is not accepted as the next one, and
/// the position in the log does not change.
#[test]
fn a_misplaced_record_is_refused() {
    let original = log(id(1), 4);
    let mut chain = Chain::start(id(1));
    chain.follow(&original[0]).unwrap();
    let before = chain;
    let misnumbered = StoredRecord::from_storage(3, original[1].line()).unwrap();
    for wrong in [&original[0], &original[2], &misnumbered] {
        assert_eq!(chain.follow(wrong), Err(ChainError::Sum));
        assert_eq!(chain, before);
    }
    chain.follow(&original[1]).unwrap();
    assert_eq!(chain.tip(), Some(original[1].tip()));
}
