//! Everything by which people call sessions: names, labels, keys; and the texts that they may hold.

use session_core::limits::{HEAD_BYTES, LABEL_BYTES, NAME_CHARS};
use session_core::text::visible;
use session_core::{
    ExecutionMode, InMemorySessionManager, PauseReason, ProgressReport, SessionConfig, SessionEvent,
    SessionFilter, SessionId, SessionManager as _, check_name,
};
use sessionkit::StoreUrl;

use super::record_line::check_head;
use super::{head, is_unsafe};
use crate::{InputOutcome, wait};

/// The rest is texts, each up to a byte `0xff`: name, operation, worktree, a label's key and value, a key, a step, a
/// phase, a reason. An empty one is not given.
///
/// What is taken is kept whole, is safe to show, and fits; what is not taken leaves nothing behind.
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
        // As many as fit, and one more: the limit of all labels counts what JSON makes of them.
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

/// What holds of any text.
fn check_text(text: &str) {
    let escaped = visible(text);
    assert!(!is_unsafe(&escaped), "{escaped:?}");
    assert_eq!(visible(&escaped), escaped);
    assert_eq!(is_unsafe(text), escaped != *text, "{text:?}");
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string(), text, "an id has one spelling");
    }
    if let Ok(url) = text.parse::<StoreUrl>() {
        let written = url.to_os_string().into_string().expect("it came from a text");
        assert_eq!(written.parse::<StoreUrl>().expect("it was one before"), url, "{text:?}");
    }
}

/// By the page about the format.
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

/// Makes a session of it and lives it with the other texts; whether it could be made.
async fn run_session(config: &SessionConfig, step: &str, phase: &str, reason: &str) -> bool {
    let manager = InMemorySessionManager::new();
    let Ok(id) = manager.create_session(config.clone()).await else {
        let list = manager.list_sessions(SessionFilter::all()).await.expect("the memory holds");
        assert!(list.heads.is_empty(), "it was refused, and is there");
        return false;
    };
    if let Some(key) = &config.idempotency_key {
        assert_eq!(id, SessionId::from_key(key));
    }
    let log = manager.read_log(id, 0, 1).await.expect("it is there");
    assert!(!is_unsafe(log[0].line()));
    match log[0].decode().expect("it was sealed").event {
        SessionEvent::Created { config: kept, .. } => assert_eq!(*kept, *config),
        other => panic!("the first event is {other:?}"),
    }
    let session = manager.start_session(id).await.expect("nobody else is there");
    let report = ProgressReport::new().percent(1.0).step(step).phase(phase);
    let fits = step.len() <= 256 && phase.len() <= 256;
    assert_eq!(session.progress().report(report).is_ok(), fits, "{step:?} {phase:?}");
    session.pause(PauseReason::Requested(reason.into())).await.expect("a reason may be any text");
    let head = manager.get_head(id).await.expect("it is there");
    check_head(&head);
    assert_eq!(head.labels, config.labels);
    let kept = config.name.as_deref().unwrap_or_default();
    assert!(
        kept.starts_with(&head.name) && kept.len().min(64) <= head.name.len().max(1) * 2,
        "{kept:?} {head:?}"
    );
    session.cancel(reason).await.expect("a reason may be any text");
    let head = manager.get_head(id).await.expect("it is there");
    check_head(&head);
    assert!(serde_json::to_string(&head).unwrap().len() <= HEAD_BYTES);
    for record in manager.read_log(id, 0, 100).await.expect("it is there") {
        assert!(!is_unsafe(record.line()));
    }
    true
}
