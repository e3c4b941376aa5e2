//! `verify` and its repairs, on files damaged by the test.

use std::fs;
use std::path::PathBuf;

use sessionkit::SessionConfig;

use crate::support::{self, BINARY, Fixture};

struct Damaged {
    fixture: Fixture,
    id: String,
    log: PathBuf,
}

/// Creates a session whose owner died, with some flushed records.
fn session() -> Damaged {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import"));
    live.runtime.block_on(async {
        for n in 0..3 {
            live.session.checkpoint(&n).await.unwrap();
        }
    });
    let id = live.id.to_string();
    drop(live);
    let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
    Damaged { fixture, id, log }
}

#[test]
fn healthy_and_torn_logs_pass_verification() {
    let Damaged { fixture, id, log } = session();
    let before = fixture.snapshot();
    let found = fixture.json(["verify"]);
    assert_eq!(found["sessions"][0]["verdict"], "healthy");
    assert_eq!(found["sessions"][0]["readable"], 5);
    fixture.ctl(["verify", "--repair"]).exits(0);
    assert_eq!(fixture.snapshot(), before, "a repair of a healthy store wrote something");
    let complete = fs::read(&log).unwrap();
    fs::write(&log, [&complete[..], b"{\"seq\":6,\"at\":\"2026"].concat()).unwrap();
    let ran = fixture.ctl(["verify", &id]).exits(0);
    assert!(ran.stdout.contains("torn"), "{ran:#?}");
    fixture.ctl(["verify", "--repair", &id]).exits(0);
    assert_eq!(fs::read(&log).unwrap(), complete);
    assert_eq!(fixture.json(["verify"])["sessions"][0]["verdict"], "healthy");
}

#[test]
fn flushed_records_are_discarded_only_with_accept_loss() {
    let Damaged { fixture, id, log } = session();
    let text = fs::read_to_string(&log).unwrap();
    let cut: String = text.lines().take(4).fold(String::new(), |text, line| text + line + "\n");
    fs::write(&log, cut).unwrap();
    let ran = fixture.ctl(["verify"]).exits(7);
    assert!(ran.stdout.contains("corrupt") && ran.stderr.contains("--repair"), "{ran:#?}");
    let ran = fixture.ctl(["verify", "--repair", &id]).exits(7);
    assert!(ran.stderr.contains("verify --repair --accept-loss"), "{ran:#?}");
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 4);
    // The readable records can be read, and nothing is appended after the loss.
    let ran = fixture.ctl(["events", &id, "--json"]).exits(7);
    assert!(ran.stdout.lines().count() == 4 && ran.stderr.contains("CORRUPT"), "{ran:#?}");
    let ran = fixture.ctl(["show", &id]).exits(7);
    assert!(ran.stdout.contains("crashed") && ran.stderr.contains("[CORRUPT]"), "{ran:#?}");
    fixture.ctl(["cancel", &id]).fails(7, "CORRUPT");
    fixture.ctl(["verify", "--repair", "--accept-loss", &id]).exits(0);
    let events = fixture.ctl(["events", &id, "--json"]).exits(0).stdout;
    assert_eq!(events.lines().count(), 6, "{events}");
    assert!(
        events.lines().nth(4).unwrap().contains("\"interrupted\":{\"evidence\":\"repaired\"}"),
        "{events}"
    );
    assert!(events.lines().nth(5).unwrap().contains("session.loss"), "{events}");
    assert_eq!(fixture.json(["verify"])["sessions"][0]["verdict"], "healthy");
    assert_eq!(fixture.show(&id)["status"], "crashed");
    fixture.ctl(["cancel", &id]).exits(0);
}

/// Regression: the exit code was 7, and the next command named the session that had been moved away.
#[test]
fn an_accepted_loss_of_a_whole_session_is_a_success() {
    let Damaged { fixture, id, log } = session();
    fs::write(&log, "garbage\n").unwrap();
    fs::write(log.with_file_name("head.json"), "garbage").unwrap();
    fixture.ctl(["verify", "--repair", &id]).exits(7);
    let copy = fixture.dir.path().join("copy");
    copy_folder(&fixture.store(), &copy);
    let ran = fixture.ctl(["verify", "--repair", "--accept-loss", &id]).exits(0);
    assert!(ran.stdout.contains("quarantined (was corrupt)"), "{ran:#?}");
    assert!(ran.stdout.contains("gave up the whole session") && ran.stderr.is_empty(), "{ran:#?}");
    fixture.ctl(["show", &id]).fails(3, "NOT_FOUND");
    fixture.ctl(["verify"]).exits(0);
    // The same, for all sessions and as JSON.
    let url = format!("file:{}", copy.display());
    let ran = fixture.ctl(["--store", &url, "verify", "--repair", "--accept-loss", "--json"]).exits(0);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let session = &found["sessions"][0];
    assert_eq!(
        (session["verdict"].as_str(), session["before"].as_str()),
        (Some("quarantined"), Some("corrupt"))
    );
    let kept = session["lost"]["kept"].as_str().unwrap();
    assert!(fs::symlink_metadata(kept).is_ok(), "{session:#}");
    assert_eq!(session["lost"]["readable"], 0);
    assert!(session["problem"].is_null() && ran.stderr.is_empty(), "{ran:#?}");
}

#[test]
fn an_accepted_loss_states_what_was_given_up() {
    let Damaged { fixture, id, log } = session();
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.lines().take(3).fold(String::new(), |text, line| text + line + "\n")).unwrap();
    let found = fixture.json(["verify", "--repair", "--accept-loss", &id]);
    let session = &found["sessions"][0];
    assert_eq!((session["verdict"].as_str(), session["before"].as_str()), (Some("healthy"), Some("corrupt")));
    assert_eq!(
        (session["lost"]["readable"].as_u64(), session["lost"]["flushed"].as_u64()),
        (Some(3), Some(5))
    );
    assert!(fixture.json(["verify"])["sessions"][0]["lost"].is_null());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_folder(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

#[test]
fn a_damaged_store_is_reported_and_repaired() {
    for scheme in ["file", "sled"] {
        let fixture = Fixture::new();
        let url = format!("{scheme}:{}", fixture.store().display());
        let ctl = |words: &[&str]| fixture.ctl(["--store", url.as_str()].iter().chain(words));
        ctl(&["run", "--name", "kept", "--", "true"]).exits(0);
        let format = fixture.store().join("FORMAT");
        for damage in ["", "garbage", "lost"] {
            fs::remove_file(&format).unwrap();
            if damage != "lost" {
                fs::write(&format, damage).unwrap();
            }
            // Every other verb names the repair.
            for words in [&["ls"][..], &["show", "kept"], &["cancel", "kept"], &["gc", "--older-than", "1h"]]
            {
                let ran = ctl(words).fails(7, "CORRUPT");
                assert!(ran.stderr.contains("`sessionctl verify --repair`"), "{ran:#?}");
                assert!(ran.stderr.lines().last().unwrap().ends_with("verify --repair"), "{ran:#?}");
            }
            ctl(&["run", "--", "true"]).fails(125, "CORRUPT");
            for words in [&["verify"][..], &["verify", "kept"]] {
                let ran = ctl(words).exits(7);
                assert!(ran.stdout.contains("healthy"), "{ran:#?}");
                assert!(ran.stderr.contains("FORMAT") && ran.stderr.contains("verify --repair"), "{ran:#?}");
            }
            let report: serde_json::Value =
                serde_json::from_str(&ctl(&["verify", "--json"]).exits(7).stdout).unwrap();
            assert_eq!(report["problems"].as_array().map(Vec::len), Some(1), "{report:#}");
            let words: &[&str] =
                if damage == "lost" { &["verify", "--repair", "kept"] } else { &["verify", "--repair"] };
            let ran = ctl(words).exits(0);
            assert!(ran.stderr.contains("store repaired") && ran.stderr.contains("was rebuilt"), "{ran:#?}");
            assert_eq!(ctl(&["show", "kept"]).exits(0).stderr, "");
            ctl(&["verify"]).exits(0);
        }
    }
}

#[test]
fn a_store_that_cannot_be_repaired_says_why() {
    let Damaged { fixture, log, .. } = session();
    let format = fixture.store().join("FORMAT");
    fs::write(&format, "garbage").unwrap();
    fs::write(&log, "garbage\n").unwrap();
    let ran = fixture.ctl(["verify", "--repair"]).fails(7, "CORRUPT");
    assert!(ran.stderr.contains("none of the 1 sessions has a readable log"), "{ran:#?}");
    assert!(!ran.stderr.lines().last().unwrap().contains("--repair"), "{ran:#?}");
    let newer = "{\"format\":2,\"store\":\"5d4d2f7e-52f7-4dcd-9e0b-3b1f5f1a4b5e\"}";
    fs::write(&format, newer).unwrap();
    fixture.ctl(["verify", "--repair"]).fails(8, "UNSUPPORTED_FORMAT");
    assert_eq!(fs::read_to_string(&format).unwrap(), newer);
}

#[test]
fn a_loss_is_not_accepted_while_the_owner_is_alive() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import"));
    live.runtime.block_on(live.session.checkpoint(&1)).unwrap();
    let id = live.id.to_string();
    let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let cut: String = text.lines().take(2).fold(String::new(), |text, line| text + line + "\n");
    fs::write(&log, &cut).unwrap();
    let ran = fixture.ctl(["verify", "--repair", "--accept-loss", &id]).exits(7);
    assert!(ran.stdout.contains("corrupt"), "{ran:#?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), cut);
}

#[test]
fn ls_lists_a_damaged_session_with_the_others() {
    let Damaged { fixture, id, log } = session();
    let other = fixture.completed(SessionConfig::new("import").name("other")).to_string();
    fs::write(&log, "garbage\n").unwrap();
    fs::write(log.with_file_name("head.json"), "garbage").unwrap();
    let ran = fixture.ctl(["ls", "--all", "--json"]).exits(7);
    let listed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let of = |id: &str| listed.as_array().unwrap().iter().find(|item| item["id"] == id).cloned().unwrap();
    assert_eq!(of(&other)["state"], "completed");
    assert_eq!(of(&id)["status"], "unreadable");
    assert_eq!(of(&id)["error"]["cause"], "CORRUPT");
    fixture.ctl(["show", &id]).fails(7, "CORRUPT");
    let found = fixture.json(["verify"]);
    assert_eq!(found["sessions"].as_array().unwrap().len(), 2);
}

#[test]
fn repair_restores_a_session_missing_from_lists() {
    let Damaged { fixture, id, .. } = session();
    fs::remove_file(fixture.store().join("active").join(&id)).unwrap();
    assert_eq!(fixture.json(["ls"]).as_array().map(Vec::len), Some(0));
    let ran = fixture.ctl(["verify"]).exits(7);
    assert!(ran.stdout.contains("unlisted"), "{ran:#?}");
    fixture.ctl(["verify", "--repair"]).exits(0);
    assert_eq!(fixture.json(["ls"]).as_array().map(Vec::len), Some(1));
}

/// A repair that fails is not a success: it exited with 0, and a refused access was called damage.
#[test]
fn a_repair_that_fails_says_why() {
    let Damaged { fixture, id, log } = session();
    let mut torn = fs::read(&log).unwrap();
    torn.extend(b"{\"seq\":");
    fs::write(&log, torn).unwrap();
    // No file can be written, for root neither.
    let repair = |args: &[&str]| {
        let script = format!("ulimit -f 0; exec {BINARY} verify --repair \"$@\"");
        let mut command = support::clean_command("sh");
        command.args(["-c", &script, "sh"]).args(args).env("SESSIONCTL_STORE", fixture.url());
        support::run(command)
    };
    for args in [&[] as &[&str], &[&id], &["--json"], &[&id, "--json"]] {
        let ran = repair(args).exits(6);
        assert!(ran.stderr.contains("could not be repaired: "), "{args:?}: {ran:#?}");
        assert!(ran.stderr.contains("STORAGE_FULL"), "{args:?}: {ran:#?}");
        assert!(ran.stdout.contains("File too large"), "{args:?}: {ran:#?}");
    }
    fixture.ctl(["verify", "--repair"]).exits(0);
    assert!(fs::read(&log).unwrap().ends_with(b"}\n"));
}

/// `gc` ended at the first session that it could not remove, and named only one that it could not read.
#[test]
fn gc_names_every_session_that_it_leaves() {
    let fixture = Fixture::new();
    let [unreadable, other, kept, gone] = ["a", "b", "c", "d"].map(|name| {
        fixture.ctl(["run", "-q", "--name", name, "--", "true"]).exits(0);
        fixture.show(name)["id"].as_str().unwrap().to_owned()
    });
    let folder = |id: &str| fixture.store().join("sessions").join(id);
    for id in [&unreadable, &other] {
        fs::write(folder(id).join("events.jsonl"), "damaged\n").unwrap();
    }
    // It can be read, but not locked for its removal.
    let lock = folder(&kept).join("lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let mut failed = vec![unreadable, other, kept];
    failed.sort();
    let ids = |ran: &support::Ran, member: &str| {
        let report = serde_json::from_str::<serde_json::Value>(&ran.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
        let id = |value: &serde_json::Value| value.get("id").unwrap_or(value).as_str().unwrap().to_owned();
        let mut ids: Vec<String> = report[member].as_array().unwrap().iter().map(id).collect();
        ids.sort();
        ids
    };
    let ran = fixture.ctl(["gc", "--older-than", "0s", "--json"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert_eq!((ids(&ran, "failed"), ids(&ran, "removed")), (failed.clone(), vec![gone]));
    let ran = fixture.ctl(["gc", "--older-than", "0s"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    for id in failed {
        assert!(ran.stderr.contains(&id[..8]), "{ran:#?}");
    }
}

/// Without its lock, the owner of the unreadable session could no longer be proven dead.
#[test]
fn gc_keeps_the_locks_next_to_an_unreadable_session() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import"));
    let log = fixture.store().join(format!("sessions/{id}/events.jsonl"));
    let (text, locks) = (fs::read(&log).unwrap(), fixture.locks());
    fs::write(&log, "damaged\n").unwrap();
    let _ = fixture.ctl(["gc", "--older-than", "1h"]);
    assert_eq!(fixture.locks(), locks);
    fs::write(&log, text).unwrap();
    assert_eq!(fixture.show(id)["status"], "crashed");
}
