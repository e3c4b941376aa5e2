//! Resolution of a session argument: `@last`, a full id, an exact name, the beginning of an id.

use sessionkit::manager::StorageError;
use sessionkit::{ErrorCode, Head, SessionError, SessionFilter, SessionId, SessionManager, text::visible};

use crate::error::{Failure, Result};

/// Minimum Jaro-Winkler similarity of a suggested name: 1 is equality, and one inserted, missing or transposed letter
/// of eight yields about 0.95.
const MIN_SIMILARITY: f64 = 0.85;
/// Candidates shown of many.
const MAX_CANDIDATES: usize = 8;

/// Returns the one session that a text refers to.
pub(crate) async fn resolve(manager: &dyn SessionManager, text: &str) -> Result<SessionId> {
    if text.is_empty() {
        return Err(Failure::invalid("the session argument is empty"));
    }
    if let Ok(id) = text.parse::<SessionId>()
        && exists(manager, id).await?
    {
        return Ok(id);
    }
    let all = manager.list_sessions(SessionFilter::all()).await?;
    if text == "@last" {
        let last = all.heads.iter().max_by_key(|head| (head.created_at, head.id));
        return last.map(|head| head.id).ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, "no sessions yet").next(&["run", "--", "true"])
        });
    }
    let named: Vec<&Head> = all.heads.iter().filter(|head| head.is_named(text)).collect();
    match named.as_slice() {
        [] => {}
        [one] => return Ok(one.id),
        many => return Err(ambiguous("name", text, many.iter().map(|head| row(head)).collect())),
    }
    let begins = |id: &SessionId| id.to_string().starts_with(&text.to_ascii_lowercase());
    let heads: Vec<&Head> = all.heads.iter().filter(|head| begins(&head.id)).collect();
    let unreadable: Vec<SessionId> = all.unreadable.iter().map(|(id, _)| *id).filter(begins).collect();
    match (heads.as_slice(), unreadable.as_slice()) {
        ([], []) => Err(unknown(text, &all.heads)),
        ([one], []) => Ok(one.id),
        ([], [one]) => Ok(*one),
        (heads, unreadable) => {
            let rows = heads.iter().map(|head| row(head));
            let rows = rows.chain(unreadable.iter().map(|id| format!("{id}  (unreadable)")));
            Err(ambiguous("id prefix", text, rows.collect()))
        }
    }
}

/// Returns the failure for a text that refers to no session, with similar names in case it was mistyped.
fn unknown(text: &str, heads: &[Head]) -> Failure {
    let near = |head: &&Head| strsim::jaro_winkler(text, &head.name) > MIN_SIMILARITY;
    let near: Vec<&Head> = heads.iter().filter(near).collect();
    let failure = Failure::new(ErrorCode::NotFound, format!("no session `{}`", visible(text)));
    match near.as_slice() {
        [] => failure,
        [one] => failure.candidates(vec![row(one)]).next(&["show", &one.id.to_string()]),
        many => failure.candidates(many.iter().take(MAX_CANDIDATES).map(|head| row(head)).collect()),
    }
}

async fn exists(manager: &dyn SessionManager, id: SessionId) -> Result<bool> {
    match manager.get_head(id).await {
        Err(SessionError::Storage(StorageError::NotFound { .. })) => Ok(false),
        // A damaged session exists: the caller gets the error about its damage.
        Ok(_) | Err(SessionError::Storage(StorageError::Corrupt { .. } | StorageError::Invalid { .. })) => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn row(head: &Head) -> String {
    format!("{}  {}  {}  {}", head.id, head.state().name(), head.created_at, head.name)
}

fn ambiguous(kind: &str, text: &str, mut rows: Vec<String>) -> Failure {
    let count = rows.len();
    if count > MAX_CANDIDATES {
        rows.truncate(MAX_CANDIDATES);
        rows.push(format!("and {} more", count - MAX_CANDIDATES));
    }
    let message = format!("`{}` is ambiguous: {count} sessions have this {kind}", visible(text));
    Failure::new(ErrorCode::Ambiguous, message).candidates(rows).next(&["ls", "--all"])
}
