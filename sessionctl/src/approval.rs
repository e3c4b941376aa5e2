//! The commands that a repository asks for, and the approval of a person: a set-up in its `.sessionctl.toml`, and the programs
//! that its configuration names for git. A repository must not run anything that nobody has looked at. An approval holds for the
//! same content, in any repository.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sessionkit::text::visible;
use sessionkit::worktree::Worktrees;
use sessionkit::{ErrorCode, StoreUrl};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Failure, Result};
use crate::plain_file;

/// The file of a repository, in its main worktree.
const FILE: &str = ".sessionctl.toml";
/// Limit of its size.
const MAX_BYTES: u64 = 64 * 1024;
/// Limit of the settings that can be approved, which the log of each session has.
const MAX_PROGRAMS: u64 = 16 * 1024;
/// The folder with the approved contents, in the user's state directory. The name begins like that of no file of a store.
const FOLDER: &str = "sessionctl-approved";

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryFile {
    #[serde(default)]
    worktree: WorktreeTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorktreeTable {
    /// The command that prepares a new worktree.
    setup: Option<String>,
}

/// Returns the set-up that a repository asks for, once a person has approved it: before, now at the terminal, or with `yes`.
pub(crate) fn approved_setup(root: &Path, yes: bool) -> Result<Option<String>> {
    let path = root.join(FILE);
    let shown = visible(&path.to_string_lossy()).into_owned();
    // Not what a link of the repository leads to.
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    let unreadable = |error: &dyn std::fmt::Display| Failure::invalid(format!("{shown}: {error}"));
    let content = plain_file::read(&path, MAX_BYTES + 1).map_err(|error| unreadable(&error))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(unreadable(&"it has more than 64 KiB"));
    }
    let text = String::from_utf8(content).map_err(|error| unreadable(&error))?;
    let parsed: RepositoryFile = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        unreadable(&format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })?;
    let Some(setup) = parsed.worktree.setup.filter(|setup| !setup.trim().is_empty()) else { return Ok(None) };
    let asks = format!("{shown} asks to run in new worktrees:");
    if is_approved(&setup)? {
        return Ok(Some(setup));
    }
    if yes || asked(&asks, &setup)? == Some(true) {
        approve(&setup)?;
        return Ok(Some(setup));
    }
    let text = format!("{shown} asks to run `{}`, which was not approved", visible(&setup));
    Err(Failure::new(ErrorCode::InvalidArgument, text).next(&["run", "--worktree", "--yes", "--", "CMD"]))
}

/// Returns `true` if the programs in these settings of a repository were approved: before, now at the terminal, or with `yes`. Who
/// has declined them is not asked again.
pub(crate) fn approved_programs(root: &Path, settings: &str, yes: bool) -> Result<bool> {
    if settings.is_empty() || settings.len() as u64 > MAX_PROGRAMS {
        return Ok(false);
    }
    let (wanted, declined) = (programs(settings), declined(settings));
    if is_approved(&wanted)? {
        return Ok(true);
    }
    let answer = if yes {
        Some(true)
    } else if is_approved(&declined)? {
        Some(false)
    } else {
        let shown = visible(&root.to_string_lossy()).into_owned();
        asked(&format!("The configuration of {shown} names programs that git runs in worktrees:"), settings)?
    };
    match answer {
        Some(true) => approve(&wanted)?,
        Some(false) => approve(&declined)?,
        None => {}
    }
    Ok(answer == Some(true))
}

/// Lets git run the programs that only the repository's configuration names if this person has approved them before. What a log
/// approves is for its owner: the log may be another person's. Blocks on git.
pub(crate) fn with_approvals(worktrees: Worktrees) -> Worktrees {
    match worktrees.unapproved_settings() {
        // An approval that cannot be read is none.
        Ok(settings) if !settings.is_empty() && is_approved(&programs(&settings)).unwrap_or(false) => {
            worktrees.approve(settings)
        }
        Ok(_) | Err(_) => worktrees,
    }
}

/// Returns the content of the approval of programs, which is no command of a set-up.
fn programs(settings: &str) -> String {
    format!("programs of git:\n{settings}")
}

/// Returns the content that is stored for programs which were declined.
fn declined(settings: &str) -> String {
    format!("declined programs of git:\n{settings}")
}

/// Asks the person at the terminal; `None` if there is none.
fn asked(asks: &str, commands: &str) -> Result<Option<bool>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let failed = |error| Failure::chain(ErrorCode::StorageIo, &error);
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{asks}").map_err(failed)?;
    for line in commands.lines() {
        writeln!(stderr, "    {}", visible(line)).map_err(failed)?;
    }
    write!(stderr, "Run it, now and whenever it is the same? [y/N] ").map_err(failed)?;
    stderr.flush().map_err(failed)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// Returns the file with an approved content. It has the content itself, which distinguishes two of the same name.
fn place(content: &str) -> Result<PathBuf> {
    let store = StoreUrl::user_default()?;
    let state = store.path().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    Ok(state.join(FOLDER).join(format!("{:032x}", xxh3_128(content.as_bytes()))))
}

fn is_approved(content: &str) -> Result<bool> {
    match fs::read(place(content)?) {
        Ok(stored) => Ok(stored == content.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::chain(ErrorCode::StorageIo, &error)),
    }
}

fn approve(content: &str) -> Result<()> {
    let path = place(content)?;
    let failed = |error: io::Error| {
        Failure::new(
            ErrorCode::StorageIo,
            format!("the approval cannot be stored in {}: {error}", path.display()),
        )
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut temporary = path.clone();
    temporary.set_extension(std::process::id().to_string());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)
}
