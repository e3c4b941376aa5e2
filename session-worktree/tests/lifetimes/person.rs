//! The work of a person or an agent in a worktree, at random.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use session_worktree::Worktree;

use crate::fixture::{git_command, write};

/// A generator of numbers that repeats with its seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = [0, 1, 20, 3_000][self.below(4)];
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// Names of files, hostile ones included. The last ones are ignored.
const NAMES: [&str; 9] = [
    "README",
    "src/main.rs",
    "new",
    "sub/dir/deep",
    "with \"quotes\"\nand lines",
    "-f",
    "\u{e4}\u{1f980}",
    "a.log",
    "sub/b.log",
];

/// Does one thing. What git refuses in the present state is not done.
pub(crate) fn work(worktree: &Worktree, random: &mut Random) {
    let path = worktree.path();
    let name = NAMES[random.below(NAMES.len())];
    let file = path.join(name);
    let run = |args: &[&str]| {
        let _ = git_command(path, args).output().unwrap();
    };
    match random.below(16) {
        0..=3 => {
            if !file.is_symlink() && !file.is_dir() {
                write(&file, random.bytes());
            }
        }
        4 => {
            let _ = fs::remove_file(&file);
        }
        5 => {
            let _ = fs::set_permissions(
                &file,
                fs::Permissions::from_mode([0o755, 0o644, 0o600][random.below(3)]),
            );
        }
        6 => {
            let _ = symlink(name, path.join("link"));
        }
        7 | 8 => run(&["add", "--all"]),
        9 => run(&["commit", "--quiet", "--all", "--message=work"]),
        10 => run(&["reset", "--quiet", ["--hard", "--soft", "--mixed"][random.below(3)], "HEAD~1"]),
        11 => run(&["update-index", ["--assume-unchanged", "--skip-worktree"][random.below(2)], name]),
        12 => run(&["stash", "--quiet"]),
        13 => run(&["checkout", "--quiet", ["--detach", "-", "main"][random.below(3)]]),
        14 => {
            let other = format!("other-{}", random.below(1_000_000));
            run(&["branch", &other, "HEAD~1"]);
            run(&["merge", "--no-edit", &other]);
            run(&["cherry-pick", "--no-commit", "main"]);
        }
        _ => run(&["rm", "--cached", "--quiet", name]),
    }
}

/// Returns `true` if a snapshot keeps everything: no empty directories, no modes but the usual ones.
pub(crate) fn is_plain(files: &BTreeMap<PathBuf, (u32, Vec<u8>)>) -> bool {
    const DIRECTORY: u32 = 0o040_000;
    files.iter().all(|(path, (mode, _))| {
        if mode & 0o170_000 == DIRECTORY {
            let is_inside = |other: &Path| other != path && other.starts_with(path);
            return mode & 0o777 == 0o755 && files.keys().any(|other| is_inside(other));
        }
        matches!(mode & 0o777, 0o644 | 0o755 | 0o777)
    })
}
