//! Output on a terminal: our own colours where requested, and no control characters from other sources.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sessionkit::log::FailureCause;
use sessionkit::text::is_unsafe_char;
use sessionkit::{CancelRequest, Failure, SessionConfig};

use crate::support::Fixture;

/// Runs a command with its outputs on one terminal, and returns what was written to that.
pub(crate) fn on_terminal(command: Command) -> String {
    on_watched_terminal(command, |_| ())
}

/// Opens a pseudoterminal, and returns our side and the side for programs.
pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    // Programs that other tests start concurrently must not inherit it.
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (ours, theirs)
}

/// Runs a command like [`on_terminal`], and calls `on_output` with all output so far whenever there is more.
pub(crate) fn on_watched_terminal(mut command: Command, mut on_output: impl FnMut(&str)) -> String {
    let (ours, theirs) = terminal();
    let stderr = theirs.try_clone().unwrap();
    command.stdout(Stdio::from(theirs)).stderr(Stdio::from(stderr));
    let mut child = command.spawn().unwrap();
    // Closes our copies of the program's side, so that only the child has it open.
    drop(command);
    let mut got = Vec::new();
    let mut terminal = File::from(ours);
    let mut buffer = [0; 4096];
    // Reading fails once no process has the other side open.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        got.extend_from_slice(&buffer[..length]);
        on_output(&String::from_utf8_lossy(&got));
    }
    child.wait().unwrap();
    String::from_utf8(got).expect("the output is UTF-8").replace("\r\n", "\n")
}

#[track_caller]
pub(crate) fn is_harmless(text: &str) {
    assert!(!text.contains(|c| c != '\n' && is_unsafe_char(c)), "{text:?}");
    assert!(!text.is_empty());
}

const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\r\u{8}\u{9b}31m\u{202e}\u{7f}";

#[test]
fn logs_escape_control_bytes_on_a_terminal() {
    let fixture = Fixture::new();
    let script =
        r"printf 'ok\033]0;title\007\033[2J\rover\b\302\233\377\342\200\256\nlast'; printf '\033[31m' >&2";
    fixture.ctl(["run", "--name", "hostile", "--json", "--", "sh", "-c", script]).exits(0);
    let shown = on_terminal(fixture.command(["logs", "hostile"]));
    is_harmless(&shown);
    assert!(shown.contains(r"ok\u{1b}]0;title\u{7}") && shown.contains(r"\xff"), "{shown}");
}

/// Output in colours was unreadable: `\u{1b}[31mred\u{1b}[0m`, and each state of a progress bar behind the one before.
#[test]
fn logs_show_colours_links_and_the_last_state_of_a_bar() {
    let fixture = Fixture::new();
    let script = r"printf '\033[31mred\nplain\n\033]8;;https://example.org\033\\link\033]8;;\033\\\n'
        printf ' 1%%\r 2%%\r100%%\n'; printf 'title\033]0;t\007\n'";
    fixture.ctl(["run", "--name", "colours", "--json", "--", "sh", "-c", script]).exits(0);
    let shown = on_terminal(fixture.command(["logs", "colours"]));
    assert_eq!(
        shown,
        "\u{1b}[31mred\u{1b}[0m\nplain\n\u{1b}]8;;https://example.org\u{1b}\\link\u{1b}]8;;\u{1b}\\\n100%\n\
         title\\u{1b}]0;t\\u{7}\n"
    );
    let plain = on_terminal(fixture.command(["logs", "colours", "--color", "never"]));
    assert_eq!(plain, "red\nplain\nlink\n100%\ntitle\\u{1b}]0;t\\u{7}\n");
    let stored = fixture.ctl(["logs", "colours"]).exits(0).stdout;
    assert!(stored.contains(" 1%\r 2%\r100%\n") && stored.contains("\u{1b}]0;t\u{7}"), "{stored:?}");
    assert_eq!(on_terminal(fixture.command(["logs", "colours", "--raw"])), stored);
}

#[test]
fn names_reasons_and_errors_are_escaped_on_a_terminal() {
    let fixture = Fixture::new();
    let failed = fixture.owner(SessionConfig::new("import").metadata(serde_json::json!(HOSTILE)));
    failed.runtime.block_on(failed.session.fail(Failure::new(FailureCause::Work, HOSTILE))).unwrap();
    let id = failed.id.to_string();
    let cancelled = fixture.owner(SessionConfig::new("import"));
    cancelled.runtime.block_on(async {
        let request = CancelRequest::new(HOSTILE, HOSTILE);
        cancelled.store.manager().cancel_session(cancelled.id, request).await.unwrap();
    });
    let other = cancelled.id.to_string();
    fixture.ctl(["run", "--", "sh", "-c", "true", HOSTILE]).exits(0);
    for words in [
        &["ls", "--all"][..],
        &["show", &id],
        &["show", &other],
        &["show", "@last"],
        &["events", &id],
        &["events", &other],
        &["events", "@last"],
        &["show", HOSTILE],
        &[HOSTILE],
        &["ls", "--all", "--json"],
        &["show", &id, "--json"],
        &["events", &id, "--json"],
        &["show", "--json", HOSTILE],
        &["--store", HOSTILE, "ls"],
        &["verify", HOSTILE],
        &["run", "--", HOSTILE],
    ] {
        let mut command = fixture.command(words);
        command.env("NO_COLOR", "1");
        is_harmless(&on_terminal(command));
    }
}

#[test]
fn colours_follow_the_terminal_and_the_color_option() {
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import"));
    let words = ["ls", "--all"];
    assert!(on_terminal(fixture.command(words)).contains("\u{1b}[32mcompleted\u{1b}[0m"));
    assert!(!on_terminal(fixture.command(words.iter().chain(&["--color", "never"]))).contains('\u{1b}'));
    let mut without = fixture.command(words);
    without.env("NO_COLOR", "1");
    assert!(!on_terminal(without).contains('\u{1b}'));
    assert!(
        !on_terminal(fixture.command(words.iter().chain(&["--json", "--color", "always"])))
            .contains('\u{1b}')
    );
    assert!(!fixture.ctl(words).stdout.contains('\u{1b}'));
}
