//! Bounded memory of owner, supervisor and follower for any output of a program.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Fixture, eventually};

/// Memory limit of a process, in KiB.
const MEMORY: u64 = 64 * 1024;
/// A pattern whose length divides no chunk size, so that a lost or repeated chunk shows.
const PATTERN: &str = "0123456789abcdefghijklmnopqrstuvwxyz-";
/// Bytes that are compared at a time.
const WIDE: usize = 64 * 1024;
/// Limit of a follower's delay once all output is stored, in a debug build on a busy machine, and the bytes that it reads
/// in a second at least.
const BEHIND: Duration = Duration::from_secs(10);
const BYTES_A_SECOND: u64 = 50 << 20;

/// Output to print, in MiB: more than is kept by default, or the value of `SESSIONCTL_TEST_MIB`.
fn mebibytes() -> u64 {
    let value = std::env::var("SESSIONCTL_TEST_MIB").ok();
    value.map_or(80, |text| text.parse().expect("SESSIONCTL_TEST_MIB is a number"))
}

/// The peak memory of a process, in KiB; `None` if it has ended.
pub(crate) fn peak_of(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().trim_end_matches(" kB").trim().parse().unwrap())
}

/// Checks bytes at an offset of lines of this length.
fn check_bytes(offset: u64, bytes: &[u8], line: u64, ends: bool) {
    let wide = PATTERN.repeat(WIDE / PATTERN.len() + 2);
    let (mut offset, mut bytes) = (offset, bytes);
    while !bytes.is_empty() {
        let place = offset % (line + u64::from(ends));
        let (expected, length) = if ends && place == line {
            ("\n", 1)
        } else {
            let from = usize::try_from(place).unwrap() % PATTERN.len();
            let length = usize::try_from(line - place).unwrap().min(bytes.len()).min(WIDE);
            (&wide[from..from + length], length)
        };
        assert!(&bytes[..length] == expected.as_bytes(), "at {offset}");
        (offset, bytes) = (offset + length as u64, &bytes[length..]);
    }
}

/// Runs a program that prints such lines, with a follower, and checks output and memory.
fn check_output_of(lines: u64, line: u64, ends: bool) {
    let fixture = Fixture::new();
    let end = if ends { "echo" } else { ":" };
    let script = format!(
        "cd {}; echo $PPID > supervisor; \
         for n in $(seq {lines}); do yes '{PATTERN}' | tr -d '\\n' | head -c {line}; {end}; done; \
         touch printed; until test -e go; do sleep 0.02; done",
        fixture.dir.path().display()
    );
    let at = |name: &str| fixture.dir.path().join(name);
    let began = Instant::now();
    let mut command = fixture.command(["run", "--name", "big", "--keep", "4GiB", "--", "sh", "-c", &script]);
    let mut owner = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the session", || fixture.ctl(["show", "big"]).code == Some(0));
    let mut command = fixture.command(["logs", "big", "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut output = follower.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let bytes = output.read(&mut buffer).unwrap();
            if bytes == 0 {
                return;
            }
            check_bytes(read, &buffer[..bytes], line, ends);
            read += bytes as u64;
            let _ = sender.send(read);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(300);
    while !at("printed").exists() {
        assert!(
            Instant::now() < deadline && owner.try_wait().unwrap().is_none(),
            "the program did not print everything"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let printed = began.elapsed();

    // The follower gets all output while the session still runs.
    let length = lines * (line + u64::from(ends));
    let all_there = Instant::now();
    let limit = BEHIND + Duration::from_secs(length / BYTES_A_SECOND);
    let mut read = 0;
    while read < length {
        let left = limit.saturating_sub(all_there.elapsed());
        read = receiver
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{limit:?} later it is at {read} of {length}"));
    }
    let behind = all_there.elapsed();
    let supervisor = std::fs::read_to_string(at("supervisor")).unwrap();
    let peaks = [owner.id().to_string(), supervisor.trim().to_owned(), follower.id().to_string()]
        .map(|pid| peak_of(&pid).unwrap());
    std::fs::write(at("go"), "").unwrap();
    assert!(owner.wait().unwrap().success() && follower.wait().unwrap().success());

    reader.join().unwrap();
    let mut stderr = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(!stderr.contains("not kept"), "the follower was overtaken: {stderr}");
    let events = fixture.ctl(["events", "big"]).exits(0).stdout;
    assert!(!events.contains("session.output_truncated"), "{events}");
    eprintln!(
        "{lines} x {line} bytes in {printed:?}, the reader {behind:?} behind; peaks of owner, supervisor, reader: {peaks:?} KiB"
    );
    assert!(peaks.iter().all(|peak| *peak < MEMORY), "{peaks:?} KiB");
}

#[test]
fn output_without_line_ends_needs_bounded_memory() {
    check_output_of(1, mebibytes() << 20, false);
}

#[test]
fn long_lines_need_bounded_memory() {
    check_output_of(3, mebibytes() * 100_000, true);
}
