//! The command to type when this user may not use a file of a store.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use sessionkit::SessionId;

use crate::quoting::quoted_os;

/// Returns the command that gives this user access to the first file in the way to a store, or in it, that is not
/// accessible; `None` if all are.
pub(crate) fn command(store: &Path, session: Option<SessionId>) -> Option<String> {
    let denied = candidates(store, session).into_iter().find(|path| is_denied(path))?;
    let path = quoted_os(denied.as_os_str());
    let owner = std::os::unix::fs::MetadataExt::uid(&denied.symlink_metadata().ok()?);
    Some(if owner == rustix::process::geteuid().as_raw() {
        format!("chmod -R u+rwX {path}")
    } else {
        format!("sudo chown -R \"$(id -un)\" {path}")
    })
}

/// Returns the folders and files that a store needs, those before others that lead to them.
fn candidates(store: &Path, session: Option<SessionId>) -> Vec<PathBuf> {
    let mut paths = vec![store.to_owned()];
    paths.extend(entries(store));
    if let Some(id) = session {
        let folder = store.join("sessions").join(id.to_string());
        let inside = entries(&folder);
        paths.push(folder);
        paths.extend(inside);
    }
    paths
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn is_denied(path: &Path) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    let wanted = Access::READ_OK | Access::WRITE_OK;
    access(path, if found.is_dir() { wanted | Access::EXEC_OK } else { wanted }).is_err()
}
