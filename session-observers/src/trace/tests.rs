//! Tests of the logged events, with a subscriber that collects them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use session_core::{
    Answer, Failure, FailureCause, InheritedStep, InputFile, ItemFailure, ItemIdentity, ItemStart,
    ProgressReport, Question, SessionError, SessionId, StepIdentity, StepReason, Timestamp,
};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use super::*;

#[derive(Debug, PartialEq)]
struct Line {
    level: Level,
    target: &'static str,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// A subscriber that collects events and ignores spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Line>>>);

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line { level: *metadata.level(), target: "", fields: BTreeMap::new() };
        // Only this target is expected.
        line.target = if metadata.target() == "session" { "session" } else { "another" };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn logged(send: impl FnOnce(&TracingObserver)) -> Vec<Line> {
    let collector = Collector::default();
    tracing::subscriber::with_default(collector.clone(), || send(&TracingObserver::new()));
    std::mem::take(&mut *collector.0.lock().unwrap())
}

fn context() -> EventContext {
    EventContext::new(SessionId::from_bytes([1; 16]), 7, Timestamp::from_millis(0).unwrap(), 2)
}

fn plan() -> WorktreePlan {
    WorktreePlan::new("/srv/p.worktrees/fix\u{1b}", "feature/fix", "c0ffee", context().at)
}

fn line(level: Level, fields: &[(&'static str, &str)]) -> Line {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Line { level, target: "session", fields }
}

const ID: &str = "01010101-0101-0101-0101-010101010101";

#[test]
fn each_event_is_logged_with_its_revision_and_kind() {
    let events = [
        SessionEvent::Failed { error: Failure::new(FailureCause::Work, "no\u{1b}[2J space") },
        SessionEvent::CancelRequested { reason: "enough".into(), by: "me".into(), force: false },
        SessionEvent::CheckpointSaved { state: "secret".into(), resumable: true },
        SessionEvent::CommandExecuted {
            command: "login --password secret".into(),
            exit_code: Some(3),
            signal: None,
            duration_ms: 12,
            output_bytes: 0,
            main: false,
            stop: None,
        },
        SessionEvent::ProgressReported { report: ProgressReport::new().percent(41.7).step("link") },
    ];
    let lines = logged(|observer| {
        for event in &events {
            observer.on_event(&context(), event);
        }
    });
    let expected = [
        (Level::ERROR, "failed", "session failed", Some(r"no\u{1b}[2J space")),
        (Level::INFO, "cancel_requested", "cancellation requested", Some("enough (by me)")),
        (Level::DEBUG, "checkpoint_saved", "checkpoint saved", None),
        (Level::DEBUG, "command_executed", "command executed", Some("exit code 3 after 12 ms")),
        (Level::TRACE, "progress_reported", "progress reported", Some("41 % link")),
    ];
    let expected = expected.map(|(level, kind, message, detail)| {
        let mut fields =
            vec![("session", ID), ("revision", "7"), ("attempt", "2"), ("kind", kind), ("message", message)];
        fields.extend(detail.map(|detail| ("detail", detail)));
        line(level, &fields)
    });
    assert_eq!(lines, expected);
}

/// Command lines and values may hold secrets, and the reason of a refusal quotes command lines.
#[test]
fn steps_are_logged_without_their_commands_and_values() {
    let start = |because| SessionEvent::StepStarted {
        step: StepIdentity::nth("build", 2),
        fingerprint: "secret".into(),
        because,
        reruns: 0,
        command: Some("make secret".into()),
        inputs: Vec::new(),
    };
    let inherited = |outcome| {
        let step = InheritedStep {
            step: StepIdentity::keyed("send", "17"),
            fingerprint: "secret".into(),
            reruns: 0,
            command: Some("./secret".into()),
            from: context().session,
            at: context().at,
            inputs: Vec::new(),
            outcome,
        };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    let failed = |failure| SessionEvent::StepFailed { start: 3, failure };
    let end = StepEnd { exit_code: 3, duration_ms: 12, ..StepEnd::default() };
    let failure = StepFailure { duration_ms: 5, error: Some("secret".into()), ..StepFailure::default() };
    for (event, expected) in [
        (start(StepReason::Changed), "build#2 (changed)"),
        (SessionEvent::StepValue { start: 3, part: b"secret".to_vec() }, "6 bytes"),
        (SessionEvent::StepCompleted { start: 3, end }, "exit code 3 after 12 ms"),
        (SessionEvent::StepCompleted { start: 3, end: StepEnd { skipped: true, ..end } }, "recorded as done"),
        (failed(StepFailure { exit_code: Some(2), ..failure.clone() }), "exit code 2 after 5 ms"),
        (failed(StepFailure { timed_out: true, ..failure.clone() }), "time limit passed after 5 ms"),
        (
            failed(StepFailure { signal: Some(9), unknown: true, ..failure.clone() }),
            "signal 9 after 5 ms, end unknown",
        ),
        (failed(StepFailure { unknown: true, ..failure }), "ended after 5 ms, end unknown"),
        (
            SessionEvent::StepRefused {
                name: "build".into(),
                code: "STEP_CHANGED".into(),
                message: "secret".into(),
            },
            "build: STEP_CHANGED",
        ),
        (inherited(StepOutcome::Completed(end)), "send[17]: exit code 3 after 12 ms"),
        (inherited(StepOutcome::Unknown { deaths: 1 }), "send[17]: end unknown"),
    ] {
        assert_eq!(detail(&event).as_deref(), Some(expected), "{event:?}");
    }
}

/// Items, their values and answers may hold secrets; questions are for people.
#[test]
fn items_and_waits_are_logged_without_items_and_answers() {
    let deploy = || StepIdentity::nth("deploy", 1);
    let answered = |by: &str, default| {
        let answer = Box::new(Answer { identity: deploy(), value: "secret".into(), asked: Some(3) });
        SessionEvent::Answered { answer, by: by.into(), default }
    };
    let identity = ItemIdentity { arg: b"secret".to_vec(), n: 1 };
    let inherited = |outcome| {
        let step = InheritedStep {
            step: deploy(),
            fingerprint: "secret".into(),
            reruns: 0,
            command: Some("./secret".into()),
            from: context().session,
            at: context().at,
            inputs: vec![InputFile { path: b"secret".to_vec(), digest: "secret".into() }],
            outcome,
        };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    let item = |item, unknown| InheritedItem { item, identity: identity.clone(), unknown, deaths: 0 };
    let moves = |moves| SessionEvent::ItemsMoved { moves };
    let failed = ItemFailure { item: 2, error: Some("secret".into()), ..ItemFailure::default() };
    let begun = ItemStart { item: 3, identity: Some(identity.clone()) };
    for (event, expected) in [
        (
            SessionEvent::EachStarted {
                step: StepIdentity::nth("all", 2),
                fingerprint: "secret".into(),
                reruns: 0,
                done: 4,
                command: Some("./secret".into()),
            },
            "all#2 (done before: 4)",
        ),
        (
            moves(ItemMoves {
                too_long: false,
                each: 3,
                total: Some(9),
                done: vec![1, 4],
                failed: vec![failed],
                skipped: vec![5],
                begun: vec![begun],
            }),
            "2 done, 1 failed, 1 recorded as done, 1 begun",
        ),
        (moves(ItemMoves { done: vec![1], ..ItemMoves::default() }), "1 done"),
        (SessionEvent::ItemValue { each: 3, item: 7, part: b"secret".to_vec() }, "item 7: 6 bytes"),
        (
            SessionEvent::Asked { question: Box::new(Question::new(deploy(), "Deploy\u{1b}[2J?")) },
            r"deploy: Deploy\u{1b}[2J?",
        ),
        (answered("ada", false), "deploy (by ada)"),
        (answered("owner", true), "deploy (by default)"),
        (SessionEvent::QuestionWithdrawn { asked: 3 }, "asked at revision 3"),
        (
            SessionEvent::SleepStarted { step: StepIdentity::keyed("night", "b"), until: context().at },
            "night[b] until 1970-01-01T00:00:00.000Z",
        ),
        (
            SessionEvent::WorktreeIntended { plan: Box::new(plan()) },
            r"/srv/p.worktrees/fix\u{1b} on branch feature/fix",
        ),
        (
            SessionEvent::WorktreeMade { worktree: Box::new(plan().made("/srv/p/.git/worktrees/fix", "a1")) },
            r"/srv/p.worktrees/fix\u{1b} on branch feature/fix",
        ),
        (SessionEvent::SleepEnded { start: 3, passed: true }, "its wake-up time has passed"),
        (SessionEvent::SleepEnded { start: 3, passed: false }, "the process that waited has gone"),
        (
            inherited(StepOutcome::Items { items: vec![item(1, false), item(2, true)], too_long: false }),
            "deploy: items: 1 done, 1 unknown",
        ),
        (
            inherited(StepOutcome::Answered { answer: "secret".into(), by: "ada".into() }),
            "deploy: answered by ada",
        ),
        (inherited(StepOutcome::Slept), "deploy: slept"),
    ] {
        assert_eq!(detail(&event).as_deref(), Some(expected), "{event:?}");
    }
}

#[test]
fn missed_events_and_recoveries_are_logged() {
    let mut report = RecoveryReport::default();
    report.failed.push((context().session, SessionError::Contended { id: context().session }));
    let lines = logged(|observer| {
        observer.on_lagged(&context(), 3);
        observer.on_recovery(&report);
    });
    let levels: Vec<_> = lines.iter().map(|line| (line.level, line.target)).collect();
    assert_eq!(levels, [(Level::WARN, "session"), (Level::INFO, "session"), (Level::WARN, "session")]);
    assert_eq!(lines[0].fields["missed"], "3");
    assert_eq!(lines[1].fields["failed"], "1");
    assert_eq!(lines[2].fields["code"], "CONFLICT");
    for line in &lines {
        assert!(line.fields["message"].contains(' '), "{line:?}");
    }
}

/// Regression: in the default formatter, a line began with its fields and had no text.
#[test]
fn every_kind_has_a_message_in_words() {
    let mut messages: Vec<&str> = EventKind::ALL.iter().map(|kind| message(*kind)).collect();
    assert!(messages.iter().all(|text| text.contains(' ') && !text.contains('_')), "{messages:?}");
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), EventKind::ALL.len());
}

/// Checks the table in the docs, by level.
#[test]
fn levels_match_the_documented_table() {
    let of = |wanted: Level| -> Vec<&str> {
        EventKind::ALL.iter().filter(|kind| level(**kind) == wanted).map(|kind| kind.name()).collect()
    };
    assert_eq!(of(Level::ERROR), ["failed"]);
    assert_eq!(of(Level::WARN), ["step_refused", "interrupted"]);
    assert_eq!(of(Level::TRACE), ["progress_reported", "step_value", "items_moved", "item_value"]);
    assert_eq!(
        of(Level::DEBUG),
        [
            "iteration_started",
            "iteration_completed",
            "command_executed",
            "analysis_completed",
            "checkpoint_saved",
            "noted",
            "inherited",
            "step_started",
            "step_completed",
            "step_failed",
            "each_started",
            "sleep_started",
            "sleep_ended",
            "worktree_intended",
            "worktree_made",
        ]
    );
}
