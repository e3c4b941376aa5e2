//! Names of worktrees: part of a path and of a branch.

use std::fmt;

use crate::error::{Result, WorktreeError};

/// Bytes of a slug.
const LONGEST: usize = 60;

/// The name of a worktree: `a-z`, `0-9`, `.`, `_` and `-`, at most 60 bytes, and a component of a branch's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// Parses a name that a person gave.
    ///
    /// # Errors
    /// [`WorktreeError::InvalidName`] with the rule that it breaks.
    pub fn parse(name: &str) -> Result<Self> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > LONGEST {
            "it is longer than 60 bytes"
        } else if !name.bytes().all(is_allowed) {
            "only a to z, 0 to 9, `.`, `_` and `-` are allowed"
        } else if name.starts_with(['.', '-']) {
            "it begins with `.` or `-`"
        } else if name.ends_with('.') || name.strip_suffix(".lock").is_some() || name.contains("..") {
            "git allows no branch of that name"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(WorktreeError::InvalidName { name: name.to_owned(), reason })
    }

    /// Creates the slug that is closest to a text, such as the name of a session; `session` if nothing is left of it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut slug = String::new();
        for character in text.chars() {
            let character = character.to_ascii_lowercase();
            let is_allowed = character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
            match character {
                _ if is_allowed => slug.push(character),
                '.' if !slug.is_empty() && !slug.ends_with(['.', '-']) => slug.push('.'),
                _ if !slug.is_empty() && !slug.ends_with(['-', '.']) => slug.push('-'),
                _ => {}
            }
        }
        slug.truncate(LONGEST);
        let slug = slug.trim_end_matches(['.', '-']);
        Self::parse(slug.strip_suffix(".lock").unwrap_or(slug)).unwrap_or_else(|_| Self("session".to_owned()))
    }

    /// Returns the slug with a number, of which 1 adds nothing.
    pub(crate) fn numbered(&self, number: u32) -> Self {
        if number == 1 {
            return self.clone();
        }
        let suffix = format!("-{number}");
        let kept: String = self.0.chars().take(LONGEST - suffix.len()).collect();
        Self(kept.trim_end_matches(['.', '-']).to_owned() + &suffix)
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_with_the_rule() {
        let long = "a".repeat(61);
        for name in
            ["", "--help", "a..b", "@{", "x.lock", "a/b", ".", "..", "A", "ä", "a b", "x.", ".git", &long]
        {
            assert!(Slug::parse(name).is_err(), "{name}");
        }
        for name in ["a", "fix-42", "v1.2_x", "lock", &long[1..]] {
            assert_eq!(Slug::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn every_text_has_a_slug() {
        for (text, slug) in [
            ("Fix the Login Page!", "fix-the-login-page"),
            ("--help", "help"),
            ("a..b", "a.b"),
            ("feature/x.lock", "feature-x"),
            ("@{", "session"),
            ("", "session"),
            ("../../etc/passwd", "etc-passwd"),
            ("日本", "session"),
        ] {
            let found = Slug::from_text(text);
            assert_eq!(found.as_str(), slug, "{text}");
            assert!(Slug::parse(found.as_str()).is_ok());
        }
        let long = Slug::from_text(&"x".repeat(100));
        assert_eq!((long.as_str().len(), long.numbered(1000).as_str().len()), (60, 60));
        assert_eq!(Slug::from_text("a").numbered(2).as_str(), "a-2");
    }
}
