//! The kinds of settings: their values, as they are written in the file and in environment variables.

use clap::ValueEnum;
use serde::Serialize;
use toml::de::DeValue;

/// The programs that get a terminal of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TtyWhen {
    /// Those whose output or errors go to a terminal.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// The reaction to HUP, when the terminal of a session is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnHangup {
    /// Leave the session running
    Leave,
    /// Interrupt the session, which can then be resumed
    Interrupt,
}

/// A kind of setting.
pub(crate) trait Setting: Clone + Serialize {
    /// Returns the values as they are written in the file.
    fn file_values() -> Vec<String>;

    /// Returns the values as they are written in an environment variable.
    fn text_values() -> Vec<String>;

    /// Reads a value of the file.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;

    /// Reads the value of an environment variable.
    fn from_text(text: &str) -> Option<Self>;
}

impl Setting for bool {
    fn file_values() -> Vec<String> {
        ["true", "false"].map(str::to_owned).into()
    }

    fn text_values() -> Vec<String> {
        ["true", "false", "1", "0"].map(str::to_owned).into()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}

impl Setting for String {
    fn file_values() -> Vec<String> {
        vec!["\"TEXT\"".to_owned()]
    }

    fn text_values() -> Vec<String> {
        vec!["TEXT".to_owned()]
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Implements [`Setting`] for enumerations: a value is one of their words.
macro_rules! words {
    ($($kind:ty),+) => {$(
        impl Setting for $kind {
            fn file_values() -> Vec<String> {
                Self::text_values().into_iter().map(|word| format!("\"{word}\"")).collect()
            }

            fn text_values() -> Vec<String> {
                let values = Self::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                values.map(|value| value.get_name().to_owned()).collect()
            }

            fn from_toml(value: &DeValue<'_>) -> Option<Self> {
                Self::from_text(value.as_str()?)
            }

            fn from_text(text: &str) -> Option<Self> {
                <Self as ValueEnum>::from_str(text, false).ok()
            }
        }
    )+};
}

words!(TtyWhen, OnHangup);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[track_caller]
    fn all_values_are_understood<T: Setting + PartialEq + Debug>() {
        for text in T::text_values() {
            assert!(T::from_text(&text).is_some(), "{text}");
        }
        for text in T::file_values() {
            let value = DeValue::parse(&text).unwrap();
            let setting = T::from_toml(value.get_ref()).unwrap();
            assert_eq!(serde_json::to_string(&setting).unwrap(), text);
        }
    }

    #[test]
    fn listed_values_are_understood() {
        all_values_are_understood::<bool>();
        all_values_are_understood::<TtyWhen>();
        all_values_are_understood::<OnHangup>();
        all_values_are_understood::<String>();
    }
}
