//! Advice on how a session continues: no verb suggests a command that would refuse this kind of session.
//!
//! Regression: `ls`, `why`, `recover` and others advised `resume ID` for sessions of a library and for imported ones,
//! which `resume` always refuses.

use serde_json::Value;
use sessionkit::log::{FailureCause, Origin, PauseReason};
use sessionkit::{Failure, SessionConfig, SessionId, SessionSummary};

use crate::support::{Fixture, LiveOwner, Ran, block_on};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Library,
    Keyed,
    Imported,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Program, Self::Library, Self::Keyed, Self::Imported];

    fn config(self) -> SessionConfig {
        let config = SessionConfig::new("import").name("it");
        match self {
            Self::Program | Self::Library => config,
            Self::Keyed => config.idempotency_key("nightly"),
            Self::Imported => config.label("imported-from", "msw"),
        }
    }

    fn origin(self) -> Option<Origin> {
        (self == Self::Program).then(|| Origin::new(["true"], "/".into()))
    }

    /// Returns a part of the sentence about who can continue the session; `None` if a command can.
    fn sentence(self, state: State) -> Option<&'static str> {
        if state.has_live_owner() || state == State::Completed {
            return None;
        }
        match (self, state) {
            (Self::Program, _) => None,
            (Self::Library, State::Queued) => Some("starts it, with `start_session`"),
            (Self::Library, State::Failed | State::Cancelled) => Some("can run it again, as a new session"),
            (Self::Library, _) => Some("resumes it, with `resume_session`"),
            (Self::Keyed, State::Queued) => Some("starts it with `run_or_resume` and the key `nightly`"),
            (Self::Keyed, State::Failed | State::Cancelled) => {
                Some("retries it with `run_or_resume` and the key `nightly`")
            }
            (Self::Keyed, _) => Some("resumes it with `run_or_resume` and the key `nightly`"),
            (Self::Imported, State::Failed | State::Cancelled) => Some("there is nothing to run again"),
            (Self::Imported, _) => Some("t was imported from msw without a command"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running,
    /// With a live owner.
    Paused,
    Crashed,
    Interrupted,
    Failed,
    Cancelled,
    Completed,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Crashed,
        Self::Interrupted,
        Self::Failed,
        Self::Cancelled,
        Self::Completed,
    ];

    const fn has_live_owner(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Returns the verb that `why` must suggest.
    fn next(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Paused, _) | (Self::Queued | Self::Crashed | Self::Interrupted, Kind::Program) => "resume",
            (Self::Failed | Self::Cancelled, Kind::Program) => "retry",
            (Self::Running | Self::Completed, Kind::Program) => "logs",
            _ => "events",
        }
    }

    /// Creates a session of this kind in this state. Its owner, if it has one, lives as long as the returned value.
    fn create(self, fixture: &Fixture, kind: Kind) -> (SessionId, Option<LiveOwner>) {
        let (config, origin) = (kind.config(), kind.origin());
        if self == Self::Queued {
            let id = block_on(async {
                let store = fixture.open().await;
                let id = store.manager().create_session_from(config.queued(), origin).await.unwrap();
                store.manager().shutdown().await.unwrap();
                id
            });
            return (id, None);
        }
        if matches!(self, Self::Crashed | Self::Interrupted) {
            let id = fixture.crashed_from(config, origin);
            if self == Self::Interrupted {
                fixture.ctl(["recover", "--policy", "pause"]).exits(0);
            }
            return (id, None);
        }
        let owner = fixture.owner_from(config, origin);
        let id = owner.id;
        let session = &owner.session;
        owner.runtime.block_on(async {
            match self {
                Self::Paused => drop(session.pause(PauseReason::Requested("later".into())).await.unwrap()),
                Self::Failed => session.fail(Failure::new(FailureCause::Work, "no")).await.unwrap(),
                Self::Cancelled => session.cancel("enough").await.unwrap(),
                Self::Completed => session.complete(SessionSummary::new()).await.unwrap(),
                Self::Running | Self::Queued | Self::Crashed | Self::Interrupted => {}
            }
        });
        (id, Some(owner))
    }
}

/// The verb of a suggested command, `… resume ID`.
fn verb(next: &Value) -> String {
    let words: Vec<&str> = next.as_str().unwrap().split_whitespace().collect();
    words[words.len() - 2].to_owned()
}

/// Returns the message and the verb of each hint and failure.
fn suggestions(ran: &Ran) -> Vec<(String, String)> {
    let lines = ran.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let parts =
        lines.map(|line| if line["hint"].is_object() { line["hint"].clone() } else { line["error"].clone() });
    parts.map(|part| (part["message"].as_str().unwrap().to_owned(), verb(&part["next"]))).collect()
}

#[test]
fn why_suggests_what_works_for_each_kind_and_state() {
    for kind in Kind::ALL {
        for state in State::ALL {
            let fixture = Fixture::new();
            let (id, _owner) = state.create(&fixture, kind);
            let report = fixture.json(["why", &id.to_string()]);
            let (verdict, case) =
                (report["verdict"].as_str().unwrap(), format!("{kind:?}, {state:?}: {report:#}"));
            assert_eq!(verb(&report["next"]), state.next(kind), "{case}");
            match kind.sentence(state) {
                Some(sentence) => assert!(verdict.contains(sentence), "{case}"),
                None => {
                    assert!(!verdict.contains("`resume_session`") && !verdict.contains("imported"), "{case}");
                }
            }
            if kind == Kind::Library && kind.sentence(state).is_some() {
                let creator = format!("(operation `import`, pid {} on ", std::process::id());
                assert!(verdict.contains(&creator), "{case}");
            }
        }
    }
}

/// Every verb that may suggest how a session continues, with the states in which it does.
#[test]
fn no_verb_suggests_a_command_that_would_refuse() {
    let verbs: [(&[&str], &[State]); 9] = [
        (&["ls"], &[State::Crashed]),
        (&["show", "it"], &[State::Crashed]),
        (&["recover"], &[State::Crashed]),
        (&["wait", "it"], &[State::Crashed]),
        (&["wait", "it", "--timeout", "500ms"], &[State::Interrupted]),
        (&["resume", "it"], &[State::Queued, State::Crashed, State::Interrupted]),
        (&["retry", "it"], &[State::Failed, State::Cancelled, State::Completed]),
        (&["pause", "it"], &[State::Crashed]),
        (&["cancel", "it"], &[State::Crashed, State::Interrupted, State::Queued]),
    ];
    for (words, states) in verbs {
        for state in states {
            for kind in Kind::ALL {
                let runs_program = kind == Kind::Program && ["resume", "retry"].contains(&words[0]);
                if runs_program {
                    continue;
                }
                let fixture = Fixture::new();
                let (_, owner) = state.create(&fixture, kind);
                drop(owner);
                let mut command = fixture.command(words);
                command.arg("--json");
                let ran = crate::support::run(command);
                let case = format!("{kind:?}, {state:?}: {words:?}: {ran:#?}");
                let found = suggestions(&ran);
                assert!(!found.is_empty() || words[0] == "cancel", "{case}");
                let continues = |verb: &str| ["resume", "retry"].contains(&verb);
                if kind != Kind::Program {
                    assert!(found.iter().all(|(_, verb)| !continues(verb)), "{case}");
                }
                if ["ls", "recover", "wait", "resume", "retry"].contains(&words[0]) {
                    let sentence = kind.sentence(*state).unwrap_or_default();
                    assert!(found.iter().any(|(message, _)| message.contains(sentence)), "{case}");
                    if kind == Kind::Program {
                        assert!(found.iter().any(|(_, verb)| continues(verb)), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn recover_suggests_the_session_that_can_be_resumed() {
    let fixture = Fixture::new();
    fixture.crashed_from(Kind::Library.config(), None);
    let program = fixture.crashed_from(Kind::Program.config(), Kind::Program.origin());
    fixture.crashed_from(Kind::Imported.config(), None);
    let ran = fixture.ctl(["recover"]).exits(0);
    let id = program.to_string();
    assert!(ran.stderr.contains(&format!(" resume {}", &id[..8])), "{ran:#?}");
    fixture.ctl(["resume", &id]).exits(0);
}

/// A store of an older tool has sessions that nothing here can run, in whatever state they are.
#[test]
fn imported_stores_get_no_resume_advice() {
    let fixture = Fixture::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-legacy/tests/fixtures/msw");
    fixture.ctl(["import", "--format", "msw", path]).exits(7);
    let sessions = fixture.json(["ls", "--all"]);
    let sessions = sessions.as_array().unwrap();
    assert!(sessions.len() > 10, "{}", sessions.len());
    for session in sessions {
        let report = fixture.json(["why", session["id"].as_str().unwrap()]);
        assert_eq!(verb(&report["next"]), "events", "{report:#}");
        let verdict = report["verdict"].as_str().unwrap();
        assert!(verdict.contains("imported from msw") || session["state"] == "completed", "{report:#}");
    }
}
