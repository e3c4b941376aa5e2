//! Sessions by name, by keyword, and those that this user may not read.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use sessionkit::SessionConfig;
use sessionkit::log::PauseReason;

use crate::support::{self, Fixture, block_on};

fn named(name: &str) -> SessionConfig {
    SessionConfig::new("import").name(name)
}

/// Returns the id of the session that `show` takes the text for.
#[track_caller]
fn shown(fixture: &Fixture, text: &str) -> String {
    let ran = fixture.ctl(["show", text, "--json"]).exits(0);
    serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["id"].as_str().unwrap().to_owned()
}

/// A second session of a name made `logs nightly` ambiguous for ever.
#[test]
fn a_name_means_its_newest_session_or_the_one_with_an_owner() {
    let fixture = Fixture::new();
    let first = fixture.completed(named("nightly")).to_string();
    assert_eq!(fixture.ctl(["show", "nightly"]).exits(0).stderr, "");
    let second = fixture.completed(named("nightly")).to_string();
    assert_eq!(shown(&fixture, "nightly"), second);
    let hint = fixture.ctl(["show", "nightly"]).exits(0).stderr;
    assert!(
        hint.starts_with("2 sessions are named `nightly`: using ") && hint.contains(&second[..8]),
        "{hint}"
    );
    let running = fixture.owner(named("nightly"));
    let newest = fixture.completed(named("nightly")).to_string();
    assert_eq!(shown(&fixture, "nightly"), running.id.to_string());
    drop(running);
    support::eventually("the death of the owner", || shown(&fixture, "nightly") == newest);
    fixture.ctl(["rm", "nightly"]).fails(3, "AMBIGUOUS");
    fixture.ctl(["rm", &first, &second]).exits(0);
}

#[test]
fn a_paused_session_is_meant_by_its_name_without_its_owner() {
    let fixture = Fixture::new();
    let paused = fixture.owner(named("nightly"));
    paused.runtime.block_on(paused.session.pause(PauseReason::Requested("later".to_owned()))).unwrap();
    paused.runtime.block_on(paused.store.manager().shutdown()).unwrap();
    fixture.completed(named("nightly"));
    assert_eq!(shown(&fixture, "nightly"), paused.id.to_string());
}

#[test]
fn resume_takes_the_newest_session_that_can_be_resumed() {
    let fixture = Fixture::new();
    let program = || Some(sessionkit::log::Origin::new(["true"], "/".into()));
    let older = fixture.crashed_from(named("nightly"), program()).to_string();
    let newer = fixture.crashed_from(named("nightly"), program()).to_string();
    fixture.completed(named("nightly"));
    fixture.ctl(["resume", "nightly"]).exits(0);
    assert_eq!(
        (&fixture.show(&newer)["state"], &fixture.show(&older)["status"]),
        (&"completed".into(), &"crashed".into())
    );
    fixture.ctl(["resume", "nightly"]).exits(0);
    assert_eq!(fixture.show(&older)["state"], "completed");
    fixture.ctl(["resume", "nightly"]).fails(125, "ILLEGAL_TRANSITION");
}

#[test]
fn the_beginning_of_a_name_is_enough_except_for_rm_and_cancel() {
    let fixture = Fixture::new();
    let import = fixture.completed(named("zz-import")).to_string();
    assert_eq!(shown(&fixture, "zz-"), import);
    for verb in ["rm", "cancel"] {
        fixture.ctl([verb, "zz-"]).fails(3, "NOT_FOUND");
    }
    fixture.completed(named("zz-export"));
    fixture.ctl(["show", "zz-"]).fails(3, "AMBIGUOUS");
    assert_eq!(shown(&fixture, "zz-i"), import);
    let again = fixture.completed(named("zz-import")).to_string();
    assert_eq!(shown(&fixture, "zz-i"), again, "the beginning of one name");
}

#[test]
fn keywords_mean_the_newest_session_of_their_kind() {
    let fixture = Fixture::new();
    for keyword in ["@last", "@failed", "@running", "@nonsense"] {
        fixture.ctl(["show", keyword]).fails(3, "NOT_FOUND");
    }
    let running = fixture.owner(named("one"));
    fixture.ctl(["run", "--name", "two", "--", "false"]).exits(1);
    let crashed = fixture.crashed(named("three")).to_string();
    let state = |text: &str| fixture.show(text)["name"].as_str().unwrap().to_owned();
    assert_eq!([state("@running"), state("@failed"), state("@last")], ["one", "two", "three"]);
    assert_ne!(running.id.to_string(), crashed);
}

/// A session of another user was CORRUPT for `verify`, and for `show NAME` not there.
#[test]
fn a_session_of_another_user_is_a_permission_problem() {
    if !rustix::process::geteuid().is_root() || !crate::tmux::has(&["setpriv"]) {
        eprintln!("not run: only root can create a session of another user");
        return;
    }
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    // The binary may be where other users cannot go.
    let binary = dir.join("sessionctl");
    std::fs::copy(support::BINARY, &binary).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary).args(args);
        command.env("SESSIONCTL_STORE", fixture.url()).env("HOME", dir).env_remove("XDG_RUNTIME_DIR");
        support::run({
            command.current_dir(dir);
            command
        })
    };
    as_nobody(&["run", "--name", "mine", "--", "true"]).exits(0);
    let id = block_on(async {
        let store = fixture.open().await;
        let id = store.manager().create_session(named("theirs")).await.unwrap();
        store.manager().shutdown().await.unwrap();
        id.to_string()
    });
    let folder = fixture.store().join("sessions").join(&id);
    let next = format!("next: sudo chown -R \"$(id -un)\" {}", folder.display());
    for args in [&["verify"][..], &["verify", &id], &["show", "theirs"], &["show", &id], &["ls", "--all"]] {
        let ran = as_nobody(args).exits(5);
        assert!(
            ran.stderr.contains("[STORAGE_UNAVAILABLE]") && ran.stderr.contains("Permission denied"),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains(&next), "{args:?} {ran:#?}");
    }
    as_nobody(&["show", "mine"]).exits(0);
}

#[test]
fn unnamed_commands_are_named_after_their_program() {
    let fixture = Fixture::new();
    let script = fixture.dir.path().join("my import.sh");
    std::fs::write(&script, "exit 0\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    for (options, program, name) in [
        (&[][..], "true", "true-1"),
        (&[], "/bin/true", "true-2"),
        (&[], script, "my-import.sh-1"),
        (&["--name", "true-7"], "true", "true-7"),
        (&[], "true", "true-8"),
        (&["--name", "mine"], "true", "mine"),
        (&[], script, "my-import.sh-2"),
    ] {
        let ran = fixture.ctl(["run", "--json"].iter().chain(options).chain(&["--", program])).exits(0);
        let ended: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(ended["name"], name, "{program}");
    }
    fixture.ctl(["retry", "my-import.sh-2"]).exits(0);
    assert_eq!(fixture.show("@last")["name"], "my-import.sh-2");
    fixture.ctl(["run", "--", "no-such-program"]).exits(127);
    let id = fixture.ctl(["run", "--detach", "--", "true"]).exits(0).stdout;
    assert_eq!(fixture.show(id.trim())["name"], "true-9");
}

#[test]
fn concurrent_runs_get_names_of_their_own() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--", "true"]).exits(0);
    let start = |_| fixture.command(["run", "-q", "--", "true"]).spawn().unwrap();
    let running: Vec<std::process::Child> = (0..8).map(start).collect();
    for mut one in running {
        assert!(one.wait().unwrap().success());
    }
    let list = fixture.json(["ls", "--all"]);
    let names: std::collections::BTreeSet<&str> =
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["true-1", "true-2", "true-3", "true-4", "true-5", "true-6", "true-7", "true-8", "true-9"].into()
    );
}

#[test]
fn commands_in_other_stores_are_named_after_their_program_too() {
    for scheme in ["sqlite", "sled"] {
        let fixture = Fixture::new();
        let url = format!("{scheme}:{}", fixture.dir.path().join("other").display());
        for name in ["true-1", "true-2", "true-11", "true-12"] {
            let chosen = if name == "true-11" { &["--name", name][..] } else { &[] };
            let args = ["run", "--json", "--store", &url];
            let ran = fixture.ctl(args.iter().chain(chosen).chain(&["--", "true"])).exits(0);
            let ended: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(ended["name"], name, "{scheme}");
        }
    }
}
