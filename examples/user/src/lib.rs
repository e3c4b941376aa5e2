//! A small program as a user of `sessionkit` writes it: an import whose work fails with `anyhow`, a build that runs
//! another program, and an observer of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use sessionkit::runner::{Command, RunReport};
use sessionkit::{
    EventContext, Session, SessionConfig, SessionEvent, SessionId, SessionManager, SessionManagerExt as _,
    SessionObserver, SessionReport, Store,
};

/// Adds up the numbers of a file, one in each line, and continues after a crash. A file is imported once.
///
/// # Errors
/// If the manager fails. A failed import is a report.
pub async fn import(manager: &dyn SessionManager, path: &Path) -> Result<SessionReport> {
    let (key, config) = (format!("import {}", path.display()), SessionConfig::new("import"));
    Ok(manager.run_or_resume(&key, config, async |session| Ok(sum(&session, path).await?)).await?)
}

/// Does the work. It knows `anyhow`, and nothing of the errors of sessions.
async fn sum(session: &Session, path: &Path) -> Result<u64> {
    let text = tokio::fs::read_to_string(path).await.with_context(|| format!("reading {}", path.display()))?;
    let (mut done, mut sum): (usize, u64) = session.last_checkpoint()?.unwrap_or_default();
    session.progress().start(text.lines().count());
    for line in text.lines().skip(done) {
        session.cancellation().check()?;
        ensure!(!line.is_empty(), "line {} is empty", done + 1);
        sum += line.parse::<u64>().with_context(|| format!("line {}", done + 1))?;
        done += 1;
        session.progress().complete_step(format!("line {done}"));
        session.checkpoint(&(done, sum)).await?;
    }
    Ok(sum)
}

/// Runs a program as a session, and returns what it printed.
///
/// # Errors
/// If it cannot be run.
pub async fn build(store: &Store, command: Command) -> Result<(RunReport, String)> {
    let mut running = store.runner()?.spawn(SessionConfig::new("build"), command).await?;
    let mut output = running.output().context("the store keeps no output")?;
    let mut text = Vec::new();
    while let Some(chunk) = output.next().await? {
        text.extend(chunk.bytes);
    }
    Ok((running.wait().await?, String::from_utf8_lossy(&text).into_owned()))
}

/// Cancels all sessions of an operation, and returns their ids.
///
/// # Errors
/// If the manager fails.
pub async fn cancel_all(manager: &dyn SessionManager, reason: &str) -> sessionkit::Result<Vec<SessionId>> {
    let mut cancelled = Vec::new();
    for head in manager.list_active_sessions().await?.heads {
        manager.cancel_session(head.id, sessionkit::CancelRequest::new(reason, "user")).await?;
        cancelled.push(head.id);
    }
    Ok(cancelled)
}

/// An observer that counts events by kind.
#[derive(Debug, Default)]
pub struct Counter(Mutex<BTreeMap<&'static str, usize>>);

impl Counter {
    /// Returns the number of events of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().unwrap_or(0)
    }
}

impl SessionObserver for Counter {
    fn on_event(&self, _: &EventContext, event: &SessionEvent) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(event.kind().name()).or_default() += 1;
    }
}
