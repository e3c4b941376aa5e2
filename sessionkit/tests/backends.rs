//! All backends return the same results for the same calls.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::sync::Arc;

use session_testkit::{compare_backends, random};
use sessionkit::{ManagerOptions, Store};

/// Sequences of calls, and calls in each. `SESSION_BACKENDS_SEQUENCES` sets another number.
const SEQUENCES: u64 = 200;
const CALLS: usize = 200;

async fn stores(folder: &std::path::Path) -> Vec<Store> {
    let mut urls = vec!["memory:".to_owned()];
    let mut at = |scheme: &str, name: &str| urls.push(format!("{scheme}:{}", folder.join(name).display()));
    if cfg!(feature = "file") {
        at("file", "files");
    }
    if cfg!(feature = "sled") {
        at("sled", "sled");
    }
    if cfg!(feature = "sqlite") {
        at("sqlite", "sessions.db");
    }
    let mut stores = Vec::new();
    for url in urls {
        let builder = sessionkit::builder(&url).options(ManagerOptions::new().recovery(None));
        stores.push(builder.open_store().await.unwrap());
    }
    stores
}

#[tokio::test(flavor = "multi_thread")]
async fn all_backends_return_the_same_results() {
    let sequences = std::env::var("SESSION_BACKENDS_SEQUENCES").map_or(SEQUENCES, |n| n.parse().unwrap());
    // In memory if possible: flushes would take most of the time, and the test only compares results.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let stores = stores(folder.path()).await;
    let handles = |store: &Store| (store.url().to_string(), vec![Arc::clone(store.storage()); 2]);
    let storages: Vec<_> = stores.iter().map(handles).collect();
    for seed in random::seeds(sequences) {
        compare_backends(&storages, seed, CALLS).await.unwrap();
    }
}
