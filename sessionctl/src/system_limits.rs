//! Limits of the system: a check that programs can be run at all, before anything is written, and limits that tokio meets
//! later, as errors.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::RwLock;
use std::thread;

use rustix::process::{Resource, getrlimit};
use sessionkit::ErrorCode;

use crate::error::{Failure, Result};

/// Processes and threads that a session of a program needs besides this thread: supervisor, program, and threads for the
/// store, the output and the runtime.
const NEEDED: usize = 8;

/// Checks that this user may start as many processes and threads as a session needs. Without them, the session would be
/// created, and fail.
pub(crate) fn check() -> Result<()> {
    if is_far_from_limits(Path::new("/")) == Some(true) {
        return Ok(());
    }
    let hold = RwLock::new(());
    thread::scope(|scope| {
        // Each thread waits until all of them were started.
        let _held = hold.write();
        for _ in 0..NEEDED {
            thread::Builder::new()
                .spawn_scoped(scope, || drop(hold.read()))
                .map_err(|error| failure(&error))?;
        }
        Ok(())
    })
}

/// Begins of the panics of tokio where the system refuses it a thread or a descriptor: no call of it returns these as
/// errors.
const PANICS: [&str; 2] = ["OS can't spawn worker thread", "failed to create UnixStream"];

/// Runs work of tokio. A panic at a limit of the system is returned as an error and is not printed.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T> {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if limit(info.payload()).is_none() {
            print(info);
        }
    }));
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match limit(&*payload) {
        Some(text) => Failure::new(ErrorCode::SystemLimit, text),
        None => resume_unwind(payload),
    })
}

/// Returns the text of a panic at a limit of the system.
fn limit(payload: &(dyn Any + Send)) -> Option<String> {
    let text =
        payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied())?;
    PANICS
        .iter()
        .any(|begin| text.starts_with(begin))
        .then(|| format!("a limit of processes, threads or open files: {text}"))
}

/// Returns the error of a runtime that could not be built.
pub(crate) fn runtime_failure(error: &io::Error) -> Failure {
    Failure::new(ErrorCode::SystemLimit, format!("no descriptor or thread to wait for events with: {error}"))
}

/// Returns `true` if all processes and threads of the system together are so few that no limit of this user or of its
/// control groups can be near; `None` if that is not known. Takes a tenth of the time of starting threads.
fn is_far_from_limits(root: &Path) -> Option<bool> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let load = read("proc/loadavg")?;
    let (_, total) = load.split(' ').nth(3)?.split_once('/')?;
    let needed = total.parse::<u64>().ok()? + NEEDED as u64;
    let suffices = |limit: u64| limit > needed;
    let mut far = getrlimit(Resource::Nproc).current.is_none_or(suffices);
    for line in read("proc/self/cgroup")?.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mounts: &[&str] = match controllers {
            "" => &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
            _ if controllers.split(',').any(|name| name == "pids") => &["sys/fs/cgroup/pids"],
            _ => continue,
        };
        let mount =
            mounts.iter().map(|mount| root.join(mount)).find(|mount| mount.join("cgroup.procs").exists())?;
        // In a container, its own group may be the root of the mount.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = std::fs::read_to_string(mount.join(group).join("pids.max"));
            // A group without the file has no limit, nor one with `max`.
            far &= limit.ok().and_then(|limit| limit.trim().parse().ok()).is_none_or(suffices);
        }
    }
    Some(far)
}

fn failure(error: &io::Error) -> Failure {
    let text = format!(
        "fewer than {NEEDED} processes and threads can be started, by the limit of this user (`ulimit -u`) or of its \
         control group: {error}"
    );
    Failure::new(ErrorCode::SystemLimit, text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Returns the answer for a system with these files.
    fn is_far(files: &[(&str, &str)]) -> Option<bool> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        is_far_from_limits(root.path())
    }

    #[test]
    fn limits_of_all_control_groups_are_read() {
        let load = ("proc/loadavg", "0.68 1.55 1.78 1/82 26122\n");
        let unified = ("proc/self/cgroup", "0::/user.slice/session-3.scope\n");
        let mount = ("sys/fs/cgroup/cgroup.procs", "");
        let limit = |text| ("sys/fs/cgroup/user.slice/pids.max", text);
        assert_eq!(is_far(&[load, unified, mount]), Some(true));
        assert_eq!(is_far(&[load, unified, mount, limit("max\n")]), Some(true));
        assert_eq!(is_far(&[load, unified, mount, limit("91\n")]), Some(true));
        assert_eq!(is_far(&[load, unified, mount, limit("90\n")]), Some(false));
        let container = ("sys/fs/cgroup/pids.max", "90\n");
        assert_eq!(is_far(&[load, unified, mount, container]), Some(false), "its group is the root");
        let named = ("proc/self/cgroup", "8:cpu,pids:/a/b\n4:memory:/c\n0::/\n");
        let mounts = [("sys/fs/cgroup/pids/cgroup.procs", ""), ("sys/fs/cgroup/unified/cgroup.procs", "")];
        let files = |limit| [load, named, mounts[0], mounts[1], ("sys/fs/cgroup/pids/a/b/pids.max", limit)];
        assert_eq!((is_far(&files("91")), is_far(&files("90"))), (Some(true), Some(false)));
    }

    #[test]
    fn a_panic_at_a_limit_is_an_error() {
        // What `spawn_blocking` does where the system has no thread left.
        let error = catch(|| panic!("OS can't spawn worker thread: {}", 11)).unwrap_err();
        assert!(format!("{error:?}").contains("SystemLimit"), "{error:?}");
        let other = catch_unwind(|| drop(catch(|| panic!("another one"))));
        assert_eq!(other.unwrap_err().downcast_ref(), Some(&"another one"));
    }

    #[test]
    fn unknown_limits_are_not_far() {
        let load = ("proc/loadavg", "0.68 1.55 1.78 1/82 26122\n");
        let group = ("proc/self/cgroup", "0::/\n");
        let mount = ("sys/fs/cgroup/cgroup.procs", "");
        assert_eq!(is_far(&[load, group, mount]), Some(true));
        for known in [&[load, group][..], &[load, mount], &[group, mount]] {
            assert_eq!(is_far(known), None);
        }
        assert_eq!(is_far(&[("proc/loadavg", "none"), group, mount]), None);
    }
}
