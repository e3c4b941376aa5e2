//! Processes whose working directory is in a worktree.

use std::path::Path;

/// Returns the ids of the processes of this user that work in a directory, without this one, and the number of processes of
/// other users, which cannot be read.
#[cfg(target_os = "linux")]
pub(crate) fn inside(dir: &Path) -> (Vec<u32>, u64) {
    let Ok(dir) = dir.canonicalize() else { return (Vec::new(), 0) };
    let Ok(entries) = std::fs::read_dir("/proc") else { return (Vec::new(), 0) };
    let (mut found, mut unknown) = (Vec::new(), 0);
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        match std::fs::read_link(entry.path().join("cwd")) {
            Ok(working) if id != std::process::id() && working.starts_with(&dir) => found.push(id),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => unknown += 1,
            Ok(_) | Err(_) => {}
        }
    }
    found.sort_unstable();
    (found, unknown)
}

/// Returns none: other systems do not show them.
#[cfg(not(target_os = "linux"))]
pub(crate) fn inside(_dir: &Path) -> (Vec<u32>, u64) {
    (Vec::new(), 0)
}
