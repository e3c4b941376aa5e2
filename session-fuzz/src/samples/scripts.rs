//! Scripts of the samples: the events of their logs, batch by batch.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use serde_json::json;
use session_core::{
    Durability, Failure, FailureCause, InheritedItem, ItemFailure, ItemMoves, ItemStart, PauseReason,
    Question, SessionConfig, SessionEvent, StepEnd, StepFailure, StepIdentity, StepOutcome, Timestamp,
    WorktreePlan,
};

use super::events::{
    answered, cancel_requested, changes, checkpoint, created, created_with, inherited, inheriting,
    interrupted, item, note, progress, resumed, started, step, step_end,
};

/// Batches of events, each with its durability.
pub(super) type Script = Vec<(Vec<SessionEvent>, Durability)>;

/// Returns the scripts of all samples.
pub(super) fn all() -> Vec<Script> {
    use Durability::{Buffered, Flushed};
    let full = SessionConfig::new("fuzz")
        .name("a name \"with\" \\ and 日本語")
        .project_path("/project")
        .label("team", "data")
        .label("ключ", "значение")
        .metadata(json!({ "a": [1, null, true, -0.5] }))
        .idempotency_key("key")
        .queued();
    let mut scripts = vec![
        vec![(vec![created("only created")], Flushed)],
        vec![
            (vec![created("runs"), started()], Flushed),
            (vec![progress(1)], Buffered),
            (vec![checkpoint(1), note(40)], Flushed),
            (vec![progress(2), note(0)], Buffered),
        ],
        vec![
            (vec![created_with(full)], Flushed),
            (vec![started(), SessionEvent::IterationStarted { number: 1 }], Flushed),
            (
                vec![
                    SessionEvent::CommandExecuted {
                        command: "make -j8".into(),
                        exit_code: Some(2),
                        signal: None,
                        duration_ms: 1200,
                        output_bytes: 77,
                        main: false,
                        stop: None,
                    },
                    SessionEvent::AnalysisCompleted { results: json!({ "findings": 3 }) },
                    SessionEvent::IterationCompleted { number: 1, changes: changes() },
                ],
                Flushed,
            ),
            (vec![SessionEvent::PauseRequested { reason: "lunch".into(), by: "me".into() }], Flushed),
            (vec![SessionEvent::Paused { reason: PauseReason::Requested("lunch".into()) }], Flushed),
            (vec![SessionEvent::ResumeRequested { by: "me".into() }, resumed(1)], Flushed),
            (
                vec![SessionEvent::Completed {
                    summary: session_core::SessionSummary::new().message("done"),
                }],
                Flushed,
            ),
        ],
        vec![
            (vec![created("dies"), started(), checkpoint(3)], Flushed),
            (vec![interrupted(), resumed(2), note(10)], Flushed),
            (vec![interrupted()], Buffered),
            (vec![resumed(3), cancel_requested()], Buffered),
            (vec![SessionEvent::Cancelled { reason: "enough".into() }], Flushed),
        ],
        vec![
            (vec![created("asks"), started()], Flushed),
            (vec![SessionEvent::Paused { reason: PauseReason::AwaitingInput("which one?".into()) }], Flushed),
            (
                vec![SessionEvent::InputProvided { value: json!("this one"), by: "me".into() }, resumed(1)],
                Buffered,
            ),
            (
                vec![SessionEvent::Failed {
                    error: Failure::new(FailureCause::Work, "it broke").exit_code(3),
                }],
                Flushed,
            ),
        ],
        vec![
            (vec![created("long"), started()], Flushed),
            ((0..12).map(|size| note(size * 50)).collect(), Buffered),
            ((0..9).map(progress).collect(), Buffered),
            (vec![checkpoint(9)], Flushed),
            ((0..4).map(note).collect(), Buffered),
        ],
    ];
    scripts.extend(of_steps());
    scripts.extend(of_waits());
    scripts
}

/// Sessions with steps of their own, and with steps of another one.
fn of_steps() -> [Script; 2] {
    use Durability::{Buffered, Flushed};
    [
        vec![
            (vec![created("steps"), started(), step(StepIdentity::nth("build", 1))], Flushed),
            (
                vec![
                    SessionEvent::StepValue { start: 3, part: b"1.2 \xc2\x9b\n".to_vec() },
                    SessionEvent::StepValue { start: 3, part: b"\xff\0".to_vec() },
                    step_end(3),
                ],
                Flushed,
            ),
            (vec![step(StepIdentity::keyed("send", "日本")), step(StepIdentity::nth("build", 2))], Flushed),
            (vec![interrupted(), resumed(2)], Flushed),
            (
                vec![
                    SessionEvent::StepFailed {
                        start: 7,
                        failure: StepFailure { signal: Some(15), unknown: true, ..StepFailure::default() },
                    },
                    SessionEvent::StepRefused {
                        name: "build".into(),
                        code: "STEP_CHANGED".into(),
                        message: "it would run another command".into(),
                    },
                ],
                Buffered,
            ),
        ],
        vec![
            (vec![inheriting("retry", 3)], Flushed),
            (vec![inherited(StepOutcome::Completed(StepEnd::default()))], Buffered),
            (
                vec![
                    SessionEvent::StepValue { start: 2, part: b"1.2".to_vec() },
                    inherited(StepOutcome::Unknown { deaths: 2 }),
                    started(),
                    step(StepIdentity::nth("build", 2)),
                ],
                Flushed,
            ),
        ],
    ]
}

fn of_worktree(base_at: Timestamp) -> Vec<SessionEvent> {
    let path = OsString::from_vec(b"/srv/p.worktrees/fix \xff".to_vec());
    let plan = WorktreePlan::new(path, "feature/fix é", "c0ffee", base_at);
    let made = plan.clone().base_branch(Some("main".into())).made("/srv/p/.git/worktrees/fix", "a1b2");
    vec![
        SessionEvent::WorktreeIntended { plan: Box::new(plan) },
        SessionEvent::WorktreeMade { worktree: Box::new(made) },
    ]
}

/// Sessions with items, questions and sleeps of their own, and with those of another one.
fn of_waits() -> [Script; 2] {
    use Durability::{Buffered, Flushed};
    let asked = |again| {
        let mut question = Question::new(StepIdentity::nth("deploy", 1), "Deploy \u{9b}1m?");
        (question.choices, question.again) = (vec!["yes é".into(), "no".into()], again);
        question.default = Some("no".into());
        question.default_at = Timestamp::from_millis(1_795_253_400_000);
        SessionEvent::Asked { question: Box::new(question) }
    };
    let until = Timestamp::from_millis(1_795_253_400_000).expect("the time is in range");
    let sleep = || SessionEvent::SleepStarted { step: StepIdentity::keyed("night", "1"), until };
    let moves = |moves| SessionEvent::ItemsMoved { moves };
    let begun = vec![
        ItemStart { item: 1, identity: Some(item(b"a \xc2\x9b")) },
        ItemStart { item: 2, identity: Some(item(b"\xff")) },
        ItemStart { item: 3, identity: None },
    ];
    let failed = ItemFailure { item: 2, signal: Some(15), unknown: true, ..ItemFailure::default() };
    [
        vec![
            (vec![created("waits"), answered(None), started()], Flushed),
            (
                vec![
                    SessionEvent::EachStarted {
                        step: StepIdentity::nth("all", 1),
                        fingerprint: "b7a1f0c9".into(),
                        reruns: 1,
                        done: 7,
                        command: Some("./convert".into()),
                    },
                    moves(ItemMoves { each: 4, total: Some(9), begun, ..ItemMoves::default() }),
                ],
                Flushed,
            ),
            (
                vec![
                    SessionEvent::ItemValue { each: 4, item: 1, part: b"\xff\0".to_vec() },
                    moves(ItemMoves {
                        each: 4,
                        done: vec![1],
                        failed: vec![failed],
                        skipped: vec![3],
                        ..ItemMoves::default()
                    }),
                    asked(false),
                    sleep(),
                ],
                Buffered,
            ),
            (vec![interrupted(), resumed(2), asked(true), sleep()], Flushed),
            (of_worktree(until), Flushed),
            (
                vec![
                    answered(Some(12)),
                    SessionEvent::QuestionWithdrawn { asked: 12 },
                    SessionEvent::SleepEnded { start: 13, passed: true },
                ],
                Flushed,
            ),
        ],
        vec![
            (vec![inheriting("waits-again", 4)], Flushed),
            (
                vec![
                    inherited(StepOutcome::Items {
                        too_long: true,
                        items: vec![InheritedItem {
                            item: 1,
                            identity: item(b"a"),
                            unknown: true,
                            deaths: 2,
                        }],
                    }),
                    SessionEvent::ItemValue { each: 2, item: 1, part: b"1.2".to_vec() },
                    inherited(StepOutcome::Answered { answer: "yes".into(), by: "me".into() }),
                    inherited(StepOutcome::Slept),
                    started(),
                ],
                Flushed,
            ),
        ],
    ]
}
