//! Arguments of `config`.

use clap::{Args, Subcommand};

/// An action of `config`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum ConfigAction {
    /// Print the effective settings, as they could be in the file
    Show(ShowConfig),
    /// Print the path of the file, which may not exist
    #[command(after_help = "Example:\n  ${EDITOR:-vi} \"$(sessionctl config path)\"")]
    Path,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl config show --origin")]
pub(crate) struct ShowConfig {
    /// Print where each value comes from: the default, a line of the file, or an environment variable
    #[arg(long)]
    pub(crate) origin: bool,
}

/// Returns the text after the options in the help of `config`.
pub(crate) fn after_help() -> String {
    format!(
        "Examples:\n  sessionctl config show --origin\n  ${{EDITOR:-vi}} \"$(sessionctl config path)\"\n\n\
        The file is config.toml in $XDG_CONFIG_HOME/sessionctl, by default ~/.config/sessionctl. SESSIONCTL_CONFIG names \
        another; empty or /dev/null, it names none. A variable overrides the file, and an option of the command line \
        overrides both. `run`, `resume` and `retry` use the configuration; the others do not read it.\n\n{}",
        crate::config::help()
    )
}
