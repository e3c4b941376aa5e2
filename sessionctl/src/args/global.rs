//! Options of every verb.

use std::ffi::OsString;

use clap::{ArgAction, Args, ValueEnum};

/// Options of every verb.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Use this store
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<OsString>,
    /// Print JSON, as described in docs/json.md
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Use colors
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
    /// Print diagnostics to stderr; -vv prints more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Global {
    /// Returns the options of a command line without any.
    pub(crate) const fn plain() -> Self {
        Self { store: None, json: false, color: ColorWhen::Auto, verbose: 0 }
    }

    /// Returns the options of a command line that could not be parsed but asked for JSON.
    pub(crate) const fn json_only() -> Self {
        Self { store: None, json: true, color: ColorWhen::Never, verbose: 0 }
    }
}

/// Condition under which output has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
