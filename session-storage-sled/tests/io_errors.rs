//! Failed calls of sled, injected with `strace`: every request ends with a typed error, and nothing is printed.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use logs::{Log, read};
use session_core::Durability;
use session_core::backend::SessionStorage as _;
use session_storage_sled::{SledStorage, SledStorageOptions};

/// The limit of a case, far below the time after which the store reports a hang: longer means a hang.
const CASE_TIMEOUT: Duration = Duration::from_secs(60);
const ENGINE_TIMEOUT: Duration = Duration::from_secs(600);
/// The calls of a case that are tried to fail, each in every thread.
const WHEN: [&str; 7] = ["1", "2", "3", "4", "5", "1+", "2+"];

/// The body of the traced process, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    let Some((_, store)) = process::role() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let storage = match SledStorage::open(SledStorageOptions::new(&store).engine_timeout(ENGINE_TIMEOUT))
        {
            Ok(storage) => storage,
            Err(error) => return process::print_line(&format!("refused {}", error.code())),
        };
        let mut log = Log::new();
        for n in 0..5 {
            if let Err(error) = log.next(&storage, Durability::Flushed, "x".repeat(n * 1000)).await {
                process::print_line(&format!("failed {}", error.code()));
                break;
            }
            process::print_line(&format!("acknowledged {} {}", log.id, log.revision()));
        }
        drop(storage.head(log.id).await);
        drop(storage);
        process::print_line("closed");
    });
}

/// Runs the process with a failing call; returns its lines, and what it printed on stderr. `None` without permission.
fn run(store: &Path, call: &str, when: &str) -> Option<(Vec<String>, String)> {
    let mut program = Command::new("strace");
    program.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(store.join("db/db"));
    program.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error=EIO:when={when}")]);
    program.arg(std::env::current_exe().unwrap());
    process::command(&mut program, "appender", store);
    let mut child = program.stderr(Stdio::piped()).spawn().ok()?;
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut lines, mut printed) = (String::new(), String::new());
        stdout.read_to_string(&mut lines).unwrap();
        stderr.read_to_string(&mut printed).unwrap();
        drop(sender.send((lines, printed)));
    });
    let Ok((lines, printed)) = receiver.recv_timeout(CASE_TIMEOUT) else {
        child.kill().unwrap();
        panic!("{call} {when}: hangs");
    };
    child.wait().unwrap();
    let lines = lines.lines().filter_map(|line| Some(line.split_once('\u{1}')?.1.to_owned())).collect();
    if printed.contains("ptrace") { None } else { Some((lines, printed)) }
}

/// A write that failed in the background left the thread that waited for it waiting, for up to 150 s; and sled's panic
/// about a failed flush at its close was printed.
#[test]
fn failed_calls_of_sled_end_in_time_and_print_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stored = runtime.block_on(async {
        Log::stored(&SledStorage::open(SledStorageOptions::new(&base)).unwrap(), 2).await
    });
    let mut failed = 0;
    for call in ["pwrite64", "sync_file_range", "fsync", "fdatasync", "pread64", "ftruncate"] {
        for when in WHEN {
            let store = folder.path().join(format!("{call} {when}"));
            assert!(Command::new("cp").arg("-r").arg(&base).arg(&store).status().unwrap().success());
            let Some((lines, printed)) = run(&store, call, when) else {
                drop(writeln!(std::io::stderr().lock(), "not run: no strace, or no permission to trace"));
                return;
            };
            let case = format!("{call} {when}: {lines:?} {printed}");
            let end = lines.last().unwrap_or_else(|| panic!("{case}"));
            assert!(end == "closed" || end.starts_with("refused "), "{case}");
            assert!(!printed.contains("panicked"), "{case}");
            failed +=
                usize::from(lines.iter().any(|line| !line.starts_with("acknowledged ") && line != "closed"));
            // A disk that cannot be read costs nothing: sled would cut off what it could not read while it opened.
            if call == "pread64" && ["1", "2", "1+", "2+"].contains(&when) {
                runtime.block_on(async {
                    let storage = SledStorage::open(SledStorageOptions::new(&store)).unwrap();
                    let (records, end) = read(&storage, stored.id).await;
                    end.unwrap();
                    assert_eq!(records.len() as u64, stored.revision(), "{case}");
                });
            }
            // What was acknowledged is there.
            let acknowledged = lines.iter().rev().find_map(|line| line.strip_prefix("acknowledged "));
            let Some((id, revision)) = acknowledged.and_then(|line| line.split_once(' ')) else { continue };
            runtime.block_on(async {
                let storage = SledStorage::open(SledStorageOptions::new(&store)).unwrap();
                let (records, end) = read(&storage, id.parse().unwrap()).await;
                end.unwrap();
                assert!(records.len() as u64 >= revision.parse().unwrap(), "{case}");
            });
        }
    }
    assert!(failed > 5, "{failed}");
}
