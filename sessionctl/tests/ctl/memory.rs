//! Bounded memory of owner, supervisor and follower for any output of a program.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sessionkit::SessionId;
use xxhash_rust::xxh3::Xxh3;

use crate::support::{Fixture, eventually};

/// Memory limit of a process, in KiB.
const MEMORY: u64 = 64 * 1024;
/// Output kept for a session, in bytes.
const KEPT: u64 = 64 << 20;
/// A pattern whose length divides no chunk size, so that a lost or repeated chunk shows.
const PATTERN: &str = "0123456789abcdefghijklmnopqrstuvwxyz-";
/// Limit of a follower's delay once all output is stored, in a debug build on a busy machine.
const BEHIND: Duration = Duration::from_secs(10);

/// Output to print, in MiB: a little more than is kept, or the value of `SESSIONCTL_TEST_MIB`.
fn mebibytes() -> u64 {
    let value = std::env::var("SESSIONCTL_TEST_MIB").ok();
    value.map_or(80, |text| text.parse().expect("SESSIONCTL_TEST_MIB is a number"))
}

/// The peak memory of a process, in KiB.
fn peak(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Returns the checksum of the first `kept` bytes of lines of this length, and the number of bytes of all lines.
fn expected(lines: u64, line: u64, ends: bool, kept: u64) -> (u64, u64) {
    // The part of a line beyond `kept` is never used.
    let shown = usize::try_from(line.min(kept)).unwrap();
    let one = PATTERN.repeat(shown / PATTERN.len() + 1);
    let one = &one.as_bytes()[..shown];
    let (mut sum, mut left) = (Xxh3::new(), kept);
    for _ in 0..lines {
        for part in [one, if ends { b"\n" } else { b"" }] {
            let part = &part[..usize::try_from(left.min(part.len() as u64)).unwrap()];
            sum.update(part);
            left -= part.len() as u64;
        }
    }
    (sum.digest(), lines * (line + u64::from(ends)))
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
    let mut command = fixture.command(["run", "--name", "big", "--", "sh", "-c", &script]);
    let mut owner = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the session", || fixture.ctl(["show", "big"]).code == Some(0));
    let mut command = fixture.command(["logs", "big", "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut output = follower.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut sum, mut read, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 20]);
        loop {
            let length = output.read(&mut buffer).unwrap();
            if length == 0 {
                return sum.digest();
            }
            sum.update(&buffer[..length]);
            read += length as u64;
            sender.send(read).unwrap();
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
    let kept = length.min(KEPT);
    let all_there = Instant::now();
    let mut read = 0;
    while read < kept {
        let left = BEHIND.saturating_sub(all_there.elapsed());
        read = receiver
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{BEHIND:?} later it is at {read} of {kept}"));
    }
    let behind = all_there.elapsed();
    let supervisor = std::fs::read_to_string(at("supervisor")).unwrap();
    let peaks = [owner.id().to_string(), supervisor.trim().to_owned(), follower.id().to_string()]
        .map(|pid| peak(&pid));
    std::fs::write(at("go"), "").unwrap();
    assert!(owner.wait().unwrap().success() && follower.wait().unwrap().success());

    let (sum, total) = expected(lines, line, ends, kept);
    assert_eq!(total, length);
    assert_eq!(reader.join().unwrap(), sum, "the followed output");
    let id: SessionId = fixture.show("big")["id"].as_str().unwrap().parse().unwrap();
    let folder = fixture.store().join("sessions").join(id.to_string()).join("output");
    let bytes = std::fs::read(folder.join("bytes")).unwrap();
    assert_eq!((bytes.len() as u64, xxhash_rust::xxh3::xxh3_64(&bytes)), (kept, sum), "the stored output");
    let marks = std::fs::read_to_string(folder.join("index")).unwrap();
    let marks = marks.lines().filter(|entry| entry.contains(" cut ")).count();
    let events = fixture.ctl(["events", "big"]).exits(0).stdout;
    let notes = events.lines().filter(|line| line.contains("session.output_truncated")).count();
    let cut = usize::from(length > KEPT);
    assert_eq!((marks, notes), (cut, cut), "one mark where something is missing: {events}");
    let mut stderr = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr.contains("bytes were kept"), length > KEPT, "{stderr}");
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
