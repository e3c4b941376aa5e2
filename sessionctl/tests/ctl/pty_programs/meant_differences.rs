//! Differences that follow from a terminal of the program's own. Each test shows both sides.

use crate::pty_comparison::{Comparison, Observed, program};

fn outputs(comparison: &Comparison) -> Option<[(Observed, String); 2]> {
    let both = comparison.both()?;
    Some(both.map(|observed| {
        let output = String::from_utf8_lossy(&observed.output).into_owned();
        (observed, output)
    }))
}

/// The program's terminal begins with a copy of the caller's modes; changes are not copied back.
#[test]
fn modes_that_a_program_sets_end_with_its_terminal() {
    for command in ["stty -echo -icanon", "stty erase ^H", "stty rows 33"] {
        let Some([(bare, _), (run, _)]) = outputs(&program(format!("RUN {command}"))) else { return };
        assert!(bare.results.after != bare.results.before || command.contains("rows"), "{command}");
        assert_eq!(run.results.after, run.results.before, "{command}");
    }
    let Some([(_, bare), (_, run)]) = outputs(&program("RUN tput reset").needs("tput")) else { return };
    assert_eq!(run, bare);
}

/// Input that was typed for the program is at its terminal, and ends with that.
#[test]
fn input_that_a_program_has_not_read_ends_with_its_terminal() {
    let ends = "RUN sh -c 'echo ready; while ! test -e end; do sleep 0.01; done' 2>&3; read -rt 0.2 rest; echo \"<$rest>\"";
    let ends = program(ends).wait("ready\r\n").types("typed\r").wait("typed\r\n").create("end");
    let Some([(_, bare), (_, run)]) = outputs(&ends) else { return };
    assert_eq!(bare, "ready\r\ntyped\r\n<typed>\r\n");
    assert_eq!(run, "ready\r\ntyped\r\n<>\r\n");
}

/// Input that is typed before the program has its terminal is shown by the caller's, and again by its own. It is read once.
#[test]
fn input_before_the_start_is_shown_by_both_terminals() {
    let early = "echo begin; while ! test -e go; do sleep 0.01; done; RUN head -n 1";
    let early = program(early).wait("begin\r\n").types("early\r").wait("early\r\n").create("go");
    let Some([(_, bare), (_, run)]) = outputs(&early) else { return };
    assert_eq!(bare, "begin\r\nearly\r\nearly\r\n");
    assert_eq!(run, "begin\r\nearly\r\nearly\r\nearly\r\n");
}

/// A program that a signal ends cannot reset its terminal. The viewer does.
#[test]
fn modes_that_a_killed_program_leaves_are_reset() {
    let killed = r#"RUN sh -c 'printf "\033[?1049h\033[?1000h\033[?2004h\033[?25l"; kill -KILL $$'"#;
    let Some([(_, bare), (_, run)]) = outputs(&program(killed)) else { return };
    let reset = run.strip_prefix(&bare).unwrap_or_else(|| panic!("{run:?} begins with {bare:?}"));
    for mode in ["\x1b[?1049l", "\x1b[?1000l", "\x1b[?2004l", "\x1b[?25h"] {
        assert!(reset.contains(mode), "{reset:?}");
    }
}

/// The directory is part of the recorded command.
#[test]
fn a_removed_directory_is_refused() {
    let gone = program("mkdir gone; cd gone; rmdir ../gone; RUN sh -c 'echo here'");
    let Some([(bare, _), (run, output)]) = outputs(&gone) else { return };
    assert_eq!((&*bare.results.code, &*run.results.code), ("0", "125"));
    assert!(output.contains("cannot enter the working directory"), "{output}");
    assert_eq!(run.results.after, run.results.before);
}
