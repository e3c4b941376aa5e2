//! The keys that leave a running session: their specification, and their recognition in what a terminal sends.
//!
//! A key arrives as a byte, or in the encodings that programs switch on: the kitty keyboard protocol (`CSI 93;5u`) and
//! xterm's `modifyOtherKeys` (`CSI 27;5;93~`).

mod key;
pub(crate) mod scanner;

use std::fmt;
use std::str::FromStr;

use self::key::Key;

/// Keys in one specification.
const MAX_KEYS: usize = 8;

/// The keys that leave a session, pressed one after the other. The default is `ctrl-],d`; none disables them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<Key>,
}

/// A specification that names no keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DetachKeysError {
    /// A part of it, between commas, is no key.
    NotAKey(String),
    /// There are more than [`MAX_KEYS`].
    TooMany(usize),
}

impl DetachKeys {
    pub(crate) fn is_disabled(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![Key::control(']'), Key::plain('d')] }
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    /// Parses keys separated by commas. `none`, or nothing, disables them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case("none") {
            return Ok(Self { keys: Vec::new() });
        }
        let key = |part: &str| Key::parse(part.trim()).ok_or_else(|| DetachKeysError::NotAKey(part.into()));
        let keys = text.split(',').map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.len() > MAX_KEYS { Err(DetachKeysError::TooMany(keys.len())) } else { Ok(Self { keys }) }
    }
}

impl fmt::Display for DetachKeys {
    /// Writes the keys for people: `Ctrl-] d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_disabled() {
            return f.write_str("none");
        }
        for (number, key) in self.keys.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{key}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DetachKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKey(part) => write!(
                f,
                "`{part}` is not a detach key: allowed are `ctrl-` followed by a letter or one of @\\]^_, single \
                 characters of ASCII, several of them separated by commas, and `none`",
            ),
            Self::TooMany(count) => {
                write!(f, "{count} detach keys are too many: at most {MAX_KEYS} are allowed")
            }
        }
    }
}

impl std::error::Error for DetachKeysError {}

#[cfg(test)]
mod tests;
