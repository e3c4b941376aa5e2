//! Inspecting sessions: `ls`, `show`, `events`.

use serde_json::{Value, json};
use sessionkit::log::{Changes, Commit, FileChange};
use sessionkit::manager::Durability;
use sessionkit::{SessionConfig, SessionEvent};

use crate::support::{self, Fixture};

#[test]
fn inspecting_a_missing_store_does_not_create_it() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["ls"]).exits(0);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("next: "), "{ran:#?}");
    assert_eq!(fixture.json(["ls", "--all"]), Value::Array(Vec::new()));
    fixture.ctl(["show", "@last"]).fails(3, "NOT_FOUND");
    assert!(!fixture.store().exists(), "reading created a store");
}

/// The members of a session that docs/json.md lists: no more, no fewer.
const FIELDS: [&str; 47] = [
    "schema",
    "id",
    "name",
    "operation",
    "command",
    "cwd",
    "state",
    "status",
    "reason",
    "requested",
    "error",
    "revision",
    "attempt",
    "iteration",
    "iterations_completed",
    "total_iterations",
    "phase",
    "progress",
    "owner",
    "created_at",
    "started_at",
    "updated_at",
    "ended_at",
    "duration_ms",
    "exit_code",
    "signal",
    "files_changed",
    "lines_added",
    "lines_removed",
    "commits",
    "commands",
    "history",
    "worktree",
    "worktree_branch",
    "worktree_base",
    "worktree_base_branch",
    "worktree_base_at",
    "worktree_state",
    "labels",
    "loss",
    "metadata",
    "parent",
    "retry_of",
    "steps",
    "items",
    "waits",
    "terminal",
];

#[test]
fn show_and_ls_print_the_documented_fields() {
    let fixture = Fixture::new();
    let metadata = serde_json::json!({ "deep": [1, { "x": null }] });
    let config = SessionConfig::new("import")
        .name("nightly")
        .label("team", "data")
        .project_path("/srv/project")
        .max_iterations(7)
        .metadata(metadata.clone());
    let id = fixture.completed(config).to_string();
    let shown = fixture.show(&id);
    let fields: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = FIELDS.to_vec();
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let expected = [
        ("schema", serde_json::json!(1)),
        ("id", serde_json::json!(id)),
        ("name", serde_json::json!("nightly")),
        ("operation", serde_json::json!("import")),
        ("command", Value::Null),
        ("cwd", serde_json::json!("/srv/project")),
        ("state", serde_json::json!("completed")),
        ("status", serde_json::json!("completed")),
        ("reason", Value::Null),
        ("error", Value::Null),
        ("revision", serde_json::json!(3)),
        ("attempt", serde_json::json!(1)),
        ("total_iterations", serde_json::json!(7)),
        ("owner", Value::Null),
        ("labels", serde_json::json!({ "team": "data" })),
        ("metadata", metadata),
        ("parent", Value::Null),
        ("retry_of", Value::Null),
    ];
    for (field, value) in expected {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(shown["progress"]["percent"], serde_json::json!(100.0));
    // A list does not read whole logs.
    let mut listed = shown;
    assert!(listed["history"].take().is_object());
    assert_eq!(fixture.json(["ls", "--all"]), Value::Array(vec![listed]));
    assert_eq!(fixture.json(["ls"]), Value::Array(Vec::new()), "an ended session is not active");
}

/// Regression: only four sums of the changes were recorded, and of a command only its failure was counted.
#[test]
fn show_names_files_commits_and_commands() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("refactor").name("named"));
    let session = &live.session;
    live.runtime.block_on(async {
        for (iteration, path) in [(1, "src/a.rs"), (2, "src/\u{1b}[2Jb.rs")] {
            session.start_iteration().await.unwrap();
            let command = format!("cargo test {iteration}");
            let executed = SessionEvent::CommandExecuted {
                command,
                exit_code: Some(iteration - 1),
                signal: None,
                duration_ms: 61_000,
                output_bytes: 7,
                main: false,
                stop: None,
            };
            session.record(executed).await.unwrap();
            let changes = Changes::new()
                .file(FileChange::modified("src/lib.rs").lines(2, 1))
                .file(FileChange::added(path).lines(10, 0))
                .commit(Commit::new(format!("{iteration:07x}"), "Split the module"));
            session.complete_iteration(changes).await.unwrap();
        }
    });
    let shown = fixture.show("named");
    let counted = ["files_changed", "lines_added", "lines_removed", "commits", "commands"];
    assert_eq!(counted.map(|name| shown[name].as_u64().unwrap()), [4, 24, 2, 2, 2]);
    let history = &shown["history"];
    assert_eq!(history["distinct_files"], 3, "src/lib.rs was changed twice");
    assert_eq!(history["files"].as_array().unwrap().len(), 3);
    assert_eq!((&history["unnamed_files"], &history["other_commits"]), (&json!(0), &json!(0)));
    assert_eq!(history["commits"][1], json!({ "id": "0000002", "subject": "Split the module" }));
    let command = &history["commands"][1];
    assert_eq!((&command["command"], &command["exit_code"]), (&json!("cargo test 2"), &json!(1)));
    assert_eq!((&command["duration_ms"], &command["signal"]), (&json!(61_000), &Value::Null));
    let page = fixture.ctl(["show", "named"]).exits(0).stdout;
    for line in [
        "files       3 named; 24 lines added, 2 removed",
        r"            src/\u{1b}[2Jb.rs",
        "commits     2",
        "            0000002 Split the module",
        "commands    2, 1 failed",
        "            cargo test 2 (exit code 1, 1m 1s)",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
    }
}

/// Regression: 99.6 % were listed as 100 %, which means that the work is complete.
#[test]
fn ls_shows_the_larger_share_rounded_down() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import").name("nearly"));
    live.session.progress().start(3);
    assert!(live.session.progress().set_percent(99.6).unwrap());
    live.runtime.block_on(async {
        live.session.note("test.flush", Value::Null, Durability::Flushed).await.unwrap();
    });
    let listed = fixture.ctl(["ls"]).exits(0).stdout;
    assert!(listed.contains("99% 0/3"), "{listed}");
    assert_eq!(fixture.show("nearly")["progress"]["percent"], json!(99.6));
}

#[test]
fn ls_prints_a_table_newest_first() {
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import").name("first"));
    let second = fixture.owner(SessionConfig::new("import").name("second"));
    let ran = fixture.ctl(["ls", "--all"]).exits(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("COMMAND"), "{ran:#?}");
    assert!(lines[1].contains("second  running    ") && lines[2].contains("first   completed  "), "{ran:#?}");
    assert!(!ran.stdout.contains('\u{1b}'), "colours in a pipe");
    assert!(fixture.ctl(["ls", "--color", "always"]).stdout.contains("\u{1b}[36mrunning\u{1b}[0m"));
    assert_eq!(fixture.show("second")["owner"]["liveness"], "alive");
    drop(second);
}

#[test]
fn events_prints_stored_lines_or_readable_text() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import")).to_string();
    let stored =
        std::fs::read_to_string(fixture.store().join("sessions").join(&id).join("events.jsonl")).unwrap();
    assert_eq!(fixture.ctl(["events", &id, "--json"]).exits(0).stdout, stored);
    let after = stored.lines().skip(2).fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(fixture.ctl(["events", &id, "--json", "--after", "2"]).exits(0).stdout, after);
    assert_eq!(fixture.ctl(["events", &id, "--after", "9"]).exits(0).stdout, "");
    let people = fixture.ctl(["events", &id]).exits(0).stdout;
    let kinds = ["created", "started", "completed"];
    for (line, kind) in people.lines().zip(kinds) {
        assert!(line.contains(kind) && !line.contains("\"sum\""), "{line}");
    }
    assert_eq!(people.lines().count(), kinds.len());
}

#[test]
fn ids_resolve_as_last_then_id_then_name_then_prefix() {
    let fixture = Fixture::new();
    let first = fixture.completed(SessionConfig::new("a").name("one")).to_string();
    // A name that is another session's id: the id takes precedence.
    let second = fixture.completed(SessionConfig::new("b").name(first.clone())).to_string();
    let shown = |text: &str| fixture.show(text)["id"].as_str().unwrap().to_owned();
    assert_eq!(shown(&first), first);
    assert_eq!(shown("one"), first);
    assert_eq!(shown("@last"), second);
    assert_eq!(shown(&second[..9]), second);
    // A name that is the beginning of an id: the name takes precedence.
    let third = fixture.completed(SessionConfig::new("c").name(&second[..8])).to_string();
    assert_eq!(shown(&second[..8]), third);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import")).to_string();
    let shell = format!(
        "for i in $(seq 200); do {0} events {id}; done | head -n 1; {0} events {id} > /dev/full; echo $?",
        env!("CARGO_BIN_EXE_sessionctl")
    );
    let mut command = std::process::Command::new("sh");
    command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &shell]);
    let ran = support::run(command);
    assert_eq!(ran.stdout.lines().last(), Some("6"), "{ran:#?}");
    assert!(!ran.stderr.contains("panicked") && ran.stderr.contains("[STORAGE_FULL]"), "{ran:#?}");
}
