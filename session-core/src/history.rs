//! The work that a log documents by name: changed files, commits and commands. Unlike the head it has no fixed size,
//! so it is computed from the whole log when it is asked for, and no backend stores it.

use std::collections::{BTreeSet, VecDeque};

use crate::event::{Changes, Commit, SessionEvent};
use crate::limits::{HISTORY_COMMANDS, HISTORY_COMMITS};
use crate::record::Record;
use crate::time::Timestamp;

/// The changed files, commits and commands of a session, from its whole log.
///
/// [`SessionStorageExt::history`](crate::backend::SessionStorageExt::history) computes it; for records from elsewhere, apply
/// each of them to an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkHistory {
    /// The distinct files that completed iterations named, by path: a file that ten iterations changed is here once.
    pub files: BTreeSet<String>,
    /// Changed files that iterations counted without naming them, summed over the iterations. If it is 0, `files` has
    /// every changed file; else it is not known if these are others.
    pub unnamed_files: u64,
    /// The last 100 commits that iterations named, oldest first.
    pub commits: VecDeque<Commit>,
    /// Commits that are not in `commits`: earlier ones, and those that iterations only counted.
    pub other_commits: u64,
    /// The last 100 commands, oldest first.
    pub commands: VecDeque<ExecutedCommand>,
    /// Commands before these.
    pub earlier_commands: u64,
}

/// A command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutedCommand {
    /// The time at which its end was recorded.
    pub at: Timestamp,
    /// The command line.
    pub command: String,
    /// The exit code, unless a signal ended the command.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// The run time in milliseconds.
    pub duration_ms: u64,
    /// The size of its output in bytes, stored or not.
    pub output_bytes: u64,
}

impl WorkHistory {
    /// Creates an empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of distinct files that completed iterations named. It is the number of changed files exactly
    /// if `unnamed_files` is 0, and at most that much too low otherwise.
    #[must_use]
    pub fn distinct_files(&self) -> u64 {
        u64::try_from(self.files.len()).unwrap_or(u64::MAX)
    }

    /// Folds in the next record.
    pub fn apply(&mut self, record: &Record) {
        if let SessionEvent::IterationCompleted { changes, .. } = &record.event {
            self.add(changes);
        } else if let SessionEvent::CommandExecuted {
            command,
            exit_code,
            signal,
            duration_ms,
            output_bytes,
            ..
        } = &record.event
        {
            let executed = ExecutedCommand {
                at: record.envelope.at,
                command: command.clone(),
                exit_code: *exit_code,
                signal: *signal,
                duration_ms: *duration_ms,
                output_bytes: *output_bytes,
            };
            push(&mut self.commands, executed, HISTORY_COMMANDS, &mut self.earlier_commands);
        }
    }

    fn add(&mut self, changes: &Changes) {
        for file in &changes.files {
            if !self.files.contains(&file.path) {
                self.files.insert(file.path.clone());
            }
        }
        self.unnamed_files = self.unnamed_files.saturating_add(changes.unnamed_files());
        self.other_commits = self.other_commits.saturating_add(changes.unnamed_commits());
        for commit in &changes.commit_list {
            push(&mut self.commits, commit.clone(), HISTORY_COMMITS, &mut self.other_commits);
        }
    }
}

/// Appends to the last `most` items, and counts the item that this drops.
fn push<T>(items: &mut VecDeque<T>, item: T, most: usize, dropped: &mut u64) {
    if items.len() == most {
        items.pop_front();
        *dropped = dropped.saturating_add(1);
    }
    items.push_back(item);
}
