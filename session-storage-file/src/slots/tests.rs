//! Two slots in turn: damage to one leaves the other readable.

use session_core::backend::{Chain, Sum, UnsealedRecord};
use session_core::{Head, Owner, SessionConfig, SessionEvent, Timestamp};

use super::*;
use crate::disk::{Disk, Open, RealDisk};

fn mark(revision: u64) -> Mark {
    Mark { tip: Tip { revision, sum: Sum::from_u64(revision) }, length: revision * 100 }
}

fn write(id: SessionId, file: &dyn DiskFile, turns: std::ops::RangeInclusive<u64>) {
    for turn in turns {
        Slot::new(turn, "boot", Some(mark(turn)), turn * 100, None).write(id, file).unwrap();
    }
}

#[test]
fn each_write_preserves_the_previous_slot() {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&folder.path().join("head.json"), Open::Create).unwrap();
    let id = SessionId::random();
    assert_eq!(Slots::read(id, &*file).unwrap().turn(), 0);
    for turn in 1..6 {
        write(id, &*file, turn..=turn);
        let slots = Slots::read(id, &*file).unwrap();
        assert_eq!(
            slots.iter().map(|slot| slot.turn).collect::<Vec<_>>(),
            if turn == 1 { vec![1] } else { vec![turn, turn - 1] }
        );
        assert_eq!(slots.mark(), Some(mark(turn)));
    }
}

#[test]
fn a_torn_slot_leaves_the_other_one_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.json");
    let file = RealDisk.open(&path, Open::Create).unwrap();
    let id = SessionId::random();
    write(id, &*file, 1..=2);
    let before = std::fs::read(&path).unwrap();
    let new = Slot::new(3, "boot", Some(mark(3)), 300, None).encode(id);
    for cut in 0..=new.len() {
        std::fs::write(&path, &before).unwrap();
        write_all(&*file, &new[..cut], offset(3)).unwrap();
        let slots = Slots::read(id, &*file).unwrap();
        assert!([2, 3].contains(&slots.turn()), "cut at {cut}: {}", slots.turn());
        assert_eq!(slots.mark(), Some(mark(slots.turn())), "cut at {cut}");
    }
}

#[test]
fn a_slot_with_a_flipped_bit_is_never_returned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.json");
    let file = RealDisk.open(&path, Open::Create).unwrap();
    let id = SessionId::random();
    write(id, &*file, 1..=2);
    let bytes = std::fs::read(&path).unwrap();
    let written: Vec<Slot> = Slots::read(id, &*file).unwrap().iter().cloned().collect();
    // The line of each slot; between them is a hole.
    for bit in (0..300 * 8).chain(SLOT * 8..bytes.len() * 8) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        for slot in Slots::read(id, &*file).unwrap().iter() {
            assert!(written.contains(slot), "bit {bit}: {slot:?}");
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Slots::read(SessionId::random(), &*file).unwrap().turn(), 0, "another session's slots");
}

#[test]
fn remains_of_a_longer_slot_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&folder.path().join("head.json"), Open::Create).unwrap();
    let id = SessionId::random();
    let boot = "b".repeat(200);
    Slot::new(2, &boot, Some(mark(2)), 200, None).write(id, &*file).unwrap();
    Slot::new(4, "b", Some(mark(4)), 400, None).write(id, &*file).unwrap();
    assert!(file.len().unwrap() > 300, "the end of the longer slot is still in the file");
    let slots = Slots::read(id, &*file).unwrap();
    assert_eq!((slots.turn(), slots.mark()), (4, Some(mark(4))));
    // A line that fills its slot without a line end is not read either.
    file.set_len(0).unwrap();
    write_all(&*file, &[b' '; SLOT], offset(4)).unwrap();
    assert!(Slots::read(id, &*file).unwrap().newest.is_none());
}

/// Regression: a slot with the highest possible turn and a valid sum crashed the process that wrote the next
/// one.
#[test]
fn a_slot_with_an_exhausted_counter_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&folder.path().join("head.json"), Open::Create).unwrap();
    let id = SessionId::random();
    for turn in [u64::MAX - 1, u64::MAX] {
        write(id, &*file, 1..=2);
        Slot::new(turn, "boot", Some(mark(9)), 300, None).write(id, &*file).unwrap();
        let slots = Slots::read(id, &*file).unwrap();
        assert!([1, 2].contains(&slots.turn()), "{}", slots.turn());
        assert_eq!(slots.turn() % 2, 1 - turn % 2);
    }
    let far = mark(u64::MAX / 1000);
    let farther = Mark { tip: Tip { revision: u64::MAX, ..far.tip }, ..far };
    for (mark, taken) in [(far, true), (farther, false)] {
        Slot::new(3, "boot", Some(mark), 300, None).write(id, &*file).unwrap();
        assert_eq!(Slots::read(id, &*file).unwrap().mark() == Some(mark), taken);
    }
}

/// Regression: a slot with a valid sum whose head claimed more flushed records than exist made an intact log
/// read-only.
#[test]
fn a_slot_with_an_impossible_head_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&folder.path().join("head.json"), Open::Create).unwrap();
    let id = SessionId::random();
    let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let event = SessionEvent::Created {
        format: session_core::backend::FORMAT,
        config: Box::new(SessionConfig::new("test")),
        creator: owner,
        origin: None,
        inherits: 0,
    };
    let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let (_, record) = Chain::start(id).seal(UnsealedRecord { at, attempt: 0, flushed: 0, event }).unwrap();
    let mut head = Head::begin(id, &record).unwrap();
    for (flushed, taken) in [(0, true), (1, false), (u64::from(u32::MAX), false)] {
        head.flushed = flushed;
        Slot::new(2, "boot", None, 300, Some(&head)).write(id, &*file).unwrap();
        assert_eq!(Slots::read(id, &*file).unwrap().newest.is_some(), taken, "{flushed}");
    }
}

/// The example in `docs/format.md`.
#[test]
fn the_slot_in_the_docs_matches_the_encoder() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md")).unwrap();
    let example = docs.lines().find(|line| line.starts_with("{\"turn\":")).unwrap();
    let id: SessionId = "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap();
    let mark = Mark { tip: Tip { revision: 3, sum: Sum::from_u64(0xc09d_fa4e_fed6_14da) }, length: 860 };
    let slot = Slot::new(7, "6b0a3f52-7c1d-4e8b-9a2f-1c3d5e7f9a0b", Some(mark), 1098, None);
    let bytes = slot.encode(id);
    assert_eq!(std::str::from_utf8(&bytes).unwrap().trim_ascii_end(), example);
    assert_eq!(bytes.last(), Some(&b'\n'));
    assert_eq!((offset(6), offset(7)), (0, 4608));
}
