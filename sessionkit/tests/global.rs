//! The global manager. A process has only one, so this file has one test.

#![cfg(feature = "file")]

use std::path::PathBuf;
use std::sync::Arc;

use sessionkit::{GlobalIsSet, SessionConfig, SessionManagerExt as _, global, set_global};

/// The state folder of the child process that this test starts.
const STATE: &str = "not/yet";

#[test]
fn the_first_use_opens_the_default_store_once() {
    // The environment variable must be set before the process starts, so the test runs itself again as a child.
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|state| state.ends_with(STATE));
    let Some(state) = state else {
        let folder = tempfile::tempdir().unwrap();
        let this = std::env::current_exe().unwrap();
        let again =
            std::process::Command::new(this).env("XDG_STATE_HOME", folder.path().join(STATE)).status();
        assert!(again.unwrap().success());
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let uses: Vec<_> = (0..8).map(|_| tokio::spawn(async { global().await.unwrap() })).collect();
        let mut managers = Vec::new();
        for opening in uses {
            managers.push(opening.await.unwrap());
        }
        assert!(
            managers.iter().all(|manager| Arc::ptr_eq(manager, &managers[0])),
            "the store was opened more than once"
        );
        let other = sessionkit::open("memory:").await.unwrap();
        assert_eq!(set_global(other).unwrap_err(), GlobalIsSet);
        let report = managers[0].run(SessionConfig::new("work"), async |_| Ok(())).await.unwrap();
        assert!(state.join("sessionctl/sessions").join(report.id.to_string()).is_dir());
    });
}
