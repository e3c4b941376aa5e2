//! Rejected arguments and stores: the documented code, a message with the next command, and no change to the store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sessionkit::{SessionConfig, SessionId};

use crate::support::{self, Fixture};

/// Every verb that opens a store, with its arguments for this session, and `true` if it passes on exit codes.
fn verbs(id: &str) -> Vec<(Vec<&str>, bool)> {
    vec![
        (vec!["ls"], false),
        (vec!["ls", "--all"], false),
        (vec!["show", id], false),
        (vec!["events", id], false),
        (vec!["logs", id], false),
        (vec!["cancel", id], false),
        (vec!["recover"], false),
        (vec!["verify"], false),
        (vec!["verify", "--repair"], false),
        (vec!["verify", id], false),
        (vec!["resume", id], true),
        (vec!["run", "--", "true"], true),
    ]
}

/// Asserts that every verb fails with this code and changes nothing.
#[track_caller]
fn assert_all_rejected(fixture: &Fixture, code: &str, exit: i32) {
    let before = fixture.snapshot();
    let id = SessionId::random().to_string();
    for (args, passes_exit_code) in verbs(&id) {
        fixture.ctl(&args).fails(if passes_exit_code { 125 } else { exit }, code);
        assert_eq!(fixture.snapshot(), before, "{args:?} changed something");
    }
}

#[test]
fn a_file_as_store_is_rejected() {
    let fixture = Fixture::new();
    fs::write(fixture.store(), "precious").unwrap();
    assert_all_rejected(&fixture, "STORAGE_UNAVAILABLE", 5);
}

#[test]
fn an_unrelated_directory_as_store_is_rejected() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.store()).unwrap();
    fs::write(fixture.store().join("thesis.tex"), "precious").unwrap();
    assert_all_rejected(&fixture, "STORAGE_UNAVAILABLE", 5);
}

#[test]
fn a_store_of_a_newer_format_is_rejected() {
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import"));
    let format = fixture.store().join("FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    fs::write(&format, text.replace("\"format\":1", "\"format\":2")).unwrap();
    assert_all_rejected(&fixture, "UNSUPPORTED_FORMAT", 8);
}

#[test]
fn a_store_with_an_unreadable_format_is_rejected() {
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import"));
    let format = fixture.store().join("FORMAT");
    fs::remove_file(&format).unwrap();
    fs::create_dir(&format).unwrap();
    let before = fixture.snapshot();
    let id = SessionId::random().to_string();
    // `verify` opens it: see its own tests.
    for (args, passes_exit_code) in verbs(&id).into_iter().filter(|(args, _)| args[0] != "verify") {
        fixture.ctl(&args).fails(if passes_exit_code { 125 } else { 7 }, "CORRUPT");
        assert_eq!(fixture.snapshot(), before, "{args:?} changed something");
    }
}

#[test]
fn a_store_without_read_permission_is_rejected() {
    if rustix::process::geteuid().is_root() {
        eprintln!("not run: root may read everything");
        return;
    }
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import"));
    fs::set_permissions(fixture.store(), fs::Permissions::from_mode(0o000)).unwrap();
    let id = SessionId::random().to_string();
    for (args, passes_exit_code) in verbs(&id) {
        fixture.ctl(&args).fails(if passes_exit_code { 125 } else { 5 }, "STORAGE_UNAVAILABLE");
    }
    fs::set_permissions(fixture.store(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_invalid_store_url_is_rejected() {
    let fixture = Fixture::new();
    for url in ["bolt:x", "nonsense", "file:", "file://host/x", "memory:", "memory:x", "\u{1b}[31m:x"] {
        for (args, _) in verbs("x") {
            let mut args = args;
            args.splice(0..0, ["--store", url]);
            let ran = fixture.ctl(&args).fails(2, "INVALID_ARGUMENT");
            assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
        }
    }
}

/// Simulates a full disk with a file size limit of 0: the kernel refuses the growth of a file as on a full disk.
#[test]
fn writes_to_a_full_disk_are_rejected() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("important")).to_string();
    let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
    let before = fs::read(&log).unwrap();
    let full = |args: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.env("SESSIONCTL_STORE", fixture.url()).env("SESSIONCTL_CONFIG", "");
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
        command.args(["-c", script, "sh", support::BINARY]).args(args);
        support::run(command)
    };
    full(&["cancel", &id]).fails(6, "STORAGE_FULL");
    full(&["recover"]).fails(6, "STORAGE_FULL");
    full(&["run", "--", "true"]).fails(125, "STORAGE_FULL");
    assert_eq!(fs::read(&log).unwrap(), before);
    assert_eq!(fixture.json(["ls", "--all"]).as_array().unwrap().len(), 1, "an incomplete session exists");
    // Reading needs no space.
    full(&["show", &id]).exits(0);
    full(&["ls", "--all"]).exits(0);
    // With free space, the same commands succeed.
    fixture.ctl(["cancel", &id]).exits(0);
    assert_eq!(fixture.show(&id)["state"], "cancelled");
}

#[test]
fn an_illegal_transition_is_rejected() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import")).to_string();
    let before = fixture.snapshot();
    let ran = fixture.ctl(["cancel", &id]).fails(4, "ILLEGAL_TRANSITION");
    assert!(ran.stderr.contains(&format!("show {}", &id[..8])), "{ran:#?}");
    fixture.ctl(["resume", &id]).fails(125, "ILLEGAL_TRANSITION");
    assert_eq!(fixture.snapshot(), before);
}

#[test]
fn unknown_and_ambiguous_ids_are_rejected() {
    let fixture = Fixture::new();
    let mut ids: Vec<String> = Vec::new();
    // Of 17 ids, two begin with the same digit.
    while ids.len() < 17 {
        ids.push(fixture.completed(SessionConfig::new("import").name("twin")).to_string());
    }
    let first = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1)
        .unwrap();
    let before = fixture.snapshot();
    for (unclear, code) in [("no-such", "NOT_FOUND"), ("\u{1b}]0;x\u{7}", "NOT_FOUND"), (&first, "AMBIGUOUS")]
    {
        for verb in ["show", "events", "logs", "cancel", "verify", "resume"] {
            let ran = fixture.ctl([verb, unclear]).fails(if verb == "resume" { 125 } else { 3 }, code);
            assert!(!ran.stderr.contains(['\u{1b}', '\u{7}']), "{ran:#?}");
            if code == "AMBIGUOUS" {
                let shown = ids.iter().filter(|id| ran.stderr.contains(*id)).count();
                assert!(shown > 1, "candidates are missing: {ran:#?}");
            }
        }
    }
    let ran = fixture.ctl(["rm", "twin"]).fails(3, "AMBIGUOUS");
    assert!(ids.iter().filter(|id| ran.stderr.contains(*id)).count() > 1, "candidates are missing: {ran:#?}");
    fixture.ctl(["show", ""]).fails(2, "INVALID_ARGUMENT");
    assert_eq!(fixture.snapshot(), before);
}

#[test]
fn unsafe_names_and_labels_are_rejected() {
    let fixture = Fixture::new();
    let long = "x".repeat(129);
    let labels: Vec<String> = (0..17).map(|n| format!("--label=k{n}=v")).collect();
    let big = format!("--label=k={}", "x".repeat(1024));
    let mut cases: Vec<(Vec<&str>, i32)> = vec![
        (vec!["--name", "\u{1b}[31mred"], 2),
        (vec!["--name", "two\nlines"], 2),
        (vec!["--name", "\u{202e}txt.exe"], 2),
        (vec!["--name=-rf"], 2),
        (vec!["--name=@last"], 2),
        (vec!["--name="], 2),
        (vec!["--name", &long], 125),
        (vec!["--label", "k=\u{9b}31m"], 2),
        (vec!["--label", "no-equals-sign"], 2),
        (vec![&big], 125),
    ];
    cases.push((labels.iter().map(String::as_str).collect(), 125));
    for (mut args, exit) in cases {
        args.insert(0, "run");
        args.extend(["--", "true"]);
        let ran = fixture.ctl(&args).exits(exit);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{ran:#?}");
        assert!(!ran.stderr.contains(|c| c != '\n' && sessionkit::text::is_unsafe_char(c)), "{ran:#?}");
    }
    assert_eq!(fixture.json(["ls", "--all"]).as_array().map(Vec::len), Some(0));
}

/// A log with an event kind of a newer version can be read, and is never appended to.
#[test]
fn a_log_of_a_newer_version_is_read_only() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import")).to_string();
    let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
    append_record(
        &log,
        r#"{"seq":3,"at":"2026-11-21T09:30:00.123Z","attempt":1,"flushed":2,"event":{"hibernated":{"until":"\u001b[31m"}}"#,
    );
    let before = fs::read(&log).unwrap();
    fixture.ctl(["cancel", &id]).fails(8, "UNSUPPORTED_FORMAT");
    let ran = fixture.ctl(["events", &id]).exits(0);
    assert!(ran.stdout.contains("hibernated") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
    assert_eq!(fixture.ctl(["events", &id, "--json"]).exits(0).stdout.as_bytes(), before);
    fixture.ctl(["verify", &id]).exits(7);
    fixture.ctl(["verify", "--repair", "--accept-loss", &id]).exits(7);
    assert_eq!(fs::read(&log).unwrap(), before);
}

/// Seals a record as the format specifies, without the library.
fn append_record(log: &Path, body: &str) {
    let text = fs::read_to_string(log).unwrap();
    let last = text.lines().last().unwrap();
    let before = u64::from_str_radix(&last[last.len() - 18..last.len() - 2], 16).unwrap();
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&before.to_be_bytes());
    hasher.update(body.as_bytes());
    fs::write(log, format!("{text}{body},\"sum\":\"{:016x}\"}}\n", hasher.digest())).unwrap();
}

#[test]
fn usage_errors_repeat_no_control_bytes() {
    let fixture = Fixture::new();
    for args in [vec!["\u{1b}[31mls"], vec!["ls", "--\u{1b}[31m"], vec!["run"], vec!["run", "true"], vec![]] {
        let ran = fixture.ctl(&args).exits(2);
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains('\u{1b}'), "{ran:#?}");
    }
    fixture.ctl(["verify", "--accept-loss"]).exits(2);
    fixture.ctl(["report"]).exits(2);
    for args in [&["--help"][..], &["--version"]] {
        assert!(!fixture.ctl(args).exits(0).stdout.is_empty());
    }
    for verb in ["run", "ls", "show", "events", "logs", "cancel", "resume", "recover", "verify", "report"] {
        let help = fixture.ctl([verb, "--help"]).exits(0).stdout;
        assert!(help.contains("Example") && help.contains(&format!("sessionctl {verb}")), "{help}");
    }
}

#[test]
fn a_json_failure_is_one_object() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["show", "nothing", "--json"]).exits(3);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["schema"], 1);
    let error = &error["error"];
    assert_eq!(error["code"], "NOT_FOUND");
    assert_eq!(error["exit_code"], 3);
    for field in ["message", "advice", "next"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {error}");
    }
    assert!(ran.stdout.is_empty());
}
