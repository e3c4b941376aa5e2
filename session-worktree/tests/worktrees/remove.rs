//! Removal and restoration: nothing is lost, whatever the state of the worktree.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use session_worktree::{
    BranchOutcome, EntryState, Git, RecoveredEntry, RemoveOptions, Worktree, WorktreeError, Worktrees,
};

use crate::fixture::{Fixture, content, git, git_command, write};
use crate::meanwhile::git_after;

/// Leaves work of every kind in a worktree.
fn work(worktree: &Worktree) {
    let path = worktree.path();
    write(&path.join("committed"), "committed\n");
    git(path, &["add", "committed"]);
    git(path, &["commit", "--quiet", "--message=work"]);
    write(&path.join("amended"), "only the reflog has it\n");
    git(path, &["add", "amended"]);
    git(path, &["commit", "--quiet", "--message=lost"]);
    git(path, &["reset", "--quiet", "--hard", "HEAD~1"]);
    write(&path.join("README"), "staged\n");
    git(path, &["add", "README"]);
    write(&path.join("README"), "changed after that\n");
    write(&path.join("src/main.rs"), "assumed unchanged\n");
    git(path, &["update-index", "--assume-unchanged", "src/main.rs"]);
    write(&path.join("untracked \"file\"\nwith a line end"), [0, 255, 10, 13]);
    write(&path.join("build.log"), "ignored\n");
    write(&path.join("empty"), "");
    symlink("nowhere", path.join("link")).unwrap();
    write(&path.join("bin/run"), "#!/bin/sh\n");
    fs::set_permissions(path.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&path.join("secret"), "s\n");
    fs::set_permissions(path.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn staged(path: &Path) -> String {
    git(path, &["ls-files", "--stage", "-v"]) + &git(path, &["status", "--porcelain=v2", "--ignored"])
}

#[test]
fn a_removed_worktree_comes_back_byte_for_byte() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    work(&worktree);
    let (before, index) = (content(worktree.path()), staged(worktree.path()));
    let reflog = git(worktree.path(), &["reflog"]);
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert!(!worktree.path().exists());
    assert_eq!(fixture.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
    assert_eq!(fixture.git(&["branch", "--list", "feature/fix"]).trim(), "feature/fix", "its branch stays");
    fixture.git(&["reflog", "expire", "--expire=now", "--all"]);
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(restored, worktree);
    assert_eq!((content(restored.path()), staged(restored.path())), (before, index));
    assert_eq!(git(restored.path(), &["reflog"]), reflog);
    git(restored.path(), &["fsck", "--full", "--strict"]);
    assert!(worktrees.trash().unwrap().is_empty());
    // It can be removed again.
    worktrees.remove(&restored, RemoveOptions::new()).unwrap();
}

/// Deletes what a garbage collection deletes that listed refs and packs before a pin, and worktrees after the removal: each loose
/// object that no ref of before reaches, and the pack that was written before the ref of the pin.
fn collect_as_of(fixture: &Fixture, reachable: &str, packs: &BTreeSet<PathBuf>) {
    let objects = fixture.repo().join(".git/objects");
    for (path, _) in content(&objects) {
        let name = path.to_string_lossy().replace('/', "");
        let is_loose = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_loose && !reachable.contains(&name) {
            fs::remove_file(objects.join(path)).unwrap();
        }
    }
    let mut new: Vec<PathBuf> = packs_of(fixture).difference(packs).cloned().collect();
    // The second one has all of the first one, and more.
    new.sort_by_key(|path| path.metadata().unwrap().len());
    let first = new.first().expect("a pin is a pack");
    for extension in ["pack", "idx", "rev"] {
        let _ = fs::remove_file(first.with_extension(extension));
    }
}

fn packs_of(fixture: &Fixture) -> BTreeSet<PathBuf> {
    let folder = fixture.repo().join(".git/objects/pack");
    let packs = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    packs.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).collect()
}

/// A tree that only the index remembered was gone after one of 600 concurrent garbage collections.
#[test]
fn a_garbage_collection_begun_before_a_removal_loses_nothing() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    work(&worktree);
    write(&path.join("sub/deep/file"), "only in a tree that the index remembers\n");
    git(path, &["add", "sub"]);
    git(path, &["write-tree"]);
    let (before, index, reflog) = (content(path), staged(path), git(path, &["reflog"]));
    let commits: Vec<String> = git(path, &["reflog", "--format=%H"]).lines().map(str::to_owned).collect();
    let (reachable, packs) = (fixture.git(&["rev-list", "--objects", "--all"]), packs_of(&fixture));
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    collect_as_of(&fixture, &reachable, &packs);
    fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
    let restored = worktrees.restore(&entry.id, None).unwrap();
    let path = restored.path();
    assert_eq!((content(path), staged(path), git(path, &["reflog"])), (before, index, reflog));
    for commit in commits {
        git(path, &["rev-list", "--objects", &commit]);
    }
    git(path, &["commit", "--quiet", "--message=from the index"]);
    fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
}

/// Git does not keep what `AUTO_MERGE` names. A pin of it that lost it to a garbage collection had its ref left, with missing objects.
#[test]
fn what_git_itself_does_not_keep_spoils_no_pin() {
    for deletes_first in [true, false] {
        let fixture = Fixture::new();
        let worktree = fixture.create("fix");
        let path = worktree.path();
        write(&path.join("sub/file"), "in no commit\n");
        git(path, &["add", "sub"]);
        let tree = git(path, &["write-tree"]);
        let inner = git(path, &["rev-parse", &format!("{tree}:sub")]);
        git(path, &["reset", "--quiet", "--hard"]);
        write(&worktree.git_dir().join("AUTO_MERGE"), format!("{tree}\n"));
        let object = fixture.repo().join(".git/objects").join(&inner[..2]).join(&inner[2..]);
        let worktrees = if deletes_first {
            fs::remove_file(&object).unwrap();
            fixture.worktrees()
        } else {
            let program = git_after(&fixture, "pack-objects", &format!("rm -f {}", object.display()));
            Worktrees::with_git(&Git::new(program), fixture.repo()).unwrap()
        };
        let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
        assert_eq!(worktrees.snapshots(worktree.session()).unwrap().len(), 1, "{deletes_first}");
        fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
        worktrees.restore(&entry.id, None).unwrap();
    }
}

/// A process that was killed between the ref of a pin and its reading back left a ref with missing objects.
#[test]
fn an_incomplete_pin_is_removed_by_the_recovery() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let pin = worktrees.pin(&worktree).unwrap();
    let broken = format!("refs/sessions/{}/2", worktree.session());
    let blob = git(worktree.path(), &["hash-object", "-w", "README"]);
    let tree = format!("100644 blob {blob}\ta\n");
    let tree_file = fixture.folder.path().join("tree");
    write(&tree_file, tree.replace(&blob[..4], "0000"));
    let script = format!("git mktree --missing < {}", tree_file.display());
    let made = Command::new("sh").args(["-c", &script]).current_dir(fixture.repo()).output().unwrap();
    let tree = String::from_utf8(made.stdout).unwrap();
    let commit = fixture.git(&["commit-tree", "-m", "broken", tree.trim()]);
    fixture.git(&["update-ref", &broken, &commit]);
    worktrees.recover().unwrap();
    let left: Vec<u64> =
        worktrees.snapshots(worktree.session()).unwrap().iter().map(|snapshot| snapshot.number).collect();
    assert_eq!((left, pin.name.ends_with("/1")), (vec![1], true));
    // Where git cannot say what is missing, nothing is removed.
    write(&fixture.repo().join(".git/refs/heads/broken"), format!("{}\n", "12".repeat(20)));
    worktrees.recover().unwrap();
    assert_eq!(worktrees.snapshots(worktree.session()).unwrap().len(), 1);
}

/// Deletes a worktree by other means than ours.
type Deletion = fn(&Path);

/// Its registration stayed locked for ever, and kept its branch checked out: no call removed it.
#[test]
fn the_rest_of_a_deleted_directory_can_be_removed() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let leftovers: [(&str, Deletion); 3] = [
        ("nothing", |path| fs::remove_dir_all(path).unwrap()),
        ("empty", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        // A removal that was killed between two calls.
        ("unwritten", |path| {
            fs::remove_dir_all(path).unwrap();
            write(&path.join(".git"), "");
        }),
    ];
    for (name, delete) in leftovers {
        let worktree = fixture.create(name);
        work(&worktree);
        let (index, lost) = (staged_ids(&worktree), git(worktree.path(), &["rev-parse", "HEAD@{1}"]));
        delete(worktree.path());
        assert!(worktrees.list().unwrap().is_empty());
        assert_eq!(worktrees.lost().unwrap(), std::slice::from_ref(&worktree), "{name}");

        let entry = worktrees.remove(&worktree, RemoveOptions::new().delete_branch()).unwrap().entry;
        assert!(worktrees.lost().unwrap().is_empty() && !worktree.path().exists(), "{name}");
        assert_eq!(fixture.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
        fixture.git(&["gc", "--quiet", "--prune=now"]);
        let restored = worktrees.restore(&entry.id, None).unwrap();
        assert_eq!(staged_ids(&restored), index, "{name}");
        git(restored.path(), &["cat-file", "-e", &lost]);
        git(restored.path(), &["checkout", "--", "README"]);
        assert_eq!(fs::read_to_string(restored.path().join("README")).unwrap(), "staged\n");
        worktrees.remove(&restored, RemoveOptions::new()).unwrap();
    }
}

#[test]
fn a_refused_removal_of_a_deleted_directory_creates_nothing() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    write(&path.join("README"), "only staged\n");
    git(path, &["add", "README"]);
    let staged = git(path, &["rev-parse", ":README"]);
    fs::remove_dir_all(path).unwrap();
    // A blob that the index names is missing: nothing can be pinned.
    let (start, rest) = staged.split_at(2);
    let object = fixture.repo().join(".git/objects").join(start).join(rest);
    let kept = fs::read(&object).unwrap();
    fs::remove_file(&object).unwrap();
    let error = worktrees.remove(&worktree, RemoveOptions::new()).unwrap_err();
    assert!(matches!(error, WorktreeError::CannotPin { .. }), "{error:?}");
    assert!(!path.exists());
    write(&object, kept);
    fixture.git(&["worktree", "unlock", path.to_str().unwrap()]);
    fixture.git(&["worktree", "lock", "--reason=theirs", path.to_str().unwrap()]);
    let error = worktrees.remove(&worktree, RemoveOptions::new()).unwrap_err();
    assert!(matches!(error, WorktreeError::Locked { .. }) && !path.exists(), "{error:?}");
}

fn staged_ids(worktree: &Worktree) -> String {
    git(worktree.git_dir(), &["--work-tree=/", "ls-files", "--stage"])
}

#[test]
fn a_pin_keeps_everything_from_garbage_collection() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    work(&worktree);
    let lost = git(worktree.path(), &["rev-parse", "HEAD@{1}"]);
    let only_staged = git(worktree.path(), &["rev-parse", ":README"]);
    let (index, head) = (staged(worktree.path()), git(worktree.path(), &["rev-parse", "HEAD"]));
    let pin = worktrees.pin(&worktree).unwrap();
    assert_eq!((staged(worktree.path()), &pin.unkept), (index, &Vec::new()), "it is left as it was");
    assert_eq!(pin.name, format!("refs/sessions/{}/1", worktree.session()));
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!(entry.pin.name, format!("refs/sessions/{}/2", worktree.session()));
    worktrees.purge(&entry.id, false).unwrap().unwrap();
    fixture.git(&["update-ref", "-d", "refs/heads/feature/fix"]);
    fixture.git(&["reflog", "expire", "--expire=now", "--all"]);
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    for name in [&pin.name, &entry.pin.name] {
        let parents = fixture.git(&["rev-list", "--parents", "--no-walk", name]);
        assert!(parents.contains(&lost) && parents.split(' ').nth(1) == Some(&head), "{parents}");
        let show = |path: &str| {
            git_command(&fixture.repo(), &["show", &format!("{name}:{path}")]).output().unwrap().stdout
        };
        assert_eq!(show("tree/README"), b"changed after that\n");
        assert_eq!(show(&format!("staged/{only_staged}")), b"staged\n");
        assert_eq!(show("tree/src/main.rs"), b"assumed unchanged\n");
        assert_eq!(show("tree/untracked \"file\"\nwith a line end"), [0, 255, 10, 13]);
        assert_eq!(show("ignored/build.log"), b"ignored\n");
        assert_eq!(show("tree/link"), b"nowhere");
        let mode = fixture.git(&["ls-tree", name, "tree/bin/run"]);
        assert!(mode.starts_with("100755"), "{mode}");
    }
    fixture.git(&["fsck", "--full", "--strict"]);
}

#[test]
fn conversions_of_git_do_not_change_what_is_kept() {
    let fixture = Fixture::new();
    fixture.write(".gitattributes", "*.txt text eol=crlf ident working-tree-encoding=UTF-16\n*.bin -text\n");
    fixture.git(&["add", "--all"]);
    fixture.git(&["commit", "--quiet", "--message=attributes"]);
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    write(&worktree.path().join("a.txt"), "$Id: x$\r\nmixed\n");
    write(&worktree.path().join("sub/.gitattributes"), "* filter=none text=auto eol=lf\n");
    write(&worktree.path().join("sub/b"), "\r\n\r\n");
    let pin = worktrees.pin(&worktree).unwrap();
    let show = |path: &str| {
        git_command(&fixture.repo(), &["show", &format!("{}:tree/{path}", pin.commit)])
            .output()
            .unwrap()
            .stdout
    };
    assert_eq!(show("a.txt"), b"$Id: x$\r\nmixed\n");
    assert_eq!(show("sub/b"), b"\r\n\r\n");
}

#[test]
fn what_a_pin_does_not_keep_is_named_and_not_purged() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    git(path, &["init", "--quiet", "nested"]);
    write(&path.join("nested/file"), "nested\n");
    write(&path.join("big.log"), vec![b'x'; 17 << 20]);
    write(&path.join("target/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n");
    write(&path.join("target/debug/big"), vec![b'x'; 17 << 20]);
    let before = content(path);
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!(entry.pin.unkept, ["nested", "big.log"], "the cache can be created again");
    assert_eq!(worktrees.purge(&entry.id, false).unwrap(), None);
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(content(restored.path()), before);
    let entry = worktrees.remove(&restored, RemoveOptions::new()).unwrap().entry;
    assert!(worktrees.purge(&entry.id, true).unwrap() > Some(34 << 20));
    assert!(worktrees.trash().unwrap().is_empty());
}

#[test]
fn an_operation_in_progress_comes_back() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let path = worktree.path();
    write(&path.join("README"), "ours\n");
    git(path, &["commit", "--quiet", "--all", "--message=ours"]);
    fixture.write("README", "theirs\n");
    fixture.git(&["commit", "--quiet", "--all", "--message=theirs"]);
    assert!(!git_command(path, &["rebase", "main"]).output().unwrap().status.success(), "it conflicts");
    let (before, index) = (content(path), staged(path));
    assert!(index.contains(" 3\tREADME"), "{index}");
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!(entry.branch, None, "a rebase detaches HEAD");
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_eq!((content(restored.path()), staged(restored.path())), (before, index));
    git(restored.path(), &["rebase", "--abort"]);
}

#[test]
fn a_taken_place_moves_what_is_restored() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    work(&worktree);
    let (before, index) = (content(worktree.path()), staged(worktree.path()));
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let other = fixture.create("fix");
    assert_ne!(other.path(), worktree.path(), "the branch is still there");
    write(&worktree.path().join("in the way"), "");
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(restored.path(), fixture.folder.path().join("repo.worktrees/fix-3"));
    assert_eq!((content(restored.path()), staged(restored.path())), (before, index));
    let entry = worktrees.remove(&restored, RemoveOptions::new()).unwrap().entry;
    let to = fixture.folder.path().join("elsewhere/deep");
    assert_eq!(worktrees.restore(&entry.id, Some(&to)).unwrap().path(), to);
}

#[test]
fn what_is_used_or_locked_is_refused() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let mut process = Command::new("sleep").arg("600").current_dir(worktree.path()).spawn().unwrap();
    let refused = worktrees.remove(&worktree, RemoveOptions::new()).unwrap_err();
    assert!(
        matches!(&refused, WorktreeError::InUse { processes, .. } if *processes == [process.id()]),
        "{refused}"
    );
    process.kill().unwrap();
    process.wait().unwrap();
    fs::write(worktree.git_dir().join("locked"), "mine\n").unwrap();
    let refused = worktrees.remove(&worktree, RemoveOptions::new()).unwrap_err();
    assert!(matches!(&refused, WorktreeError::Locked { reason, .. } if reason == "mine"), "{refused}");
    assert!(worktree.record().locate().is_ok() && worktrees.trash().unwrap().is_empty());
    fixture.git(&["worktree", "unlock", worktree.path().to_str().unwrap()]);
    worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
    assert!(matches!(worktrees.remove(&worktree, RemoveOptions::new()), Err(WorktreeError::Gone { .. })));
}

#[test]
fn an_interrupted_removal_or_restoration_is_completed() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    work(&worktree);
    let (before, index) = (content(worktree.path()), staged(worktree.path()));
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let folder = fixture.repo().join(".git/sessions/trash").join(&entry.id);
    let set_state = |state: &str| {
        let text = fs::read_to_string(folder.join("entry.json")).unwrap();
        fs::write(folder.join("entry.json"), text.replace("\"removed\"", state)).unwrap();
    };
    // Both moves done, one, and none.
    set_state("\"removing\"");
    assert!(matches!(worktrees.recover().unwrap()[..], [RecoveredEntry::Removed(_)]));
    set_state("\"removing\"");
    fs::rename(folder.join("tree"), worktree.path()).unwrap();
    assert!(matches!(worktrees.recover().unwrap()[..], [RecoveredEntry::Removed(_)]));
    assert_eq!(worktrees.trash().unwrap()[0].state, EntryState::Removed);
    assert!(!worktree.path().exists());
    // A restoration: with the directory in its place, and with both.
    let restoring = format!(
        "{{\"restoring\": {{\"path\": {:?}, \"git_dir\": {:?}}}}}",
        worktree.path().to_str().unwrap(),
        worktree.git_dir().to_str().unwrap()
    );
    set_state(&restoring);
    fs::rename(folder.join("tree"), worktree.path()).unwrap();
    assert!(
        matches!(&worktrees.recover().unwrap()[..], [RecoveredEntry::Restored(found)] if *found == worktree)
    );
    assert_eq!((content(worktree.path()), staged(worktree.path())), (before, index));
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let folder = fixture.repo().join(".git/sessions/trash").join(&entry.id);
    let text = fs::read_to_string(folder.join("entry.json")).unwrap();
    fs::write(folder.join("entry.json"), text.replace("\"removed\"", "\"removing\"")).unwrap();
    fs::rename(folder.join("tree"), worktree.path()).unwrap();
    fs::rename(folder.join("registration"), worktree.git_dir()).unwrap();
    assert!(matches!(worktrees.recover().unwrap()[..], [RecoveredEntry::Kept(_)]));
    assert!(worktree.record().locate().is_ok() && worktrees.trash().unwrap().is_empty());
}

#[test]
fn a_restored_worktree_is_found_by_what_was_recorded_of_it() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let record = worktree.record();
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert!(matches!(record.locate(), Err(WorktreeError::Gone { .. })));
    // Its place and its name in the repository are taken.
    fixture.git(&["worktree", "add", "--quiet", "--detach", worktree.path().to_str().unwrap()]);
    assert!(matches!(record.locate(), Err(WorktreeError::Gone { .. })), "it is another one");
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_ne!((restored.path(), restored.git_dir()), (worktree.path(), worktree.git_dir()));
    assert_eq!(record.locate().unwrap(), restored);
}

#[test]
fn a_branch_goes_only_on_request_and_comes_back() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    work(&worktree);
    let branches = || fixture.git(&["branch", "--list", "feature/*", "--format=%(objectname)"]);
    let (before, head) = (content(worktree.path()), branches());
    let kept = worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
    assert_eq!((kept.branch, branches()), (BranchOutcome::Kept, head.clone()));
    let worktree = worktrees.restore(&kept.entry.id, None).unwrap();
    // Another worktree has it, too.
    let other = fixture.folder.path().join("other");
    fixture.git(&["worktree", "add", "--quiet", "--force", other.to_str().unwrap(), "feature/fix"]);
    let kept = worktrees.remove(&worktree, RemoveOptions::new().delete_branch()).unwrap();
    assert_eq!((kept.branch, branches()), (BranchOutcome::CheckedOut(other.clone()), head.clone()));
    let worktree = worktrees.restore(&kept.entry.id, None).unwrap();
    fixture.git(&["worktree", "remove", other.to_str().unwrap()]);
    let deleted = worktrees.remove(&worktree, RemoveOptions::new().delete_branch()).unwrap();
    assert_eq!((deleted.branch, branches()), (BranchOutcome::Deleted, String::new()));
    fixture.git(&["reflog", "expire", "--expire=now", "--all"]);
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    let restored = worktrees.restore(&deleted.entry.id, None).unwrap();
    assert_eq!((content(restored.path()), branches()), (before, head));
    git(restored.path(), &["fsck", "--full", "--strict"]);
}

/// A git of which one call in a removal is followed by a change of a file.
fn git_that_changes(fixture: &Fixture, file: &Path) -> Git {
    let script = fixture.folder.path().join("git");
    let text = format!(
        "#!/bin/sh\n\
         case \"$*\" in *fast-import*) [ -e '{folder}/done' ] || : >>'{folder}/pinned' ;; esac\n\
         git \"$@\"\n\
         code=$?\n\
         case \"$*\" in *rev-parse*HEAD^*) if mv '{folder}/pinned' '{folder}/done' 2>/dev/null; then echo late >>'{file}'; fi ;; esac\n\
         exit $code\n",
        folder = fixture.folder.path().display(),
        file = file.display(),
    );
    // Written by another process: a test that starts a program meanwhile would pass the open file on.
    let write = "printf %s \"$1\" >\"$0\"; chmod 755 \"$0\"";
    let written = Command::new("sh").args(["-c", write]).arg(&script).arg(text).status().unwrap();
    assert!(written.success());
    Git::new(script)
}

#[test]
fn a_change_after_the_pin_is_pinned_again() {
    let fixture = Fixture::new();
    let worktree = fixture.create("fix");
    let file = worktree.path().join("README");
    let worktrees = Worktrees::with_git(&git_that_changes(&fixture, &file), fixture.repo()).unwrap();
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert!(fixture.folder.path().join("done").exists(), "the file was changed");
    let kept = fixture.git(&["show", &format!("{}:tree/README", entry.pin.commit)]);
    assert_eq!(kept, "hello\nlate");
    worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello\nlate\n");
}

/// Regression: the file of the entry was longer than is read of it, so that the worktree could not be put back.
#[test]
fn a_worktree_with_many_unkept_files_comes_back() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    for number in 0..6_000 {
        let file =
            fs::File::create(worktree.path().join(format!("{number}{}.log", "x".repeat(230)))).unwrap();
        // Without any block on the disk.
        file.set_len(17 << 20).unwrap();
    }
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    assert_eq!((entry.pin.unkept.len(), entry.pin.unkept_paths), (100, 6_000));
    assert_eq!(worktrees.purge(&entry.id, false).unwrap(), None);
    let restored = worktrees.restore(&entry.id, None).unwrap();
    assert_eq!(fs::read_dir(restored.path()).unwrap().count(), 6_000 + 4);
}

#[test]
fn an_interrupted_purge_is_completed_and_never_restored() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    let entry = worktrees.remove(&worktree, RemoveOptions::new()).unwrap().entry;
    let folder = fixture.repo().join(".git/sessions/trash").join(&entry.id);
    let text = fs::read_to_string(folder.join("entry.json")).unwrap();
    fs::write(folder.join("entry.json"), text.replace("\"removed\"", "\"purging\"")).unwrap();
    fs::remove_file(folder.join("tree/README")).unwrap();
    assert!(matches!(worktrees.restore(&entry.id, None), Err(WorktreeError::NothingKept { .. })));
    assert!(matches!(worktrees.recover().unwrap()[..], [RecoveredEntry::Purged(_)]));
    assert!(!folder.exists() && worktrees.snapshots(worktree.session()).unwrap().len() == 1);
}

#[test]
fn a_damaged_entry_keeps_no_other_from_recovery() {
    let fixture = Fixture::new();
    let worktrees = fixture.worktrees();
    let [damaged, other] = ["one", "two"]
        .map(|name| worktrees.remove(&fixture.create(name), RemoveOptions::new()).unwrap().entry);
    let trash = fixture.repo().join(".git/sessions/trash");
    fs::write(trash.join(&damaged.id).join("entry.json"), "{").unwrap();
    let text = fs::read_to_string(trash.join(&other.id).join("entry.json")).unwrap();
    fs::write(trash.join(&other.id).join("entry.json"), text.replace("\"removed\"", "\"removing\"")).unwrap();
    let recovered = worktrees.recover().unwrap();
    let failed =
        |entry: &RecoveredEntry| matches!(entry, RecoveredEntry::Failed { id, .. } if *id == damaged.id);
    let removed =
        |entry: &RecoveredEntry| matches!(entry, RecoveredEntry::Removed(entry) if entry.id == other.id);
    assert!(
        recovered.len() == 2 && recovered.iter().any(failed) && recovered.iter().any(removed),
        "{recovered:?}"
    );
}

/// Half of what an index remembers was pruned while the worktree was in the trash: git took the other half for complete, and
/// the next commit was damaged.
#[test]
fn trees_that_only_the_index_remembers_survive() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    write(&worktree.path().join("deep/er/file"), "staged\n");
    git(worktree.path(), &["add", "--all"]);
    let tree = git(worktree.path(), &["write-tree"]);
    let inner = git(worktree.path(), &["rev-parse", &format!("{tree}:deep")]);
    // The files have another tree by now.
    write(&worktree.path().join("deep/er/file"), "changed\n");
    let removed = worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    for object in [&tree, &inner] {
        fixture.git(&["cat-file", "-e", object]);
    }
    worktrees.restore(&removed.entry.id, None).unwrap();
    git(worktree.path(), &["commit", "--quiet", "--message=work"]);
    assert_eq!(git(worktree.path(), &["rev-parse", "HEAD^{tree}"]), tree);
    fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
}

/// An index that remembers an incomplete tree does not keep a worktree from being removed.
#[test]
fn a_remembered_tree_that_was_incomplete_before_is_no_obstacle() {
    let fixture = Fixture::new();
    let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
    write(&worktree.path().join("deep/er/file"), "staged\n");
    git(worktree.path(), &["add", "--all"]);
    let tree = git(worktree.path(), &["write-tree"]);
    let inner = git(worktree.path(), &["rev-parse", &format!("{tree}:deep")]);
    let object = fixture.repo().join(".git/objects").join(&inner[..2]).join(&inner[2..]);
    fs::remove_file(object).unwrap();
    let removed = worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
    assert_eq!(worktrees.restore(&removed.entry.id, None).unwrap().path(), worktree.path());
}
