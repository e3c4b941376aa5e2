//! Times of worktrees: concurrent creations, the pin of many changed files, and a removal with many ignored ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use session_core::SessionId;
use session_worktree::{NewWorktree, RemoveOptions, Slug, Worktree, Worktrees};

use crate::process::quiet;
use crate::report::{Bound, Section};
use crate::stats::{count, median, millis};

/// Worktrees that are created concurrently.
const CREATED: usize = 64;
/// Changed files of the worktree that is pinned.
const CHANGED: usize = 2_000;
/// Ignored files in a cache of the worktree that is removed.
const IGNORED: usize = 30_000;
/// Files of a folder.
const IN_A_FOLDER: usize = 1_000;

/// Measures the calls of `session-worktree`.
pub(crate) fn times(folder: &Path, rounds: usize) -> Vec<Section> {
    let rounds = rounds.min(5);
    let mut section = Section::new("Worktrees", &["median ms", "files or worktrees"]);
    let (mut created, mut pinned, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let folder = folder.join(format!("worktrees-{round}"));
        fs::create_dir_all(&folder).expect("a folder can be created");
        created.push(millis(creations(&repository(&folder, "created"))));
        pinned.push(millis(pin(&repository(&folder, "pinned"))));
        removed.push(millis(removal(&repository(&folder, "removed"))));
        fs::remove_dir_all(&folder).expect("the folder can be removed");
    }
    let (created, pinned, removed) = (median(&created), median(&pinned), median(&removed));
    section.row("created concurrently", &[created, count(CREATED)]);
    section.row("pin of changed files", &[pinned, count(CHANGED)]);
    section.row("removal with ignored files in a cache", &[removed, count(IGNORED)]);
    section.target("pin, ms", pinned, Bound::AtMost(500.0));
    section.target("removal, ms", removed, Bound::AtMost(500.0));
    vec![section]
}

fn git(dir: &Path, args: &[&str]) {
    let mut command: Command = quiet("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).current_dir(dir);
    assert!(command.status().expect("git can be run").success(), "git {args:?}");
}

fn repository(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir(&path).expect("a folder can be created");
    git(&path, &["init", "--quiet"]);
    write_files(&path, "src", CHANGED, "first");
    fs::write(path.join(".gitignore"), "/node_modules\n").expect("a file can be written");
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--message=first"]);
    path
}

fn write_files(path: &Path, folder: &str, number: usize, content: &str) {
    for file in 0..number {
        let folder = path.join(folder).join((file / IN_A_FOLDER).to_string());
        fs::create_dir_all(&folder).expect("a folder can be created");
        fs::write(folder.join(file.to_string()), format!("{content} {file}\n"))
            .expect("a file can be written");
    }
}

fn create(worktrees: &Worktrees) -> Worktree {
    let new = NewWorktree::new(SessionId::random(), Slug::from_text("it"));
    loop {
        let plan = worktrees.plan(&new).expect("a worktree can be planned");
        if let Some(created) = worktrees.create(&plan).expect("a worktree can be created") {
            return created;
        }
    }
}

fn creations(repository: &Path) -> Duration {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CREATED {
            scope.spawn(|| create(&Worktrees::new(repository).expect("it is a repository")));
        }
    });
    begin.elapsed()
}

fn pin(repository: &Path) -> Duration {
    let worktrees = Worktrees::new(repository).expect("it is a repository");
    let worktree = create(&worktrees);
    write_files(worktree.path(), "src", CHANGED, "changed");
    let begin = Instant::now();
    worktrees.pin(&worktree).expect("a worktree can be pinned");
    begin.elapsed()
}

fn removal(repository: &Path) -> Duration {
    let worktrees = Worktrees::new(repository).expect("it is a repository");
    let worktree = create(&worktrees);
    write_files(worktree.path(), "node_modules", IGNORED, "ignored");
    let begin = Instant::now();
    worktrees.remove(&worktree, RemoveOptions::new()).expect("a worktree can be removed");
    begin.elapsed()
}
