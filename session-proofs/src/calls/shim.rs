//! The program that fails a call: built from C when the proof runs, because a seccomp listener needs `unsafe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plan::{Call, Case};
use crate::command::{LIMIT, Place};
use crate::outcome::Result;

const SOURCE: &str = include_str!("fail_call.c");

#[derive(Debug)]
pub(crate) struct Shim(PathBuf);

/// The report of a case.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The call has happened and failed.
    pub(super) met: bool,
    /// A hang, or processes that were left running.
    pub(super) left: Vec<String>,
    pub(super) calls: Vec<Call>,
}

impl Shim {
    /// Compiles it and tries it. The inner error is the reason for which the proof cannot run here.
    pub(crate) fn build(folder: &Path) -> Result<std::result::Result<Self, String>> {
        let (source, program) = (folder.join("fail_call.c"), folder.join("fail_call"));
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        let Ok(output) = compiler.arg("-O2").arg("-o").arg(&program).arg(&source).output() else {
            return Ok(Err("no C compiler (`cc`)".to_owned()));
        };
        if !output.status.success() {
            let first = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            return Ok(Err(format!("`cc` does not compile the filter: {first}")));
        }
        let status =
            Command::new(&program).args(["-l", "5", "-t", "--", "true"]).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            return Ok(Err("the system refuses seccomp filters with user notification".to_owned()));
        }
        Ok(Ok(Self(program)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the command that runs another one with a call that fails; without a case, one that lists the calls.
    pub(super) fn command(
        &self,
        place: &Place,
        report: &Path,
        case: Option<&Case>,
        args: &[String],
    ) -> Command {
        let mut command = Command::new(&self.0);
        command
            .arg("-d")
            .arg(format!("{}/", place.folder.display()))
            .args(["-x", "/sessionctl", "-r"])
            .arg(report);
        let limit = if case.is_some_and(Case::is_in_sled) { 4 } else { LIMIT.as_secs() - 2 };
        command.arg("-l").arg(limit.to_string());
        match case {
            None => command.arg("-t"),
            Some(case) => command
                .args(["-f", &case.call.family, "-p", &case.call.path, "-e", &case.error])
                .arg("-n")
                .arg(case.count.to_string()),
        };
        command.arg("--").arg(&place.binary).arg("--store").arg(place.url()).args(args);
        place.environment(&mut command);
        command
    }
}

impl Report {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut report = Self::default();
        for line in text.lines() {
            if let Some((family, path)) = line.split_once('\t') {
                report.calls.push(Call { family: family.to_owned(), path: path.to_owned() });
            } else if line == "failed" {
                report.met = true;
            } else if line == "hang" || line == "running" || line.starts_with("left ") {
                report.left.push(line.to_owned());
            }
        }
        report
    }
}
