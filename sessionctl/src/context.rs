//! What every verb knows: the store, the outputs, and how this command is called.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use sessionkit::{ManagerOptions, SessionId, Store, StoreUrl, text::visible};

use crate::args::Global;
use crate::detach::Caller;
use crate::error::{Failure, Result};
use crate::render::short;
use crate::term::Term;
use crate::verbose::{self, Verbose};

/// The variable that names the store.
pub(crate) const STORE: &str = "SESSIONCTL_STORE";

/// What every verb knows.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) term: Term,
    /// Whoever started this process to own a session in the background.
    pub(crate) caller: Option<Caller>,
    /// The store as typed with `--store`, to be repeated in commands that are to be typed next.
    typed_store: Option<OsString>,
    /// What has to be typed to call this command.
    program: String,
    /// Tells facts as they happen, if that was asked for.
    verbose: Option<Verbose>,
}

impl Context {
    pub(crate) fn new(global: &Global, program: Option<OsString>, caller: Option<Caller>) -> Self {
        let term = Term::new(global.json, global.color);
        Self {
            caller,
            verbose: verbose::start(global.verbose, &term),
            term,
            typed_store: global.store.clone(),
            program: program.map_or_else(|| "sessionctl".to_owned(), |program| invocation(&program)),
        }
    }

    /// The store that was named, or the user's.
    pub(crate) fn url(&self) -> Result<StoreUrl> {
        let named = || std::env::var_os(STORE).filter(|url| !url.is_empty());
        let url = match self.typed_store.clone().or_else(named) {
            Some(url) => StoreUrl::parse(url)?,
            None => StoreUrl::user_default()?,
        };
        persistent(url)
    }

    /// Opens the store. Nothing is recovered: only `recover` and `resume` change what they find.
    pub(crate) async fn open(&self) -> Result<Store> {
        self.open_with(ManagerOptions::new()).await
    }

    /// As [`open`](Self::open), for a manager that can do more.
    pub(crate) async fn open_with(&self, options: ManagerOptions) -> Result<Store> {
        let store = open_at(self.url()?, options).await?;
        Ok(if self.verbose.is_some() { store.map_manager(verbose::observed) } else { store })
    }

    /// Opens another store than the one that the command is about.
    pub(crate) async fn open_other(url: &OsStr) -> Result<Store> {
        open_at(persistent(StoreUrl::parse(url)?)?, ManagerOptions::new()).await
    }

    /// Where the output of a store's programs is.
    pub(crate) fn output(store: &Store) -> Result<std::sync::Arc<dyn sessionkit::runner::OutputStorage>> {
        store.output().ok_or_else(|| Failure::invalid(format!("{} keeps no output", store.url())))
    }

    /// A command of ours to type, for the same store.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        let mut command = self.program.clone();
        if let Some(store) = &self.typed_store {
            command.push_str(" --store ");
            command.push_str(&quoted(&store.to_string_lossy()));
        }
        for arg in args {
            command.push(' ');
            // A person types the beginning of an id, and a program has room for all of it.
            match arg.parse::<SessionId>() {
                Ok(id) if !self.term.json => command.push_str(&short(id)),
                _ => command.push_str(&quoted(arg)),
            }
        }
        command
    }

    /// A command of the system's to type, to look at the store's folder.
    pub(crate) fn store_command(&self, command: &str) -> String {
        match self.url().as_ref().ok().and_then(StoreUrl::path) {
            Some(path) => format!("{command} {}", quoted(&nearest_existing(path).to_string_lossy())),
            None => self.command(&["--help"]),
        }
    }

    /// A line on stderr for whoever looks on, about some sessions, with the command to type next.
    pub(crate) fn hint(&self, text: &str, sessions: &[SessionId], next: &[&str]) {
        let next = self.command(next);
        if self.term.json {
            let hint = serde_json::json!({
                "schema": crate::json::SCHEMA,
                "hint": { "message": text, "sessions": sessions, "next": next },
            });
            self.term.print_stderr(&crate::json::line(&hint));
        } else {
            self.term.print_stderr(&format!("{}; {} {next}", visible(text), self.term.faint("next:")));
        }
    }
}

async fn open_at(url: StoreUrl, options: ManagerOptions) -> Result<Store> {
    let store = sessionkit::Builder::new(url).options(options.recovery(None)).open_store().await?;
    tracing::debug!(store = %store.url(), "opened");
    Ok(store)
}

/// The same, if it outlives this command.
fn persistent(url: StoreUrl) -> Result<StoreUrl> {
    if url == StoreUrl::Memory {
        return Err(Failure::invalid("a store in memory ends with this command: use `file:PATH`"));
    }
    Ok(url)
}

/// The path itself, or what there is of the way to it.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// A program that was called by a path is not found by its name.
fn invocation(program: &OsString) -> String {
    let text = program.to_string_lossy();
    if text.contains('/') { quoted(&text) } else { "sessionctl".to_owned() }
}

/// A word as a shell takes it, without what a terminal would obey.
pub(crate) fn quoted(arg: &str) -> String {
    let arg = visible(arg);
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.into_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quoted_arguments_survive_a_shell() {
        for arg in ["plain", "a b", "it's", "$(id)", "", "file:/srv/x", "*"] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(arg))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), arg);
        }
    }
}
