//! Bounded memory of all commands that read, check or move a log, on every backend, however long the log is.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sessionkit::backend::{Chain, UnsealedRecord};
use sessionkit::log::{Owner, Timestamp};
use sessionkit::{Head, SessionConfig, SessionEvent, SessionId, SessionSummary};
use xxhash_rust::xxh3::Xxh3;

use crate::memory::peak_of;
use crate::support::Fixture;

/// Memory limit of a process, in KiB.
const MEMORY: u64 = 64 * 1024;
/// Bytes of the text of each record: with them a record is just below the limit of the format.
const TEXT: usize = 1_000_000;

/// Records of that size: together more than the memory limit, or the value of `SESSIONCTL_TEST_RECORDS`.
fn long_records() -> usize {
    let value = std::env::var("SESSIONCTL_TEST_RECORDS").ok();
    value.map_or(100, |text| text.parse().expect("SESSIONCTL_TEST_RECORDS is a number"))
}

/// Writes lines of an export, with their checksums.
struct ExportFile {
    file: BufWriter<File>,
    whole: Xxh3,
    session: Xxh3,
}

impl ExportFile {
    fn line(&mut self, line: &str) {
        for bytes in [line.as_bytes(), b"\n"] {
            self.whole.update(bytes);
            self.session.update(bytes);
            self.file.write_all(bytes).unwrap();
        }
    }
}

/// Writes the export of a completed session with a long log, one record at a time.
fn write_export(path: &Path) -> SessionId {
    let id = SessionId::random();
    let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let config = Box::new(SessionConfig::new("import").name("long"));
    let created =
        SessionEvent::Created { format: 1, config, creator: owner.clone(), origin: None, inherits: 0 };
    let noted = |n: usize| SessionEvent::Noted {
        kind: "test.note".into(),
        data: format!("{n}{}", "x".repeat(TEXT)).into(),
    };
    let events = [created, SessionEvent::Started { owner }]
        .into_iter()
        .chain((0..long_records()).map(noted))
        .chain([SessionEvent::Completed { summary: SessionSummary::new() }]);
    let file = BufWriter::new(File::create(path).unwrap());
    let mut export = ExportFile { file, whole: Xxh3::new(), session: Xxh3::new() };
    export.line(r#"{"export":{"format":1}}"#);
    export.session.reset();
    export.line(&format!(r#"{{"session":{{"id":"{id}"}}}}"#));
    let (mut chain, mut head) = (Chain::start(id), None::<Head>);
    for event in events {
        let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        let (stored, record) = chain.seal(UnsealedRecord { at, attempt, flushed: 0, event }).unwrap();
        Head::fold(&mut head, id, &record).unwrap();
        export.line(stored.line());
    }
    let (records, sum) = (chain.revision(), export.session.digest());
    export.line(&format!(r#"{{"end":{{"id":"{id}","records":{records},"sum":"{sum:016x}"}}}}"#));
    let sum = export.whole.digest();
    export.line(&format!(r#"{{"export_end":{{"sessions":1,"sum":"{sum:016x}"}}}}"#));
    export.file.flush().unwrap();
    id
}

/// Returns `true` if two files have the same bytes, without holding them in memory.
fn are_equal(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    if one.metadata().unwrap().len() != other.metadata().unwrap().len() {
        return false;
    }
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = one.read(&mut a).unwrap();
        if n == 0 {
            return true;
        }
        other.read_exact(&mut b[..n]).unwrap();
        if a[..n] != b[..n] {
            return false;
        }
    }
}

/// A store of one backend.
struct LongStore<'a> {
    fixture: &'a Fixture,
    scheme: &'static str,
}

impl LongStore<'_> {
    fn url(&self, name: &str) -> String {
        format!("{}:{}", self.scheme, self.fixture.dir.path().join(name).display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fixture.dir.path().join(format!("{}-{name}", self.scheme))
    }

    /// Runs a command to its end, with its output in a file, and checks its peak memory.
    fn runs(&self, args: &[&str]) {
        let mut command = self.fixture.command(args);
        let out = File::create(self.path("out")).unwrap();
        command.env("SESSIONCTL_STORE", self.url("one")).stdout(out).stderr(Stdio::inherit());
        let peak = peak_to_the_end(&mut command);
        eprintln!("{} {args:?}: {peak} KiB", self.scheme);
        assert!(peak < MEMORY, "{} {args:?}: {peak} KiB", self.scheme);
    }
}

/// Runs a command successfully and returns the last peak memory that it showed, in KiB.
fn peak_to_the_end(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let mut peak = 0;
    loop {
        // A process that has ended shows none any more.
        peak = peak_of(&pid).unwrap_or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}: {status}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Moves a long log into a store of a backend, through all its commands, and into stores of the next backends.
fn check_commands_on(scheme: &'static str, next: &[&str]) {
    let fixture = Fixture::new();
    let store = LongStore { fixture: &fixture, scheme };
    let export = store.path("export");
    let id = write_export(&export).to_string();
    store.runs(&["import", export.to_str().unwrap()]);
    store.runs(&["events", "--json", &id]);
    store.runs(&["export", &id]);
    assert!(are_equal(&export, &store.path("out")), "the export differs from what was imported");
    for args in
        [&["events", &id][..], &["verify"], &["ls", "--all"], &["show", &id], &["why", &id], &["logs", &id]]
    {
        store.runs(args);
    }
    for next in next {
        let other = format!("{next}:{}", store.path(&format!("to-{next}")).display());
        store.runs(&["migrate", "--to", &other]);
    }
    // A second import finds the session.
    store.runs(&["import", export.to_str().unwrap()]);
}

#[test]
fn a_long_log_in_files_needs_bounded_memory() {
    check_commands_on("file", &["sqlite", "sled"]);
}

#[test]
fn a_long_log_in_sqlite_needs_bounded_memory() {
    check_commands_on("sqlite", &["file"]);
}

#[test]
fn a_long_log_in_sled_needs_bounded_memory() {
    check_commands_on("sled", &["file"]);
}
