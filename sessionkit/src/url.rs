//! URLs of stores: `file:PATH`, `sqlite:PATH`, …

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use session_core::{SessionError, text::visible};

use crate::schemes::{forms, is_registered};

/// The URL of a store.
///
/// `file:PATH` and `sled:PATH` are folders, `sqlite:PATH` is a database file. The path is used byte for byte: `%20` is
/// three characters, `~` is one, and a relative path starts at the current directory. `file:///srv/x` is `/srv/x`;
/// `file://host/x` is refused, because stores are local. `memory:` is a new empty store that lives as long as its
/// manager.
///
/// A scheme that was [registered](crate::register) is followed by a path in the same way, or by `//` and the address of
/// a server, which its backend interprets.
///
/// ```
/// use sessionkit::StoreUrl;
///
/// let url = StoreUrl::parse("sqlite:/srv/sessions.db").unwrap();
/// assert_eq!(url.scheme(), "sqlite");
/// assert_eq!(url.path(), Some(std::path::Path::new("/srv/sessions.db")));
/// assert!(StoreUrl::parse("file://host/srv").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A folder with a readable log for each session, by its absolute path.
    File(PathBuf),
    /// A folder with a sled database, by its absolute path.
    Sled(PathBuf),
    /// An `SQLite` database, by its absolute path.
    Sqlite(PathBuf),
    /// This process's memory.
    Memory,
    /// A store of a backend that was [registered](crate::register).
    Registered {
        /// Its scheme.
        scheme: String,
        /// The absolute path, or the address of a server with its `//`.
        address: OsString,
    },
}

impl StoreUrl {
    /// Returns the URL of the folder `path`, made absolute.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an empty path, or for a relative one if the current directory is gone.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, SessionError> {
        absolute("file", path.as_ref()).map(Self::File)
    }

    /// Parses a URL. It need not be UTF-8, because arguments and environment variables need not be.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, with a suggestion.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self, SessionError> {
        let text = text.as_ref();
        let shown = text.to_string_lossy();
        let shown = visible(&shown);
        let Some(colon) = text.as_bytes().iter().position(|byte| *byte == b':') else {
            return Err(invalid(format!(
                "`{shown}` has no scheme: a store is one of {} (did you mean `file:{shown}`?)",
                forms()
            )));
        };
        let (scheme, path) = text.as_bytes().split_at(colon);
        let path = path.get(1..).unwrap_or_default();
        let (scheme, at): (_, fn(PathBuf) -> Self) = match scheme {
            b"file" => ("file", Self::File),
            b"sled" => ("sled", Self::Sled),
            b"sqlite" => ("sqlite", Self::Sqlite),
            b"memory" if path.is_empty() => return Ok(Self::Memory),
            b"memory" => {
                return Err(invalid(format!(
                    "`{shown}` names a store in memory, which cannot have a name: use `memory:`"
                )));
            }
            other => {
                let scheme = std::str::from_utf8(other).ok().filter(|scheme| is_registered(scheme));
                let Some(scheme) = scheme else {
                    let known = forms();
                    return Err(invalid(format!(
                        "`{shown}` has an unknown scheme: a store is one of {known}"
                    )));
                };
                return Self::registered(scheme, OsStr::from_bytes(path));
            }
        };
        if path.starts_with(b"//") && !path.starts_with(b"///") {
            return Err(invalid(format!(
                "`{shown}` names a host, but stores are local: use `{scheme}:/path`"
            )));
        }
        absolute(scheme, Path::new(OsStr::from_bytes(path))).map(at)
    }

    fn registered(scheme: &str, address: &OsStr) -> Result<Self, SessionError> {
        let is_server = address.as_bytes().starts_with(b"//") && !address.as_bytes().starts_with(b"///");
        let address =
            if is_server { address.to_owned() } else { absolute(scheme, Path::new(address))?.into() };
        Ok(Self::Registered { scheme: scheme.to_owned(), address })
    }

    /// Returns the path; `None` for a store in memory or on a server.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Sled(path) | Self::Sqlite(path) => Some(path),
            Self::Memory => None,
            Self::Registered { address, .. } if address.as_bytes().starts_with(b"//") => None,
            Self::Registered { address, .. } => Some(Path::new(address)),
        }
    }

    /// Returns the part after the colon: the absolute path, or the address of a server with its `//`. `None` for a store
    /// in memory.
    #[must_use]
    pub fn address(&self) -> Option<&OsStr> {
        match self {
            Self::File(path) | Self::Sled(path) | Self::Sqlite(path) => Some(path.as_os_str()),
            Self::Memory => None,
            Self::Registered { address, .. } => Some(address),
        }
    }

    /// Returns the part before the colon. Of the backends of this library, it is also the name of the feature that it
    /// needs.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Self::File(_) => "file",
            Self::Sled(_) => "sled",
            Self::Sqlite(_) => "sqlite",
            Self::Memory => "memory",
            Self::Registered { scheme, .. } => scheme,
        }
    }

    /// Returns the URL of the user's default store: the folder `sessionctl` in the user's state folder, which is
    /// `$XDG_STATE_HOME` or else `~/.local/state`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if neither `$XDG_STATE_HOME` nor `$HOME` is an absolute path.
    pub fn user_default() -> Result<Self, SessionError> {
        // The XDG specification requires ignoring relative paths.
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        match state {
            Some(state) => Self::file(state.join("sessionctl")),
            None => Err(invalid("neither XDG_STATE_HOME nor HOME is an absolute path: name a store")),
        }
    }

    /// Returns the URL as text, with an absolute path: it is valid in every directory.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        let mut text = OsString::from(self.scheme());
        text.push(":");
        text.push(self.address().unwrap_or_default());
        text
    }
}

/// Makes a store's path absolute, so that later changes of the current directory do not affect it.
fn absolute(scheme: &str, path: &Path) -> Result<PathBuf, SessionError> {
    if path.as_os_str().is_empty() {
        return Err(invalid(format!("`{scheme}:` needs a path: a store is one of {}", forms())));
    }
    std::path::absolute(path).map_err(|error| {
        invalid(format!("cannot make the path of the store absolute: {error}; give an absolute path"))
    })
}

impl FromStr for StoreUrl {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        Self::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    /// Formats the URL for people: characters that could control a terminal are escaped.
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
    fn paths_become_absolute_without_decoding() {
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
        assert_eq!("sled:x".parse::<StoreUrl>().unwrap(), StoreUrl::Sled(here.join("x")));
        assert_eq!("sqlite:///x.db".parse::<StoreUrl>().unwrap(), StoreUrl::Sqlite("/x.db".into()));
    }

    #[test]
    fn invalid_urls_are_refused_with_a_suggestion() {
        for text in [
            "",
            "sessions",
            "file:",
            "file://host/x",
            "sqlite:",
            "sled://h/x",
            "FILE:x",
            "memory:x",
            ":x",
            "x\u{1b}[31m:y",
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{text}");
            let message = error.to_string();
            assert!(
                ["`file:PATH`", "`memory:`", ":/path`"].iter().any(|url| message.contains(url)),
                "{message}"
            );
            assert!(!message.contains('\u{1b}'), "{message}");
        }
    }

    #[test]
    fn a_registered_scheme_has_paths_or_servers() {
        let before = "mine-url:x".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(before.contains("unknown scheme") && !before.contains("`mine-url:PATH`"), "{before}");
        assert!(crate::schemes::claim("mine-url") && !crate::schemes::claim("mine-url"));
        let here = std::env::current_dir().unwrap();
        for (text, written, path) in [
            ("mine-url:x", format!("mine-url:{}", here.join("x").display()), Some(here.join("x"))),
            ("mine-url:///srv/x", "mine-url:/srv/x".to_owned(), Some("/srv/x".into())),
            ("mine-url://host:1/x", "mine-url://host:1/x".to_owned(), None),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!((url.to_string(), url.scheme()), (written, "mine-url"));
            assert_eq!(url.path().map(Path::to_owned), path);
            assert_eq!(StoreUrl::parse(url.to_os_string()).unwrap(), url);
        }
        let message = "mine-url:".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(message.contains("`mine-url:PATH`"), "{message}");
    }

    #[test]
    fn a_non_utf_8_path_round_trips_through_its_url() {
        for path in [b"/srv/x".as_slice(), b"/srv/\xff\xfe"] {
            let path = PathBuf::from(OsStr::from_bytes(path));
            let urls =
                [StoreUrl::File(path.clone()), StoreUrl::Sled(path.clone()), StoreUrl::Sqlite(path.clone())];
            for url in urls {
                assert_eq!(StoreUrl::parse(url.to_os_string()).unwrap(), url);
                assert_eq!(url.path(), Some(&*path));
            }
        }
        assert_eq!(StoreUrl::parse(StoreUrl::Memory.to_os_string()).unwrap(), StoreUrl::Memory);
    }
}
