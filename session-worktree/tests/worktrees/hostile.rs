//! Hostile and unlucky states: the right result, or an error that names what is wrong, and nothing is lost.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use session_core::SessionId;
use session_worktree::{NewWorktree, RemoveOptions, Slug, Worktree, WorktreeError, Worktrees};

use crate::fixture::{Fixture, content, git, git_command, write};

fn create(worktrees: &Worktrees, folder: Option<&Path>) -> Result<Worktree, WorktreeError> {
    let mut new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    if let Some(folder) = folder {
        new = new.folder(folder);
    }
    Ok(worktrees.create(&worktrees.plan(&new)?)?.unwrap())
}

/// Works in a worktree, removes it, and puts it back.
fn round_trip(worktrees: &Worktrees, worktree: &Worktree, case: &str) {
    let path = worktree.path();
    write(&path.join("README"), "changed\n");
    write(&path.join("new"), "new\n");
    git(path, &["add", "new"]);
    let state = || git(path, &["status", "--porcelain=v2"]) + &git(path, &["rev-parse", "HEAD"]);
    let before = (content(path), state());
    let status = worktrees.status(worktree, None).unwrap();
    assert!(!status.is_clean(), "{case}");
    let entry = worktrees
        .remove(worktree, RemoveOptions::new())
        .unwrap_or_else(|error| panic!("{case}: {error}"))
        .entry;
    assert!(!path.exists(), "{case}");
    worktrees.restore(&entry.id, None).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!((content(path), state()), before, "{case}");
}

/// Clones the repository of a fixture with these arguments.
fn clone(fixture: &Fixture, args: &[&str]) -> PathBuf {
    let to = fixture.folder.path().join("clone");
    let from = format!("file://{}", fixture.repo().display());
    let mut all = vec!["clone", "--quiet"];
    all.extend(args);
    all.extend([from.as_str(), to.to_str().unwrap()]);
    git(fixture.folder.path(), &all);
    to
}

/// Changes a repository, and returns the directory to work from.
type Change = fn(&Fixture) -> PathBuf;

#[test]
fn repositories_of_every_kind_work() {
    let kinds: [(&str, Change); 17] = [
        ("bare", |fixture| clone(fixture, &["--bare"])),
        ("shallow", |fixture| {
            fixture.git(&["commit", "--quiet", "--allow-empty", "--message=second"]);
            clone(fixture, &["--depth=1"])
        }),
        ("partial", |fixture| {
            fixture.git(&["config", "uploadpack.allowFilter", "true"]);
            clone(fixture, &["--filter=blob:none"])
        }),
        ("borrowed objects", |fixture| {
            let to = fixture.folder.path().join("clone");
            git(fixture.folder.path(), &["clone", "--quiet", "--shared", "repo", to.to_str().unwrap()]);
            to
        }),
        ("mirror", |fixture| clone(fixture, &["--mirror"])),
        ("git directory elsewhere", |fixture| {
            let elsewhere = fixture.folder.path().join("elsewhere");
            clone(fixture, &["--separate-git-dir", elsewhere.to_str().unwrap()])
        }),
        ("detached", |fixture| {
            fixture.git(&["checkout", "--quiet", "--detach"]);
            fixture.repo()
        }),
        ("a directory below", |fixture| fixture.repo().join("src")),
        ("inside of .git", |fixture| fixture.repo().join(".git/objects")),
        ("from another worktree", |fixture| fixture.create("other").path().to_owned()),
        ("packed refs", |fixture| {
            fixture.git(&["pack-refs", "--all"]);
            fixture.git(&["gc", "--quiet"]);
            fixture.repo()
        }),
        ("through a link", |fixture| {
            let link = fixture.folder.path().join("link");
            symlink(fixture.repo(), &link).unwrap();
            link
        }),
        ("sparse", |fixture| {
            fixture.git(&["sparse-checkout", "set", "src"]);
            fixture.repo()
        }),
        ("worktree configuration", |fixture| {
            fixture.git(&["config", "extensions.worktreeConfig", "true"]);
            fixture.git(&["config", "--worktree", "core.autocrlf", "true"]);
            fixture.repo()
        }),
        ("relative paths", |fixture| {
            fixture.git(&["config", "worktree.useRelativePaths", "true"]);
            fixture.repo()
        }),
        ("two names of one file", |fixture| {
            fixture.write("readme", "another one\n");
            fixture.git(&["add", "--all"]);
            fixture.git(&["commit", "--quiet", "--message=case"]);
            fixture.repo()
        }),
        ("pointers of large files", |fixture| {
            // The filter is not installed: the pointers are what there is.
            fixture.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
            fixture.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
            fixture.git(&["add", "--all"]);
            fixture.git(&["commit", "--quiet", "--message=large"]);
            fixture.repo()
        }),
    ];
    for (case, change) in kinds {
        let fixture = Fixture::new();
        let dir = change(&fixture);
        let worktrees = Worktrees::new(&dir).unwrap_or_else(|error| panic!("{case}: {error}"));
        let worktree = create(&worktrees, None).unwrap_or_else(|error| panic!("{case}: {error}"));
        round_trip(&worktrees, &worktree, case);
    }
}

#[test]
fn names_of_repositories_can_have_any_bytes() {
    let names: [&[u8]; 6] =
        [b"with blanks", b"with\nline", b"\"quotes'", b"-dash", b"\xff\xfe", b"$(touch ran)"];
    for name in names {
        let name = OsStr::from_bytes(name);
        let fixture = Fixture::new();
        let moved = fixture.folder.path().join(name);
        fs::rename(fixture.repo(), &moved).unwrap();
        let worktrees = Worktrees::new(&moved).unwrap();
        let worktree = create(&worktrees, None).unwrap();
        let mut place = OsString::from(name);
        place.push(".worktrees");
        assert_eq!(worktree.path().parent().unwrap().file_name().unwrap(), place);
        let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
        assert_eq!(worktrees.restore(&entry.id, None).unwrap(), worktree);
        assert_eq!(worktree.record().locate().unwrap(), worktree);
    }
}

#[test]
fn a_repository_with_other_hashes_works() {
    let folder = tempfile::tempdir().unwrap();
    let repo = folder.path().join("repo");
    git(folder.path(), &["init", "--quiet", "--object-format=sha256", "repo"]);
    write(&repo.join("README"), "hello\n");
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "--quiet", "--message=first"]);
    let worktrees = Worktrees::new(&repo).unwrap();
    round_trip(&worktrees, &create(&worktrees, None).unwrap(), "sha256");
}

#[test]
fn another_file_system_keeps_its_own_trash() {
    let fixture = Fixture::new();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    if other.path().metadata().unwrap().dev() == fixture.repo().metadata().unwrap().dev() {
        return;
    }
    let worktrees = fixture.worktrees();
    let worktree = create(&worktrees, Some(other.path())).unwrap();
    round_trip(&worktrees, &worktree, "another file system");
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let to = fixture.folder.path().join("here");
    assert!(matches!(worktrees.restore(&entry.id, Some(&to)), Err(WorktreeError::NoPlace { .. })));
    worktrees.restore(&entry.id, None).unwrap();
}

#[test]
fn submodules_come_back_with_their_commits() {
    let fixture = Fixture::new();
    let library = Fixture::new();
    let url = format!("file://{}", library.repo().display());
    fixture.git(&["submodule", "--quiet", "add", &url, "lib"]);
    fixture.git(&["commit", "--quiet", "--message=submodule"]);
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    git(worktree.path(), &["submodule", "--quiet", "update", "--init"]);
    let lib = worktree.path().join("lib");
    write(&lib.join("README"), "changed\n");
    git(&lib, &["commit", "--quiet", "--all", "--message=own"]);
    let own = git(&lib, &["rev-parse", "HEAD"]);
    assert!(!worktrees.status(&worktree, None).unwrap().is_clean());
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!(entry.pin.unkept, ["lib"]);
    assert_eq!(worktrees.purge(&entry.id, false).unwrap(), None, "its commits are nowhere else");
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(git(&lib, &["rev-parse", "HEAD"]), own);
    assert_eq!(git(&lib, &["status", "--porcelain"]), "");
}

#[test]
fn without_a_user_everything_works() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    fixture.git(&["config", "user.useConfigOnly", "true"]);
    round_trip(&worktrees, &worktree, "no user");
}

/// Damages a worktree, of which only an error may come.
type Damage = fn(&Worktree);

#[test]
fn what_is_no_worktree_any_more_is_refused() {
    let damages: [(&str, Damage); 9] = [
        ("a link to nothing is in its place", |worktree| {
            fs::remove_dir_all(worktree.path()).unwrap();
            std::os::unix::fs::symlink("/nowhere", worktree.path()).unwrap();
        }),
        ("a file is in its place", |worktree| {
            fs::remove_dir_all(worktree.path()).unwrap();
            fs::write(worktree.path(), "").unwrap();
        }),
        ("its link is gone", |worktree| fs::remove_file(worktree.path().join(".git")).unwrap()),
        ("a repository of its own", |worktree| {
            fs::remove_file(worktree.path().join(".git")).unwrap();
            git(worktree.path(), &["init", "--quiet"]);
        }),
        ("its link names another", |worktree| {
            fs::write(worktree.path().join(".git"), "gitdir: /nowhere\n").unwrap();
        }),
        ("its link is a pipe", |worktree| {
            let link = worktree.path().join(".git");
            fs::remove_file(&link).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&link).status().unwrap().success());
        }),
        ("its registration is gone", |worktree| fs::remove_dir_all(worktree.git_dir()).unwrap()),
        ("its mark is damaged", |worktree| fs::write(worktree.git_dir().join("session.json"), "{").unwrap()),
        ("its registration names nothing", |worktree| {
            fs::write(worktree.git_dir().join("gitdir"), "").unwrap();
        }),
    ];
    for (case, damage) in damages {
        let fixture = Fixture::new();
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        damage(&worktree);
        let left = content(fixture.folder.path());
        for error in [
            worktree.record().locate().map(drop).unwrap_err(),
            worktrees.remove(&worktree, RemoveOptions::new()).map(drop).unwrap_err(),
        ] {
            assert!(
                matches!(error, WorktreeError::Gone { .. } | WorktreeError::Io { .. }),
                "{case}: {error:?}"
            );
        }
        let mut after = content(fixture.folder.path());
        after.retain(|path, _| !path.starts_with("repo/.git/sessions"));
        let mut left = left;
        left.retain(|path, _| !path.starts_with("repo/.git/sessions"));
        assert_eq!(after, left, "{case}: nothing was changed");
    }
}

#[test]
fn files_that_are_no_files_are_kept_in_the_trash() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    assert!(std::process::Command::new("mkfifo").arg(path.join("pipe")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    symlink("loop", path.join("loop")).unwrap();
    symlink("/etc", path.join("etc")).unwrap();
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!(entry.pin.unkept, ["pipe", "socket"]);
    assert_eq!(worktrees.purge(&entry.id, false).unwrap(), None);
    worktrees.restore(&entry.id, None).unwrap();
    assert!(path.join("etc").is_symlink() && path.join("pipe").exists());
}

#[test]
fn a_lock_of_git_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("fix"));
    let plan = worktrees.plan(&new).unwrap();
    let lock = fixture.repo().join(".git/refs/heads/feature/fix.lock");
    write(&lock, "");
    let error = worktrees.create(&plan).unwrap_err();
    assert!(error.to_string().contains("fix.lock"), "{error}");
    assert!(!plan.path.exists() && worktrees.list().unwrap().is_empty());
    fs::remove_file(&lock).unwrap();
    let worktree = worktrees.create(&plan).unwrap().unwrap();
    // One in the worktree is somebody who works there, or did: it is kept as it is.
    fs::write(worktree.git_dir().join("index.lock"), "").unwrap();
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert!(restored.git_dir().join("index.lock").exists());
}

#[test]
fn a_missing_object_of_the_index_is_refused() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    write(&worktree.path().join("README"), "staged\n");
    git(worktree.path(), &["add", "README"]);
    let blob = git(worktree.path(), &["rev-parse", ":README"]);
    let (folder, file) = blob.split_at(2);
    fs::remove_file(fixture.repo().join(".git/objects").join(folder).join(file)).unwrap();
    let error = worktrees.pin(&worktree).unwrap_err();
    assert!(matches!(&error, WorktreeError::CannotPin { reason, .. } if reason.contains(&blob)), "{error}");
    assert!(worktrees.remove(&worktree, RemoveOptions::new()).is_err());
    assert!(worktree.record().locate().is_ok() && worktrees.trash().unwrap().is_empty());
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    fs::write(fixture.folder.path().join("file"), "").unwrap();
    let error = create(&worktrees, Some(&fixture.folder.path().join("file"))).unwrap_err();
    assert!(matches!(error, WorktreeError::Io { .. }), "{error}");
    assert_eq!(fixture.git(&["branch", "--list", "feature/*"]), "");
    let listed = git_command(&fixture.repo(), &["worktree", "list", "--porcelain"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).matches("worktree ").count(), 1);
}
