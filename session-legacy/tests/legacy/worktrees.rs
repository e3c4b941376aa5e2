//! Tests of git worktrees without a usable file of sessions.

use std::path::Path;
use std::process::Command;

use session_legacy::Format;

use crate::support::{check_session, read, snapshot, split, state};

const ONE: &str = "40000000-0000-4000-8000-000000000001";
const TWO: &str = "40000000-0000-4000-8000-000000000002";
const BARE: &str = "40000000-0000-4000-8000-000000000003";

fn git(path: &Path, at: i64, words: &[&str]) -> bool {
    let date = format!("{at} +0000");
    Command::new("git")
        .current_dir(path)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", path)
        .env("GIT_COMMITTER_DATE", &date)
        .env("GIT_AUTHOR_DATE", &date)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"])
        .args(words)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Creates a project with a worktree on a branch, a detached one, and folders that are none; `None` without git.
fn project() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    if !git(folder.path(), 0, &["init"]) {
        eprintln!("not run: no git");
        return None;
    }
    let run = |path: &Path, at: i64, words: &[&str]| assert!(git(path, at, words), "{words:?}");
    run(folder.path(), 1_740_000_000, &["commit", "--allow-empty", "-m", "first"]);
    let path = folder.path().join(".worktrees");
    run(
        folder.path(),
        1_740_000_100,
        &["worktree", "add", "-b", "feature/one", &format!(".worktrees/{ONE}")],
    );
    run(&path.join(ONE), 1_740_000_150, &["commit", "--allow-empty", "-m", "work"]);
    run(&path.join(ONE), 1_740_000_200, &["commit", "--allow-empty", "-m", "more work"]);
    run(folder.path(), 1_740_000_300, &["worktree", "add", "--detach", &format!(".worktrees/{TWO}")]);
    std::fs::create_dir_all(path.join(BARE)).unwrap();
    std::fs::create_dir(path.join("no-uuid")).unwrap();
    Some(folder)
}

#[test]
fn each_worktree_becomes_a_session() {
    let Some(folder) = project() else { return };
    let before = snapshot(folder.path());
    for text in [None, Some("{\"version\":\"1.0\",\"sess")] {
        let file = folder.path().join(".claude-container-sessions.json");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        // Given the folder, and given the file, whether it exists or not.
        for path in [folder.path(), &file] {
            let store = read(Format::Container, path);
            let (sessions, unreadable) = split(&store);
            assert!(unreadable.is_empty(), "{unreadable:?}");
            assert_eq!(store.warnings.len(), 2, "{:?}", store.warnings);
            assert!(store.warnings[1].starts_with("not sessions, ignored: 4"), "{:?}", store.warnings);
            let [one, two] = &sessions[..] else { panic!("{sessions:?}") };
            for session in [one, two] {
                check_session(Format::Container, session);
                assert_eq!(state(session.head()), "created");
            }
            let head = one.head();
            assert_eq!((one.id().to_string().as_str(), head.worktree.as_deref()), (ONE, Some(ONE)));
            assert_eq!(head.labels["branch"], "feature/one");
            assert!(head.cwd.as_deref().unwrap().ends_with(ONE), "{head:?}");
            assert_eq!(head.created_at.as_millis(), 1_740_000_100_000);
            assert_eq!(head.updated_at.as_millis(), 1_740_000_200_000);
            assert!(!two.head().labels.contains_key("branch"));
            assert_eq!(two.head().created_at.as_millis(), 1_740_000_300_000);
        }
    }
    std::fs::remove_file(folder.path().join(".claude-container-sessions.json")).unwrap();
    let after = snapshot(folder.path());
    assert_eq!(after, before, "reading changed a file");
}

/// Adds a signed commit, which git would verify with the program that the repository configures.
fn signed(worktree: &Path) {
    let commit = worktree.join("commit");
    let author = "a <a@example.org> 1740000200 +0000";
    let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----";
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    std::fs::write(
        &commit,
        format!("tree {tree}\nauthor {author}\ncommitter {author}\n{signature}\n\nsigned\n"),
    )
    .unwrap();
    let made = Command::new("git")
        .current_dir(worktree)
        .args(["hash-object", "-t", "commit", "-w", "commit"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let sum = String::from_utf8(made.stdout).unwrap();
    assert!(git(worktree, 1_740_000_200, &["update-ref", "--create-reflog", "HEAD", sum.trim()]));
}

/// A repository's configuration can cause git to run programs. None of them runs.
#[test]
fn programs_that_a_repository_configures_are_not_run() {
    let Some(folder) = project() else { return };
    let ran = folder.path().join("ran");
    let program = folder.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    for setting in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.askPass",
        "gpg.program",
        "alias.log",
        "alias.rev-parse",
        "credential.helper",
    ] {
        assert!(git(folder.path(), 0, &["config", setting, program]));
    }
    assert!(git(folder.path(), 0, &["config", "log.showSignature", "true"]));
    assert!(git(folder.path(), 0, &["config", "core.hooksPath", folder.path().to_str().unwrap()]));
    for hook in ["post-index-change", "reference-transaction", "post-checkout"] {
        std::fs::copy(program, folder.path().join(hook)).unwrap();
    }
    signed(&folder.path().join(".worktrees").join(ONE));
    // Control: without the overrides, git runs the program.
    assert!(git(&folder.path().join(".worktrees").join(ONE), 0, &["log", "-1", "--format=%ct"]));
    assert!(ran.exists(), "git ran no program without the overrides");
    std::fs::remove_file(&ran).unwrap();
    let store = read(Format::Container, folder.path());
    assert_eq!(split(&store).0.len(), 2, "{store:?}");
    assert!(!ran.exists(), "a program of the repository ran");
}

/// A worktree whose repository is gone, as in a copy of the folder alone, is reported as unreadable.
#[test]
fn a_worktree_that_git_cannot_read_is_reported() {
    let Some(folder) = project() else { return };
    std::fs::remove_dir_all(folder.path().join(".git").join("worktrees").join(ONE)).unwrap();
    let store = read(Format::Container, folder.path());
    let (sessions, unreadable) = split(&store);
    assert_eq!((sessions.len(), unreadable.len()), (1, 1), "{store:?}");
    assert_eq!(unreadable[0].0, format!(".worktrees/{ONE}"));
    assert!(
        unreadable[0].1.starts_with("cannot be read: git cannot read the worktree: fatal:"),
        "{unreadable:?}"
    );
}

/// A folder with an empty `.git` is not a worktree, and is not treated as part of the enclosing repository.
#[test]
fn a_folder_that_is_no_worktree_is_reported() {
    let Some(folder) = project() else { return };
    std::fs::create_dir(folder.path().join(".worktrees").join(BARE).join(".git")).unwrap();
    let store = read(Format::Container, folder.path());
    let (sessions, unreadable) = split(&store);
    assert_eq!((sessions.len(), unreadable.len()), (2, 1), "{store:?}");
    assert_eq!(unreadable[0].0, format!(".worktrees/{BARE}"));
    assert!(unreadable[0].1.starts_with("is not a git worktree: it is a directory in /"), "{unreadable:?}");
}
