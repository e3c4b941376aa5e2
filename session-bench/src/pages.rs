//! First pages of filtered lists, in an `SQLite` store of many sessions.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use session_core::backend::SessionStorage as _;
use session_core::{SessionFilter, StateName, Timestamp};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};

use crate::Settings;
use crate::appends::runtime;
use crate::listing::{ACTIVE, fill_all};
use crate::report::{Bound, Section};
use crate::stats::{median, millis};

/// Sessions on a page.
const PAGE: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not zero");
/// Sessions that share a label.
const LABELLED: usize = 500;

fn open(path: &Path) -> SqliteStorage {
    SqliteStorage::open(SqliteStorageOptions::new(path)).expect("a store can be opened")
}

/// Measures first pages in stores of different sizes.
pub(crate) fn first(settings: &Settings) -> Vec<Section> {
    settings.store_sizes.iter().map(|sessions| of_store(settings, *sessions)).collect()
}

fn of_store(settings: &Settings, sessions: usize) -> Section {
    eprintln!("an SQLite store of {sessions} sessions …");
    let runtime = runtime();
    let folder = tempfile::tempdir_in(&settings.folder).expect("a folder can be created");
    let path = folder.path().join("sessions.db");
    let config = |number: usize| {
        let config = session_core::SessionConfig::new("bench").name(format!("import-{number}"));
        config.label("batch", (number / LABELLED).to_string())
    };
    fill_all(&runtime, &open(&path), sessions, ACTIVE, &config);
    let title = format!("first {PAGE} of {sessions} sessions in SQLite, {ACTIVE} of them active");
    let mut section = Section::new(title, &["ms, new process", "ms, again"]);
    let begun = crate::events::now();
    let latest = |seconds: i64| {
        Timestamp::from_millis(begun.as_millis() + seconds * 1000).expect("the time is in range")
    };
    let filters = [
        ("all", SessionFilter::all()),
        ("active", SessionFilter::active()),
        ("completed", SessionFilter::all().state(StateName::Completed)),
        ("one name", SessionFilter::all().name(format!("import-{}", sessions / 2))),
        ("one label", SessionFilter::all().label("batch", "1")),
        ("one label, active only", SessionFilter::active().label("batch", "1")),
        ("updated in the last hour", SessionFilter::all().updated_since(latest(-3600))),
        ("updated from now on", SessionFilter::all().updated_since(latest(1))),
    ];
    let mut slowest = [0f64; 2];
    for (name, filter) in filters {
        let page = |storage: &SqliteStorage| {
            let page = runtime.block_on(storage.list(&filter, None, PAGE)).expect("a store can be listed");
            assert!(page.unreadable.is_empty());
            page.heads.len()
        };
        let rounds = settings.rounds;
        let new: Vec<f64> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                page(&open(&path));
                millis(start.elapsed())
            })
            .collect();
        let storage = open(&path);
        page(&storage);
        let again: Vec<f64> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                page(&storage);
                millis(start.elapsed())
            })
            .collect();
        let figures = [median(&new), median(&again)];
        section.row(format!("{name}: {} sessions", page(&storage)), &figures);
        slowest = [slowest[0].max(figures[0]), slowest[1].max(figures[1])];
    }
    section.target("slowest filter, new process, ms", slowest[0], Bound::AtMost(20.0));
    section.target("slowest filter, again, ms", slowest[1], Bound::AtMost(20.0));
    section
}
