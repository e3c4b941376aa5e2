//! The creation of a worktree: a plan that is recorded first, one call of git, and the mark.

use std::path::{Path, PathBuf};

use session_core::SessionId;

use crate::error::{Result, WorktreeError};
use crate::files;
use crate::git::Unapproved;
use crate::leftover;
use crate::registration::{Registration, lock_reason};
use crate::repository::{Repository, RepositoryLock};
use crate::slug::Slug;
use crate::worktree::Worktree;

/// Attempts of a creation that fails before it begins.
const ATTEMPTS: u32 = 5;

/// The commit that a worktree starts at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Base {
    /// The commit that is checked out where the repository was found.
    #[default]
    Head,
    /// The default branch of the remote `origin`; without it, the branch `main` or `master`.
    Default,
    /// A branch, tag or other revision.
    Named(String),
}

/// The wishes for a new worktree.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewWorktree {
    /// The session that it is for.
    pub session: SessionId,
    /// Its name. If it is taken, a number is added.
    pub slug: Slug,
    /// The commit that it starts at.
    pub base: Base,
    /// The folder for it; by default the one next to the repository.
    pub folder: Option<PathBuf>,
}

impl NewWorktree {
    /// Describes a worktree of a session that starts at the commit that is checked out.
    #[must_use]
    pub const fn new(session: SessionId, slug: Slug) -> Self {
        Self { session, slug, base: Base::Head, folder: None }
    }

    /// Sets the commit that it starts at.
    #[must_use]
    pub fn base(mut self, base: Base) -> Self {
        self.base = base;
        self
    }

    /// Sets the folder for it.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }
}

/// The plan of a creation. It has to be recorded before [`Worktrees::create`](crate::Worktrees::create): after a crash,
/// [`Worktrees::recover_creation`](crate::Worktrees::recover_creation) needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreationPlan {
    /// The session.
    pub session: SessionId,
    /// The name of the worktree.
    pub slug: Slug,
    /// Its directory, which does not exist yet.
    pub path: PathBuf,
    /// Its new branch.
    pub branch: String,
    /// The commit that it starts at.
    pub base: String,
    /// The branch that this commit was found by; `None` for another revision.
    pub base_branch: Option<String>,
    /// The time of that commit, in seconds since 1970.
    pub base_time: i64,
}

impl CreationPlan {
    /// Creates a plan from what was recorded of it.
    #[must_use]
    pub fn recorded(
        session: SessionId,
        slug: Slug,
        path: impl Into<PathBuf>,
        branch: String,
        base: String,
    ) -> Self {
        Self { session, slug, path: path.into(), branch, base, base_branch: None, base_time: 0 }
    }

    fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }
}

/// The result of a recovery of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveredCreation {
    /// It had been completed.
    Completed(Worktree),
    /// Its parts were removed.
    RolledBack,
    /// There was none.
    Nothing,
}

/// Chooses directory, branch and commit of a worktree.
pub(crate) fn plan(repository: &Repository, new: &NewWorktree) -> Result<CreationPlan> {
    let (base, base_branch) = base(repository, &new.base)?;
    let folder = new.folder.clone().unwrap_or_else(|| folder_next_to(repository));
    let prefix = if repository.ref_target("refs/heads/feature")?.is_some() { "sessions" } else { "feature" };
    let base_time = commit_time(repository, &base)?;
    for number in 1..10_000 {
        let slug = new.slug.numbered(number);
        let (path, branch) = (folder.join(slug.as_str()), format!("{prefix}/{slug}"));
        let plan = CreationPlan {
            session: new.session,
            slug,
            path,
            branch,
            base: base.clone(),
            base_branch: base_branch.clone(),
            base_time,
        };
        if is_free(repository, &plan)? {
            return Ok(plan);
        }
    }
    let reason = "10,000 worktrees have its name".to_owned();
    Err(WorktreeError::NoPlace { slug: new.slug.to_string(), reason })
}

/// Creates a planned worktree; `None` if its directory or its branch was taken since.
pub(crate) fn create(repository: &Repository, plan: &CreationPlan) -> Result<Option<Worktree>> {
    let unapproved = repository.unapproved()?;
    let lock = repository.lock()?;
    if !is_free(repository, plan)? {
        return Ok(None);
    }
    let folder = plan.path.parent().unwrap_or_else(|| Path::new("/"));
    files::create_dir(folder)?;
    for attempt in 1.. {
        let Err(error) = add(repository, plan, &unapproved, &lock) else { break };
        // A garbage collection removes a registration that has only been begun.
        let had_begun = files::exists(&plan.path);
        // Git removes what it created, except for the branch.
        if let Err(error) = roll_back(repository, plan) {
            tracing::warn!(path = %plan.path.display(), %error, "could not remove the parts of a worktree");
        }
        if had_begun || attempt == ATTEMPTS {
            return Err(error);
        }
    }
    if !unapproved.names.is_empty() {
        tracing::warn!(names = ?unapproved.names, "not run: only the repository's own configuration names it");
    }
    let Some(registration) = Registration::of_worktree(&plan.path)? else {
        let reason = "git created no linked worktree there".to_owned();
        return Err(WorktreeError::Gone { path: plan.path.clone(), reason });
    };
    let mark = registration.set_mark(plan.session, plan.base_branch.clone())?;
    Ok(Some(Worktree { path: plan.path.clone(), registration, mark }))
}

/// Has git create a worktree.
fn add(
    repository: &Repository,
    plan: &CreationPlan,
    unapproved: &Unapproved,
    lock: &RepositoryLock,
) -> Result<()> {
    let reason = lock_reason(plan.session);
    let args =
        ["worktree", "add", "--quiet", "--no-track", "--lock", "--reason", &reason, "-b", &plan.branch];
    repository
        .call("create a worktree")
        .settings(&unapproved.settings)
        .args(args)
        .arg("--end-of-options")
        .arg(&plan.path)
        .arg(&plan.base)
        .holding(lock)?
        .run()
        .map(drop)
}

/// Completes or rolls back a creation that was interrupted.
pub(crate) fn recover(repository: &Repository, plan: &CreationPlan) -> Result<RecoveredCreation> {
    let _lock = repository.lock()?;
    if let Some(registration) = registration_at(repository, &plan.path)?
        && let Some(mark) = registration.mark()?
        && mark.session == plan.session
    {
        let path = plan.path.clone();
        return Ok(RecoveredCreation::Completed(Worktree { path, registration, mark }));
    }
    roll_back(repository, plan)
}

/// Removes the parts of a creation that has no mark: no program has run in it.
fn roll_back(repository: &Repository, plan: &CreationPlan) -> Result<RecoveredCreation> {
    let mut rolled_back = RecoveredCreation::Nothing;
    let registration = registration_at(repository, &plan.path)?;
    let ours = registration.filter(|registration| {
        registration.lock_reason().ok().flatten() == Some(lock_reason(plan.session))
            && registration.mark().ok().flatten().is_none()
    });
    if let Some(registration) = ours {
        leftover::move_to_trash(repository, &registration, &plan.path, plan.session)?;
        rolled_back = RecoveredCreation::RolledBack;
    } else if plan.path.is_dir() && std::fs::remove_dir(&plan.path).is_ok() {
        // Empty: git had created nothing else.
        rolled_back = RecoveredCreation::RolledBack;
    }
    let name = plan.branch_ref();
    if repository.ref_target(&name)?.as_ref() == Some(&plan.base)
        && (rolled_back == RecoveredCreation::RolledBack || was_created_for(repository, plan)?)
    {
        // It points to the commit that it was created from, so nothing is lost with it.
        repository.call("remove a branch").args(["update-ref", "-d", &name, &plan.base]).run()?;
        rolled_back = RecoveredCreation::RolledBack;
    }
    Ok(rolled_back)
}

/// Returns `true` if the branch has only been created, from the id of this commit: a person types another name of it.
fn was_created_for(repository: &Repository, plan: &CreationPlan) -> Result<bool> {
    let args = ["log", "--walk-reflogs", "--format=%gs", &plan.branch_ref(), "--"];
    let output = repository.call("read a reflog").args(args).offline().run()?;
    Ok(output.line() == format!("branch: Created from {}", plan.base).as_bytes())
}

/// Returns the registration whose worktree has this path.
fn registration_at(repository: &Repository, path: &Path) -> Result<Option<Registration>> {
    for registration in Registration::all(&repository.registrations())? {
        if registration.worktree()?.is_some_and(|worktree| worktree == path) {
            return Ok(Some(registration));
        }
    }
    Ok(None)
}

/// Returns the folder for worktrees next to a repository.
fn folder_next_to(repository: &Repository) -> PathBuf {
    let root = repository.root();
    let mut name = repository.name();
    name.push(".worktrees");
    root.parent().unwrap_or(root).join(name)
}

fn is_free(repository: &Repository, plan: &CreationPlan) -> Result<bool> {
    if files::exists(&plan.path) || repository.ref_target(&plan.branch_ref())?.is_some() {
        return Ok(false);
    }
    // A branch below this name would be in its way, too.
    let below = format!("{}/", plan.branch_ref());
    let args = ["for-each-ref", "--count=1", "--format=%(refname)", &below];
    Ok(repository.call("list branches").args(args).run()?.stdout.is_empty())
}

/// Returns the commit of a base, and the branch by which it was found.
fn base(repository: &Repository, base: &Base) -> Result<(String, Option<String>)> {
    match base {
        Base::Head => {
            let args = ["symbolic-ref", "--quiet", "--short", "HEAD"];
            let branch = repository.call_here("read HEAD").args(args).output()?;
            let name = String::from_utf8_lossy(branch.line()).into_owned();
            let branch = (branch.code == Some(0)).then_some(name);
            match repository.resolve("HEAD", "commit") {
                Ok(commit) => Ok((commit, branch)),
                Err(_) => Err(WorktreeError::Unborn {
                    what: branch.map_or_else(|| "HEAD".to_owned(), |branch| format!("branch `{branch}`")),
                }),
            }
        }
        Base::Default => {
            for name in repository.default_branches()? {
                if let Ok(commit) = repository.resolve(&name, "commit") {
                    return Ok((commit, Some(name)));
                }
            }
            let reason = "there is no default branch: `origin/HEAD` is not set, and neither `main` nor `master` exists";
            Err(WorktreeError::UnknownBase { base: "default".to_owned(), reason: reason.to_owned() })
        }
        Base::Named(name) => {
            let commit = repository.resolve(name, "commit")?;
            // It names a commit, so it is no option; `--end-of-options` would be printed here.
            let args = ["rev-parse", "--symbolic-full-name", name];
            let full = repository.call_here("resolve a revision").args(args).output()?;
            let full = String::from_utf8_lossy(full.line()).into_owned();
            let branch = full.strip_prefix("refs/heads/").or_else(|| full.strip_prefix("refs/remotes/"));
            Ok((commit, branch.map(str::to_owned)))
        }
    }
}

fn commit_time(repository: &Repository, commit: &str) -> Result<i64> {
    let args = ["show", "--no-patch", "--format=%ct", "--end-of-options", commit];
    let output = repository.call("read a commit").args(args).offline().run()?;
    Ok(String::from_utf8_lossy(output.line()).trim().parse().unwrap_or_default())
}
