//! Tests of the configuration's sources, with an environment and a file of their own.

use std::collections::HashMap;
use std::fs;

use super::*;

/// A folder with a file, and an environment that names it.
struct Fixture {
    folder: tempfile::TempDir,
    variables: HashMap<&'static str, OsString>,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let path = folder.path().join("config.toml").into_os_string();
        Self { folder, variables: HashMap::from([("SESSIONCTL_CONFIG", path)]) }
    }

    fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(variable, value.into());
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load_from(&|name| self.variables.get(name).cloned())
    }

    /// Returns the error without the folder of the file.
    #[track_caller]
    fn error(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.load().expect_err("the configuration is wrong").to_string().replace(&folder, "")
    }
}

#[test]
fn the_environment_overrides_the_file_and_that_the_default() {
    let fixture = Fixture::new("# mine\nunbuffered = true\non_hangup = \"interrupt\"\n");
    let fixture = fixture.with("SESSIONCTL_UNBUFFERED", "0").with("SESSIONCTL_TTY", "");
    let config = fixture.load().unwrap();
    let path = fixture.folder.path().join("config.toml");
    assert_eq!(config.tty, Effective { value: TtyWhen::Auto, origin: SettingOrigin::Default });
    let origin = SettingOrigin::File { path, line: 3 };
    assert_eq!(config.on_hangup, Effective { value: OnHangup::Interrupt, origin });
    let origin = SettingOrigin::Environment { variable: "SESSIONCTL_UNBUFFERED".to_owned() };
    assert_eq!(config.unbuffered, Effective { value: false, origin });
}

#[test]
fn an_error_names_line_key_and_allowed_values() {
    for (text, error) in [
        (
            "\n\nttty = 1",
            "config.toml, line 3: there is no key `ttty`; the keys are `tty`, `on_hangup`, `unbuffered` and `on_ask`; \
             did you mean `tty`?",
        ),
        (
            "tty = \"alway\"",
            "config.toml, line 1: `tty` is \"alway\", not \"auto\", \"always\" or \"never\"; \
             did you mean `\"always\"`?",
        ),
        ("unbuffered = 1", "config.toml, line 1: `unbuffered` is 1, not true or false"),
        (
            "unbuffered = 'True'",
            "config.toml, line 1: `unbuffered` is 'True', not true or false; did you mean `true`?",
        ),
        ("on_hangup = []", "config.toml, line 1: `on_hangup` is [], not \"leave\" or \"interrupt\""),
        ("tty = \"auto\"\r\ntty = \"auto\"", "config.toml, line 2: duplicate key"),
    ] {
        assert_eq!(Fixture::new(text).error(), error);
    }
    assert!(Fixture::new("tty = \"auto\"\nunbuffered = yes\n").error().starts_with("config.toml, line 2: "));
}

#[test]
fn an_error_of_a_variable_names_the_allowed_values() {
    let fixture = Fixture::new("").with("SESSIONCTL_TTY", "Never");
    assert_eq!(
        fixture.error(),
        "SESSIONCTL_TTY is `Never`, not auto, always or never; did you mean `never`?"
    );
    let fixture = Fixture::new("").with("SESSIONCTL_UNBUFFERED", "yes");
    assert_eq!(fixture.error(), "SESSIONCTL_UNBUFFERED is `yes`, not true, false, 1 or 0");
}

#[test]
fn a_wrong_value_is_an_error_even_if_it_is_overridden() {
    let fixture = Fixture::new("tty = \"sometimes\"").with("SESSIONCTL_TTY", "never");
    assert!(fixture.error().starts_with("config.toml, line 1: `tty` is"));
}

#[test]
fn the_folder_of_the_user_is_used_unless_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |variables: &[(&str, &str)]| {
        let environment = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        };
        Config::load_from(&environment).unwrap().path
    };
    let home = folder.path().to_str().unwrap();
    let (config, other) = (format!("{home}/config"), format!("{home}/other.toml"));
    let of_home = Some(folder.path().join(".config/sessionctl/config.toml"));
    assert_eq!(path(&[("HOME", home)]), of_home);
    assert_eq!(path(&[("HOME", home), ("XDG_CONFIG_HOME", "relative")]), of_home);
    let of_config = Some(folder.path().join("config/sessionctl/config.toml"));
    assert_eq!(path(&[("HOME", home), ("XDG_CONFIG_HOME", &config)]), of_config);
    let named = path(&[("HOME", home), ("XDG_CONFIG_HOME", &config), ("SESSIONCTL_CONFIG", &other)]);
    assert_eq!(named, Some(folder.path().join("other.toml")));
    for none in ["", "/dev/null"] {
        assert_eq!(path(&[("HOME", home), ("SESSIONCTL_CONFIG", none)]), None);
    }
    assert_eq!(path(&[]), None);
}

#[test]
fn only_a_small_regular_file_of_text_is_read() {
    let fixture = Fixture::new("");
    let path = fixture.folder.path().join("config.toml");
    fs::write(&path, b"tty = \"\xff\"").unwrap();
    assert_eq!(fixture.error(), "the configuration config.toml is not UTF-8");
    fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(fixture.error(), "the configuration config.toml has more than 1 MiB");
    fs::remove_file(&path).unwrap();
    assert_eq!(fixture.load().unwrap().settings().len(), KEYS.len());
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    fixture.load().unwrap();
    for (target, error) in [
        ("/dev/zero", "the configuration config.toml is not a regular file"),
        (".", "the configuration config.toml is not a regular file"),
        ("config.toml", "cannot read the configuration config.toml: Too many levels"),
    ] {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        assert!(fixture.error().starts_with(error), "{target}: {}", fixture.error());
    }
    // A folder of the path may be missing, or be none.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let inside = Fixture::new("").with("SESSIONCTL_CONFIG", path.join("config.toml"));
    inside.load().unwrap();
}

#[test]
fn the_help_describes_each_key() {
    let help = help();
    for key in KEYS {
        assert!(help.contains(&format!("  {key} = ")) && help.contains(&variable(key)), "{key}: {help}");
    }
}
