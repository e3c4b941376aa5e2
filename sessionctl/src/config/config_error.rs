//! Errors of the configuration. All are mistakes in its file or in a variable, and none changes anything.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sessionkit::text::escape_bytes;

use crate::similar::most_similar;

/// The reason why the configuration cannot be used.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        path: PathBuf,
        /// Shown as a part of the message.
        cause: io::Error,
    },
    /// The file is not one of text: the rest of the sentence says why.
    NotText { path: PathBuf, problem: &'static str },
    /// A line is not TOML.
    Syntax { path: PathBuf, line: usize, problem: String },
    /// A key does not exist.
    UnknownKey { path: PathBuf, line: usize, key: String, known: &'static [&'static str] },
    /// A value of the file is none of those that its key has.
    WrongValue { path: PathBuf, line: usize, key: &'static str, found: String, allowed: Vec<String> },
    /// The value of an environment variable is none of those that its key has.
    WrongVariable { variable: String, found: String, allowed: Vec<String> },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, cause } => {
                write!(f, "cannot read the configuration {}: {cause}", shown(path))
            }
            Self::NotText { path, problem } => write!(f, "the configuration {} {problem}", shown(path)),
            Self::Syntax { path, line, problem } => write!(f, "{}, line {line}: {problem}", shown(path)),
            Self::UnknownKey { path, line, key, known } => {
                write!(f, "{}, line {line}: there is no key `{key}`", shown(path))?;
                let keys = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
                write!(f, "; the keys are {}", list(&keys, "and"))?;
                suggest(f, most_similar(key, known.iter().copied()))
            }
            Self::WrongValue { path, line, key, found, allowed } => {
                write!(f, "{}, line {line}: `{key}` is {found}, not {}", shown(path), list(allowed, "or"))?;
                suggest_value(f, found, allowed)
            }
            Self::WrongVariable { variable, found, allowed } => {
                write!(f, "{variable} is `{found}`, not {}", list(allowed, "or"))?;
                suggest_value(f, found, allowed)
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } => cause.source(),
            Self::NotText { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::WrongValue { .. }
            | Self::WrongVariable { .. } => None,
        }
    }
}

fn suggest_value(f: &mut fmt::Formatter<'_>, found: &str, allowed: &[String]) -> fmt::Result {
    let word = |value: &'_ str| value.trim_matches(['"', '\'']).to_lowercase();
    let words: Vec<String> = allowed.iter().map(|value| word(value)).collect();
    let similar = most_similar(&word(found), words.iter().map(String::as_str));
    suggest(
        f,
        allowed
            .iter()
            .find(|value| similar.is_some_and(|similar| similar == word(value)))
            .map(|value| &**value),
    )
}

fn suggest(f: &mut fmt::Formatter<'_>, similar: Option<&str>) -> fmt::Result {
    match similar {
        Some(similar) => write!(f, "; did you mean `{similar}`?"),
        None => Ok(()),
    }
}

/// Formats a list as a part of a sentence.
fn list(items: &[String], conjunction: &str) -> String {
    match items {
        [items @ .., last] if !items.is_empty() => format!("{} {conjunction} {last}", items.join(", ")),
        items => items.concat(),
    }
}

fn shown(path: &Path) -> String {
    escape_bytes(path.as_os_str()).into_owned()
}
