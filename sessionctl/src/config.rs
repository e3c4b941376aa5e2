//! The configuration: settings of the user, from the environment, else from a file, else the defaults. An option on the
//! command line overrides them.
//!
//! A setting is one line of `settings!`, with its documentation. Only the verbs that use the configuration read it, so
//! that a mistake in the file never prevents the others.

mod config_error;
mod config_file;
mod setting;

use std::ffi::OsString;
use std::path::PathBuf;

use sessionkit::text::escape_bytes;

pub(crate) use self::config_error::ConfigError;
use self::config_file::Document;
use self::setting::Setting;
pub(crate) use self::setting::{OnHangup, TtyWhen};

/// Creates [`Config`], with a field for each key, and everything that handles all keys.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr,)+) => {
        /// The effective configuration.
        #[derive(Debug)]
        pub(crate) struct Config {
            /// The path of the file, which may not exist. `None` if there is to be none.
            pub(crate) path: Option<PathBuf>,
            $($(#[doc = $doc])+ pub(crate) $key: Effective<$kind>,)+
        }

        /// The keys, in the order in which they are shown.
        const KEYS: &[&str] = &[$(stringify!($key)),+];

        impl Config {
            fn from_sources(path: Option<PathBuf>, sources: &Sources<'_>) -> Result<Self, ConfigError> {
                Ok(Self { path, $($key: sources.effective(stringify!($key), $default)?,)+ })
            }

            /// Returns all settings.
            pub(crate) fn settings(&self) -> Vec<ShownSetting<'_>> {
                vec![$(self.$key.show(stringify!($key))),+]
            }
        }

        /// Returns a text about the keys of the file, for the help.
        pub(crate) fn help() -> String {
            let keys = [$(help_of::<$kind>(stringify!($key), &[$($doc),+], &$default)),+];
            format!("Keys of the file, with their defaults:\n{}", keys.concat())
        }
    };
}

settings! {
    /// Programs that get a terminal of their own: those whose output or errors go to a terminal ("auto"), all, or none
    tty: TtyWhen = TtyWhen::Auto,
    /// Reaction to HUP, when a terminal is closed: leave its session running, or interrupt it
    on_hangup: OnHangup = OnHangup::Leave,
    /// Set PYTHONUNBUFFERED=1 for programs, as `run --unbuffered` does
    unbuffered: bool = false,
    /// Command to run with `sh -c` for each question that a program asks, as `run --on-ask` does; an empty one is none
    on_ask: String = String::new(),
}

/// The value of a setting that applies, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective<T> {
    pub(crate) value: T,
    pub(crate) origin: SettingOrigin,
}

impl<T: Setting> Effective<T> {
    fn show(&self, key: &'static str) -> ShownSetting<'_> {
        let value = serde_json::to_value(&self.value).expect("a setting is a word, a number or a boolean");
        ShownSetting { key, value, origin: &self.origin }
    }
}

/// The place that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingOrigin {
    /// None: it is the default.
    Default,
    /// A line of the file.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment { variable: String },
}

impl std::fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", escape_bytes(path.as_os_str())),
            Self::Environment { variable } => f.write_str(variable),
        }
    }
}

/// A setting of any kind, to be shown.
#[derive(Debug)]
pub(crate) struct ShownSetting<'a> {
    pub(crate) key: &'static str,
    /// The value, which TOML writes like JSON.
    pub(crate) value: serde_json::Value,
    pub(crate) origin: &'a SettingOrigin,
}

/// Returns the path of the file, which may not exist. `None` if there is to be none.
pub(crate) fn path() -> Result<Option<PathBuf>, ConfigError> {
    config_file::path(&environment)
}

impl Config {
    /// Reads the configuration of this process.
    pub(crate) fn load() -> Result<Self, ConfigError> {
        Self::load_from(&environment)
    }

    fn load_from(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let path = config_file::path(environment)?;
        let text = path.as_deref().map(config_file::read).transpose()?.flatten();
        let document = match (&path, &text) {
            (Some(path), Some(text)) => Some(Document::parse(path, text, KEYS)?),
            _ => None,
        };
        let sources = Sources { environment, document };
        Self::from_sources(path.clone(), &sources)
    }
}

fn environment(variable: &str) -> Option<OsString> {
    std::env::var_os(variable)
}

/// The environment and the file.
struct Sources<'a> {
    environment: &'a dyn Fn(&str) -> Option<OsString>,
    document: Option<Document<'a>>,
}

impl Sources<'_> {
    /// Returns the value of a key that applies. A wrong value is an error even if another source overrides it.
    fn effective<T: Setting>(&self, key: &'static str, default: T) -> Result<Effective<T>, ConfigError> {
        let (in_file, in_environment) = (self.in_file(key)?, self.in_environment(key)?);
        let default = Effective { value: default, origin: SettingOrigin::Default };
        Ok(in_environment.or(in_file).unwrap_or(default))
    }

    fn in_file<T: Setting>(&self, key: &'static str) -> Result<Option<Effective<T>>, ConfigError> {
        let Some((document, entry)) =
            self.document.as_ref().and_then(|document| Some((document, document.get(key)?)))
        else {
            return Ok(None);
        };
        let (path, line) = (document.path().to_owned(), entry.line);
        match T::from_toml(entry.value) {
            Some(value) => Ok(Some(Effective { value, origin: SettingOrigin::File { path, line } })),
            None => Err(ConfigError::WrongValue {
                path,
                line,
                key,
                found: entry.written,
                allowed: T::file_values(),
            }),
        }
    }

    fn in_environment<T: Setting>(&self, key: &str) -> Result<Option<Effective<T>>, ConfigError> {
        let variable = variable(key);
        let Some(text) = (self.environment)(&variable).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let Some(value) = text.to_str().and_then(T::from_text) else {
            let found = escape_bytes(&text).into_owned();
            return Err(ConfigError::WrongVariable { variable, found, allowed: T::text_values() });
        };
        Ok(Some(Effective { value, origin: SettingOrigin::Environment { variable } }))
    }
}

/// Returns the environment variable that overrides a key.
fn variable(key: &str) -> String {
    format!("SESSIONCTL_{}", key.to_uppercase())
}

/// Returns the lines of the help about one key.
fn help_of<T: Setting>(key: &str, doc: &[&str], default: &T) -> String {
    let default = serde_json::to_string(default).expect("a setting is a word, a number or a boolean");
    let (doc, values) = (doc.concat(), T::file_values().join(", "));
    format!("  {key} = {default}\n         {} [{values}; {}]\n", doc.trim(), variable(key))
}

#[cfg(test)]
mod tests;
