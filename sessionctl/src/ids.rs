//! Which session is meant: `@last`, a full id, an exact name, the beginning of an id, in that order.

use sessionkit::{
    ErrorCode, Head, SessionError, SessionFilter, SessionId, SessionManager, StorageError, text::visible,
};

use crate::error::{Failure, Result};

/// How near a name has to come to be shown, by Jaro and Winkler: 1 is the same, and one letter more, less or in another
/// place of eight leaves about 0.95.
const MIN_SIMILARITY: f64 = 0.85;
/// Candidates that are shown of many.
const MAX_CANDIDATES: usize = 8;

/// The one session that a text means.
pub(crate) async fn resolve(manager: &dyn SessionManager, text: &str) -> Result<SessionId> {
    if text.is_empty() {
        return Err(Failure::invalid("an empty text means no session"));
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
            Failure::new(ErrorCode::NotFound, "there is no session yet").next(&["run", "--", "true"])
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
            Err(ambiguous("beginning", text, rows.collect()))
        }
    }
}

/// Nothing is meant: names that come near are shown, in case it was mistyped.
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
        // Damaged is there, too: whoever asked for it hears of the damage.
        Ok(_) | Err(SessionError::Storage(StorageError::Corrupt { .. } | StorageError::Invalid { .. })) => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn row(head: &Head) -> String {
    format!("{}  {}  {}  {}", head.id, head.state().name(), head.created_at, head.name)
}

fn ambiguous(what: &str, text: &str, mut rows: Vec<String>) -> Failure {
    let count = rows.len();
    if count > MAX_CANDIDATES {
        rows.truncate(MAX_CANDIDATES);
        rows.push(format!("and {} more", count - MAX_CANDIDATES));
    }
    Failure::new(ErrorCode::Ambiguous, format!("{count} sessions have the {what} `{}`", visible(text)))
        .candidates(rows)
        .next(&["ls", "--all"])
}
