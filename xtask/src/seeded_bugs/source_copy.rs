//! The copy of the source tree in which bugs are seeded. The working tree is never changed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bug::Bug;
use crate::workspace;

/// A copy of all files that git tracks or would add, as they are in the working tree.
#[derive(Debug)]
pub(crate) struct SourceCopy {
    root: PathBuf,
}

/// A copy with a bug in it. Revert it before the next one.
#[must_use = "the next bug requires a copy without this one"]
pub(crate) struct Patched {
    /// The original content by path.
    before: Vec<(PathBuf, Vec<u8>)>,
}

impl SourceCopy {
    /// Brings the copy up to date. Unchanged files are not written, so that their build stays fresh.
    ///
    /// # Errors
    /// A failed call of git, or a file that cannot be copied.
    pub(crate) fn update() -> Result<Self, Box<dyn Error>> {
        let copy = Self { root: folder().join("tree") };
        let mut stale = Vec::new();
        files_below(&copy.root, &mut stale)?;
        for path in workspace::paths()? {
            let (from, to) = (workspace::root().join(&path), copy.root.join(&path));
            // Tracked, but deleted.
            let Ok(wanted) = fs::read(&from) else { continue };
            stale.retain(|other| *other != to);
            if fs::read(&to).is_ok_and(|current| current == wanted) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&to, &wanted)?;
            fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        }
        for path in stale {
            fs::remove_file(path)?;
        }
        Ok(copy)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Applies a bug.
    ///
    /// # Errors
    /// Git's message about a patch that does not apply. Nothing was changed then.
    pub(crate) fn patch(&self, bug: &Bug) -> Result<Patched, Box<dyn Error>> {
        let mut before = Vec::new();
        for file in &bug.files {
            let path = self.root.join(file);
            let content = fs::read(&path).map_err(|error| format!("{file}: {error}"))?;
            before.push((path, content));
        }
        apply(&self.root, &bug.path(), &["apply"])?;
        Ok(Patched { before })
    }
}

impl Patched {
    /// Restores the original content. The files get a new modification time, so that Cargo builds them again.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn revert(self) -> Result<(), Box<dyn Error>> {
        for (path, content) in self.before {
            fs::write(path, content)?;
        }
        Ok(())
    }
}

/// Returns the folder of the copy, its build and the output of the suites. It is kept between runs.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("target").join("seeded-bugs")
}

/// Checks that a patch, by its path from the root, applies to the working tree.
///
/// # Errors
/// Git's message.
pub(crate) fn applies(patch: &str) -> Result<(), Box<dyn Error>> {
    apply(workspace::root(), patch, &["apply", "--check"])
}

fn apply(root: &Path, patch: &str, how: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(how).arg(workspace::root().join(patch));
    // The copy is inside the repository's folder, but not a repository: git must not use the one above it.
    git.env("GIT_CEILING_DIRECTORIES", folder());
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    workspace::output(&mut git).map(|_| ())
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
