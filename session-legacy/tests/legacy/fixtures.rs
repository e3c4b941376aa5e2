//! The fixtures: every status, missing members, damaged entries, hostile texts. The folder `expected` holds the result
//! of each, including the checksum of its log: a store that an older version imported must still be skipped.

use std::fmt::Write as _;
use std::path::Path;

use session_core::SessionEvent;
use session_core::backend::MemoryStorage;
use session_core::text::visible;
use session_legacy::{Format, LegacyStore, Outcome};

use crate::support::{check_session, fixture, read, snapshot, split, state};

/// Describes a converted store as text.
fn describe(store: &LegacyStore) -> String {
    let mut text = String::new();
    for warning in &store.warnings {
        writeln!(text, "warning: {}", visible(warning)).unwrap();
    }
    for session in store.sessions() {
        let head = session.head();
        let (source, name) = (visible(session.source()), &head.name);
        writeln!(text, "{source}\n  {} {name:?} {}", session.id(), state(head)).unwrap();
        let kinds: Vec<_> =
            session.log().iter().map(|record| record.decode().unwrap().event.kind().name()).collect();
        writeln!(text, "  {} to {}, {}", head.created_at, head.updated_at, head.tip).unwrap();
        writeln!(text, "  {}", kinds.join(" ")).unwrap();
        for note in session.mapped() {
            writeln!(text, "  mapped: {}", visible(note)).unwrap();
        }
    }
    for entry in store.unreadable() {
        writeln!(text, "{}\n  unreadable: {}", visible(&entry.source), visible(&entry.reason)).unwrap();
    }
    text
}

#[track_caller]
fn assert_result(format: Format, folder: &str, sessions: usize, unreadable: usize) {
    let path = fixture(folder);
    let before = snapshot(&path);
    let store = read(format, &path);
    assert_eq!(snapshot(&path), before, "reading changed a file");
    let (found, unreadable_entries) = split(&store);
    assert_eq!((found.len(), unreadable_entries.len()), (sessions, unreadable), "{unreadable_entries:#?}");
    for session in found {
        check_session(format, session);
    }
    let text = describe(&store);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let expected =
        std::fs::read_to_string(fixture("expected").join(format!("{}.txt", folder.replace('/', "-"))));
    assert!(expected.unwrap_or_default() == text, "the result of {folder} is now:\n{text}");
}

#[test]
fn msw() {
    assert_result(Format::Msw, "msw", 16, 10);
}

#[test]
fn container() {
    assert_result(Format::Container, "container/all", 8, 6);
    assert_result(Format::Container, "container/other-version", 1, 0);
}

#[test]
fn prodigy() {
    assert_result(Format::Prodigy, "prodigy", 11, 2);
}

#[test]
fn an_unusable_container_file_is_a_warning() {
    for folder in ["container/corrupt", "container/no-list", "container"] {
        let store = read(Format::Container, &fixture(folder));
        assert!(store.entries.is_empty());
        assert_eq!(store.warnings.len(), 2, "{:#?}", store.warnings);
        assert!(store.warnings[0].contains("reading the git worktrees instead"), "{:#?}", store.warnings);
    }
}

/// The first import stores every session, and the second one skips them all.
#[tokio::test(flavor = "current_thread")]
async fn a_second_import_skips_every_session() {
    let storage = MemoryStorage::new();
    for expected in [Outcome::Imported, Outcome::Skipped] {
        for (format, folder) in
            [(Format::Msw, "msw"), (Format::Container, "container/all"), (Format::Prodigy, "prodigy")]
        {
            for session in split(&read(format, &fixture(folder))).0 {
                assert_eq!(session.import(&storage).await.unwrap(), expected, "{}", session.source());
            }
        }
    }
}

/// Values of the old store appear under the names that they have here.
#[test]
fn old_values_appear_under_their_new_names() {
    let store = read(Format::Msw, &fixture("msw"));
    let (sessions, _) = split(&store);
    let running = sessions.iter().find(|session| session.source().contains("000002")).unwrap();
    let progress = &running.head().progress;
    assert_eq!((progress.percent, progress.step.as_deref()), (Some(40.0), Some("page 4")));
    assert_eq!((progress.completed_steps, progress.total_steps), (Some(4), Some(10)));
    let checkpoint = usize::try_from(running.head().checkpoint.unwrap()).unwrap();
    let SessionEvent::CheckpointSaved { state, resumable: true } =
        running.log()[checkpoint - 1].decode().unwrap().event
    else {
        panic!("{:?}", running.log())
    };
    assert_eq!(state["cursor"], "page-4");
    let failed = sessions.iter().find(|session| session.source().contains("000005")).unwrap();
    assert_eq!(
        failed.head().state(),
        &session_core::SessionState::Failed {
            error: session_core::Failure::new(session_core::FailureCause::Work, "login expired"),
        }
    );

    let store = read(Format::Prodigy, &fixture("prodigy"));
    let (sessions, _) = split(&store);
    let done = sessions.iter().find(|session| session.source().contains("000004")).unwrap();
    assert_eq!((done.head().lifecycle.iterations_completed, done.head().totals.files_changed), (3, 7));
    let session_core::SessionState::Completed { summary } = done.head().state() else { panic!("{done:?}") };
    // From 10:00:00.123 to 10:06.
    assert_eq!((summary.iterations, summary.files_changed, summary.duration_ms), (3, 7, 359_877));
    let running = sessions.iter().find(|session| session.source().contains("000002")).unwrap();
    assert_eq!(running.head().worktree.as_deref(), Some("session-docs"));
    let checkpoint = usize::try_from(running.head().checkpoint.unwrap()).unwrap();
    assert!(running.log()[checkpoint - 1].line().contains("\"step\":2"), "the last one is the latest");
}

/// The complete old record is kept, in metadata or in notes.
#[test]
fn the_old_record_is_kept_unchanged() {
    for (format, folder) in [(Format::Msw, "msw"), (Format::Prodigy, "prodigy")] {
        for session in split(&read(format, &fixture(folder))).0 {
            let raw = std::fs::read_to_string(fixture(folder).join(session.source())).unwrap();
            assert_eq!(old_record(session), serde_json::from_str::<serde_json::Value>(&raw).unwrap());
        }
    }
}

/// Returns the old record from the log: from the metadata, or joined from parts.
pub(crate) fn old_record(session: &session_legacy::LegacySession) -> serde_json::Value {
    let events = session.log().iter().map(|record| record.decode().unwrap().event);
    let mut text = String::new();
    for event in events {
        if let SessionEvent::Created { config, .. } = &event
            && let Some(record) = config.metadata["imported"].get("record")
        {
            return record.clone();
        }
        if let SessionEvent::Noted { data, .. } = &event {
            text.push_str(data["text"].as_str().unwrap_or_default());
        }
    }
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_store_is_found_by_its_folder_or_one_of_its_files() {
    let sessions = |format, path: &Path| split(&read(format, path)).0.len();
    let folder = tempfile::tempdir().unwrap();
    for (format, home, from) in [(Format::Msw, ".msw", "msw"), (Format::Prodigy, ".prodigy", "prodigy")] {
        let inner = folder.path().join(home).join("sessions");
        std::fs::create_dir_all(&inner).unwrap();
        let mut names = 0;
        for entry in std::fs::read_dir(fixture(from)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), inner.join(entry.file_name())).unwrap();
            names += 1;
        }
        assert!(names > 10);
        let all = sessions(format, &fixture(from));
        for path in [folder.path(), &folder.path().join(home), &inner] {
            assert_eq!(sessions(format, path), all, "{}", path.display());
        }
    }
    assert_eq!(sessions(Format::Container, &fixture("container/all/.claude-container-sessions.json")), 8);
    assert_eq!(sessions(Format::Msw, &fixture("msw/nightly-crawl.json")), 1);
    for format in Format::ALL {
        let error = session_legacy::read(*format, Path::new("no/such/folder")).unwrap_err();
        assert_eq!(error.code(), session_core::ErrorCode::InvalidArgument);
    }
}
