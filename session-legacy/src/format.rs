//! The older tools whose stores can be read.

use std::fmt;

/// An older tool, by the way in which it kept its sessions.
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
    /// All of them.
    pub const ALL: &[Self] = &[Self::Msw, Self::Container, Self::Prodigy];

    /// Its name, as a person types it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Msw => "msw",
            Self::Container => "container",
            Self::Prodigy => "prodigy",
        }
    }

    /// The format of this name.
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
