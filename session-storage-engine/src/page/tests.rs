//! Every page of a log, intact and with each kind of damage.

use session_core::backend::Sum;
use session_testkit::Damage;
use session_testkit::logs::Log;

use super::*;

fn log() -> Log {
    let mut log = Log::plain();
    log.started().noted(1).noted(2).noted(3);
    log
}

fn read_page(log: &Log, lines: &[Vec<u8>], after: u64, limit: usize, ends: &[Option<Tip>]) -> Page {
    let from = usize::try_from(after).unwrap();
    let before = from.checked_sub(1).and_then(|at| lines.get(at)).map(Vec::as_slice);
    let rest = (after + 1..).zip(lines.iter().skip(from).take(limit));
    page(log.id(), after, before, rest, ends)
}

fn lines(log: &Log) -> Vec<Vec<u8>> {
    log.lines().iter().map(|line| line.as_bytes().to_vec()).collect()
}

#[test]
fn every_page_of_an_intact_log_has_the_next_records() {
    let log = log();
    let tips = [None, Some(log.tip())];
    for ends in [[tips[0], tips[0]], [tips[1], tips[0]], [tips[1], tips[1]]] {
        for after in 0..7 {
            for limit in 1..7 {
                let from = usize::try_from(after).unwrap().min(5);
                let expected = &log.records()[from..(from + limit).min(5)];
                let found = read_page(&log, &lines(&log), after, limit, &ends);
                if expected.is_empty() {
                    assert_eq!(found, Page::End, "after {after}");
                } else {
                    assert_eq!(found, Page::Records(expected.to_vec()), "after {after}");
                }
            }
        }
    }
}

#[test]
fn damaged_pages_are_never_returned_or_taken_for_the_end() {
    let log = log();
    let mut all = Vec::new();
    for revision in 1..=5 {
        all.extend([
            Damage::Flip { revision, bit: 77 },
            Damage::Lose { revision },
            Damage::Cut { after: revision - 1 },
            Damage::Double { revision },
            Damage::Swap { revision },
        ]);
    }
    for damage in all {
        let mut lines = lines(&log);
        damage.apply(&mut lines, |line| line);
        for ends in [[Some(log.tip()), None], [None, Some(log.tip())]] {
            for limit in 1..7 {
                let mut after = 0;
                let end = loop {
                    match read_page(&log, &lines, after, limit, &ends) {
                        Page::Records(records) => {
                            for record in records {
                                after += 1;
                                let expected = log.records().get(usize::try_from(after).unwrap() - 1);
                                assert_eq!(Some(&record), expected, "{damage:?}");
                            }
                        }
                        end @ (Page::End | Page::Suspect) => break end,
                    }
                };
                let hidden = end == Page::End && after < 5;
                assert!(!hidden, "{damage:?}: the log ends at {after} without an error");
            }
        }
    }
}

#[test]
fn a_record_that_differs_from_a_known_tip_is_suspect() {
    let log = log();
    for known in log.records().iter().map(StoredRecord::tip) {
        let other = Tip { sum: Sum::from_u64(1), ..known };
        let after = known.revision - 1;
        assert_eq!(read_page(&log, &lines(&log), after, 9, &[Some(other)]), Page::Suspect, "{known}");
        assert_eq!(
            read_page(&log, &lines(&log), known.revision, 9, &[Some(other)]),
            Page::Suspect,
            "{known}"
        );
    }
}
