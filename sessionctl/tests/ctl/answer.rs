//! Changing what other processes run, or ran: `cancel`, `recover`, and what is told after a crash.

use sessionkit::{SessionConfig, SessionManagerExt as _};

use crate::support::Fixture;

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
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            crate::support::block_on(async {
                let store = fixture.open().await;
                let work = async move |session: sessionkit::Session| {
                    tell.send(session.id()).unwrap();
                    session.cancellation().cancelled().await;
                    session.cancellation().check()?;
                    Ok(())
                };
                store.manager().run(SessionConfig::new("import"), work).await.unwrap()
            })
        });
        let id = told.recv().unwrap().to_string();
        let ran = fixture.ctl(["cancel", &id, "--reason", "wrong input"]).exits(0);
        assert!(ran.stdout.contains("cancelled") && ran.stdout.contains("wrong input"), "{ran:#?}");
        let report = work.join().unwrap();
        assert!(!report.is_completed());
        assert_eq!(kinds(&fixture, &id), ["created", "started", "cancel_requested", "cancelled"]);
        assert_eq!(fixture.show(&id)["reason"], "wrong input");
    });
}

#[test]
fn a_cancel_of_an_orphan_is_answered_by_whoever_asks() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import")).to_string();
    assert_eq!(fixture.show(&id)["status"], "crashed");
    assert_eq!(fixture.show(&id)["state"], "running", "the state is what the log says");
    let shown = fixture.json(["cancel", &id, "--force"]);
    assert_eq!(shown["state"], "cancelled");
    assert_eq!(kinds(&fixture, &id), ["created", "started", "cancel_requested", "interrupted", "cancelled"]);
    let log = fixture.ctl(["events", &id, "--json"]).stdout;
    assert!(log.contains("\"force\":true"), "{log}");
}

#[test]
fn after_a_crash_every_look_says_in_one_line_what_was_interrupted() {
    let fixture = Fixture::new();
    let first = fixture.crashed(SessionConfig::new("import").name("first")).to_string();
    for words in [&["ls"][..], &["show", &first], &["ls", "--all"]] {
        let ran = fixture.ctl(words).exits(0);
        let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("was interrupted")).collect();
        assert_eq!(told.len(), 1, "{ran:#?}");
        assert!(
            told[0].contains("first") && told[0].contains(&format!("resume {}", &first[..8])),
            "{ran:#?}"
        );
    }
    assert!(fixture.ctl(["ls"]).stdout.contains("crashed"));
    fixture.crashed(SessionConfig::new("import").name("second"));
    let ran = fixture.ctl(["ls", "--json"]).exits(0);
    let hint: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(hint["hint"]["sessions"].as_array().unwrap().len(), 2);
    assert!(hint["hint"]["next"].as_str().unwrap().contains("recover"));
}

#[test]
fn a_recovery_looks_first_and_then_does_what_was_asked() {
    for (policy, outcome, status, kind) in
        [("pause", "paused", "paused: interrupted", "interrupted"), ("fail", "failed", "failed", "failed")]
    {
        let fixture = Fixture::new();
        let id = fixture.crashed(SessionConfig::new("import")).to_string();
        let living = fixture.owner(SessionConfig::new("import").name("living"));
        let before = fixture.everything();
        let dry = fixture.json(["recover", "--policy", policy, "--dry-run"]);
        assert_eq!(dry["recovered"][0]["outcome"], outcome);
        assert_eq!(fixture.everything(), before, "a dry run changed something");
        let done = fixture.json(["recover", "--policy", policy]);
        assert_eq!(done["recovered"].as_array().unwrap().len(), 1, "{done}");
        assert_eq!(
            (&done["recovered"][0]["id"], &done["recovered"][0]["outcome"]),
            (&id.clone().into(), &outcome.into())
        );
        assert_eq!(fixture.show(&id)["status"], status);
        assert_eq!(kinds(&fixture, &id).last().map(String::as_str), Some(kind));
        assert_eq!(fixture.show("living")["status"], "running", "the living are left alone");
        // Nothing is left to do.
        let again = fixture.ctl(["recover", "--policy", policy]).exits(0);
        if policy == "fail" {
            assert!(
                again.stdout.is_empty() && again.stderr.contains("no session has lost its owner"),
                "{again:#?}"
            );
        }
        drop(living);
    }
}

#[test]
fn a_cancel_that_nobody_answered_comes_before_every_policy() {
    let fixture = Fixture::new();
    let living = fixture.owner(SessionConfig::new("import"));
    let id = living.id.to_string();
    living.runtime.block_on(async {
        living.session.set_request_handling(sessionkit::RequestHandling::External);
        let request = sessionkit::CancelRequest::new("enough", "test");
        living.store.manager().cancel_session(living.id, request).await.unwrap();
    });
    assert_eq!(fixture.show(&id)["status"], "running: cancelling");
    drop(living);
    assert_eq!(fixture.json(["recover", "--policy", "pause"])["recovered"][0]["outcome"], "cancelled");
    assert_eq!(fixture.show(&id)["reason"], "enough");
}

#[test]
fn a_session_that_waits_for_an_answer_says_so() {
    let fixture = Fixture::new();
    let living = fixture.owner(SessionConfig::new("import"));
    living.runtime.block_on(async {
        let reason = sessionkit::PauseReason::AwaitingInput("which database?".to_owned());
        living.session.pause(reason).await.unwrap();
    });
    let shown = fixture.show(living.id);
    assert_eq!(shown["status"], "paused: waiting for input");
    assert_eq!(shown["reason"], "waiting for input: which database?");
}
