//! Proofs of merges: what another branch has under other commits is found, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use session_worktree::{BranchOutcome, MergeProofKind, RemoveOptions, Worktree};

use crate::fixture::{Fixture, git, write};

/// Lines of a file, far enough apart to be changed independently.
fn lines(changed: &[(usize, &str)]) -> String {
    let line = |number: usize| {
        let new = changed.iter().find(|(at, _)| *at == number).map(|(_, text)| (*text).to_owned());
        new.unwrap_or_else(|| format!("line {number}")) + "\n"
    };
    (0..60).map(line).collect()
}

fn commit(dir: &Path, message: &str) -> String {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--allow-empty", &format!("--message={message}")]);
    git(dir, &["rev-parse", "HEAD"])
}

/// A repository with a file of 60 lines and binary content, and a worktree of it.
fn start() -> (Fixture, Worktree) {
    let fixture = Fixture::new();
    fixture.write("text", &lines(&[]));
    write(&fixture.repo().join("binary"), [0, 1, 2, 0]);
    commit(&fixture.repo(), "text");
    let worktree = fixture.create("fix");
    (fixture, worktree)
}

/// Changes the worktree and the main branch, and returns the proof.
fn proven(case: &str, change: impl Fn(&Fixture, &Path)) -> Option<MergeProofKind> {
    let (fixture, worktree) = start();
    change(&fixture, worktree.path());
    let proof = fixture.worktrees().merged(&worktree).unwrap();
    if let Some(proof) = &proof {
        assert_eq!(proof.commit, git(worktree.path(), &["rev-parse", "HEAD"]), "{case}");
        assert_eq!(proof.target, fixture.git(&["rev-parse", &proof.into]), "{case}");
    }
    proof.map(|proof| proof.kind)
}

/// Commits two changes in a worktree.
fn two_commits(path: &Path) {
    write(&path.join("text"), lines(&[(3, "three")]));
    commit(path, "one");
    write(&path.join("text"), lines(&[(3, "three"), (30, "thirty")]));
    write(&path.join("new"), "new\n");
    commit(path, "two");
}

fn cherry_pick(fixture: &Fixture, path: &Path, range: &str) {
    let commits = git(path, &["rev-list", "--reverse", range]);
    for commit in commits.lines() {
        fixture.git(&["cherry-pick", "--allow-empty", commit]);
    }
}

#[test]
fn every_way_to_merge_is_proven() {
    use MergeProofKind::{Ancestor, EqualPatches, EqualTrees, NoChange, NothingToMerge};
    type Change = fn(&Fixture, &Path);
    let cases: [(&str, MergeProofKind, Change); 13] = [
        ("nothing was committed", Ancestor, |_, _| {}),
        ("fast-forward", Ancestor, |fixture, path| {
            two_commits(path);
            fixture.git(&["merge", "--quiet", "--ff-only", "feature/fix"]);
        }),
        ("merge commit", Ancestor, |fixture, path| {
            two_commits(path);
            fixture.git(&["merge", "--quiet", "--no-ff", "--no-edit", "feature/fix"]);
        }),
        ("squash", EqualTrees, |fixture, path| {
            two_commits(path);
            fixture.git(&["merge", "--quiet", "--squash", "feature/fix"]);
            commit(&fixture.repo(), "squashed");
        }),
        ("squash, and work after it", NothingToMerge, |fixture, path| {
            two_commits(path);
            fixture.git(&["merge", "--quiet", "--squash", "feature/fix"]);
            commit(&fixture.repo(), "squashed");
            fixture.write("text", &lines(&[(3, "three"), (30, "thirty"), (50, "fifty")]));
            commit(&fixture.repo(), "after");
        }),
        ("squash onto other work", NothingToMerge, |fixture, path| {
            two_commits(path);
            fixture.write("text", &lines(&[(50, "fifty")]));
            commit(&fixture.repo(), "before");
            fixture.git(&["merge", "--quiet", "--squash", "feature/fix"]);
            commit(&fixture.repo(), "squashed");
        }),
        ("rebase, and its lines changed again", EqualPatches, |fixture, path| {
            two_commits(path);
            fixture.write("text", &lines(&[(50, "fifty")]));
            commit(&fixture.repo(), "before");
            cherry_pick(fixture, path, "main..feature/fix");
            fixture.write("text", &lines(&[(3, "drei"), (30, "dreißig"), (50, "fifty")]));
            commit(&fixture.repo(), "after");
        }),
        ("cherry-picks in another order", EqualPatches, |fixture, path| {
            two_commits(path);
            fixture.git(&["cherry-pick", "feature/fix"]);
            fixture.git(&["cherry-pick", "feature/fix~1"]);
            fixture.write("text", &lines(&[(3, "3"), (30, "30")]));
            commit(&fixture.repo(), "after");
        }),
        ("binary content, rebased", EqualPatches, |fixture, path| {
            write(&path.join("binary"), [9, 0, 9]);
            commit(path, "binary");
            fixture.write("other", "");
            commit(&fixture.repo(), "before");
            cherry_pick(fixture, path, "main..feature/fix");
            write(&fixture.repo().join("binary"), [7, 0, 7]);
            commit(&fixture.repo(), "after");
        }),
        ("its changes cancel each other", NoChange, |fixture, path| {
            two_commits(path);
            git(path, &["revert", "--no-edit", "HEAD", "HEAD~1"]);
            fixture.write("other", "");
            commit(&fixture.repo(), "other");
        }),
        ("empty commits only", NoChange, |fixture, path| {
            commit(path, "empty");
            fixture.write("other", "");
            commit(&fixture.repo(), "other");
        }),
        ("merged upstream only", Ancestor, |fixture, path| {
            let remote = fixture.folder.path().join("remote");
            git(path, &["clone", "--quiet", "--bare", ".", remote.to_str().unwrap()]);
            fixture.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
            fixture.git(&["push", "--quiet", "--set-upstream", "origin", "main"]);
            two_commits(path);
            git(path, &["push", "--quiet", "origin", "HEAD:main"]);
        }),
        ("merged into a branch that follows the same upstream", Ancestor, |fixture, path| {
            fixture.git(&["switch", "--quiet", "-c", "next"]);
            two_commits(path);
            fixture.git(&["merge", "--quiet", "feature/fix"]);
            fixture.git(&["config", "remote.origin.url", "."]);
            fixture.git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]);
            fixture.git(&["update-ref", "refs/remotes/origin/main", "main"]);
            for branch in ["main", "next"] {
                fixture.git(&["branch", "--quiet", "--set-upstream-to=origin/main", branch]);
            }
            fixture.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
        }),
    ];
    for (case, expected, change) in cases {
        assert_eq!(proven(case, change), Some(expected), "{case}");
    }
}

#[test]
fn what_is_not_merged_is_never_proven() {
    type Change = fn(&Fixture, &Path);
    let cases: [(&str, Change); 14] = [
        ("one commit", |_, path| two_commits(path)),
        ("only one of two commits is picked", |fixture, path| {
            two_commits(path);
            fixture.git(&["cherry-pick", "feature/fix~1"]);
        }),
        ("the same patch, but for blanks", |fixture, path| {
            write(&path.join("text"), lines(&[(3, "    indented")]));
            commit(path, "mine");
            fixture.write("text", &lines(&[(3, "indented")]));
            commit(&fixture.repo(), "theirs");
        }),
        ("other binary content", |fixture, path| {
            write(&path.join("binary"), [9, 0, 9]);
            commit(path, "mine");
            write(&fixture.repo().join("binary"), [7, 0, 7]);
            commit(&fixture.repo(), "theirs");
        }),
        ("only a mode", |fixture, path| {
            fs::set_permissions(path.join("text"), fs::Permissions::from_mode(0o755)).unwrap();
            commit(path, "mine");
            fixture.write("other", "");
            commit(&fixture.repo(), "theirs");
        }),
        ("an empty file", |fixture, path| {
            write(&path.join("empty"), "");
            commit(path, "mine");
            fixture.write("other", "");
            commit(&fixture.repo(), "theirs");
        }),
        ("a deletion", |_, path| {
            fs::remove_file(path.join("binary")).unwrap();
            commit(path, "mine");
        }),
        ("a rename", |_, path| {
            git(path, &["mv", "text", "renamed"]);
            commit(path, "mine");
        }),
        ("a merge with changes of its own", |fixture, path| {
            two_commits(path);
            fixture.write("text", &lines(&[(50, "fifty")]));
            commit(&fixture.repo(), "theirs");
            cherry_pick(fixture, path, "main..feature/fix");
            fixture.write("text", &lines(&[(3, "3"), (30, "30"), (50, "fifty")]));
            commit(&fixture.repo(), "after");
            git(path, &["merge", "--quiet", "--no-commit", "main~3"]);
            write(&path.join("evil"), "only here\n");
            commit(path, "merge");
        }),
        ("no common history", |_, path| {
            git(path, &["checkout", "--quiet", "--orphan", "other"]);
            commit(path, "mine");
            write(&path.join("mine"), "");
            commit(path, "mine");
        }),
        ("a squash of several commits, rewritten after that", |fixture, path| {
            two_commits(path);
            fixture.git(&["merge", "--quiet", "--squash", "feature/fix"]);
            commit(&fixture.repo(), "squashed");
            fixture.write("text", &lines(&[(3, "3"), (30, "30")]));
            fs::remove_file(fixture.repo().join("new")).unwrap();
            commit(&fixture.repo(), "after");
        }),
        ("a merge that a driver decides for our side", |fixture, path| {
            fixture.git(&["config", "merge.ours.driver", "true"]);
            fixture.git(&["config", "diff.same.textconv", "echo same"]);
            fixture.git(&["config", "diff.external", "true"]);
            let attributes = "* merge=ours diff=same\n";
            write(&fixture.repo().join(".git/info/attributes"), attributes);
            write(&fixture.folder.path().join("attributes"), attributes);
            let file = fixture.folder.path().join("attributes");
            fixture.git(&["config", "core.attributesFile", file.to_str().unwrap()]);
            write(&path.join("text"), lines(&[(3, "mine")]));
            commit(path, "mine");
            fixture.write("text", &lines(&[(3, "theirs")]));
            commit(&fixture.repo(), "theirs");
        }),
        ("a driver of the same branch", |fixture, path| {
            fixture.git(&["config", "merge.ours.driver", "true"]);
            write(&path.join(".gitattributes"), "* merge=ours\n");
            write(&path.join("text"), lines(&[(3, "mine")]));
            commit(path, "mine");
            fixture.write(".gitattributes", "* merge=ours\n");
            fixture.write("text", &lines(&[(3, "theirs")]));
            commit(&fixture.repo(), "theirs");
        }),
        ("its own branch, pushed", |fixture, path| {
            let remote = fixture.folder.path().join("remote");
            git(path, &["clone", "--quiet", "--bare", ".", remote.to_str().unwrap()]);
            fixture.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
            two_commits(path);
            git(path, &["push", "--quiet", "--set-upstream", "origin", "feature/fix"]);
        }),
    ];
    for (case, change) in cases {
        assert_eq!(proven(case, change), None, "{case}");
    }
}

/// `diff.noprefix`, other contexts and algorithms gave the same commit another patch id.
#[test]
fn settings_of_diff_do_not_change_a_proof() {
    for (name, value) in [
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("diff.context", "0"),
        ("diff.interHunkContext", "40"),
        ("diff.algorithm", "patience"),
        ("diff.indentHeuristic", "true"),
        ("diff.renames", "copies"),
        ("diff.external", "false"),
        ("diff.orderFile", "/dev/null"),
        ("diff.ignoreSubmodules", "all"),
        ("diff.submodule", "log"),
        ("diff.relative", "true"),
        ("diff.suppressBlankEmpty", "true"),
        ("diff.wsErrorHighlight", "all"),
        ("diff.colorMoved", "zebra"),
        ("color.ui", "always"),
        ("core.quotePath", "true"),
        ("log.showSignature", "true"),
        ("merge.renames", "false"),
        ("patchid.stable", "false"),
        ("core.whitespace", "cr-at-eol"),
        ("core.autocrlf", "true"),
    ] {
        let kind = proven(name, |fixture, path| {
            two_commits(path);
            fixture.write("text", &lines(&[(50, "fifty")]));
            commit(&fixture.repo(), "before");
            cherry_pick(fixture, path, "main..feature/fix");
            fixture.write("text", &lines(&[(3, "3"), (30, "30"), (50, "fifty")]));
            commit(&fixture.repo(), "after");
            fixture.git(&["config", name, value]);
        });
        assert_eq!(kind, Some(MergeProofKind::EqualPatches), "{name}={value}");
    }
}

#[test]
fn a_branch_is_deleted_with_a_proof_only() {
    let (fixture, worktree) = start();
    let worktrees = fixture.worktrees();
    two_commits(worktree.path());
    let removed = worktrees.remove(&worktree, RemoveOptions::new().delete_merged_branch()).unwrap();
    assert_eq!((removed.branch, &removed.entry.merged), (BranchOutcome::Kept, &None));
    let restored = worktrees.restore(&removed.entry.id, None).unwrap();

    fixture.git(&["merge", "--quiet", "--squash", "feature/fix"]);
    commit(&fixture.repo(), "squashed");
    let removed = worktrees.remove(&restored, RemoveOptions::new().delete_merged_branch()).unwrap();
    assert_eq!(removed.branch, BranchOutcome::Deleted);
    assert_eq!(fixture.git(&["branch", "--list", "feature/*"]), "");
    let kept = &worktrees.trash().unwrap()[0];
    let proof = kept.merged.as_ref().expect("the entry has the proof");
    assert_eq!((proof.kind, proof.into.as_str()), (MergeProofKind::EqualTrees, "refs/heads/main"));
    // The entry brings the branch back, with its commits.
    worktrees.restore(&kept.id, None).unwrap();
    assert_eq!(fixture.git(&["rev-list", "--count", "main..feature/fix"]), "2");
}
