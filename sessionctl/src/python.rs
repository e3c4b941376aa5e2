//! Programs in Python. Their standard output is buffered, unless it is a terminal: what they print into a pipe arrives
//! only when a few KiB have come together, or at the end.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sessionkit::log::Origin;
use sessionkit::runner::Command;
use sessionkit::text::is_unsafe_char;

use crate::plain_file;

/// Environment variable that turns the buffer off, unless it is empty.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";
/// Bytes of a command that is repeated in a line.
const SHORT: usize = 200;
/// Bytes of a script in which its first line has to end.
const FIRST_LINE: u64 = 256;

/// Turns the buffer off, in every attempt and retry, unless the environment or one of these variables says otherwise.
pub(crate) fn unbuffered(command: Command, variables: &[(String, OsString)]) -> Command {
    let is_set =
        std::env::var_os(UNBUFFERED).is_some() || variables.iter().any(|(name, _)| name == UNBUFFERED);
    if is_set { command } else { command.env(UNBUFFERED, "1") }
}

/// Returns `true` if a recorded command is a program in Python with a buffer: run by its name, or a script that names
/// Python in its first line.
pub(crate) fn is_buffered(origin: &Origin) -> bool {
    let Some((program, arguments)) = origin.argv.split_first() else { return false };
    let set = origin.env.get(UNBUFFERED).map(|value| !value.is_empty());
    if set.unwrap_or_else(|| origin.inherited.iter().any(|name| name == UNBUFFERED)) {
        return false;
    }
    if is_python(program) {
        return !arguments
            .iter()
            .map_while(|argument| options(argument))
            .any(|options| options.contains(&b'u'));
    }
    let words = find(program, origin).and_then(|script| interpreter(&script)).unwrap_or_default();
    let mut words = words.iter().skip_while(|word| !is_python(word));
    words.next().is_some() && !words.map_while(|word| options(word)).any(|options| options.contains(&b'u'))
}

/// Returns the arguments of the command that runs a recorded command without the buffer. Of one that cannot be typed as
/// one short line, those of the help.
pub(crate) fn unbuffered_run(origin: &Origin) -> Vec<String> {
    let argv: Option<Vec<&str>> = origin.argv.iter().map(|argument| argument.to_str()).collect();
    let is_short = |argv: &Vec<&str>| {
        argv.iter().map(|argument| argument.len()).sum::<usize>() <= SHORT
            && !argv.iter().any(|argument| argument.contains(is_unsafe_char))
    };
    match argv.filter(is_short) {
        Some(argv) => ["run", "--unbuffered", "--"].into_iter().chain(argv).map(str::to_owned).collect(),
        None => ["run", "--help"].map(str::to_owned).into(),
    }
}

fn is_python(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name.as_bytes().starts_with(b"python"))
}

/// Returns the letters of an option, up to one that takes the rest as its value; `None` if it is none.
fn options(argument: &OsStr) -> Option<&[u8]> {
    let letters = argument.as_bytes().strip_prefix(b"-")?;
    letters.split(|letter| b"cmWX".contains(letter)).next()
}

/// Returns the file that is run for a program.
fn find(program: &OsStr, origin: &Origin) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(origin.cwd.join(program));
    }
    let path = origin.env.get("PATH").cloned().or_else(|| std::env::var_os("PATH"))?;
    std::env::split_paths(&path)
        .map(|folder| origin.cwd.join(folder).join(program))
        .find(|file| file.is_file())
}

/// Returns the words of the first line of a script, after `#!`.
fn interpreter(script: &Path) -> Option<Vec<OsString>> {
    let (file, metadata) = plain_file::open(script).ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut start = Vec::new();
    file.take(FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Some(words.map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_buffered_as(words: &[&str]) -> bool {
        is_buffered(&Origin::new(words.iter().map(OsString::from), "/".into()))
    }

    #[test]
    fn python_is_known_by_its_name() {
        for words in [
            &["python3", "train.py"][..],
            &["/usr/bin/python3.12", "-c", "print('-u')"],
            &["python", "-W", "ignore", "train.py"],
            &["python3", "-Bm", "unit", "-u"],
        ] {
            assert!(is_buffered_as(words), "{words:?}");
        }
        for words in
            [&["python3", "-u", "train.py"][..], &["python3", "-Bu"], &["sh", "python"], &["make"], &[]]
        {
            assert!(!is_buffered_as(words), "{words:?}");
        }
    }

    #[test]
    fn a_script_is_known_by_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("train");
        for (line, expected) in [
            ("#!/usr/bin/env python3\n", true),
            ("#! /opt/python3.12\r\nprint()", true),
            ("#!/usr/bin/python3 -u\n", false),
            ("#!/usr/bin/env -S python3 -uB\n", false),
            ("#!/bin/sh\npython3 train.py", false),
            ("python3\n", false),
            ("", false),
        ] {
            std::fs::write(&script, line).unwrap();
            let mut origin = Origin::new(["./train"], folder.path().to_owned());
            assert_eq!(is_buffered(&origin), expected, "{line}");
            origin = Origin::new(["train"], "/".into());
            origin.env.insert("PATH".to_owned(), format!("/nowhere:{}", folder.path().display()).into());
            assert_eq!(is_buffered(&origin), expected, "{line} in PATH");
        }
    }

    #[test]
    fn a_command_that_fits_into_a_line_is_suggested() {
        let suggested =
            |words: &[&str]| unbuffered_run(&Origin::new(words.iter().map(OsString::from), "/".into()));
        assert_eq!(suggested(&["python3", "a b"]), ["run", "--unbuffered", "--", "python3", "a b"]);
        for words in [["python3", "import x\nx()"], ["python3", &"x".repeat(SHORT)]] {
            assert_eq!(suggested(&words), ["run", "--help"]);
        }
    }

    #[test]
    fn a_variable_turns_the_buffer_off() {
        let mut origin = Origin::new(["python3"], "/".into());
        origin.inherited = vec![UNBUFFERED.to_owned()];
        assert!(!is_buffered(&origin));
        origin.env.insert(UNBUFFERED.to_owned(), "".into());
        assert!(is_buffered(&origin));
        origin.env.insert(UNBUFFERED.to_owned(), "1".into());
        assert!(!is_buffered(&origin));
    }
}
