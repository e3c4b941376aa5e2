//! Sample logs of sessions in every state.

use session_core::{PauseReason, SessionConfig, SessionId, StateName, StepEnd, StepOutcome};

use super::{Log, owner};

/// Returns logs in all states, with all pause reasons, owned and unowned, with pending requests, and with steps.
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
    let kept = StepOutcome::Completed(StepEnd { value_bytes: Some(3), ..StepEnd::default() });
    let unknown = StepOutcome::Unknown { deaths: 1 };
    vec![
        inheriting(&|log| log.inherited(unknown)),
        inheriting(&|log| {
            log.inherited(kept).step_value(2, "1.2").inherited(unknown).started().completed_step()
        }),
        inheriting(&|log| log.inherited(kept).cancelled()),
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
