//! The same commands on stores that are kept in a database.

use crate::support::{Fixture, Ran, run};

struct Kept {
    fixture: Fixture,
    url: String,
}

impl Kept {
    fn in_a(scheme: &str) -> Self {
        let fixture = Fixture::new();
        let url = format!("{scheme}:{}", fixture.dir.path().join("kept").display());
        Self { fixture, url }
    }

    fn ctl(&self, args: &[&str]) -> Ran {
        let mut command = self.fixture.command(args);
        command.env("SESSIONCTL_STORE", &self.url);
        run(command)
    }
}

const SCHEMES: [&str; 2] = ["sqlite", "sled"];

#[test]
fn a_program_runs_as_a_session_in_every_store() {
    for scheme in SCHEMES {
        let kept = Kept::in_a(scheme);
        // Looking makes nothing.
        assert_eq!(kept.ctl(&["ls", "--json"]).exits(0).stdout, "[]\n", "{scheme}");
        assert_eq!(std::fs::read_dir(kept.fixture.dir.path()).unwrap().count(), 0, "{scheme}");
        let ran = kept.ctl(&["run", "--name", "build", "--", "sh", "-c", "echo made; echo oops >&2; exit 3"]);
        assert_eq!(ran.exits(3).stdout, "made\n", "{scheme}");
        assert_eq!(kept.ctl(&["logs", "build", "--stderr"]).exits(0).stdout, "oops\n", "{scheme}");
        let show = kept.ctl(&["show", "build", "--json"]).exits(0).stdout;
        assert!(
            show.contains(r#""state":"failed""#) && show.contains(r#""exit_code":3"#),
            "{scheme}: {show}"
        );
        let log = kept.ctl(&["events", "build", "--json"]).exits(0).stdout;
        assert_eq!(log.lines().count(), 4, "{scheme}: {log}");
        assert!(kept.ctl(&["verify"]).exits(0).stdout.contains("healthy"), "{scheme}");
        // What a child reports goes to its owner, who has the store.
        let report = format!("'{}' report --progress 40 --step half", env!("CARGO_BIN_EXE_sessionctl"));
        kept.ctl(&["run", "--name", "told", "--", "sh", "-c", &report]).exits(0);
        assert!(
            kept.ctl(&["events", "told", "--json"]).exits(0).stdout.contains("progress_reported"),
            "{scheme}"
        );
        kept.ctl(&["rm", "build", "told"]).exits(0);
        assert_eq!(kept.ctl(&["ls", "--all", "--json"]).exits(0).stdout, "[]\n", "{scheme}");
    }
}

#[test]
fn a_session_in_the_background_is_waited_for_and_cancelled_in_every_store() {
    for scheme in SCHEMES {
        let kept = Kept::in_a(scheme);
        kept.ctl(&["run", "--detach", "--name", "short", "--", "true"]).exits(0);
        // sled lets one process have it at a time: whoever waits for it gets it when its owner is done.
        kept.ctl(&["wait", "short"]).exits(0);
        if scheme == "sqlite" {
            kept.ctl(&["run", "--detach", "--name", "long", "--", "sleep", "60"]).exits(0);
            kept.ctl(&["cancel", "long"]).exits(0);
            assert!(kept.ctl(&["show", "long", "--json"]).stdout.contains(r#""state":"cancelled""#));
        }
    }
}

/// Who may have a store that one process has is told, with the process that has it.
#[test]
fn a_store_that_somebody_else_has_is_named_with_whom() {
    let kept = Kept::in_a("sled");
    let inner = format!("exec '{}' run -- true", env!("CARGO_BIN_EXE_sessionctl"));
    let ran = kept.ctl(&["run", "--", "sh", "-c", &inner]).exits(125);
    assert!(ran.stderr.contains("[STORAGE_UNAVAILABLE]"), "{ran:#?}");
    assert!(ran.stderr.contains("held by process"), "{ran:#?}");
}
