//! Arguments of `worktree`, and those of `run` about worktrees.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

/// The worktree of a new session.
#[derive(Debug, Args)]
pub(crate) struct WorktreeOptions {
    /// Run in a git worktree of its own, next to the repository, on the new branch feature/NAME; nothing that the program
    /// leaves there is lost [default NAME: that of the session, else of the program]. A NAME whose sessions have ended is used
    /// again
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) worktree: Option<String>,
    /// Repository of the worktree [default: that of the current directory]
    #[arg(long, value_name = "DIR", requires = "worktree")]
    pub(crate) repo: Option<PathBuf>,
    /// Commit that it starts at: a revision, `default` for the default branch, `head` for the one that is checked out
    #[arg(long, value_name = "REF", requires = "worktree", default_value = "head")]
    pub(crate) base: String,
    /// Command that prepares a new worktree, run with `sh -c` before the program until it has succeeded there once [default: that
    /// of the repository's `.sessionctl.toml`, once it was approved]
    #[arg(long, value_name = "CMD", requires = "worktree")]
    pub(crate) setup: Option<String>,
    /// Prepare nothing
    #[arg(long, requires = "worktree", conflicts_with = "setup")]
    pub(crate) no_setup: bool,
    /// Approve the set-up of the repository's `.sessionctl.toml`, and the programs that its configuration names for git
    #[arg(long, requires = "worktree")]
    pub(crate) yes: bool,
    /// Merge what was committed into the branch from which the worktree started, once the program has exited with 0, completely or
    /// not at all; the result is in `show`
    #[arg(long, requires = "worktree")]
    pub(crate) auto_merge: bool,
    /// Directory inside the worktree in which the program runs
    #[arg(long = "in", value_name = "SUBDIR", requires = "worktree")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorktreeAction {
    /// List the worktrees of sessions in a repository, and what was kept of removed ones
    Ls(Repo),
    /// Print the path of a session's worktree
    Path(One),
    /// Show the changes in a worktree since the commit that it started at
    Diff(Diff),
    /// Move worktrees into the trash, with everything in them
    Rm(RmWorktree),
    /// Merge what is committed in a worktree into another branch, completely or not at all
    Merge(Merge),
    /// Put a removed worktree back, or create one from a snapshot
    Restore(Restore),
    /// List the snapshots of a session's worktree
    Snapshots(Snapshots),
    /// Delete removed worktrees for good; their snapshots stay
    Purge(Purge),
    /// Unlock a worktree, so that git commands can move or remove it
    #[command(after_help = "Example:\n  sessionctl worktree unlock fix-login")]
    Unlock(One),
}

/// The repository that a verb works on.
#[derive(Debug, Args)]
pub(crate) struct Repo {
    /// Repository [default: that of the session, else of the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) repo: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cd \"$(sessionctl worktree path fix-login)\"")]
pub(crate) struct One {
    /// Session: @last, an id, a name, or the beginning of either
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) repo: Repo,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl worktree diff fix-login --stat")]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) one: One,
    /// Print only the names and the numbers of lines
    #[arg(long)]
    pub(crate) stat: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl worktree rm fix-login fix-logout\n  \
    sessionctl worktree rm --merged --dry-run\n\n\
    Takes a worktree with changes, too: all of it moves into the trash of the repository, and a snapshot keeps it from git's \
    garbage collection; `restore` puts it back as it was. A worktree in which a session or process works is left.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct RmWorktree {
    /// Sessions whose worktrees are removed
    #[arg(required_unless_present_any = ["merged", "older_than"])]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) repo: Repo,
    /// Remove all clean worktrees of this repository whose sessions have ended and whose branches are proven to be merged, and
    /// these branches
    #[arg(long, conflicts_with_all = ["ids", "in_use"])]
    pub(crate) merged: bool,
    /// Remove all clean worktrees of this repository whose sessions ended at least that long ago
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["ids", "in_use"])]
    pub(crate) older_than: Option<Duration>,
    /// Delete the branch, too; the snapshot keeps its commits
    #[arg(long)]
    pub(crate) delete_branch: bool,
    /// Remove it though processes work in it, which no session of this store has
    #[arg(long)]
    pub(crate) in_use: bool,
    /// Print what would be removed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl worktree merge fix-login --dry-run\n  \
    sessionctl worktree merge fix-login --squash --into main\n\n\
    The merge is computed before anything changes. If there are conflicts, they are listed, and nothing is changed. A branch that \
    is checked out is fast-forwarded there; files with changes of their own are not overwritten.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Merge {
    #[command(flatten)]
    pub(crate) one: One,
    /// Branch to merge into [default: that from which the worktree started]
    #[arg(long, value_name = "BRANCH")]
    pub(crate) into: Option<String>,
    /// Add one commit with all changes
    #[arg(long)]
    pub(crate) squash: bool,
    /// Fast-forward, or change nothing
    #[arg(long, conflicts_with = "squash")]
    pub(crate) ff: bool,
    /// Message of a new commit [default: that of git]
    #[arg(long, short, value_name = "TEXT", conflicts_with = "ff")]
    pub(crate) message: Option<String>,
    /// Merge what is committed although the worktree has other changes
    #[arg(long)]
    pub(crate) committed: bool,
    /// Print what would be merged, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl worktree restore fix-login\n  \
    sessionctl worktree restore fix-login@2 --to ../look\n\n\
    Without a number, the worktree comes back from the trash, byte for byte. With one, a new worktree is created from that \
    snapshot, which is possible after the trash was purged, too.")]
pub(crate) struct Restore {
    /// Session, and the number of a snapshot
    #[arg(value_name = "ID[@N]")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) repo: Repo,
    /// Directory for it [default: the one that it had; if that is taken, one next to it]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl worktree snapshots fix-login")]
pub(crate) struct Snapshots {
    #[command(flatten)]
    pub(crate) one: One,
    /// Remove this snapshot: git may delete its content then
    #[arg(long, value_name = "N")]
    pub(crate) drop: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl worktree purge fix-login\n\n\
    Deletes what is in the trash of a session's worktrees. One with content that its snapshot does not keep, such as large \
    ignored files, is left unless --all is given.")]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) one: One,
    /// Delete what no snapshot keeps, too
    #[arg(long)]
    pub(crate) all: bool,
}
