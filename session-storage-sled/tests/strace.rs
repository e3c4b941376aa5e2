//! The system calls between a durable append and its acknowledgement, traced with `strace`.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Command;

use logs::Log;
use session_core::Durability;
use session_storage_sled::{SledStorage, SledStorageOptions};

const APPENDS: usize = 30;

/// The body of the traced process, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = SledStorage::open(SledStorageOptions::new(store)).unwrap();
            let mut log = Log::new();
            for n in 0..APPENDS {
                // One record is large enough for a separate file of sled if it were not split.
                let text = "x".repeat(if n == 20 { 900_000 } else { 10 });
                log.next(&storage, Durability::Flushed, text).await.unwrap();
                process::print_line(&format!("acknowledged {n}"));
            }
        });
    }
}

/// Returns the system call of a line of the trace; an interrupted one when it has ended.
fn call(line: &str, unfinished: &mut HashMap<String, String>) -> Option<String> {
    let (pid, call) = line.split_once(' ')?;
    let call = call.trim_start();
    if let Some(start) = call.strip_suffix("<unfinished ...>") {
        unfinished.insert(pid.to_owned(), start.to_owned());
        return None;
    }
    if let Some(rest) = call.strip_prefix("<... ") {
        let (_, end) = rest.split_once("resumed>")?;
        return unfinished.remove(pid).map(|start| start + end);
    }
    Some(call.to_owned())
}

#[test]
fn the_data_file_is_flushed_before_each_acknowledgement() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        drop(writeln!(std::io::stderr().lock(), "not run: no strace"));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let trace = folder.path().join("trace");
    let mut program = Command::new("strace");
    program.args([
        "-f",
        "-y",
        "-s",
        "80",
        "-e",
        "trace=fsync,fdatasync,sync_file_range,write,pwrite64",
        "-o",
    ]);
    program.arg(&trace).arg(std::env::current_exe().unwrap());
    process::command(&mut program, "appender", &store);
    let output = program.output().unwrap();
    if !output.status.success() && !trace.exists() {
        drop(writeln!(std::io::stderr().lock(), "not run: no permission to trace"));
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let data = format!("<{}>", store.join("db/db").display());
    let marks = format!("<{}>", store.join("marks").display());
    let note = format!("<{}>", store.join("unclean").display());
    let root = format!("<{}>", store.display());
    // The marker of an open database, and its name, are flushed before sled writes.
    let (mut note_flushed, mut name_flushed, mut opened) = (false, false, false);
    let mut unfinished = HashMap::new();
    // The steps since the last acknowledgement, in this order.
    let (mut written, mut flushed, mut marked) = (false, false, false);
    let (mut acknowledged, mut by_sled) = (0, 0);
    for call in trace.lines().filter_map(|line| call(line, &mut unfinished)) {
        let is = |names: &[&str]| names.iter().any(|name| call.starts_with(&format!("{name}(")));
        let ok = !call.contains("= -1");
        if is(&["fsync"]) && call.contains(&note) && ok {
            note_flushed = true;
        } else if is(&["fsync"]) && call.contains(&root) && ok {
            name_flushed |= note_flushed;
        } else if is(&["pwrite64"]) && call.contains(&data) {
            assert!(opened || name_flushed, "sled writes before its marker is flushed");
            opened = true;
            // The earlier flush does not cover this write.
            (written, flushed, marked) = (true, false, false);
        } else if is(&["sync_file_range"]) && call.contains(&data) {
            by_sled += 1;
        } else if is(&["fsync", "fdatasync"]) && call.contains(&data) && ok {
            flushed = written;
        } else if is(&["write"]) && call.contains(&marks) {
            marked = flushed;
        } else if is(&["write"]) && call.contains("acknowledged ") {
            assert!(
                written && flushed && marked,
                "acknowledgement {acknowledged}: {written} {flushed} {marked}"
            );
            acknowledged += 1;
            (written, flushed, marked) = (false, false, false);
        }
    }
    assert_eq!(acknowledged, APPENDS);
    println!("tally: acknowledged={acknowledged} sync-file-range={by_sled}");
    let blobs = std::fs::read_dir(store.join("db/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "no page was large enough for a separate file");
}
