//! Where a store is, as one text: `file:PATH` or `memory:`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use session_core::{SessionError, text::visible};

/// The schemes that this build can open.
#[cfg(feature = "file")]
const SCHEMES: &str = "`file:PATH`, `memory:`";
#[cfg(not(feature = "file"))]
const SCHEMES: &str = "`memory:`";

/// Where a store is.
///
/// `file:PATH` is a folder. The path is taken as it is, byte for byte: `%20` is three characters, `~` is one, and a
/// relative path begins at the current directory. `file:///srv/x` is `/srv/x`; `file://host/x` is refused, because no
/// host is asked. `memory:` is a new empty store that lives as long as its manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A folder, by its absolute path.
    File(PathBuf),
    /// This process's memory.
    Memory,
}

impl StoreUrl {
    /// The folder `path`, made absolute.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an empty path, or a relative one where the current directory is gone.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, SessionError> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(invalid("`file:` needs a path, as in `file:.sessions`"));
        }
        std::path::absolute(path).map(Self::File).map_err(|error| {
            invalid(format!("the path of the store cannot be made absolute: {error}; give an absolute one"))
        })
    }

    /// Reads a text that need not be UTF-8, as arguments and variables of a process need not be.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming what could have been meant.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self, SessionError> {
        let text = text.as_ref();
        let shown = text.to_string_lossy();
        let shown = visible(&shown);
        let mut parts = text.as_bytes().splitn(2, |byte| *byte == b':');
        match (parts.next(), parts.next()) {
            (Some(b"file"), Some(path)) if path.starts_with(b"//") && !path.starts_with(b"///") => Err(
                invalid(format!("`{shown}` names a host, and a store is on this machine: use `file:/path`")),
            ),
            #[cfg(feature = "file")]
            (Some(b"file"), Some(path)) => Self::file(OsStr::from_bytes(path)),
            (Some(b"memory"), Some(b"")) => Ok(Self::Memory),
            (Some(b"memory"), Some(_)) => Err(invalid(format!(
                "`{shown}` names a store in memory, and those have no names: use `memory:`"
            ))),
            (_, None) => Err(invalid(format!(
                "`{shown}` has no scheme: a store is one of {SCHEMES} (did you mean `file:{shown}`?)"
            ))),
            _ => Err(invalid(format!(
                "`{shown}` has a scheme that is not known here: a store is one of {SCHEMES}"
            ))),
        }
    }

    /// The store that is used where none is named: `sessionctl` under the user's state folder, that is
    /// `$XDG_STATE_HOME`, else `~/.local/state`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where neither variable holds an absolute path.
    pub fn user_default() -> Result<Self, SessionError> {
        // The XDG specification: a relative path in a variable is to be ignored.
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        match state {
            Some(state) => Self::file(state.join("sessionctl")),
            None => Err(invalid("neither XDG_STATE_HOME nor HOME says where to keep sessions: name a store")),
        }
    }

    /// The text that names this store from every directory.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        match self {
            Self::File(path) => OsString::from_vec([b"file:", path.as_os_str().as_bytes()].concat()),
            Self::Memory => "memory:".into(),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        Self::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    /// For people: what is dangerous to show is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.to_os_string().to_string_lossy()))
    }
}

fn invalid(what: impl Into<String>) -> SessionError {
    SessionError::InvalidArgument { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::ErrorCode;

    #[test]
    fn a_path_is_taken_byte_for_byte_and_made_absolute() {
        let here = std::env::current_dir().unwrap();
        for (text, path) in [
            ("file:.sessions", here.join(".sessions")),
            ("file:a b%20c", here.join("a b%20c")),
            ("file:~/x", here.join("~/x")),
            ("file:/srv/x", PathBuf::from("/srv/x")),
            ("file:///srv/x", PathBuf::from("/srv/x")),
            ("file:/srv/x:y", PathBuf::from("/srv/x:y")),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap(), StoreUrl::File(path), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_no_store_is_refused_and_says_what_would() {
        for text in
            ["", "sessions", "file:", "file://host/x", "sled:x", "FILE:x", "memory:x", ":x", "x\u{1b}[31m:y"]
        {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{text}");
            let message = error.to_string();
            assert!(message.contains("file:") || message.contains("memory:"), "{text}: {message}");
            assert!(!message.contains('\u{1b}'), "{message}");
        }
    }

    #[test]
    fn a_store_reads_back_from_its_text_even_if_its_path_is_no_utf_8() {
        for path in [b"/srv/x".as_slice(), b"/srv/\xff\xfe"] {
            let url = StoreUrl::file(Path::new(OsStr::from_bytes(path))).unwrap();
            assert_eq!(StoreUrl::parse(url.to_os_string()).unwrap(), url);
        }
    }
}
