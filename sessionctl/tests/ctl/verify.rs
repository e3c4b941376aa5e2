//! `verify` and its repairs, on files damaged by the test.

use std::fs;
use std::path::PathBuf;

use sessionkit::SessionConfig;

use crate::support::Fixture;

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
    assert_eq!(fixture.show(&id)["status"], "paused: interrupted");
    fixture.ctl(["cancel", &id]).exits(0);
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
