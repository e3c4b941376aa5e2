//! Programs under `run` behave as under a plain shell: their arguments, what can be executed, and what they inherit.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use sessionkit::SessionConfig;

use crate::run::start;
use crate::support::{self, Fixture, eventually};

/// Shells run a script without a first line `#!`; execve does not.
#[test]
fn a_script_without_an_interpreter_runs_under_sh() {
    let fixture = Fixture::new();
    let script = |name: &str, content: &[u8]| {
        let path = fixture.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let path = script("-plain", b"echo \"$1 from $0\"; exit 3\n");
    let ran = fixture.ctl(["run", "--", path.to_str().unwrap(), "hello"]).exits(3);
    assert_eq!(ran.stdout, format!("hello from {}\n", path.display()));
    for args in [["./-plain", "hello"], ["-plain", "hello"]] {
        let mut command = fixture.command(["run", "--"].iter().chain(&args));
        let folders = format!("{}:{}", fixture.dir.path().display(), std::env::var("PATH").unwrap());
        command.current_dir(fixture.dir.path()).env("PATH", folders);
        assert!(support::run(command).exits(3).stdout.starts_with("hello from "), "{args:?}");
    }
    let binary = script("binary", b"\x01\x00\x02\n");
    fixture.ctl(["run", "--", binary.to_str().unwrap()]).fails(126, "SPAWN_FAILED");
}

/// Arguments, directories and values of variables are bytes.
#[test]
fn bytes_that_are_not_utf8_reach_the_program_and_its_retry() {
    let fixture = Fixture::new();
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let folder = fixture.dir.path().join(bytes(b"d\xff"));
    std::fs::create_dir(&folder).unwrap();
    let script = "pwd | od -An -c | tail -1 | tr -d ' '; printf '%s%s' \"$1\" \"$ODD\" | od -An -tx1";
    let mut command = fixture.command(["run", "--name", "odd", "--env"]);
    command.arg(bytes(b"ODD=\xfe=")).args(["--", "sh", "-c", script, "sh"]).arg(bytes(b"a\xff"));
    command.current_dir(&folder);
    let ran = support::run(command).exits(0);
    assert!(ran.stdout.contains("d377\\n") && ran.stdout.ends_with(" 61 ff fe 3d\n"), "{ran:#?}");
    assert_eq!(fixture.ctl(["retry", "odd"]).exits(0).stdout, ran.stdout);
    let id = fixture.json(["ls", "--all"])[0]["id"].as_str().unwrap().to_owned();
    let shown = fixture.show(&id);
    assert_eq!(shown["command"][4], "a\\xff");
    assert!(shown["cwd"].as_str().unwrap().ends_with("/d\\xff"), "{shown}");
    let page = fixture.ctl(["show", &id]).exits(0).stdout;
    assert!(page.contains(r"$'a\xff'") && page.contains(r"/d\xff"), "{page}");
    let log = fixture.ctl(["events", &id, "--json"]).exits(0).stdout;
    assert!(
        log.contains(r#"{"base64":"Yf8="}"#) && log.contains(r#""env":{"ODD":{"base64":"/j0="}}"#),
        "{log}"
    );
    fixture.ctl(["verify", &id]).exits(0);
}

/// `worktree` was null in every session of a program.
#[test]
fn a_session_names_the_git_worktree_it_was_created_in() {
    if !crate::tmux::has(&["git"]) {
        return;
    }
    let fixture = Fixture::new();
    let script = "git init -q main && cd main && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one \
        && git worktree add -q ../tree && mkdir ../tree/inner";
    let made = Command::new("sh").args(["-c", script]).current_dir(fixture.dir.path()).status().unwrap();
    assert!(made.success());
    let created = |folder: &str| {
        let mut command = fixture.command(["run", "--json", "--", "true"]);
        command.current_dir(fixture.dir.path().join(folder));
        serde_json::from_str::<Value>(&support::run(command).exits(0).stdout).unwrap()["worktree"].clone()
    };
    let tree = fixture.dir.path().join("tree").canonicalize().unwrap();
    assert_eq!(created("tree/inner"), tree.to_str().unwrap());
    assert_eq!(created("tree"), tree.to_str().unwrap());
    assert_eq!(created("main"), Value::Null);
    assert_eq!(created("."), Value::Null);
}

/// Runs a script plainly and under `run`, and returns what both print.
fn both(fixture: &Fixture, script: &str) -> (String, String) {
    let printed = |prefix: &str| {
        let mut command = support::clean_command("bash");
        command.current_dir(fixture.dir.path()).env("SESSIONCTL_STORE", fixture.url());
        command.args(["-c", &script.replace("RUN", prefix)]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    (printed(""), printed(&format!("{} run --", support::BINARY)))
}

#[test]
fn ignored_and_blocked_signals_stay_so_in_the_program() {
    if !crate::tmux::has(&["bash", "python3"]) {
        return;
    }
    let fixture = Fixture::new();
    let block = "python3 -c 'import os, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL); \
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD]); os.execvp(sys.argv[1], sys.argv[1:])'";
    for before in ["", "trap '' PIPE;", "trap '' HUP INT USR2 CHLD;", block] {
        let (plain, session) =
            both(&fixture, &format!("{before} RUN grep -E 'Sig(Blk|Ign)' /proc/self/status"));
        assert!(plain.contains("SigIgn"), "{before}");
        assert_eq!(session, plain, "{before}");
    }
}

#[test]
fn a_session_that_ignores_hup_or_int_survives_it() {
    let fixture = Fixture::new();
    for (before, signal) in [("trap '' HUP", "HUP"), ("trap '' INT", "INT")] {
        let name = format!("survives-{signal}");
        let script = format!(
            "{before}; exec {} run --name {name} -- sh -c 'echo ready; read line; exit 7'",
            support::BINARY
        );
        let mut command = support::clean_command("sh");
        command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
        let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(session.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        kill(signal, &session.id().to_string());
        // The signal was sent before the line that ends the program.
        drop(session.stdin.take());
        assert_eq!(session.wait().unwrap().code(), Some(7), "{signal}");
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args(["-s", signal, pid]).status().unwrap().success());
}

/// A child in the program's group appends `group` for each USR1, the first process `first`.
const TRAPS: &str =
    "trap 'echo first >>got' USR1; trap 'echo alarm >>got' ALRM; trap 'kill -TERM $!; exit 5' QUIT
    sh -c 'trap \"echo group >>got\" USR1; trap \"exit 0\" TERM; echo ready; while :; do sleep 0.02; done' &
    while :; do sleep 0.02; done";

#[test]
fn signals_to_the_owner_reach_the_first_process_or_its_group() {
    let fixture = Fixture::new();
    let script = format!("cd {} && {TRAPS}", fixture.dir.path().display());
    let running = start(&fixture, ["--name", "traps"], &script);
    let owner = running.pid().to_string();
    let got = || std::fs::read_to_string(fixture.dir.path().join("got")).unwrap_or_default();
    kill("USR1", &owner);
    eventually("USR1 in the first process", || got() == "first\n");
    kill("ALRM", &owner);
    eventually("ALRM in the first process", || got() == "first\nalarm\n");
    kill("QUIT", &owner);
    running.end().exits(5);
}

#[test]
fn signal_reaches_the_first_process_and_with_group_all() {
    let fixture = Fixture::new();
    let script = format!("cd {} && {TRAPS}", fixture.dir.path().display());
    let running = start(&fixture, ["--name", "traps"], &script);
    let got = || {
        let text = std::fs::read_to_string(fixture.dir.path().join("got")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    fixture.ctl(["signal", "traps", "USR1"]).exits(0);
    eventually("USR1 in the first process", || got() == ["first"]);
    fixture.ctl(["signal", "traps", "sigusr1", "--group"]).exits(0);
    eventually("USR1 in the group", || got() == ["first", "first", "group"]);
    // No request to stop: the end is the program's own.
    fixture.ctl(["signal", "traps", "9"]).exits(0);
    running.end().exits(137);
    assert_eq!(fixture.json(["ls", "--all"])[0]["state"], "failed");
    fixture.ctl(["signal", "traps", "USR1"]).fails(4, "ILLEGAL_TRANSITION");
    fixture.ctl(["signal", "traps", "NOSUCH"]).exits(2);
    let crashed = fixture.crashed(SessionConfig::new("import")).to_string();
    fixture.ctl(["signal", &crashed, "USR1"]).fails(4, "CRASHED");
    let live = fixture.owner(SessionConfig::new("import"));
    fixture.ctl(["signal", &live.id.to_string(), "USR1"]).fails(4, "ILLEGAL_TRANSITION");
}

/// The owner was killed by XFSZ as soon as the stored output passed the limit.
#[test]
fn output_beyond_the_limit_of_file_sizes_is_passed_on() {
    let fixture = Fixture::new();
    let script = format!("ulimit -f 100; exec {} run --name big -- seq 1 100000", support::BINARY);
    let mut command = support::clean_command("sh");
    command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
    let ran = support::run(command).exits(0);
    assert_eq!(ran.stdout.lines().last(), Some("100000"));
    let why = fixture.ctl(["why", "big"]).exits(0).stdout;
    assert!(why.contains("some output could not be stored"), "{why}");
    fixture.ctl(["verify", "big"]).exits(0);
    let script = format!("ulimit -f 1; exec {} run -- true", support::BINARY);
    let mut command = support::clean_command("sh");
    command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
    let refused = support::run(command).fails(125, "STORAGE_FULL");
    assert!(refused.stderr.contains("`ulimit -f`"), "{refused:#?}");
}

#[test]
fn any_umask_gives_a_private_store_and_reaches_the_program() {
    for umask in ["0000", "0022", "0177", "0277", "0777"] {
        let fixture = Fixture::new();
        let run = |arguments: &str| {
            let script = format!("umask {umask}; exec {} {arguments}", support::BINARY);
            let mut command = support::clean_command("sh");
            command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
            support::run(command)
        };
        assert_eq!(run("run -- sh -c umask").exits(0).stdout, format!("{umask}\n"));
        let id = run("run --detach -- sh -c umask").exits(0).stdout;
        fixture.ctl(["wait", id.trim()]).exits(0);
        assert_eq!(fixture.ctl(["logs", id.trim()]).exits(0).stdout, format!("{umask}\n"));
        let find = ["-type", "d", "!", "-perm", "0700", "-o", "-type", "f", "!", "-perm", "0600"];
        let open = Command::new("find").arg(fixture.store()).args(find).output().unwrap();
        assert_eq!(String::from_utf8(open.stdout).unwrap(), "", "{umask}");
    }
}

/// A user that no other process has, so that a limit counts only the processes of one command.
pub(crate) struct LimitedUser {
    pub(crate) fixture: Fixture,
    pub(crate) user: String,
}

impl LimitedUser {
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || !crate::tmux::has(&["setpriv", "bash"]) {
            eprintln!("not run: only root can become a user without processes");
            return None;
        }
        let fixture = Fixture::new();
        let dir = fixture.dir.path();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        // The binary may be where other users cannot go. Copied by another process: a test that starts a program meanwhile
        // would pass it the open file, which cannot be executed.
        let copied = Command::new("cp").arg(support::BINARY).arg(dir.join("sessionctl")).status();
        assert!(copied.unwrap().success());
        // Other tests of this process have other users, and so have other processes.
        let user = 100_000 + std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self { fixture, user: user.to_string() })
    }

    /// Runs the command with at most this many processes and threads, over a store of this kind.
    pub(crate) fn ctl(&self, limit: u32, scheme: &str, arguments: &str) -> support::Ran {
        let (dir, user) = (self.fixture.dir.path(), self.user.as_str());
        let script = format!("ulimit -u {limit}; exec ./sessionctl {arguments}");
        let mut command = support::clean_command("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", &script]);
        let store = format!("{scheme}:{}", dir.join(scheme).display());
        command.env("SESSIONCTL_STORE", store).env("HOME", dir).current_dir(dir);
        support::run(command)
    }
}

/// With no thread to be had, `run` waited for ever, ignored TERM, or panicked.
#[test]
fn a_limit_of_processes_is_a_typed_error() {
    let Some(user) = LimitedUser::new() else { return };
    let limited = |limit: u32, arguments: &str| user.ctl(limit, "file", arguments);
    for limit in 1..=8 {
        for arguments in ["run -- true", "run --detach -- true"] {
            let ran = limited(limit, arguments).fails(125, "SYSTEM_LIMIT");
            assert!(ran.stderr.contains("(`ulimit -u`)") || arguments.contains("detach"), "{ran:#?}");
        }
        assert_eq!(limited(limit, "ls --all --json").exits(0).stdout, "[]\n");
    }
    limited(100, "run -- true").exits(0);
}

/// Verbs that start no program need no thread: `logs`, `export` and `gc` panicked.
#[test]
fn verbs_work_where_no_thread_can_be_started() {
    let Some(limited) = LimitedUser::new() else { return };
    for scheme in ["file", "sqlite", "sled"] {
        let ctl = |limit: u32, arguments: &str| limited.ctl(limit, scheme, arguments);
        ctl(100, "run -q --name a -- echo printed").exits(0);
        ctl(100, "run -q --name b -- false").exits(1);
        ctl(100, "export a b >exported").exits(0);
        for arguments in [
            "ls --all",
            "show a",
            "why b",
            "events a",
            "logs a",
            "logs a --follow",
            "wait a",
            "export a",
            "verify",
            "recover",
            "rm b",
            "import exported",
            "gc --older-than 0s",
        ] {
            let case = format!("{scheme}: {arguments}");
            let ran = ctl(1, arguments);
            if scheme == "file" {
                assert_eq!(ran.code, Some(0), "{case}: {ran:#?}");
            } else {
                assert!(ran.code == Some(0) || ran.stderr.contains("SYSTEM_LIMIT"), "{case}: {ran:#?}");
            }
        }
    }
}

/// Every verb panicked where no descriptor was left for tokio.
#[test]
fn a_limit_of_open_files_is_a_typed_error() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--name", "done", "--", "true"]).exits(0);
    let mut refused = 0;
    for limit in 5..40 {
        for arguments in ["ls --all", "run -- true", "recover --policy fail", "rm no-such-session"] {
            let script = format!("ulimit -n {limit}; exec {} {arguments}", support::BINARY);
            let mut command = support::clean_command("sh");
            command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
            let ran = support::run(command);
            assert!(!ran.stderr.contains("panicked"), "{limit} {arguments}: {ran:#?}");
            // The loader of programs needs a descriptor itself.
            let codes = ["SYSTEM_LIMIT", "STORAGE_UNAVAILABLE", "STORAGE_IO", "SPAWN_FAILED", "NOT_FOUND"];
            let has_code = codes.iter().any(|code| ran.stderr.contains(&format!("[{code}]")));
            let typed = has_code || [Some(0), Some(127)].contains(&ran.code);
            assert!(typed, "{limit} {arguments}: {ran:#?}");
            refused += usize::from(ran.stderr.contains("[SYSTEM_LIMIT]"));
        }
    }
    assert!(refused > 0);
    fixture.ctl(["verify"]).exits(0);
}

/// Descriptors above 2 reach the program, and end with it.
#[test]
fn inherited_descriptors_belong_to_the_program_alone() {
    if !crate::tmux::has(&["bash", "make"]) {
        return;
    }
    let fixture = Fixture::new();
    let (plain, session) = both(&fixture, "RUN cat <(echo from a substitution)");
    assert_eq!((session, plain.as_str()), (plain.clone(), "from a substitution\n"));
    let make = format!("all:\n\t+@{} run -- make -s -f inner\n", support::BINARY);
    std::fs::write(fixture.dir.path().join("Makefile"), make).unwrap();
    std::fs::write(fixture.dir.path().join("inner"), "all: a b\na b:\n\t@echo $@\n").unwrap();
    let mut command = support::clean_command("make");
    command.current_dir(fixture.dir.path()).env("SESSIONCTL_STORE", fixture.url()).args(["-s", "-j2"]);
    let built = support::run(command).exits(0);
    assert!(!built.stderr.contains("jobserver unavailable"), "{built:#?}");

    // Without a copy in owner or supervisor, closing it in the program closes the pipe.
    let script = format!("exec {} run -- sh -c 'exec 9>&-; read line' 9>&1 >/dev/null", support::BINARY);
    let mut command = support::clean_command("bash");
    command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &script]);
    let mut session =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut rest = String::new();
    session.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    drop(session.stdin.take());
    session.wait().unwrap();
    assert_eq!(rest, "");
}
