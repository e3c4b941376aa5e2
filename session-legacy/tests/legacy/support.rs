//! Fixtures, and checks that every converted session must pass.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use session_core::backend::MemoryStorage;
use session_core::{Head, SessionState};
use session_legacy::{Format, LegacySession, LegacyStore, Outcome};

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub(crate) fn read(format: Format, path: &Path) -> LegacyStore {
    session_legacy::read(format, path).unwrap()
}

/// Splits a store into its sessions, and the sources and reasons of unreadable entries.
pub(crate) fn split(store: &LegacyStore) -> (Vec<&LegacySession>, Vec<(&str, &str)>) {
    let unreadable = store.unreadable().map(|entry| (&*entry.source, &*entry.reason));
    (store.sessions().collect(), unreadable.collect())
}

/// Formats a state as the tables of the documentation do.
pub(crate) fn state(head: &Head) -> String {
    let SessionState::Paused { reason } = head.state() else { return head.state().name().name().to_owned() };
    let reason = reason.to_string();
    let reason = reason.split(':').next().unwrap();
    if reason == "crashed" { reason.to_owned() } else { format!("paused: {reason}") }
}

/// Checks what holds for every converted session: a strict storage imports it, and skips it the second time; it records
/// its origin, has no owner, and its times never decrease.
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

/// Returns every file below a folder with its bytes and modification time.
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
