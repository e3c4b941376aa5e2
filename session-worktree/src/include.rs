//! Files that git does not carry into a new worktree: those that are ignored, and that the file `.worktreeinclude` names.

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat, symlinkat};
use rustix::io::Errno;

use crate::error::{IoContext as _, Result};
use crate::repository::Repository;

/// The file with the patterns, which are those of a `.gitignore`.
const FILE: &str = ".worktreeinclude";

/// The result of copying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncludedFiles {
    /// The number of files that were copied.
    pub copied: u64,
    /// Paths that were left out, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Copies the files that `.worktreeinclude` of the source names and git ignores. Nothing is overwritten, and no link to a
/// directory is followed.
pub(crate) fn copy(repository: &Repository, source: &Path, target: &Path) -> Result<IncludedFiles> {
    let mut included = IncludedFiles::default();
    if !source.join(FILE).symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(included);
    }
    let list = |exclude: &str| {
        let args = ["ls-files", "-z", "--others", "--ignored", exclude];
        repository.git().call(source, "list ignored files").args(args).offline().run()
    };
    let (named, ignored) = (list("--exclude-from=.worktreeinclude")?, list("--exclude-standard")?);
    let ignored: HashSet<&[u8]> = ignored.fields().collect();
    let (from, to) = (open_dir(source)?, open_dir(target)?);
    for path in named.fields().filter(|path| ignored.contains(path)) {
        match copy_file(&from, &to, path) {
            Ok(()) => included.copied += 1,
            Err(error) => {
                let path = PathBuf::from(OsString::from_vec(path.to_vec()));
                included.skipped.push((path, error.to_string()));
            }
        }
    }
    Ok(included)
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
        .context("open", path)
}

/// Copies one file or link, with its mode. Each directory is opened without following links.
fn copy_file(from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    let mut components = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = components.next() {
        let name = CString::new(name)?;
        if components.peek().is_none() {
            return copy_entry(&from, &to, &name);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        from = openat(&from, &name, flags, Mode::empty())?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&from)?.st_mode);
        match mkdirat(&to, &name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        to = openat(&to, &name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => io::Error::other("a directory above it is a link or a file there"),
            error => error.into(),
        })?;
    }
    Ok(())
}

/// Creates a file without a name in a directory, where the file system can do that.
#[cfg(target_os = "linux")]
fn unnamed_file(dir: &OwnedFd) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(dir, c".", flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn unnamed_file(_dir: &OwnedFd) -> Option<File> {
    None
}

/// Gives a file without a name its name.
fn link(file: &File, dir: &OwnedFd, name: &CString) -> std::result::Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Shares the blocks of a file, where the file system can do that.
#[cfg(target_os = "linux")]
fn clone(source: &File, target: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_source: &File, _target: &File) -> bool {
    false
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CString) -> io::Result<()> {
    let exists = |error: Errno| match error {
        Errno::EXIST => io::Error::other("it is there already"),
        error => error.into(),
    };
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(target, to, name).map_err(exists)
        }
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let mut source = File::from(openat(from, name, flags | OFlags::RDONLY, Mode::empty())?);
            let mode = Mode::from_raw_mode(stat.st_mode);
            let mut copy = |mut target: File| {
                if !clone(&source, &target) {
                    io::copy(&mut source, &mut target)?;
                }
                rustix::fs::fchmod(&target, mode)?;
                Ok::<_, io::Error>(target)
            };
            // Complete or absent, also after a crash: what is there is never written again.
            if let Some(unnamed) = unnamed_file(to) {
                return link(&copy(unnamed)?, to, name).map_err(exists);
            }
            let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            copy(File::from(openat(to, name, flags, mode).map_err(exists)?)).map(drop)
        }
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => {
            Err(io::Error::other(format!("{} is no file", OsStr::from_bytes(name.as_bytes()).display())))
        }
    }
}
