//! Requests to sessions of other processes: `cancel`, `recover`, and the hints after a crash.

use sessionkit::{SessionConfig, SessionManagerExt as _};

use crate::support::Fixture;

/// The event kinds in the log of a session.
pub(crate) fn kinds(fixture: &Fixture, id: &str) -> Vec<String> {
    let lines = fixture.ctl(["events", id, "--json"]).exits(0).stdout;
    lines
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["event"].as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect()
}

#[test]
fn a_cancel_reaches_work_in_another_process() {
    let fixture = Fixture::new();
    let (id_sender, id_receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            crate::support::block_on(async {
                let store = fixture.open().await;
                let work = async move |session: sessionkit::Session| {
                    id_sender.send(session.id()).unwrap();
                    session.cancellation().cancelled().await;
                    session.cancellation().check()?;
                    Ok(())
                };
                store.manager().run(SessionConfig::new("import"), work).await.unwrap()
            })
        });
        let id = id_receiver.recv().unwrap().to_string();
        let ran = fixture.ctl(["cancel", &id, "--reason", "wrong input"]).exits(0);
        assert!(ran.stdout.contains("cancelled") && ran.stdout.contains("wrong input"), "{ran:#?}");
        let report = work.join().unwrap();
        assert!(!report.is_completed());
        assert_eq!(kinds(&fixture, &id), ["created", "started", "cancel_requested", "cancelled"]);
        assert_eq!(fixture.show(&id)["reason"], "wrong input");
    });
}

#[test]
fn cancel_of_a_crashed_session_takes_effect_immediately() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import")).to_string();
    assert_eq!(fixture.show(&id)["status"], "crashed");
    assert_eq!(fixture.show(&id)["state"], "running", "the state is the one in the log");
    let shown = fixture.json(["cancel", &id, "--force"]);
    assert_eq!(shown["state"], "cancelled");
    assert_eq!(kinds(&fixture, &id), ["created", "started", "cancel_requested", "interrupted", "cancelled"]);
    let log = fixture.ctl(["events", &id, "--json"]).stdout;
    assert!(log.contains("\"force\":true"), "{log}");
}

#[test]
fn every_read_command_reports_a_crash_in_one_line() {
    let fixture = Fixture::new();
    let first = fixture.crashed(SessionConfig::new("import").name("first")).to_string();
    for words in [&["ls"][..], &["show", &first], &["ls", "--all"]] {
        let ran = fixture.ctl(words).exits(0);
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("has crashed")).collect();
        assert_eq!(lines.len(), 1, "{ran:#?}");
        assert!(lines[0].contains("first") && lines[0].contains(&format!("why {}", &first[..8])), "{ran:#?}");
    }
    assert!(fixture.ctl(["ls"]).stdout.contains("crashed"));
    fixture.crashed(SessionConfig::new("import").name("second"));
    let ran = fixture.ctl(["ls", "--json"]).exits(0);
    let hint: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(hint["hint"]["sessions"].as_array().unwrap().len(), 2);
    assert!(hint["hint"]["next"].as_str().unwrap().contains("recover"));
}

#[test]
fn recover_does_what_its_dry_run_announced() {
    for (policy, outcome, status, kind) in
        [("pause", "paused", "crashed", "interrupted"), ("fail", "failed", "failed", "failed")]
    {
        let fixture = Fixture::new();
        let id = fixture.crashed(SessionConfig::new("import")).to_string();
        let live = fixture.owner(SessionConfig::new("import").name("living"));
        let before = fixture.snapshot();
        let dry = fixture.json(["recover", "--policy", policy, "--dry-run"]);
        assert_eq!(dry["recovered"][0]["outcome"], outcome);
        assert_eq!(fixture.snapshot(), before, "a dry run changed something");
        let done = fixture.json(["recover", "--policy", policy]);
        assert_eq!(done["recovered"].as_array().unwrap().len(), 1, "{done}");
        assert_eq!(
            (&done["recovered"][0]["id"], &done["recovered"][0]["outcome"]),
            (&id.clone().into(), &outcome.into())
        );
        assert_eq!(fixture.show(&id)["status"], status);
        assert_eq!(kinds(&fixture, &id).last().map(String::as_str), Some(kind));
        assert_eq!(fixture.show("living")["status"], "running", "sessions of live owners are not changed");
        // Nothing is left to do.
        let again = fixture.ctl(["recover", "--policy", policy]).exits(0);
        if policy == "fail" {
            assert!(again.stdout.is_empty() && again.stderr.contains("no crashed sessions"), "{again:#?}");
        }
        drop(live);
    }
}

#[test]
fn a_pending_cancel_takes_precedence_over_recovery_policy() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import"));
    let id = live.id.to_string();
    live.runtime.block_on(async {
        live.session.set_request_handling(sessionkit::manager::RequestHandling::External);
        let request = sessionkit::CancelRequest::new("enough", "test");
        live.store.manager().cancel_session(live.id, request).await.unwrap();
    });
    let shown = fixture.show(&id);
    assert_eq!((&shown["status"], &shown["requested"]), (&"running".into(), &"cancel".into()));
    let listed = fixture.ctl(["ls"]).exits(0).stdout;
    assert!(listed.contains("running (cancel requested)"), "{listed}");
    drop(live);
    assert_eq!(fixture.json(["recover", "--policy", "pause"])["recovered"][0]["outcome"], "cancelled");
    assert_eq!(fixture.show(&id)["reason"], "enough");
}

#[test]
fn status_shows_that_a_session_awaits_input() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import"));
    live.runtime.block_on(async {
        let reason = sessionkit::log::PauseReason::AwaitingInput("which database?".to_owned());
        live.session.pause(reason).await.unwrap();
    });
    let shown = fixture.show(live.id);
    assert_eq!(shown["status"], "waiting");
    assert_eq!(fixture.ctl(["wait", &live.id.to_string(), "--for", "waiting"]).exits(0).stderr, "");
    assert_eq!(shown["reason"], "waiting for input: which database?");
}
