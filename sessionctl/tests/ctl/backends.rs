//! The commands on stores in databases.

use crate::support::{Fixture, Ran, run};

struct BackendFixture {
    fixture: Fixture,
    url: String,
}

impl BackendFixture {
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
fn programs_run_as_sessions_in_every_backend() {
    for scheme in SCHEMES {
        let backend = BackendFixture::in_a(scheme);
        // Reading creates no store.
        assert_eq!(backend.ctl(&["ls", "--json"]).exits(0).stdout, "[]\n", "{scheme}");
        assert_eq!(std::fs::read_dir(backend.fixture.dir.path()).unwrap().count(), 0, "{scheme}");
        let ran =
            backend.ctl(&["run", "--name", "build", "--", "sh", "-c", "echo made; echo oops >&2; exit 3"]);
        assert_eq!(ran.exits(3).stdout, "made\n", "{scheme}");
        assert_eq!(backend.ctl(&["logs", "build", "--stderr"]).exits(0).stdout, "oops\n", "{scheme}");
        let show = backend.ctl(&["show", "build", "--json"]).exits(0).stdout;
        assert!(
            show.contains(r#""state":"failed""#) && show.contains(r#""exit_code":3"#),
            "{scheme}: {show}"
        );
        let log = backend.ctl(&["events", "build", "--json"]).exits(0).stdout;
        assert_eq!(log.lines().count(), 4, "{scheme}: {log}");
        assert!(backend.ctl(&["verify"]).exits(0).stdout.contains("healthy"), "{scheme}");
        // A report goes to the owner, which has the store open.
        let report = format!("'{}' report --progress 40 --step half", env!("CARGO_BIN_EXE_sessionctl"));
        backend.ctl(&["run", "--name", "reports", "--", "sh", "-c", &report]).exits(0);
        assert!(
            backend.ctl(&["events", "reports", "--json"]).exits(0).stdout.contains("progress_reported"),
            "{scheme}"
        );
        backend.ctl(&["rm", "build", "reports"]).exits(0);
        assert_eq!(backend.ctl(&["ls", "--all", "--json"]).exits(0).stdout, "[]\n", "{scheme}");
    }
}

#[test]
fn wait_and_cancel_reach_detached_sessions_in_databases() {
    for scheme in SCHEMES {
        let backend = BackendFixture::in_a(scheme);
        backend.ctl(&["run", "--detach", "--name", "short", "--", "true"]).exits(0);
        // sled is open in one process at a time: `wait` opens it once the owner has closed it.
        backend.ctl(&["wait", "short"]).exits(0);
        if scheme == "sqlite" {
            backend.ctl(&["run", "--detach", "--name", "long", "--", "sleep", "60"]).exits(0);
            backend.ctl(&["cancel", "long"]).exits(0);
            assert!(backend.ctl(&["show", "long", "--json"]).stdout.contains(r#""state":"cancelled""#));
        }
    }
}

/// The error about a store that another process has open names that process.
#[test]
fn a_locked_sled_store_names_the_process_that_holds_it() {
    let backend = BackendFixture::in_a("sled");
    let inner = format!("exec '{}' run -- true", env!("CARGO_BIN_EXE_sessionctl"));
    let ran = backend.ctl(&["run", "--", "sh", "-c", &inner]).exits(125);
    assert!(ran.stderr.contains("[STORAGE_UNAVAILABLE]"), "{ran:#?}");
    assert!(ran.stderr.contains("held by process"), "{ran:#?}");
}
