//! Other clients of the step protocol: those of `examples/steps` for Python, Node and Go, which pass the same cases, and the shim
//! for scripts without `sessionctl`.

mod case;
mod cases;
mod language;

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use self::cases::cases;
use self::language::{EXAMPLES, Language};
use crate::fixture::{Fixture, ran};

/// Cases that run at a time: most of them wait for processes.
const CONCURRENT: usize = 3;

#[test]
fn the_cases_have_names_of_their_own() {
    let cases = cases();
    let names: HashSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!((cases.len(), names.len()), (30, 30));
}

#[test]
fn the_python_client_passes_every_case() {
    pass(Language::python());
}

#[test]
fn the_node_client_passes_every_case() {
    pass(Language::node());
}

#[test]
fn the_go_client_passes_every_case() {
    pass(Language::go());
}

/// Runs every case with the client of a language.
fn pass(language: Option<Language>) {
    let Some(language) = language else { return };
    let only = std::env::var("SESSION_CASE").ok();
    let mut cases = cases();
    cases.retain(|case| only.as_ref().is_none_or(|only| case.name.contains(only.as_str())));
    let (cases, failed) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let name = case.name;
                    // The panic has said why.
                    if std::panic::catch_unwind(|| case.run_with(&language)).is_err() {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed with {}: {failed:?}", language.name());
}

const WITH_SHIM: &str = "set -eu; . \"$1\"
v=$(sessionctl step version --retries 2 --if-unknown fail -- sh -c 'echo \"$1\"' sh 'a b -- c'); echo \"$v\"
sessionctl step build -- sh -c 'exit 5' || echo $?";

#[test]
fn a_script_with_the_shim_runs_without_sessionctl() {
    let fixture = Fixture::new();
    let shim = format!("{EXAMPLES}/shim.sh");
    for shell in ["sh", "bash", "dash", "zsh", "ksh", "busybox"] {
        let mut command = Command::new(shell);
        if shell == "busybox" {
            command.arg("sh");
        }
        command.args(["-c", WITH_SHIM, "sh", &shim]).stdin(Stdio::null()).current_dir(fixture.path(""));
        command.env("PATH", "/usr/bin:/bin").env_remove("SESSIONCTL_SOCKET");
        if command.output().is_err() {
            eprintln!("not run: no {shell} here");
            continue;
        }
        ran(&mut command).exits(0).prints("a b -- c\n5\n");
    }
}

#[test]
fn a_script_with_the_shim_has_steps_inside_a_session() {
    let fixture = Fixture::new();
    fixture.write("script", WITH_SHIM);
    let shim = format!("{EXAMPLES}/shim.sh");
    let args = ["run", "--quiet", "--name", "it", "--", "sh", "./script", &shim];
    fixture.ctl(&args).exits(0).prints("a b -- c\n5\n");
    let completed = ("version".to_owned(), "completed".to_owned());
    assert_eq!(fixture.steps("it"), [completed, ("build".to_owned(), "failed".to_owned())]);
}
