//! Fuzz target for the stores of older tools.

use session_core::backend::{MemoryStorage, SessionStorage as _, SessionStorageExt as _};
use session_core::{Head, SessionId};
use sessionkit::legacy::{Format, LegacySession, LegacyStore, Outcome, read};

use super::record_line::check_head;
use super::{head, is_unsafe};
use crate::{InputOutcome, wait};

/// Reads a store: the second byte selects the tool, and the rest is one of its files, with one or several sessions.
///
/// Reading twice gives the same result and does not change the file. Each session becomes a valid log that records its
/// origin, is safe to display, and is imported exactly once. Every other entry is reported with a reason.
pub fn legacy_store(input: &[u8]) -> InputOutcome {
    let ([_, format], text) = head(input);
    let formats = [Format::Msw, Format::Container, Format::Prodigy];
    let format = formats[usize::from(format) % formats.len()];
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("10000000-0000-4000-8000-000000000001.json");
    std::fs::write(&path, text).unwrap();
    let store = read(format, &path).expect("the file exists");
    assert!(std::fs::read(&path).unwrap() == text, "the file was changed");
    let again = read(format, &path).expect("the file still exists");
    assert_eq!(logs(&store), logs(&again), "reading again gives a different result");
    let mut all = store.unreadable().count();
    for entry in store.unreadable() {
        assert!(!entry.reason.is_empty(), "{entry:?}");
    }
    wait(async {
        let storage = MemoryStorage::new();
        for session in store.sessions() {
            all += 1;
            check_session(&storage, session).await;
        }
    });
    assert_eq!(all, store.entries.len());
    if store.unreadable().count() == 0 && all > 0 { InputOutcome::Accepted } else { InputOutcome::Refused }
}

fn logs(store: &LegacyStore) -> Vec<(SessionId, Vec<&str>)> {
    let lines = |session| LegacySession::log(session).iter().map(session_core::StoredRecord::line).collect();
    store.sessions().map(|session| (session.id(), lines(session))).collect()
}

/// Checks one session.
async fn check_session(storage: &MemoryStorage, session: &LegacySession) {
    let id = session.id();
    assert_eq!(session.import(storage).await.expect("the memory storage does not fail"), Outcome::Imported);
    assert_eq!(session.import(storage).await.expect("the memory storage does not fail"), Outcome::Skipped);
    let records = storage.records_after(id, 0).await.expect("the session was imported");
    assert_eq!(records, session.log());
    let mut folded: Option<Head> = None;
    for record in &records {
        assert!(!is_unsafe(record.line()), "{}", record.line());
        Head::fold(&mut folded, id, &record.decode().expect("the record was sealed here"))
            .expect("the log is valid");
    }
    let first = records[0].line();
    assert!(first.contains("\"created\"") && first.contains("\"imported-from\""), "{first}");
    let head = storage.head(id).await.expect("the memory storage does not fail").expect("the session exists");
    assert_eq!(Some(&head), folded.as_ref());
    check_head(&head);
}
