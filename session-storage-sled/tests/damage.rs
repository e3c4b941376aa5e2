//! Bit flips and truncations in sled's own files: acknowledged records are read, or an error reports their loss. Each
//! case is opened by a separate process, since sled's threads are shared by all databases of a process and some damage
//! ends them.
//!
//! `SESSION_DAMAGE_CASES` sets the number of cases, `SESSION_DAMAGE_SEED` selects them; a failure prints the seed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

#[path = "common/copy.rs"]
mod copy;
#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use logs::{Dice, Log, note, number, read};
use process::{Process, print_line};
use session_core::backend::{Expected, SessionStorage, SessionStorageExt as _, Sum, Tip};
use session_core::maintenance::StorageMaintenance as _;
use session_core::{Durability, SessionFilter, SessionId, StoredRecord};
use session_storage_sled::{SledStorage, SledStorageOptions};

/// The limit of a case: longer means a hang.
const CASE_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit after which the store reports a hang.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of the started processes, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(read_all(&store));
        print_line("end");
    }
}

/// Prints what can be read of the store, before and after an attempt to write to it.
async fn read_all(store: &Path) {
    let expected = std::fs::read_to_string(store.join("../expected")).unwrap();
    let expected: Vec<(SessionId, u64, Sum)> = expected
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
        })
        .collect();
    let storage = match SledStorage::open(SledStorageOptions::new(store).engine_timeout(ENGINE_TIMEOUT)) {
        Ok(storage) => storage,
        Err(error) => return print_line(&format!("closed {error}")),
    };
    for round in ["before", "after"] {
        for (id, revision, sum) in &expected {
            let (records, end) = read(&storage, *id).await;
            let last = records.last().map(StoredRecord::tip);
            let intact = last == Some(Tip { revision: *revision, sum: *sum });
            let more = last.is_some_and(|tip| tip.revision > *revision);
            match end {
                Ok(()) if intact || (more && round == "after") => print_line(&format!("intact {id}")),
                Ok(()) => print_line(&format!("SILENT {round} {id}: {last:?} of {revision}")),
                Err(error) => print_line(&format!("damaged {} {id}: {error}", error.code())),
            }
            if let Ok(None) = storage.head(*id).await {
                print_line(&format!("SILENT {round} {id}: no head"));
            }
        }
        match storage.list_all(&SessionFilter::all()).await {
            Ok(page) => {
                for (id, ..) in &expected {
                    let named = page.heads.iter().any(|head| head.id == *id)
                        || page.unreadable.iter().any(|(unreadable, _)| unreadable == id);
                    if !named {
                        print_line(&format!("SILENT {round} {id}: not on the list"));
                    }
                }
            }
            Err(error) => print_line(&format!("unlisted {error}")),
        }
        match storage.verify_all().await {
            Ok(health) => {
                for (id, ..) in &expected {
                    let named = health.sessions.iter().any(|session| session.id == *id)
                        || health.failed.iter().any(|(failed, _)| failed == id);
                    if !named {
                        print_line(&format!("SILENT {round} {id}: not verified"));
                    }
                }
            }
            Err(error) => print_line(&format!("unverified {error}")),
        }
        if round == "before" {
            for (id, revision, sum) in &expected {
                let Ok(Some(head)) = storage.head(*id).await else { continue };
                let tip = Tip { revision: *revision, sum: *sum };
                if head.tip != tip {
                    continue;
                }
                let mut log = Log::of(head);
                let batch = log.seal(vec![note("more")]);
                match storage.append(*id, Expected::At(tip), batch, Durability::Flushed).await {
                    Ok(_) => print_line(&format!("written {id}")),
                    Err(error) => print_line(&format!("refused {} {id}: {error}", error.code())),
                }
            }
        }
    }
}

/// A damage to a file.
#[derive(Debug)]
enum Damage {
    Flip { at: u64, bit: u8 },
    Cut { at: u64 },
    Zero { at: u64, bytes: usize },
}

impl Damage {
    fn random(dice: &mut Dice, length: u64) -> Self {
        let at = dice.below(length.max(1));
        match dice.below(10) {
            0..6 => Self::Flip { at, bit: u8::try_from(dice.below(8)).unwrap() },
            6..9 => Self::Cut { at },
            _ => Self::Zero { at, bytes: usize::try_from(1 + dice.below(8192)).unwrap() },
        }
    }

    fn apply(&self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        match *self {
            Self::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(usize::try_from(at).unwrap()) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Cut { at } => bytes.truncate(usize::try_from(at).unwrap()),
            Self::Zero { at, bytes: count } => {
                let at = usize::try_from(at).unwrap();
                let end = (at + count).min(bytes.len());
                bytes[at..end].fill(0);
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// Creates two stores with a realistic history: sessions of all lengths that grow in turns, large records, deletions,
/// several lives of the process. The second store had an unclean shutdown.
async fn build(root: &Path, dice: &mut Dice) -> [PathBuf; 2] {
    let [clean, killed] = ["clean", "killed"].map(|name| root.join(name).join("store"));
    let mut logs: Vec<Log> = Vec::new();
    for life in 0..3 {
        let storage = SledStorage::open(SledStorageOptions::new(&clean)).unwrap();
        for _ in 0..250 {
            let which = usize::try_from(dice.below(14)).unwrap();
            if which >= logs.len() {
                logs.push(Log::new());
            }
            let at = which.min(logs.len() - 1);
            let size = match dice.below(30) {
                0 => dice.below(100_000),
                1 => dice.below(20_000),
                _ => dice.below(400),
            };
            let text = "x".repeat(usize::try_from(size).unwrap());
            logs[at].next(&storage, Durability::Flushed, text).await.unwrap();
            if logs.len() > 3 && dice.below(60) == 0 {
                let log = logs.swap_remove(at);
                storage.delete(log.id, log.tip().unwrap()).await.unwrap();
            }
        }
        if life == 2 {
            copy::copy(&clean, &killed);
        }
    }
    let mut expected = String::new();
    for log in &logs {
        let tip = log.tip().unwrap();
        writeln!(expected, "{} {} {}", log.id, tip.revision, tip.sum).unwrap();
    }
    std::fs::write(root.join("expected"), expected).unwrap();
    [clean, killed]
}

#[test]
fn damage_of_sleds_files_is_never_silent() {
    let cases = number("SESSION_DAMAGE_CASES", 100);
    let seed = number("SESSION_DAMAGE_SEED", 1);
    let mut dice = Dice(seed);
    let mut folder = tempfile::tempdir().unwrap();
    folder.disable_cleanup(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stores = runtime.block_on(build(folder.path(), &mut dice));
    println!("damage: {cases} cases, SESSION_DAMAGE_SEED={seed}, in {}", folder.path().display());
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for case in 0..cases {
        let store = folder.path().join("case/store");
        drop(std::fs::remove_dir_all(folder.path().join("case")));
        copy::copy(&stores[usize::from(dice.below(3) == 0)], &store);
        std::fs::copy(folder.path().join("expected"), folder.path().join("case/expected")).unwrap();
        // Mostly the log itself.
        let mut files: Vec<PathBuf> = std::fs::read_dir(store.join("db"))
            .unwrap()
            .chain(std::fs::read_dir(store.join("db/blobs")).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        let path = match dice.below(10) {
            0..8 => store.join("db/db"),
            _ => files[usize::try_from(dice.below(files.len() as u64)).unwrap()].clone(),
        };
        let mut damages = Vec::new();
        for _ in 0..=dice.below(2) {
            let length = std::fs::metadata(&path).unwrap().len();
            let damage = Damage::random(&mut dice, length);
            damage.apply(&path);
            damages.push(damage);
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let what = format!("seed {seed}, case {case}: {damages:?} in {name}");
        let mut reader = Process::start("reader", &store, true);
        let end = reader.end(CASE_TIMEOUT);
        let output = reader.received.join("\n");
        assert!(end.is_some(), "{what}: a hang after\n{output}");
        assert!(end.unwrap().success(), "{what}: it ended with {end:?} after\n{output}");
        assert!(output.ends_with("end"), "{what}: it ended early after\n{output}");
        assert!(!output.contains("SILENT"), "{what}:\n{output}");
        let outcome = if output.contains("closed ") {
            "not opened"
        } else if output.contains("damaged ") || output.contains("refused ") {
            "reported"
        } else {
            "intact"
        };
        *tally.entry(outcome).or_default() += 1;
        if std::env::var_os("SESSION_DAMAGE_SHOW").is_some() {
            println!("{what}: {outcome}");
            if outcome == "not opened" {
                println!("  {output}");
            }
        }
    }
    let tally = |outcome| tally.get(outcome).copied().unwrap_or(0);
    println!(
        "tally: cases={cases} not-opened={} reported={} intact={}",
        tally("not opened"),
        tally("reported"),
        tally("intact")
    );
    folder.disable_cleanup(false);
}
