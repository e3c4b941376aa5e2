//! The words for the status of a session: shown, listed, accepted and awaited everywhere.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sessionkit::log::{Evidence, PauseReason, Stop, StopSource};
use sessionkit::{SessionConfig, SessionId};

use crate::support::{Fixture, LiveOwner, block_on};

fn named(name: &str) -> SessionConfig {
    SessionConfig::new("import").name(name)
}

/// Creates a session without an owner that lost it by this evidence.
fn lost(fixture: &Fixture, name: &str, evidence: Evidence) -> SessionId {
    let live = fixture.owner(named(name));
    live.runtime.block_on(live.session.interrupt(evidence)).unwrap();
    live.id
}

/// Creates a session that its living owner pauses.
fn paused(fixture: &Fixture, name: &str, reason: PauseReason) -> LiveOwner {
    let live = fixture.owner(named(name));
    live.runtime.block_on(live.session.pause(reason)).unwrap();
    live
}

const STOPPED: Evidence = Evidence::Stopped(Stop { signal: 2, by: StopSource::Key });

/// Returns the names of listed sessions.
fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_status_is_shown_listed_and_awaited_by_its_word() {
    let fixture = Fixture::new();
    // Each session is named like its status.
    fixture.completed(named("completed"));
    fixture.ctl(["run", "--name", "failed", "--", "false"]).exits(1);
    fixture.ctl(["run", "--name", "timed-out", "--timeout", "50ms", "--", "sleep", "60"]).exits(124);
    fixture.crashed(named("crashed"));
    lost(&fixture, "interrupted", Evidence::Shutdown);
    lost(&fixture, "stopped", STOPPED);
    let _running = fixture.owner(named("running"));
    let _paused = paused(&fixture, "paused", PauseReason::Requested("later".to_owned()));
    let _waiting = paused(&fixture, "waiting", PauseReason::AwaitingInput("which?".to_owned()));
    let creator = block_on(fixture.open());
    block_on(creator.manager().create_session(named("created"))).unwrap();
    block_on(creator.manager().create_session(named("queued").queued())).unwrap();
    block_on(async {
        let id = creator.manager().create_session(named("cancelled")).await.unwrap();
        let request = sessionkit::CancelRequest::new("enough", "a test");
        creator.manager().cancel_session(id, request).await.unwrap();
    });
    let all = fixture.json(["ls", "--all"]);
    for one in all.as_array().unwrap() {
        let word = one["name"].as_str().unwrap();
        assert_eq!(one["status"], word);
        assert_eq!(fixture.show(word)["status"], word);
        assert_eq!(fixture.json(["why", word])["status"], word);
        assert_eq!(names(&fixture.json(["ls", "--state", word])), BTreeSet::from([word.to_owned()]));
        let waited = fixture.ctl(["wait", word, "--for", word]).exits(0);
        assert!(waited.stdout.ends_with(&format!("  {word}\n")), "{waited:#?}");
        let page = fixture.ctl(["why", word]).exits(0).stdout;
        assert_eq!(page.lines().next(), Some(format!("{word}  {word}").as_str()));
    }
    assert_eq!(all.as_array().unwrap().len(), 12);
    let two = fixture.json(["ls", "--state", "failed", "--state", "queued", "--limit", "1"]);
    assert_eq!(names(&two), BTreeSet::from(["queued".to_owned()]), "the newest of both");
    // What a person stopped is listed with the ended ones.
    let active = names(&fixture.json(["ls"]));
    let ended = ["completed", "failed", "timed-out", "cancelled", "stopped"].map(str::to_owned);
    assert_eq!(&names(&all) - &active, BTreeSet::from(ended));
    assert!(fixture.ctl(["ls", "--all"]).exits(0).stdout.contains("  stopped, can resume  "));
}

#[test]
fn every_status_is_accepted_and_no_other_word() {
    let fixture = Fixture::new();
    fixture.completed(named("it"));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let words = schema["$defs"]["status"]["enum"].as_array().unwrap();
    assert_eq!(words.len(), 15);
    for word in words {
        let word = word.as_str().unwrap();
        let expected = if word == "completed" { vec!["it".to_owned()] } else { Vec::new() };
        let listed = names(&fixture.json(["ls", "--state", word]));
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), expected, "{word}");
    }
    fixture.ctl(["ls", "--state", "running: stalled"]).exits(2);
}

/// A paused session that loses its owner stays paused, whether the log says so yet or not.
#[test]
fn a_paused_session_is_paused_with_a_dead_owner_too() {
    let fixture = Fixture::new();
    let live = paused(&fixture, "it", PauseReason::Requested("later".to_owned()));
    drop(live);
    assert_eq!(fixture.show("it")["status"], "paused");
    fixture.ctl(["recover"]).exits(0);
    let shown = fixture.show("it");
    assert_eq!((&shown["status"], &shown["loss"]), (&json!("paused"), &json!("crashed")));
}

#[test]
fn a_dead_owner_that_recorded_a_stop_makes_it_interrupted() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("it"));
    live.runtime.block_on(live.session.record_stop_request(15)).unwrap();
    drop(live);
    fixture.wait_for("it", "the death of the owner", |shown| shown["status"] == "interrupted");
    let why = fixture.ctl(["why", "it"]).exits(0).stdout;
    assert!(why.contains("It was interrupted: ") && why.contains("is dead: "), "{why}");
    fixture.ctl(["recover"]).exits(0);
    assert_eq!(fixture.show("it")["status"], "interrupted");
}

#[test]
fn wait_for_a_status_ends_when_a_living_process_causes_it() {
    let fixture = Fixture::new();
    let live = paused(&fixture, "it", PauseReason::AwaitingInput("which?".to_owned()));
    let waiting = fixture
        .command(["wait", "it", "--for", "paused"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    live.runtime.block_on(async {
        let manager = live.store.manager();
        drop(manager.resume_session(live.id).await.unwrap());
        live.session.pause(PauseReason::Requested("later".to_owned())).await.unwrap();
    });
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().ends_with("  paused\n"));
    fixture.ctl(["wait", "it", "--for", "waiting", "--timeout", "700ms"]).exits(124);
}

#[test]
fn gc_cancels_what_lost_its_owner_and_says_so() {
    let fixture = Fixture::new();
    let crashed = fixture.crashed(named("crashed"));
    let interrupted = lost(&fixture, "interrupted", Evidence::Shutdown);
    let stopped = lost(&fixture, "stopped", STOPPED);
    let running = fixture.owner(named("running"));
    let kept = paused(&fixture, "paused", PauseReason::Requested("later".to_owned()));
    kept.runtime.block_on(kept.store.manager().shutdown()).unwrap();
    let gone = paused(&fixture, "waiting", PauseReason::AwaitingInput("which?".to_owned()));
    drop(gone);
    let creator = block_on(fixture.open());
    block_on(creator.manager().create_session(named("created"))).unwrap();
    block_on(creator.manager().create_session(named("queued").queued())).unwrap();

    let none = fixture.json(["gc", "--older-than", "1h"]);
    assert_eq!((&none["cancelled"], &none["removed"]), (&json!([]), &json!([])));
    let before = fixture.snapshot();
    let would = fixture.json(["gc", "--older-than", "0s", "--dry-run"]);
    assert_eq!(would["cancelled"].as_array().unwrap().len(), 3, "{would}");
    let page = fixture.ctl(["gc", "--older-than", "0s", "--dry-run"]).exits(0).stdout;
    assert!(page.contains("(WOULD BE CANCELLED)") && page.contains("  stopped  "), "{page}");
    assert_eq!(fixture.snapshot(), before);

    let done = fixture.ctl(["gc", "--older-than", "0s"]).exits(0).stdout;
    assert!(done.contains("LAST EVENT (CANCELLED)"), "{done}");
    for id in [crashed, interrupted, stopped] {
        assert!(done.contains(&id.to_string()), "{done}");
        let shown = fixture.show(id);
        assert_eq!(shown["status"], "cancelled", "it is not removed by the gc that cancels it");
        assert!(shown["reason"].as_str().unwrap().starts_with("cancelled by gc: it has no owner"), "{shown}");
    }
    let events = fixture.ctl(["events", &crashed.to_string()]).exits(0).stdout;
    let order =
        ["#1  cancel_requested", "#1  interrupted", "#1  cancelled"].map(|kind| events.find(kind).unwrap());
    assert!(order.is_sorted(), "{events}");
    let left = names(&fixture.json(["ls"]));
    let kept = ["running", "paused", "waiting", "created", "queued"].map(str::to_owned);
    assert_eq!(left, BTreeSet::from(kept));
    assert_eq!(fixture.json(["gc", "--older-than", "0s"])["removed"].as_array().unwrap().len(), 3);
    drop(running);
}

/// An owner that may live keeps its session, and so does one that took it between the list and the cancel.
#[test]
fn gc_cancels_nothing_whose_owner_may_live() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("it"));
    let before = sessionkit::log::Timestamp::parse("9999-12-31T23:59:59.999Z").unwrap();
    let request = || sessionkit::CancelRequest::new("enough", "a test");
    let other = block_on(fixture.open());
    let cancelled = block_on(other.manager().cancel_lost_session(live.id, before, request())).unwrap();
    assert_eq!(cancelled, None);
    assert_eq!(fixture.show("it")["requested"], Value::Null);
    let id = lost(&fixture, "lost", Evidence::Shutdown);
    let young = block_on(other.manager().get_head(id)).unwrap().updated_at;
    let cancelled = block_on(other.manager().cancel_lost_session(id, young, request())).unwrap();
    assert_eq!(cancelled, None, "its last event is not older");
    assert!(block_on(other.manager().cancel_lost_session(id, before, request())).unwrap().is_some());
}
