//! Malicious and damaged stores: no link is followed, nothing hangs, every log is one that a storage accepts, and
//! unreadable entries are reported.

use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use session_legacy::{Format, LegacyStore};

use crate::fixtures::old_record;
use crate::support::{check_session, fixture, read, split};

/// Reads a store of one session with this text.
fn one(format: Format, text: &[u8]) -> LegacyStore {
    let folder = tempfile::tempdir().unwrap();
    let name = if format == Format::Container {
        ".claude-container-sessions.json"
    } else {
        "10000000-0000-4000-8000-000000000001.json"
    };
    std::fs::write(folder.path().join(name), text).unwrap();
    read(format, folder.path())
}

fn msw(extra: &Value) -> Value {
    let mut entry = json!({
        "id": "10000000-0000-4000-8000-000000000001", "operation": "crawl", "status": "active",
        "progress": { "status": "running", "startedAt": "2025-03-01T10:00:00Z" }, "createdAt": "2025-03-01T10:00:00Z",
    });
    entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    entry
}

#[test]
fn only_regular_files_are_read() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = elsewhere.path().join("secret.json");
    std::fs::write(&secret, msw(&json!({})).to_string()).unwrap();
    symlink(&secret, folder.path().join("link.json")).unwrap();
    symlink("nowhere", folder.path().join("dangling.json")).unwrap();
    std::fs::create_dir(folder.path().join("folder.json")).unwrap();
    let pipe = folder.path().join("pipe.json");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let store = read(Format::Msw, folder.path());
    let (sessions, unreadable) = split(&store);
    assert!(sessions.is_empty());
    assert_eq!(
        unreadable,
        [
            ("dangling.json", "is a symbolic link, which is not followed"),
            ("folder.json", "is not a regular file"),
            ("link.json", "is a symbolic link, which is not followed"),
            ("pipe.json", "is not a regular file"),
        ]
    );
    // Nor is a link in the path of the store followed.
    let folder = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), folder.path().join(".msw")).unwrap();
    symlink(&secret, folder.path().join(".claude-container-sessions.json")).unwrap();
    symlink(elsewhere.path(), folder.path().join(".worktrees")).unwrap();
    let error = session_legacy::read(Format::Msw, folder.path()).unwrap_err();
    assert_eq!(error.code(), session_core::ErrorCode::InvalidArgument, "{error:?}");
    let store = read(Format::Container, folder.path());
    assert!(store.entries.is_empty());
    assert!(store.warnings[0].contains("symbolic link"), "{:?}", store.warnings);
}

#[test]
fn a_file_over_the_size_limit_is_refused() {
    let padding = " ".repeat(8 * 1024 * 1024);
    let store = one(Format::Msw, format!("{}{padding}", msw(&json!({}))).as_bytes());
    assert_eq!(split(&store).1, [("10000000-0000-4000-8000-000000000001.json", "is larger than 8 MiB")]);
}

/// A record that does not fit into metadata is stored in parts, independent of its escapes, and can be joined again.
#[test]
fn a_large_or_deep_record_is_kept_in_notes() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    for extra in [
        json!({ "context": { "large": "\u{7f}\u{202e}\"\\ä".repeat(200_000) } }),
        json!({ "context": { "deep": deep } }),
        // Metadata is shown with every view of the session, so its limit is lower than that of a record.
        json!({ "context": { "middling": "m".repeat(100_000) } }),
        json!({ "operation": "o".repeat(2_000_000), "progress": { "status": "failed", "error": "e".repeat(2_000_000) } }),
    ] {
        let entry = msw(&extra);
        let store = one(Format::Msw, entry.to_string().as_bytes());
        let (sessions, unreadable) = split(&store);
        assert!(unreadable.is_empty(), "{unreadable:?}");
        check_session(Format::Msw, sessions[0]);
        assert!(sessions[0].log().len() > 2);
        assert_eq!(old_record(sessions[0]), entry);
        assert!(sessions[0].mapped().iter().any(|note| note.contains("session.imported")));
    }
}

#[test]
fn a_duplicate_id_belongs_to_the_first_entry() {
    let entry = json!({ "id": "a", "status": "stopped" });
    let store = one(
        Format::Container,
        json!({ "version": "1.0", "sessions": [entry, entry] }).to_string().as_bytes(),
    );
    let (sessions, unreadable) = split(&store);
    assert_eq!(
        (sessions.len(), unreadable),
        (1, vec![("sessions[1]", "has the same id as sessions[0], which is used")])
    );
}

/// Returns the texts of all fixtures.
fn texts() -> Vec<(Format, Vec<u8>)> {
    let mut texts = Vec::new();
    for (format, folder) in
        [(Format::Msw, "msw"), (Format::Container, "container/all"), (Format::Prodigy, "prodigy")]
    {
        let mut names: Vec<_> =
            std::fs::read_dir(fixture(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        texts.extend(names.iter().map(|path: &std::path::PathBuf| (format, std::fs::read(path).unwrap())));
    }
    texts
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-zA-Z0-9:.+-]{0,24}".prop_map(Value::from),
        Just(json!("+262142-12-31T23:59:59Z")),
        Just(json!("0000-01-01T00:00:00+23:59")),
        Just(json!("running")),
        Just(json!("Completed")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Counts the members of a value at any depth, and replaces the one at `turn`.
fn replace(value: &mut Value, turn: &mut usize, with: &Value) {
    if *turn == 0 {
        value.clone_from(with);
    }
    *turn = turn.wrapping_sub(1);
    match value {
        Value::Object(members) => members.values_mut().for_each(|value| replace(value, turn, with)),
        Value::Array(items) => items.iter_mut().for_each(|value| replace(value, turn, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[track_caller]
fn survives(format: Format, text: &[u8]) {
    let store = one(format, text);
    let again = one(format, text);
    assert_eq!(split(&store).1, split(&again).1);
    assert_eq!(store.sessions().count(), again.sessions().count());
    for (session, again) in store.sessions().zip(again.sessions()) {
        check_session(format, session);
        assert_eq!(session.log(), again.log(), "the second conversion created another log");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_member_may_hold_any_value(at in any::<prop::sample::Index>(), turn in 0_usize..40, with in hostile_value()) {
        let texts = texts();
        let (format, text) = at.get(&texts);
        if let Ok(mut value) = serde_json::from_slice::<Value>(text) {
            replace(&mut value, &mut turn.clone(), &with);
            survives(*format, value.to_string().as_bytes());
        }
    }

    #[test]
    fn any_bytes_may_be_damaged(
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let texts = texts();
        let (format, text) = at.get(&texts);
        let mut text = text.clone();
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len() + 1));
        }
        for (at, byte) in damage {
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
            }
        }
        survives(*format, &text);
    }
}

#[test]
fn a_file_name_that_is_not_utf8_is_reported() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let name = |bytes: &[u8]| folder.path().join(Path::new(std::ffi::OsStr::from_bytes(bytes)));
    std::fs::write(name(b"\xff\x1b[31m.json"), "{}").unwrap();
    std::fs::write(name(b"\xfe"), "{}").unwrap();
    let store = read(Format::Prodigy, folder.path());
    assert_eq!((split(&store).1.len(), store.warnings.len()), (1, 1));
}
