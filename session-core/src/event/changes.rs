//! The changes made in one iteration: totals, and the changed files and commits by name within limits.

use serde::{Deserialize, Serialize};

use crate::limits::{
    self, COMMIT_ID_BYTES, LimitError, NAMED_COMMITS, NAMED_FILES, NAMED_FILES_BYTES, SUBJECT_BYTES,
};
use crate::text::prefix;

/// The changes made in one iteration.
///
/// The four totals are exact. The lists name the changed files and the commits within the limits of
/// [`limits`](crate::limits); [`unnamed_files`](Self::unnamed_files) and [`unnamed_commits`](Self::unnamed_commits)
/// return the number of those that are only counted.
///
/// ```
/// use session_core::{Changes, Commit, FileChange};
///
/// let changes = Changes::new()
///     .file(FileChange::modified("src/lib.rs").lines(12, 3))
///     .file(FileChange::renamed("doc/a.md", "docs/a.md"))
///     .commit(Commit::new("3f0c2d1", "Move the pages"));
/// assert_eq!((changes.files_changed, changes.lines_added, changes.lines_removed), (2, 12, 3));
/// assert_eq!((changes.commits, changes.unnamed_files()), (1, 0));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Changes {
    /// Files changed, named or not.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made, named or not.
    pub commits: u64,
    /// The changed files that are named, at most 1,000 with 64 KiB of paths in all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
    /// The commits that are named, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commit_list: Vec<Commit>,
}

impl Changes {
    /// Creates an empty set of changes.
    #[must_use]
    pub const fn new() -> Self {
        Self::totals(0, 0, 0, 0)
    }

    /// Creates changes that are only counted, without names. Files and commits that are added later increase the
    /// totals.
    #[must_use]
    pub const fn totals(files_changed: u64, lines_added: u64, lines_removed: u64, commits: u64) -> Self {
        Self {
            files_changed,
            lines_added,
            lines_removed,
            commits,
            files: Vec::new(),
            commit_list: Vec::new(),
        }
    }

    /// Adds a changed file. A file that is named already is counted once, and its lines are added up.
    ///
    /// A file beyond the limits, or with an empty path, is counted without its name; pass each of those only once.
    #[must_use]
    pub fn file(mut self, file: FileChange) -> Self {
        self.lines_added = self.lines_added.saturating_add(file.lines_added);
        self.lines_removed = self.lines_removed.saturating_add(file.lines_removed);
        if let Some(named) = self.files.iter_mut().find(|named| named.path == file.path) {
            named.merge(file);
            return self;
        }
        self.files_changed = self.files_changed.saturating_add(1);
        let size = self.named_bytes() + file.named_bytes();
        if self.files.len() < NAMED_FILES && size <= NAMED_FILES_BYTES && file.check().is_ok() {
            self.files.push(file);
        }
        self
    }

    /// Adds changed files, each like [`file`](Self::file).
    #[must_use]
    pub fn files(self, files: impl IntoIterator<Item = FileChange>) -> Self {
        files.into_iter().fold(self, Self::file)
    }

    /// Adds a commit. A commit beyond the limits, or with an empty id, is counted without its name; a long subject is
    /// cut to 256 bytes.
    #[must_use]
    pub fn commit(mut self, mut commit: Commit) -> Self {
        self.commits = self.commits.saturating_add(1);
        commit.subject.truncate(prefix(&commit.subject, SUBJECT_BYTES).len());
        if self.commit_list.len() < NAMED_COMMITS && commit.check().is_ok() {
            self.commit_list.push(commit);
        }
        self
    }

    /// Returns the number of changed files that are counted but not named.
    #[must_use]
    pub fn unnamed_files(&self) -> u64 {
        self.files_changed.saturating_sub(count(&self.files))
    }

    /// Returns the number of commits that are counted but not named.
    #[must_use]
    pub fn unnamed_commits(&self) -> u64 {
        self.commits.saturating_sub(count(&self.commit_list))
    }

    /// Checks the limits of the lists, and that the totals cover what they name.
    ///
    /// # Errors
    /// Too many names, too long ones or empty ones; totals that are smaller than what the lists name.
    pub fn check(&self) -> Result<(), LimitError> {
        limits::at_most("changed files by name", self.files.len(), NAMED_FILES)?;
        limits::at_most("paths of changed files (bytes)", self.named_bytes(), NAMED_FILES_BYTES)?;
        limits::at_most("commits by name", self.commit_list.len(), NAMED_COMMITS)?;
        self.files.iter().try_for_each(FileChange::check)?;
        self.commit_list.iter().try_for_each(Commit::check)?;
        let lines = |of: fn(&FileChange) -> u64| self.files.iter().map(of).fold(0, u64::saturating_add);
        let covered = self.files_changed >= count(&self.files)
            && self.commits >= count(&self.commit_list)
            && self.lines_added >= lines(|file| file.lines_added)
            && self.lines_removed >= lines(|file| file.lines_removed);
        if covered { Ok(()) } else { Err(LimitError::invalid("changes", "count less than they name")) }
    }

    fn named_bytes(&self) -> usize {
        self.files.iter().map(FileChange::named_bytes).fold(0, usize::saturating_add)
    }
}

fn count<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileChange {
    /// The path, by convention relative to the project and with `/` between its parts. A name that is not text is
    /// stored as the caller writes it, for example with the escapes that git prints.
    pub path: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// Lines added; 0 for a binary file.
    #[serde(default)]
    pub lines_added: u64,
    /// Lines removed; 0 for a binary file.
    #[serde(default)]
    pub lines_removed: u64,
}

impl FileChange {
    /// Creates a change of this kind, without lines.
    #[must_use]
    pub fn new(path: impl Into<String>, kind: ChangeKind) -> Self {
        Self { path: path.into(), kind, lines_added: 0, lines_removed: 0 }
    }

    /// Creates the change of a new file.
    #[must_use]
    pub fn added(path: impl Into<String>) -> Self {
        Self::new(path, ChangeKind::Added)
    }

    /// Creates the change of an existing file.
    #[must_use]
    pub fn modified(path: impl Into<String>) -> Self {
        Self::new(path, ChangeKind::Modified)
    }

    /// Creates the change of a file that no longer exists.
    #[must_use]
    pub fn deleted(path: impl Into<String>) -> Self {
        Self::new(path, ChangeKind::Deleted)
    }

    /// Creates the change of a file that has a new path.
    #[must_use]
    pub fn renamed(from: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(path, ChangeKind::Renamed { from: from.into() })
    }

    /// Sets the numbers of lines added and removed.
    #[must_use]
    pub fn lines(mut self, added: u64, removed: u64) -> Self {
        (self.lines_added, self.lines_removed) = (added, removed);
        self
    }

    /// Merges a later change of the same path. An added or renamed file that is modified stays added or renamed.
    fn merge(&mut self, later: Self) {
        self.lines_added = self.lines_added.saturating_add(later.lines_added);
        self.lines_removed = self.lines_removed.saturating_add(later.lines_removed);
        match later.kind {
            ChangeKind::Added | ChangeKind::Deleted => self.kind = later.kind,
            ChangeKind::Modified | ChangeKind::Renamed { .. } => {}
        }
    }

    fn named_bytes(&self) -> usize {
        let from = match &self.kind {
            ChangeKind::Renamed { from } => from.len(),
            ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted => 0,
        };
        self.path.len() + from
    }

    fn check(&self) -> Result<(), LimitError> {
        let named =
            !self.path.is_empty() && !matches!(&self.kind, ChangeKind::Renamed { from } if from.is_empty());
        if named { Ok(()) } else { Err(LimitError::invalid("path of a changed file", "is empty")) }
    }
}

/// The kind of change of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// The file is new.
    Added,
    /// The content changed.
    Modified,
    /// The file no longer exists.
    Deleted,
    /// The file has a new path; its content may have changed, too.
    Renamed {
        /// The previous path.
        from: String,
    },
}

/// A commit made in an iteration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Commit {
    /// The id, at most 64 bytes.
    pub id: String,
    /// The first line of the message, at most 256 bytes.
    pub subject: String,
}

impl Commit {
    /// Creates a commit from its id and the first line of its message.
    #[must_use]
    pub fn new(id: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { id: id.into(), subject: subject.into() }
    }

    fn check(&self) -> Result<(), LimitError> {
        limits::at_most("id of a commit (bytes)", self.id.len(), COMMIT_ID_BYTES)?;
        limits::at_most("subject of a commit (bytes)", self.subject.len(), SUBJECT_BYTES)?;
        if self.id.is_empty() { Err(LimitError::invalid("id of a commit", "is empty")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = FileChange> {
        let kind = prop_oneof![
            Just(ChangeKind::Added),
            Just(ChangeKind::Modified),
            Just(ChangeKind::Deleted),
            "[ab]{0,2}".prop_map(|from| ChangeKind::Renamed { from }),
        ];
        let lines = prop_oneof![0..100_u64, Just(u64::MAX)];
        ("[a-c]{0,3}", 1..30_000_usize, kind, lines.clone(), lines).prop_map(
            |(path, long, kind, added, removed)| {
                // Every tenth path or so is long, so that the bytes are exhausted before the number of files is.
                let path = if long > 27_000 { path.repeat(long) } else { path };
                FileChange::new(path, kind).lines(added, removed)
            },
        )
    }

    proptest! {
        /// Any files and commits give changes within the limits, whose totals count everything.
        #[test]
        fn built_changes_respect_the_limits(
            files in prop::collection::vec(change(), 0..40),
            commits in prop::collection::vec(("[a-f]{0,70}", "[a-z é]{0,300}"), 0..120),
        ) {
            let mut changes = Changes::new().files(files.clone());
            for (id, subject) in &commits {
                changes = changes.commit(Commit::new(id, subject));
            }
            changes.check().unwrap();
            let sum = |of: fn(&FileChange) -> u64| files.iter().map(of).fold(0, u64::saturating_add);
            prop_assert_eq!(changes.lines_added, sum(|file| file.lines_added));
            prop_assert_eq!(changes.lines_removed, sum(|file| file.lines_removed));
            prop_assert_eq!(changes.commits, commits.len() as u64);
            prop_assert_eq!(changes.unnamed_commits() + changes.commit_list.len() as u64, changes.commits);
            prop_assert_eq!(changes.unnamed_files() + changes.files.len() as u64, changes.files_changed);
            let named: std::collections::BTreeSet<_> = changes.files.iter().map(|file| &file.path).collect();
            prop_assert_eq!(named.len(), changes.files.len(), "a file is named twice");
            prop_assert!(changes.files_changed <= files.len() as u64);
        }
    }

    #[test]
    fn totals_stay_exact_when_the_lists_are_full() {
        let files = (0..5_000).map(|n| FileChange::modified(format!("src/{n}.rs")).lines(2, 1));
        let mut changes = Changes::new().files(files);
        for n in 0..250 {
            changes = changes.commit(Commit::new(format!("{n:040x}"), "é".repeat(200)));
        }
        changes.check().unwrap();
        assert_eq!(
            (changes.files_changed, changes.lines_added, changes.lines_removed),
            (5_000, 10_000, 5_000)
        );
        assert_eq!((changes.files.len(), changes.unnamed_files()), (NAMED_FILES, 4_000));
        assert_eq!((changes.commits, changes.commit_list.len()), (250, NAMED_COMMITS));
        assert_eq!(changes.unnamed_commits(), 150);
        assert_eq!(changes.commit_list[0].subject, "é".repeat(128), "cut, not within a character");
        // What was named first is kept.
        assert_eq!(changes.files[999].path, "src/999.rs");
    }

    #[test]
    fn a_file_that_is_named_twice_counts_once() {
        let changes = Changes::new()
            .file(FileChange::added("a").lines(3, 0))
            .file(FileChange::modified("b").lines(1, 1))
            .file(FileChange::modified("a").lines(2, 1));
        assert_eq!((changes.files_changed, changes.unnamed_files()), (2, 0));
        assert_eq!((changes.lines_added, changes.lines_removed), (6, 2));
        assert_eq!(changes.files[0], FileChange::added("a").lines(5, 1));
        let gone = changes.file(FileChange::deleted("b"));
        assert_eq!((gone.files_changed, &gone.files[1].kind), (2, &ChangeKind::Deleted));
    }

    #[test]
    fn names_that_cannot_be_stored_are_only_counted() {
        let changes = Changes::totals(10, 0, 0, 4)
            .file(FileChange::added(""))
            .file(FileChange::renamed("", "a"))
            .file(FileChange::added("x".repeat(NAMED_FILES_BYTES + 1)))
            .file(FileChange::added("x".repeat(NAMED_FILES_BYTES)))
            .commit(Commit::new("", "no id"))
            .commit(Commit::new("f".repeat(65), "a long id"))
            .commit(Commit::new("f".repeat(64), ""));
        changes.check().unwrap();
        assert_eq!((changes.files_changed, changes.files.len(), changes.unnamed_files()), (14, 1, 13));
        assert_eq!((changes.commits, changes.commit_list.len(), changes.unnamed_commits()), (7, 1, 6));
    }
}
