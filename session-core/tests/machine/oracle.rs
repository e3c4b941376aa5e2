//! A second machine, written from the design's table alone: rows of words and a small interpreter. It shares neither
//! code nor structure with the first, so a mistake would have to be made twice to go unnoticed.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::json;
use session_core::backend::{Lifecycle, Sum};
use session_core::{
    Answer, Changes, Commit, EventKind, Evidence, Failure, FailureCause, FileChange, InheritedItem,
    InheritedStep, Interruption, ItemIdentity, ItemMoves, ItemStart, Owner, OwnerLoss, PauseReason,
    ProgressReport, Question, Record, SessionConfig, SessionEvent, SessionId, SessionState, SessionSummary,
    StepEnd, StepFailure, StepIdentity, StepOutcome, StepReason, Stop, StopSource, Timestamp,
    TransitionError, WorktreePlan,
};

/// Sections 5 and 8 of the design, row by row: event | who | allowed in | if | leads to | and then.
const TABLE: &str = "
created             | A   | nothing                |           | Created   | inherits
started             | U   | Created                | complete  | Running   | owned
inherited           | A   | Created                | missing   | same      | took_over
iteration_started   | O   | Running                | next      | same      | open
iteration_completed | O   | Running                | that_open | same      | done
command_executed    | O   | Running Paused         |           | same      | program
analysis_completed  | O   | Running                |           | same      |
checkpoint_saved    | O   | Running                |           | same      |
progress_reported   | O   | Running                |           | same      |
step_started        | O   | Running                | unrefused | same      |
step_value          | O   | Created Running Paused | missing   | same      | took_over
step_completed      | O   | Running Paused         |           | same      |
step_failed         | O   | Running Paused         |           | same      |
step_refused        | O   | Running Paused         |           | same      | refused
each_started        | O   | Running                | unrefused | same      |
items_moved         | O   | Running Paused         | beginning | same      |
item_value          | O   | Created Running Paused | missing   | same      | took_over
asked               | O   | Running                | unrefused | same      |
answered            | A   | Created Running Paused | complete  | same      |
question_withdrawn  | O   | Running Paused         |           | same      |
sleep_started       | O   | Running                | unrefused | same      |
sleep_ended         | O   | Running Paused         |           | same      |
worktree_intended   | O   | Running                |           | same      |
worktree_made       | O   | Running                |           | same      |
noted               | O A | Created Running Paused |           | same      |
pause_requested     | A   | Running                |           | same      | pause_pending
resume_requested    | A   | Paused                 |           | same      | resume_pending
cancel_requested    | A   | Created Running Paused |           | same      | cancel_pending
stop_requested      | O   | Running Paused         |           | same      | stop_pending
input_provided      | A   | Paused                 | awaiting  | same      | input
paused              | O   | Running                |           | Paused    | clear
interrupted         | P   | Running Paused         | owned     | Paused    | lost unowned close
resumed             | O U | Paused                 |           | Running   | afresh owned clear
completed           | O   | Running Paused         | succeeded | Completed | ended
failed              | O U | Created Running Paused |           | Failed    | ended
cancelled           | O U | Created Running Paused |           | Cancelled | ended
";

struct Row {
    event: &'static str,
    who: Vec<&'static str>,
    allowed: Vec<&'static str>,
    condition: &'static str,
    leads: &'static str,
    then: Vec<&'static str>,
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        TABLE
            .trim()
            .lines()
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let words = |at: usize| cells[at].split_whitespace().collect::<Vec<_>>();
                Row {
                    event: cells[0],
                    who: words(1),
                    allowed: words(2),
                    condition: cells[3],
                    leads: cells[4],
                    then: words(5),
                }
            })
            .collect()
    })
}

/// One event to try, with the fields that the rules read. Fields that the kind lacks are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Step {
    /// The row of the table.
    pub(crate) row: usize,
    pub(crate) attempt: u32,
    /// Of `started` and `resumed`.
    pub(crate) owner: u8,
    /// Of iterations.
    pub(crate) number: u64,
    /// The variant of the payload: pause reason, evidence, cause, force …
    pub(crate) form: u8,
}

/// Returns the number of payload variants of each kind.
fn forms(event: &str) -> u8 {
    match event {
        "paused" => 4,
        "interrupted" => 8,
        "cancel_requested"
        | "checkpoint_saved"
        | "iteration_completed"
        | "step_completed"
        | "step_failed"
        | "answered"
        | "sleep_ended" => 2,
        "created" | "items_moved" => 3,
        "command_executed" | "failed" | "inherited" => 5,
        _ => 1,
    }
}

pub(crate) const DEATHS: u8 = 3;
const DROPPED: u8 = 4;
const STOPPED: u8 = 7;
/// The first form of `items_moved` in which an item begins.
const BEGINS: u8 = 1;

impl Step {
    pub(crate) fn kind(self) -> &'static str {
        rows()[self.row].event
    }

    pub(crate) fn event(self) -> SessionEvent {
        let text = || "why".to_owned();
        match self.kind() {
            "created" => SessionEvent::Created {
                format: 1,
                config: Box::new(SessionConfig::new("work").name("n")),
                creator: owner(0),
                origin: None,
                inherits: self.form.into(),
            },
            "started" => SessionEvent::Started { owner: owner(self.owner) },
            "iteration_started" => SessionEvent::IterationStarted { number: self.number },
            "iteration_completed" => SessionEvent::IterationCompleted {
                number: self.number,
                changes: match self.form {
                    0 => Changes::totals(1, 2, 3, 4),
                    _ => Changes::new()
                        .file(FileChange::modified("f").lines(2, 3))
                        .commit(Commit::new("c", "s")),
                },
            },
            "command_executed" => SessionEvent::CommandExecuted {
                command: "make".to_owned(),
                exit_code: matches!(self.form, 0 | 2 | 3).then_some(0),
                signal: matches!(self.form, 1 | 4).then_some(9),
                duration_ms: 5,
                output_bytes: 6,
                main: self.form >= 2,
                stop: (self.form == 3).then_some(Stop { signal: 2, by: StopSource::Key }),
            },
            "analysis_completed" => SessionEvent::AnalysisCompleted { results: json!({"found": 1}) },
            "checkpoint_saved" => {
                SessionEvent::CheckpointSaved { state: json!([1, 2]), resumable: self.form == 0 }
            }
            "progress_reported" => {
                SessionEvent::ProgressReported { report: ProgressReport::new().percent(12.5).step("s") }
            }
            "noted" => SessionEvent::Noted { kind: "test.note".to_owned(), data: json!(null) },
            "pause_requested" => SessionEvent::PauseRequested { reason: text(), by: "p".to_owned() },
            "resume_requested" => SessionEvent::ResumeRequested { by: "r".to_owned() },
            "cancel_requested" => {
                SessionEvent::CancelRequested { reason: text(), by: "c".to_owned(), force: self.form == 1 }
            }
            "stop_requested" => SessionEvent::StopRequested { signal: 15 },
            "input_provided" => SessionEvent::InputProvided { value: json!("yes"), by: "i".to_owned() },
            "paused" => SessionEvent::Paused {
                reason: match self.form {
                    0 => PauseReason::Requested(text()),
                    1 => PauseReason::AwaitingInput(text()),
                    2 => PauseReason::Interrupted(Interruption::new(OwnerLoss::Crashed, text())),
                    _ => PauseReason::Limit(text()),
                },
            },
            "interrupted" => SessionEvent::Interrupted {
                evidence: match self.form {
                    0 => Evidence::LockReleased,
                    1 => Evidence::ProcessGone,
                    2 => Evidence::Rebooted { boot: "b2".to_owned() },
                    DEATHS => Evidence::Shutdown,
                    DROPPED => Evidence::Dropped,
                    5 => Evidence::Forced { by: "me".to_owned() },
                    STOPPED => Evidence::Stopped(Stop { signal: 3, by: StopSource::Signal }),
                    _ => Evidence::Repaired,
                },
            },
            "resumed" => SessionEvent::Resumed { owner: owner(self.owner) },
            "completed" => SessionEvent::Completed { summary: SessionSummary::new().message("done") },
            "failed" => SessionEvent::Failed {
                error: Failure::new(
                    [
                        FailureCause::Work,
                        FailureCause::Timeout,
                        FailureCause::Crash,
                        FailureCause::Spawn,
                        FailureCause::Panic,
                    ][usize::from(self.form)],
                    "it failed",
                ),
            },
            "cancelled" => SessionEvent::Cancelled { reason: text() },
            _ => self.event_of_step(),
        }
    }

    fn event_of_step(self) -> SessionEvent {
        match self.kind() {
            "inherited" => SessionEvent::Inherited { step: Box::new(inherited(self.form)) },
            "step_started" => SessionEvent::StepStarted {
                step: StepIdentity::nth("build", 1),
                fingerprint: "f".to_owned(),
                because: StepReason::First,
                reruns: 0,
                command: None,
                inputs: Vec::new(),
            },
            "step_value" => SessionEvent::StepValue { start: 2, part: b"v".to_vec() },
            "step_completed" => {
                let end = StepEnd { skipped: self.form == 1, ..StepEnd::default() };
                SessionEvent::StepCompleted { start: 2, end }
            }
            "step_failed" => {
                let failure = StepFailure { unknown: self.form == 1, ..StepFailure::default() };
                SessionEvent::StepFailed { start: 2, failure }
            }
            "step_refused" => SessionEvent::StepRefused {
                name: "build".to_owned(),
                code: "STEP_CHANGED".to_owned(),
                message: "why".to_owned(),
            },
            _ => self.event_of_wait(),
        }
    }

    fn event_of_wait(self) -> SessionEvent {
        let identity = || StepIdentity::nth("deploy", 1);
        match self.kind() {
            "each_started" => SessionEvent::EachStarted {
                step: StepIdentity::nth("all", 1),
                fingerprint: "f".to_owned(),
                reruns: 0,
                done: 0,
                command: None,
            },
            "items_moved" => {
                let ended = if self.form == 1 { vec![] } else { vec![1] };
                let begun =
                    if self.form < BEGINS { vec![] } else { vec![ItemStart { item: 2, identity: None }] };
                let moves = ItemMoves { each: 2, done: ended, begun, ..ItemMoves::default() };
                SessionEvent::ItemsMoved { moves }
            }
            "item_value" => SessionEvent::ItemValue { each: 2, item: 1, part: b"v".to_vec() },
            "asked" => SessionEvent::Asked { question: Box::new(Question::new(identity(), "Deploy?")) },
            "answered" => {
                let asked = (self.form == 1).then_some(2);
                let answer = Box::new(Answer { identity: identity(), value: "yes".to_owned(), asked });
                SessionEvent::Answered { answer, by: "a".to_owned(), default: false }
            }
            "question_withdrawn" => SessionEvent::QuestionWithdrawn { asked: 2 },
            "sleep_started" => SessionEvent::SleepStarted { step: identity(), until: instant(9) },
            "sleep_ended" => SessionEvent::SleepEnded { start: 2, passed: self.form == 0 },
            "worktree_intended" => SessionEvent::WorktreeIntended { plan: Box::new(worktree_plan()) },
            "worktree_made" => {
                let worktree = Box::new(worktree_plan().made("/p/.git/worktrees/fix", "a1"));
                SessionEvent::WorktreeMade { worktree }
            }
            other => unreachable!("{other} is not in the table"),
        }
    }

    pub(crate) fn record(self, seq: u64) -> Record {
        Record {
            envelope: session_core::backend::Envelope {
                seq,
                at: instant(seq),
                attempt: self.attempt,
                flushed: seq - 1,
            },
            event: self.event(),
            sum: Sum::from_u64(seq),
        }
    }
}

fn worktree_plan() -> WorktreePlan {
    WorktreePlan::new("/p.worktrees/fix", "feature/fix", "c0ffee", instant(9))
}

/// Returns what was completed, begun, answered or slept in an earlier session.
fn inherited(form: u8) -> InheritedStep {
    let identity = ItemIdentity { arg: b"a".to_vec(), n: 1 };
    let item = InheritedItem { item: 1, identity, unknown: false, deaths: 0 };
    InheritedStep {
        step: StepIdentity::nth("build", 1),
        fingerprint: "f".to_owned(),
        reruns: 0,
        command: None,
        from: SessionId::from_bytes([7; 16]),
        at: instant(0),
        inputs: Vec::new(),
        outcome: match form {
            0 => StepOutcome::Completed(StepEnd::default()),
            1 => StepOutcome::Unknown { deaths: 1 },
            2 => StepOutcome::Items { items: vec![item], too_long: false },
            3 => StepOutcome::Answered { answer: "yes".to_owned(), by: "a".to_owned() },
            _ => StepOutcome::Slept,
        },
    }
}

/// Returns an instant for each revision, one minute apart: no two belong to the same stop.
pub(crate) fn instant(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_795_253_400_000 + i64::try_from(seq).unwrap() * 60_000).unwrap()
}

/// Returns owner `n`, the same at each call.
pub(crate) fn owner(n: u8) -> Owner {
    static OWNERS: OnceLock<Vec<Owner>> = OnceLock::new();
    OWNERS.get_or_init(|| {
        (0..3)
            .map(|n| {
                let mut owner = json!({
                    "instance": format!("00000000-0000-4000-8000-00000000000{n}"),
                    "host": "h", "machine": "m", "boot": "b", "pid": 100 + n, "start_time": 7,
                });
                // Owners of older logs recorded no folder.
                if n > 0 {
                    owner["lock_folder"] = json!("5e7d0c1b-2a39-4f48-9576-8695a4b3c2d1");
                    owner["pid_namespace"] = json!(4_026_531_836_u64);
                }
                serde_json::from_value(owner).unwrap()
            })
            .collect()
    })[usize::from(n)]
    .clone()
}

/// A refusal in the words of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Illegal,
    Fenced,
    Attempt,
}

/// Translates a refusal of the machine under test into the oracle's words.
pub(crate) fn refusal(rejected: &TransitionError) -> Refusal {
    match rejected {
        TransitionError::IllegalTransition { .. }
        | TransitionError::Iteration { .. }
        | TransitionError::ItemBegins { .. } => Refusal::Illegal,
        TransitionError::Fenced { .. } => Refusal::Fenced,
        TransitionError::Attempt { .. } => Refusal::Attempt,
        other => unreachable!("{other:?} is not about the machine"),
    }
}

/// The state of a session in the oracle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "flat on purpose: it must not resemble what it judges")]
pub(crate) struct Model {
    /// `nothing`, `Created`, `Running` …
    pub(crate) state: &'static str,
    /// The form of the `paused` that led here; 2 is interrupted.
    pub(crate) pause: Option<u8>,
    pub(crate) attempt: u32,
    pub(crate) owner: Option<u8>,
    pub(crate) highest: u64,
    pub(crate) completed: u64,
    pub(crate) open: bool,
    pub(crate) pause_pending: bool,
    pub(crate) resume_pending: bool,
    /// `Some(true)` if the cancel is forced.
    pub(crate) cancel_pending: Option<bool>,
    pub(crate) answered: bool,
    pub(crate) stop_pending: bool,
    /// Success of the program in this attempt, and `true` if a person had stopped it.
    pub(crate) program: Option<(bool, bool)>,
    pub(crate) loss: Option<&'static str>,
    /// The records of taken-over steps that the session was created for and does not have yet.
    pub(crate) missing: u64,
    /// A step of this attempt was refused.
    pub(crate) refused: bool,
}

impl Model {
    pub(crate) const NOTHING: Self = Self {
        state: "nothing",
        pause: None,
        attempt: 0,
        owner: None,
        highest: 0,
        completed: 0,
        open: false,
        pause_pending: false,
        resume_pending: false,
        cancel_pending: None,
        answered: false,
        stop_pending: false,
        program: None,
        loss: None,
        missing: 0,
        refused: false,
    };

    pub(crate) fn is_final(&self) -> bool {
        matches!(self.state, "Completed" | "Failed" | "Cancelled")
    }

    /// Returns the attempt that a record of a kind carries: "`started` and `resumed` carry the new attempt, all others the
    /// current one", and a resume by the owner keeps its attempt.
    pub(crate) fn turn(&self, kind: &str) -> u32 {
        self.attempt + u32::from(kind == "started" || (kind == "resumed" && self.owner.is_none()))
    }

    pub(crate) fn step(&self, step: Step) -> Result<Self, Refusal> {
        let row = &rows()[step.row];
        let right_attempt = step.attempt == self.turn(row.event);
        // "An owner-kind record with another attempt, or while the session is unowned, is FENCED". Before the first
        // start and after the end there is no owner to be fenced by.
        let owner_kind = row.who.contains(&"O");
        let only_owner = row.who == ["O"];
        let had_owners = matches!(self.state, "Running" | "Paused");
        let stranger = row.event == "resumed" && self.owner.is_some_and(|owner| owner != step.owner);
        // A program that had succeeded completes its session, whichever process appends that: but never after a refusal.
        let succeeded = self.program == Some((true, false)) && !self.refused;
        let only_owner = only_owner && !(row.event == "completed" && succeeded);
        if had_owners && owner_kind && (!right_attempt || stranger || (only_owner && self.owner.is_none())) {
            return Err(Refusal::Fenced);
        }
        let holds = match row.condition {
            "" => true,
            "next" => !self.open,
            "that_open" => self.open,
            "awaiting" => self.pause == Some(1),
            "owned" => self.owner.is_some(),
            "unrefused" => !self.refused,
            "succeeded" if self.state == "Running" => !self.refused,
            "succeeded" => succeeded && self.owner.is_none(),
            "complete" => self.missing == 0,
            "missing" => self.state != "Created" || self.missing > 0,
            // "paused: ends only", and "after a refusal no further step of the attempt starts".
            "beginning" => step.form < BEGINS || (self.state == "Running" && !self.refused),
            other => unreachable!("condition {other}"),
        };
        if !row.allowed.contains(&self.state) || !holds {
            return Err(Refusal::Illegal);
        }
        if !right_attempt {
            return Err(Refusal::Attempt);
        }
        let number = match row.condition {
            "next" => self.completed + 1,
            "that_open" => self.highest,
            _ => step.number,
        };
        if number != step.number {
            return Err(Refusal::Illegal);
        }
        Ok(self.after(row, step))
    }

    fn after(&self, row: &Row, step: Step) -> Self {
        let mut next = self.clone();
        match row.leads {
            "same" => {}
            "Paused" => {
                if row.event == "paused" {
                    next.pause = Some(step.form);
                } else if self.state == "Running" {
                    next.pause = Some(2);
                }
                next.state = "Paused";
            }
            state => {
                next.state = state;
                next.pause = None;
            }
        }
        for effect in &row.then {
            match *effect {
                "afresh" if self.owner.is_none() => {
                    (next.stop_pending, next.program, next.loss) = (false, None, None);
                    next.refused = false;
                }
                "inherits" => next.missing = step.form.into(),
                "took_over" if self.state == "Created" => next.missing = self.missing - 1,
                "afresh" | "took_over" => {}
                "refused" => next.refused = true,
                "stop_pending" => next.stop_pending = true,
                "program" => {
                    let first = step.form >= 2;
                    next.program = if first { Some((step.form != 4, step.form == 3)) } else { self.program };
                }
                "lost" => {
                    next.loss = Some(match step.form {
                        DEATHS => "interrupted",
                        DROPPED => "dropped",
                        STOPPED => "stopped",
                        _ if self.program.is_some_and(|(_, stopped)| stopped) => "stopped",
                        _ if self.stop_pending => "interrupted",
                        _ => "crashed",
                    });
                }
                "owned" => (next.owner, next.attempt) = (Some(step.owner), step.attempt),
                "unowned" => next.owner = None,
                "open" => (next.highest, next.open) = (step.number, true),
                "done" => (next.completed, next.open) = (step.number, false),
                "close" => next.open = false,
                "pause_pending" => next.pause_pending = true,
                "resume_pending" => next.resume_pending = true,
                "cancel_pending" => {
                    next.cancel_pending = Some(self.cancel_pending == Some(true) || step.form == 1);
                }
                "input" => next.answered = true,
                "clear" => (next.pause_pending, next.resume_pending, next.answered) = (false, false, false),
                "ended" => {
                    next = Self {
                        state: next.state,
                        attempt: next.attempt,
                        highest: next.highest,
                        completed: next.completed,
                        // "A session that lacks one is never started": its retry must see that it lacks one.
                        missing: next.missing,
                        ..Self::NOTHING
                    };
                }
                other => unreachable!("effect {other}"),
            }
        }
        next
    }

    /// Converts a session of the machine under test to the oracle.
    pub(crate) fn of(lifecycle: Option<&Lifecycle>) -> Self {
        let Some(life) = lifecycle else { return Self::NOTHING };
        let (state, pause) = match &life.state {
            SessionState::Created => ("Created", None),
            SessionState::Running { iteration } => {
                assert_eq!(
                    *iteration, life.iteration,
                    "the state names another iteration than the lifecycle"
                );
                ("Running", None)
            }
            SessionState::Paused { reason } => (
                "Paused",
                Some(match reason {
                    PauseReason::Requested(_) => 0,
                    PauseReason::AwaitingInput(_) => 1,
                    PauseReason::Interrupted(_) => 2,
                    PauseReason::Limit(_) => 3,
                    other => unreachable!("{other:?}"),
                }),
            ),
            SessionState::Completed { .. } => ("Completed", None),
            SessionState::Failed { .. } => ("Failed", None),
            SessionState::Cancelled { .. } => ("Cancelled", None),
        };
        Self {
            state,
            pause,
            attempt: life.attempt,
            owner: life.owner.as_ref().map(|owner| u8::try_from(owner.pid - 100).unwrap()),
            highest: life.iteration,
            completed: life.iterations_completed,
            open: life.iteration_open,
            pause_pending: life.requests.pause.is_some(),
            resume_pending: life.requests.resume.is_some(),
            cancel_pending: life.requests.cancel.as_ref().map(|cancel| cancel.force),
            answered: life.requests.answer.is_some(),
            stop_pending: life.stop_requested.is_some(),
            program: life.program_end.map(|end| (end.exit_code == Some(0), end.stop.is_some())),
            loss: life.loss.map(OwnerLoss::name),
            missing: life.to_inherit,
            refused: life.step_refused,
        }
    }

    /// Returns every step worth trying here: each kind and variant, each attempt around the current one, each past or
    /// possible owner, each number around the current one.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let attempts: BTreeSet<u32> = (self.attempt.saturating_sub(1)..=self.attempt + 2).collect();
        let mut numbers: BTreeSet<u64> = [0, self.highest, self.highest + 1].into();
        numbers.extend([self.completed, self.completed + 1, self.completed + 2]);
        let mut all = Vec::new();
        for (row, Row { event, .. }) in rows().iter().enumerate() {
            let owners = if matches!(*event, "started" | "resumed") { 0..2 } else { 0..1 };
            let numbers: Vec<u64> =
                if event.starts_with("iteration_") { numbers.iter().copied().collect() } else { vec![0] };
            for &attempt in &attempts {
                for owner in owners.clone() {
                    for &number in &numbers {
                        for form in 0..forms(event) {
                            all.push(Step { row, attempt, owner, number, form });
                        }
                    }
                }
            }
        }
        all
    }

    /// Returns the step that creates a session, or the one that starts it.
    pub(crate) fn beginning(&self) -> Step {
        let row = usize::from(self.state != "nothing");
        Step { row, attempt: self.turn(rows()[row].event), owner: 0, number: 0, form: 0 }
    }

    /// Returns a random step, mostly with the expected attempt, owner and number, so that sequences make progress.
    pub(crate) fn random_step(&self, random: &mut Random) -> Step {
        let mut row = random.below(rows().len());
        if rows()[row].then.contains(&"ended") && random.below(8) != 0 {
            row = random.below(rows().len());
        }
        let event = rows()[row].event;
        let wrong = |random: &mut Random| random.below(16) == 0;
        let turn = self.turn(event);
        let attempt = if wrong(random) { u32::try_from(small(random, turn.into())).unwrap() } else { turn };
        let owner = match self.owner {
            Some(owner) if !wrong(random) => owner,
            _ => random.below_u8(3),
        };
        let number = match event {
            "iteration_started" if !wrong(random) => self.completed + 1,
            "iteration_completed" if !wrong(random) => self.highest,
            _ => small(random, self.highest),
        };
        Step { row, attempt, owner, number, form: random.below_u8(forms(event)) }
    }
}

fn small(random: &mut Random, around: u64) -> u64 {
    (around + random.below(4) as u64).saturating_sub(2)
}

/// Tries a step on both machines and returns their common answer.
///
/// # Panics
/// If they disagree, or if a refusal is malformed.
pub(crate) fn both(
    life: Option<&Lifecycle>,
    model: &Model,
    step: Step,
    seq: u64,
) -> Result<(Lifecycle, Model), Refusal> {
    let judged = model.step(step);
    let applied = Lifecycle::apply(life, &step.record(seq));
    match (applied, judged) {
        (Ok(life), Ok(model)) => {
            assert_eq!(Model::of(Some(&life)), model, "after {} {step:?}", step.kind());
            Ok((life, model))
        }
        (Err(rejected), Err(judged)) => {
            assert_eq!(refusal(&rejected), judged, "{} {step:?} in {model:?}: {rejected}", step.kind());
            if let TransitionError::IllegalTransition { state, event, allowed } = rejected {
                assert_eq!(state, life.map(|life| life.state.name()));
                assert_eq!(Some(event), EventKind::parse(step.kind()));
                assert!(!allowed.contains(&event), "refused although allowed");
            }
            Err(judged)
        }
        (Ok(_), Err(judged)) => {
            panic!("illegal and accepted: {} {step:?} in {model:?}, should be {judged:?}", step.kind())
        }
        (Err(rejected), Ok(_)) => {
            panic!("legal and refused: {} {step:?} in {model:?}: {rejected}", step.kind())
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seeded, and the same everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        // The bias of the remainder is negligible for the small bounds used here.
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    pub(crate) fn below_u8(&mut self, end: u8) -> u8 {
        u8::try_from(self.next() % u64::from(end)).expect("it is below a u8")
    }
}

/// Returns the seed of a run: `SESSION_SEED`, else a fixed one.
pub(crate) fn seed() -> u64 {
    number("SESSION_SEED").unwrap_or(0x5e55_1011)
}

/// Reads a number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let digits = text.replace('_', "");
    Some(digits.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
