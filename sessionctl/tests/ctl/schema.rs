//! Agreement of the JSON output with `docs/json.schema.json`.

use serde_json::{Value, json};
use sessionkit::SessionConfig;
use sessionkit::log::PauseReason;
use sessionkit::runner::OutputStream;

use crate::support::Fixture;
use crate::worktrees::Project;

/// The documented schema, in a stricter form: members that it does not name are not allowed here.
struct Schema(Value);

impl Schema {
    fn new() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.schema.json");
        let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        close(&mut schema);
        Self(schema)
    }

    /// Asserts that a value matches the definition of this name.
    #[track_caller]
    fn holds(&self, name: &str, value: &Value) {
        assert!(self.0["$defs"].get(name).is_some(), "nothing is documented under {name}");
        let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": self.0["$defs"] });
        let validator =
            jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
    }

    /// Asserts that each line matches the definition of one of these names.
    #[track_caller]
    fn holds_lines(&self, names: &[&str], lines: &str) {
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let name = names.iter().find(|name| value.get(name).is_some()).unwrap_or(&names[0]);
            self.holds(name, &value);
        }
    }
}

/// Forbids members that a schema does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn worktrees(schema: &Schema) {
    let project = Project::new();
    let checked = |name: &str, words: &[&str]| {
        let ran = project.ctl(&[&["--json"], words].concat()).exits(0);
        schema.holds_lines(&["error", "hint"], &ran.stderr);
        schema.holds(name, &serde_json::from_str(&ran.stdout).unwrap());
    };
    checked("session", &["run", "--worktree=fix", "--", "sh", "-c", "echo u > untracked"]);
    for (name, words) in [
        ("sessions", &["ls", "--all"][..]),
        ("session", &["show", "fix"]),
        ("gc", &["gc", "--older-than", "0s", "--dry-run"]),
        ("worktrees", &["worktree", "ls"]),
        ("worktree_path", &["worktree", "path", "fix"]),
        ("worktree_merge", &["worktree", "merge", "--committed", "fix"]),
        ("worktree_removals", &["worktree", "rm", "--dry-run", "fix"]),
        ("worktree_removals", &["worktree", "rm", "--merged"]),
        ("worktree_removals", &["worktree", "rm", "fix"]),
        ("sessions", &["ls", "--all"]),
        ("worktrees", &["worktree", "ls"]),
        ("worktree_snapshots", &["worktree", "snapshots", "fix"]),
        ("worktree_path", &["worktree", "restore", "fix"]),
        ("worktree_path", &["worktree", "unlock", "fix"]),
        ("worktree_removals", &["worktree", "rm", "fix"]),
        ("worktree_purges", &["worktree", "purge", "fix"]),
        ("worktrees", &["worktree", "ls"]),
    ] {
        checked(name, words);
    }
}

#[test]
fn all_json_output_matches_the_schema() {
    let (fixture, schema) = (Fixture::new(), Schema::new());
    let ctl = |words: &[&str]| fixture.ctl(words[..1].iter().chain(&["--json"]).chain(&words[1..]));
    let checked = |name: &str, code: i32, words: &[&str]| -> Value {
        let ran = ctl(words).exits(code);
        schema.holds_lines(&["error", "hint"], &ran.stderr);
        let value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
        schema.holds(name, &value);
        value
    };
    let script = "echo out; echo err >&2; sessionctl_report; exit 3";
    let script = script.replace(
        "sessionctl_report",
        &format!("{} report --progress 40 --step s --phase p", crate::support::BINARY),
    );
    checked("session", 3, &["run", "--name", "failed", "--label", "a=b", "--", "sh", "-c", &script]);
    checked("session", 0, &["run", "--name", "done", "--", "true"]);
    let report = format!("{} report --progress 4 --json > reported", crate::support::BINARY);
    let mut command = fixture.command(["run", "--", "sh", "-c", &report]);
    command.current_dir(fixture.dir.path());
    assert!(command.output().unwrap().status.success());
    let reported = std::fs::read_to_string(fixture.dir.path().join("reported")).unwrap();
    schema.holds("report", &serde_json::from_str(&reported).unwrap());
    let crashed = fixture.crashed(SessionConfig::new("import").name("crashed").max_iterations(3)).to_string();
    let live = fixture.owner(SessionConfig::new("import").name("living").metadata(json!({ "x": [1, null] })));
    live.runtime.block_on(live.session.pause(PauseReason::AwaitingInput("which?".into()))).unwrap();
    for name in ["failed", "done", "crashed", "living"] {
        checked("session", 0, &["show", name]);
        checked("why", 0, &["why", name]);
    }
    checked("sessions", 0, &["ls", "--all"]);
    checked("sessions", 3, &["wait", "done", "failed"]);
    checked("recover", 0, &["recover", "--dry-run"]);
    checked("verify", 0, &["verify"]);
    checked("config", 0, &["config", "show"]);
    checked("config", 0, &["config", "path"]);
    checked("session", 0, &["retry", "done"]);
    checked("session", 0, &["cancel", &crashed]);
    let steps = format!(
        "{0} step built --value -- echo out; {0} step sent --key k -- sh -c 'exit 3'; {0} step cut -- sh -c 'kill -KILL $$'
        printf '1\\n2\\n' | {0} each sent --keep-going -- sh -c 'exit $1' x; {0} ask go 'Go?' --choices y,n --default y --after 1ms
        {0} sleep 1ms; exit 137",
        crate::support::BINARY
    );
    checked("session", 137, &["run", "--name", "stepping", "--", "sh", "-c", &steps]);
    checked("session", 0, &["show", "stepping"]);
    let listed = checked("steps", 0, &["steps", "stepping"]);
    let counts =
        ["steps", "eaches", "questions", "sleeps"].map(|kind| listed[kind].as_array().unwrap().len());
    assert_eq!(counts, [3, 1, 1, 1]);
    checked("session", 137, &["retry", "stepping"]);
    checked("steps", 0, &["steps", "stepping"]);
    checked("why", 0, &["why", "stepping"]);
    checked("answers", 0, &["answers"]);
    {
        let asking = fixture.owner(SessionConfig::new("import").name("asking"));
        let _asked = crate::answers::ask(&asking, "deploy", "Deploy?", &["yes", "no"]);
        checked("session", 0, &["show", "asking"]);
        checked("why", 0, &["why", "asking"]);
        assert_eq!(checked("answers", 0, &["answers"]).as_array().unwrap().len(), 1);
        checked("answer", 0, &["answer", "asking", "deploy", "yes"]);
        checked("answer", 0, &["answer", "asking", "later", "no"]);
    }
    ctl(&["run", "--detach", "--name", "sleeper", "--", "sleep", "60"]).exits(0);
    checked("session", 0, &["signal", "sleeper", "CONT"]);
    checked("session", 0, &["pause", "sleeper"]);
    checked("session", 0, &["resume", "sleeper"]);
    checked("session", 0, &["cancel", "sleeper"]);
    ctl(&["run", "--detach", "--tty", "--name", "typist", "--", "cat"]).exits(0);
    assert_eq!(checked("session", 0, &["show", "typist"])["terminal"], json!({ "viewed": false }));
    checked("session", 0, &["input", "typist", "text"]);
    checked("session", 0, &["cancel", "typist"]);
    worktrees(&schema);
    schema.holds_lines(&["chunk"], &ctl(&["logs", "failed"]).exits(0).stdout);
    assert_eq!(ctl(&["logs", "failed"]).stdout.lines().count(), 2);
    let id = fixture.show("failed")["id"].as_str().unwrap().parse().unwrap();
    fixture.print(id, &[(OutputStream::Terminal, b"ready\r\n")]);
    let lines = ctl(&["logs", "failed"]).exits(0).stdout;
    schema.holds_lines(&["chunk"], &lines);
    assert!(lines.contains(r#""stream":"tty""#), "{lines}");
    let stream = ctl(&["export", "failed"]).exits(0).stdout;
    let path = fixture.dir.path().join("failed.jsonl");
    std::fs::write(&path, stream).unwrap();
    let path = path.to_str().unwrap();
    checked("import", 0, &["import", path]);
    let elsewhere = format!("file:{}", fixture.dir.path().join("elsewhere").display());
    checked("migrate", 4, &["migrate", "--to", &elsewhere]);
    assert_eq!(checked("rm", 0, &["rm", "failed"])["removed"].as_array().unwrap().len(), 1);
    checked("import", 0, &["import", path]);
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-legacy/tests/fixtures/msw");
    checked("import_legacy", 7, &["import", "--format", "msw", older]);
    checked("rm", 4, &["rm", "living"]);
    checked("gc", 0, &["gc", "--older-than", "1h"]);
    // A session with an unreadable log is listed and reported.
    let id = fixture.show("failed")["id"].as_str().unwrap().to_owned();
    let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
    std::fs::write(&log, "nothing that was ever a record\n").unwrap();
    std::fs::remove_file(log.with_file_name("head.json")).unwrap();
    checked("sessions", 7, &["ls", "--all"]);
    checked("verify", 7, &["verify", "--repair"]);
}

#[test]
fn all_json_failures_match_the_schema() {
    let (fixture, schema) = (Fixture::new(), Schema::new());
    fixture.completed(SessionConfig::new("import").name("twice"));
    fixture.completed(SessionConfig::new("import").name("twice"));
    let id = fixture.completed(SessionConfig::new("import").name("once")).to_string();
    for (code, name, words) in [
        (3, "NOT_FOUND", vec!["show", "no-such-session"]),
        (3, "NOT_FOUND", vec!["why", "onec"]),
        (3, "AMBIGUOUS", vec!["rm", "twice"]),
        (3, "NOT_FOUND", vec!["events", "@failed"]),
        (4, "ILLEGAL_TRANSITION", vec!["cancel", "once"]),
        (2, "INVALID_ARGUMENT", vec!["ls", "--store", "what:ever"]),
        (2, "INVALID_ARGUMENT", vec!["ls", "--nonsense"]),
        (2, "INVALID_ARGUMENT", vec!["attach", "once"]),
        (4, "ILLEGAL_TRANSITION", vec!["input", "once", "text"]),
        (2, "INVALID_ARGUMENT", vec!["wait", "once", "--for", "asleep"]),
        (127, "SPAWN_FAILED", vec!["run", "--", "no-such-program-anywhere"]),
        (125, "CONFLICT", vec!["wait", &id, "--for", "paused"]),
    ] {
        let ran = fixture.ctl(words.iter().take(1).chain(&["--json"]).chain(&words[1..]));
        let errors: Vec<Value> = ran
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ran:#?}")))
            .filter(|value: &Value| value.get("error").is_some())
            .collect();
        schema.holds_lines(&["error", "hint"], &ran.stderr);
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert_eq!(errors.len(), 1, "{ran:#?}");
        assert_eq!(
            (&errors[0]["error"]["code"], &errors[0]["error"]["exit_code"]),
            (&json!(name), &json!(code)),
            "{ran:#?}"
        );
    }
}
