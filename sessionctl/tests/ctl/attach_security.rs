//! The socket at which viewers attach, and other users of the machine.

use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plain::LimitedUser;
use crate::support::{Fixture, run};
use crate::tmux::has;

/// The user `nobody`.
const OTHER: u32 = 65534;

/// Returns a command whose folder for sockets is in the fixture's.
fn command(fixture: &Fixture, words: &[&str]) -> Command {
    let mut command = fixture.command(words);
    command.env("XDG_RUNTIME_DIR", fixture.dir.path());
    command
}

/// Starts a session with a terminal in a folder that others may enter, and returns its socket.
fn start(fixture: &Fixture) -> PathBuf {
    set_mode(fixture.dir.path(), 0o755);
    run(command(fixture, &["run", "--detach", "--tty", "--name", "mine", "--", "cat"])).exits(0);
    let id = fixture.show("mine")["id"].as_str().unwrap().to_owned();
    let folder = fixture.dir.path().join("sessionctl");
    let is_socket = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("{id}.attach"));
    let mut found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    found.find(is_socket).expect("the owner listens")
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

/// Runs a Python script as another user; `None` where that is not possible.
fn as_another_user(script: &str, path: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can run a process of another user");
        return None;
    }
    if !has(&["python3"]) {
        return None;
    }
    let mut python = Command::new("python3");
    python.uid(OTHER).gid(OTHER).current_dir("/").args(["-c", script]).arg(path);
    let ran = run(python);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    Some(ran.stdout)
}

/// Connects to the socket, and prints what the owner sends to one that introduces itself.
const CONNECT: &str = r#"
import json, socket, struct, sys
viewer = socket.socket(socket.AF_UNIX)
try:
    viewer.connect(sys.argv[1])
    hello = json.dumps(dict(version=2, shows=True, read_only=False, rows=24, columns=80, notice="")).encode()
    viewer.sendall(b"h" + struct.pack("<I", len(hello)) + hello)
    print("answer", viewer.recv(1))
except ConnectionError:
    print("answer", b"")
except PermissionError:
    print("denied")
"#;

const LIST: &str = r#"
import os, sys
try:
    print(os.listdir(os.path.dirname(sys.argv[1])))
except PermissionError:
    print("denied")
"#;

#[test]
fn another_user_can_neither_list_nor_connect() {
    let fixture = Fixture::new();
    let socket = start(&fixture);
    assert_eq!((mode(socket.parent().unwrap()), mode(&socket)), (0o700, 0o600));
    for script in [LIST, CONNECT] {
        let Some(printed) = as_another_user(script, &socket) else { break };
        assert_eq!(printed, "denied\n");
    }
    fixture.ctl(["cancel", "mine"]).exits(0);
}

/// The owner itself checks the user, should the modes have been changed.
#[test]
fn an_open_socket_refuses_another_user() {
    let fixture = Fixture::new();
    let socket = start(&fixture);
    set_mode(socket.parent().unwrap(), 0o755);
    set_mode(&socket, 0o666);
    if let Some(printed) = as_another_user(CONNECT, &socket) {
        assert_eq!(printed, "answer b''\n", "the connection is closed without an answer");
        let mut same = Command::new("python3");
        same.args(["-c", CONNECT]).arg(&socket);
        assert_eq!(run(same).stdout, "answer b'H'\n", "the same from this user is answered");
    }
    fixture.ctl(["cancel", "mine"]).exits(0);
}

/// Otherwise the process that listens there would get the viewer's terminal, and all that is typed.
#[test]
fn a_planted_socket_is_not_connected_to() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "-q", "--name", "mine", "--", "true"]).exits(0);
    let id = fixture.show("mine")["id"].as_str().unwrap().to_owned();
    // As another user would have created it in /tmp: that one can enter it.
    let folder = fixture.dir.path().join("sessionctl");
    std::fs::DirBuilder::new().mode(0o755).create(&folder).unwrap();
    set_mode(&folder, 0o755);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start_time = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
    let socket = folder.join(format!("{}-{start_time}-{id}.attach", std::process::id()));
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let typed = run(command(&fixture, &["input", "mine", "a secret"])).fails(4, "ILLEGAL_TRANSITION");
    assert!(typed.stderr.contains("has no terminal"), "{typed:?}");
    assert!(listener.accept().is_err(), "no process has connected");
    // In a folder of this user alone, the same socket is found.
    set_mode(&folder, 0o700);
    let accepted = std::thread::spawn(move || {
        listener.set_nonblocking(false).unwrap();
        let (mut viewer, _) = listener.accept().unwrap();
        let mut tag = [0];
        viewer.read_exact(&mut tag).unwrap();
        tag
    });
    run(command(&fixture, &["input", "mine", "text"]));
    assert_eq!(accepted.join().unwrap(), [b'h']);
}

/// Another user who had made the folder for sockets first kept this one from running anything.
#[test]
fn a_folder_of_another_user_is_not_used_and_not_needed() {
    let Some(user) = LimitedUser::new() else { return };
    let ctl = |arguments: &str| user.ctl(100, "file", arguments);
    let taken = Path::new("/tmp").join(format!("sessionctl-{}", user.user));
    std::fs::create_dir(&taken).unwrap();
    // In the way of a random name, too.
    let decoy = taken.with_file_name(format!("sessionctl-{}-decoy", user.user));
    std::fs::create_dir(&decoy).unwrap();
    ctl("run -q -- true").exits(0);
    ctl("run -q --detach --tty --name asks -- sh -c 'read x; echo got $x'").exits(0);
    assert!(ctl("ls").exits(0).stdout.contains("running, detached"));
    ctl("input asks yes --enter").exits(0);
    ctl("wait asks").exits(0);
    assert!(ctl("logs asks").exits(0).stdout.ends_with("got yes\n"));
    ctl("gc --older-than 1h").exits(0);
    for folder in [&taken, &decoy] {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        std::fs::remove_dir(folder).unwrap();
    }
    let own = std::fs::read_dir("/tmp").unwrap().flatten().filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(&format!("sessionctl-{}-", user.user))
    });
    let own: Vec<_> = own.map(|entry| entry.path()).collect();
    assert_eq!(own.len(), 1, "one folder is used again: {own:?}");
    assert_eq!(mode(&own[0]), 0o700);
    std::fs::remove_dir_all(&own[0]).unwrap();
}
