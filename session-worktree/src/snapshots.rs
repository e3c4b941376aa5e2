//! The pins of a session: listed, dropped, and turned into a worktree again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use session_core::SessionId;

use crate::error::{Result, WorktreeError};
use crate::files;
use crate::pin;
use crate::registration::{Registration, lock_reason};
use crate::repository::Repository;
use crate::worktree::Worktree;

/// A commit that keeps the content of a worktree at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its number among those of the session, from 1.
    pub number: u64,
    /// The commit.
    pub commit: String,
    /// Its time, in seconds since 1970.
    pub time: i64,
}

/// Returns the snapshots of a session, the oldest first.
pub(crate) fn list(repository: &Repository, session: SessionId) -> Result<Vec<Snapshot>> {
    let folder = pin::folder(session);
    let args = ["for-each-ref", "--format=%(refname) %(objectname) %(committerdate:unix)", &folder];
    let output = repository.call("list snapshots").args(args).run()?;
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let number = words.next()?.rsplit('/').next()?.parse().ok()?;
        Some(Snapshot { number, commit: words.next()?.to_owned(), time: words.next()?.parse().ok()? })
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<Snapshot> = text.lines().filter_map(parse).collect();
    found.sort_by_key(|snapshot| snapshot.number);
    Ok(found)
}

/// The snapshots of a session, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotSummary {
    /// Their number.
    pub count: usize,
    /// The name of the worktree of the last one.
    pub name: String,
}

/// Returns the sessions that have snapshots.
pub(crate) fn summaries(repository: &Repository) -> Result<BTreeMap<SessionId, SnapshotSummary>> {
    let args = ["for-each-ref", "--format=%(refname:lstrip=2) %(subject)", "refs/sessions/"];
    let output = repository.call("list snapshots").args(args).run()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: BTreeMap<SessionId, (u64, SnapshotSummary)> = BTreeMap::new();
    for line in text.lines() {
        let (name, subject) = line.split_once(' ').unwrap_or((line, ""));
        let Some((session, number)) = name.split_once('/') else { continue };
        let (Ok(session), Ok(number)) = (session.parse(), number.parse()) else { continue };
        let (last, summary) = found.entry(session).or_default();
        summary.count += 1;
        if number >= *last {
            *last = number;
            summary.name = subject.split_once(": ").map(|(_, name)| name.to_owned()).unwrap_or_default();
        }
    }
    Ok(found.into_iter().map(|(session, (_, summary))| (session, summary)).collect())
}

fn find(repository: &Repository, session: SessionId, number: u64) -> Result<Snapshot> {
    let found = list(repository, session)?.into_iter().find(|snapshot| snapshot.number == number);
    found.ok_or_else(|| WorktreeError::NothingKept { what: format!("{session}@{number}") })
}

/// Removes a snapshot: git may delete its content after that.
pub(crate) fn drop(repository: &Repository, session: SessionId, number: u64) -> Result<()> {
    let Snapshot { commit, .. } = find(repository, session, number)?;
    let name = format!("{}{number}", pin::folder(session));
    repository.call("drop a snapshot").args(["update-ref", "-d", &name, &commit]).run().map(std::mem::drop)
}

/// Creates a worktree with the content of a snapshot: files, index and HEAD. Its branch is checked out if it is still at the same
/// commit and no other worktree has it; otherwise HEAD is detached at that commit.
pub(crate) fn restore(
    repository: &Repository,
    session: SessionId,
    number: u64,
    path: &Path,
) -> Result<Worktree> {
    let Snapshot { commit, .. } = find(repository, session, number)?;
    let lock = repository.lock()?;
    if files::exists(path) {
        let reason = format!("{} exists", path.display());
        return Err(WorktreeError::NoPlace { slug: format!("{session}@{number}"), reason });
    }
    let head_commit = repository.ref_target(&format!("{commit}^1"))?.ok_or_else(|| {
        // Its branch had no commit yet.
        WorktreeError::NothingKept { what: format!("a commit in {session}@{number}") }
    })?;
    files::create_dir(path.parent().unwrap_or_else(|| Path::new("/")))?;
    let reason = lock_reason(session);
    let add = ["worktree", "add", "--quiet", "--no-checkout", "--detach", "--lock", "--reason", &reason];
    let call =
        repository.call("create a worktree").args(add).arg("--end-of-options").arg(path).arg(&head_commit);
    call.holding(&lock)?.run()?;
    let gone =
        || WorktreeError::Gone { path: path.to_owned(), reason: "git created no linked worktree".to_owned() };
    let registration = Registration::of_worktree(path)?.ok_or_else(gone)?;
    write_files(repository, &commit, path)?;
    let kept = |name: &str| -> Result<Option<Vec<u8>>> {
        let object = format!("{commit}:git/{name}");
        let output =
            repository.call("read a snapshot").args(["cat-file", "blob", &object]).offline().output()?;
        Ok((output.code == Some(0)).then_some(output.stdout))
    };
    if let Some(index) = kept("index")? {
        files::write(&registration.dir.join("index"), &index)?;
    }
    if let Some(head) = kept("HEAD")?
        && let Some(branch) = head.strip_prefix(b"ref: ").map(<[u8]>::trim_ascii_end)
        && is_free_at(repository, &String::from_utf8_lossy(branch), &head_commit)?
    {
        files::write(&registration.dir.join("HEAD"), &head)?;
    }
    let mark = registration.set_mark(session, None)?;
    Ok(Worktree { path: path.to_owned(), registration, mark })
}

/// Returns `true` if a branch points to this commit, and no worktree has it checked out.
fn is_free_at(repository: &Repository, name: &str, commit: &str) -> Result<bool> {
    Ok(repository.ref_target(name)?.as_deref() == Some(commit) && repository.checked_out_in(name)?.is_none())
}

/// Writes the files of a snapshot as they were.
fn write_files(repository: &Repository, commit: &str, path: &Path) -> Result<()> {
    for folder in ["tree", "ignored"] {
        let tree = format!("{commit}:{folder}");
        if repository.ref_target(&tree)?.is_none() {
            continue;
        }
        let args = ["ls-tree", "-r", "-z", "--full-tree", &tree];
        let listed = repository.call("read a snapshot").args(args).offline().run()?;
        let mut wanted: HashMap<String, Vec<(PathBuf, bool, bool)>> = HashMap::new();
        let mut input = Vec::new();
        for entry in listed.fields() {
            let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
            let (facts, name) = entry.split_at(tab);
            let facts = String::from_utf8_lossy(facts).into_owned();
            let mut words = facts.split(' ');
            let (mode, object) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
            let target = path.join(OsStr::from_bytes(name.get(1..).unwrap_or_default()));
            let places = wanted.entry(object.to_owned()).or_default();
            if places.is_empty() {
                input.extend_from_slice(format!("{object}\n").as_bytes());
            }
            places.push((target, mode == "120000", mode == "100755"));
        }
        if input.is_empty() {
            continue;
        }
        let call = repository.call("read a snapshot").args(["cat-file", "--batch", "--buffer"]).offline();
        call.input(input).read(|out| {
            let mut header = String::new();
            while out.read_line(&mut header)? > 0 {
                let mut words = header.split_whitespace();
                let (object, size) =
                    (words.next().unwrap_or_default(), words.nth(1).and_then(|size| size.parse().ok()));
                let size: u64 =
                    size.ok_or_else(|| std::io::Error::other(format!("object {object} is missing")))?;
                let places = wanted.get(object).map(Vec::as_slice).unwrap_or_default();
                let mut content = Vec::new();
                out.take(size).read_to_end(&mut content)?;
                for (target, is_link, is_executable) in places {
                    write_file(target, &content, *is_link, *is_executable)?;
                }
                out.read_exact(&mut [0])?;
                header.clear();
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn write_file(target: &Path, content: &[u8], is_link: bool, is_executable: bool) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_link {
        return symlink(OsStr::from_bytes(content), target);
    }
    let mode = if is_executable { 0o755 } else { 0o644 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?.write_all(content)
}
