//! `names.json`: the highest numbers of automatic names. It is a cache that is never flushed and may be removed at any
//! time; it saves a new session from reading all others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use session_core::backend::NameCounter;

use crate::disk::{DiskFile, LockMode, Open};
use crate::lock;
use crate::scan::read_exactly;
use crate::slots::write_all;
use crate::storage::FileStorage;
use crate::store::Store;

/// The length of the file in bytes: each write covers the previous one.
const LENGTH: usize = 8192;
/// The most bytes of JSON that one entry takes besides its prefix: quotes, brackets, commas and a number.
const ENTRY: usize = 32;
/// The bytes reserved for what is not an entry.
const FRAME: usize = 256;
/// The lock is held for a moment only.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug, Default, Serialize, Deserialize)]
struct NameCounts {
    /// The boot of the write: an unflushed number is void after power loss.
    boot: String,
    /// `true` if no other prefix is in use: the next number of all others is 1.
    complete: bool,
    /// The highest number of each prefix, the one used last at the end.
    highest: Vec<(String, u64)>,
}

impl NameCounts {
    fn highest(&self, prefix: &str) -> Option<u64> {
        let known = self.highest.iter().find(|(known, _)| known == prefix).map(|(_, number)| *number);
        known.or(self.complete.then_some(0))
    }

    fn set(&mut self, prefix: &str, number: u64) {
        self.highest.retain(|(known, _)| known != prefix);
        self.highest.push((prefix.to_owned(), number));
    }

    /// Forgets the prefixes that were not used for the longest time, as far as the file is too short for all.
    fn shorten(&mut self) {
        let mut free = LENGTH - FRAME;
        let fits = |(prefix, _): &&(String, u64)| {
            let needed = serde_json::to_string(prefix).map_or(LENGTH, |json| json.len()) + ENTRY;
            free = free.saturating_sub(needed);
            free > 0
        };
        let kept = self.highest.iter().rev().take_while(fits).count();
        let forgotten = self.highest.len() - kept;
        self.highest.drain(..forgotten);
        self.complete &= forgotten == 0;
    }
}

impl Store {
    /// Changes the numbers in the file under its lock. Returns `None` if it cannot be read or written, or if `change`
    /// does; nothing is written then.
    fn change_names<T>(&self, how: Open, change: impl FnOnce(&mut NameCounts) -> Option<T>) -> Option<T> {
        let file = self.lock_names(how)?;
        let bytes = read_exactly(&*file, 0, LENGTH).ok()?.unwrap_or_default();
        let known = serde_json::from_slice(&bytes).ok().filter(|known: &NameCounts| known.boot == self.boot);
        let mut counts = known.unwrap_or_default();
        let result = change(&mut counts)?;
        counts.boot.clone_from(&self.boot);
        counts.shorten();
        // If this write fails, the next caller would get the same number.
        write(&*file, &counts)?;
        Some(result)
    }

    /// Opens and locks the file; closing it releases the lock.
    fn lock_names(&self, how: Open) -> Option<Box<dyn DiskFile>> {
        let path = self.layout.names();
        let file = self.disk.open(&path, how).ok()?;
        lock::acquire_unsigned(&*file, &path, LockMode::Exclusive, Instant::now() + LOCK_TIMEOUT).ok()?;
        Some(file)
    }
}

fn write(file: &dyn DiskFile, counts: &NameCounts) -> Option<()> {
    let mut bytes = serde_json::to_vec(counts).ok()?;
    if bytes.len() >= LENGTH {
        return None;
    }
    bytes.resize(LENGTH - 1, b' ');
    bytes.push(b'\n');
    write_all(file, &bytes, 0).ok()
}

#[async_trait]
impl NameCounter for FileStorage {
    async fn next(&self, prefix: &str) -> Option<u64> {
        let prefix = prefix.to_owned();
        let next = self.read(move |store| {
            Ok(store.change_names(Open::Write, |counts| {
                let number = counts.highest(&prefix)?.checked_add(1)?;
                counts.set(&prefix, number);
                Some(number)
            }))
        });
        next.await.ok().flatten()
    }

    async fn counted(&self, prefix: &str, highest: &BTreeMap<String, u64>) -> u64 {
        let found = highest.get(prefix).copied().unwrap_or_default();
        let (prefix, mut highest) = (prefix.to_owned(), highest.clone());
        let next = self.read(move |store| {
            if !store.exists()? {
                return Ok(None);
            }
            Ok(store.change_names(Open::CreateIfAbsent, |counts| {
                for (known, number) in &mut counts.highest {
                    *number = highest.remove(known).map_or(*number, |found| found.max(*number));
                }
                counts.highest.splice(0..0, highest);
                counts.complete = true;
                let number = counts.highest(&prefix)?.checked_add(1)?;
                counts.set(&prefix, number);
                Some(number)
            }))
        });
        // A number that could not be stored is counted again by the next caller.
        next.await.ok().flatten().unwrap_or(found.saturating_add(1))
    }

    async fn unused(&self, prefix: &str, number: u64) {
        let prefix = prefix.to_owned();
        let unused = self.read(move |store| {
            Ok(store.change_names(Open::Write, |counts| {
                let is_last = counts.highest(&prefix) == Some(number);
                is_last.then(|| counts.set(&prefix, number.saturating_sub(1)))
            }))
        });
        // A number that stays used leaves a gap, which is harmless.
        let _ = unused.await;
    }

    async fn used(&self, prefix: &str, number: u64) {
        let prefix = prefix.to_owned();
        let used = self.read(move |store| {
            Ok(store.change_names(Open::Write, |counts| {
                (counts.highest(&prefix)? < number).then(|| counts.set(&prefix, number))
            }))
        });
        // Then a later automatic name may be the same as the chosen one.
        let _ = used.await;
    }
}
