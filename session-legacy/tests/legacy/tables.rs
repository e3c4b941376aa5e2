//! Tests each row of the tables in `docs/legacy.md`.

use serde_json::{Value, json};
use session_core::SessionProgress;
use session_legacy::Format;

use crate::support::{check_session, read, state};

const PAGE: &str = include_str!("../../../docs/legacy.md");
const AT: &str = "2025-03-01T10:00:00Z";

/// Returns the rows of the first table in a section, with cells without backticks.
fn rows(section: &str) -> Vec<Vec<String>> {
    let text = PAGE.split(&format!("\n## {section}\n")).nth(1).unwrap();
    let lines =
        text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>()
    };
    lines.skip(2).map(cells).collect()
}

/// Returns the values that a cell represents.
fn stand_ins(cell: &str, all: &[&str]) -> Vec<Value> {
    match cell {
        "missing" => vec![Value::Null],
        "any" => all.iter().map(|word| json!(word)).chain([Value::Null, json!("other")]).collect(),
        "any other" => vec![json!("other"), json!(""), json!("Running ")],
        word => vec![json!(word)],
    }
}

/// Writes an entry where the tool stores it, reads it, and returns the resulting state.
fn resulting_state(format: Format, entry: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (name, text) = if format == Format::Container {
        (".claude-container-sessions.json", json!({ "version": "1.0", "sessions": [entry] }).to_string())
    } else {
        ("one.json", entry.to_string())
    };
    std::fs::write(folder.path().join(name), text).unwrap();
    let store = read(format, folder.path());
    assert_eq!((store.entries.len(), &store.warnings), (1, &vec![]));
    let Some(session) = store.sessions().next() else {
        let entry = store.unreadable().next().unwrap();
        assert!(entry.reason.contains("status"), "{entry:?}");
        return "unreadable".to_owned();
    };
    check_session(format, session);
    state(session.head())
}

#[test]
fn msw_status_pairs_map_as_documented() {
    let mut tried = 0;
    for row in rows("msw") {
        let [inner, outer, expected] = &row[..] else { panic!("{row:?}") };
        for inner in stand_ins(inner, &[]) {
            let known = ["active", "completed", "failed", "crashed"];
            let outers = if outer == "any other" {
                vec![json!("completed"), json!("failed"), Value::Null]
            } else {
                stand_ins(outer, &known)
            };
            for outer in outers {
                let progress = json!({ "status": inner, "startedAt": AT, "updatedAt": AT });
                let entry = json!({ "id": "one", "status": outer, "progress": progress, "createdAt": AT });
                assert_eq!(&resulting_state(Format::Msw, &entry), expected, "{entry}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 40, "{tried}");
}

#[test]
fn container_statuses_map_as_documented() {
    let rows = rows("container");
    assert_eq!(rows.len(), 7);
    for row in rows {
        for status in stand_ins(&row[0], &[]) {
            let entry = json!({ "id": "one", "status": status, "createdAt": AT, "lastActivity": AT });
            assert_eq!(resulting_state(Format::Container, &entry), row[2], "{entry}");
        }
    }
}

#[test]
fn prodigy_statuses_map_as_documented() {
    let rows = rows("prodigy");
    assert_eq!(rows.len(), 8);
    for row in rows {
        for status in stand_ins(&row[0], &[]) {
            let entry = json!({ "id": "one", "status": status, "started_at": AT, "updated_at": AT });
            assert_eq!(resulting_state(Format::Prodigy, &entry), row[1], "{entry}");
        }
    }
}

/// Regression: steps that the tool never counted hid the percentage that it reported: 0 % instead of 66 %.
#[test]
fn the_larger_of_percent_and_steps_is_shown() {
    for (percent, done, total, shown) in
        [(66, 0, 3, 66.0), (10, 2, 4, 50.0), (0, 1, 0, 0.0), (100, 1, 3, 100.0)]
    {
        let progress = json!({
            "status": "running", "startedAt": AT, "updatedAt": AT,
            "progress": percent, "completedSteps": done, "totalSteps": total,
        });
        let entry = json!({ "id": "one", "status": "active", "progress": progress, "createdAt": AT });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one.json"), entry.to_string()).unwrap();
        let store = read(Format::Msw, folder.path());
        let session = store.sessions().next().unwrap();
        let progress = SessionProgress::from_head(session.head(), session.head().updated_at);
        assert_eq!(progress.percent, Some(shown), "{entry}");
    }
}
