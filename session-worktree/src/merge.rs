//! Merges of a worktree's branch into another one. Everything is prepared without touching a file or a ref: the merge is
//! computed by `git merge-tree`, and its commit written. Then the branch moves in one step, or not at all: by a fast-forward in the
//! worktree that has it checked out, which git refuses where a file would be overwritten, else by a compare-and-swap.

use std::path::{Path, PathBuf};

use crate::error::{Result, WorktreeError};
use crate::pin;
use crate::repository::{Repository, RepositoryLock};
use crate::status::{self, operation_in};
use crate::worktree::Worktree;

/// Attempts where another process moves the target meanwhile.
const ATTEMPTS: usize = 8;
/// Commits that the message of a squash lists, at most.
const LISTED: usize = 100;

/// The way in which a branch is merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeStrategy {
    /// A fast-forward where that is possible, else a commit with both parents.
    #[default]
    Merge,
    /// One commit with all changes, on top of the target.
    Squash,
    /// A fast-forward, or nothing.
    FastForward,
}

/// The options of a merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeOptions {
    /// The branch to merge into; that from which the worktree started if `None`.
    pub into: Option<String>,
    /// The way in which it is merged.
    pub strategy: MergeStrategy,
    /// The message of a new commit; one that git would write if `None`.
    pub message: Option<String>,
    /// Merge what is committed although the worktree has other changes.
    pub committed_only: bool,
    /// Change nothing.
    pub dry_run: bool,
}

impl MergeOptions {
    /// Merges into the branch from which the worktree started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the branch to merge into.
    #[must_use]
    pub fn into_branch(mut self, branch: impl Into<String>) -> Self {
        self.into = Some(branch.into());
        self
    }

    /// Sets the way in which it is merged.
    #[must_use]
    pub const fn strategy(mut self, strategy: MergeStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets the message of a new commit.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Merges what is committed although the worktree has other changes.
    #[must_use]
    pub const fn committed_only(mut self) -> Self {
        self.committed_only = true;
        self
    }

    /// Only finds what a merge would do.
    #[must_use]
    pub const fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// The result of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merge {
    /// The branch that was merged into.
    pub into: String,
    /// The commit that it pointed to.
    pub from: String,
    /// The commit that was merged.
    pub source: String,
    /// The result.
    pub outcome: MergeOutcome,
}

/// The result for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeOutcome {
    /// It has everything already.
    UpToDate,
    /// It points to this commit now.
    Merged(String),
    /// It would point to another commit; nothing was changed.
    WouldMerge,
    /// Both have changed these paths, in ways that git cannot combine. Nothing was changed.
    Conflicts(Vec<String>),
}

/// Merges what is checked out in a worktree. The caller holds the lock.
pub(crate) fn merge(
    repository: &Repository,
    lock: &RepositoryLock,
    worktree: &Worktree,
    options: &MergeOptions,
    caches: &[String],
) -> Result<Merge> {
    let worktree = worktree.record().locate()?;
    let own = worktree.branch()?;
    let into = target(repository, &worktree, options)?;
    if own.as_deref() == Some(&*into) {
        return Err(WorktreeError::NoTarget { reason: format!("`{into}` is the worktree's own branch") });
    }
    let source = pin::head(repository, &worktree)?
        .ok_or_else(|| WorktreeError::Unborn { what: worktree.path.display().to_string() })?;
    check_source(repository, &worktree, options, caches)?;
    for _ in 0..ATTEMPTS {
        let from = repository.resolve(&format!("refs/heads/{into}"), "commit")?;
        let prepared = prepare(repository, own.as_deref(), (&into, &from), &source, options)?;
        let outcome = match prepared {
            Prepared::Done(outcome) => outcome,
            Prepared::Commit(_) if options.dry_run => MergeOutcome::WouldMerge,
            Prepared::Commit(commit) => {
                if !advance(repository, lock, &into, &from, &commit)? {
                    continue;
                }
                MergeOutcome::Merged(commit)
            }
        };
        return Ok(Merge { into, from, source, outcome });
    }
    let reason = format!("`{into}` changes all the time");
    Err(WorktreeError::Git { what: "merge".to_owned(), reason })
}

/// Returns the local branch to merge into.
pub(crate) fn target(repository: &Repository, worktree: &Worktree, options: &MergeOptions) -> Result<String> {
    let name = options.into.as_deref().or(worktree.base_branch());
    let name = name.ok_or_else(|| WorktreeError::NoTarget {
        reason: "it is not known from which branch the worktree started".to_owned(),
    })?;
    let name = name.strip_prefix("refs/heads/").unwrap_or(name);
    if repository.ref_target(&format!("refs/heads/{name}"))?.is_some() {
        return Ok(name.to_owned());
    }
    let reason = if repository.ref_target(&format!("refs/remotes/{name}"))?.is_some() {
        format!("`{name}` is the branch of a remote, to which only a push can add commits")
    } else {
        format!("there is no branch `{name}`")
    };
    Err(WorktreeError::NoTarget { reason })
}

/// Checks that everything in a worktree is committed.
fn check_source(
    repository: &Repository,
    worktree: &Worktree,
    options: &MergeOptions,
    caches: &[String],
) -> Result<()> {
    let status = status::status(repository, worktree, None, caches)?;
    let path = worktree.path.clone();
    if let Some(operation) = status.operation {
        return Err(WorktreeError::OperationInProgress { path, operation });
    }
    if options.committed_only || status.changed + status.untracked == 0 {
        return Ok(());
    }
    Err(WorktreeError::Uncommitted { path, changed: status.changed, untracked: status.untracked })
}

/// A merge that is ready.
enum Prepared {
    /// The commit to which the target has to point.
    Commit(String),
    /// There is nothing to do, or it cannot be done.
    Done(MergeOutcome),
}

/// Computes a merge, and writes its commit, to which nothing points.
fn prepare(
    repository: &Repository,
    branch: Option<&str>,
    (into, from): (&str, &str),
    source: &str,
    options: &MergeOptions,
) -> Result<Prepared> {
    let call = |what: &str| repository.git().call(repository.root(), what);
    let is_ancestor = |one: &str, other: &str| {
        let args = ["merge-base", "--is-ancestor", one, other];
        Ok(call("compare commits").args(args).output()?.code == Some(0))
    };
    if is_ancestor(source, from)? {
        return Ok(Prepared::Done(MergeOutcome::UpToDate));
    }
    if options.strategy != MergeStrategy::Squash && is_ancestor(from, source)? {
        return Ok(Prepared::Commit(source.to_owned()));
    }
    if options.strategy == MergeStrategy::FastForward {
        return Err(WorktreeError::NotFastForward { into: into.to_owned() });
    }
    let unapproved = repository.unapproved()?;
    let args = ["merge-tree", "--write-tree", "--no-messages", "--name-only", "-z", from, source];
    let merged = call("merge").settings(&unapproved.settings).args(args).output()?;
    let mut fields = merged.fields().map(|field| String::from_utf8_lossy(field).into_owned());
    let tree = fields.next().unwrap_or_default();
    match merged.code {
        Some(0) => {}
        // Without a tree, it is a failure.
        Some(1) if !tree.is_empty() => {
            return Ok(Prepared::Done(MergeOutcome::Conflicts(fields.collect())));
        }
        _ => return Err(WorktreeError::Git { what: "merge".to_owned(), reason: merged.reason() }),
    }
    let is_squash = options.strategy == MergeStrategy::Squash;
    if is_squash && repository.ref_target(&format!("{from}^{{tree}}"))?.as_ref() == Some(&tree) {
        return Ok(Prepared::Done(MergeOutcome::UpToDate));
    }
    if options.dry_run {
        return Ok(Prepared::Commit(String::new()));
    }
    let message = match &options.message {
        Some(message) => message.clone().into_bytes(),
        None if is_squash => squash_message(repository, branch.unwrap_or(source), from, source)?,
        None => {
            let what = branch.map_or_else(|| format!("commit '{source}'"), |name| format!("branch '{name}'"));
            format!("Merge {what} into {into}\n").into_bytes()
        }
    };
    let parents = [from].into_iter().chain((!is_squash).then_some(source)).flat_map(|parent| ["-p", parent]);
    let commit = call("write a commit").args(["commit-tree", &tree]).args(parents).input(message).run()?;
    Ok(Prepared::Commit(String::from_utf8_lossy(commit.line()).into_owned()))
}

/// Returns the message of a single commit, else a subject and those of all.
fn squash_message(repository: &Repository, branch: &str, from: &str, source: &str) -> Result<Vec<u8>> {
    let list = |format: &str| {
        let most = format!("--max-count={LISTED}");
        let range = format!("^{from}");
        let args = ["log", "--no-color", "--reverse", &most, format, source, &range, "--"];
        Ok(repository.call("read commits").args(args).run()?.stdout)
    };
    let subjects = list("--format=* %s")?;
    if String::from_utf8_lossy(&subjects).lines().count() == 1 {
        return list("--format=%B");
    }
    Ok([format!("Squash branch '{branch}'\n\n").as_bytes(), &subjects].concat())
}

/// Lets a branch point to a descendant of its commit. Returns `false` if it points to another commit meanwhile.
fn advance(repository: &Repository, lock: &RepositoryLock, into: &str, from: &str, to: &str) -> Result<bool> {
    let name = format!("refs/heads/{into}");
    let has_moved = || Ok::<_, WorktreeError>(repository.ref_target(&name)?.as_deref() != Some(from));
    let Some(path) = repository.checked_out_in(&name)? else {
        let call = repository.call("move a branch").args(["update-ref", "-m", "merge", &name, to, from]);
        return match call.holding(lock)?.run() {
            Ok(_) => Ok(true),
            Err(_) if has_moved()? => Ok(false),
            Err(error) => Err(error),
        };
    };
    if let Some(operation) = operation_at(repository, &path)? {
        return Err(WorktreeError::OperationInProgress { path, operation });
    }
    let unapproved = repository.unapproved()?;
    let call = repository.git().call(&path, "merge").settings(&unapproved.settings).settings([
        "submodule.recurse=false",
        "merge.autoStash=false",
        "merge.verifySignatures=false",
    ]);
    let args = ["merge", "--ff-only", "--quiet", "--no-stat", "--no-autostash", "--no-overwrite-ignore", to];
    let merged = call.args(args).holding(lock)?.output()?;
    if merged.code == Some(0) {
        // The branch that is checked out there may be another one by now.
        return Ok(repository.ref_target(&name)?.as_deref() == Some(to));
    }
    if has_moved()? {
        return Ok(false);
    }
    Err(WorktreeError::TargetDirty { path, reason: merged.reason() })
}

/// Returns the operation of git that is in progress in a worktree, the main one included.
fn operation_at(repository: &Repository, path: &Path) -> Result<Option<&'static str>> {
    let call = repository.git().call(path, "read the state").offline();
    let dir: PathBuf = call.args(["rev-parse", "--absolute-git-dir"]).run()?.path();
    Ok(operation_in(&dir))
}
