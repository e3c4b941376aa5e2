//! Pins: commits under `refs/sessions` that keep the content of a worktree, and what only its registration kept, from
//! git's garbage collection.
//!
//! The bytes of files are written as they are on the disk, without any filter of git, in one pack: an object that git
//! would consider unused for a moment could be pruned by another process. Afterwards, all that the pin keeps is packed
//! once more, and read back.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use session_core::{Clock as _, SessionId, SystemClock};

use crate::cache_tree;
use crate::error::{Result, WorktreeError};
use crate::files;
use crate::objects;
use crate::repository::Repository;
use crate::scan::{Entry, Kind, Scan, join};
use crate::worktree::Worktree;

/// Bytes of ignored files that a pin keeps.
const IGNORED_BYTES: u64 = 16 * 1024 * 1024;
/// Time in which a pin is tried again while other processes prune objects or change files.
const ATTEMPTS_FOR: Duration = Duration::from_secs(60);
/// The ids of an empty blob, in both formats.
const EMPTY_BLOBS: [&str; 2] = [
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
];
/// Paths that a pin names of those that it does not keep.
const NAMED: usize = 100;
/// The author of pins.
const AUTHOR: &str = "session-worktree <session-worktree@localhost>";

/// A commit that keeps the content of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pin {
    /// The ref: `refs/sessions/<session>/<n>`.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// The number of files that it keeps.
    pub files: u64,
    /// The first paths that it does not keep, besides caches: other repositories, special files, and ignored files beyond
    /// 16 MiB.
    pub unkept: Vec<String>,
    /// The number of paths that it does not keep.
    pub unkept_paths: u64,
}

/// A pin with the content that it was made from.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) pin: Pin,
    pub(crate) scan: Scan,
}

/// Pins a worktree, until nothing has changed since the content was read.
pub(crate) fn pin(repository: &Repository, worktree: &Worktree, caches: &[String]) -> Result<Pinned> {
    let begin = Instant::now();
    loop {
        let scan = Scan::read(repository.git(), worktree, caches)?;
        let attempt = Attempt::new(repository, worktree, &scan)?.write();
        let reason = match attempt {
            Ok(pin) if is_unchanged(repository, worktree, &scan, caches)? => return Ok(Pinned { pin, scan }),
            Ok(_) => "it changes all the time".to_owned(),
            Err(error) => error.to_string(),
        };
        if begin.elapsed() >= ATTEMPTS_FOR {
            return Err(WorktreeError::CannotPin { path: worktree.path.clone(), reason });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns `true` if a worktree still has the content that was read.
pub(crate) fn is_unchanged(
    repository: &Repository,
    worktree: &Worktree,
    scan: &Scan,
    caches: &[String],
) -> Result<bool> {
    Ok(Scan::read(repository.git(), worktree, caches)? == *scan)
}

/// A pin that is being written.
struct Attempt<'a> {
    repository: &'a Repository,
    worktree: &'a Worktree,
    scan: &'a Scan,
    /// Objects that only the registration may keep: commits, and others.
    commits: Vec<String>,
    others: Vec<(String, String)>,
    /// The blobs of the index, in all stages.
    staged: BTreeSet<String>,
}

impl<'a> Attempt<'a> {
    fn new(repository: &'a Repository, worktree: &'a Worktree, scan: &'a Scan) -> Result<Self> {
        let named = objects::named_objects(&worktree.registration)?;
        let (mut commits, mut trees, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let head = head(repository, worktree)?;
        for (object, kind) in objects::types(repository, &named)? {
            match kind.as_str() {
                "commit" if Some(&object) == head.as_ref() => {}
                "commit" => commits.push(object),
                "tree" => trees.push(object),
                // Gone before: it is not ours to lose.
                "missing" => {}
                _ => others.push((object, kind)),
            }
        }
        // Git itself does not keep what only `ORIG_HEAD`, `AUTO_MERGE` and their like name: half of it may be gone.
        let mut commits = objects::complete(repository, commits)?;
        let index = files::read_whole(&worktree.registration.dir.join("index"))?.unwrap_or_default();
        trees.extend(cache_tree::remembered(&index));
        for tree in objects::complete(repository, trees)? {
            others.push((tree, "tree".to_owned()));
        }
        // First, so that it is the first parent.
        commits.splice(0..0, head);
        let mut staged = objects::staged(repository, worktree)?;
        let is_partial = repository.is_partial()?;
        for (object, kind) in objects::types(repository, &staged)? {
            if kind == "missing" {
                // That of a file which is only intended to be added is known to git without an object.
                if !is_partial && !EMPTY_BLOBS.contains(&object.as_str()) {
                    let reason = format!("its index names {object}, which is missing");
                    return Err(WorktreeError::CannotPin { path: worktree.path.clone(), reason });
                }
                staged.remove(&object);
            }
        }
        Ok(Self { repository, worktree, scan, commits, others, staged })
    }

    /// Writes the pin, and makes sure that it lasts.
    fn write(&self) -> Result<Pin> {
        let name = self.free_name()?;
        let plan = self.plan();
        let (files, unkept_paths) = (plan.files.len() as u64, plan.unkept.len() as u64);
        let unkept = plan.unkept.iter().take(NAMED).cloned().collect();
        let begin = self.begin(&name)?;
        let root = self.worktree.path.clone();
        self.repository
            .call("pin a worktree")
            .settings(["fastimport.unpackLimit=0", "core.fsync=all", "core.fsyncMethod=fsync"])
            .args(["fast-import", "--quiet", "--done", "--date-format=raw"])
            .offline()
            .stream(move |out| {
                out.write_all(&begin)?;
                for (name, entry) in &plan.files {
                    write_file(out, &root, name, entry)?;
                }
                out.write_all(b"\ndone\n")
            })
            .run()?;
        let commit = self.repository.ref_target(&name)?.ok_or_else(|| self.failed("git wrote no pin"))?;
        if let Err(error) = self.secure(&commit) {
            // A ref with missing objects would end each garbage collection.
            self.repository.call("remove a pin").args(["update-ref", "-d", &name, &commit]).run()?;
            return Err(error);
        }
        Ok(Pin { name, commit, files, unkept, unkept_paths })
    }

    fn failed(&self, reason: impl Into<String>) -> WorktreeError {
        WorktreeError::CannotPin { path: self.worktree.path.clone(), reason: reason.into() }
    }

    fn free_name(&self) -> Result<String> {
        let folder = folder(self.worktree.session());
        let numbers =
            self.repository.call("list pins").args(["for-each-ref", "--format=%(refname)", &folder]).run()?;
        let numbers = String::from_utf8_lossy(&numbers.stdout).into_owned();
        let last = numbers.lines().filter_map(|name| name.rsplit('/').next()?.parse::<u64>().ok()).max();
        Ok(format!("{folder}{}", last.unwrap_or(0) + 1))
    }

    /// Sorts the files by what is kept.
    fn plan(&self) -> Plan {
        let mut plan = Plan { unkept: self.scan.repositories().map(shown).collect(), ..Plan::default() };
        let mut ignored_room = IGNORED_BYTES;
        for entry in &self.scan.entries {
            if entry.kind == Kind::Special || entry.is_ignored && entry.size > ignored_room {
                plan.unkept.push(shown(&entry.path));
                continue;
            }
            if entry.is_ignored {
                ignored_room -= entry.size;
            }
            let folder: &[u8] = if entry.is_ignored { b"ignored/" } else { b"tree/" };
            plan.files.push(([folder, &entry.path].concat(), entry.clone()));
        }
        plan
    }

    /// Returns the begin of the stream for `git fast-import`: everything but the files of the worktree.
    fn begin(&self, name: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let now = SystemClock.now().as_millis() / 1000;
        line(&mut out, &format!("commit {name}"));
        line(&mut out, &format!("author {AUTHOR} {now} +0000"));
        line(&mut out, &format!("committer {AUTHOR} {now} +0000"));
        let tree_name = self.worktree.path.file_name().unwrap_or_default().to_string_lossy();
        let tree_name = session_core::text::visible(&tree_name).into_owned();
        data(&mut out, format!("Worktree of session {}: {tree_name}\n", self.worktree.session()).as_bytes());
        for (place, parent) in self.commits.iter().enumerate() {
            line(&mut out, &format!("{} {parent}", if place == 0 { "from" } else { "merge" }));
        }
        // Of the first parent's files, none is in the pin.
        line(&mut out, "deleteall");
        for blob in &self.staged {
            line(&mut out, &format!("M 100644 {blob} staged/{blob}"));
        }
        for (object, kind) in &self.others {
            match kind.as_str() {
                "tree" => line(&mut out, &format!("M 040000 {object} kept/{object}")),
                "blob" => line(&mut out, &format!("M 100644 {object} kept/{object}")),
                _ => return Err(self.failed(format!("its registration names {object}, a {kind}"))),
            }
        }
        for file in ["index", "HEAD", "logs/HEAD"] {
            if let Some(bytes) = files::read_whole(&self.worktree.registration.dir.join(file))? {
                line(&mut out, &format!("M 100644 inline git/{file}"));
                data(&mut out, &bytes);
            }
        }
        Ok(out)
    }

    /// Packs every object that the pin alone may keep, and reads it back.
    ///
    /// A garbage collection that listed refs before the pin and worktrees after the removal sees none of these objects as used.
    /// It deletes only loose objects, and packs that were there before it listed refs: a pack that is newer than the pin outlives it.
    fn secure(&self, commit: &str) -> Result<()> {
        let mut input = Vec::new();
        line(&mut input, &format!("{commit}^{{tree}}"));
        for object in &self.commits {
            line(&mut input, object);
        }
        // Trees and blobs of the pin, and of the commits that no ref and no other reflog keeps.
        let promised =
            if self.repository.is_partial()? { "--exclude-promisor-objects" } else { "--missing=print" };
        let args = ["rev-list", "--objects", promised, "--no-object-names", "--stdin"];
        let kept = ["--not", "--branches", "--tags", "--remotes"];
        let call = self.repository.call("read a pin back").args(args).args(kept).offline();
        let listed = call.input(input).run()?.stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        if let Some(missing) = listed.lines().find_map(|object| object.strip_prefix('?')) {
            return Err(self.failed(format!("object {missing} is missing: another process has pruned it")));
        }
        let objects = format!("{commit}\n{listed}").into_bytes();
        let pack = self.repository.common_dir().join("objects/pack/pack");
        let call = self.repository.call("pack a pin").settings(["core.fsync=all", "core.fsyncMethod=fsync"]);
        let call = call.args(["pack-objects", "--quiet", "--window=0"]).arg(pack).offline();
        call.input(objects.clone()).run()?;
        // Fails for one that cannot be decompressed.
        let call = self.repository.call("read a pin back").args(["cat-file", "--batch", "--buffer"]);
        call.offline().input(objects).silent().run().map(drop)
    }
}

/// Removes the last pin of each worktree that is in its place, if objects of it are missing: its process was killed before it found
/// that.
pub(crate) fn remove_incomplete(repository: &Repository, worktrees: &[Worktree]) -> Result<()> {
    for worktree in worktrees {
        let names =
            ["--sort=-version:refname".to_owned(), "--count=1".to_owned(), folder(worktree.session())];
        let format = "--format=%(objectname) %(refname)";
        let last = repository.call("list pins").args(["for-each-ref", format]).args(names).run()?;
        let last = String::from_utf8_lossy(last.line()).into_owned();
        let Some((commit, name)) = last.split_once(' ') else { continue };
        if objects::is_missing_any(repository, commit)? {
            repository.call("remove a pin").args(["update-ref", "-d", name, commit]).run()?;
        }
    }
    Ok(())
}

/// The files of a worktree by what is kept.
#[derive(Debug, Default)]
struct Plan {
    /// Their names in the pin.
    files: Vec<(Vec<u8>, Entry)>,
    unkept: Vec<String>,
}

/// Writes one file as it is on the disk.
fn write_file(out: &mut dyn Write, root: &Path, name: &[u8], entry: &Entry) -> io::Result<()> {
    let path = join(root, &entry.path);
    let mode: &[u8] = match entry.kind {
        Kind::Link => b"120000",
        Kind::File { is_executable: true } => b"100755",
        Kind::File { is_executable: false } | Kind::Special => b"100644",
    };
    let mut begin = [b"M ", mode, b" inline "].concat();
    quote(&mut begin, name);
    begin.push(b'\n');
    out.write_all(&begin)?;
    if entry.kind == Kind::Link {
        let target = fs::read_link(&path)?;
        let mut content = Vec::new();
        data(&mut content, target.as_os_str().as_bytes());
        return out.write_all(&content);
    }
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
    writeln!(out, "data {}", entry.size)?;
    if io::copy(&mut file.take(entry.size), out)? < entry.size {
        return Err(io::Error::other(format!("{} became shorter while it was read", path.display())));
    }
    out.write_all(b"\n")
}

/// Returns the folder of a session's pins, with a slash at its end.
pub(crate) fn folder(session: SessionId) -> String {
    format!("refs/sessions/{session}/")
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn data(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = writeln!(out, "data {}", bytes.len());
    out.extend_from_slice(bytes);
    out.push(b'\n');
}

/// Quotes a path as C does, so that any byte can be in it.
fn quote(out: &mut Vec<u8>, path: &[u8]) {
    out.push(b'"');
    for byte in path {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push(b'"');
}

fn shown(path: &[u8]) -> String {
    session_core::text::visible(&String::from_utf8_lossy(path)).into_owned()
}

/// Returns the commit that is checked out; `None` on a branch without one.
pub(crate) fn head(repository: &Repository, worktree: &Worktree) -> Result<Option<String>> {
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"];
    let output = repository.git().call(&worktree.path, "read HEAD").args(args).offline().output()?;
    Ok((output.code == Some(0)).then(|| String::from_utf8_lossy(output.line()).into_owned()))
}
