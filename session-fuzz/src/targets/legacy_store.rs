//! Stores of older tools, which nobody has checked before us.

use session_core::{Head, MemoryStorage, SessionId, SessionStorage as _, SessionStorageExt as _};
use sessionkit::legacy::{Format, LegacySession, LegacyStore, Outcome, read};

use super::record_line::small;
use super::{head, is_unsafe};
use crate::{Fate, wait};

/// The second byte says which tool's, the rest is a file of its: with one session, or with all of them.
///
/// It is read the same twice, and is not changed. Each session of it is a log like any other: it begins with where it came
/// from, is safe to show, goes into a store, and does so once. Whatever is no session is named, with a reason.
pub fn legacy_store(input: &[u8]) -> Fate {
    let ([_, format], text) = head(input);
    let formats = [Format::Msw, Format::Container, Format::Prodigy];
    let format = formats[usize::from(format) % formats.len()];
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("10000000-0000-4000-8000-000000000001.json");
    std::fs::write(&path, text).unwrap();
    let store = read(format, &path).expect("there is a file");
    assert!(std::fs::read(&path).unwrap() == text, "it was changed");
    let again = read(format, &path).expect("it is there still");
    assert_eq!(logs(&store), logs(&again), "the second time it is another one");
    let mut all = store.unreadable().count();
    for entry in store.unreadable() {
        assert!(!entry.reason.is_empty(), "{entry:?}");
    }
    wait(async {
        let storage = MemoryStorage::new();
        for session in store.sessions() {
            all += 1;
            wanted(&storage, session).await;
        }
    });
    assert_eq!(all, store.entries.len());
    if store.unreadable().count() == 0 && all > 0 { Fate::Accepted } else { Fate::Refused }
}

fn logs(store: &LegacyStore) -> Vec<(SessionId, Vec<&str>)> {
    let lines = |session| LegacySession::log(session).iter().map(session_core::StoredRecord::line).collect();
    store.sessions().map(|session| (session.id(), lines(session))).collect()
}

/// What one wants of a session.
async fn wanted(storage: &MemoryStorage, session: &LegacySession) {
    let id = session.id();
    assert_eq!(session.import(storage).await.expect("the memory holds"), Outcome::Imported);
    assert_eq!(session.import(storage).await.expect("the memory holds"), Outcome::Skipped);
    let records = storage.records_after(id, 0).await.expect("it was imported");
    assert_eq!(records, session.log());
    let mut folded: Option<Head> = None;
    for record in &records {
        assert!(!is_unsafe(record.line()), "{}", record.line());
        Head::fold(&mut folded, id, &record.decode().expect("it was sealed here")).expect("a log is a life");
    }
    let first = records[0].line();
    assert!(first.contains("\"created\"") && first.contains("\"imported-from\""), "{first}");
    let head = storage.head(id).await.expect("it is there").expect("it is there");
    assert_eq!(Some(&head), folded.as_ref());
    small(&head);
}
