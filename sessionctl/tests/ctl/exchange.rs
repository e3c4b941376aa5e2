//! Moving sessions between stores: `export` and `import`.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use sessionkit::SessionConfig;

use crate::support::{self, Fixture};

fn files(fixture: &Fixture, id: &str) -> Vec<(String, Vec<u8>)> {
    support::log_and_output(&fixture.store().join("sessions").join(id))
}

fn ids(fixture: &Fixture) -> Vec<String> {
    let list = fixture.json(["ls", "--all"]);
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn imported_sessions_are_byte_identical() {
    let (here, there) = (Fixture::new(), Fixture::new());
    for n in 0..10 {
        let script = format!("printf 'out {n}\\0\\033\\n'; echo err {n} >&2; exit {}", n % 3);
        here.ctl(["run", "--name", &format!("program-{n}"), "--", "sh", "-c", &script]).exits(n % 3);
    }
    for n in 0..90 {
        here.completed(SessionConfig::new("import").name(format!("work-{n}")));
    }
    let path = here.dir.path().join("all.jsonl");
    let file = std::fs::File::create(&path).unwrap();
    assert!(here.command(["export"]).stdout(file).status().unwrap().success());
    let report = there.json(["import".as_ref(), path.as_os_str()]);
    assert_eq!((report["imported"].as_array().unwrap().len(), &report["skipped"]), (100, &json!([])));
    let sessions = ids(&here);
    assert_eq!(sessions.len(), 100);
    assert_eq!(ids(&there).len(), 100);
    for id in &sessions {
        assert!(files(&here, id) == files(&there, id), "{id} differs");
    }
    assert_eq!(here.ctl(["logs", "program-4"]).stdout, there.ctl(["logs", "program-4"]).stdout);
    there.ctl(["verify"]).exits(0);
    // A second import skips every session and changes nothing.
    let before = there.snapshot();
    let report = there.json(["import".as_ref(), path.as_os_str()]);
    assert_eq!((&report["imported"], report["skipped"].as_array().unwrap().len()), (&json!([]), 100));
    assert!(there.snapshot() == before, "something was written");
}

#[test]
fn a_damaged_export_is_rejected_before_any_write() {
    let (here, there) = (Fixture::new(), Fixture::new());
    here.ctl(["run", "--name", "one", "--", "echo", "one"]).exits(0);
    here.ctl(["run", "--name", "two", "--", "echo", "two"]).exits(0);
    let export = here.ctl(["export"]).exits(0).stdout;
    let rejected = |text: &str, code: i32, name: &str| {
        let path = there.dir.path().join("damaged.jsonl");
        std::fs::write(&path, text).unwrap();
        let ran = there.ctl(["import".as_ref(), path.as_os_str()]).fails(code, name);
        assert!(!there.store().exists(), "something was stored: {ran:#?}");
        ran
    };
    let last = export.trim_end().lines().last().unwrap();
    rejected(&export.replace(last, ""), 7, "CORRUPT");
    rejected(&export.replacen("\"attempt\":1", "\"attempt\":2", 1), 7, "CORRUPT");
    rejected(&export[..export.len() / 2], 7, "CORRUPT");
    rejected("", 7, "CORRUPT");
    rejected("hello\n", 7, "CORRUPT");
    let newer = rejected("{\"export\":{\"format\":2}}\n", 8, "UNSUPPORTED_FORMAT");
    assert!(newer.stderr.contains("line 1"), "{newer:#?}");
    there.ctl(["import", "/nonexistent/file"]).fails(2, "INVALID_ARGUMENT");
    there.ctl(["import".as_ref(), there.dir.path().as_os_str()]).fails(2, "INVALID_ARGUMENT");
}

#[test]
fn importing_a_diverged_session_is_a_conflict() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let id = here.crashed(SessionConfig::new("import").name("both")).to_string();
    let before = here.ctl(["export", "both"]).exits(0).stdout;
    here.ctl(["cancel", &id]).exits(0);
    let after = here.ctl(["export", "both"]).exits(0).stdout;
    let import = |text: &str| {
        let mut child = there
            .command(["import", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!(import(&before), Some(0));
    let log = files(&there, &id);
    assert_eq!(import(&after), Some(4));
    assert!(files(&there, &id) == log);
}

#[test]
fn no_output_leaves_output_out_of_the_export() {
    let (here, there) = (Fixture::new(), Fixture::new());
    here.ctl(["run", "--name", "one", "--", "echo", "secret"]).exits(0);
    let stream = here.ctl(["export", "one", "one", "--no-output"]).exits(0).stdout;
    assert!(!stream.contains("base64"), "{stream}");
    let path: &Path = &there.dir.path().join("one.jsonl");
    std::fs::write(path, stream).unwrap();
    let ran = there.ctl(["import".as_ref(), path.as_os_str()]).exits(0);
    assert!(ran.stdout.contains("imported"), "{ran:#?}");
    assert_eq!(there.ctl(["logs", "one"]).exits(0).stdout, "");
    here.ctl(["export", "no-such-session"]).fails(3, "NOT_FOUND");
}

#[test]
fn an_unreadable_session_does_not_block_the_export() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let good = here.completed(SessionConfig::new("import")).to_string();
    let bad = here.completed(SessionConfig::new("import")).to_string();
    let log = here.store().join("sessions").join(&bad).join("events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("\"started\"", "\"startEd\"", 1)).unwrap();
    let ran = here.ctl(["export"]).exits(7);
    assert!(ran.stderr.contains("[CORRUPT]") && ran.stderr.contains(&bad), "{ran:#?}");
    let path = there.dir.path().join("rest.jsonl");
    std::fs::write(&path, ran.stdout).unwrap();
    assert_eq!(there.json(["import".as_ref(), path.as_os_str()])["imported"], json!([good]));
}
