//! Steps in the fold: their totals, the sessions that take some over, and attempts in which one was refused.

use session_core::{
    EventKind, Evidence, FailureCause, InheritedStep, PauseReason, SessionConfig, SessionEvent, SessionId,
    SessionSummary, StateName, StepEnd, StepFailure, StepIdentity, StepOutcome, StepReason, TransitionError,
};

use crate::log::Log;
use crate::oracle::{instant, owner};

fn created(inherits: u64) -> Log {
    let mut log = Log::new();
    let config = Box::new(SessionConfig::new("work").name("n"));
    log.push(SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits });
    log
}

fn running() -> Log {
    let mut log = created(0);
    log.push(SessionEvent::Started { owner: owner(0) });
    log
}

fn start(step: StepIdentity) -> SessionEvent {
    let (fingerprint, because) = ("f".to_owned(), StepReason::First);
    SessionEvent::StepStarted { step, fingerprint, because, reruns: 0, command: None, inputs: Vec::new() }
}

fn complete(skipped: bool) -> SessionEvent {
    let end = StepEnd { skipped, ..StepEnd::default() };
    SessionEvent::StepCompleted { start: 3, end }
}

fn fail() -> SessionEvent {
    SessionEvent::StepFailed { start: 3, failure: StepFailure::default() }
}

fn refuse() -> SessionEvent {
    let (name, code, message) = ("build".to_owned(), "STEP_CHANGED".to_owned(), "it changed".to_owned());
    SessionEvent::StepRefused { name, code, message }
}

fn inherit(outcome: StepOutcome) -> SessionEvent {
    let step = InheritedStep {
        step: StepIdentity::nth("build", 1),
        fingerprint: "f".to_owned(),
        reruns: 0,
        command: None,
        from: SessionId::from_bytes([7; 16]),
        at: instant(0),
        inputs: Vec::new(),
        outcome,
    };
    SessionEvent::Inherited { step: Box::new(step) }
}

fn value() -> SessionEvent {
    SessionEvent::StepValue { start: 2, part: b"1.2".to_vec() }
}

fn program_exited(exit_code: i32) -> SessionEvent {
    SessionEvent::CommandExecuted {
        command: "make".to_owned(),
        exit_code: Some(exit_code),
        signal: None,
        duration_ms: 1,
        output_bytes: 0,
        main: true,
        stop: None,
    }
}

fn completed() -> SessionEvent {
    SessionEvent::Completed { summary: SessionSummary::new() }
}

/// Returns completed, failed and open.
fn totals(log: &Log) -> (u64, u64, u64) {
    let steps = &log.head().steps;
    (steps.completed, steps.failed, steps.open)
}

#[test]
fn a_head_counts_ends_open_steps_and_names_the_newest() {
    let mut log = running();
    assert_eq!((totals(&log), &log.head().steps.newest), ((0, 0, 0), &None));
    log.push(start(StepIdentity::nth("build", 1))).push(start(StepIdentity::keyed("send", "a")));
    assert_eq!(totals(&log), (0, 0, 2));
    assert_eq!(log.head().steps.newest.as_deref(), Some("send[a]"));
    log.push(value()).push(complete(false));
    assert_eq!(totals(&log), (1, 0, 1));
    log.push(fail());
    assert_eq!(totals(&log), (1, 1, 0));
    log.push(start(StepIdentity::nth("build", 2)));
    assert_eq!(log.head().steps.newest.as_deref(), Some("build#2"));
    log.push(refuse());
    assert_eq!(totals(&log), (1, 1, 1), "a refused step was never open");
}

#[test]
fn a_skipped_end_closes_no_open_step() {
    let mut log = running();
    log.push(start(StepIdentity::nth("other", 1))).push(complete(true));
    assert_eq!(totals(&log), (1, 0, 1));
}

#[test]
fn open_steps_stay_open_until_the_next_attempt() {
    let mut log = running();
    log.push(start(StepIdentity::nth("build", 1)));
    log.push(SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) });
    log.push(SessionEvent::Resumed { owner: owner(0) });
    assert_eq!(totals(&log), (0, 0, 1), "the same attempt");
    log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    assert_eq!(totals(&log), (0, 0, 1), "it may have happened");
    log.push(SessionEvent::Resumed { owner: owner(1) });
    assert_eq!(totals(&log), (0, 0, 0));
    assert_eq!(log.head().steps.newest.as_deref(), Some("build"));
}

#[test]
fn deaths_are_counted_from_the_last_completed_step() {
    let mut log = running();
    let die = |log: &mut Log| {
        log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
        log.push(SessionEvent::Resumed { owner: owner(1) });
        log.head().deaths
    };
    log.push(start(StepIdentity::nth("build", 1)));
    assert_eq!(die(&mut log), 1);
    log.push(start(StepIdentity::nth("build", 1))).push(fail());
    assert_eq!(die(&mut log), 2, "a failed step is no progress");
    log.push(start(StepIdentity::nth("build", 1)));
    assert_eq!(log.head().deaths, 2);
    log.push(complete(false));
    assert_eq!(log.head().deaths, 0);
}

#[test]
fn a_session_that_lacks_inherited_records_never_starts() {
    let mut log = created(3);
    let starts = |log: &Log| log.clone().offer(SessionEvent::Started { owner: owner(0) }).is_ok();
    log.push(inherit(StepOutcome::Completed(StepEnd::default())));
    assert!(!starts(&log) && !log.allows(EventKind::Started));
    log.push(value());
    assert!(!starts(&log));
    log.push(inherit(StepOutcome::Unknown { deaths: 2 }));
    assert!(starts(&log) && log.allows(EventKind::Started));
    for more in [inherit(StepOutcome::Unknown { deaths: 0 }), value()] {
        let refused = log.offer(more).unwrap_err();
        assert!(matches!(refused, TransitionError::IllegalTransition { .. }), "{refused:?}");
    }
    log.push(SessionEvent::Started { owner: owner(0) });
    assert_eq!(totals(&log), (1, 0, 0), "an unknown end is no end, and no open step");
}

/// Its retry takes the steps from its predecessor, so it must see that this one has not all of them.
#[test]
fn an_ended_session_shows_what_it_lacks() {
    let mut log = created(2);
    log.push(inherit(StepOutcome::Unknown { deaths: 0 }));
    log.push(SessionEvent::Cancelled { reason: "enough".to_owned() });
    assert_eq!(log.life().unwrap().to_inherit, 1);
}

#[test]
fn nothing_completes_an_attempt_with_a_refused_step() {
    let mut log = running();
    log.push(refuse());
    let refused = log.clone().offer(completed()).unwrap_err();
    assert!(matches!(refused, TransitionError::IllegalTransition { .. }), "{refused:?}");
    log.push(program_exited(0)).push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    let refused = log.clone().offer(completed()).unwrap_err();
    assert!(matches!(refused, TransitionError::Fenced { .. }), "{refused:?}");

    log.push(SessionEvent::Resumed { owner: owner(1) }).push(completed());
    assert_eq!(log.head().state().name(), StateName::Completed, "a new attempt begins without refusals");
}

#[test]
fn a_program_that_succeeded_after_a_refusal_failed() {
    let ending = |events: &[SessionEvent]| {
        let mut log = running();
        for event in events {
            log.push(event.clone());
        }
        log.life().unwrap().ending_of_program()
    };
    assert_eq!(ending(&[refuse()]), None, "the program runs");
    assert_eq!(ending(&[program_exited(0)]).map(|event| event.kind()), Some(EventKind::Completed));
    let Some(SessionEvent::Failed { error }) = ending(&[refuse(), program_exited(0)]) else { panic!() };
    assert_eq!((error.cause, error.exit_code), (FailureCause::Work, None));
    let Some(SessionEvent::Failed { error }) = ending(&[refuse(), program_exited(3)]) else { panic!() };
    assert_eq!(error.exit_code, Some(3), "its own failure says more");
}

/// The owner records the end of a step while its session is paused, but starts none.
#[test]
fn steps_end_in_a_pause_and_start_in_none() {
    let mut log = running();
    log.push(start(StepIdentity::nth("build", 1)));
    log.push(SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) });
    assert!(log.clone().offer(start(StepIdentity::nth("build", 2))).is_err());
    log.push(value()).push(complete(false)).push(fail()).push(refuse());
    log.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    for event in [value(), complete(false), fail(), refuse(), start(StepIdentity::nth("build", 2))] {
        let refused = log.offer(event).unwrap_err();
        assert!(matches!(refused, TransitionError::Fenced { .. }), "without an owner: {refused:?}");
    }
}
