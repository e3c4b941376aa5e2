//! Records of steps, items, questions and sleeps.

use session_core::{
    Answer, InheritedItem, InheritedStep, InputFile, ItemFailure, ItemIdentity, ItemMoves, ItemStart,
    Question, SessionEvent, SessionId, StepEnd, StepFailure, StepIdentity, StepOutcome, StepReason,
    Timestamp, WorktreePlan,
};

use super::{FIRST, Log};

fn first_time() -> Timestamp {
    Timestamp::from_millis(FIRST).expect("the time is in range")
}

/// Returns the item of a number.
fn identity(item: u64) -> ItemIdentity {
    match item % 3 {
        0 => ItemIdentity { arg: b"\xff item".to_vec(), n: item },
        n => ItemIdentity { arg: format!("item é {n}").into_bytes(), n: item.div_ceil(3) },
    }
}

/// Returns items of an `each` that a session takes over: one that is done, and one whose end is unknown.
#[must_use]
pub fn inherited_items() -> StepOutcome {
    let item = |item, unknown, deaths| InheritedItem { item, identity: identity(item), unknown, deaths };
    StepOutcome::Items { items: vec![item(1, false, 0), item(3, true, 2)], too_long: false }
}

/// Returns an answer that a session takes over.
#[must_use]
pub fn inherited_answer() -> StepOutcome {
    StepOutcome::Answered { answer: "yes é".into(), by: "testkit".into() }
}

impl Log {
    /// Adds `inherited`, of a step with this outcome.
    ///
    /// # Panics
    /// If no inherited record is missing.
    pub fn inherited(&mut self, outcome: StepOutcome) -> &mut Self {
        let step = InheritedStep {
            step: StepIdentity::keyed("load", format!("part {} é", self.revision())),
            fingerprint: format!("{:032x}", self.revision()),
            reruns: 1,
            command: Some("./load".into()),
            from: SessionId::from_bytes(*b"0123456789abcdef"),
            at: first_time(),
            inputs: Vec::new(),
            outcome,
        };
        self.push(SessionEvent::Inherited { step: Box::new(step) })
    }

    /// Adds the next step: `step_started`, two parts of its value, and `step_completed`.
    pub fn completed_step(&mut self) -> &mut Self {
        self.step_started();
        let start = self.revision();
        self.step_value(start, "1.2 é\u{202e}\n").step_value(start, b"\xff\0");
        let end = StepEnd { duration_ms: 5, value_bytes: Some(12), ..StepEnd::default() };
        self.push(SessionEvent::StepCompleted { start, end })
    }

    /// Adds `step_started`, of the next step.
    pub fn step_started(&mut self) -> &mut Self {
        let steps = &self.head().steps;
        self.push(SessionEvent::StepStarted {
            step: StepIdentity::nth("build", 1 + steps.completed + steps.failed + steps.open),
            fingerprint: format!("{:032x}", self.revision()),
            because: StepReason::First,
            reruns: 0,
            command: Some("make -j8".into()),
            inputs: vec![InputFile { path: b"src/\xe9.c".to_vec(), digest: "0f".repeat(16) }],
        })
    }

    /// Adds `step_value`.
    pub fn step_value(&mut self, start: u64, part: impl AsRef<[u8]>) -> &mut Self {
        self.push(SessionEvent::StepValue { start, part: part.as_ref().to_vec() })
    }

    /// Adds `step_failed`, with an unknown outcome.
    pub fn step_failed(&mut self, start: u64) -> &mut Self {
        let failure = StepFailure { signal: Some(15), unknown: true, ..StepFailure::default() };
        self.push(SessionEvent::StepFailed { start, failure })
    }

    /// Adds `step_refused`.
    pub fn step_refused(&mut self) -> &mut Self {
        let (name, code) = ("build".into(), "STEP_CHANGED".into());
        self.push(SessionEvent::StepRefused { name, code, message: "it would run another command".into() })
    }

    /// Adds `each_started`.
    pub fn each_started(&mut self) -> &mut Self {
        self.push(SessionEvent::EachStarted {
            step: StepIdentity::nth("all é", self.revision()),
            fingerprint: format!("{:032x}", self.revision()),
            reruns: 0,
            done: 0,
            command: Some("./convert".into()),
        })
    }

    /// Adds `items_moved`, with the beginning of these items.
    ///
    /// # Panics
    /// If no item can begin.
    pub fn items_begun(&mut self, each: u64, items: impl IntoIterator<Item = u64>) -> &mut Self {
        let begun = |item| ItemStart { item, identity: Some(identity(item)) };
        let begun = items.into_iter().map(begun).collect();
        self.push(SessionEvent::ItemsMoved { moves: ItemMoves { each, begun, ..ItemMoves::default() } })
    }

    /// Adds `item_value`.
    pub fn item_value(&mut self, each: u64, item: u64) -> &mut Self {
        self.push(SessionEvent::ItemValue { each, item, part: b"1.2 \xc2\x9b\n".to_vec() })
    }

    /// Adds the value of an item, and `items_moved` with its end, the failure of the next one, and the beginning of the one
    /// after that.
    pub fn items_moved(&mut self, each: u64, item: u64) -> &mut Self {
        self.item_value(each, item);
        let failed = ItemFailure { item: item + 1, exit_code: Some(3), ..ItemFailure::default() };
        let moves = ItemMoves {
            each,
            too_long: false,
            total: Some(item + 2),
            done: vec![item],
            failed: vec![failed],
            skipped: Vec::new(),
            begun: vec![ItemStart { item: item + 2, identity: None }],
        };
        self.push(SessionEvent::ItemsMoved { moves })
    }

    /// Adds `items_moved`, with an unknown end of an item: possible while the session is paused.
    pub fn item_failed(&mut self, each: u64, item: u64) -> &mut Self {
        let failed = vec![ItemFailure { item, signal: Some(15), unknown: true, ..ItemFailure::default() }];
        self.push(SessionEvent::ItemsMoved { moves: ItemMoves { each, failed, ..ItemMoves::default() } })
    }

    /// Adds `asked`, with two choices and a default.
    pub fn asked(&mut self) -> &mut Self {
        let identity = StepIdentity::nth("deploy é", self.head().waits.changed + 1);
        let mut question = Question::new(identity, "Deploy 1.4.0 to é?\n");
        question.choices = vec!["yes".into(), "no".into()];
        (question.default, question.default_at) = (Some("no".into()), Some(first_time()));
        self.push(SessionEvent::Asked { question: Box::new(question) })
    }

    /// Adds `answered`: the answer to the question at a revision, or to one that is not asked yet.
    pub fn answered(&mut self, asked: Option<u64>) -> &mut Self {
        let identity = StepIdentity::keyed("deploy é", "stage");
        let answer = Box::new(Answer { identity, value: "yes".into(), asked });
        self.push(SessionEvent::Answered { answer, by: "testkit".into(), default: false })
    }

    /// Adds `question_withdrawn`.
    pub fn question_withdrawn(&mut self, asked: u64) -> &mut Self {
        self.push(SessionEvent::QuestionWithdrawn { asked })
    }

    /// Adds `sleep_started`.
    pub fn sleep_started(&mut self) -> &mut Self {
        let step = StepIdentity::nth("night é", self.revision());
        self.push(SessionEvent::SleepStarted { step, until: first_time() })
    }

    /// Adds `worktree_intended`.
    pub fn worktree_intended(&mut self) -> &mut Self {
        self.push(SessionEvent::WorktreeIntended { plan: Box::new(worktree_plan()) })
    }

    /// Adds `worktree_made`.
    pub fn worktree_made(&mut self) -> &mut Self {
        let worktree =
            worktree_plan().made("/srv/p é/.git/worktrees/fix", "5d41402abc4b2a76b9719d911017c592");
        self.push(SessionEvent::WorktreeMade { worktree: Box::new(worktree) })
    }

    /// Adds `sleep_ended`.
    pub fn sleep_ended(&mut self, start: u64, passed: bool) -> &mut Self {
        self.push(SessionEvent::SleepEnded { start, passed })
    }
}

fn worktree_plan() -> WorktreePlan {
    let base = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c";
    let plan = WorktreePlan::new("/srv/p é.worktrees/fix", "feature/fix", base, first_time());
    plan.base_branch(Some("main".to_owned()))
}
