//! Events with hostile payloads: texts of every length with quotes, controls and wide characters, and numbers at the
//! ends of their ranges. All of them respect the limits of the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use session_core::{
    Answer, Changes, Commit, Evidence, ExecutionMode, Failure, FailureCause, FileChange, InheritedItem,
    InheritedStep, InputFile, Interruption, ItemFailure, ItemIdentity, ItemMoves, ItemStart, Origin, Owner,
    OwnerLoss, PauseReason, ProgressReport, Question, SessionConfig, SessionEvent, SessionId, SessionSummary,
    StepEnd, StepFailure, StepIdentity, StepOutcome, StepReason, Timestamp, WorktreeConfig, WorktreePlan,
    limits,
};

use crate::oracle::{Random, Step};

const CHARS: &[char] = &[
    'a',
    'z',
    ' ',
    '"',
    '\\',
    '/',
    '\u{0}',
    '\u{1b}',
    '\n',
    '\t',
    '\u{7f}',
    '\u{85}',
    '\u{9b}',
    '\u{61c}',
    '\u{200e}',
    '\u{202e}',
    '\u{2066}',
    '\u{2028}',
    'é',
    '日',
    '😀',
    '\u{e000}',
    '\u{fffd}',
    '\u{10ffff}',
];

/// Returns any text.
pub(crate) fn text(random: &mut Random) -> String {
    let length = [0, 1, 63, 64, 65, 127, 128, 129, 300, 2_000][random.below(10)];
    // Often a run of one character: the worst case for a limit is not a mixture.
    let only = (random.below(2) == 0).then(|| CHARS[random.below(CHARS.len())]);
    (0..length).map(|_| only.unwrap_or_else(|| CHARS[random.below(CHARS.len())])).collect()
}

/// Returns a text without dangerous characters, at most that many bytes and 128 characters long.
pub(crate) fn plain(random: &mut Random, bytes: usize) -> String {
    let mut size = 0;
    text(random)
        .chars()
        .filter(|c| !session_core::text::is_unsafe_char(*c))
        .take(128)
        .take_while(|c| {
            size += c.len_utf8();
            size <= bytes
        })
        .collect()
}

fn within(random: &mut Random, bytes: usize) -> String {
    let mut text = text(random);
    while text.len() > bytes {
        text.pop();
    }
    text
}

pub(crate) fn number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => u64::MAX - random.below(2) as u64,
        1 => random.next(),
        _ => random.below(100) as u64,
    }
}

fn code(random: &mut Random) -> i32 {
    [0, 1, 137, -1, i32::MIN, i32::MAX][random.below(6)]
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(3) != 0).then(|| make(random))
}

fn percent(random: &mut Random) -> f64 {
    match random.below(6) {
        0 => 0.0,
        1 => 100.0,
        2 => f64::from_bits(1),
        3 => 100.0_f64.next_down(),
        4 => -0.0,
        _ => f64::from_bits(random.next() % 100.0_f64.to_bits()),
    }
}

pub(crate) fn value(random: &mut Random, levels: usize) -> Value {
    match random.below(if levels == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(number(random)),
        2 => json!(i64::MIN),
        3 => json!(f64::from_bits(random.next())),
        4 => json!(true),
        5 => Value::String(text(random)),
        6 => (0..random.below(4)).map(|_| value(random, levels - 1)).collect(),
        _ => (0..random.below(4)).map(|_| (text(random), value(random, levels - 1))).collect(),
    }
}

fn owner(random: &mut Random, n: u8) -> Owner {
    let mut owner = crate::oracle::owner(n);
    owner.host = text(random);
    owner.machine = "m".repeat(64);
    owner.boot = "b".repeat(random.below(65));
    owner.start_time = number(random);
    owner.pid_namespace = Some(number(random)).filter(|number| number % 2 == 0);
    owner
}

fn name(random: &mut Random) -> String {
    let mut name = plain(random, 512);
    if name.is_empty() || name.starts_with(['-', '@']) {
        name.insert(0, 'n');
    }
    name.chars().take(128).collect()
}

fn identity(random: &mut Random) -> StepIdentity {
    let name = name(random);
    if random.below(2) == 0 {
        StepIdentity::nth(name, number(random).max(1))
    } else {
        StepIdentity::keyed(name, plain(random, limits::STEP_KEY_BYTES))
    }
}

fn choice(random: &mut Random) -> String {
    let choice = plain(random, limits::STEP_BYTES);
    if choice.is_empty() { "c".to_owned() } else { choice }
}

/// Returns text, or bytes that are none: each has a form of its own.
fn bytes(random: &mut Random) -> Vec<u8> {
    let length = [0, 1, 300, limits::VALUE_PART_BYTES][random.below(4)];
    let bytes = random.next().to_le_bytes();
    if random.below(2) == 0 {
        text(random).into_bytes()
    } else {
        bytes.iter().copied().cycle().take(length).collect()
    }
}

fn inputs(random: &mut Random) -> Vec<InputFile> {
    let mut input = || InputFile { path: text(random).into_bytes(), digest: "0f".repeat(16) };
    (0..3).map(|_| input()).collect()
}

fn item(random: &mut Random) -> ItemIdentity {
    ItemIdentity { arg: text(random).into_bytes(), n: number(random).max(1) }
}

fn moment(random: &mut Random) -> Timestamp {
    [i64::MIN, 0, i64::MAX, 1_795_253_400_000][random.below(4)..]
        .iter()
        .find_map(|millis| Timestamp::from_millis(*millis))
        .expect("the last one is in range")
}

fn step_end(random: &mut Random) -> StepEnd {
    StepEnd {
        exit_code: code(random),
        duration_ms: number(random),
        value_bytes: maybe(random, number),
        too_long: random.below(2) == 0,
        skipped: random.below(2) == 0,
    }
}

fn config(random: &mut Random) -> SessionConfig {
    let name = name(random);
    let mut operation = plain(random, 512);
    if operation.is_empty() {
        operation.push('o');
    }
    let mut config = SessionConfig::new(operation).name(name.clone()).metadata(value(random, 3));
    let mut labels = BTreeMap::new();
    for at in 0..random.below(17) {
        let key = format!("k{at}{}", plain(random, 20).replace('=', ""));
        labels.insert(key.clone(), plain(random, 400));
        if serde_json::to_string(&labels).unwrap().len() > 1024 {
            labels.remove(&key);
        }
    }
    config.labels = labels;
    config.mode = if random.below(2) == 0 { ExecutionMode::Direct } else { ExecutionMode::Worktree { name } };
    config.worktree = maybe(random, |random| WorktreeConfig::new(text(random)));
    config.project_path = maybe(random, |random| PathBuf::from(text(random)));
    config.workflow = maybe(random, text);
    config.focus = maybe(random, text);
    config.max_iterations = maybe(random, number);
    config.deadline_ms = maybe(random, number);
    config.parent = maybe(random, |_| SessionId::random());
    config.retry_of = maybe(random, |_| SessionId::random());
    config.line = maybe(random, |_| SessionId::random());
    config.queued = random.below(4) == 0;
    config
}

fn plan(random: &mut Random) -> WorktreePlan {
    let path = Path::new("/").join(text(random));
    let plan = WorktreePlan::new(path, choice(random), "c".repeat(64), moment(random));
    plan.base_branch(maybe(random, choice))
}

fn changes(random: &mut Random) -> Changes {
    let mut changes = Changes::totals(number(random), number(random), number(random), number(random));
    for _ in 0..random.below(4) {
        let path = text(random);
        let file = match random.below(4) {
            0 => FileChange::added(path),
            1 => FileChange::modified(path),
            2 => FileChange::deleted(path),
            _ => FileChange::renamed(text(random), path),
        };
        changes = changes.file(file.lines(number(random), number(random)));
    }
    for _ in 0..random.below(4) {
        changes = changes.commit(Commit::new(text(random), text(random)));
    }
    changes
}

/// Fills the event of a step with hostile values, except for what the machine reads.
pub(crate) fn event(random: &mut Random, step: Step) -> SessionEvent {
    match step.event() {
        SessionEvent::Created { inherits, .. } => SessionEvent::Created {
            format: 1,
            config: Box::new(config(random)),
            creator: owner(random, step.owner),
            origin: maybe(random, |random| {
                Origin::new(vec![text(random), text(random)], PathBuf::from(text(random)))
                    .env(BTreeMap::from([(text(random), text(random))]))
                    .inherited(vec![text(random)])
            }),
            inherits,
        },
        SessionEvent::Started { .. } => SessionEvent::Started { owner: owner(random, step.owner) },
        SessionEvent::Resumed { .. } => SessionEvent::Resumed { owner: owner(random, step.owner) },
        SessionEvent::IterationCompleted { number: iteration, .. } => {
            SessionEvent::IterationCompleted { number: iteration, changes: changes(random) }
        }
        // The end of the session's program stays as it is: rules read it.
        SessionEvent::CommandExecuted { exit_code, signal, main, stop, .. } => {
            SessionEvent::CommandExecuted {
                command: text(random),
                exit_code: if main { exit_code } else { maybe(random, code) },
                signal: if main { signal } else { maybe(random, code) },
                duration_ms: number(random),
                output_bytes: number(random),
                main,
                stop,
            }
        }
        SessionEvent::AnalysisCompleted { .. } => {
            SessionEvent::AnalysisCompleted { results: value(random, 4) }
        }
        SessionEvent::CheckpointSaved { resumable, .. } => {
            SessionEvent::CheckpointSaved { state: value(random, 4), resumable }
        }
        SessionEvent::ProgressReported { .. } => {
            let mut report = ProgressReport::new();
            report.percent = maybe(random, percent);
            report.step = maybe(random, |random| within(random, 256));
            report.phase = maybe(random, |random| within(random, 256));
            report.completed_steps = maybe(random, number);
            report.total_steps = maybe(random, number);
            report.eta = maybe(random, number);
            SessionEvent::ProgressReported { report }
        }
        SessionEvent::Noted { .. } => {
            SessionEvent::Noted { kind: "vendor.some-name".to_owned(), data: value(random, 4) }
        }
        SessionEvent::PauseRequested { .. } => {
            SessionEvent::PauseRequested { reason: text(random), by: text(random) }
        }
        SessionEvent::ResumeRequested { .. } => SessionEvent::ResumeRequested { by: text(random) },
        SessionEvent::CancelRequested { force, .. } => {
            SessionEvent::CancelRequested { reason: text(random), by: text(random), force }
        }
        SessionEvent::InputProvided { .. } => {
            SessionEvent::InputProvided { value: value(random, 4), by: text(random) }
        }
        SessionEvent::Paused { reason } => SessionEvent::Paused {
            reason: match reason {
                PauseReason::Requested(_) => PauseReason::Requested(text(random)),
                PauseReason::AwaitingInput(_) => PauseReason::AwaitingInput(text(random)),
                PauseReason::Interrupted(_) => {
                    PauseReason::Interrupted(Interruption::new(OwnerLoss::Crashed, text(random)))
                }
                _ => PauseReason::Limit(text(random)),
            },
        },
        SessionEvent::Interrupted { evidence } => SessionEvent::Interrupted {
            evidence: match evidence {
                Evidence::Rebooted { .. } => Evidence::Rebooted { boot: text(random) },
                Evidence::Forced { .. } => Evidence::Forced { by: text(random) },
                other => other,
            },
        },
        SessionEvent::Completed { .. } => {
            let mut summary = SessionSummary::new();
            summary.message = maybe(random, text);
            summary.result = maybe(random, |random| value(random, 4));
            summary.iterations = number(random);
            summary.commits = number(random);
            summary.duration_ms = number(random);
            SessionEvent::Completed { summary }
        }
        SessionEvent::Failed { error } => {
            let mut error = Failure::new(error.cause, text(random));
            error.exit_code = maybe(random, code);
            error.signal = maybe(random, code);
            if random.below(8) == 0 {
                error.cause = FailureCause::Work;
            }
            SessionEvent::Failed { error }
        }
        SessionEvent::Cancelled { .. } => SessionEvent::Cancelled { reason: text(random) },
        other => of_step(random, other),
    }
}

/// Fills the event of a step of the work, except for what the machine reads.
fn of_step(random: &mut Random, event: SessionEvent) -> SessionEvent {
    match event {
        SessionEvent::Inherited { step: inherited } => SessionEvent::Inherited {
            step: Box::new(InheritedStep {
                step: identity(random),
                fingerprint: within(random, limits::STEP_KEY_BYTES),
                reruns: number(random),
                command: maybe(random, |random| within(random, limits::STEP_TEXT_BYTES)),
                from: SessionId::random(),
                at: inherited.at,
                inputs: inputs(random),
                outcome: match inherited.outcome {
                    StepOutcome::Completed(_) => StepOutcome::Completed(step_end(random)),
                    StepOutcome::Unknown { .. } => StepOutcome::Unknown { deaths: number(random) },
                    StepOutcome::Items { .. } => StepOutcome::Items {
                        items: (0..random.below(4))
                            .map(|_| InheritedItem {
                                item: number(random),
                                identity: item(random),
                                unknown: random.below(2) == 0,
                                deaths: number(random),
                            })
                            .collect(),
                        too_long: random.below(2) == 0,
                    },
                    StepOutcome::Answered { .. } => {
                        StepOutcome::Answered { answer: text(random), by: text(random) }
                    }
                    StepOutcome::Slept => StepOutcome::Slept,
                },
            }),
        },
        SessionEvent::StepStarted { .. } => SessionEvent::StepStarted {
            step: identity(random),
            fingerprint: within(random, limits::STEP_KEY_BYTES),
            because: StepReason::ALL[random.below(StepReason::ALL.len())],
            reruns: number(random),
            command: maybe(random, |random| within(random, limits::STEP_TEXT_BYTES)),
            inputs: inputs(random),
        },
        SessionEvent::StepValue { .. } => {
            SessionEvent::StepValue { start: number(random), part: bytes(random) }
        }
        SessionEvent::StepCompleted { end, .. } => SessionEvent::StepCompleted {
            start: number(random),
            end: StepEnd { skipped: end.skipped, ..step_end(random) },
        },
        SessionEvent::StepFailed { failure, .. } => SessionEvent::StepFailed {
            start: number(random),
            failure: StepFailure {
                exit_code: maybe(random, code),
                signal: maybe(random, code),
                duration_ms: number(random),
                timed_out: random.below(2) == 0,
                unknown: failure.unknown,
                error: maybe(random, |random| within(random, limits::STEP_TEXT_BYTES)),
            },
        },
        SessionEvent::StepRefused { .. } => SessionEvent::StepRefused {
            name: identity(random).name,
            code: within(random, limits::STEP_BYTES),
            message: within(random, limits::STEP_TEXT_BYTES),
        },
        other => of_wait(random, other),
    }
}

/// Fills the event of an `each`, a question or a sleep, except for what the machine reads.
fn of_wait(random: &mut Random, event: SessionEvent) -> SessionEvent {
    match event {
        SessionEvent::EachStarted { .. } => SessionEvent::EachStarted {
            step: identity(random),
            fingerprint: within(random, limits::STEP_KEY_BYTES),
            reruns: number(random),
            done: number(random),
            command: maybe(random, |random| within(random, limits::STEP_TEXT_BYTES)),
        },
        SessionEvent::ItemsMoved { moves } => {
            let numbers = |random: &mut Random| (0..random.below(4)).map(|_| number(random)).collect();
            let failed = |random: &mut Random| ItemFailure {
                item: number(random),
                exit_code: maybe(random, code),
                signal: maybe(random, code),
                unknown: random.below(2) == 0,
                error: maybe(random, |random| within(random, limits::STEP_TEXT_BYTES)),
            };
            let begun =
                |random: &mut Random| ItemStart { item: number(random), identity: maybe(random, item) };
            let moves = ItemMoves {
                each: number(random),
                total: maybe(random, number),
                done: numbers(random),
                failed: (0..random.below(4)).map(|_| failed(random)).collect(),
                skipped: numbers(random),
                too_long: random.below(2) == 0,
                begun: moves.begun.iter().map(|_| begun(random)).collect(),
            };
            SessionEvent::ItemsMoved { moves }
        }
        SessionEvent::ItemValue { .. } => {
            SessionEvent::ItemValue { each: number(random), item: number(random), part: bytes(random) }
        }
        SessionEvent::Asked { .. } => {
            let choices: Vec<String> = (0..random.below(4)).map(|_| choice(random)).collect();
            let mut question = Question::new(identity(random), within(random, limits::STEP_TEXT_BYTES));
            question.default = match choices.last() {
                Some(choice) => maybe(random, |_| choice.clone()),
                None => maybe(random, text),
            };
            (question.choices, question.again) = (choices, random.below(2) == 0);
            question.default_at = maybe(random, moment);
            SessionEvent::Asked { question: Box::new(question) }
        }
        SessionEvent::Answered { answer, .. } => SessionEvent::Answered {
            answer: Box::new(Answer {
                identity: identity(random),
                value: text(random),
                asked: answer.asked.map(|_| number(random)),
            }),
            by: text(random),
            default: random.below(2) == 0,
        },
        SessionEvent::QuestionWithdrawn { .. } => SessionEvent::QuestionWithdrawn { asked: number(random) },
        SessionEvent::SleepStarted { .. } => {
            SessionEvent::SleepStarted { step: identity(random), until: moment(random) }
        }
        SessionEvent::WorktreeIntended { .. } => {
            SessionEvent::WorktreeIntended { plan: Box::new(plan(random)) }
        }
        SessionEvent::WorktreeMade { .. } => {
            let worktree = plan(random).made(Path::new("/").join(text(random)), "a1");
            SessionEvent::WorktreeMade { worktree: Box::new(worktree) }
        }
        SessionEvent::SleepEnded { passed, .. } => SessionEvent::SleepEnded { start: number(random), passed },
        other => other,
    }
}
