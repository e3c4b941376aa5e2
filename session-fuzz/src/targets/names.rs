//! Fuzz target for names, labels, keys and other texts of a session.

use session_core::backend::check_name;
use session_core::limits::{HEAD_BYTES, LABEL_BYTES, NAME_CHARS};
use session_core::text::visible;
use session_core::{
    ExecutionMode, InMemorySessionManager, PauseReason, ProgressReport, SessionConfig, SessionEvent,
    SessionFilter, SessionId, SessionManager as _,
};
use sessionkit::StoreUrl;

use super::record_line::check_head;
use super::{head, is_unsafe};
use crate::{InputOutcome, wait};

/// Creates and runs a session with the texts of the input, which are separated by `0xff`: name, operation, worktree,
/// label key, label value, idempotency key, step, phase, reason. An empty text is omitted.
///
/// An accepted config is stored unchanged, is safe to display and is within the limits. A refused one leaves nothing
/// behind.
pub fn names(input: &[u8]) -> InputOutcome {
    let ([_], rest) = head(input);
    let mut texts = rest.split(|byte| *byte == 0xff).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut next = || texts.next().unwrap_or_default();
    let texts = [(); 9].map(|()| next());
    for text in &texts {
        check_text(text);
    }
    let [name, operation, worktree, label, value, key, step, phase, reason] = texts;
    let mut config = SessionConfig::new(if operation.is_empty() { "fuzz".into() } else { operation });
    config = config.name(name.clone());
    if !worktree.is_empty() {
        config.mode = ExecutionMode::Worktree { name: worktree.clone() };
    }
    if !label.is_empty() || !value.is_empty() {
        // Two labels, because the limit applies to the JSON of all labels together.
        config = config.label(label.clone(), value.clone()).label(format!("{label}2"), value.clone());
    }
    if !key.is_empty() {
        config = config.idempotency_key(key.clone());
    }
    let accepted = wait(run_session(&config, &step, &phase, &reason));
    assert_eq!(accepted, config.check().is_ok());
    if accepted {
        check_config(&config, &name);
        InputOutcome::Accepted
    } else {
        InputOutcome::Refused
    }
}

/// Checks properties of any text.
fn check_text(text: &str) {
    let escaped = visible(text);
    assert!(!is_unsafe(&escaped), "{escaped:?}");
    assert_eq!(visible(&escaped), escaped);
    assert_eq!(is_unsafe(text), escaped != *text, "{text:?}");
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string(), text, "an id has only one form");
    }
    if let Ok(url) = text.parse::<StoreUrl>() {
        let written = url.to_os_string().into_string().expect("the URL was parsed from text");
        assert_eq!(written.parse::<StoreUrl>().expect("the URL can be parsed again"), url, "{text:?}");
    }
}

/// Checks the rules of `docs/format.md` for an accepted config.
fn check_config(config: &SessionConfig, name: &str) {
    assert!(check_name(name).is_ok());
    assert!(!name.is_empty() && name.chars().count() <= NAME_CHARS && !name.starts_with(['-', '@']));
    let mut texts: Vec<&str> = vec![name, &config.operation];
    texts.extend(config.idempotency_key.as_deref());
    texts.extend(config.labels.iter().flat_map(|(key, value)| [&**key, &**value]));
    assert!(texts.iter().all(|text| !is_unsafe(text) && visible(text) == **text), "{texts:?}");
    assert!(config.labels.keys().all(|key| !key.is_empty() && !key.contains('=')));
    assert!(serde_json::to_string(&config.labels).unwrap().len() <= LABEL_BYTES);
}

/// Runs a session with the config and the other texts. Returns `false` if it could not be created.
async fn run_session(config: &SessionConfig, step: &str, phase: &str, reason: &str) -> bool {
    let manager = InMemorySessionManager::new();
    let Ok(id) = manager.create_session(config.clone()).await else {
        let list =
            manager.list_sessions(SessionFilter::all()).await.expect("the memory storage does not fail");
        assert!(list.heads.is_empty(), "the session was refused, but exists");
        return false;
    };
    if let Some(key) = &config.idempotency_key {
        assert_eq!(id, SessionId::from_key(key));
    }
    let log = manager.read_log(id, 0, 1).await.expect("the session exists");
    assert!(!is_unsafe(log[0].line()));
    match log[0].decode().expect("the record was sealed").event {
        SessionEvent::Created { config: kept, .. } => assert_eq!(*kept, *config),
        other => panic!("the first event is {other:?}"),
    }
    let session = manager.start_session(id).await.expect("there is no other owner");
    let report = ProgressReport::new().percent(1.0).step(step).phase(phase);
    let fits = step.len() <= 256 && phase.len() <= 256;
    assert_eq!(session.progress().report(report).is_ok(), fits, "{step:?} {phase:?}");
    session.pause(PauseReason::Requested(reason.into())).await.expect("a reason may be any text");
    let head = manager.get_head(id).await.expect("the session exists");
    check_head(&head);
    assert_eq!(head.labels, config.labels);
    let kept = config.name.as_deref().unwrap_or_default();
    assert!(
        kept.starts_with(&head.name) && kept.len().min(64) <= head.name.len().max(1) * 2,
        "{kept:?} {head:?}"
    );
    session.cancel(reason).await.expect("a reason may be any text");
    let head = manager.get_head(id).await.expect("the session exists");
    check_head(&head);
    assert!(serde_json::to_string(&head).unwrap().len() <= HEAD_BYTES);
    for record in manager.read_log(id, 0, 100).await.expect("the session exists") {
        assert!(!is_unsafe(record.line()));
    }
    true
}
