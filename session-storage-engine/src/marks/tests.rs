//! The content of a marks file after concurrent writers, writes in any order, and damage.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;
use session_core::ErrorCode;
use session_core::backend::Sum;

use super::line::LINE;
use super::*;

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number + 1; 16])
}

fn tip(revision: u64) -> Tip {
    Tip { revision, sum: Sum::from_u64(revision * 1_000_003) }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: StoreId,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files/marks");
        Self { _folder: folder, path, store: StoreId::random() }
    }

    fn open(&self) -> Marks {
        Marks::open(&self.path, self.store).unwrap()
    }
}

#[test]
fn reading_creates_nothing() {
    let place = Place::new();
    let marks = place.open();
    assert_eq!((marks.change(), marks.get(id(1)), marks.tips().len()), (0, None, 0));
    assert_eq!(Marks::read_summary(&place.path).unwrap(), None);
    assert!(!place.path.parent().unwrap().exists());
}

#[test]
fn marks_recorded_by_one_handle_are_read_by_others() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    one.record_flush(3, &[(id(1), tip(5)), (id(2), tip(1))]).unwrap();
    assert_eq!(one.tip(id(1)), Some(tip(5)), "the writing handle has it");
    two.refresh().unwrap();
    for marks in [&one, &two, &place.open()] {
        assert_eq!(marks.get(id(1)), Some(Mark { change: 3, tip: Some(tip(5)) }));
        assert_eq!(marks.tips(), [(id(1), tip(5)), (id(2), tip(1))]);
        assert_eq!(marks.change(), 3);
    }
    two.record_flush(7, &[]).unwrap();
    one.refresh().unwrap();
    assert_eq!((one.change(), one.tips().len()), (7, 2));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.path), mode(place.path.parent().unwrap())), (0o600, 0o700));
    let found = Marks::read_summary(&place.path).unwrap().unwrap();
    assert_eq!(found, MarksSummary { store: Some(place.store), change: 7, sessions: 2 });
    assert_eq!(fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn the_line_with_the_later_change_wins_in_any_order() {
    let place = Place::new();
    let marks = place.open();
    marks.record_flush(9, &[(id(1), tip(9))]).unwrap();
    marks.record_flush(4, &[(id(1), tip(4))]).unwrap();
    assert_eq!(place.open().tip(id(1)), Some(tip(9)));
    marks.record_deletion(10, id(1)).unwrap();
    marks.record_flush(9, &[(id(1), tip(9))]).unwrap();
    assert_eq!(place.open().get(id(1)), Some(Mark { change: 10, tip: None }));
    // Deleted and created again within one change.
    marks.record_flush(10, &[(id(1), tip(1))]).unwrap();
    marks.record_deletion(10, id(1)).unwrap();
    assert_eq!(place.open().tip(id(1)), Some(tip(1)));
}

#[test]
fn an_uncommitted_deletion_leaves_the_change_as_it_was() {
    let place = Place::new();
    let marks = place.open();
    marks.record_flush(4, &[(id(1), tip(4))]).unwrap();
    marks.record_deletion(5, id(1)).unwrap();
    assert_eq!(place.open().change(), 4);
    marks.record_flush(5, &[]).unwrap();
    assert_eq!(place.open().change(), 5);
}

#[test]
fn an_accepted_loss_lowers_a_mark() {
    let place = Place::new();
    let marks = place.open();
    marks.record_flush(8, &[(id(1), tip(8)), (id(2), tip(3))]).unwrap();
    marks.accept_loss(9, id(1), Some(tip(2))).unwrap();
    marks.accept_loss(10, id(2), None).unwrap();
    let again = place.open();
    assert_eq!(again.tips(), [(id(1), tip(2))]);
    assert_eq!(again.change(), 10);
    marks.reset(11, &[(id(3), tip(1))]).unwrap();
    again.refresh().unwrap();
    assert_eq!(again.tips(), [(id(3), tip(1))]);
    assert_eq!(again.change(), 11);
}

#[test]
fn marks_of_another_store_are_refused_naming_both_stores() {
    let place = Place::new();
    place.open().record_flush(1, &[(id(1), tip(1))]).unwrap();
    let other = StoreId::random();
    let before = fs::read(&place.path).unwrap();
    let error = Marks::open(&place.path, other).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    let message = error.to_string();
    assert!(message.contains(&place.store.to_string()) && message.contains(&other.to_string()), "{message}");
    // Also if they replace the file while it is open.
    let marks = place.open();
    let foreign = Place::new();
    foreign.open().record_flush(9, &[(id(9), tip(9))]).unwrap();
    fs::rename(&foreign.path, &place.path).unwrap();
    assert!(marks.record_flush(2, &[(id(1), tip(2))]).is_err());
    assert_eq!(marks.get(id(9)), None);
    assert_ne!(fs::read(&place.path).unwrap(), before);
    assert_eq!(Marks::read_summary(&place.path).unwrap().unwrap().sessions, 1, "nothing was added to it");
}

#[test]
fn only_a_regular_file_is_read_or_written() {
    let place = Place::new();
    let elsewhere = place.path.with_extension("elsewhere");
    fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, &place.path).unwrap();
    let error = Marks::open(&place.path, place.store).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

#[test]
fn a_removed_file_is_written_again_from_memory() {
    let place = Place::new();
    let marks = place.open();
    marks.record_flush(3, &[(id(1), tip(3))]).unwrap();
    fs::remove_file(&place.path).unwrap();
    marks.refresh().unwrap();
    assert_eq!(marks.tip(id(1)), Some(tip(3)));
    marks.record_flush(4, &[(id(2), tip(1))]).unwrap();
    assert_eq!(place.open().tips(), [(id(1), tip(3)), (id(2), tip(1))]);
}

#[test]
fn a_torn_end_is_padded_and_costs_one_line() {
    for cut in 1..LINE {
        let place = Place::new();
        let marks = place.open();
        marks.record_flush(1, &[(id(1), tip(1))]).unwrap();
        marks.record_flush(2, &[(id(2), tip(2))]).unwrap();
        let bytes = fs::read(&place.path).unwrap();
        fs::write(&place.path, &bytes[..bytes.len() - cut]).unwrap();
        let marks = place.open();
        assert_eq!(marks.tips(), [(id(1), tip(1))]);
        marks.record_flush(2, &[(id(3), tip(3))]).unwrap();
        let bytes = fs::read(&place.path).unwrap();
        assert_eq!(bytes.len(), 4 * LINE);
        assert!(bytes.chunks(LINE).all(|line| line.ends_with(b"\n")));
        // Only the line end was missing: with one, the line is complete.
        let second = (cut == 1).then_some((id(2), tip(2)));
        let expected: Vec<_> =
            [Some((id(1), tip(1))), second, Some((id(3), tip(3)))].into_iter().flatten().collect();
        assert_eq!(place.open().tips(), expected, "{cut}");
    }
}

#[test]
fn compaction_keeps_the_content_of_a_long_file() {
    let place = Place::new();
    let (marks, other) = (place.open(), place.open());
    let lines = || fs::metadata(&place.path).unwrap().len() / LINE as u64;
    let mut change = 0;
    let mut longest = 0;
    loop {
        for session in 0..5 {
            change += 1;
            marks.record_flush(change, &[(id(session), tip(change))]).unwrap();
        }
        marks.record_deletion(change + 1, id(7)).unwrap();
        change += 1;
        if lines() < longest {
            break;
        }
        longest = lines();
        assert!(longest < 2 * SLACK as u64, "the file is not compacted");
    }
    marks.record_flush(change, &[]).unwrap();
    assert!(longest + 6 > SLACK as u64 && lines() < 20, "{longest}, {}", lines());
    let before = marks.tips();
    assert_eq!(before, [0, 1, 2, 3, 4].map(|session| (id(session), tip(change - 5 + u64::from(session)))));
    for marks in [&marks, &other, &place.open()] {
        marks.refresh().unwrap();
        assert_eq!((marks.tips(), marks.change()), (before.clone(), change));
        // A process that flushed before the deletion may record that only now.
        assert_eq!(marks.get(id(7)).unwrap().tip, None);
    }
    marks.record_flush(1, &[(id(7), tip(1))]).unwrap();
    assert_eq!(place.open().tip(id(7)), None);
    assert_eq!(fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 1);
}

/// Another process holds the lock: flushes are recorded nevertheless, and compaction is not retried at each record.
#[test]
fn a_file_that_cannot_be_compacted_stays_long() {
    let place = Place::new();
    let marks = place.open();
    marks.record_flush(1, &[(id(1), tip(1))]).unwrap();
    // Another handle holds the lock for an append.
    let holder = place.open();
    holder.lock().open_locked(&place.path, place.store, LockMode::Shared).unwrap();
    let many: Vec<_> = (1..=SLACK as u64 + 8).map(|revision| (id(1), tip(revision))).collect();
    marks.record_flush(2, &many).unwrap();
    marks.record_flush(3, &[(id(1), tip(9000))]).unwrap();
    let long = fs::metadata(&place.path).unwrap().len();
    assert!(long > (SLACK * LINE) as u64);
    assert_eq!(place.open().tip(id(1)), Some(tip(9000)));
    holder.lock().open.as_ref().unwrap().unlock();
    marks.record_flush(4, &[(id(2), tip(1))]).unwrap();
    assert!(fs::metadata(&place.path).unwrap().len() > long, "the next attempt waits for more lines");
    // Another handle that writes compacts it.
    let other = place.open();
    other.record_flush(5, &[(id(2), tip(2))]).unwrap();
    assert!(fs::metadata(&place.path).unwrap().len() < 10 * LINE as u64);
    marks.refresh().unwrap();
    assert_eq!(marks.tips(), [(id(1), tip(9000)), (id(2), tip(2))]);
}

#[test]
fn appends_during_compaction_are_not_lost() {
    let place = Place::new();
    let last = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for session in 0..3 {
            let (place, last) = (&place, &last);
            scope.spawn(move || {
                let marks = place.open();
                for revision in 1..=150 {
                    let change = last.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    marks.record_flush(change, &[(id(session), tip(revision))]).unwrap();
                    // In the file that others read, not in a replaced one.
                    assert_eq!(place.open().tip(id(session)), Some(tip(revision)));
                }
            });
        }
        scope.spawn(|| {
            let marks = place.open();
            for _ in 0..100 {
                // Like `compact`, for any length of the file.
                let mut state = marks.lock();
                state.open_locked(&marks.path, marks.store, LockMode::Exclusive).unwrap();
                state.refresh(&marks.path, marks.store).unwrap();
                let lines = state.table.lines();
                state.replace(&marks.path, marks.store, &lines).unwrap();
            }
        });
    });
    let marks = place.open();
    assert_eq!(marks.tips(), [0, 1, 2].map(|session| (id(session), tip(150))));
    assert_eq!(marks.change(), 450);
}

#[derive(Debug, Clone)]
enum Step {
    /// A handle flushes the session with its next revision.
    Flush(usize, u8),
    /// A handle flushes it, and records that only after the following steps of others.
    FlushLate(usize, u8),
    Delete(usize, u8),
    Refresh(usize),
    Rewrite(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (handle, session) = (0..3usize, 0..4u8);
    prop_oneof![
        6 => (handle.clone(), session.clone()).prop_map(|(handle, session)| Step::Flush(handle, session)),
        2 => (handle.clone(), session.clone()).prop_map(|(handle, session)| Step::FlushLate(handle, session)),
        2 => (handle.clone(), session).prop_map(|(handle, session)| Step::Delete(handle, session)),
        1 => handle.clone().prop_map(Step::Refresh),
        1 => handle.prop_map(Step::Rewrite),
    ]
}

#[derive(Debug, Clone)]
enum Damage {
    None,
    Cut(usize),
    Zeroes(usize),
    Flip(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => Just(Damage::None),
        2 => (0..2000usize).prop_map(Damage::Cut),
        2 => (0..2000usize).prop_map(Damage::Zeroes),
        2 => any::<usize>().prop_map(Damage::Flip),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In any interleaving of several processes, an undamaged file has exactly the last flush of each session; a
    /// damaged file has nothing that was never flushed.
    #[test]
    fn marks_never_claim_too_much(steps in prop::collection::vec(step(), 1..60), damage in damage()) {
        let place = Place::new();
        let handles = [place.open(), place.open(), place.open()];
        let mut change = 0;
        let mut revisions: HashMap<u8, u64> = HashMap::new();
        let mut expected: HashMap<u8, Option<Tip>> = HashMap::new();
        let mut ever: Vec<(SessionId, Tip)> = Vec::new();
        let mut late = Vec::new();
        for step in steps {
            match step {
                Step::Flush(handle, session) | Step::FlushLate(handle, session) => {
                    change += 1;
                    let revision = revisions.entry(session).or_default();
                    *revision += 1;
                    let at = tip(*revision);
                    ever.push((id(session), at));
                    expected.insert(session, Some(at));
                    if matches!(step, Step::FlushLate(..)) {
                        late.push((handle, change, id(session), at));
                    } else {
                        handles[handle].record_flush(change, &[(id(session), at)]).unwrap();
                    }
                }
                Step::Delete(handle, session) => {
                    change += 1;
                    handles[handle].record_deletion(change, id(session)).unwrap();
                    expected.insert(session, None);
                }
                Step::Refresh(handle) => handles[handle].refresh().unwrap(),
                Step::Rewrite(handle) => {
                    let marks = &handles[handle];
                    let mut state = marks.lock();
                    state.open_locked(&marks.path, marks.store, LockMode::Exclusive).unwrap();
                    state.refresh(&marks.path, marks.store).unwrap();
                    let lines = state.table.lines();
                    state.replace(&marks.path, marks.store, &lines).unwrap();
                }
            }
        }
        for (handle, change, id, tip) in late {
            handles[handle].record_flush(change, &[(id, tip)]).unwrap();
        }
        // A handle that was open all the time has the same content as a new one.
        for handle in &handles {
            handle.refresh().unwrap();
            prop_assert_eq!((handle.tips(), handle.change()), (place.open().tips(), place.open().change()));
        }
        let mut bytes = fs::read(&place.path).unwrap_or_default();
        let length = bytes.len();
        match damage {
            Damage::Cut(back) => bytes.truncate(length.saturating_sub(back)),
            Damage::Zeroes(back) => bytes[length.saturating_sub(back)..].fill(0),
            Damage::Flip(bit) if length > 0 => bytes[bit / 8 % length] ^= 1 << (bit % 8),
            Damage::None | Damage::Flip(_) => {}
        }
        if length > 0 {
            fs::write(&place.path, &bytes).unwrap();
        }
        let marks = place.open();
        prop_assert!(marks.change() <= change);
        for (id, tip) in marks.tips() {
            prop_assert!(ever.contains(&(id, tip)), "{id} {tip} was never flushed");
        }
        if matches!(damage, Damage::None) {
            for (session, tip) in expected {
                prop_assert_eq!(marks.tip(id(session)), tip, "session {}", session);
            }
        }
        // After any damage the file can be written, and has what is written now.
        marks.record_flush(change + 1, &[(id(200), tip(1))]).unwrap();
        prop_assert_eq!(place.open().tip(id(200)), Some(tip(1)));
        prop_assert_eq!(place.open().change(), change + 1);
    }
}
