//! The older tools whose stores can be read.

use std::fmt;

/// An older tool, identified by its storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A folder `.msw/sessions` with one JSON file for each session.
    Msw,
    /// One file `.claude-container-sessions.json`, and git worktrees under `.worktrees`.
    Container,
    /// A folder `.prodigy/sessions` with one JSON file for each session.
    Prodigy,
}

impl Format {
    /// All formats.
    pub const ALL: &[Self] = &[Self::Msw, Self::Container, Self::Prodigy];

    /// Returns its name, as a person types it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Msw => "msw",
            Self::Container => "container",
            Self::Prodigy => "prodigy",
        }
    }

    /// Parses a format's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
