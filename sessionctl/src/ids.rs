//! Resolution of a session argument: `@last`, `@failed`, `@running`, a full id, a name, the beginning of an id or of a
//! name.

use sessionkit::log::PauseReason;
use sessionkit::manager::{Liveness, SessionList, StorageError};
use sessionkit::{
    ErrorCode, Head, SessionError, SessionFilter, SessionId, SessionManager, SessionState, text::visible,
};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::short;
use crate::similar::is_similar;
use crate::status::Status;
use crate::verb::status_of;

/// Candidates shown of many.
const MAX_CANDIDATES: usize = 8;

/// The use of the session that a text refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Any that a wrong guess does not harm.
    Use,
    /// The session is resumed: of several with a name, the newest that can be.
    Resume,
    /// The session is cancelled: its name has to be complete.
    Cancel,
    /// The session is removed: its name has to be complete, and no other session may have it.
    Remove,
}

/// Returns the one session that a text refers to.
pub(crate) async fn resolve(
    context: &Context,
    manager: &dyn SessionManager,
    text: &str,
    purpose: Purpose,
) -> Result<SessionId> {
    if text.is_empty() {
        return Err(Failure::invalid("the session argument is empty"));
    }
    if let Ok(id) = text.parse::<SessionId>()
        && exists(manager, id).await?
    {
        return Ok(id);
    }
    let all = manager.list_sessions(SessionFilter::all()).await?;
    if text.starts_with('@') {
        return by_keyword(manager, text, &all).await;
    }
    let named: Vec<&Head> = all.heads.iter().filter(|head| head.is_named(text)).collect();
    if !named.is_empty() {
        return among_namesakes(context, manager, &named, text, purpose).await;
    }
    let begins = |id: &SessionId| id.to_string().starts_with(&text.to_ascii_lowercase());
    let heads: Vec<&Head> = all.heads.iter().filter(|head| begins(&head.id)).collect();
    let unreadable: Vec<SessionId> = all.unreadable.iter().map(|(id, _)| *id).filter(begins).collect();
    match (heads.as_slice(), unreadable.as_slice()) {
        ([], []) => {}
        ([one], []) => return Ok(one.id),
        ([], [one]) => return Ok(*one),
        (heads, unreadable) => {
            let mut rows = rows(manager, heads).await;
            rows.extend(unreadable.iter().map(|id| format!("{id}  {}", Status::Unreadable.name())));
            let count = heads.len() + unreadable.len();
            return Err(ambiguous("id prefix", text, rows, count));
        }
    }
    let begun: Vec<&Head> = all.heads.iter().filter(|head| head.name.starts_with(text)).collect();
    match begun.as_slice() {
        [first, rest @ ..] if matches!(purpose, Purpose::Use | Purpose::Resume) => {
            if rest.iter().any(|head| head.name != first.name) {
                return Err(ambiguous("name prefix", text, rows(manager, &begun).await, begun.len()));
            }
            among_namesakes(context, manager, &begun, &first.name, purpose).await
        }
        _ => Err(unknown(manager, text, &all).await),
    }
}

/// Returns the newest session that a keyword describes.
async fn by_keyword(manager: &dyn SessionManager, keyword: &str, all: &SessionList) -> Result<SessionId> {
    let is_wanted = |head: &Head| match keyword {
        "@last" => true,
        "@failed" => matches!(head.state(), SessionState::Failed { .. }),
        "@running" => matches!(head.state(), SessionState::Running { .. }),
        _ => false,
    };
    let mut wanted: Vec<&Head> = all.heads.iter().filter(|head| is_wanted(head)).collect();
    wanted.sort_by_key(|head| (head.created_at, head.id));
    while let Some(newest) = wanted.pop() {
        if keyword != "@running" || may_have_owner(manager, newest).await {
            return Ok(newest.id);
        }
    }
    let (message, next): (_, &[&str]) = match keyword {
        "@last" => ("no sessions yet".to_owned(), &["run", "--", "true"]),
        "@failed" => ("no session has failed".to_owned(), &["ls", "--all"]),
        "@running" => ("no session is running".to_owned(), &["ls"]),
        _ => {
            let known = "`@last`, `@failed` and `@running`";
            (format!("`{}` is none of {known}", visible(keyword)), &["ls", "--all"])
        }
    };
    Err(Failure::new(ErrorCode::NotFound, message).next(next))
}

/// Returns the session that a name means: the newest that has an owner or waits for one, else the newest.
async fn among_namesakes(
    context: &Context,
    manager: &dyn SessionManager,
    named: &[&Head],
    name: &str,
    purpose: Purpose,
) -> Result<SessionId> {
    if let [one] = named {
        return Ok(one.id);
    }
    if purpose == Purpose::Remove {
        return Err(ambiguous("name", name, rows(manager, named).await, named.len()));
    }
    let mut newest_first = named.to_vec();
    newest_first.sort_by_key(|head| std::cmp::Reverse((head.created_at, head.id)));
    let mut preferred = None;
    for head in &newest_first {
        let fits = match purpose {
            Purpose::Resume => can_resume(manager, head).await,
            Purpose::Use | Purpose::Cancel | Purpose::Remove => is_current(manager, head).await,
        };
        if fits {
            preferred = Some(*head);
            break;
        }
    }
    let Some(chosen) = preferred.or_else(|| newest_first.first().copied()) else {
        return Err(Failure::new(ErrorCode::NotFound, format!("no session `{}`", visible(name))));
    };
    let text = format!(
        "{} sessions are named `{}`: using {}, which is {}",
        named.len(),
        visible(name),
        short(chosen.id),
        status_of(manager, chosen).await.0.name()
    );
    context.hint(&text, &[chosen.id], &["ls", "--all"]);
    Ok(chosen.id)
}

/// Returns `true` if a session has an owner or waits for one. A paused one waits for a person, whose owner may be gone.
async fn is_current(manager: &dyn SessionManager, head: &Head) -> bool {
    match head.state() {
        SessionState::Paused { reason: PauseReason::Interrupted(_) } | SessionState::Running { .. } => {
            may_have_owner(manager, head).await
        }
        SessionState::Created | SessionState::Paused { .. } => true,
        SessionState::Completed { .. } | SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            false
        }
    }
}

async fn can_resume(manager: &dyn SessionManager, head: &Head) -> bool {
    match head.state() {
        SessionState::Created | SessionState::Paused { .. } => true,
        SessionState::Running { .. } => !may_have_owner(manager, head).await,
        SessionState::Completed { .. } | SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            false
        }
    }
}

async fn may_have_owner(manager: &dyn SessionManager, head: &Head) -> bool {
    let liveness = manager.liveness(head.id).await;
    matches!(liveness, Ok(Some(Liveness::Alive | Liveness::Unknown { .. })) | Err(_))
}

/// Returns the failure for a text that refers to no session, with similar names in case it was mistyped.
async fn unknown(manager: &dyn SessionManager, text: &str, all: &SessionList) -> Failure {
    // The session may be one of those, whose names are unknown.
    if let Some((id, error @ StorageError::Unavailable { .. })) = all.unreadable.first() {
        let message =
            format!("no session `{}` can be read, and {} cannot: {error}", visible(text), short(*id));
        return Failure::new(error.code(), message).about(*id).denied_if(error);
    }
    let heads = &all.heads;
    let near = |head: &&Head| is_similar(text, &head.name);
    let near: Vec<&Head> = heads.iter().filter(near).collect();
    let failure = Failure::new(ErrorCode::NotFound, format!("no session `{}`", visible(text)));
    match near.as_slice() {
        [] => failure,
        [one] => failure.candidates(rows(manager, &near).await).next(&["show", &one.id.to_string()]),
        many => failure.candidates(rows(manager, many).await),
    }
}

async fn exists(manager: &dyn SessionManager, id: SessionId) -> Result<bool> {
    match manager.get_head(id).await {
        Err(SessionError::Storage(StorageError::NotFound { .. })) => Ok(false),
        // A damaged session exists: the caller gets the error about its damage.
        Ok(_) | Err(SessionError::Storage(StorageError::Corrupt { .. } | StorageError::Invalid { .. })) => {
            Ok(true)
        }
        Err(error) => Err(Failure::from(error).about(id)),
    }
}

/// Formats the first candidates.
async fn rows(manager: &dyn SessionManager, heads: &[&Head]) -> Vec<String> {
    let mut rows = Vec::new();
    for head in heads.iter().take(MAX_CANDIDATES) {
        let status = status_of(manager, head).await.0.name();
        rows.push(format!("{}  {status}  {}  {}", head.id, head.created_at, head.name));
    }
    rows
}

fn ambiguous(kind: &str, text: &str, mut rows: Vec<String>, count: usize) -> Failure {
    if count > MAX_CANDIDATES {
        rows.truncate(MAX_CANDIDATES);
        rows.push(format!("and {} more", count - MAX_CANDIDATES));
    }
    let message = format!("`{}` is ambiguous: {count} sessions have this {kind}", visible(text));
    Failure::new(ErrorCode::Ambiguous, message).candidates(rows).next(&["ls", "--all"])
}
