//! The languages with a client, and their drivers: programs that make the calls of a file.

use std::path::Path;
use std::process::{Command, Stdio};

pub(super) const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/steps");
const DRIVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/steps/drivers");

/// A language with a client.
#[derive(Debug)]
pub(super) struct Language {
    name: &'static str,
    /// The line of a shell script that makes the calls of a file.
    line: String,
    /// Holds what was built.
    _folder: Option<tempfile::TempDir>,
}

impl Language {
    pub(super) fn python() -> Option<Self> {
        is_installed("python3", "--version")?;
        let line =
            format!("PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{EXAMPLES}' exec python3 '{DRIVERS}/driver.py'");
        Some(Self { name: "Python", line, _folder: None })
    }

    pub(super) fn node() -> Option<Self> {
        is_installed("node", "--version")?;
        Some(Self { name: "Node", line: format!("exec node '{DRIVERS}/driver.mjs'"), _folder: None })
    }

    pub(super) fn go() -> Option<Self> {
        is_installed("go", "version")?;
        let folder = tempfile::tempdir().unwrap();
        let driver = folder.path().join("driver");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&driver).current_dir(folder.path());
        for (from, to) in [(EXAMPLES, "step.go"), (DRIVERS, "driver.go")] {
            std::fs::copy(Path::new(from).join(to), folder.path().join(to)).unwrap();
            build.arg(to);
        }
        let status = build.stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "the client for Go cannot be built");
        Some(Self { name: "Go", line: format!("exec '{}'", driver.display()), _folder: Some(folder) })
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns a shell script that makes the calls of a file.
    pub(super) fn script(&self, calls: &str) -> String {
        format!("{} '{calls}'", self.line)
    }
}

/// Returns `None` where a language is missing, and says so.
fn is_installed(program: &str, version: &str) -> Option<()> {
    let found = Command::new(program).arg(version).stdin(Stdio::null()).stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(());
    }
    eprintln!("not run: no {program} here");
    None
}
