//! Merges: all of it or nothing, whatever the state of both sides.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use session_worktree::{Git, MergeOptions, MergeOutcome, MergeStrategy, Worktree, WorktreeError, Worktrees};

use crate::fixture::{Fixture, content, git, write};
use crate::meanwhile::git_after;

/// A repository whose user can commit, and a worktree with one commit that adds `mine`.
fn start() -> (Fixture, Worktree) {
    let fixture = Fixture::new();
    fixture.git(&["config", "user.name", "a"]);
    fixture.git(&["config", "user.email", "a@b"]);
    let worktree = fixture.create("fix");
    commit(worktree.path(), "mine", "mine\n");
    (fixture, worktree)
}

fn commit(dir: &Path, name: &str, text: &str) {
    write(&dir.join(name), text);
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", &format!("--message=change {name}")]);
}

/// Everything that a merge may change.
fn state(fixture: &Fixture, worktree: &Worktree) -> impl PartialEq + std::fmt::Debug + use<> {
    let of = |path: &Path| (content(path), git(path, &["status", "--porcelain=v2", "--branch", "--ignored"]));
    let mut files = of(&fixture.repo());
    files.0.retain(|path, _| !path.starts_with(".git"));
    (files, of(worktree.path()), fixture.git(&["for-each-ref"]), fixture.git(&["stash", "list"]))
}

fn merged(outcome: MergeOutcome) -> String {
    let MergeOutcome::Merged(commit) = outcome else { panic!("{outcome:?}") };
    commit
}

#[test]
fn a_branch_is_merged_into_the_one_it_started_from() {
    let (fixture, worktree) = start();
    let tip = git(worktree.path(), &["rev-parse", "HEAD"]);
    let options = MergeOptions::new();
    let merge = fixture.worktrees().merge(&worktree, &options).unwrap();
    assert_eq!((merge.into.as_str(), &merge.source, merged(merge.outcome)), ("main", &tip, tip.clone()));
    assert_eq!(fs::read_to_string(fixture.repo().join("mine")).unwrap(), "mine\n");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(fixture.worktrees().merge(&worktree, &options).unwrap().outcome, MergeOutcome::UpToDate);

    // Both sides go on.
    commit(worktree.path(), "mine", "more\n");
    commit(&fixture.repo(), "theirs", "theirs\n");
    let ff = MergeOptions::new().strategy(MergeStrategy::FastForward);
    let error = fixture.worktrees().merge(&worktree, &ff).unwrap_err();
    assert!(matches!(error, WorktreeError::NotFastForward { .. }), "{error}");
    let result = merged(fixture.worktrees().merge(&worktree, &options).unwrap().outcome);
    assert_eq!(fixture.git(&["rev-parse", "HEAD"]), result);
    assert_eq!(fixture.git(&["log", "-1", "--format=%s"]), "Merge branch 'feature/fix' into main");
    assert_eq!(fixture.git(&["rev-list", "--parents", "-1", "HEAD"]).split(' ').count(), 3);
    assert_eq!(fs::read_to_string(fixture.repo().join("mine")).unwrap(), "more\n");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_squash_is_one_commit() {
    let (fixture, worktree) = start();
    let squash = MergeOptions::new().strategy(MergeStrategy::Squash);
    merged(fixture.worktrees().merge(&worktree, &squash).unwrap().outcome);
    assert_eq!(fixture.git(&["log", "-1", "--format=%B"]), "change mine");
    assert_eq!(fixture.worktrees().merge(&worktree, &squash).unwrap().outcome, MergeOutcome::UpToDate);
    commit(worktree.path(), "one", "1\n");
    commit(worktree.path(), "two", "2\n");
    merged(fixture.worktrees().merge(&worktree, &squash).unwrap().outcome);
    let message = fixture.git(&["log", "-1", "--format=%B"]);
    assert!(
        message.starts_with("Squash branch 'feature/fix'\n\n") && message.ends_with("* change two"),
        "{message}"
    );
    assert_eq!(fixture.git(&["rev-list", "--count", "--merges", "HEAD"]), "0");
    commit(worktree.path(), "three", "3\n");
    merged(fixture.worktrees().merge(&worktree, &squash.clone().message("my words")).unwrap().outcome);
    assert_eq!(fixture.git(&["log", "-1", "--format=%B"]), "my words");
}

#[test]
fn a_branch_that_is_not_checked_out_is_moved_alone() {
    let (fixture, worktree) = start();
    fixture.git(&["branch", "next"]);
    let before = fixture.git(&["rev-parse", "main"]);
    merged(fixture.worktrees().merge(&worktree, &MergeOptions::new().into_branch("next")).unwrap().outcome);
    assert_eq!(fixture.git(&["log", "-1", "--format=%s", "next"]), "change mine");
    assert_eq!(
        (fixture.git(&["rev-parse", "main"]), fixture.git(&["status", "--porcelain"])),
        (before, String::new())
    );
    assert!(fixture.git(&["reflog", "next"]).contains("merge"));
}

#[test]
fn conflicts_are_listed_and_change_nothing() {
    let (fixture, worktree) = start();
    for (path, text) in [(worktree.path(), "mine"), (&fixture.repo(), "theirs")] {
        commit(path, "README", text);
        commit(path, "src/a \"b\"\n", text);
    }
    let before = state(&fixture, &worktree);
    for options in [
        MergeOptions::new(),
        MergeOptions::new().strategy(MergeStrategy::Squash),
        MergeOptions::new().dry_run(),
    ] {
        let merge = fixture.worktrees().merge(&worktree, &options).unwrap();
        let expected = ["README", "src/a \"b\"\n"].map(str::to_owned).to_vec();
        assert_eq!(merge.outcome, MergeOutcome::Conflicts(expected));
        assert!(state(&fixture, &worktree) == before, "{options:?}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let (fixture, worktree) = start();
    commit(&fixture.repo(), "theirs", "theirs\n");
    let before = state(&fixture, &worktree);
    let merge = fixture.worktrees().merge(&worktree, &MergeOptions::new().dry_run()).unwrap();
    assert_eq!(merge.outcome, MergeOutcome::WouldMerge);
    assert!(state(&fixture, &worktree) == before);
}

/// Leaves one side in a state in which nothing can be merged.
type State = fn(&Fixture, &Worktree);

#[test]
fn states_that_would_lose_something_are_refused() {
    let states: [(&str, State); 9] = [
        ("uncommitted", |_, worktree| write(&worktree.path().join("README"), "changed\n")),
        ("untracked", |_, worktree| write(&worktree.path().join("new"), "")),
        ("hidden change", |_, worktree| {
            git(worktree.path(), &["update-index", "--assume-unchanged", "README"]);
            write(&worktree.path().join("README"), "changed\n");
        }),
        ("rebase here", |_, worktree| {
            fs::create_dir(worktree.git_dir().join("rebase-merge")).unwrap();
        }),
        ("merge there", |fixture, _| {
            let head = fixture.git(&["rev-parse", "HEAD"]);
            write(&fixture.repo().join(".git/MERGE_HEAD"), head);
        }),
        ("its file is changed there", |fixture, worktree| {
            commit(worktree.path(), "README", "mine\n");
            fixture.write("README", "theirs\n");
        }),
        ("its file is staged there", |fixture, _| {
            fixture.write("mine", "theirs\n");
            fixture.git(&["add", "mine"]);
        }),
        ("its file is untracked there", |fixture, _| fixture.write("mine", "theirs\n")),
        ("its file is ignored there", |fixture, worktree| {
            write(&worktree.path().join("build.log"), "mine\n");
            git(worktree.path(), &["add", "--force", "build.log"]);
            git(worktree.path(), &["commit", "--quiet", "--message=log"]);
            fixture.write("build.log", "theirs\n");
        }),
    ];
    for (case, leave) in states {
        let (fixture, worktree) = start();
        leave(&fixture, &worktree);
        let before = state(&fixture, &worktree);
        let error = fixture.worktrees().merge(&worktree, &MergeOptions::new()).unwrap_err();
        assert!(
            matches!(
                error,
                WorktreeError::Uncommitted { .. }
                    | WorktreeError::OperationInProgress { .. }
                    | WorktreeError::TargetDirty { .. }
            ),
            "{case}: {error:?}"
        );
        assert!(state(&fixture, &worktree) == before, "{case}");
    }
    // What does not overlap stays as it is.
    let (fixture, worktree) = start();
    write(&worktree.path().join("README"), "mine, not committed\n");
    fixture.write("README", "theirs, not committed\n");
    merged(fixture.worktrees().merge(&worktree, &MergeOptions::new().committed_only()).unwrap().outcome);
    assert_eq!(fs::read_to_string(fixture.repo().join("README")).unwrap(), "theirs, not committed\n");
    assert_eq!(fixture.git(&["status", "--porcelain"]), " M README");
}

#[test]
fn a_target_that_is_no_branch_is_refused() {
    let (fixture, worktree) = start();
    fixture.git(&["update-ref", "refs/remotes/origin/main", "main"]);
    fixture.git(&["tag", "v1"]);
    for into in ["feature/fix", "origin/main", "nothing", "v1", "--help", "a..b"] {
        let options = MergeOptions::new().into_branch(into);
        let error = fixture.worktrees().merge(&worktree, &options).unwrap_err();
        assert!(matches!(error, WorktreeError::NoTarget { .. }), "{into}: {error:?}");
    }
}

#[test]
fn a_target_that_moves_meanwhile_is_merged_again() {
    for (into, call) in
        [("main", "merge"), ("main", "commit-tree"), ("next", "update-ref"), ("next", "merge-tree")]
    {
        let (fixture, worktree) = start();
        fixture.git(&["branch", "next"]);
        commit(&fixture.repo(), "theirs", "theirs\n");
        fixture.git(&["branch", "--force", "next", "main"]);
        let script = if into == "main" {
            "echo moved >moved && git add moved && git commit -q -m moved"
        } else {
            "git update-ref refs/heads/next $(git commit-tree -p next -m moved next^{tree})"
        };
        let program = git_after(&fixture, call, script);
        let worktrees = Worktrees::with_git(&Git::new(program), fixture.repo()).unwrap();
        let result =
            merged(worktrees.merge(&worktree, &MergeOptions::new().into_branch(into)).unwrap().outcome);
        assert!(fixture.folder.path().join("done").exists(), "{into}, {call}");
        assert_eq!(fixture.git(&["rev-parse", into]), result, "{into}, {call}");
        let log = fixture.git(&["log", "--format=%s", into]);
        for subject in ["moved", "change mine", "change theirs"] {
            assert!(log.lines().any(|line| line == subject), "{into}, {call}: {log}");
        }
        assert_eq!(fixture.git(&["status", "--porcelain"]), "", "{into}, {call}");
    }
}

#[test]
fn nothing_of_the_repository_runs_in_a_merge() {
    let (fixture, worktree) = start();
    let ran = fixture.folder.path().join("ran");
    let script = format!("#!/bin/sh\necho $0 >>{}\n", ran.display());
    for hook in ["post-merge", "pre-merge-commit", "reference-transaction", "post-checkout", "commit-msg"] {
        let path = fixture.repo().join(".git/hooks").join(hook);
        write(&path, &script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let base = worktree.path().join("shared");
    for (path, text) in [(base, "one\ntwo\n"), (fixture.repo().join("shared"), "two\nthree\n")] {
        let dir = path.parent().unwrap();
        write(&path, text);
        write(&dir.join(".gitattributes"), "shared merge=evil\n");
        git(dir, &["-c", "core.hooksPath=/dev/null", "add", "--all"]);
        git(dir, &["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--message=shared"]);
    }
    fixture.git(&["config", "merge.evil.driver", &format!("touch {}", ran.display())]);
    let merge = fixture.worktrees().merge(&worktree, &MergeOptions::new()).unwrap();
    assert!(matches!(&merge.outcome, MergeOutcome::Conflicts(paths) if paths == &["shared"]), "{merge:?}");
    git(worktree.path(), &["-c", "core.hooksPath=/dev/null", "rm", "--quiet", "shared", ".gitattributes"]);
    git(worktree.path(), &["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--message=gone"]);
    merged(fixture.worktrees().merge(&worktree, &MergeOptions::new()).unwrap().outcome);
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap());
}

#[test]
fn submodules_of_both_sides_are_merged() {
    let (fixture, worktree) = start();
    let lib = Fixture::new();
    let url = lib.repo();
    git(worktree.path(), &["submodule", "--quiet", "add", url.to_str().unwrap(), "lib"]);
    git(worktree.path(), &["commit", "--quiet", "--message=lib"]);
    commit(&fixture.repo(), "theirs", "theirs\n");
    let result = merged(fixture.worktrees().merge(&worktree, &MergeOptions::new()).unwrap().outcome);
    assert!(fixture.git(&["ls-tree", &result, "lib"]).starts_with("160000 commit"));
    assert_eq!(fixture.git(&["diff", "--cached", "--name-only"]), "");
}

#[test]
fn a_merge_without_a_user_is_refused() {
    let (fixture, worktree) = start();
    commit(&fixture.repo(), "theirs", "theirs\n");
    // Not even one that the configuration of this machine names.
    fixture.git(&["config", "user.name", ""]);
    let before = state(&fixture, &worktree);
    let error = fixture.worktrees().merge(&worktree, &MergeOptions::new()).unwrap_err();
    assert!(matches!(&error, WorktreeError::Git { what, .. } if what == "write a commit"), "{error:?}");
    assert!(state(&fixture, &worktree) == before);
}
