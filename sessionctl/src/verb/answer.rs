//! `answer`: answers a question of a session, from any process.

use std::ffi::OsStr;
use std::io::{self, Read as _};

use serde::Serialize;
use sessionkit::log::{StepIdentity, StepOccurrence};
use sessionkit::text::visible;
use sessionkit::workflow::{AnswerError, AnswerTo, WorkflowState, answer};
use sessionkit::{ErrorCode, Head, SessionId, SessionManager, Store, StoreUrl};

use crate::args::Answer;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::short;
use crate::{ids, json};

/// Maximum bytes of an answer.
const MAX_BYTES: usize = 128 * 1024;
/// Columns of an answer that is repeated.
const SHOWN_COLUMNS: usize = 60;
/// The reason why the store of a running session cannot be opened.
const ONE_PROCESS: &str = "no other process can answer while a session of a sled store runs: answer before it runs, give \
                           the question a default, or wait for its end";

/// The output with `--json`.
#[derive(Serialize)]
struct Answered<'a> {
    schema: u32,
    id: SessionId,
    /// The name of the session.
    session: &'a str,
    /// The name of the question.
    name: &'a str,
    n: Option<u64>,
    key: Option<&'a str>,
    answer: &'a str,
    /// `false` if the answer came before the question.
    asked: bool,
}

pub(crate) async fn run(args: &Answer, context: &Context) -> Result<u8> {
    let (name, value) = words(args)?;
    let value = read(value)?;
    let store = open(context).await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let head = manager.get_head(id).await.map_err(|error| Failure::from(error).about(id))?;
    let to = match (&name, args.number, &args.key) {
        (None, ..) => AnswerTo::TheOnlyOne,
        (Some(name), Some(number), _) => AnswerTo::Use(StepIdentity::nth(name, number)),
        (Some(name), None, Some(key)) => AnswerTo::Use(StepIdentity::keyed(name, key)),
        (Some(name), None, None) => AnswerTo::Named(name.clone()),
    };
    let question = answer(manager, id, to, &value).await.map_err(|error| failure(id, &error))?;
    let asked = name.is_none() || was_asked(manager, &head, &question).await;
    print(context, &head, &question, &value, asked)?;
    Ok(0)
}

async fn open(context: &Context) -> Result<Store> {
    let is_exclusive = matches!(context.url(), Ok(StoreUrl::Sled(_)));
    let opened = context.open().await;
    if is_exclusive {
        opened.map_err(|failure| failure.explain(ErrorCode::StorageUnavailable, ONE_PROCESS))
    } else {
        opened
    }
}

/// Returns the name of the question, if it was given, and the answer.
fn words(args: &Answer) -> Result<(Option<String>, &OsStr)> {
    match args.name_and_value.as_slice() {
        [_] if args.number.is_some() || args.key.is_some() => {
            Err(Failure::invalid("`--number` and `--key` need the name of the question, too"))
        }
        [value] => Ok((None, value)),
        [name, value] => match name.to_str() {
            Some(name) => Ok((Some(name.to_owned()), value)),
            None => Err(Failure::invalid("the name of a question is UTF-8 text, and this one is not")),
        },
        _ => Err(Failure::invalid("an answer is one word: quote one that has blanks")),
    }
}

/// Returns the answer as it was given, or as standard input has it.
fn read(value: &OsStr) -> Result<String> {
    let no_text = || Failure::invalid("an answer is UTF-8 text, and this one is not");
    if value != "-" {
        return value.to_str().map(str::to_owned).ok_or_else(no_text);
    }
    let mut bytes = Vec::new();
    // One more than the longest answer with its line end.
    let most = u64::try_from(MAX_BYTES + 3).unwrap_or(u64::MAX);
    io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(ErrorCode::StorageIo, format!("cannot read the answer from standard input: {error}"))
    })?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.len() > MAX_BYTES {
        return Err(Failure::new(ErrorCode::LimitExceeded, "an answer has at most 128 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| no_text())
}

/// Returns the failure for an answer that was not taken.
fn failure(id: SessionId, error: &AnswerError) -> Failure {
    let text = match error {
        AnswerError::Session(error) => return Failure::from(error.clone()).about(id),
        AnswerError::Answered { question, answer, by } => format!(
            "question `{question}` was answered already: {} (by {by})",
            sessionkit::text::cut_columns(&visible(answer), SHOWN_COLUMNS)
        ),
        AnswerError::NoChoice { .. } | AnswerError::Unnamed { .. } | _ => error.to_string(),
    };
    let id_text = id.to_string();
    let failure = Failure::new(error.code(), text).about(id);
    match error {
        AnswerError::NoChoice { question, choices } => match choices.first() {
            Some(choice) => failure.next(&["answer", &id_text, &question.name, choice]),
            None => failure,
        },
        AnswerError::Unnamed { open, .. } if !open.is_empty() => failure.next(&["answers", &id_text]),
        AnswerError::Answered { .. } => failure.next(&["events", &id_text]),
        AnswerError::Unnamed { .. } | AnswerError::Session(_) | _ => failure,
    }
}

/// Returns `true` if the question had been asked by the time of its answer.
async fn was_asked(manager: &dyn SessionManager, head: &Head, question: &StepIdentity) -> bool {
    if head.waits.changed == 0 {
        return false;
    }
    let Ok(state) = WorkflowState::read(manager, head.id).await else { return true };
    let status = state.questions().get(question);
    status.is_some_and(|status| status.answer.as_ref().is_some_and(|answer| answer.to.is_some()))
}

fn print(context: &Context, head: &Head, question: &StepIdentity, answer: &str, asked: bool) -> Result<()> {
    if context.term.json {
        let (n, key) = match &question.occurrence {
            StepOccurrence::Number(number) => (Some(*number), None),
            StepOccurrence::Key(key) => (None, Some(key.as_str())),
        };
        let (schema, session, name) = (json::SCHEMA, head.name.as_str(), question.name.as_str());
        let answered = Answered { schema, id: head.id, session, name, n, key, answer, asked };
        return context.term.print(&format!("{}\n", json::line(&answered)));
    }
    let shown = visible(answer);
    let shown = sessionkit::text::cut_columns(&shown, SHOWN_COLUMNS);
    let (name, session) = (visible(&question.to_string()).into_owned(), visible(&head.name).into_owned());
    context.term.print(&format!("answered `{name}` of {session} ({}): {shown}\n", short(head.id)))?;
    if !asked {
        let text = format!("`{name}` is not asked yet: it gets this answer when it is");
        context.hint(&text, &[head.id], &["answers", &head.id.to_string()]);
    }
    Ok(())
}
