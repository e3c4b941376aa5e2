//! The folder for sockets of owners: of this user alone, in memory where the system has such a place. Where another user
//! has taken its name, it is one with a random name.
//!
//! The name of a file in it begins with the process that listens, so that it can be found to be gone later.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::{Pid, geteuid};

use crate::procfs::Process;

/// Maximum bytes of a socket's path, its terminator included: a limit of the system.
pub(crate) const PATH_BYTES: usize = 108;

/// Returns the path of a new socket of this process, in the first folder that is usable.
pub(crate) fn new_path(name: &str, extension: &str) -> io::Result<PathBuf> {
    let me = Process::read(rustix::process::getpid())?.ok_or(io::ErrorKind::NotFound)?;
    let name = format!("{}-{}-{name}.{extension}", me.pid.as_raw_nonzero(), me.start_time);
    let random = uuid::Uuid::new_v4().simple().to_string();
    // Short, because the path of a socket is.
    let random = random.get(..8).unwrap_or(&random);
    let new = temporary_folders().map(|folder| folder.join(format!("{}-{random}", own_name())));
    let mut problems: Vec<String> = Vec::new();
    for folder in candidates().into_iter().chain(random_folders()).chain(new) {
        let path = folder.join(&name);
        let problem = if path.as_os_str().len() >= PATH_BYTES {
            "its path is too long for a socket".to_owned()
        } else {
            match ensure_private_folder(&folder) {
                Ok(()) => return Ok(path),
                Err(error) => error.to_string(),
            }
        };
        problems.push(format!("{}: {problem}", folder.display()));
    }
    let text = format!(
        "no folder for sockets that only this user can enter: set XDG_RUNTIME_DIR to one ({})",
        problems.join("; ")
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Returns id and start time of the process that listens, or listened, at a path with this extension.
pub(crate) fn listener_of(path: &Path, extension: &str) -> Option<(Pid, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(extension)?.strip_suffix('.')?;
    let mut parts = name.split('-');
    Some((Pid::from_raw(parts.next()?.parse().ok()?)?, parts.next()?.parse().ok()?))
}

/// Returns `true` if the process that listened at a path with this extension is known to be gone.
pub(crate) fn is_listener_gone(path: &Path, extension: &str) -> bool {
    listener_of(path, extension).is_some_and(|(pid, start_time)| {
        Process::read(pid).is_ok_and(|now| now.is_none_or(|now| now.start_time != start_time))
    })
}

/// Returns the folders in which sockets of this user may be, the preferred one first. A folder that another user can have
/// filled is not among them: a process that connects to a socket trusts what listens there.
pub(crate) fn folders() -> Vec<PathBuf> {
    let all = candidates().into_iter().chain(random_folders());
    all.filter(|folder| check_private_folder(folder).is_ok()).collect()
}

/// Returns the folders that are tried, the preferred one first.
fn candidates() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let mut folders: Vec<PathBuf> = runtime.map(|path| path.join("sessionctl")).into_iter().collect();
    // What another process of this user has, if this one was started without the variable.
    let usual = format!("/run/user/{}/sessionctl", geteuid().as_raw());
    folders.extend(Path::new(&usual).parent().is_some_and(Path::is_dir).then(|| usual.into()));
    folders.extend(temporary_folders().map(|folder| folder.join(own_name())));
    folders
}

fn own_name() -> String {
    format!("sessionctl-{}", geteuid().as_raw())
}

/// Returns the folders of the system for temporary files.
fn temporary_folders() -> impl Iterator<Item = PathBuf> {
    let (first, usual) = (std::env::temp_dir(), PathBuf::from("/tmp"));
    let second = (first != usual).then_some(usual);
    std::iter::once(first).chain(second)
}

/// Returns the folders with random names that this user has, or that another user has given such a name.
fn random_folders() -> impl Iterator<Item = PathBuf> {
    let prefix = format!("{}-", own_name());
    temporary_folders()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(Iterator::flatten)
        .filter(move |entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))
        .map(|entry| entry.path())
}

/// Creates a folder that other users cannot enter, or checks that it is one.
pub(crate) fn ensure_private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    check_private_folder(folder)
}

/// Checks that a folder is of this user, and that other users cannot enter it.
fn check_private_folder(folder: &Path) -> io::Result<()> {
    // Without following a link, which another user may have placed here.
    let found = std::fs::symlink_metadata(folder)?;
    let others = Mode::RWXG | Mode::RWXO;
    let closed = !Mode::from_raw_mode(found.mode()).intersects(others);
    if found.is_dir() && found.uid() == geteuid().as_raw() && closed {
        Ok(())
    } else {
        let problem = if found.uid() == geteuid().as_raw() {
            "not a folder that other users cannot enter (`chmod 700`)"
        } else {
            "belongs to another user"
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_a_folder_that_others_cannot_enter_is_private() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("sockets");
        assert!(check_private_folder(&folder).is_err(), "there is none");
        ensure_private_folder(&folder).unwrap();
        check_private_folder(&folder).unwrap();
        let link = outer.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(check_private_folder(&link).is_err());
        for mode in [0o701, 0o710, 0o770, 0o777] {
            std::fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            assert!(check_private_folder(&folder).is_err(), "{mode:o}");
            assert!(ensure_private_folder(&folder).is_err(), "{mode:o}");
        }
    }
    #[test]
    fn a_folder_of_another_user_is_not_private() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("sockets");
        ensure_private_folder(&folder).unwrap();
        if std::os::unix::fs::chown(&folder, Some(geteuid().as_raw() + 1), None).is_err() {
            drop(writeln!(std::io::stderr().lock(), "not run: only root can give a folder away"));
            return;
        }
        let error = check_private_folder(&folder).unwrap_err();
        assert_eq!(error.to_string(), "belongs to another user");
    }
    #[test]
    fn a_listener_is_known_by_its_start_time() {
        let me = Process::read(rustix::process::getpid()).unwrap().unwrap();
        let path = |start: u64| PathBuf::from(format!("/none/{}-{start}-x.sock", me.pid.as_raw_nonzero()));
        assert!(!is_listener_gone(&path(me.start_time), "sock"));
        // This process has the id of an earlier one.
        assert!(is_listener_gone(&path(me.start_time - 1), "sock"));
        assert!(!is_listener_gone(Path::new("/none/x.sock"), "sock"), "an unknown listener may be alive");
    }
}
