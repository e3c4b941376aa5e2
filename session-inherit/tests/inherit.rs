//! A program that is started through this process ignores the signals that this process was started with. The harness
//! is not libtest: each case starts this binary again, from a shell that ignores signals.

use std::process::{Command, Stdio};

const PIPE: i32 = 13;
const HUP: i32 = 1;

fn main() {
    if std::env::args().nth(1).is_some_and(|role| role == "relay") {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status");
        let ignored: Vec<i32> =
            [PIPE].into_iter().filter(|signal| session_inherit::is_ignored(*signal)).collect();
        session_inherit::ignore(&mut command, &ignored);
        println!("PIPE:\t{}", session_inherit::is_ignored(PIPE));
        let status = command.status().expect("cat runs");
        std::process::exit(status.code().unwrap_or(1));
    }
    for (before, pipe, hup) in [("", false, false), ("trap '' PIPE HUP;", true, true)] {
        let plain = run(&format!("{before} exec cat /proc/self/status"));
        let relayed = run(&format!("{before} exec \"$0\" relay"));
        assert_eq!(masks(&relayed), masks(&plain), "{before}");
        assert_eq!(field(&relayed, "PIPE"), pipe.to_string());
        let [_, ignored] = masks(&relayed);
        // The test itself may have been started with HUP ignored.
        let hup = hup || session_inherit::is_ignored(HUP);
        assert_eq!((ignored & bit(PIPE) != 0, ignored & bit(HUP) != 0), (pipe, hup), "{before}");
    }
    println!("inherit: ok");
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Runs a script in a shell, with the path of this binary as `$0`, and returns what it prints.
fn run(script: &str) -> String {
    let binary = std::env::current_exe().expect("a path");
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(binary).stdin(Stdio::null());
    String::from_utf8(shell.output().expect("sh runs").stdout).expect("a text")
}

/// Returns the blocked and the ignored signals of a process, the lowest bit for signal 1.
fn masks(status: &str) -> [u64; 2] {
    ["SigBlk", "SigIgn"].map(|name| u64::from_str_radix(field(status, name), 16).expect("a mask"))
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
    line.trim_start_matches(':').trim()
}
