//! Bit flips and truncations in sled's own files: whatever was acknowledged is read, or an error says that it is not. Each
//! case is opened by a process of its own, since sled's threads are shared by all databases of a process and do not survive
//! what some damage does to them.
//!
//! `SESSION_DAMAGE_CASES` chooses how many, `SESSION_DAMAGE_SEED` which; a failure prints the seed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, what is not there is a failure"
)]

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
use process::{Process, say};
use session_core::{
    Durability, Expected, SessionFilter, SessionId, SessionStorage, SessionStorageExt as _,
    StorageMaintenance as _, StoredRecord, Sum, Tip,
};
use session_storage_sled::{SledStorage, SledStorageOptions};

/// Longer than any case takes; whatever lasts longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the store itself takes for a hang.
const ENGINE_PATIENCE: Duration = Duration::from_secs(10);

/// Not a test of its own: what the processes of the test below do. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(look(&store));
        say("end");
    }
}

/// Says what can be read of the store, before and after somebody tried to write to it.
async fn look(store: &Path) {
    let expected = std::fs::read_to_string(store.join("../expected")).unwrap();
    let expected: Vec<(SessionId, u64, Sum)> = expected
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
        })
        .collect();
    let storage = match SledStorage::open(SledStorageOptions::new(store).engine_timeout(ENGINE_PATIENCE)) {
        Ok(storage) => storage,
        Err(error) => return say(&format!("closed {error}")),
    };
    for round in ["before", "after"] {
        for (id, revision, sum) in &expected {
            let (records, end) = read(&storage, *id).await;
            let last = records.last().map(StoredRecord::tip);
            let whole = last == Some(Tip { revision: *revision, sum: *sum });
            let more = last.is_some_and(|tip| tip.revision > *revision);
            match end {
                Ok(()) if whole || (more && round == "after") => say(&format!("whole {id}")),
                Ok(()) => say(&format!("SILENT {round} {id}: {last:?} of {revision}")),
                Err(error) => say(&format!("damaged {} {id}: {error}", error.code())),
            }
            if let Ok(None) = storage.head(*id).await {
                say(&format!("SILENT {round} {id}: no head"));
            }
        }
        match storage.list_all(&SessionFilter::all()).await {
            Ok(page) => {
                for (id, ..) in &expected {
                    let named = page.heads.iter().any(|head| head.id == *id)
                        || page.unreadable.iter().any(|(unreadable, _)| unreadable == id);
                    if !named {
                        say(&format!("SILENT {round} {id}: not on the list"));
                    }
                }
            }
            Err(error) => say(&format!("unlisted {error}")),
        }
        match storage.verify_all().await {
            Ok(health) => {
                for (id, ..) in &expected {
                    let named = health.sessions.iter().any(|session| session.id == *id)
                        || health.failed.iter().any(|(failed, _)| failed == id);
                    if !named {
                        say(&format!("SILENT {round} {id}: not verified"));
                    }
                }
            }
            Err(error) => say(&format!("unverified {error}")),
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
                    Ok(_) => say(&format!("written {id}")),
                    Err(error) => say(&format!("refused {} {id}: {error}", error.code())),
                }
            }
        }
    }
}

/// What was done to a file.
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

/// A store with what happens to stores: sessions of all lengths that grow in turns, large records, deletions, several
/// lives of the process. The second one was left without a goodbye.
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
        let end = reader.end(PATIENCE);
        let said = reader.heard.join("\n");
        assert!(end.is_some(), "{what}: a hang after\n{said}");
        assert!(end.unwrap().success(), "{what}: it ended with {end:?} after\n{said}");
        assert!(said.ends_with("end"), "{what}: it ended early after\n{said}");
        assert!(!said.contains("SILENT"), "{what}:\n{said}");
        let outcome = if said.contains("closed ") {
            "not opened"
        } else if said.contains("damaged ") || said.contains("refused ") {
            "told"
        } else {
            "whole"
        };
        *tally.entry(outcome).or_default() += 1;
        if std::env::var_os("SESSION_DAMAGE_SHOW").is_some() {
            println!("{what}: {outcome}");
            if outcome == "not opened" {
                println!("  {said}");
            }
        }
    }
    let tally = |outcome| tally.get(outcome).copied().unwrap_or(0);
    println!(
        "tally: cases={cases} not-opened={} told={} whole={}",
        tally("not opened"),
        tally("told"),
        tally("whole")
    );
    folder.disable_cleanup(false);
}
