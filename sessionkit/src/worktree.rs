//! Git worktrees of sessions: each session works in a directory and on a branch of its own, and nothing that it leaves there
//! is lost when it is removed.
//!
//! A session whose configuration has a [`WorktreeConfig`] runs its program in a worktree that the
//! [runner](crate::Store::runner) creates for it, and never anywhere else. [`remove`] takes it away once no session works in
//! it; [`Worktrees`] lists, restores and purges what was removed.
//!
//! ```no_run
//! use sessionkit::SessionConfig;
//! use sessionkit::log::WorktreeConfig;
//! use sessionkit::runner::Command;
//!
//! #[sessionkit::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let store = sessionkit::open_store("file:.sessions").await?;
//!     let config = SessionConfig::new("agent").worktree("fix-login", WorktreeConfig::new("project"));
//!     let mut running = store.runner()?.spawn(config, Command::new("agent").arg("fix the login")).await?;
//!     running.wait().await?;
//!     Ok(())
//! }
//! ```

mod auto_merge;
mod error;
mod merge;
mod occupancy;
mod set_up;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::async_trait::async_trait;
use session_core::backend::blocking;
use session_core::chrono::DateTime;
use session_core::text::is_unsafe_char;
use session_core::{
    ErrorCode, ExecutionMode, PersistedSession, Session, SessionEvent, SessionId, SessionManager,
    SessionWorktree, Timestamp, WorktreeConfig, WorktreePlan,
};
use session_runner::{Place, SetUp, Workplace, WorkplaceError};

pub use self::error::SessionWorktreeError;
pub use self::merge::merge;
pub use self::occupancy::sessions_of;

use self::auto_merge::AutoMerge;
use self::error::chain;
use self::occupancy::{live_session, lock};
use self::set_up::WorktreeSetUp;

pub use session_worktree::{
    Base, BranchOutcome, CreationPlan, EntryState, Git, IncludedFiles, Leftover, Merge, MergeOptions,
    MergeOutcome, MergeProof, MergeProofKind, MergeStrategy, NewWorktree, Pin, RecordedWorktree,
    RecoveredCreation, RecoveredEntry, RemoveOptions, RemovedWorktree, Repository, RepositoryLock, Slug,
    Snapshot, SnapshotSummary, TrashEntry, Worktree, WorktreeError, WorktreeStatus, Worktrees,
};

/// The variable with the directory of the worktree.
pub const WORKTREE_VARIABLE: &str = "SESSIONCTL_WORKTREE";
/// The variable with the main worktree of its repository.
pub const SOURCE_VARIABLE: &str = "SESSIONCTL_SOURCE";
/// The variable with the name of the worktree.
pub const SLUG_VARIABLE: &str = "SESSIONCTL_SLUG";

/// Variables that would send the git of a program to another repository.
const GIT_VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

type Result<T, E = SessionWorktreeError> = std::result::Result<T, E>;

/// Chooses the worktree that a session with this configuration would get now, and creates nothing: it finds what is wrong with the
/// configuration before there is a session.
///
/// # Errors
/// Those of [`Worktrees::plan`].
pub async fn plan(name: &str, config: &WorktreeConfig) -> Result<CreationPlan, WorktreeError> {
    let (name, config) = (name.to_owned(), config.clone());
    blocking(move || Worktrees::new(&config.repository)?.plan(&wanted(SessionId::random(), &name, &config)))
        .await
}

fn wanted(session: SessionId, name: &str, config: &WorktreeConfig) -> NewWorktree {
    let base = match config.base.as_deref() {
        None => Base::Head,
        Some("default") => Base::Default,
        Some(name) => Base::Named(name.to_owned()),
    };
    NewWorktree::new(session, Slug::from_text(name)).base(base)
}

/// Returns the record of a session's worktree in the form in which it is found again.
#[must_use]
pub fn recorded(worktree: &SessionWorktree) -> RecordedWorktree {
    RecordedWorktree::new(&worktree.plan.path, &worktree.git_dir, &worktree.mark)
}

/// Opens the repository of a session's worktree. The programs that its log approves are not run: the log may be another person's.
///
/// # Errors
/// [`WorktreeError::NotARepository`]; git that is missing or too old.
pub async fn repository(config: &WorktreeConfig) -> Result<Worktrees, WorktreeError> {
    let repository = config.repository.clone();
    blocking(move || Worktrees::new(repository)).await
}

/// Moves the worktree of a session into the trash, once no session works in it.
///
/// # Errors
/// [`WorktreeError::Occupied`] if a session of this store works in it, or may do so; those of [`Worktrees::remove`].
pub async fn remove(
    manager: &dyn SessionManager,
    worktrees: &Worktrees,
    worktree: &Worktree,
    options: RemoveOptions,
) -> Result<RemovedWorktree> {
    let lock = lock(worktrees).await?;
    let mark = worktree.record().mark;
    if let Some(session) = live_session(manager, &mark, None).await? {
        return Err(WorktreeError::Occupied { path: worktree.path().to_owned(), session }.into());
    }
    let (worktrees, worktree) = (worktrees.clone(), worktree.clone());
    Ok(blocking(move || worktrees.remove_locked(&lock, &worktree, options)).await?)
}

/// Checks that the worktree of a session could be removed now.
///
/// # Errors
/// [`WorktreeError::Occupied`], [`WorktreeError::InUse`]; those of [`Worktrees::status`].
pub async fn check_removable(
    manager: &dyn SessionManager,
    worktrees: &Worktrees,
    worktree: &Worktree,
) -> Result<()> {
    let path = worktree.path().to_owned();
    if let Some(session) = live_session(manager, &worktree.record().mark, None).await? {
        return Err(WorktreeError::Occupied { path, session }.into());
    }
    if worktree.is_lost() {
        return Ok(());
    }
    let (worktrees, worktree) = (worktrees.clone(), worktree.clone());
    let processes = blocking(move || worktrees.status(&worktree, None)).await?.processes;
    if processes.is_empty() { Ok(()) } else { Err(WorktreeError::InUse { path, processes }.into()) }
}

/// Completes or rolls back the creation of a worktree that was interrupted. `None` if nothing was left of it; an interrupted
/// session continues it by itself when it is resumed.
///
/// # Errors
/// Those of [`Worktrees::recover_creation`].
pub async fn recover_creation(
    session: &PersistedSession,
) -> Result<Option<RecoveredCreation>, WorktreeError> {
    let (Some(config), Some(plan)) = (&session.config.worktree, &session.planned_worktree) else {
        return Ok(None);
    };
    let (repository, id, plan) = (config.repository.clone(), session.head.id, plan.clone());
    blocking(move || {
        let recovered = Worktrees::new(repository)?.recover_creation(&to_creation(id, &plan))?;
        Ok((recovered != RecoveredCreation::Nothing).then_some(recovered))
    })
    .await
}

/// Gives each session with a [`WorktreeConfig`] its worktree, before its program starts.
#[derive(Clone)]
pub(crate) struct WorktreeWorkplace {
    manager: Arc<dyn SessionManager>,
}

impl std::fmt::Debug for WorktreeWorkplace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorktreeWorkplace").finish_non_exhaustive()
    }
}

#[async_trait]
impl Workplace for WorktreeWorkplace {
    async fn prepare(&self, session: &Session) -> Result<Option<Place>, WorkplaceError> {
        let Some(config) = &session.config().worktree else { return Ok(None) };
        let entered = self.enter(session, config).await;
        // Where nothing was created, a later attempt finds nothing.
        let may_return = session.head().place.is_some();
        let place = entered.map_err(|error| WorkplaceError {
            code: error.code(),
            message: chain(&error),
            may_return: may_return && error.code() != ErrorCode::InvalidArgument,
        })?;
        Ok(Some(place))
    }
}

impl WorktreeWorkplace {
    pub(crate) fn new(manager: Arc<dyn SessionManager>) -> Self {
        Self { manager }
    }

    async fn enter(&self, session: &Session, config: &WorktreeConfig) -> Result<Place> {
        let stored = self.manager.restore_session(session.id()).await?;
        // The owner runs the command in the log, too.
        let worktrees = repository(config).await?.approve(config.programs.clone().unwrap_or_default());
        let (worktree, notices) = match (stored.worktree, &config.mark) {
            (Some(made), _) => self.return_to(&worktrees, session, &made).await?,
            (None, Some(mark)) => self.join(&worktrees, session, mark).await?,
            (None, None) => create(&worktrees, session, config, stored.planned_worktree).await?,
        };
        let mut place = place(&worktrees, &worktree, config, notices)?;
        if session.config().options.auto_merge {
            place.completion = Some(Arc::new(AutoMerge::new(Arc::clone(&self.manager), worktrees, worktree)));
        }
        Ok(place)
    }

    /// Finds the worktree in which the session ran before.
    async fn return_to(
        &self,
        worktrees: &Worktrees,
        session: &Session,
        made: &SessionWorktree,
    ) -> Result<Entered> {
        // A removal that has begun is waited for; one that begins later finds the owner of this session.
        let _lock = lock(worktrees).await?;
        if let Some(other) = live_session(&*self.manager, &made.mark, Some(session.id())).await? {
            return Err(WorktreeError::Occupied { path: made.plan.path.clone(), session: other }.into());
        }
        Ok(found(made).await?)
    }

    /// Enters a worktree of sessions that have ended.
    async fn join(&self, worktrees: &Worktrees, session: &Session, mark: &str) -> Result<Entered> {
        let _lock = lock(worktrees).await?;
        let made = joinable(&*self.manager, worktrees, mark).await?;
        let entered = found(&made).await?;
        session.record(SessionEvent::WorktreeMade { worktree: Box::new(made) }).await?;
        Ok(entered)
    }
}

/// Returns the record of the worktree with this mark, if a session may enter it: those that had it have ended.
///
/// # Errors
/// [`WorktreeError::Occupied`] and [`WorktreeError::Unended`] if one has not ended; [`WorktreeError::NotOurs`] if no session of this
/// store has it.
pub async fn joinable(
    manager: &dyn SessionManager,
    worktrees: &Worktrees,
    mark: &str,
) -> Result<SessionWorktree> {
    let sessions = sessions_of(manager, mark).await?;
    let last = match sessions.last() {
        Some(last) => manager.restore_session(last.id).await?.worktree,
        None => None,
    };
    let Some(made) = last else {
        let path = worktrees.list()?.into_iter().find(|tree| tree.record().mark == mark);
        let path =
            path.map_or_else(|| worktrees.repository().root().to_owned(), |tree| tree.path().to_owned());
        let reason = "no session of this store has it: it was removed, or is in another store".to_owned();
        return Err(WorktreeError::NotOurs { path, reason }.into());
    };
    let path = made.plan.path.clone();
    if let Some(session) = live_session(manager, mark, None).await? {
        return Err(WorktreeError::Occupied { path, session }.into());
    }
    match sessions.iter().find(|head| !head.state().is_final()) {
        Some(other) => Err(WorktreeError::Unended { path, session: other.id }.into()),
        None => Ok(made),
    }
}

/// A worktree, and what a person should know of it.
type Entered = (Worktree, Vec<String>);

/// Finds a worktree where it is now.
async fn found(made: &SessionWorktree) -> Result<Entered, WorktreeError> {
    let recorded = recorded(made);
    let worktree = blocking(move || recorded.locate()).await?;
    let (path, branch) = (worktree.path().display(), &made.plan.branch);
    let notice = match worktree.branch()? {
        Some(now) if now == *branch => format!("runs in the worktree {path}, on branch {branch}"),
        Some(now) => format!("runs in the worktree {path}, on branch {now}: it was created on {branch}"),
        None => format!("runs in the worktree {path}, on no branch: it was created on {branch}"),
    };
    Ok((worktree, vec![notice]))
}

/// Creates the worktree of a session, or completes one that a crash has left.
async fn create(
    worktrees: &Worktrees,
    session: &Session,
    config: &WorktreeConfig,
    planned: Option<WorktreePlan>,
) -> Result<Entered> {
    let name = if let ExecutionMode::Worktree { name } = &session.config().mode {
        name.clone()
    } else {
        session.head().name
    };
    if let Some(plan) = planned {
        let (worktrees_, creation) = (worktrees.clone(), to_creation(session.id(), &plan));
        if let RecoveredCreation::Completed(worktree) =
            blocking(move || worktrees_.recover_creation(&creation)).await?
        {
            return complete(worktrees, session, plan, worktree).await;
        }
    }
    loop {
        let (worktrees_, new) = (worktrees.clone(), wanted(session.id(), &name, config));
        let creation = blocking(move || worktrees_.plan(&new)).await?;
        let plan = to_record(&creation);
        session.record(SessionEvent::WorktreeIntended { plan: Box::new(plan.clone()) }).await?;
        let worktrees_ = worktrees.clone();
        // Another process may have taken the place meanwhile.
        if let Some(worktree) = blocking(move || worktrees_.create(&creation)).await? {
            return complete(worktrees, session, plan, worktree).await;
        }
    }
}

/// Copies the files that git does not carry, and records the worktree.
async fn complete(
    worktrees: &Worktrees,
    session: &Session,
    plan: WorktreePlan,
    worktree: Worktree,
) -> Result<Entered> {
    let (worktrees, new) = (worktrees.clone(), worktree.clone());
    let (included, unapproved) =
        blocking(move || Ok::<_, WorktreeError>((worktrees.include_files(&new)?, worktrees.unapproved()?)))
            .await?;
    let commit: String = plan.base.chars().take(12).collect();
    let from =
        plan.base_branch.as_ref().map_or_else(|| commit.clone(), |branch| format!("{branch} ({commit})"));
    let path = worktree.path().display();
    let time = plan.base_at.to_utc().format("%Y-%m-%d %H:%M UTC");
    let mut notices =
        vec![format!("created the worktree {path} on branch {}, from {from} of {time}", plan.branch)];
    let skipped = |(path, reason): (PathBuf, String)| format!("{} was not copied: {reason}", path.display());
    notices.extend(included.skipped.into_iter().map(skipped));
    if !unapproved.is_empty() {
        let names = unapproved.join(", ");
        notices.push(format!("not run, because only the repository's own configuration names them: {names}"));
    }
    let record = worktree.record();
    let made = plan.made(record.git_dir, record.mark);
    session.record(SessionEvent::WorktreeMade { worktree: Box::new(made) }).await?;
    Ok((worktree, notices))
}

fn place(
    worktrees: &Worktrees,
    worktree: &Worktree,
    config: &WorktreeConfig,
    mut notices: Vec<String>,
) -> Result<Place> {
    let root = worktree.path();
    let directory = config.dir.as_ref().map_or_else(|| root.to_owned(), |dir| root.join(dir));
    if !is_inside(&directory, root) {
        return Err(WorktreeError::NoDirectory { path: directory }.into());
    }
    let slug = root.file_name().unwrap_or_default();
    let set = |name: &str, value: &std::ffi::OsStr| (name.into(), Some(value.to_owned()));
    let mut variables = vec![
        set(WORKTREE_VARIABLE, root.as_os_str()),
        set(SOURCE_VARIABLE, worktrees.repository().root().as_os_str()),
        set(SLUG_VARIABLE, slug),
        set("PWD", directory.as_os_str()),
    ];
    variables.extend(GIT_VARIABLES.map(|name| (name.into(), None)));
    let set_up = config.setup.clone().map(|command| WorktreeSetUp::new(worktree.clone(), command));
    if let Some(set_up) = &set_up
        && !worktree.is_set_up_by(set_up.command())?
    {
        notices.push(format!("prepares it: {}", set_up.command()));
    }
    let set_up = set_up.map(|set_up| Arc::new(set_up) as Arc<dyn SetUp>);
    Ok(Place { directory, variables, notices, set_up, completion: None })
}

fn is_inside(directory: &Path, root: &Path) -> bool {
    match (directory.canonicalize(), root.canonicalize()) {
        (Ok(inner), Ok(root)) => inner.is_dir() && inner.starts_with(root),
        _ => false,
    }
}

fn to_record(plan: &CreationPlan) -> WorktreePlan {
    // Commits may have any time.
    let base_at = Timestamp::new(DateTime::from_timestamp(plan.base_time, 0).unwrap_or_default());
    // The log has no dangerous characters in names, which git allows in those of branches.
    let base_branch = plan.base_branch.clone().filter(|branch| !branch.chars().any(is_unsafe_char));
    WorktreePlan::new(PathBuf::from(&plan.path), plan.branch.clone(), plan.base.clone(), base_at)
        .base_branch(base_branch)
}

fn to_creation(session: SessionId, plan: &WorktreePlan) -> CreationPlan {
    let name = plan.path.file_name().unwrap_or_default().to_string_lossy();
    CreationPlan::recorded(
        session,
        Slug::from_text(&name),
        &plan.path,
        plan.branch.clone(),
        plan.base.clone(),
    )
}
