//! `config`: prints the effective settings, and the path of their file.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use sessionkit::text::{columns, escape_bytes, visible};

use crate::args::{ConfigAction, ShowConfig};
use crate::config::{self, Config, SettingOrigin, ShownSetting};
use crate::context::Context;
use crate::error::Result;
use crate::json;

/// The output of `config`.
#[derive(Serialize)]
struct ConfigJson {
    schema: u32,
    /// The path of the file, which may not exist.
    path: Option<String>,
    /// The settings, for `config show` only.
    settings: Option<Vec<SettingJson>>,
}

#[derive(Serialize)]
struct SettingJson {
    key: &'static str,
    value: Value,
    /// `default`, `file` or `environment`.
    origin: &'static str,
    /// The line of the file.
    line: Option<usize>,
    /// The environment variable.
    variable: Option<String>,
}

impl SettingJson {
    fn new(setting: ShownSetting<'_>) -> Self {
        let (origin, line, variable) = match setting.origin {
            SettingOrigin::Default => ("default", None, None),
            SettingOrigin::File { line, .. } => ("file", Some(*line), None),
            SettingOrigin::Environment { variable } => ("environment", None, Some(variable.clone())),
        };
        Self { key: setting.key, value: setting.value, origin, line, variable }
    }
}

pub(crate) fn run(action: &ConfigAction, context: &Context) -> Result<u8> {
    match action {
        ConfigAction::Show(args) => show(args, context),
        ConfigAction::Path => path(context),
    }
}

fn show(args: &ShowConfig, context: &Context) -> Result<u8> {
    let config = Config::load()?;
    let settings = config.settings();
    if context.term.json {
        let settings = settings.into_iter().map(SettingJson::new).collect();
        return print_json(context, config.path.as_ref(), Some(settings));
    }
    let lines: Vec<String> =
        settings.iter().map(|setting| format!("{} = {}", setting.key, json::line(&setting.value))).collect();
    let width = lines.iter().map(|line| columns(line)).max().unwrap_or(0);
    for (line, setting) in lines.iter().zip(&settings) {
        if args.origin {
            let padding = " ".repeat(width - columns(line));
            let origin = setting.origin.to_string();
            context.term.print(&format!("{line}{padding}  # {}\n", visible(&origin)))?;
        } else {
            context.term.print(&format!("{line}\n"))?;
        }
    }
    Ok(0)
}

fn path(context: &Context) -> Result<u8> {
    let path = config::path()?;
    if context.term.json {
        return print_json(context, path.as_ref(), None);
    }
    match path {
        Some(path) if context.term.is_terminal => {
            context.term.print(&format!("{}\n", visible(&escape_bytes(path.as_os_str()))))?;
        }
        // For programs, all bytes as they are.
        Some(path) => context.term.print_bytes(&[path.as_os_str().as_bytes(), b"\n"].concat())?,
        None => context.hint("there is no configuration file", &[], &["config", "--help"]),
    }
    Ok(0)
}

fn print_json(context: &Context, path: Option<&PathBuf>, settings: Option<Vec<SettingJson>>) -> Result<u8> {
    let path = path.map(|path| escape_bytes(path.as_os_str()).into_owned());
    let config = ConfigJson { schema: json::SCHEMA, path, settings };
    context.term.print(&format!("{}\n", json::line(&config)))?;
    Ok(0)
}
