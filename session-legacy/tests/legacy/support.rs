//! Fixtures, and what is asked of whatever is found.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use session_core::{Head, MemoryStorage, SessionState};
use session_legacy::{Format, LegacySession, LegacyStore, Outcome};

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub(crate) fn read(format: Format, path: &Path) -> LegacyStore {
    session_legacy::read(format, path).unwrap()
}

/// The sessions, with the sources of what cannot be read.
pub(crate) fn split(store: &LegacyStore) -> (Vec<&LegacySession>, Vec<(&str, &str)>) {
    let unreadable = store.unreadable().map(|entry| (&*entry.source, &*entry.reason));
    (store.sessions().collect(), unreadable.collect())
}

/// A state as the tables of the documentation write it.
pub(crate) fn state(head: &Head) -> String {
    let SessionState::Paused { reason } = head.state() else { return head.state().name().name().to_owned() };
    let reason = reason.to_string();
    format!("paused: {}", reason.split(':').next().unwrap())
}

/// What must hold of each session that is made of anything: it can be stored, by a storage that checks all of it, and
/// the second time there is nothing to do; it says where it came from, nobody owns it, and its times never go back.
pub(crate) fn check_session(format: Format, session: &LegacySession) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let storage = MemoryStorage::new();
    runtime.block_on(async {
        assert_eq!(session.preview(&storage).await.unwrap(), Outcome::Imported);
        assert_eq!(session.import(&storage).await.unwrap(), Outcome::Imported, "{}", session.source());
        assert_eq!(session.preview(&storage).await.unwrap(), Outcome::Skipped);
        assert_eq!(session.import(&storage).await.unwrap(), Outcome::Skipped);
    });
    let head = session.head();
    assert_eq!(head.lifecycle.owner, None);
    assert_eq!((&head.creator, head.deaths, head.exit_code, &head.command), (&None, 0, None, &None));
    assert!(head.lifecycle.attempt <= 1);
    assert_eq!(head.labels["imported-from"], format.name());
    assert!(!head.name.is_empty());
    assert!(session.log()[0].line().contains("\"imported\":{"), "{}", session.log()[0].line());
    let times: Vec<_> = session.log().iter().map(|record| record.decode().unwrap().envelope.at).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// Every file below a folder, with its bytes and when it was last changed.
pub(crate) fn snapshot(path: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let bytes = if found.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        entries.push((path.clone(), found.modified().unwrap(), bytes));
        if found.is_dir() {
            entries.extend(snapshot(&path));
        }
    }
    entries.sort();
    entries
}
