//! The programs of a proof: how Cargo builds them, and how they are started without it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::workspace::cargo;

/// A program of a proof: a test target, or the binary of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) package: &'static str,
    pub(crate) target: Target,
    pub(crate) profile: Profile,
    /// Arguments, such as a filter of tests.
    pub(crate) args: Vec<String>,
    pub(crate) seed: Seed,
    pub(crate) env: Vec<(&'static str, String)>,
    /// With `--probe` it only finds out whether it can run here.
    pub(crate) probe: bool,
}

/// A target of a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Test(&'static str),
    Binary(&'static str),
}

/// The build that a program comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// The build of `cargo xtask test`: the whole workspace with all features, so that nothing is built twice.
    Dev,
    /// Release, of this test of this crate alone: some tests do more without debug assertions.
    Release { package: &'static str, test: &'static str },
}

/// The way in which a program receives its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seed {
    Variable(&'static str),
    Option(&'static str),
    /// It enumerates all cases and has none.
    None,
}

impl Program {
    /// Creates a program that is a test target of the development build.
    pub(crate) fn test(package: &'static str, target: &'static str, seed: Seed) -> Self {
        let (target, profile) = (Target::Test(target), Profile::Dev);
        Self { package, target, profile, args: Vec::new(), seed, env: Vec::new(), probe: false }
    }

    /// Creates a program that is a test target of the release build.
    pub(crate) fn release_test(package: &'static str, test: &'static str, seed: Seed) -> Self {
        Self { profile: Profile::Release { package, test }, ..Self::test(package, test, seed) }
    }

    /// Creates a proof of the binary `session-proofs`, which may find that it cannot run here.
    pub(crate) fn whole_command(proof: &'static str) -> Self {
        let program = Self::test("session-proofs", "session-proofs", Seed::Option("--seed"));
        Self { target: Target::Binary("session-proofs"), probe: true, ..program }.arg(&proof)
    }

    pub(crate) fn arg(mut self, arg: &impl ToString) -> Self {
        self.args.push(arg.to_string());
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.env.push((name, value.to_string()));
        self
    }
}

/// A built program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executable {
    path: PathBuf,
    /// The folder of its crate, in which Cargo starts tests.
    folder: PathBuf,
}

impl Executable {
    /// Returns the command that runs it with the program's arguments and this seed.
    pub(crate) fn command(&self, program: &Program, seed: Option<u64>) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&program.args).current_dir(&self.folder);
        if let Target::Test(_) = program.target {
            command.arg("--nocapture");
        }
        command.envs(program.env.iter().map(|(name, value)| (name, value)));
        match (program.seed, seed) {
            (Seed::Variable(name), Some(seed)) => command.env(name, seed.to_string()),
            (Seed::Option(name), Some(seed)) => command.arg(name).arg(seed.to_string()),
            (Seed::None, _) | (_, None) => &mut command,
        };
        command
    }
}

/// The exit code of a program that cannot run here.
const NOT_RUN: i32 = 77;

impl Executable {
    /// Returns the reason for which the program cannot run here.
    ///
    /// # Errors
    /// The program does not start.
    pub(crate) fn obstacle(&self, program: &Program) -> std::io::Result<Option<String>> {
        if !program.probe {
            return Ok(None);
        }
        let output = self.command(program, None).arg("--probe").output()?;
        let reason = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.code() == Some(NOT_RUN)).then_some(reason))
    }
}

/// Builds programs: one call of Cargo for each profile. Compiler messages go to stderr.
///
/// # Errors
/// A failed build, or a program that Cargo did not build.
pub(crate) fn build(programs: &[Program]) -> Result<Vec<Executable>, Box<dyn Error>> {
    let mut messages: BTreeMap<Profile, String> = BTreeMap::new();
    for Program { profile, .. } in programs {
        if !messages.contains_key(profile) {
            messages.insert(*profile, run_cargo(*profile)?);
        }
    }
    let find = |program: &Program| {
        let found = messages.get(&program.profile).and_then(|messages| executable(messages, program));
        found.ok_or_else(|| format!("cargo built no {:?} of {}", program.target, program.package).into())
    };
    programs.iter().map(find).collect()
}

/// Returns the arguments of the build of a profile.
fn cargo_args(profile: Profile) -> Vec<&'static str> {
    match profile {
        Profile::Dev => vec!["test", "--locked", "--workspace", "--all-features", "--no-run"],
        Profile::Release { package, test } => {
            let build = ["test", "--locked", "--release", "--all-features", "--no-run"];
            [&build[..], &["--package", package, "--test", test]].concat()
        }
    }
}

fn run_cargo(profile: Profile) -> Result<String, Box<dyn Error>> {
    let args = cargo_args(profile);
    let output = cargo()
        .args(&args)
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("`cargo {}` failed", args.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Finds a program in Cargo's build messages.
fn executable(messages: &str, program: &Program) -> Option<Executable> {
    let (kind, name) = match program.target {
        Target::Test(name) => ("test", name),
        Target::Binary(name) => ("bin", name),
    };
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = message.get("target")?;
        let kinds = target.get("kind")?.as_array()?;
        let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
        let folder = manifest.parent()?;
        // A binary is built twice: as itself, and with the tests inside it.
        let is_test = message.pointer("/profile/test")?.as_bool()?;
        let matches = target.get("name")? == name
            && kinds.iter().any(|found| found == kind)
            && is_test == (kind == "test")
            && folder.ends_with(program.package);
        let path = message.get("executable")?.as_str().filter(|_| matches)?;
        Some(Executable { path: path.into(), folder: folder.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"{"manifest_path":"/ws/a/Cargo.toml","target":{"kind":["lib"],"name":"kill"},"profile":{"test":true},"executable":"/t/lib-1"}
not json
{"manifest_path":"/ws/b/Cargo.toml","target":{"kind":["test"],"name":"kill"},"profile":{"test":true},"executable":"/t/kill-2"}
{"manifest_path":"/ws/a/Cargo.toml","target":{"kind":["test"],"name":"kill"},"profile":{"test":true},"executable":"/t/kill-1"}
{"manifest_path":"/ws/a/Cargo.toml","target":{"kind":["bin"],"name":"tool"},"profile":{"test":true},"executable":"/t/tool-1"}
{"manifest_path":"/ws/a/Cargo.toml","target":{"kind":["bin"],"name":"tool"},"profile":{"test":false},"executable":"/t/tool"}"#;

    #[test]
    fn a_program_is_found_by_crate_kind_and_name() {
        let found = |program: &Program| executable(MESSAGES, program).map(|found| found.path);
        assert_eq!(found(&Program::test("a", "kill", Seed::None)), Some("/t/kill-1".into()));
        assert_eq!(found(&Program::test("a", "crash", Seed::None)), None);
        let binary = Program { target: Target::Binary("tool"), ..Program::test("a", "tool", Seed::None) };
        assert_eq!(found(&binary), Some("/t/tool".into()));
        let folder = executable(MESSAGES, &binary).unwrap().folder;
        assert_eq!(folder, PathBuf::from("/ws/a"));
    }

    #[test]
    fn a_program_that_cannot_run_here_gives_its_reason() {
        let shell = |script: &str| {
            let executable = Executable { path: "/bin/sh".into(), folder: "/".into() };
            let program =
                Program { args: vec!["-c".into(), script.into()], ..Program::whole_command("calls") };
            executable.obstacle(&program).unwrap()
        };
        assert_eq!(shell("echo no loop devices; exit 77"), Some("no loop devices".to_owned()));
        assert_eq!(shell("exit 0"), None);
        let plain = Executable { path: "/no/such/program".into(), folder: "/".into() };
        assert_eq!(plain.obstacle(&Program::test("a", "kill", Seed::None)).unwrap(), None);
    }

    #[test]
    fn the_seed_is_passed_as_the_program_expects_it() {
        let executable = Executable { path: "/t/x".into(), folder: "/ws/a".into() };
        let shown = |seed, given| {
            let command = executable.command(&Program::test("a", "x", seed).arg(&"table::"), given);
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            (args.join(" "), command.get_envs().count())
        };
        assert_eq!(shown(Seed::Variable("SEED"), Some(7)), ("table:: --nocapture".to_owned(), 1));
        assert_eq!(shown(Seed::Option("--seed"), Some(7)), ("table:: --nocapture --seed 7".to_owned(), 0));
        assert_eq!(shown(Seed::Variable("SEED"), None), ("table:: --nocapture".to_owned(), 0));
        assert_eq!(shown(Seed::None, Some(7)), ("table:: --nocapture".to_owned(), 0));
    }
}
