//! Memory use does not depend on how much a program prints. Alone in its process, whose memory is measured.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::sync::Arc;

use session_core::{InMemorySessionManager, SessionConfig, SessionEvent, SessionManager as _};
use session_runner::{Command, FileOutput, OutputStorage, Runner, supervise_test};

/// The memory limit of a process, in KiB.
const MEMORY: u64 = 64 * 1024;
/// A pattern whose length does not divide a chunk, so that a lost or duplicated piece is detected.
const LINE: &str = "0123456789abcdefghijklmnopqrstuvwxyz-";

/// Not a test: the entry point of the supervisor.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

fn peak(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Prints 200 MB without a line end at full speed. `OUTPUT_MB=1024` for a gigabyte.
#[tokio::test]
async fn unbounded_output_takes_bounded_memory() {
    supervise_test(module_path!(), "__supervise");
    let megabytes: u64 = std::env::var("OUTPUT_MB").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let folder = tempfile::tempdir().unwrap();
    let output: Arc<dyn OutputStorage> = Arc::new(FileOutput::new(folder.path()));
    let manager = InMemorySessionManager::new();
    let runner = Runner::new(&manager).output(Arc::clone(&output));
    let marker = folder.path().join("go");
    let script = format!(
        "yes '{LINE}' | tr -d '\\n' | head -c {megabytes}M; until test -e {}; do sleep 0.01; done",
        marker.display()
    );
    let command = Command::new("sh").args(["-c", &script]);
    let started = std::time::Instant::now();
    let mut running = runner.spawn(SessionConfig::new("run"), command).await.unwrap();
    let id = running.id();
    while output.length(id).unwrap().bytes < megabytes << 20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let supervisor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    let supervisor = peak(supervisor);
    std::fs::write(&marker, "").unwrap();
    let report = running.wait().await.unwrap();
    let took = started.elapsed();
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.output_bytes, megabytes << 20);

    let length = output.length(id).unwrap().bytes;
    assert_eq!(length, megabytes << 20);
    let (mut next, mut kept, mut gaps) = (0, 0, Vec::new());
    while next < length {
        for chunk in output.read(id, next, 1 << 20).unwrap().chunks {
            if chunk.offset > next {
                gaps.push(next..chunk.offset);
            }
            let place = usize::try_from(chunk.offset).unwrap() % LINE.len();
            let expected = LINE.as_bytes().iter().cycle().skip(place);
            assert!(chunk.bytes.iter().eq(expected.take(chunk.bytes.len())), "at {next}");
            kept += chunk.bytes.len() as u64;
            next = chunk.end();
        }
    }
    // Both ends: the first 8 MiB, and the last 64 MiB with up to two segments more.
    assert_eq!(gaps.iter().map(|gap| gap.start).collect::<Vec<_>>(), [8 << 20]);
    assert!((72 << 20..=88 << 20).contains(&kept), "{kept}");
    let records = manager.read_log(id, 0, 100).await.unwrap();
    let removed = records.iter().find_map(|record| {
        let SessionEvent::Noted { kind, data } = record.decode().unwrap().event else { return None };
        (kind == "session.output_truncated").then(|| data["bytes"].as_u64())?
    });
    assert_eq!(removed, Some(report.output_bytes - kept));
    eprintln!(
        "{megabytes} MB in {took:?}; peak of owner {} KiB, of supervisor {supervisor} KiB",
        peak("self")
    );
    assert!(peak("self") < MEMORY && supervisor < MEMORY);
}
