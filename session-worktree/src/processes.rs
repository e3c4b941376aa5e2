//! Processes whose working directory is in a worktree.

use std::fs;
use std::path::Path;

/// Returns the ids of the processes of this user that work in a directory, without this one. Those of other users cannot
/// be read.
#[cfg(target_os = "linux")]
pub(crate) fn inside(dir: &Path) -> Vec<u32> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let works_there = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let working = fs::read_link(entry.path().join("cwd")).ok()?;
        (id != own && working.starts_with(&dir)).then_some(id)
    };
    let mut found: Vec<u32> = entries.flatten().filter_map(works_there).collect();
    found.sort_unstable();
    found
}

/// Returns none: other systems do not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn inside(_dir: &Path) -> Vec<u32> {
    Vec::new()
}
