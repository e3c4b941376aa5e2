//! Items, questions and sleeps in the fold: their totals, and the records that may follow.

use session_core::{
    Answer, EventKind, Evidence, Head, InheritedStep, ItemFailure, ItemIdentity, ItemMoves, ItemStart,
    PauseReason, Question, SessionConfig, SessionEvent, SessionId, SessionSummary, StateName, StepEnd,
    StepIdentity, StepOutcome, StepReason, TransitionError,
};

use crate::log::Log;
use crate::oracle::{instant, owner};

fn created(inherits: u64) -> Log {
    let mut log = Log::new();
    let config = Box::new(SessionConfig::new("work").name("n"));
    log.push(SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits });
    log
}

/// Returns a log of two records.
fn running() -> Log {
    let mut log = created(0);
    log.push(SessionEvent::Started { owner: owner(0) });
    log
}

/// Adds the death of the owner, and the next attempt.
fn die(log: &mut Log) {
    log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    log.push(SessionEvent::Resumed { owner: owner(1) });
}

fn pause(log: &mut Log) {
    log.push(SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) });
}

fn each(name: &str, done: u64) -> SessionEvent {
    let (step, fingerprint) = (StepIdentity::nth(name, 1), "f".to_owned());
    SessionEvent::EachStarted { step, fingerprint, reruns: 0, done, command: None }
}

/// Returns a record of items with these numbers of items that are done, failed, skipped and begun.
fn moved(each: u64, [done, failed, skipped, begun]: [u64; 4]) -> SessionEvent {
    let start = |item| ItemStart { item, identity: Some(ItemIdentity { arg: b"a".to_vec(), n: item }) };
    let moves = ItemMoves {
        each,
        total: None,
        done: (1..=done).collect(),
        failed: (1..=failed).map(|item| ItemFailure { item, ..ItemFailure::default() }).collect(),
        skipped: (1..=skipped).collect(),
        too_long: false,
        begun: (1..=begun).map(start).collect(),
    };
    SessionEvent::ItemsMoved { moves }
}

fn begin(each: u64, items: u64) -> SessionEvent {
    moved(each, [0, 0, 0, items])
}

fn total(each: u64, total: u64) -> SessionEvent {
    SessionEvent::ItemsMoved { moves: ItemMoves { each, total: Some(total), ..ItemMoves::default() } }
}

fn ask(name: &str) -> SessionEvent {
    SessionEvent::Asked { question: Box::new(Question::new(StepIdentity::nth(name, 1), "Which one?")) }
}

fn ask_again(name: &str) -> SessionEvent {
    let mut question = Question::new(StepIdentity::nth(name, 1), "Which one?");
    question.again = true;
    SessionEvent::Asked { question: Box::new(question) }
}

fn answer(asked: Option<u64>) -> SessionEvent {
    let answer = Answer { identity: StepIdentity::nth("a", 1), value: "this one".to_owned(), asked };
    SessionEvent::Answered { answer: Box::new(answer), by: "ada".to_owned(), default: false }
}

fn withdraw(asked: u64) -> SessionEvent {
    SessionEvent::QuestionWithdrawn { asked }
}

fn sleep(minutes: u64) -> SessionEvent {
    SessionEvent::SleepStarted { step: StepIdentity::nth("night", 1), until: instant(minutes) }
}

fn wake(start: u64) -> SessionEvent {
    SessionEvent::SleepEnded { start, passed: true }
}

fn step() -> SessionEvent {
    SessionEvent::StepStarted {
        step: StepIdentity::nth("build", 1),
        fingerprint: "f".to_owned(),
        because: StepReason::First,
        reruns: 0,
        command: None,
        inputs: Vec::new(),
    }
}

fn refuse() -> SessionEvent {
    let (name, code, message) = ("build".to_owned(), "STEP_CHANGED".to_owned(), "it changed".to_owned());
    SessionEvent::StepRefused { name, code, message }
}

/// Returns open, each, done, failed and total.
fn items(log: &Log) -> (u64, u64, u64, u64, Option<u64>) {
    let items = &log.head().items;
    (items.open, items.each, items.done, items.failed, items.total)
}

/// Returns the questions, the open waits, and the revision of the last change.
fn waits(log: &Log) -> (u64, u64, u64) {
    let waits = &log.head().waits;
    (waits.questions, waits.open, waits.changed)
}

fn oldest(log: &Log) -> Vec<(&str, u64)> {
    log.head().waits.oldest.iter().map(|open| (open.name.as_str(), open.revision)).collect()
}

fn json(head: &Head) -> serde_json::Value {
    serde_json::to_value(head).unwrap()
}

#[test]
fn a_head_counts_the_items_of_the_newest_each() {
    let mut log = running();
    assert!(json(log.head()).get("items").is_none());
    log.push(each("all", 4)).push(begin(3, 3));
    assert_eq!(items(&log), (3, 3, 4, 0, None));
    log.push(total(3, 9));
    assert_eq!(items(&log), (3, 3, 4, 0, Some(9)));
    log.push(moved(3, [1, 1, 0, 1]));
    assert_eq!(items(&log), (2, 3, 5, 1, Some(9)), "a total that is known stays known");
    assert_eq!(log.head().items.newest.as_deref(), Some("all"));
}

#[test]
fn items_of_an_older_each_are_counted_only_as_open() {
    let mut log = running();
    log.push(each("first", 0)).push(begin(3, 3)).push(each("second", 0)).push(begin(5, 1));
    assert_eq!(items(&log), (4, 5, 0, 0, None));
    log.push(moved(3, [2, 1, 0, 0])).push(total(3, 9));
    assert_eq!(items(&log), (1, 5, 0, 0, None));
    assert_eq!(log.head().items.newest.as_deref(), Some("second"));
}

#[test]
fn skipped_items_close_no_open_item() {
    let mut log = running();
    log.push(each("all", 0)).push(begin(3, 2)).push(moved(3, [0, 0, 2, 0]));
    assert_eq!(items(&log), (2, 3, 2, 0, None));
}

#[test]
fn open_items_stay_open_until_the_next_attempt() {
    let mut log = running();
    log.push(each("all", 0)).push(begin(3, 2));
    log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    assert_eq!(items(&log).0, 2, "they may have happened");
    log.push(SessionEvent::Resumed { owner: owner(1) });
    assert_eq!(items(&log).0, 0);
}

#[test]
fn deaths_are_counted_from_the_last_recorded_item() {
    let mut log = running();
    log.push(each("all", 0)).push(begin(3, 4));
    die(&mut log);
    log.push(moved(3, [0, 1, 0, 1]));
    assert_eq!(log.head().deaths, 1, "a failed item is no progress");
    log.push(moved(3, [1, 0, 0, 0]));
    assert_eq!(log.head().deaths, 0);
    die(&mut log);
    log.push(moved(3, [0, 0, 1, 0]));
    assert_eq!(log.head().deaths, 0, "a skipped item is not run again");
}

#[test]
fn items_begin_only_while_running_without_a_refusal() {
    let mut refused = running();
    refused.push(each("all", 0)).push(begin(3, 1)).push(refuse());
    let mut paused = running();
    paused.push(each("all", 0)).push(begin(3, 1));
    pause(&mut paused);
    for mut log in [refused, paused] {
        let state = log.head().state().name();
        let error = log.offer(moved(3, [1, 0, 0, 1])).unwrap_err();
        assert_eq!(error, TransitionError::ItemBegins { state });
        assert!(log.allows(EventKind::ItemsMoved) && !log.allows(EventKind::EachStarted));
        log.push(moved(3, [1, 0, 0, 0]));
        log.push(SessionEvent::ItemValue { each: 3, item: 1, part: b"v".to_vec() });
        die(&mut log);
        log.push(moved(3, [0, 0, 0, 1]));
    }
}

#[test]
fn only_the_owner_moves_items() {
    let mut log = running();
    log.push(each("all", 0)).push(begin(3, 1));
    log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    for event in [moved(3, [1, 0, 0, 0]), withdraw(3), wake(3)] {
        let error = log.offer(event).unwrap_err();
        assert!(matches!(error, TransitionError::Fenced { .. }), "{error:?}");
    }
}

#[test]
fn a_head_names_the_four_oldest_questions() {
    let mut log = running();
    for name in ["a", "b", "c", "d", "e"] {
        log.push(ask(name));
    }
    assert_eq!(oldest(&log), [("a", 3), ("b", 4), ("c", 5), ("d", 6)]);
    assert_eq!(waits(&log), (5, 5, 7));
    log.push(answer(Some(4)));
    assert_eq!(oldest(&log), [("a", 3), ("c", 5), ("d", 6)]);
    assert_eq!(waits(&log), (4, 4, 8));
    log.push(withdraw(7));
    assert_eq!(oldest(&log), [("a", 3), ("c", 5), ("d", 6)]);
    assert_eq!(waits(&log), (3, 3, 9));
}

/// A question that came later is not named before an older one.
#[test]
fn named_questions_are_the_oldest_without_gaps() {
    let mut log = running();
    for name in ["a", "b", "c", "d", "e"] {
        log.push(ask(name));
    }
    log.push(answer(Some(3))).push(ask("f"));
    assert_eq!(oldest(&log), [("b", 4), ("c", 5), ("d", 6)]);
    log.push(answer(Some(7))).push(answer(Some(9))).push(ask("g"));
    assert_eq!(oldest(&log), [("b", 4), ("c", 5), ("d", 6), ("g", 12)]);
}

#[test]
fn a_question_that_is_asked_again_is_the_same_one() {
    let mut log = running();
    log.push(ask("a")).push(ask("b"));
    die(&mut log);
    assert_eq!(waits(&log), (2, 0, 4), "no attempt waits for them yet");
    log.push(ask_again("b"));
    assert_eq!(waits(&log), (2, 1, 7));
    assert_eq!(oldest(&log), [("a", 3), ("b", 7)]);
    assert_eq!(log.head().waits.oldest[1].at, instant(4), "it waits since it was first asked");
    log.push(answer(Some(7)));
    assert_eq!(waits(&log), (1, 0, 8));
    assert_eq!(oldest(&log), [("a", 3)]);
}

#[test]
fn names_that_are_cut_alike_are_asked_again_in_order() {
    let [first, second] = ["1", "2"].map(|end| "x".repeat(64) + end);
    let mut log = running();
    log.push(ask(&first)).push(ask(&second));
    die(&mut log);
    log.push(ask_again(&first)).push(ask_again(&second));
    assert_eq!(oldest(&log).iter().map(|(_, revision)| *revision).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn an_answer_before_the_question_ends_none() {
    let mut log = created(0);
    log.push(answer(None)).push(SessionEvent::Started { owner: owner(0) });
    assert_eq!(waits(&log), (0, 0, 2));
    log.push(ask("a")).push(answer(None));
    assert_eq!(waits(&log), (1, 1, 5));
    assert_eq!(oldest(&log), [("a", 4)]);
}

#[test]
fn answers_of_a_former_attempt_leave_open_waits() {
    let mut log = running();
    log.push(ask("a")).push(ask("b"));
    die(&mut log);
    log.push(ask("c"));
    assert_eq!(waits(&log), (3, 1, 7));
    log.push(answer(Some(3)));
    assert_eq!(waits(&log), (2, 1, 8));
    log.push(answer(Some(7)));
    assert_eq!(waits(&log), (1, 0, 9));
}

/// The revision at which the attempt began was recorded only where a question was open then: the end of a sleep of a former
/// attempt closed a question of this one.
#[test]
fn sleeps_of_a_former_attempt_leave_open_waits() {
    let mut log = running();
    log.push(sleep(90));
    die(&mut log);
    log.push(ask("a")).push(wake(3));
    assert_eq!(waits(&log), (1, 1, 6));
    die(&mut log);
    log.push(sleep(91)).push(wake(3)).push(answer(Some(6)));
    assert_eq!((waits(&log).1, log.head().waits.until), (1, Some(instant(91))));
}

#[test]
fn a_wake_up_time_is_shown_until_its_sleep_ends() {
    let mut log = running();
    log.push(sleep(90)).push(sleep(91));
    assert_eq!((waits(&log), log.head().waits.until), ((0, 2, 0), Some(instant(91))));
    log.push(wake(3));
    assert_eq!((waits(&log).1, log.head().waits.until), (1, Some(instant(91))));
    log.push(SessionEvent::SleepEnded { start: 4, passed: false });
    assert!(json(log.head()).get("waits").is_none(), "nothing is left of them");
    log.push(sleep(92));
    die(&mut log);
    assert_eq!((waits(&log).1, log.head().waits.until), (0, None));
}

#[test]
fn a_session_that_has_ended_waits_for_nothing() {
    let ends = [
        SessionEvent::Completed { summary: SessionSummary::new() },
        SessionEvent::Cancelled { reason: "enough".to_owned() },
    ];
    for end in ends {
        let mut log = running();
        log.push(ask("a")).push(sleep(90)).push(end);
        assert!(json(log.head()).get("waits").is_none() && !log.head().is_waiting());
        let error = log.offer(answer(Some(3))).unwrap_err();
        assert!(matches!(error, TransitionError::IllegalTransition { .. }), "{error:?}");
    }
}

#[test]
fn only_work_that_does_nothing_else_is_waiting() {
    let mut log = running();
    assert!(!log.head().is_waiting(), "it works");
    log.push(ask("a"));
    assert!(log.head().is_waiting());
    log.push(step());
    assert!(!log.head().is_waiting(), "a step runs");
    log.push(SessionEvent::StepCompleted { start: 4, end: StepEnd::default() });
    assert!(log.head().is_waiting());
    log.push(each("all", 0));
    assert!(log.head().is_waiting(), "no item runs yet");
    log.push(begin(6, 1));
    assert!(!log.head().is_waiting(), "an item runs");
    log.push(moved(6, [1, 0, 0, 0]));
    assert!(log.head().is_waiting());
    log.push(answer(Some(3)));
    assert!(!log.head().is_waiting());
    log.push(sleep(90));
    assert!(log.head().is_waiting());
    pause(&mut log);
    assert!(!log.head().is_waiting(), "it is paused");
    log.push(SessionEvent::Resumed { owner: owner(0) });
    assert!(log.head().is_waiting(), "the same attempt");
    die(&mut log);
    assert!(!log.head().is_waiting(), "the next attempt has not asked yet");
}

#[test]
fn waits_end_in_a_pause_and_start_in_none() {
    let mut log = running();
    log.push(ask("a")).push(ask("b")).push(sleep(90));
    pause(&mut log);
    for event in [ask("c"), sleep(91), each("all", 0)] {
        let error = log.offer(event).unwrap_err();
        assert!(matches!(error, TransitionError::IllegalTransition { .. }), "{error:?}");
    }
    log.push(answer(Some(3))).push(withdraw(4)).push(wake(5));
    assert_eq!(waits(&log), (0, 0, 8));
}

#[test]
fn nothing_waits_after_a_refusal() {
    let mut log = running();
    log.push(ask("a")).push(refuse());
    for event in [ask("b"), sleep(90), each("all", 0)] {
        assert!(log.offer(event).is_err());
    }
    log.push(answer(Some(3)));
}

#[test]
fn values_of_inherited_items_are_part_of_what_is_missing() {
    let inherit = |outcome| {
        let step = InheritedStep {
            step: StepIdentity::nth("all", 1),
            fingerprint: "f".to_owned(),
            reruns: 0,
            command: None,
            from: SessionId::from_bytes([7; 16]),
            at: instant(0),
            inputs: Vec::new(),
            outcome,
        };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    let value = || SessionEvent::ItemValue { each: 2, item: 1, part: b"v".to_vec() };
    let mut log = created(3);
    log.push(inherit(StepOutcome::Items { items: Vec::new(), too_long: false })).push(value());
    let error = log.offer(answer(None)).unwrap_err();
    assert!(matches!(error, TransitionError::IllegalTransition { .. }), "it has not all of them: {error:?}");
    log.push(inherit(StepOutcome::Slept));
    assert!(log.offer(value()).is_err(), "it has all of them");
    log.push(answer(None)).push(SessionEvent::Started { owner: owner(0) });
    assert_eq!(log.head().state().name(), StateName::Running);
    assert_eq!((log.head().steps.completed, items(&log).2), (0, 0), "they are no steps of this session");
}
