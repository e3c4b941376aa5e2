//! Creation: place, branch, lock and mark.

use std::fs;
use std::path::PathBuf;

use session_core::Clock as _;
use session_core::{SessionId, SystemClock, Timestamp};
use session_worktree::{Base, NewWorktree, RecoveredCreation, RecoveredEntry, Slug, Worktree, WorktreeError};

use crate::fixture::{Fixture, git, write};

#[test]
fn a_worktree_lies_next_to_its_repository_on_its_own_branch() {
    let fixture = Fixture::new();
    let worktree = fixture.create("Fix the login");
    assert_eq!(worktree.path(), fixture.folder.path().join("repo.worktrees/fix-the-login"));
    assert_eq!(worktree.branch().unwrap().as_deref(), Some("feature/fix-the-login"));
    assert_eq!(git(worktree.path(), &["rev-parse", "HEAD"]), fixture.git(&["rev-parse", "main"]));
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    let listed = fixture.git(&["worktree", "list", "--porcelain"]);
    assert!(listed.contains(&format!("locked session-worktree: session {}", worktree.session())), "{listed}");
    assert_eq!(Worktree::at(worktree.path()).unwrap(), worktree);
    assert_eq!(worktree.record().locate().unwrap(), worktree);
    assert_eq!(fixture.worktrees().list().unwrap(), [worktree]);
}

#[test]
fn a_taken_name_gets_a_number() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..3).map(|_| fixture.create("fix").branch().unwrap().unwrap()).collect();
    assert_eq!(names, ["feature/fix", "feature/fix-2", "feature/fix-3"]);
    // A directory, a branch, and branches below it are in the way, too.
    fs::create_dir(fixture.folder.path().join("repo.worktrees/fix-4")).unwrap();
    fixture.git(&["branch", "feature/fix-5"]);
    fixture.git(&["branch", "feature/fix-6/deeper"]);
    assert_eq!(fixture.create("fix").branch().unwrap().unwrap(), "feature/fix-7");
}

#[test]
fn a_branch_named_feature_moves_the_others() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "feature"]);
    assert_eq!(fixture.create("fix").branch().unwrap().unwrap(), "sessions/fix");
}

#[test]
fn the_base_is_never_another_than_the_given_one() {
    let fixture = Fixture::new();
    fixture.git(&["checkout", "--quiet", "-b", "work"]);
    fixture.write("README", "changed\n");
    fixture.git(&["commit", "--quiet", "--all", "--message=second"]);
    let worktrees = fixture.worktrees();
    let plan = |base| {
        let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix")).base(base);
        worktrees.plan(&new).map(|plan| (plan.base, plan.base_branch))
    };
    let (work, main) = (fixture.git(&["rev-parse", "work"]), fixture.git(&["rev-parse", "main"]));
    assert_eq!(plan(Base::Head).unwrap(), (work, Some("work".to_owned())));
    assert_eq!(plan(Base::Default).unwrap(), (main.clone(), Some("main".to_owned())));
    assert_eq!(plan(Base::Named("main".to_owned())).unwrap(), (main.clone(), Some("main".to_owned())));
    assert_eq!(plan(Base::Named("work~1".to_owned())).unwrap(), (main, None));
    for name in ["--help", "a..b", "@{", "nonsense", "", "main^{tree}", "HEAD:README"] {
        let error = plan(Base::Named(name.to_owned())).unwrap_err();
        assert!(matches!(error, WorktreeError::UnknownBase { .. }), "{name}: {error}");
    }
    assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 1, "a plan creates nothing");
}

#[test]
fn an_unborn_branch_is_refused() {
    let fixture = Fixture::new();
    fixture.git(&["checkout", "--quiet", "--orphan", "empty"]);
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    let error = fixture.worktrees().plan(&new).unwrap_err();
    assert!(matches!(&error, WorktreeError::Unborn { what } if what == "branch `empty`"), "{error}");
}

#[test]
fn outside_of_a_repository_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let error = session_worktree::Worktrees::new(folder.path()).unwrap_err();
    assert!(matches!(error, WorktreeError::NotARepository { .. }), "{error}");
}

#[test]
fn hooks_and_filters_of_the_repository_are_not_run() {
    let fixture = Fixture::new();
    let ran = fixture.folder.path().join("ran");
    let script = format!("#!/bin/sh\necho $0 >>{}\ncat\n", ran.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"] {
        write(&fixture.repo().join(".git/hooks").join(hook), &script);
    }
    write(&fixture.folder.path().join("evil"), &script);
    let evil = fixture.folder.path().join("evil");
    for path in [
        ".git/hooks/post-checkout",
        ".git/hooks/reference-transaction",
        ".git/hooks/post-index-change",
        "../evil",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(fixture.repo().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let evil = evil.to_str().unwrap();
    fixture.write(".gitattributes", "*.txt filter=evil diff=evil\n");
    fixture.write("a.txt", "text\n");
    fixture.git(&["-c", "core.hooksPath=/dev/null", "add", "--all"]);
    fixture.git(&["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--message=attributes"]);
    for (name, value) in [
        ("filter.evil.smudge", evil),
        ("filter.evil.clean", evil),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", evil),
        ("core.fsmonitor", evil),
        ("core.sshCommand", evil),
        ("core.pager", evil),
    ] {
        fixture.git(&["-c", "core.fsmonitor=false", "config", name, value]);
    }
    let worktree = fixture.create("fix");
    assert_eq!(fs::read_to_string(worktree.path().join("a.txt")).unwrap(), "text\n");
    let worktrees = fixture.worktrees();
    write(&worktree.path().join("a.txt"), "changed\n");
    worktrees.pin(&worktree).unwrap();
    worktrees.remove(&worktree, session_worktree::RemoveOptions::new()).unwrap();
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap());
}

/// The filters that `git-crypt` and its like configure in a repository ran never, so that its worktrees had other files than the main one.
#[test]
fn approved_filters_run_until_they_change() {
    let fixture = Fixture::new();
    fixture.write(".gitattributes", "*.txt filter=upper\n");
    fixture.write("a.txt", "text\n");
    fixture.git(&["add", "--all"]);
    fixture.git(&["commit", "--quiet", "--message=attributes"]);
    fixture.git(&["config", "filter.upper.smudge", "tr a-z A-Z"]);
    fixture.git(&["config", "filter.upper.clean", "tr A-Z a-z"]);
    let settings = fixture.worktrees().unapproved_settings().unwrap();
    assert_eq!(settings, "filter.upper.clean=tr A-Z a-z\nfilter.upper.smudge=tr a-z A-Z\n");
    let create = |name: &str| {
        let worktrees = fixture.worktrees().approve(&*settings);
        let new = NewWorktree::new(SessionId::random(), Slug::from_text(name));
        let worktree = worktrees.create(&worktrees.plan(&new).unwrap()).unwrap().unwrap();
        let text = fs::read_to_string(worktree.path().join("a.txt")).unwrap();
        (text, worktrees.status(&worktree, None).unwrap().is_clean(), worktrees.unapproved().unwrap())
    };
    assert_eq!(create("one"), ("TEXT\n".to_owned(), true, Vec::new()));
    fixture.git(&["config", "filter.upper.smudge", "tr a-z B"]);
    assert_eq!(create("two"), ("text\n".to_owned(), true, vec!["filter upper".to_owned()]));
    assert_eq!(fixture.worktrees().unapproved_settings().unwrap().lines().count(), 2);
}

#[test]
fn variables_of_git_do_not_change_the_repository() {
    let fixture = Fixture::new();
    let other = Fixture::new();
    // Of this test's process only: the child below is asked, not this process.
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "create::__in_another_repository", "--nocapture"]);
    command.env("WORKTREE_TEST_REPOSITORY", fixture.repo()).env("GIT_DIR", other.repo().join(".git"));
    command.env("GIT_WORK_TREE", other.repo()).env("GIT_INDEX_FILE", other.repo().join(".git/index"));
    assert!(command.status().unwrap().success());
    assert_eq!(fixture.worktrees().list().unwrap().len(), 1);
    assert_eq!(other.worktrees().list().unwrap().len(), 0);
}

/// Not a test unless the variable is set.
#[test]
fn __in_another_repository() {
    let Some(repository) = std::env::var_os("WORKTREE_TEST_REPOSITORY") else { return };
    let worktrees = session_worktree::Worktrees::new(repository).unwrap();
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    worktrees.create(&worktrees.plan(&new).unwrap()).unwrap().unwrap();
}

#[test]
fn many_are_created_concurrently() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let create = || {
        let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
        loop {
            if let Some(created) = worktrees.create(&worktrees.plan(&new).unwrap()).unwrap() {
                return created;
            }
        }
    };
    let created: Vec<Worktree> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut listed = worktrees.list().unwrap();
    listed.sort_by_key(|worktree| worktree.path().to_owned());
    let mut created = created;
    created.sort_by_key(|worktree| worktree.path().to_owned());
    assert_eq!(listed, created);
}

#[test]
fn an_interrupted_creation_is_rolled_back() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    let plan = worktrees.plan(&new).unwrap();
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::Nothing);
    let worktree = worktrees.create(&plan).unwrap().unwrap();
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::Completed(worktree.clone()));
    // As if the mark had not been written yet.
    fs::remove_file(worktree.git_dir().join("session.json")).unwrap();
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::RolledBack);
    assert!(!worktree.path().exists());
    assert_eq!(fixture.git(&["branch", "--list", "feature/*"]), "");
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::Nothing);
    worktrees.create(&plan).unwrap().unwrap();
}

/// Another tool names its sessions, too, and may use the same kind of id.
#[test]
fn a_worktree_that_another_tool_has_locked_is_left() {
    let fixture = Fixture::new();
    let theirs = fixture.folder.path().join("theirs");
    let reason = format!("session {}", SessionId::random());
    fixture.git(&["worktree", "add", "--quiet", "--lock", "--reason", &reason, theirs.to_str().unwrap()]);
    write(&theirs.join("work"), "of hours\n");
    assert_eq!(fixture.worktrees().recover().unwrap(), []);
    assert_eq!(fs::read_to_string(theirs.join("work")).unwrap(), "of hours\n");
    git(&theirs, &["status"]);
}

/// A person may have worked in it, and no snapshot keeps that.
#[test]
fn what_was_never_completed_is_deleted_only_on_request() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    write(&worktree.path().join("work"), "of hours\n");
    fs::remove_file(worktree.git_dir().join("session.json")).unwrap();
    let recovered = worktrees.recover().unwrap();
    assert!(matches!(recovered[..], [RecoveredEntry::RolledBack(_)]), "{recovered:?}");
    let year = i64::from(365 * 24 * 3600) * 1000;
    let later = Timestamp::from_millis(SystemClock.now().as_millis() + year).unwrap();
    assert_eq!(worktrees.purge_older(later).unwrap(), Vec::<PathBuf>::new());
    let leftovers = worktrees.leftovers().unwrap();
    assert_eq!(leftovers.len(), 1);
    assert!(worktrees.purge_leftover(&leftovers[0]).unwrap() > 0);
    assert_eq!(worktrees.leftovers().unwrap(), []);
}

#[test]
fn a_worktree_in_place_of_another_is_not_taken_for_it() {
    let fixture = Fixture::new();
    let worktree = fixture.create("fix");
    let record = worktree.record();
    // Moved by git, it is followed.
    let moved = fixture.folder.path().join("elsewhere");
    fixture.git(&[
        "worktree",
        "move",
        "--force",
        "--force",
        worktree.path().to_str().unwrap(),
        moved.to_str().unwrap(),
    ]);
    assert_eq!(record.locate().unwrap().path(), moved);
    // Removed by hand and created again, it is another one.
    fixture.git(&["worktree", "remove", "--force", "--force", moved.to_str().unwrap()]);
    assert!(matches!(record.locate(), Err(WorktreeError::Gone { .. })));
    let path = worktree.path().to_str().unwrap();
    fixture.git(&["worktree", "add", "--quiet", path, "feature/fix"]);
    assert!(matches!(record.locate(), Err(WorktreeError::Gone { .. })));
    assert!(matches!(Worktree::at(worktree.path()), Err(WorktreeError::NotOurs { .. })));
    assert!(Worktree::at(&fixture.repo()).is_err());
    // So it is if it is one of another session.
    fixture.git(&["worktree", "remove", "--force", path]);
    fixture.git(&["branch", "-D", "feature/fix"]);
    let other = fixture.create("fix");
    assert_eq!((other.path(), other.git_dir()), (worktree.path(), worktree.git_dir()));
    assert!(matches!(record.locate(), Err(WorktreeError::Gone { .. })));
}

#[test]
fn a_branch_that_a_killed_git_has_left_is_removed() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    let plan = worktrees.plan(&new).unwrap();
    let branches = || fixture.git(&["branch", "--list", "feature/*", "--format=%(refname:short)"]);
    // A person names a commit in another way.
    fixture.git(&["branch", "feature/fix", "main"]);
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::Nothing);
    assert_eq!(branches(), "feature/fix");
    fixture.git(&["branch", "-D", "feature/fix"]);
    fixture.git(&["branch", "feature/fix", &plan.base]);
    assert_eq!(worktrees.recover_creation(&plan).unwrap(), RecoveredCreation::RolledBack);
    assert_eq!(branches(), "");
}
