//! Sessions that are started inside other sessions.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use sessionkit::{SessionConfig, SessionId};

use crate::support::{BINARY, Fixture, TIMEOUT, block_on, eventually};

fn pid(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().unwrap()).unwrap()).unwrap()
}

/// A session `outer` that runs, and in which a session `inner` was started with `--detach`.
struct Family {
    fixture: Fixture,
    outer: std::process::Child,
}

impl Family {
    /// Returns once the command that started the inner session has ended. Its state is `running` before: a caller that
    /// is killed in between interrupts it, because its program does not run yet.
    fn start() -> Self {
        let fixture = Fixture::new();
        let started = fixture.dir.path().join("started");
        let script = format!(
            "{BINARY} run --detach --name inner -- sleep 600 && : >{} && exec sleep 600",
            started.display()
        );
        let mut command = fixture.command(["run", "--name", "outer", "--", "sh", "-c", &script]);
        let outer = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the inner session", || started.exists());
        Self { fixture, outer }
    }

    /// Returns the process of a program: the only child of the supervisor, which is the only child of the owner.
    fn child(of: Pid) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", of.as_raw_nonzero());
        let children = std::fs::read_to_string(path).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
    }

    fn program(&self, name: &str) -> Pid {
        Self::child(Self::child(pid(&self.fixture.show(name)["owner"]["pid"])))
    }

    fn assert_inner_runs(&self, case: &str) {
        let inner = self.fixture.show("inner");
        assert_eq!(
            (&inner["state"], &inner["owner"]["liveness"]),
            (&"running".into(), &"alive".into()),
            "{case}"
        );
        let stat = format!("/proc/{}/stat", self.program("inner").as_raw_nonzero());
        let stat = std::fs::read_to_string(stat).unwrap();
        assert!(!stat.contains(") T ") && !stat.contains(") Z "), "{case}: {stat}");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.fixture.ctl(["cancel", "--force", "inner"]);
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Regression: the inner session was `failed (signal 15)`, and no sender was named.
#[test]
fn a_detached_session_outlives_the_one_around_it() {
    let fixture = Fixture::new();
    let marker = fixture.dir.path().join("go");
    let program = format!("until test -e {}; do sleep 0.01; done", marker.display());
    let script = format!("{BINARY} run --detach --name inner -- sh -c '{program}'");
    fixture.ctl(["run", "--name", "outer", "--", "sh", "-c", &script]).exits(0);
    assert_eq!(fixture.show("outer")["state"], "completed");
    assert_eq!(fixture.show("inner")["parent"], fixture.show("outer")["id"]);
    std::fs::write(marker, "").unwrap();
    fixture.ctl(["wait", "--timeout", &format!("{}s", TIMEOUT.as_secs()), "inner"]).exits(0);
}

#[test]
fn a_cancel_leaves_a_detached_session_inside() {
    let mut family = Family::start();
    family.fixture.ctl(["cancel", "outer"]).exits(0);
    family.outer.wait().unwrap();
    assert_eq!(family.fixture.show("outer")["state"], "cancelled");
    family.assert_inner_runs("cancelled");
    // The outer one has ended, and is still a way to reach its family.
    family.fixture.ctl(["cancel", "--children", "outer"]).exits(0);
    assert_eq!(family.fixture.show("inner")["state"], "cancelled");
}

#[test]
fn a_cancel_with_children_ends_the_family() {
    let family = Family::start();
    let program = family.program("inner");
    family.fixture.ctl(["cancel", "--children", "outer"]).exits(0);
    for name in ["outer", "inner"] {
        assert_eq!(family.fixture.show(name)["state"], "cancelled", "{name}");
    }
    assert!(test_kill_process(program).is_err());
}

#[test]
fn a_cancel_with_children_ends_their_children() {
    let fixture = Fixture::new();
    let store = block_on(fixture.open());
    let create = |parent: Option<SessionId>| {
        let config = SessionConfig::new("import").queued();
        let config = parent.map_or(config.clone(), |parent| config.parent(parent));
        block_on(store.manager().create_session(config)).unwrap()
    };
    let first = create(None);
    let mut family = vec![first];
    for _ in 0..3 {
        family.push(create(family.last().copied()));
    }
    let other = create(None);
    fixture.ctl(["cancel", "--children", &first.to_string()]).exits(0);
    for id in family {
        assert_eq!(fixture.show(id)["state"], "cancelled");
    }
    assert_eq!(fixture.show(other)["state"], "created");
}

#[test]
fn a_pause_leaves_a_detached_session_inside() {
    let family = Family::start();
    family.fixture.ctl(["pause", "outer"]).exits(0);
    family.assert_inner_runs("paused");
    family.fixture.ctl(["resume", "--detach", "outer"]).exits(0);
    family.fixture.ctl(["cancel", "--force", "outer"]).exits(0);
}

#[test]
fn the_death_of_an_owner_leaves_a_detached_session_inside() {
    let mut family = Family::start();
    let outer = family.program("outer");
    family.outer.kill().unwrap();
    family.outer.wait().unwrap();
    eventually("the end of the outer program", || test_kill_process(outer).is_err());
    family.assert_inner_runs("the owner was killed");
}

/// The owner then ends what has its socket in its environment.
#[test]
fn the_death_of_a_supervisor_leaves_a_detached_session_inside() {
    let mut family = Family::start();
    let supervisor = Family::child(pid(&family.fixture.show("outer")["owner"]["pid"]));
    kill_process(supervisor, Signal::KILL).unwrap();
    family.outer.wait().unwrap();
    assert_eq!(family.fixture.show("outer")["state"], "failed");
    family.assert_inner_runs("the supervisor was killed");
}

/// Its supervisor stays for the output of the process that is left running, and does not belong to the outer program.
#[test]
fn a_foreground_session_can_leave_processes_running() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("pid");
    let inner = format!("setsid sh -c \"echo \\$\\$ >{}; exec sleep 60\" & echo main", path.display());
    let script = format!("{BINARY} run -q --name inner -- sh -c '{inner}'");
    let ran = fixture.ctl(["run", "--linger", "3s", "--", "sh", "-c", &script]).exits(0);
    assert_eq!(ran.stdout, "main\n");
    assert!(!ran.stderr.contains("ended background"), "{ran:?}");
    let pid = Pid::from_raw(std::fs::read_to_string(path).unwrap().trim().parse().unwrap()).unwrap();
    assert!(test_kill_process(pid).is_ok());
    kill_process(pid, Signal::KILL).unwrap();
}
