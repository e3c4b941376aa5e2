//! Sessions in namespaces of their own, as containers have them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Fixture, clean_command};

/// Returns a command that runs `sh` in new namespaces, to be given arguments; `None` where the system allows none.
pub(crate) fn unshare(flags: &[&str]) -> Option<Command> {
    let mut command = clean_command("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(flags);
    let mut probe = clean_command("unshare");
    probe.args(command.get_args()).arg("true");
    let allowed = probe.output().is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("not run: no namespaces here");
    }
    allowed.then_some(command)
}

/// Under `docker exec` the system gives 0 as the id of the session and of the process group.
///
/// Regression: the supervisor panicked.
#[test]
fn a_program_runs_where_its_session_leader_is_outside() {
    let fixture = Fixture::new();
    let Some(mut command) = unshare(&["--pid", "--fork", "--mount-proc"]) else { return };
    let ctl = fixture.command(["run", "--", "sh", "-c", "setsid sleep 60 & echo hi; exit 3"]);
    command.args(["sh", "-c", "\"$@\"; exit $?", "sh"]).arg(ctl.get_program()).args(ctl.get_args());
    command.envs(ctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = crate::support::run(command).exits(3);
    assert_eq!(ran.stdout, "hi\n");
    assert!(ran.stderr.contains("left running: sleep"), "{ran:?}");
}

/// Hides the ids of the machine, as in a container whose image has none, sets the host name, and runs the command as the
/// first process of its namespace.
const CONTAINER: &str = r#"
for file in /etc/machine-id /var/lib/dbus/machine-id; do
    if [ -e "$file" ]; then mount --bind /dev/null "$file" || exit 99; fi
done
echo "$1" >/proc/sys/kernel/hostname && shift && exec "$@""#;

/// Returns the command in a container of this name, on this kernel, with the folders of this machine; `None` where the
/// system allows none.
fn contained(name: &str, ctl: &Command) -> Option<Command> {
    let flags = ["--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut command = unshare(&flags)?;
    command.args(["sh", "-c", CONTAINER, "sh", name]).arg(ctl.get_program()).args(ctl.get_args());
    command.envs(ctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}

/// Regression: an owner in a container that was killed and replaced was of unknown liveness for ever: the replacement has
/// another host name, and without a machine id its host name was its machine.
#[test]
fn the_owner_of_a_replaced_container_is_dead() {
    for backend in ["file", "sqlite", "sled"] {
        let fixture = Fixture::new();
        let path = |name: &str| fixture.dir.path().join(name).display().to_string();
        let url = format!("{backend}:{}", path("store"));
        let script = format!("echo ready; [ -e {} ] || exec sleep 1000", path("go"));
        let ctl = |args: &[&str]| {
            let mut command = fixture.command(args);
            command.env("SESSIONCTL_STORE", &url);
            command
        };
        let run = ctl(&["run", "--name", "work", "--", "sh", "-c", &script]);
        let Some(mut first) = contained("first", &run) else { return };
        let mut first = first.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{backend}");

        let next = |args: &[&str]| crate::support::run(contained("next", &ctl(args)).unwrap());
        let show = || next(&["show", "--json", "work"]);
        if backend == "sled" {
            // One process at a time has the database open.
            next(&["rm", "work"]).fails(5, "STORAGE_UNAVAILABLE");
        } else {
            let shown: Value = serde_json::from_str(&show().exits(0).stdout).unwrap();
            assert_eq!((&shown["status"], &shown["owner"]["host"]), (&json!("running"), &json!("first")));
            assert_eq!(shown["owner"]["liveness"], "alive", "{backend}");
            assert!(next(&["rm", "work"]).fails(4, "CONFLICT").stderr.contains("which is alive"));
            next(&["resume", "work"]).exits(125);
            next(&["recover", "--force"]).exits(0);
            let shown: Value = serde_json::from_str(&show().exits(0).stdout).unwrap();
            assert_eq!(shown["status"], "running", "{backend}: a live owner was declared dead");
        }

        first.kill().unwrap();
        first.wait().unwrap();
        let mut shown = Value::Null;
        crate::support::eventually("the owner's death", || {
            shown = serde_json::from_str(&show().stdout).unwrap_or_default();
            shown["status"] == "crashed"
        });
        assert_eq!(shown["owner"]["liveness"], "dead", "{backend}");
        let recovered = next(&["recover"]).exits(0);
        assert!(recovered.stdout.contains("paused"), "{backend}: {recovered:?}");
        std::fs::write(path("go"), "").unwrap();
        assert_eq!(next(&["resume", "work"]).exits(0).stdout, "ready\n", "{backend}");
    }
}

/// Two containers with one store and a lock folder of each, for example on a file system of their own.
#[test]
fn an_owner_with_another_lock_folder_is_unknown() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--", "true"]).exits(0);
    let owners = fixture.store().join("owners").display().to_string();
    let private = |name: &str, ctl: &Command| {
        let mut sh = clean_command("sh");
        sh.args(["-c", "mount -t tmpfs tmpfs \"$1\" && shift && exec \"$@\"", "sh", &owners]);
        sh.arg(ctl.get_program()).args(ctl.get_args());
        sh.envs(ctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        contained(name, &sh)
    };
    let run = fixture.command(["run", "--name", "work", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let Some(mut first) = private("first", &run) else { return };
    let mut first = first.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let next = |args: &[&str]| crate::support::run(private("next", &fixture.command(args)).unwrap());
    for seen in [fixture.ctl(["show", "--json", "work"]), next(&["show", "--json", "work"])] {
        let shown: Value = serde_json::from_str(&seen.exits(0).stdout).unwrap();
        assert_eq!(shown["status"], "unknown");
    }
    assert!(next(&["rm", "work"]).fails(4, "CONFLICT").stderr.contains(" recover --force"));
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(fixture.show("work")["status"], "unknown", "nothing here can prove its death");
    let recovered = next(&["recover", "--force"]).exits(0);
    assert!(recovered.stdout.contains("paused"), "{recovered:?}");
    assert_eq!(fixture.show("work")["state"], "paused");
}

/// A session that came with the image of a container lies in a lower layer, where its folder cannot be renamed.
#[test]
fn sessions_of_a_lower_layer_are_removed() {
    let Some(mut command) = unshare(&["-m"]) else { return };
    let script = r#"
        cd "$2" && mkdir lower layers merged
        for scheme in file sqlite sled; do
            for name in a b c; do "$1" --store $scheme:lower/$scheme run -q --name $name -- echo printed || exit; done
        done
        damaged=$("$1" --store file:lower/file show c --json | sed 's/.*"id":"\([^"]*\)".*/\1/')
        echo damaged >lower/file/sessions/$damaged/events.jsonl
        mount -t tmpfs layers layers && mkdir layers/upper layers/work &&
        mount -t overlay overlay -o lowerdir=lower,upperdir=layers/upper,workdir=layers/work merged || {
            echo 'not run: no overlay can be mounted'
            exit 0
        }
        cd merged
        for scheme in file sqlite sled; do
            ctl="$1 --store $scheme:$scheme"
            $ctl rm a && $ctl gc --older-than 0s
            [ $scheme = file ] && $ctl verify --repair --accept-loss $damaged
            $ctl verify --json && $ctl ls --all --json || exit
        done
    "#;
    let dir = tempfile::tempdir().unwrap();
    command.args(["sh", "-c", script, "sh", crate::support::BINARY]).arg(dir.path());
    let ran = crate::support::run(command).exits(0);
    if ran.stdout.contains("not run") {
        eprintln!("{}", ran.stdout);
        return;
    }
    assert_eq!(ran.stdout.matches(r#""sessions":[]"#).count(), 3, "{ran:#?}");
    assert_eq!(ran.stdout.lines().filter(|line| *line == "[]").count(), 3, "{ran:#?}");
}
