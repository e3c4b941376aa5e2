//! `answers`: lists the questions that wait for an answer, the oldest first.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;
use sessionkit::log::{InstanceId, Owner, StepOccurrence, Timestamp};
use sessionkit::manager::{Liveness, StorageError};
use sessionkit::text::visible;
use sessionkit::{Head, SessionError, SessionFilter, SessionId, StateName, Store};

use sessionkit::tokio::task::JoinSet;

use crate::args::Answers;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::{age, duration, short};
use crate::status::{Status, status};
use crate::waits::{OpenQuestion, open_questions};
use crate::{ids, json};

/// Sessions whose questions are read at a time.
const READERS: usize = 8;

/// A question that waits, with its session.
struct Waiting {
    head: Head,
    status: Status,
    /// `true` if the session has no owner that would take the answer now.
    is_unowned: bool,
    open: OpenQuestion,
}

/// A question, as JSON.
#[derive(Serialize)]
struct Row<'a> {
    schema: u32,
    id: SessionId,
    /// The name of the session.
    session: &'a str,
    status: &'static str,
    /// `true` if a process owns the session, or may.
    owned: bool,
    /// The name of the question.
    name: &'a str,
    n: Option<u64>,
    key: Option<&'a str>,
    question: &'a str,
    choices: &'a [String],
    default: Option<&'a str>,
    default_at: Option<Timestamp>,
    asked_at: Timestamp,
    /// The command that answers it.
    answer: String,
}

pub(crate) async fn run(args: &Answers, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let (heads, unreadable) = if let Some(id) = &args.id {
        let id = ids::resolve(context, manager, id, ids::Purpose::Use).await?;
        let head = manager.get_head(id).await.map_err(|error| Failure::from(error).about(id))?;
        (vec![head], Vec::new())
    } else {
        // Only a session that was started, and has not ended, has asked something that can be answered.
        let filter = SessionFilter::all().state(StateName::Running).state(StateName::Paused);
        let list = manager.list_sessions(filter).await?;
        (list.heads, list.unreadable)
    };
    let asked = waiting(&store, heads).await?;
    let now = super::now();
    if context.term.json {
        let rows: Vec<Row<'_>> = asked.iter().map(|waiting| row(waiting, context)).collect();
        context.term.print(&json::array(&rows))?;
    } else if asked.is_empty() && unreadable.is_empty() {
        context.hint("no question waits for an answer", &[], &["ls"]);
    } else {
        let page: String = asked.iter().map(|waiting| paragraph(waiting, context, now)).collect();
        context.term.print(&page)?;
    }
    match unreadable.into_iter().next() {
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => Ok(0),
    }
}

/// Returns the open questions of these sessions, the oldest first.
async fn waiting(store: &Store, heads: Vec<Head>) -> Result<Vec<Waiting>> {
    let mut known: HashMap<InstanceId, Liveness> = HashMap::new();
    let mut waiting = Vec::new();
    for (head, questions) in read(store, heads).await? {
        let liveness = match head.responsible_process() {
            Some(owner) => Some(liveness_of(store, owner, &mut known).await?),
            None => None,
        };
        let status = status(&head, liveness.as_ref());
        let is_unowned = matches!(liveness, None | Some(Liveness::Dead { .. }));
        waiting.extend(questions.into_iter().map(|open| Waiting {
            head: head.clone(),
            status,
            is_unowned,
            open,
        }));
    }
    waiting.sort_by_key(|waiting| (waiting.open.asked_at, waiting.head.id));
    Ok(waiting)
}

/// Reads the questions of the sessions that have some, several sessions at a time.
async fn read(store: &Store, heads: Vec<Head>) -> Result<Vec<(Head, Vec<OpenQuestion>)>> {
    let asking: Vec<Head> = heads.into_iter().filter(|head| head.waits.questions > 0).collect();
    let mut readers = JoinSet::new();
    for part in asking.chunks(asking.len().div_ceil(READERS).max(1)) {
        let (manager, part) = (store.manager().to_shared(), part.to_vec());
        readers.spawn(async move {
            let mut read = Vec::with_capacity(part.len());
            for head in part {
                match open_questions(&*manager, &head).await {
                    Ok(questions) => read.push((head, questions)),
                    // Removed since it was listed.
                    Err(SessionError::Storage(StorageError::NotFound { .. })) => {}
                    Err(error) => return Err(Failure::from(error).about(head.id)),
                }
            }
            Ok(read)
        });
    }
    let mut all = Vec::with_capacity(asking.len());
    for read in readers.join_all().await {
        all.extend(read?);
    }
    Ok(all)
}

/// Returns the liveness of a process. Each is checked once.
async fn liveness_of(
    store: &Store,
    owner: &Owner,
    known: &mut HashMap<InstanceId, Liveness>,
) -> Result<Liveness> {
    if let Some(liveness) = known.get(&owner.instance) {
        return Ok(liveness.clone());
    }
    let liveness = store.presence().liveness(owner).await.map_err(SessionError::from)?;
    known.insert(owner.instance, liveness.clone());
    Ok(liveness)
}

fn row<'a>(waiting: &'a Waiting, context: &Context) -> Row<'a> {
    let Waiting { head, status, is_unowned, open } = waiting;
    let question = &open.question;
    let (n, key) = match &question.identity.occurrence {
        StepOccurrence::Number(number) => (Some(*number), None),
        StepOccurrence::Key(key) => (None, Some(key.as_str())),
    };
    Row {
        schema: json::SCHEMA,
        id: head.id,
        session: &head.name,
        status: status.name(),
        owned: !is_unowned,
        name: &question.identity.name,
        n,
        key,
        question: &question.text,
        choices: &question.choices,
        default: question.default.as_deref(),
        default_at: question.default_at,
        asked_at: open.asked_at,
        answer: answer_line(waiting, context),
    }
}

fn answer_line(waiting: &Waiting, context: &Context) -> String {
    let words = waiting.open.answer(waiting.head.id);
    context.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn paragraph(waiting: &Waiting, context: &Context, now: Timestamp) -> String {
    let Waiting { head, status, is_unowned, open } = waiting;
    let (term, question) = (&context.term, &open.question);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  {}  {}  {}, asked {} ago",
        short(head.id),
        visible(&head.name),
        term.tint(status.sgr(), status.name()),
        term.heading(&visible(&question.identity.to_string())),
        age(now.since(open.asked_at)),
    );
    for line in question.text.lines() {
        let _ = writeln!(text, "  {}", visible(line));
    }
    if !question.choices.is_empty() {
        let _ = writeln!(text, "  choices: {}", visible(&question.choices.join(", ")));
    }
    if let (Some(default), Some(at)) = (&question.default, question.default_at) {
        let left = at.since(now);
        let when = if left.is_zero() { "is due".to_owned() } else { format!("in {}", duration(left)) };
        let _ = writeln!(text, "  default: {} at {at} ({when})", visible(default));
    }
    let _ = writeln!(text, "  {} {}", term.faint("next:"), answer_line(waiting, context));
    if *is_unowned {
        let resume = context.command(&["resume", &head.id.to_string()]);
        let _ =
            writeln!(text, "  no process owns the session: resume it, before or after the answer: {resume}");
    }
    text
}
