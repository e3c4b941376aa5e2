//! `names.json`: the last number of a day's automatic names. It is a cache that is never flushed and may be
//! removed at any time; it saves a new session from reading all others.

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
const LENGTH: usize = 256;
/// The lock is held for a moment only.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
struct NameCount {
    prefix: String,
    number: u64,
    /// The boot of the write: an unflushed number is void after power loss.
    boot: String,
}

impl Store {
    /// Returns the next number, if the file has one for this prefix. With `least`, returns at least that, even
    /// if the file has none.
    fn next_number(&self, prefix: &str, least: Option<u64>) -> Option<u64> {
        let file = self.lock_names(if least.is_some() { Open::CreateIfAbsent } else { Open::Write })?;
        let bytes = read_exactly(&*file, 0, LENGTH).ok()?.unwrap_or_default();
        let known = serde_json::from_slice(&bytes)
            .ok()
            .filter(|known: &NameCount| known.prefix == prefix && known.boot == self.boot)
            .and_then(|known| known.number.checked_add(1));
        let number = known.max(least)?;
        // If this write fails, the next caller would get the same number.
        write(&*file, &NameCount { prefix: prefix.to_owned(), number, boot: self.boot.clone() })?;
        Some(number)
    }

    /// Gives a number back, if it is still the last one.
    fn return_number(&self, prefix: &str, number: u64) -> Option<()> {
        let file = self.lock_names(Open::Write)?;
        let bytes = read_exactly(&*file, 0, LENGTH).ok()??;
        let known: NameCount = serde_json::from_slice(&bytes).ok()?;
        let last = number.checked_sub(1)?;
        if (&*known.prefix, known.number, &known.boot) == (prefix, number, &self.boot) {
            write(&*file, &NameCount { number: last, ..known })?;
        }
        Some(())
    }

    /// Opens and locks the file; closing it releases the lock.
    fn lock_names(&self, how: Open) -> Option<Box<dyn DiskFile>> {
        let path = self.layout.names();
        let file = self.disk.open(&path, how).ok()?;
        lock::acquire_unsigned(&*file, &path, LockMode::Exclusive, Instant::now() + LOCK_TIMEOUT).ok()?;
        Some(file)
    }
}

fn write(file: &dyn DiskFile, counted: &NameCount) -> Option<()> {
    let mut bytes = serde_json::to_vec(counted).ok()?;
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
        self.read(move |store| Ok(store.next_number(&prefix, None))).await.ok().flatten()
    }

    async fn counted(&self, prefix: &str, number: u64) -> u64 {
        let prefix = prefix.to_owned();
        let next = self.read(move |store| {
            let exists = store.exists()?;
            Ok(exists.then(|| store.next_number(&prefix, Some(number))).flatten())
        });
        // A number that could not be stored is counted again by the next caller.
        next.await.ok().flatten().unwrap_or(number)
    }

    async fn unused(&self, prefix: &str, number: u64) {
        let prefix = prefix.to_owned();
        // A number that stays used leaves a gap, which is harmless.
        let _ = self.read(move |store| Ok(store.return_number(&prefix, number))).await;
    }

    async fn forget(&self) {
        let forget = self.read(|store| {
            if store.exists()? {
                store.remove_tree(&store.layout.names())?;
            }
            Ok(())
        });
        let _ = forget.await;
    }
}
