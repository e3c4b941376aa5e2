//! Replay: reading any prefix of a log gives the state its writer had at that moment.

use session_core::{Head, text::is_unsafe_char};

use crate::hostile;
use crate::log::Log;
use crate::oracle::{Model, Random, both, number, seed};

/// Returns a log of random events with hostile payloads, refused ones in between, and the head after each record.
fn random_log(random: &mut Random) -> (Log, Vec<Head>) {
    let (mut log, mut heads, mut model) = (Log::new(), Vec::new(), Model::NOTHING);
    for tried in 0..60 {
        let step = if tried < 2 { model.beginning() } else { model.random_step(random) };
        let seq = log.revision() + 1;
        let judged = both(log.life(), &model, step, seq);
        let mut event = hostile::event(random, step);
        if let session_core::SessionEvent::Resumed { owner } = &mut event
            && let Some(current) = log.life().and_then(|life| life.owner.as_ref())
        {
            owner.instance = if model.owner == Some(step.owner) { current.instance } else { owner.instance };
        }
        assert_eq!(log.offer_as(event, step.attempt).is_ok(), judged.is_ok(), "{step:?} in {model:?}");
        if let Ok((_, next)) = judged {
            model = next;
            assert_eq!(Model::of(log.life()), model);
            heads.push(log.head().clone());
        }
    }
    (log, heads)
}

#[test]
fn every_prefix_of_a_log_replays_to_the_state_of_its_writer() {
    let first = seed();
    let (mut records, mut refolds) = (0, 0);
    let logs = number("SESSION_REPLAYS").unwrap_or(120);
    for n in 0..logs {
        let seed = first.wrapping_add(n);
        let (log, live) = random_log(&mut Random(seed));
        let mut folded = None;
        let read = log.read();
        for (record, live) in read.iter().zip(&live) {
            Head::fold(&mut folded, log.id, record).unwrap();
            assert_eq!(folded.as_ref(), Some(live), "SESSION_SEED={seed}, revision {}", live.tip.revision);
            records += 1;
        }
        // From every head that could have been stored on the way, the rest of the log folds to the same result.
        for (at, live_then) in live.iter().enumerate() {
            let json = serde_json::to_string(live_then).unwrap();
            let mut stored: Head = serde_json::from_str(&json).unwrap();
            assert_eq!(&stored, live_then, "SESSION_SEED={seed}, revision {}", at + 1);
            assert_eq!(serde_json::to_string(&stored).unwrap(), json, "SESSION_SEED={seed}");
            for record in &read[at + 1..] {
                stored.apply(record).unwrap();
            }
            assert_eq!(Some(&stored), live.last(), "SESSION_SEED={seed}, from revision {}", at + 1);
            refolds += 1;
        }
        for line in &log.lines {
            assert!(!line.chars().any(is_unsafe_char), "SESSION_SEED={seed}: {line:?}");
        }
    }
    println!("{records} prefixes replayed, {refolds} folds from a stored head, seed {first}");
    assert!(records > 5 * logs, "{records} records in {logs} logs are too few to mean anything");
}
