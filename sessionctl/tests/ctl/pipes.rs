//! Pipes in place of files, which a neighbour with access to a folder could plant: no command waits for their writer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{self, BINARY, Fixture};

/// Replaces a file by a pipe without a writer, as a neighbour with access to the folder could.
fn make_pipe(path: &Path) {
    std::fs::remove_file(path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else if entry.file_type().unwrap().is_file() {
            found.push(entry.path());
        }
    }
}

/// Whatever file of a store is a pipe, every command ends: `logs`, `export` and `migrate` waited for its writer.
#[test]
fn a_pipe_in_place_of_a_file_blocks_nothing() {
    for scheme in ["file", "sqlite", "sled"] {
        let dir = tempfile::tempdir().unwrap();
        let ctl = |store: &str, args: &[&str]| {
            let mut command = support::clean_command("timeout");
            command.args(["60", BINARY, "--store", &format!("{scheme}:{store}")]).args(args);
            command.current_dir(dir.path());
            support::run(command)
        };
        ctl("whole", &["run", "-q", "--name", "a", "--", "sh", "-c", "echo out; echo err >&2"]).exits(0);
        ctl("whole", &["run", "-q", "--name", "b", "--", "false"]).exits(1);
        let mut names = Vec::new();
        files(dir.path(), &mut names);
        assert!(names.len() > 3, "{scheme}: {names:?}");
        for name in names {
            let name = name.strip_prefix(dir.path()).unwrap().to_owned();
            let copy = "rm -rf copy && mkdir copy && for file in whole*; do cp -a \"$file\" copy/; done";
            let copied = Command::new("sh").current_dir(dir.path()).args(["-c", copy]).status();
            assert!(copied.unwrap().success());
            make_pipe(&dir.path().join("copy").join(&name));
            for args in [
                &["ls", "--all"] as &[&str],
                &["show", "a"],
                &["events", "a"],
                &["logs", "a"],
                &["logs", "a", "--follow"],
                &["export", "a"],
                &["verify"],
                &["migrate", "--to", "file:copy/new"],
                &["run", "-q", "--", "true"],
                &["gc", "--older-than", "0s"],
                &["verify", "--repair"],
            ] {
                let ran = ctl("copy/whole", args);
                assert_ne!(ran.code, Some(124), "{scheme}: {} {args:?} hangs: {ran:#?}", name.display());
                assert!(!ran.stderr.contains("panicked"), "{scheme}: {} {args:?}: {ran:#?}", name.display());
            }
        }
    }
}

/// A pipe where a command reads a file that a user named, or that lies in a folder of others.
#[test]
fn a_pipe_in_place_of_an_input_blocks_nothing() {
    let fixture = Fixture::new();
    let (input, git) = (fixture.dir.path().join("input"), fixture.dir.path().join(".git"));
    for file in [&input, &git] {
        std::fs::write(file, "").unwrap();
    }
    let ctl = |args: &[&str]| {
        let mut command = support::clean_command("timeout");
        command.args(["60", BINARY]).args(args).env("SESSIONCTL_STORE", fixture.url());
        command.current_dir(fixture.dir.path());
        command.stdin(std::fs::File::open("/dev/null").unwrap());
        command
    };
    let mut first = ctl(&["run", "--name", "reads", "--", "sh", "-c", "cat; exit 3"]);
    first.stdin(std::fs::File::open(&input).unwrap());
    support::run(first).exits(3);
    make_pipe(&input);
    make_pipe(&git);
    let ran = support::run(ctl(&["import", "input"])).exits(2);
    assert!(ran.stderr.contains("not a regular file"), "{ran:#?}");
    support::run(ctl(&["run", "--", "true"])).exits(0);
    let ran = support::run(ctl(&["retry", "reads"])).exits(3);
    assert!(ran.stderr.contains("is a named pipe now: it gets none"), "{ran:#?}");
}
