//! The context of a verb: the store, the outputs, and the way in which this command was called.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::fs::Mode;
use sessionkit::manager::StorageError;
use sessionkit::{ManagerOptions, SessionError, SessionId, Store, StoreUrl, text::visible};

use crate::args::Global;
use crate::detach::Caller;
use crate::error::{Failure, Result};
use crate::quoting::{quoted, quoted_os};
use crate::render::short;
use crate::store_trust::strangers;
use crate::term::Term;
use crate::verbose::{self, Verbose};

/// Environment variable with the URL of the store.
pub(crate) const STORE: &str = "SESSIONCTL_STORE";

/// The umask of this process: all access for the user, none for others.
const PRIVATE: Mode = Mode::RWXG.union(Mode::RWXO);

/// The context in which a verb runs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) term: Term,
    /// The process that started this one with `--detach`, if any.
    pub(crate) caller: Option<Caller>,
    /// The umask of the caller, for programs. That of this process keeps the store private and usable.
    pub(crate) umask: Mode,
    /// The value of `--store`, repeated in the suggested commands.
    typed_store: Option<OsString>,
    /// The word that starts this command in a shell.
    program: String,
    /// `true` if no hints are printed.
    quiet: bool,
    /// The log of `-v`, if requested.
    verbose: Option<Verbose>,
}

impl Context {
    pub(crate) fn new(global: &Global, program: Option<OsString>, caller: Option<Caller>) -> Self {
        let term = Term::new(global.json, global.color);
        Self {
            caller,
            umask: rustix::process::umask(PRIVATE),
            verbose: verbose::start(global.verbose, &term),
            term,
            typed_store: global.store.clone(),
            quiet: false,
            program: program.map_or_else(|| "sessionctl".to_owned(), |program| invocation(&program)),
        }
    }

    /// Prints neither hints nor progress.
    pub(crate) fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Gives this process the umask of its caller, for a verb that starts programs itself and writes nothing of a store.
    pub(crate) fn restore_umask(&self) {
        rustix::process::umask(self.umask);
    }

    /// Returns `true` if only the output of a program and errors are to be printed.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns the URL from `--store` or the environment, else that of the user's default store.
    pub(crate) fn url(&self) -> Result<StoreUrl> {
        let named = || std::env::var_os(STORE).filter(|url| !url.is_empty());
        let url = match self.typed_store.clone().or_else(named) {
            Some(url) => StoreUrl::parse(url)?,
            None => StoreUrl::user_default()?,
        };
        persistent(url)
    }

    /// Opens the store without recovering sessions: only `recover` and `resume` change crashed ones.
    pub(crate) async fn open(&self) -> Result<Store> {
        self.open_with(ManagerOptions::new()).await
    }

    /// Opens the store like [`open`](Self::open), with these options for its manager.
    pub(crate) async fn open_with(&self, options: ManagerOptions) -> Result<Store> {
        let store = open_at(self.url()?, options).await?;
        if let Some(strangers) = strangers(store.url()) {
            self.hint(&format!("the store {} {strangers}", store.url()), &[], &["ls", "--all"]);
        }
        Ok(if self.verbose.is_some() { store.map_manager(verbose::observed) } else { store })
    }

    /// Opens the store to verify it, even if it is itself damaged. Then also returns the damage.
    pub(crate) async fn open_to_verify(&self) -> Result<(Store, Option<String>)> {
        match open_at(self.url()?, ManagerOptions::new()).await {
            Err(SessionError::Storage(StorageError::StoreDamaged { what })) => {
                let options = ManagerOptions::new().recovery(None);
                let store = sessionkit::Builder::new(self.url()?).options(options).open_for_repair().await;
                // The hint is the repair of the store, which is not possible.
                Ok((store.map_err(|error| Failure::from(error).next(&["verify"]))?, Some(what)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Opens a second store, such as the target of a migration.
    pub(crate) async fn open_other(url: &OsStr) -> Result<Store> {
        Ok(open_at(persistent(StoreUrl::parse(url)?)?, ManagerOptions::new()).await?)
    }

    /// Returns the storage for the output of programs.
    pub(crate) fn output(store: &Store) -> Result<std::sync::Arc<dyn sessionkit::runner::OutputStorage>> {
        store.output().ok_or_else(|| Failure::invalid(format!("{} does not store output", store.url())))
    }

    /// Returns a `sessionctl` command line for the same store, to be shown as a suggestion.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        let mut command = self.program.clone();
        if let Some(store) = &self.typed_store {
            command.push_str(" --store ");
            command.push_str(&quoted_os(store));
        }
        for arg in args {
            command.push(' ');
            // People type the beginning of an id; programs get all of it.
            match arg.parse::<SessionId>() {
                Ok(id) if !self.term.json => command.push_str(&short(id)),
                _ => command.push_str(&quoted(arg)),
            }
        }
        command
    }

    /// Returns a system command line that inspects the store's directory, to be shown as a suggestion.
    pub(crate) fn store_command(&self, command: &str) -> String {
        match self.url().as_ref().ok().and_then(StoreUrl::path) {
            Some(path) => format!("{command} {}", quoted_os(nearest_existing(path).as_os_str())),
            None => self.command(&["--help"]),
        }
    }

    /// Prints a hint about some sessions to stderr, with the command to type next.
    pub(crate) fn hint(&self, text: &str, sessions: &[SessionId], next: &[&str]) {
        if let Some(line) = self.hint_line(text, sessions, next) {
            self.term.print_stderr(&line);
        }
    }

    /// Prints a hint like [`hint`](Self::hint) that is of use only immediately.
    pub(crate) fn hint_now(&self, text: &str, sessions: &[SessionId], next: &[&str]) {
        if let Some(line) = self.hint_line(text, sessions, next) {
            self.term.print_stderr_now(&line);
        }
    }

    fn hint_line(&self, text: &str, sessions: &[SessionId], next: &[&str]) -> Option<String> {
        if self.quiet {
            return None;
        }
        let next = self.command(next);
        if self.term.json {
            let hint = serde_json::json!({
                "schema": crate::json::SCHEMA,
                "hint": { "message": text, "sessions": sessions, "next": next },
            });
            Some(crate::json::line(&hint))
        } else {
            Some(format!("{}; {} {next}", visible(text), self.term.faint("next:")))
        }
    }
}

async fn open_at(url: StoreUrl, options: ManagerOptions) -> Result<Store, SessionError> {
    let store = sessionkit::Builder::new(url).options(options.recovery(None)).open_store().await?;
    tracing::debug!(store = %store.url(), "opened");
    Ok(store)
}

/// Returns the URL if its store outlives this command.
fn persistent(url: StoreUrl) -> Result<StoreUrl> {
    if url == StoreUrl::Memory {
        return Err(Failure::invalid("a `memory:` store is lost when this command exits: use `file:PATH`"));
    }
    Ok(url)
}

/// Returns the path, or its nearest ancestor that exists.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// Returns the word to type for this program: as it was called, since `PATH` may not have it.
fn invocation(program: &OsString) -> String {
    if program.is_empty() { "sessionctl".to_owned() } else { quoted_os(program) }
}
