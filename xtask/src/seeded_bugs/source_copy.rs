//! The copy of the tree in which bugs are seeded, so that nothing happens to the one that somebody works in.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bug::Bug;
use crate::workspace;

/// A copy of all files that git knows, as they are in the working tree.
#[derive(Debug)]
pub(crate) struct SourceCopy {
    root: PathBuf,
}

/// A copy with a bug in it.
#[must_use = "the next bug needs a tree without this one"]
pub(crate) struct Patched {
    /// What was there before, by its path.
    before: Vec<(PathBuf, Vec<u8>)>,
}

impl SourceCopy {
    /// Brings the copy up to date. A file that is the same is not touched, so that what was built of it stays good.
    ///
    /// # Errors
    /// Where git does not answer, or a file cannot be copied.
    pub(crate) fn copy() -> Result<Self, Box<dyn Error>> {
        let tree = Self { root: folder().join("tree") };
        let mut stale = Vec::new();
        files_below(&tree.root, &mut stale)?;
        for path in workspace::paths()? {
            let (from, to) = (workspace::root().join(&path), tree.root.join(&path));
            // Tracked, and gone.
            let Ok(wanted) = fs::read(&from) else { continue };
            stale.retain(|other| *other != to);
            if fs::read(&to).is_ok_and(|there| there == wanted) {
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
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Seeds a bug.
    ///
    /// # Errors
    /// What git says of a patch that does not apply; nothing was changed then.
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
    /// Puts back what was there before. The files are newer after that: what was built with the bug is built again.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub(crate) fn revert(self) -> Result<(), Box<dyn Error>> {
        for (path, content) in self.before {
            fs::write(path, content)?;
        }
        Ok(())
    }
}

/// Where the copy, what is built of it, and what the suites print are kept from one run to the next.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("target").join("seeded-bugs")
}

/// Whether a patch, by its path from the root, applies to the working tree.
///
/// # Errors
/// What git says against it.
pub(crate) fn applies(patch: &str) -> Result<(), Box<dyn Error>> {
    apply(workspace::root(), patch, &["apply", "--check"])
}

fn apply(root: &Path, patch: &str, how: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(how).arg(workspace::root().join(patch));
    // The copy lies in a folder of the repository and is none itself: git must not look for one above it.
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
