//! The state of worktrees, and the files that they get.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use std::path::Path;

use session_worktree::WorktreeError;

use crate::fixture::{Fixture, content, git, write};

#[test]
fn a_new_worktree_is_clean() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let base = fixture.git(&["rev-parse", "main"]);
    let status = worktrees.status(&worktree, Some(&base)).unwrap();
    assert!(status.is_clean(), "{status:?}");
    assert_eq!((status.branch.as_deref(), status.ahead, status.behind), (Some("feature/fix"), 0, 0));
    write(&worktree.path().join("target/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n");
    write(&worktree.path().join("target/debug/app"), "app");
    assert!(worktrees.status(&worktree, None).unwrap().is_clean(), "a cache can be created again");
}

type Change = fn(&Path);

#[test]
fn everything_that_would_be_lost_is_seen() {
    let changes: [(&str, Change); 12] = [
        ("changed", |path| write(&path.join("README"), "changed\n")),
        ("staged", |path| {
            write(&path.join("README"), "changed\n");
            git(path, &["add", "README"]);
            write(&path.join("README"), "hello\n");
        }),
        ("deleted", |path| fs::remove_file(path.join("README")).unwrap()),
        ("mode", |path| {
            fs::set_permissions(path.join("README"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("untracked", |path| write(&path.join("sub/new"), "")),
        ("ignored", |path| write(&path.join("build.log"), "")),
        ("assumed unchanged", |path| {
            git(path, &["update-index", "--assume-unchanged", "README"]);
            write(&path.join("README"), "changed\n");
        }),
        ("skipped", |path| {
            git(path, &["update-index", "--skip-worktree", "README"]);
            write(&path.join("README"), "changed\n");
        }),
        ("intended", |path| {
            write(&path.join("new"), "");
            git(path, &["add", "--intent-to-add", "new"]);
        }),
        ("repository", |path| {
            git(path, &["init", "--quiet", "nested"]);
        }),
        ("merge", |path| {
            git(path, &["checkout", "--quiet", "-b", "other"]);
            git(path, &["commit", "--quiet", "--allow-empty", "--message=other"]);
            git(path, &["checkout", "--quiet", "-"]);
            git(path, &["merge", "--quiet", "--no-ff", "--no-commit", "other"]);
        }),
        ("fake cache", |path| {
            write(&path.join("target/CACHEDIR.TAG"), "no signature");
            write(&path.join("target/thesis"), "work");
        }),
    ];
    for (name, change) in changes {
        let fixture = Fixture::new();
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        change(worktree.path());
        let index = fs::read(worktree.git_dir().join("index")).unwrap();
        let status = worktrees.status(&worktree, None).unwrap();
        assert!(!status.is_clean(), "{name}: {status:?}");
        assert_eq!(
            fs::read(worktree.git_dir().join("index")).unwrap(),
            index,
            "{name}: the index is left alone"
        );
    }
}

#[test]
fn a_sparse_worktree_is_clean() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    git(worktree.path(), &["sparse-checkout", "set", "--sparse-index", "nothing"]);
    assert!(!worktree.path().join("src").exists());
    let status = worktrees.status(&worktree, None).unwrap();
    assert!(status.is_clean(), "{status:?}");
}

#[test]
fn commits_and_lines_are_counted() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let base = fixture.git(&["rev-parse", "main"]);
    write(&worktree.path().join("README"), "one\ntwo\n");
    git(worktree.path(), &["commit", "--quiet", "--all", "--message=work"]);
    write(&worktree.path().join("README"), "one\ntwo\nthree\n");
    let status = worktrees.status(&worktree, Some(&base)).unwrap();
    assert_eq!((status.ahead, status.behind, status.changed), (1, 0, 1));
    assert_eq!((status.lines_added, status.lines_removed), (1, 0));
}

#[test]
fn named_ignored_files_come_along() {
    let fixture = Fixture::new();
    fixture.write(".worktreeinclude", "*.env\n/config/\n!not.env\nREADME\nuntracked\n");
    fixture.write(".gitignore", "*.env\n*.log\n/config\n/link\n");
    fixture.git(&["add", "--all"]);
    fixture.git(&["commit", "--quiet", "--message=ignore"]);
    fixture.write("a.env", "secret\n");
    fs::set_permissions(fixture.repo().join("a.env"), fs::Permissions::from_mode(0o600)).unwrap();
    fixture.write("sub/run.env", "#!/bin/sh\n");
    fs::set_permissions(fixture.repo().join("sub/run.env"), fs::Permissions::from_mode(0o755)).unwrap();
    fixture.write("not.env", "");
    fixture.write("a.log", "");
    fixture.write("untracked", "not ignored\n");
    fixture.write("config/local/settings", "x\n");
    symlink("a.env", fixture.repo().join("config/to.env")).unwrap();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    // In the worktree, one is there already, and one of its directories is a link to somewhere else.
    write(&worktree.path().join("a.env"), "mine\n");
    let outside = fixture.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, worktree.path().join("sub")).unwrap();
    let included = worktrees.include_files(&worktree).unwrap();
    let skipped: Vec<_> = included.skipped.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!((included.copied, skipped), (2, vec!["a.env", "sub/run.env"]));
    assert_eq!(fs::read(worktree.path().join("a.env")).unwrap(), b"mine\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let config = content(&worktree.path().join("config"));
    assert_eq!(config, content(&fixture.repo().join("config")));
    fs::remove_file(worktree.path().join("sub")).unwrap();
    fs::remove_file(worktree.path().join("a.env")).unwrap();
    assert_eq!(worktrees.include_files(&worktree).unwrap().copied, 2);
    for (name, mode) in [("a.env", 0o600), ("sub/run.env", 0o755)] {
        let found = worktree.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    for name in ["not.env", "a.log", "untracked"] {
        assert!(!worktree.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_snapshot_becomes_a_worktree_again() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    write(&path.join("README"), "staged\n");
    git(path, &["add", "README"]);
    write(&path.join("README"), "changed\n");
    write(&path.join("new \"one\""), [0, 255]);
    symlink("README", path.join("link")).unwrap();
    write(&path.join("a.log"), "ignored\n");
    let (before, state) = (content(path), git(path, &["status", "--porcelain=v2", "--ignored"]));
    worktrees.pin(&worktree).unwrap();
    let session = worktree.session();
    let entry = worktrees.remove(&worktree, session_worktree::RemoveOptions::new()).unwrap().entry;
    worktrees.purge(&entry.id, false).unwrap().unwrap();
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    let numbers: Vec<u64> =
        worktrees.snapshots(session).unwrap().iter().map(|snapshot| snapshot.number).collect();
    assert_eq!(numbers, [1, 2]);
    let restored = worktrees.restore_snapshot(session, 1, path).unwrap();
    assert_eq!(content(path), before);
    assert_eq!(git(path, &["status", "--porcelain=v2", "--ignored"]), state);
    assert_eq!(restored.branch().unwrap().as_deref(), Some("feature/fix"));
    assert_eq!(restored.record().locate().unwrap(), restored);
    assert!(matches!(worktrees.restore_snapshot(session, 2, path), Err(WorktreeError::NoPlace { .. })));
    worktrees.drop_snapshot(session, 1).unwrap();
    assert!(matches!(worktrees.drop_snapshot(session, 1), Err(WorktreeError::NothingKept { .. })));
    assert_eq!(worktrees.snapshots(session).unwrap().len(), 1);
}
