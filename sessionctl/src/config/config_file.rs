//! The file of the configuration: its place, and its keys with their lines.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config_error::ConfigError;
use crate::plain_file;

/// Environment variable with the path of the file.
const VARIABLE: &str = "SESSIONCTL_CONFIG";
/// The path below the folder of all configurations.
const NAME: &str = "sessionctl/config.toml";
/// Limit of its size. A file without a limit could be something else entirely.
const MAX_BYTES: u64 = 1024 * 1024;
/// Characters of a key or a value that are shown in an error.
const SHOWN_CHARS: usize = 40;

/// Returns the path of the file, which may not exist: that of the environment, else that of the user. `None` if the
/// environment says that there is none, or names no folder of the user.
pub(super) fn path(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(named) = environment(VARIABLE) {
        if named.is_empty() || named == "/dev/null" {
            return Ok(None);
        }
        let absolute = std::path::absolute(&named);
        return absolute.map(Some).map_err(|cause| ConfigError::Unreadable { path: named.into(), cause });
    }
    // The XDG specification requires ignoring relative paths.
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    Ok(folder.map(|folder| folder.join(NAME)))
}

/// Returns the text of the file; `None` if it does not exist, or is a link to `/dev/null`.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let not_text = |problem| ConfigError::NotText { path: path.to_owned(), problem };
    let (file, metadata) = match plain_file::open(path) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    if metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3) {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err(not_text("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(not_text("has more than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| not_text("is not UTF-8"))
}

/// The text of the file as a table.
#[derive(Debug)]
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

/// A key of the file.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) value: &'a DeValue<'a>,
    /// The line of the value.
    pub(super) line: usize,
    /// The value as it is written, cut.
    pub(super) written: String,
}

impl<'a> Document<'a> {
    /// Parses the text. Only these keys are allowed.
    pub(super) fn parse(
        path: &'a Path,
        text: &'a str,
        known: &'static [&'static str],
    ) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line(text, error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        let document = Self { path, text, table: table.into_inner() };
        let unknown = document.table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            Some(key) => Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: line(text, key.span().start),
                key: cut(key.get_ref()),
                known,
            }),
            None => Ok(document),
        }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Returns the entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<Entry<'_>> {
        let (_, value): (_, &Spanned<DeValue<'_>>) =
            self.table.iter().find(|(name, _)| *name.get_ref() == key)?;
        let span = value.span();
        let line = line(self.text, span.start);
        let written = cut(self.text.get(span).unwrap_or_default());
        Some(Entry { value: value.get_ref(), line, written })
    }
}

/// Returns a text as it is shown in an error.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Returns the number of the line at this offset.
fn line(text: &str, offset: usize) -> usize {
    1 + text.get(..offset).unwrap_or_default().matches('\n').count()
}
