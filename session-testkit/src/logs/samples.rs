//! Sample logs of sessions in every state.

use session_core::{PauseReason, SessionConfig, SessionId, StateName, StepEnd, StepOutcome};

use super::{Log, inherited_answer, inherited_items, owner};

/// Returns logs in all states, with all pause reasons, owned and unowned, with pending requests, and with steps,
/// items, questions and sleeps.
#[must_use]
pub fn of_every_kind() -> Vec<Log> {
    let make = |grow: &dyn Fn(&mut Log) -> &mut Log| {
        let mut log = Log::plain();
        grow(&mut log);
        log
    };
    let inheriting = |grow: &dyn Fn(&mut Log) -> &mut Log| {
        let config = SessionConfig::new("test").name("retry").retry_of(SessionId::random()).queued();
        let mut log = Log::inheriting(owner(), SessionId::random(), config, 3);
        grow(&mut log);
        log
    };
    let kept = || StepOutcome::Completed(StepEnd { value_bytes: Some(3), ..StepEnd::default() });
    let unknown = || StepOutcome::Unknown { deaths: 1 };
    let mut logs = vec![
        inheriting(&|log| log.inherited(unknown())),
        inheriting(&|log| {
            log.inherited(kept()).step_value(2, "1.2").inherited(unknown()).started().completed_step()
        }),
        inheriting(&|log| log.inherited(kept()).cancelled()),
        make(&|log| log.started().completed_step().step_started().step_started()),
        make(&|log| log.started().step_started().step_failed(3).step_started().interrupted()),
        make(&|log| {
            log.started().step_started().step_refused().interrupted().resumed().completed_step().completed()
        }),
        make(&|log| log.started().completed_step().step_refused().failed()),
        Log::plain(),
        Log::new(SessionConfig::new("test").name("queued").queued()),
        make(&|log| log.noted(1).cancel_requested()),
        make(&|log| log.started()),
        make(&|log| log.started().iteration().iteration().progress(2, 9).checkpoint(2)),
        make(&|log| log.started().cancel_requested()),
        make(&|log| log.started().paused(PauseReason::Requested("a break".into()))),
        make(&|log| log.started().paused(PauseReason::AwaitingInput("which one?".into()))),
        make(&|log| log.started().paused(PauseReason::Limit("spent".into()))),
        make(&|log| log.started().interrupted()),
        make(&|log| log.started().interrupted().resumed()),
        make(&|log| log.started().iteration().completed()),
        make(&|log| log.started().failed()),
        make(&|log| log.failed()),
        make(&|log| log.started().cancel_requested().cancelled()),
        make(&|log| log.cancelled()),
    ];
    logs.extend(with_items_and_waits().map(|(inherits, grow)| {
        let config = SessionConfig::new("test").name("waits");
        let mut log = Log::inheriting(owner(), SessionId::random(), config, inherits);
        grow(&mut log);
        log
    }));
    logs
}

type Grow = fn(&mut Log) -> &mut Log;

/// Returns what makes logs with items and waits, with the number of records that they take over.
fn with_items_and_waits() -> [(u64, Grow); 10] {
    [
        (4, |log| {
            log.inherited(inherited_items()).item_value(2, 1).inherited(inherited_answer());
            log.inherited(StepOutcome::Slept).started()
        }),
        (0, |log| log.started().each_started().items_begun(3, [1, 2]).items_moved(3, 1).items_moved(3, 3)),
        (0, |log| {
            log.started().each_started().items_begun(3, [1]).paused(PauseReason::Limit("spent".into()));
            log.item_failed(3, 1)
        }),
        (0, |log| log.started().each_started().items_begun(3, 1..90).interrupted().resumed()),
        (0, |log| log.answered(None).started().asked().asked().asked().asked().asked().asked()),
        (0, |log| log.started().asked().answered(Some(3)).asked().question_withdrawn(5)),
        (0, |log| log.started().asked().interrupted().answered(Some(3)).resumed()),
        (0, |log| log.started().asked().sleep_started().interrupted().resumed().sleep_started()),
        (0, |log| log.started().sleep_started().sleep_ended(3, true).asked().completed()),
        (0, |log| log.started().worktree_intended().worktree_made().interrupted().resumed()),
    ]
}

/// Creates the log of a session in this state.
///
/// # Panics
/// If the config is invalid.
#[must_use]
pub fn in_state(state: StateName, config: SessionConfig) -> Log {
    let mut log = Log::new(config);
    match state {
        StateName::Created => &mut log,
        StateName::Running => log.started(),
        StateName::Paused => log.started().paused(PauseReason::Requested("a break".into())),
        StateName::Completed => log.started().completed(),
        StateName::Failed => log.started().failed(),
        StateName::Cancelled => log.started().cancelled(),
        other => unreachable!("the testkit does not know the state {other}"),
    };
    log
}
