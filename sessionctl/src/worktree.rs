//! The linked git worktree that a directory lies in, by the file `.git` in it. Git is not run: a hook or a setting of a
//! repository must not be able to run anything here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use sessionkit::backend::check_name;

use crate::plain_file;

/// Bytes that are read of a file `.git`: a path, and a little more.
const LONGEST_LINK: u64 = 8 * 1024;

/// A linked worktree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// The name under which the repository knows it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Returns the linked worktree that contains a directory. The main worktree of a repository and a submodule are none.
pub(crate) fn containing(directory: &Path) -> Option<Worktree> {
    let root = directory.ancestors().find(|ancestor| ancestor.join(".git").symlink_metadata().is_ok())?;
    // Fails for the main worktree, where it is a folder.
    let link = plain_file::read(&root.join(".git"), LONGEST_LINK).ok()?;
    let registration =
        PathBuf::from(OsString::from_vec(link.strip_prefix(b"gitdir: ")?.trim_ascii_end().to_vec()));
    let (name, folder) = (registration.file_name()?, registration.parent()?);
    if folder.file_name() != Some(OsStr::new("worktrees")) {
        return None;
    }
    let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
    let name = if check_name(&name).is_ok() { name } else { "worktree".to_owned() };
    Some(Worktree { name, path: root.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_linked_worktree_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        let inner = root.join("src/deep");
        std::fs::create_dir_all(&inner).unwrap();
        let found = |link: &str| {
            std::fs::write(root.join(".git"), link).unwrap();
            containing(&inner).map(|found| (found.name, found.path))
        };
        assert_eq!(found("gitdir: /repo/.git/worktrees/tree1\n"), Some(("tree1".to_owned(), root.clone())));
        assert_eq!(found("gitdir: ../.git/worktrees/-x\n"), Some(("worktree".to_owned(), root.clone())));
        assert_eq!(found("gitdir: /repo/.git/modules/sub\n"), None);
        assert_eq!(found("something else"), None);
        std::fs::remove_file(root.join(".git")).unwrap();
        std::fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(containing(&inner), None);
    }
}
