//! Cost of items: those of an `each` next to plain `xargs`, and the scan of many that are recorded.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::quiet;
use crate::report::{Bound, Section};
use crate::stats::{median, millis};
use crate::steps::RunningSession;

/// Items of one run next to `xargs`.
const ITEMS: u32 = 500;
/// Items of the log that is scanned.
const MANY: usize = 100_000;
/// Items that the client of that log runs at a time.
const JOBS: usize = 64;
/// Bytes of a record, for the plain flush next to it.
const RECORD: usize = 200;

/// Measures the items of a running session.
pub(crate) fn costs(sessionctl: Option<&Path>, folder: &Path, rounds: usize) -> Vec<Section> {
    let Some(sessionctl) = sessionctl else {
        eprintln!("not run: cost of items, because --sessionctl PATH is missing");
        return Vec::new();
    };
    let folder = tempfile::tempdir_in(folder).expect("a folder can be created");
    eprintln!("cost of items …");
    let mut session = RunningSession::start(sessionctl, folder.path());
    vec![
        next_to_xargs(sessionctl, &session, folder.path(), rounds),
        scan(sessionctl, &mut session, folder.path()),
    ]
}

fn next_to_xargs(sessionctl: &Path, session: &RunningSession, folder: &Path, rounds: usize) -> Section {
    let items: Vec<String> = (1..=ITEMS).map(|number| format!("docs/page-{number}.md")).collect();
    let items = items.join("\n") + "\n";
    let path = folder.join("items");
    std::fs::write(&path, items).expect("a file can be written");
    let input = || File::open(&path).expect("the file can be read");
    let mut plain = File::create(folder.join("plain")).expect("a file can be created");
    let record = [b'x'; RECORD];
    let per_item = |took: Duration| millis(took) / f64::from(ITEMS);
    let run = |mut command: Command| {
        let start = Instant::now();
        let status = command.stdin(input()).stderr(Stdio::null()).status().expect("a program can be run");
        assert!(status.success(), "{command:?}: {status}");
        per_item(start.elapsed())
    };
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let mut xargs = quiet("xargs");
        xargs.args(["-n", "1", "true"]);
        let mut each = session.command(sessionctl);
        each.args(["each", "check", "--key", &round.to_string(), "--", "true"]);
        let start = Instant::now();
        for _ in 0..ITEMS {
            plain.write_all(&record).and_then(|()| plain.sync_data()).expect("the disk can be written");
        }
        let flushed = per_item(start.elapsed());
        for (times, took) in times.iter_mut().zip([run(xargs), flushed, run(each)]) {
            times.push(took);
        }
    }
    let [xargs, flushed, each] = &times;
    let mut section = Section::new(format!("{ITEMS} items, one at a time"), &["p50 ms an item"]);
    for (name, times) in
        [("xargs -n 1 true", xargs), ("a flush of 200 bytes", flushed), ("each -- true", each)]
    {
        section.row(name, &[median(times)]);
    }
    let more = median(each) - median(xargs) - median(flushed);
    section.target("each minus xargs and one flush, ms an item", more, Bound::AtMost(1.5));
    section
}

/// Records many items over the protocol, kills the owner, and measures an `each` in the next attempt that runs none of them.
fn scan(sessionctl: &Path, session: &mut RunningSession, folder: &Path) -> Section {
    let first = Instant::now();
    assert_eq!(each(session), MANY);
    let recorded = first.elapsed();
    session.kill_and_resume(sessionctl);
    let start = Instant::now();
    assert_eq!(each(session), 0);
    let scanned = start.elapsed();
    let log = log_bytes(folder);
    let mut section = Section::new(format!("{MANY} items in one log, over the protocol"), &["s", "log MB"]);
    section.row(format!("recorded, {JOBS} at a time"), &[recorded.as_secs_f64(), log]);
    section.row("none run again after a kill", &[scanned.as_secs_f64(), log]);
    section.target("scan of all items in the next attempt, s", scanned.as_secs_f64(), Bound::AtMost(1.0));
    section.target("log, MB", log, Bound::AtMost(25.0));
    section
}

fn log_bytes(folder: &Path) -> f64 {
    let sessions = std::fs::read_dir(folder.join("store/sessions")).expect("the store can be read");
    let logs =
        sessions.flatten().filter_map(|session| std::fs::metadata(session.path().join("events.jsonl")).ok());
    // In steps of a kilobyte, which a 32-bit number has room for.
    f64::from(u32::try_from(logs.map(|log| log.len()).max().unwrap_or(0) / 1000).unwrap_or(u32::MAX)) / 1e3
}

/// Runs an `each` whose commands end immediately. Returns the number of items that ran.
fn each(session: &RunningSession) -> usize {
    let stream = UnixStream::connect(session.socket()).expect("the owner listens");
    // Two threads write whole lines.
    let writer = Arc::new(Mutex::new(stream.try_clone().expect("a descriptor is left")));
    let sender = |writer: Arc<Mutex<UnixStream>>| {
        move |message: Value| {
            let mut writer = writer.lock().expect("no thread panics");
            writer.write_all(format!("{message}\n").as_bytes()).expect("the owner reads");
        }
    };
    let send = sender(Arc::clone(&writer));
    send(json!({ "each": { "version": 1, "name": "many", "argv": ["true"], "jobs": JOBS } }));
    let items = std::thread::spawn(move || {
        let send = sender(writer);
        for batch in (0..MANY).collect::<Vec<_>>().chunks(2000) {
            let items: Vec<String> = batch.iter().map(|number| format!("docs/page-{number}.md")).collect();
            send(json!({ "items": items }));
        }
        send(json!({ "items_end": {} }));
    });
    let mut ran = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.expect("the owner answers");
        let message: Value = serde_json::from_str(&line).expect("a message is JSON");
        if let Some(item) = message.get("item") {
            ran += 1;
            send(json!({ "item_end": { "item": item["item"], "exit_code": 0 } }));
        } else if message.get("each_end").is_some() {
            break;
        } else {
            assert!(message.get("each").is_some(), "{line}");
        }
    }
    items.join().expect("all items were sent");
    ran
}
