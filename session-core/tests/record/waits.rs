//! Fixtures of items, questions and sleeps, with each of their forms.

use session_core::{
    Answer, Evidence, InheritedItem, InheritedStep, InputFile, ItemFailure, ItemIdentity, ItemMoves,
    ItemStart, PauseReason, Question, SessionConfig, SessionEvent, SessionId, SessionSummary, StepEnd,
    StepIdentity, StepOutcome, StepReason,
};

use crate::fixtures::{begun, owner};
use crate::support::instant;

const FINGERPRINT: &str = "b7a1f0c95e2d4386a1f42c5b8e907d13";

fn item(arg: &[u8], n: u64) -> ItemIdentity {
    ItemIdentity { arg: arg.to_vec(), n }
}

/// Returns the two forms of an input file.
fn inputs() -> Vec<InputFile> {
    let input = |path: &[u8], digest: &str| InputFile { path: path.to_vec(), digest: digest.to_owned() };
    vec![
        input(b"src/main \"1\".c", "99aa06d3014798d86001c324468d497f"),
        input(b"caf\xe9.txt", "0f0e0d0c0b0a09080706050403020100"),
    ]
}

fn crash_and_resume() -> [SessionEvent; 2] {
    [
        SessionEvent::Interrupted { evidence: Evidence::LockReleased },
        SessionEvent::Resumed { owner: owner(1) },
    ]
}

/// Two attempts of an `each`, the second one of which runs no recorded item again, and one that is run again on purpose.
pub(crate) fn items() -> Vec<SessionEvent> {
    let each = |step, reruns, done, command: Option<&str>| SessionEvent::EachStarted {
        step,
        fingerprint: FINGERPRINT.to_owned(),
        reruns,
        done,
        command: command.map(str::to_owned),
    };
    let moves = |each, moves| SessionEvent::ItemsMoved { moves: ItemMoves { each, ..moves } };
    let none = ItemMoves::default;
    let new = |number, identity| ItemStart { item: number, identity: Some(identity) };
    let value = |each, item, part: &[u8]| SessionEvent::ItemValue { each, item, part: part.to_vec() };
    let mut events = begun();
    events.extend([
        each(StepIdentity::nth("convert", 1), 0, 0, Some("./convert {}")),
        moves(
            3,
            ItemMoves { begun: vec![new(1, item(b"a.png", 1)), new(2, item(b"caf\xe9.png", 1))], ..none() },
        ),
        value(3, 1, "1.2 \u{9b}\n".as_bytes()),
        moves(3, ItemMoves { done: vec![1], begun: vec![new(3, item(b"a.png", 2))], ..none() }),
        moves(
            3,
            ItemMoves {
                failed: vec![
                    ItemFailure {
                        item: 2,
                        exit_code: Some(2),
                        error: Some("exit code 2".to_owned()),
                        ..ItemFailure::default()
                    },
                    ItemFailure { item: 3, signal: Some(15), unknown: true, ..ItemFailure::default() },
                ],
                begun: vec![new(4, item(b"", 1)), ItemStart { item: 2, identity: None }],
                total: Some(6),
                ..none()
            },
        ),
        SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) },
        value(3, 4, b"caf\xe9\0"),
        moves(3, ItemMoves { done: vec![4], ..none() }),
    ]);
    events.extend(crash_and_resume());
    events.extend([
        each(StepIdentity::nth("convert", 1), 0, 2, Some("./convert {}")),
        moves(
            13,
            ItemMoves {
                total: Some(6),
                skipped: vec![3],
                begun: vec![ItemStart { item: 2, identity: None }, new(6, item(b"z.png", 1))],
                ..none()
            },
        ),
        moves(13, ItemMoves { done: vec![2], ..none() }),
        each(StepIdentity::keyed("send", "2026-11"), 1, 0, None),
    ]);
    events
}

/// An answer before its question, questions that are answered, get their default, are withdrawn and asked again, and
/// sleeps.
pub(crate) fn waits() -> Vec<SessionEvent> {
    let deploy = || StepIdentity::nth("deploy", 1);
    let stage = || StepIdentity::keyed("stage", "17");
    let ask = |question| SessionEvent::Asked { question: Box::new(question) };
    let full = |again| {
        let mut question = Question::new(stage(), "Which stage?\n\u{1b}[1m");
        question.choices = vec!["test".to_owned(), "prod \"1\"".to_owned()];
        (question.default, question.default_at) = (Some("test".to_owned()), Some(instant(60)));
        question.again = again;
        question
    };
    let answer = |identity, value: &str, asked, default| SessionEvent::Answered {
        answer: Box::new(Answer { identity, value: value.to_owned(), asked }),
        by: "ada".to_owned(),
        default,
    };
    let sleep = |step| SessionEvent::SleepStarted { step, until: instant(90) };
    let mut events = begun();
    events.insert(1, answer(deploy(), "later", None, false));
    events.extend([
        SessionEvent::StepStarted {
            step: StepIdentity::nth("build", 1),
            fingerprint: FINGERPRINT.to_owned(),
            because: StepReason::First,
            reruns: 0,
            command: None,
            inputs: inputs(),
        },
        SessionEvent::StepCompleted { start: 4, end: StepEnd::default() },
        ask(Question::new(deploy(), "Deploy 1.4.0?")),
        ask(full(false)),
        answer(deploy(), "yes\n", Some(6), false),
        sleep(StepIdentity::nth("night", 1)),
        sleep(StepIdentity::keyed("night", "b")),
        SessionEvent::SleepEnded { start: 9, passed: true },
        SessionEvent::SleepEnded { start: 10, passed: false },
    ]);
    events.extend(crash_and_resume());
    events.extend([
        ask(full(true)),
        answer(stage(), "test", Some(15), true),
        ask(Question::new(StepIdentity::nth("region", 1), "")),
        SessionEvent::QuestionWithdrawn { asked: 17 },
        ask(Question::new(StepIdentity::nth("region", 2), "Which region?")),
        sleep(StepIdentity::keyed("night", "b")),
    ]);
    events
}

/// A retry that takes over items with a value, an answer, a passed wake-up time and the inputs of a step.
pub(crate) fn inherited() -> Vec<SessionEvent> {
    let from: SessionId = "eeeeeeee-2222-4333-8444-555555555555".parse().unwrap();
    let inherit = |step, inputs, outcome| {
        let (fingerprint, at) = (FINGERPRINT.to_owned(), instant(12));
        let (reruns, command) = (0, None);
        let step = InheritedStep { step, fingerprint, reruns, command, from, at, inputs, outcome };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    let taken = |item, identity, unknown, deaths| InheritedItem { item, identity, unknown, deaths };
    let config = Box::new(SessionConfig::new("run").name("release").retry_of(from));
    let items = vec![
        taken(1, item(b"a.png", 1), false, 0),
        taken(2, item(b"caf\xe9.png", 1), true, 0),
        taken(3, item(b"a.png", 2), true, 2),
    ];
    vec![
        SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits: 5 },
        inherit(StepIdentity::nth("convert", 1), Vec::new(), StepOutcome::Items { items, too_long: false }),
        SessionEvent::ItemValue { each: 2, item: 1, part: b"1.2\n".to_vec() },
        inherit(
            StepIdentity::nth("deploy", 1),
            Vec::new(),
            StepOutcome::Answered { answer: "yes\n".to_owned(), by: "ada".to_owned() },
        ),
        inherit(StepIdentity::keyed("night", "b"), Vec::new(), StepOutcome::Slept),
        inherit(StepIdentity::nth("build", 1), inputs(), StepOutcome::Completed(StepEnd::default())),
        SessionEvent::Started { owner: owner(0) },
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]
}
