//! What a file of marks says, whoever wrote it in whatever order, and whatever has become of it since.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;
use session_core::{ErrorCode, Sum};

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
fn looking_creates_nothing() {
    let place = Place::new();
    let marks = place.open();
    assert_eq!((marks.change(), marks.get(id(1)), marks.tips().len()), (0, None, 0));
    assert_eq!(Marks::find(&place.path).unwrap(), None);
    assert!(!place.path.parent().unwrap().exists());
}

#[test]
fn what_one_notes_others_read() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    one.flushed(3, &[(id(1), tip(5)), (id(2), tip(1))]).unwrap();
    assert_eq!(one.tip(id(1)), Some(tip(5)), "whoever notes it knows it");
    two.refresh().unwrap();
    for marks in [&one, &two, &place.open()] {
        assert_eq!(marks.get(id(1)), Some(Mark { change: 3, tip: Some(tip(5)) }));
        assert_eq!(marks.tips(), [(id(1), tip(5)), (id(2), tip(1))]);
        assert_eq!(marks.change(), 3);
    }
    two.flushed(7, &[]).unwrap();
    one.refresh().unwrap();
    assert_eq!((one.change(), one.tips().len()), (7, 2));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.path), mode(place.path.parent().unwrap())), (0o600, 0o700));
    let found = Marks::find(&place.path).unwrap().unwrap();
    assert_eq!(found, MarksSummary { store: Some(place.store), change: 7, sessions: 2 });
    assert_eq!(fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn of_two_lines_the_later_change_counts_in_whatever_order_they_were_written() {
    let place = Place::new();
    let marks = place.open();
    marks.flushed(9, &[(id(1), tip(9))]).unwrap();
    marks.flushed(4, &[(id(1), tip(4))]).unwrap();
    assert_eq!(place.open().tip(id(1)), Some(tip(9)));
    marks.record_deletion(10, id(1)).unwrap();
    marks.flushed(9, &[(id(1), tip(9))]).unwrap();
    assert_eq!(place.open().get(id(1)), Some(Mark { change: 10, tip: None }));
    // Deleted and made again within one change.
    marks.flushed(10, &[(id(1), tip(1))]).unwrap();
    marks.record_deletion(10, id(1)).unwrap();
    assert_eq!(place.open().tip(id(1)), Some(tip(1)));
}

#[test]
fn a_deletion_that_never_came_about_does_not_put_the_database_behind() {
    let place = Place::new();
    let marks = place.open();
    marks.flushed(4, &[(id(1), tip(4))]).unwrap();
    marks.record_deletion(5, id(1)).unwrap();
    assert_eq!(place.open().change(), 4);
    marks.flushed(5, &[]).unwrap();
    assert_eq!(place.open().change(), 5);
}

#[test]
fn an_accepted_loss_lowers_a_mark() {
    let place = Place::new();
    let marks = place.open();
    marks.flushed(8, &[(id(1), tip(8)), (id(2), tip(3))]).unwrap();
    marks.accept(9, id(1), Some(tip(2))).unwrap();
    marks.accept(10, id(2), None).unwrap();
    let again = place.open();
    assert_eq!(again.tips(), [(id(1), tip(2))]);
    assert_eq!(again.change(), 10);
    marks.reset(11, &[(id(3), tip(1))]).unwrap();
    again.refresh().unwrap();
    assert_eq!(again.tips(), [(id(3), tip(1))]);
    assert_eq!(again.change(), 11);
}

#[test]
fn marks_of_another_store_are_refused_and_both_are_named() {
    let place = Place::new();
    place.open().flushed(1, &[(id(1), tip(1))]).unwrap();
    let other = StoreId::random();
    let before = fs::read(&place.path).unwrap();
    let error = Marks::open(&place.path, other).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    let said = error.to_string();
    assert!(said.contains(&place.store.to_string()) && said.contains(&other.to_string()), "{said}");
    // Also where it comes in while one looks.
    let marks = place.open();
    let foreign = Place::new();
    foreign.open().flushed(9, &[(id(9), tip(9))]).unwrap();
    fs::rename(&foreign.path, &place.path).unwrap();
    assert!(marks.flushed(2, &[(id(1), tip(2))]).is_err());
    assert_eq!(marks.get(id(9)), None);
    assert_ne!(fs::read(&place.path).unwrap(), before);
    assert_eq!(Marks::find(&place.path).unwrap().unwrap().sessions, 1, "nothing was added to it");
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
fn a_file_that_was_removed_is_written_again_from_what_is_known() {
    let place = Place::new();
    let marks = place.open();
    marks.flushed(3, &[(id(1), tip(3))]).unwrap();
    fs::remove_file(&place.path).unwrap();
    marks.refresh().unwrap();
    assert_eq!(marks.tip(id(1)), Some(tip(3)));
    marks.flushed(4, &[(id(2), tip(1))]).unwrap();
    assert_eq!(place.open().tips(), [(id(1), tip(3)), (id(2), tip(1))]);
}

#[test]
fn a_torn_end_is_filled_up_and_costs_one_line() {
    for cut in 1..LINE {
        let place = Place::new();
        let marks = place.open();
        marks.flushed(1, &[(id(1), tip(1))]).unwrap();
        marks.flushed(2, &[(id(2), tip(2))]).unwrap();
        let bytes = fs::read(&place.path).unwrap();
        fs::write(&place.path, &bytes[..bytes.len() - cut]).unwrap();
        let marks = place.open();
        assert_eq!(marks.tips(), [(id(1), tip(1))]);
        marks.flushed(2, &[(id(3), tip(3))]).unwrap();
        let bytes = fs::read(&place.path).unwrap();
        assert_eq!(bytes.len(), 4 * LINE);
        assert!(bytes.chunks(LINE).all(|line| line.ends_with(b"\n")));
        // Only its end was missing: with one, it is whole.
        let second = (cut == 1).then_some((id(2), tip(2)));
        let expected: Vec<_> =
            [Some((id(1), tip(1))), second, Some((id(3), tip(3)))].into_iter().flatten().collect();
        assert_eq!(place.open().tips(), expected, "{cut}");
    }
}

#[test]
fn a_long_file_is_written_anew_and_says_the_same() {
    let place = Place::new();
    let (marks, other) = (place.open(), place.open());
    let lines = || fs::metadata(&place.path).unwrap().len() / LINE as u64;
    let mut change = 0;
    let mut longest = 0;
    loop {
        for session in 0..5 {
            change += 1;
            marks.flushed(change, &[(id(session), tip(change))]).unwrap();
        }
        marks.record_deletion(change + 1, id(7)).unwrap();
        change += 1;
        if lines() < longest {
            break;
        }
        longest = lines();
        assert!(longest < 2 * SLACK as u64, "it stays long");
    }
    marks.flushed(change, &[]).unwrap();
    assert!(longest + 6 > SLACK as u64 && lines() < 20, "{longest}, {}", lines());
    let before = marks.tips();
    assert_eq!(before, [0, 1, 2, 3, 4].map(|session| (id(session), tip(change - 5 + u64::from(session)))));
    for marks in [&marks, &other, &place.open()] {
        marks.refresh().unwrap();
        assert_eq!((marks.tips(), marks.change()), (before.clone(), change));
        // Whoever flushed before the deletion may note it only now.
        assert_eq!(marks.get(id(7)).unwrap().tip, None);
    }
    marks.flushed(1, &[(id(7), tip(1))]).unwrap();
    assert_eq!(place.open().tip(id(7)), None);
    assert_eq!(fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 1);
}

/// Somebody is about to write: what was flushed is noted all the same, and it is not tried again with each note.
#[test]
fn a_file_that_cannot_be_written_anew_stays_long() {
    let place = Place::new();
    let marks = place.open();
    marks.flushed(1, &[(id(1), tip(1))]).unwrap();
    // Held by somebody who is about to write.
    let held = place.open();
    held.lock().open_held(&place.path, place.store, Hold::Shared).unwrap();
    let many: Vec<_> = (1..=SLACK as u64 + 8).map(|revision| (id(1), tip(revision))).collect();
    marks.flushed(2, &many).unwrap();
    marks.flushed(3, &[(id(1), tip(9000))]).unwrap();
    let long = fs::metadata(&place.path).unwrap().len();
    assert!(long > (SLACK * LINE) as u64);
    assert_eq!(place.open().tip(id(1)), Some(tip(9000)));
    held.lock().open.as_ref().unwrap().let_go();
    marks.flushed(4, &[(id(2), tip(1))]).unwrap();
    assert!(fs::metadata(&place.path).unwrap().len() > long, "it waits until that is worthwhile again");
    // Whoever else comes and writes finds it long.
    let other = place.open();
    other.flushed(5, &[(id(2), tip(2))]).unwrap();
    assert!(fs::metadata(&place.path).unwrap().len() < 10 * LINE as u64);
    marks.refresh().unwrap();
    assert_eq!(marks.tips(), [(id(1), tip(9000)), (id(2), tip(2))]);
}

#[test]
fn whoever_appends_while_the_file_is_written_anew_loses_nothing() {
    let place = Place::new();
    let last = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for session in 0..3 {
            let (place, last) = (&place, &last);
            scope.spawn(move || {
                let marks = place.open();
                for revision in 1..=150 {
                    let change = last.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    marks.flushed(change, &[(id(session), tip(revision))]).unwrap();
                    // In the file that all others read, not in one that was replaced.
                    assert_eq!(place.open().tip(id(session)), Some(tip(revision)));
                }
            });
        }
        scope.spawn(|| {
            let marks = place.open();
            for _ in 0..100 {
                // As `compact`, however short the file is.
                let mut state = marks.lock();
                state.open_held(&marks.path, marks.store, Hold::Alone).unwrap();
                state.refresh(&marks.path, marks.store).unwrap();
                let lines = state.known.lines();
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
    /// Somebody flushes the session with its next revision.
    Flush(usize, u8),
    /// Somebody notes it only after what others do next.
    FlushLate(usize, u8),
    Delete(usize, u8),
    Refresh(usize),
    Rewrite(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, session) = (0..3usize, 0..4u8);
    prop_oneof![
        6 => (who.clone(), session.clone()).prop_map(|(who, session)| Step::Flush(who, session)),
        2 => (who.clone(), session.clone()).prop_map(|(who, session)| Step::FlushLate(who, session)),
        2 => (who.clone(), session).prop_map(|(who, session)| Step::Delete(who, session)),
        1 => who.clone().prop_map(Step::Refresh),
        1 => who.prop_map(Step::Rewrite),
    ]
}

#[derive(Debug, Clone)]
enum Harm {
    Nothing,
    Cut(usize),
    Zeroes(usize),
    Flip(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        2 => Just(Harm::Nothing),
        2 => (0..2000usize).prop_map(Harm::Cut),
        2 => (0..2000usize).prop_map(Harm::Zeroes),
        2 => any::<usize>().prop_map(Harm::Flip),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However notes of several processes are mixed, an undamaged file says of each session exactly the last thing that
    /// was flushed; a damaged one says nothing that never was.
    #[test]
    fn marks_never_claim_too_much(steps in prop::collection::vec(step(), 1..60), harm in harm()) {
        let place = Place::new();
        let handles = [place.open(), place.open(), place.open()];
        let mut change = 0;
        let mut revisions: HashMap<u8, u64> = HashMap::new();
        let mut expected: HashMap<u8, Option<Tip>> = HashMap::new();
        let mut ever: Vec<(SessionId, Tip)> = Vec::new();
        let mut late = Vec::new();
        for step in steps {
            match step {
                Step::Flush(who, session) | Step::FlushLate(who, session) => {
                    change += 1;
                    let revision = revisions.entry(session).or_default();
                    *revision += 1;
                    let at = tip(*revision);
                    ever.push((id(session), at));
                    expected.insert(session, Some(at));
                    if matches!(step, Step::FlushLate(..)) {
                        late.push((who, change, id(session), at));
                    } else {
                        handles[who].flushed(change, &[(id(session), at)]).unwrap();
                    }
                }
                Step::Delete(who, session) => {
                    change += 1;
                    handles[who].record_deletion(change, id(session)).unwrap();
                    expected.insert(session, None);
                }
                Step::Refresh(who) => handles[who].refresh().unwrap(),
                Step::Rewrite(who) => {
                    let marks = &handles[who];
                    let mut state = marks.lock();
                    state.open_held(&marks.path, marks.store, Hold::Alone).unwrap();
                    state.refresh(&marks.path, marks.store).unwrap();
                    let lines = state.known.lines();
                    state.replace(&marks.path, marks.store, &lines).unwrap();
                }
            }
        }
        for (who, change, id, tip) in late {
            handles[who].flushed(change, &[(id, tip)]).unwrap();
        }
        // Whoever has looked on all the while knows what somebody knows who looks now.
        for handle in &handles {
            handle.refresh().unwrap();
            prop_assert_eq!((handle.tips(), handle.change()), (place.open().tips(), place.open().change()));
        }
        let mut bytes = fs::read(&place.path).unwrap_or_default();
        let whole = bytes.len();
        match harm {
            Harm::Cut(back) => bytes.truncate(whole.saturating_sub(back)),
            Harm::Zeroes(back) => bytes[whole.saturating_sub(back)..].fill(0),
            Harm::Flip(bit) if whole > 0 => bytes[bit / 8 % whole] ^= 1 << (bit % 8),
            Harm::Nothing | Harm::Flip(_) => {}
        }
        if whole > 0 {
            fs::write(&place.path, &bytes).unwrap();
        }
        let marks = place.open();
        prop_assert!(marks.change() <= change);
        for (id, tip) in marks.tips() {
            prop_assert!(ever.contains(&(id, tip)), "{id} {tip} was never flushed");
        }
        if matches!(harm, Harm::Nothing) {
            for (session, tip) in expected {
                prop_assert_eq!(marks.tip(id(session)), tip, "session {}", session);
            }
        }
        // Whatever it looks like, it can be written, and says what is written now.
        marks.flushed(change + 1, &[(id(200), tip(1))]).unwrap();
        prop_assert_eq!(place.open().tip(id(200)), Some(tip(1)));
        prop_assert_eq!(place.open().change(), change + 1);
    }
}
