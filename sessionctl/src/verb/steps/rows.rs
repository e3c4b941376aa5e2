//! The eaches, questions and sleeps of a session, for people and programs.

use serde::Serialize;
use sessionkit::log::{StepIdentity, StepOccurrence, Timestamp};
use sessionkit::workflow::{EachStatus, ItemState, QuestionStatus, QuestionTable, SleepStatus, SleepTable};

use crate::context::Context;
use crate::render::{Table, local_time};
use crate::verb::client::item_name;

/// Items that a row names.
const MAX_NAMES: usize = 10;

/// Characters of a value that are shown.
const VALUE_CHARS: usize = 60;

/// The name of a use, and its number or key.
#[derive(Debug, Serialize)]
pub(super) struct Identity {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Identity {
    pub(super) fn of(step: &StepIdentity) -> Self {
        let (n, key) = match &step.occurrence {
            StepOccurrence::Number(n) => (Some(*n), None),
            StepOccurrence::Key(key) => (None, Some(key.clone())),
        };
        Self { name: step.name.clone(), n, key }
    }
}

/// An each.
#[derive(Debug, Serialize)]
pub(super) struct EachRow {
    each: String,
    #[serde(flatten)]
    identity: Identity,
    /// `completed`, `running`, `unknown`, `failed` or `incomplete`.
    state: &'static str,
    attempt: u32,
    done: u64,
    failed: u64,
    /// Items that were started, and may have happened.
    unknown: u64,
    running: u64,
    /// The number of items in the input, once it was read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// The first failed items, as people read them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_items: Vec<String>,
    /// The first unknown items, as people read them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_items: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl EachRow {
    pub(super) fn new(each: &StepIdentity, status: &EachStatus) -> Self {
        let count = |state| u64::try_from(status.count(state)).unwrap_or(u64::MAX);
        let [failed, unknown, running] = [ItemState::Failed, ItemState::Unknown, ItemState::Open].map(count);
        let state = match (status.is_completed(), running, unknown, failed) {
            (true, ..) => "completed",
            (_, 1.., ..) => "running",
            (_, _, 1.., _) => "unknown",
            (.., 1..) => "failed",
            _ => "incomplete",
        };
        Self {
            each: each.to_string(),
            identity: Identity::of(each),
            state,
            attempt: status.attempt,
            done: status.done(),
            failed,
            unknown,
            running,
            total: status.total,
            failed_items: item_names(status, ItemState::Failed, MAX_NAMES),
            unknown_items: item_names(status, ItemState::Unknown, MAX_NAMES),
            command: status.command.clone(),
        }
    }
}

/// Returns the first items in a state, in the order in which they were first started.
pub(crate) fn item_names(status: &EachStatus, state: ItemState, limit: usize) -> Vec<String> {
    let mut items: Vec<_> = status.items().filter(|(_, item)| item.state == state).collect();
    items.sort_unstable_by_key(|(number, _)| *number);
    let name = |identity: &sessionkit::log::ItemIdentity| match identity.n {
        1 => item_name(&identity.arg),
        n => format!("{}#{n}", item_name(&identity.arg)),
    };
    items.into_iter().take(limit).map(|(_, item)| name(&item.identity)).collect()
}

/// Returns `3 failed: a, b, c`.
pub(crate) fn count_and_names(count: u64, what: &str, names: &[String]) -> String {
    let more = if usize::try_from(count).is_ok_and(|count| count > names.len()) { ", …" } else { "" };
    format!("{count} {what}: {}{more}", names.join(", "))
}

pub(super) fn eaches(rows: &[EachRow], context: &Context) -> Option<String> {
    let mut table = Table::new(&["EACH", "STATE", "DONE", "OTHERS"]);
    for row in rows {
        let total = row.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let colour = match row.state {
            "failed" => "31",
            "unknown" => "33",
            "running" => "36",
            _ => "",
        };
        let mut others = Vec::new();
        if row.failed > 0 {
            others.push(count_and_names(row.failed, "failed", &row.failed_items));
        }
        if row.unknown > 0 {
            others.push(count_and_names(row.unknown, "may have happened", &row.unknown_items));
        }
        if row.running > 0 {
            others.push(format!("{} running", row.running));
        }
        let done = format!("{} of {total}", row.done);
        table.row(vec![
            (row.each.clone(), ""),
            (row.state.to_owned(), colour),
            (done, ""),
            (others.join("; "), ""),
        ]);
    }
    (!rows.is_empty()).then(|| table.render(&context.term))
}

/// A use of a question.
#[derive(Debug, Serialize)]
pub(super) struct QuestionRow {
    question: String,
    #[serde(flatten)]
    identity: Identity,
    /// `open`, `answered`, or `withdrawn` if the process that waited has gone.
    state: &'static str,
    /// The question; absent for an answer that came before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_at: Option<Timestamp>,
}

impl QuestionRow {
    /// Returns all uses, in the order in which they were asked, or answered if that came first.
    pub(super) fn all(questions: &QuestionTable) -> Vec<Self> {
        let first = |status: &QuestionStatus| {
            let asked = status.question.as_ref().map(|asked| (asked.at, asked.revision));
            asked.into_iter().chain(status.answer.as_ref().map(|answer| (answer.at, answer.revision))).min()
        };
        let mut all: Vec<_> = questions.iter().collect();
        all.sort_by_key(|(_, status)| first(status));
        all.into_iter().map(|(identity, status)| Self::new(identity, status)).collect()
    }

    fn new(identity: &StepIdentity, status: &QuestionStatus) -> Self {
        let state = match (&status.answer, status.is_open()) {
            (Some(_), _) => "answered",
            (None, true) => "open",
            (None, false) => "withdrawn",
        };
        let question = status.question.as_ref().map(|asked| &asked.question);
        let answer = status.answer.as_ref();
        Self {
            question: identity.to_string(),
            identity: Identity::of(identity),
            state,
            text: question.map(|question| question.text.clone()),
            choices: question.map(|question| question.choices.clone()).unwrap_or_default(),
            default: question.and_then(|question| question.default.clone()),
            default_at: question.and_then(|question| question.default_at),
            asked_at: status.question.as_ref().map(|asked| asked.at),
            answer: answer.map(|answer| answer.value.clone()),
            answered_by: answer.map(|answer| answer.by.clone()),
            answered_at: answer.map(|answer| answer.at),
        }
    }
}

pub(super) fn questions(rows: &[QuestionRow], context: &Context) -> Option<String> {
    let mut table = Table::new(&["QUESTION", "STATE", "ANSWER", "TEXT"]);
    for row in rows {
        let colour = if row.state == "open" { "33" } else { "" };
        let answer = match (&row.answer, &row.answered_by) {
            (Some(answer), Some(by)) => format!("{} ({by})", one_line(answer.as_bytes())),
            _ => row.choices.join("|"),
        };
        let text = row.text.as_deref().map(|text| one_line(text.as_bytes())).unwrap_or_default();
        table.row(vec![(row.question.clone(), ""), (row.state.to_owned(), colour), (answer, ""), (text, "")]);
    }
    (!rows.is_empty()).then(|| table.render(&context.term))
}

/// A sleep.
#[derive(Debug, Serialize)]
pub(super) struct SleepRow {
    sleep: String,
    #[serde(flatten)]
    identity: Identity,
    /// `passed`, or `open` before its wake-up.
    state: &'static str,
    until: Timestamp,
}

impl SleepRow {
    /// Returns all sleeps, in the order of their first start.
    pub(super) fn all(sleeps: &SleepTable) -> Vec<Self> {
        let mut all: Vec<_> = sleeps.iter().collect();
        all.sort_by_key(|(_, status)| status.start);
        let row = |(identity, status): (&StepIdentity, &SleepStatus)| Self {
            sleep: identity.to_string(),
            identity: Identity::of(identity),
            state: if status.has_passed { "passed" } else { "open" },
            until: status.until,
        };
        all.into_iter().map(row).collect()
    }
}

pub(super) fn sleeps(rows: &[SleepRow], context: &Context) -> Option<String> {
    let mut table = Table::new(&["SLEEP", "STATE", "UNTIL"]);
    for row in rows {
        let colour = if row.state == "open" { "36" } else { "" };
        table.row(vec![(row.sleep.clone(), ""), (row.state.to_owned(), colour), (local_time(row.until), "")]);
    }
    (!rows.is_empty()).then(|| table.render(&context.term))
}

/// Returns the beginning of a value on one line.
pub(super) fn one_line(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value.get(..VALUE_CHARS * 4).unwrap_or(value)).into_owned();
    let line: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut: String = line.chars().take(VALUE_CHARS).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
