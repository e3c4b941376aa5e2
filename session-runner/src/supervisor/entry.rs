//! The entry of a supervisor: recognises the process that was started as one, and remembers how to start one.

use std::ffi::OsString;
use std::sync::{Arc, OnceLock};

use rustix::process::Signal;

/// The hidden verb, the first argument of a supervisor.
pub(crate) const VERB: &str = "__supervise";

/// The exit code of a supervisor that failed. A program that is none exits with another one.
pub(crate) const FAILED: i32 = 125;

/// The arguments that a supervisor needs after the verb, in order to arrive here.
static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();

/// Enables this binary to run programs as sessions. Call it first in `main`, or write `#[sessionkit::main]` instead of
/// `#[tokio::main]`, which calls it.
///
/// A [`Runner`](crate::Runner) starts its own binary a second time, with the hidden verb `__supervise`. In that process
/// this function does not return: it supervises one program and its descendants, ends them when its owner dies, and
/// exits when none is left. In every other process it returns immediately. What `main` does before this call, it does
/// in each supervisor too.
///
/// Outside the main thread it enables nothing: that is not the beginning of `main`. Tests call [`supervise_test`].
///
/// ```no_run
/// // in `main`:
/// session_runner::supervise_main();
/// // … the program itself
/// ```
pub fn supervise_main() {
    crate::inherited_descriptors::remember();
    outlive_file_limit();
    exit_if_supervisor();
    if rustix::thread::gettid() == rustix::process::getpid() {
        let _ = ARGUMENTS.set(Vec::new());
    }
}

/// Enables a test of libtest, the harness of `#[test]`, to run programs as sessions. Call it first in the test, or write
/// `#[sessionkit::test]` instead of `#[tokio::test]`, which calls it. `module` is `module_path!()`, and `test` the name
/// of a test function in it that begins with this call: a supervisor is the test binary that runs only that test.
///
/// ```no_run
/// // in the test `builds`:
/// session_runner::supervise_test(module_path!(), "builds");
/// // … the test itself
/// ```
pub fn supervise_test(module: &str, test: &str) {
    exit_if_supervisor();
    let _ = ARGUMENTS.set(test_arguments(module, test));
}

/// Catches the signal for a file that exceeds `ulimit -f`, so that the write fails instead: output that cannot be stored
/// is no reason to die. Not ignored, because an ignored signal would be ignored in the programs, too.
fn outlive_file_limit() {
    let signal = Signal::XFSZ.as_raw();
    if !session_inherit::is_ignored(signal) {
        // Without a handler, the owner dies as any program does.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
}

/// Returns the arguments that make libtest run one test, an ignored one too.
fn test_arguments(module: &str, test: &str) -> Vec<OsString> {
    // libtest leaves the name of the crate out.
    let path = match module.split_once("::") {
        Some((_, inner)) => format!("{inner}::{test}"),
        None => test.to_owned(),
    };
    ["--exact", &path, "--include-ignored", "--nocapture"].map(OsString::from).to_vec()
}

/// Returns the arguments with which this binary, started again, acts as a supervisor; `None` if it would not.
pub(crate) fn supervisor_arguments() -> Option<impl Iterator<Item = OsString>> {
    let after = ARGUMENTS.get()?;
    Some(std::iter::once(VERB.into()).chain(after.iter().cloned()))
}

/// Supervises, if this process was started for that, and exits.
fn exit_if_supervisor() {
    if std::env::args_os().nth(1).is_none_or(|verb| verb != VERB) {
        return;
    }
    std::process::exit(match super::process::supervise() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("`{VERB}` is internal and cannot be called directly: {error}");
            FAILED
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_as_libtest_names_it() {
        let path = |module| test_arguments(module, "builds")[1].clone();
        assert_eq!(path("user"), "builds");
        assert_eq!(path("user::tests"), "tests::builds");
        assert_eq!(path("user::a::tests"), "a::tests::builds");
        assert_eq!(module_path!(), "session_runner::supervisor::entry::tests");
    }
}
