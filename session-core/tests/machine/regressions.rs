//! Typical defects of such systems, at the level of the machine: what goes wrong elsewhere, and what holds here.

use std::time::Duration;

use serde_json::json;
use session_core::{
    Changes, EventKind, Evidence, Failure, FailureCause, PauseReason, ProgressReport, SessionConfig,
    SessionEvent, SessionState, SessionSummary, StateName, TransitionError,
};

use crate::log::Log;
use crate::oracle::{instant, owner};

fn created() -> Log {
    let mut log = Log::new();
    let config = Box::new(SessionConfig::new("work").name("n"));
    log.push(SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits: 0 });
    log
}

fn running() -> Log {
    let mut log = created();
    log.push(SessionEvent::Started { owner: owner(0) });
    log
}

fn progress(report: ProgressReport) -> SessionEvent {
    SessionEvent::ProgressReported { report }
}

fn completed() -> SessionEvent {
    SessionEvent::Completed { summary: SessionSummary::new() }
}

fn paused() -> SessionEvent {
    SessionEvent::Paused { reason: PauseReason::Requested(String::new()) }
}

fn died() -> SessionEvent {
    SessionEvent::Interrupted { evidence: Evidence::LockReleased }
}

fn checkpoint(resumable: bool) -> SessionEvent {
    SessionEvent::CheckpointSaved { state: json!(1), resumable }
}

#[track_caller]
fn refused(log: &mut Log, event: SessionEvent, code: &str) {
    let before = log.clone();
    let rejected = log.offer(event).expect_err("it was accepted");
    let found = match rejected {
        TransitionError::IllegalTransition { .. } => "ILLEGAL_TRANSITION",
        TransitionError::Fenced { .. } => "FENCED",
        other => panic!("refused, but as {other:?}"),
    };
    assert_eq!(found, code);
    assert_eq!((&log.lines, &log.head), (&before.lines, &before.head), "a refusal changed something");
}

/// A worker that finishes just after it was cancelled calls `complete`, and the store then says "completed": the person
/// who cancelled reads that the work they stopped was done.
#[test]
fn complete_after_cancel_does_not_overwrite_it() {
    let mut log = running();
    log.push(SessionEvent::Cancelled { reason: "enough".to_owned() });
    for ending in [completed(), SessionEvent::Failed { error: Failure::new(FailureCause::Work, "late") }] {
        refused(&mut log, ending, "ILLEGAL_TRANSITION");
    }
    assert_eq!(log.head().state(), &SessionState::Cancelled { reason: "enough".to_owned() });
}

/// A session that was never started was completed by a caller with the wrong id, and listed as done.
#[test]
fn a_session_that_never_started_is_not_completed() {
    refused(&mut created(), completed(), "ILLEGAL_TRANSITION");
}

/// A failed or cancelled session was saved through the same call as a completed one, and came back as completed.
#[test]
fn each_ending_reads_back_as_itself() {
    for (ending, name) in [
        (completed(), StateName::Completed),
        (SessionEvent::Failed { error: Failure::new(FailureCause::Work, "bad") }, StateName::Failed),
        (SessionEvent::Cancelled { reason: "no".to_owned() }, StateName::Cancelled),
    ] {
        let mut log = running();
        log.push(ending);
        let mut read = None;
        for record in log.read() {
            session_core::Head::fold(&mut read, log.id, &record).unwrap();
        }
        assert_eq!(read.unwrap().state().name(), name);
    }
}

/// A progress callback that was still on its way reopened a bar at 97 % below a session that had ended.
#[test]
fn progress_after_the_end_is_refused() {
    let mut log = running();
    log.push(progress(ProgressReport::new().percent(40.0)));
    log.push(completed());
    refused(&mut log, progress(ProgressReport::new().percent(97.0)), "ILLEGAL_TRANSITION");
    assert_eq!(log.head().progress.percent, Some(40.0));
}

/// A new attempt counted its steps from 0, and 800 of 1000 became 1 of 1000 on the screen: the step count lived in
/// the process.
#[test]
fn a_resume_does_not_reset_the_step_count() {
    let mut log = running();
    log.push(SessionEvent::IterationStarted { number: 1 });
    log.push(progress(ProgressReport::new().completed_steps(800).total_steps(1000).percent(80.0)));
    log.push(died()).push(SessionEvent::Resumed { owner: owner(1) });
    assert_eq!(log.head().progress.completed_steps, Some(800));
    log.push(progress(ProgressReport::new().completed_steps(1).percent(0.1)));
    let progress_now = &log.head().progress;
    assert_eq!(
        (progress_now.completed_steps, progress_now.total_steps, progress_now.percent),
        (Some(800), Some(1000), Some(80.0))
    );
    assert_eq!(log.head().lifecycle.attempt, 2);
    assert_eq!(log.head().state(), &SessionState::Running { iteration: 1 });
    log.push(progress(ProgressReport::new().completed_steps(801)));
    assert_eq!(log.head().progress.completed_steps, Some(801));
}

/// With an unknown total, 1 step of "at least 1" was shown as 100 %, and users stopped checking.
#[test]
fn the_first_step_of_unknown_many_is_no_percentage() {
    let mut log = running();
    log.push(progress(ProgressReport::new().completed_steps(1).step("first")));
    assert_eq!(log.head().progress.percent, None);
    assert_eq!(log.head().progress.total_steps, None);
}

/// Each bare percentage replaced the whole progress report: the current step vanished from the screen.
#[test]
fn a_bare_percentage_keeps_the_current_step() {
    let mut log = running();
    log.push(progress(
        ProgressReport::new().step("linking").phase("build").completed_steps(3).total_steps(9),
    ));
    log.push(progress(ProgressReport::new().percent(50.0)));
    let kept = &log.head().progress;
    assert_eq!(kept.step.as_deref(), Some("linking"));
    assert_eq!(kept.phase.as_deref(), Some("build"));
    assert_eq!((kept.completed_steps, kept.total_steps, kept.percent), (Some(3), Some(9), Some(50.0)));
}

/// Pause and resume used up attempts, and after three lunch breaks the session failed as a crash loop.
#[test]
fn three_ordinary_pauses_use_up_no_attempts() {
    let mut log = running();
    for _ in 0..3 {
        log.push(paused()).push(SessionEvent::Resumed { owner: owner(0) });
    }
    assert_eq!((log.head().deaths, log.head().lifecycle.attempt), (0, 1));
    // Nor do shutdowns, dropped work, declarations by a person and cuts by a repair: none of them is a proven death.
    for (n, evidence) in
        [Evidence::Shutdown, Evidence::Dropped, Evidence::Forced { by: "me".to_owned() }, Evidence::Repaired]
            .into_iter()
            .enumerate()
    {
        log.push(SessionEvent::Interrupted { evidence });
        log.push(SessionEvent::Resumed { owner: owner(u8::try_from(n % 2).unwrap()) });
    }
    assert_eq!((log.head().deaths, log.head().lifecycle.attempt), (0, 5));
}

/// A poison session kills each of its owners: proven deaths without progress in between are counted.
#[test]
fn proven_deaths_are_counted_until_progress_is_made() {
    let mut log = running();
    let die = |log: &mut Log, evidence| {
        log.push(SessionEvent::Interrupted { evidence }).push(SessionEvent::Resumed { owner: owner(1) });
        log.head().deaths
    };
    assert_eq!(die(&mut log, Evidence::LockReleased), 1);
    assert_eq!(die(&mut log, Evidence::ProcessGone), 2);
    log.push(checkpoint(false));
    log.push(progress(ProgressReport::new().percent(1.0)));
    assert_eq!(die(&mut log, Evidence::Rebooted { boot: "b".to_owned() }), 3);
    log.push(checkpoint(true));
    assert_eq!(log.head().deaths, 0);
    assert_eq!(die(&mut log, Evidence::LockReleased), 1);
    log.push(SessionEvent::IterationStarted { number: 1 });
    assert_eq!(log.head().deaths, 1);
    log.push(SessionEvent::IterationCompleted { number: 1, changes: Changes::default() });
    assert_eq!(log.head().deaths, 0);
}

/// A program that died between "create" and "start" left a session that stayed "created" for ever: it had no owner, so
/// no process checked whether its creator was alive.
#[test]
fn a_crash_before_the_start_can_be_noticed() {
    let mut log = created();
    assert_eq!(log.head().responsible_process(), Some(&owner(0)), "no process is responsible");
    log.push(SessionEvent::Noted { kind: "test.note".to_owned(), data: json!(1) });
    log.push(SessionEvent::CancelRequested { reason: String::new(), by: String::new(), force: false });
    assert_eq!(log.head().responsible_process(), Some(&owner(0)), "forgotten before the start");
    log.push(SessionEvent::Started { owner: owner(1) });
    assert_eq!(log.head().responsible_process(), Some(&owner(1)));
    assert_eq!(log.head().creator, None);

    let mut queued = Log::new();
    let config = Box::new(SessionConfig::new("work").queued());
    queued.push(SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits: 0 });
    assert_eq!(queued.head().responsible_process(), None, "a queued session does not depend on its creator");
}

/// Pause and resume gave the session a new attempt, and the reports of the child that had been stopped in between were
/// refused as those of a former attempt.
#[test]
fn a_child_that_was_paused_and_resumed_may_still_report() {
    let mut log = running();
    log.push(paused()).push(SessionEvent::Resumed { owner: owner(0) });
    log.offer_as(progress(ProgressReport::new().percent(10.0)), 1).expect("the same owner, the same attempt");
}

/// Two processes found one orphan and both resumed it: the work ran twice concurrently.
#[test]
fn one_orphan_is_resumed_by_one() {
    let mut log = running();
    log.push(died());
    let mut loser = log.clone();
    log.push(SessionEvent::Resumed { owner: owner(1) });
    // The loser's append met a conflict; it reads what was appended and decides again.
    loser.clone_from(&log);
    refused(&mut loser, SessionEvent::Resumed { owner: owner(2) }, "FENCED");
}

/// A machine slept with its lid closed, its session was taken over elsewhere, and on waking the old owner continued to
/// write to it.
#[test]
fn an_owner_that_was_replaced_writes_nothing() {
    let mut log = running();
    log.push(died());
    for event in [progress(ProgressReport::new()), completed(), paused(), checkpoint(true)] {
        let rejected = log.offer_as(event, 1).expect_err("it has no owner");
        assert!(matches!(rejected, TransitionError::Fenced { attempt: 1, current: 1 }), "{rejected:?}");
    }
    log.push(SessionEvent::Resumed { owner: owner(1) });
    for event in [
        progress(ProgressReport::new()),
        completed(),
        paused(),
        checkpoint(true),
        SessionEvent::Failed { error: Failure::new(FailureCause::Work, "late") },
        SessionEvent::Cancelled { reason: "late".to_owned() },
        SessionEvent::Noted { kind: "test.note".to_owned(), data: json!(1) },
    ] {
        let rejected = log.offer_as(event, 1).expect_err("it was replaced");
        assert!(matches!(rejected, TransitionError::Fenced { attempt: 1, current: 2 }), "{rejected:?}");
    }
}

/// An orphan that was cancelled eight hours after its death was given eight hours of running time.
#[test]
fn time_after_a_death_is_not_running_time() {
    let mut log = running();
    let hour = |n: i64| session_core::Timestamp::from_millis(instant(2).as_millis() + n * 3_600_000).unwrap();
    log.offer_at(progress(ProgressReport::new().percent(1.0)), 1, hour(1)).unwrap();
    let request = SessionEvent::CancelRequested { reason: String::new(), by: String::new(), force: false };
    log.offer_at(request, 1, hour(9)).unwrap();
    log.offer_at(died(), 1, hour(9)).unwrap();
    assert_eq!(log.head().ran(hour(10)), Duration::from_secs(3600));
    log.offer_at(SessionEvent::Resumed { owner: owner(1) }, 2, hour(20)).unwrap();
    log.offer_at(paused(), 2, hour(22)).unwrap();
    assert_eq!(log.head().ran(hour(30)), Duration::from_secs(3 * 3600));
    log.offer_at(SessionEvent::Resumed { owner: owner(1) }, 2, hour(40)).unwrap();
    // An owner that releases its session was alive until then.
    log.offer_at(SessionEvent::Interrupted { evidence: Evidence::Shutdown }, 2, hour(41)).unwrap();
    assert_eq!(log.head().ran(hour(50)), Duration::from_secs(4 * 3600));
    assert_eq!(log.head().summary(hour(50)).duration_ms, 4 * 3_600_000);
}

/// A command ended with 0, then the program was killed: the head said exit code 0 and signal 9.
#[test]
fn a_program_ends_by_a_code_or_by_a_signal() {
    let mut log = running();
    log.push(SessionEvent::CommandExecuted {
        command: "make".to_owned(),
        exit_code: Some(0),
        signal: None,
        duration_ms: 1,
        output_bytes: 1,
        main: false,
        stop: None,
    });
    log.push(SessionEvent::Failed { error: Failure::new(FailureCause::Work, "killed").signal(9) });
    assert_eq!((log.head().exit_code, log.head().signal), (None, Some(9)));
}

/// The first refusal overflowed the stack: the error lists what is allowed, and the list called the rule that created
/// the error.
#[test]
fn a_refusal_lists_the_allowed_kinds() {
    let mut log = running();
    let rejected = log.offer(SessionEvent::Started { owner: owner(1) }).expect_err("it runs already");
    let TransitionError::IllegalTransition { state, event, allowed } = rejected else {
        panic!("{rejected:?}")
    };
    assert_eq!((state, event), (Some(StateName::Running), EventKind::Started));
    assert!(allowed.contains(&EventKind::Paused) && !allowed.contains(&EventKind::Resumed), "{allowed:?}");
    assert!(!allowed.contains(&EventKind::IterationCompleted), "none is open");
    let rejected = TransitionError::IllegalTransition { state, event, allowed };
    assert_eq!(rejected.to_string(), "`started` is not possible while the session is running");
    let rejected = TransitionError::IllegalTransition {
        state: None,
        event: EventKind::Started,
        allowed: vec![EventKind::Created],
    };
    assert_eq!(rejected.to_string(), "`started` is not possible while the session does not exist");
}

#[test]
fn each_state_has_one_name_and_three_are_final() {
    let names = ["created", "running", "paused", "completed", "failed", "cancelled"];
    assert_eq!(StateName::ALL.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
    for (state, name) in StateName::ALL.iter().zip(names) {
        assert_eq!((state.name(), StateName::parse(name)), (name, Some(*state)));
        let of_json = serde_json::to_value(state).unwrap();
        assert_eq!(of_json, name, "logs and `--json` agree");
    }
    assert_eq!(StateName::parse("Running"), None);
    let log = running();
    assert!(!log.head().state().is_final() && !StateName::Paused.is_final());
    let end = SessionState::Cancelled { reason: String::new() };
    assert!(end.is_final() && StateName::Completed.is_final() && StateName::Failed.is_final());
}

/// Numbers of a foreign log overflowed when added up, and reading it crashed the reader.
#[test]
fn totals_saturate() {
    let mut log = running();
    for number in 1..=2 {
        log.push(SessionEvent::IterationStarted { number });
        let changes = Changes::totals(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        log.push(SessionEvent::IterationCompleted { number, changes });
    }
    assert_eq!(log.head().totals.files_changed, u64::MAX);
}

/// A cancel was requested while the session was down, and the recovery resumed it all the same.
#[test]
fn a_pending_cancel_survives_everything_but_the_end() {
    let mut log = created();
    let request = |force| SessionEvent::CancelRequested { reason: "r".to_owned(), by: "b".to_owned(), force };
    log.push(request(false));
    for event in [
        SessionEvent::Started { owner: owner(0) },
        paused(),
        SessionEvent::Resumed { owner: owner(0) },
        died(),
        SessionEvent::Resumed { owner: owner(1) },
    ] {
        log.push(event);
        assert!(log.head().lifecycle.requests.cancel.as_ref().is_some_and(|cancel| !cancel.force));
    }
    log.push(request(true)).push(request(false));
    assert!(log.head().lifecycle.requests.cancel.as_ref().is_some_and(|cancel| cancel.force));
    assert!(log.allows(EventKind::Cancelled));
    log.push(completed());
    assert_eq!(log.head().lifecycle.requests.cancel, None);
}
