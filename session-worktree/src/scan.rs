//! The content of a worktree: every file as it is on the disk, sorted by what is kept of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{IoContext as _, Result};
use crate::files;
use crate::git::Git;
use crate::worktree::Worktree;

/// The begin of a `CACHEDIR.TAG` (<https://bford.info/cachedir/>).
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A file, by its path below the worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) is_ignored: bool,
    stamp: Stamp,
}

/// Everything that changes when the content or the attributes of a file are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File {
        is_executable: bool,
    },
    Link,
    /// A socket, pipe or device.
    Special,
}

/// A directory that is not searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsearched {
    pub(crate) path: Vec<u8>,
    pub(crate) reason: UnsearchedReason,
}

/// The reason why a directory is not searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsearchedReason {
    /// Its content can be created again.
    Cache,
    /// Another repository, or a submodule.
    Repository,
}

/// The content of a worktree at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) entries: Vec<Entry>,
    pub(crate) unsearched: Vec<Unsearched>,
    /// The files of the registration that say what is checked out and staged.
    git: Vec<Option<Stamp>>,
}

/// The ignored files and directories, as git sees them.
#[derive(Debug, Default)]
struct Ignored {
    files: HashSet<Vec<u8>>,
    /// Without the slash at the end.
    directories: HashSet<Vec<u8>>,
}

impl Ignored {
    fn read(git: &Git, worktree: &Path) -> Result<Self> {
        let args = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"];
        let output = git.call(worktree, "list ignored files").args(args).offline().run()?;
        let mut ignored = Self::default();
        for path in output.fields() {
            match path.strip_suffix(b"/") {
                Some(directory) => ignored.directories.insert(directory.to_owned()),
                None => ignored.files.insert(path.to_owned()),
            };
        }
        Ok(ignored)
    }
}

impl Scan {
    /// Reads the content of a worktree. `caches` are names of directories whose content can be created again if it is
    /// ignored.
    pub(crate) fn read(git: &Git, worktree: &Worktree, caches: &[String]) -> Result<Self> {
        let registration = worktree.git_dir();
        let worktree = worktree.path();
        let ignored = Ignored::read(git, worktree)?;
        let stamp = |name| fs::symlink_metadata(registration.join(name)).ok().as_ref().map(Stamp::of);
        let git = ["index", "HEAD", "logs/HEAD"].map(stamp).to_vec();
        let mut scan = Self { git, ..Self::default() };
        let mut pending: Vec<(Vec<u8>, bool)> = vec![(Vec::new(), false)];
        while let Some((directory, is_ignored)) = pending.pop() {
            let path = join(worktree, &directory);
            let mut names = Vec::new();
            for entry in fs::read_dir(&path).context("list", &path)? {
                names.push(entry.context("list", &path)?.file_name());
            }
            names.sort_unstable();
            for name in names {
                if directory.is_empty() && name == ".git" {
                    continue;
                }
                let relative = if directory.is_empty() {
                    name.as_bytes().to_vec()
                } else {
                    [&directory, b"/".as_slice(), name.as_bytes()].concat()
                };
                let full = join(worktree, &relative);
                let metadata = full.symlink_metadata().context("read", &full)?;
                if !metadata.is_dir() {
                    let is_ignored = is_ignored || ignored.files.contains(&relative);
                    scan.entries.push(entry(relative, &metadata, is_ignored));
                    continue;
                }
                let is_ignored = is_ignored || ignored.directories.contains(&relative);
                if files::exists(&full.join(".git")) {
                    let reason = UnsearchedReason::Repository;
                    scan.unsearched.push(Unsearched { path: relative, reason });
                } else if is_ignored && is_cache(&full, &name, caches)? {
                    scan.unsearched.push(Unsearched { path: relative, reason: UnsearchedReason::Cache });
                } else {
                    pending.push((relative, is_ignored));
                }
            }
        }
        scan.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        scan.unsearched.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(scan)
    }

    /// Returns the directories that are or contain another repository.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = &[u8]> {
        let is_repository = |found: &&Unsearched| found.reason == UnsearchedReason::Repository;
        self.unsearched.iter().filter(is_repository).map(|found| found.path.as_slice())
    }
}

fn entry(path: Vec<u8>, metadata: &fs::Metadata, is_ignored: bool) -> Entry {
    let kind = if metadata.is_symlink() {
        Kind::Link
    } else if metadata.is_file() {
        Kind::File { is_executable: metadata.mode() & 0o100 != 0 }
    } else {
        Kind::Special
    };
    let stamp = Stamp::of(metadata);
    Entry { path, kind, size: metadata.len(), is_ignored, stamp }
}

fn is_cache(path: &Path, name: &OsStr, caches: &[String]) -> Result<bool> {
    if caches.iter().any(|cache| name == cache.as_str()) {
        return Ok(true);
    }
    let tag = path.join("CACHEDIR.TAG");
    if !tag.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let file = fs::File::open(&tag).context("read", &tag)?;
    file.take(CACHE_SIGNATURE.len() as u64).read_to_end(&mut begin).context("read", &tag)?;
    Ok(begin == CACHE_SIGNATURE)
}

/// Returns the path of a file below a directory.
pub(crate) fn join(directory: &Path, relative: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(relative))
}
