//! Cycles that exist. Each falls with a later issue; no file may join one, and a cycle that is gone leaves this list.

/// A crate, and the files of the cycle in order, relative to its `src`. `cargo xtask tidy --cycles` prints such lines.
pub(super) const KNOWN: &[(&str, &[&str])] = &[
    (
        "session-bench",
        &[
            "appends.rs",
            "appends/direct.rs",
            "appends/library.rs",
            "appends/raw.rs",
            "appends/rewrite.rs",
            "appends/sqlite.rs",
            "calls.rs",
            "command.rs",
            "history.rs",
            "listing.rs",
            "main.rs",
            "pages.rs",
        ],
    ),
    ("session-storage-file", &["append.rs", "catch_up.rs", "handle.rs", "reader.rs", "store.rs"]),
    ("session-storage-file", &["fault/file.rs", "fault/paths.rs"]),
    ("session-storage-file", &["fault/image.rs", "fault/simulation.rs"]),
    ("session-testkit", &["faulty_storages/mod.rs", "faulty_storages/storage.rs"]),
    ("session-testkit", &["law.rs", "laws/mod.rs", "list.rs"]),
    ("session-storage-engine", &["marks/mod.rs", "marks/table.rs"]),
    ("session-observers", &["progress/bar.rs", "progress/mod.rs", "progress/stderr.rs"]),
    ("sessionctl", &["context.rs", "detach.rs", "error.rs", "term.rs", "verbose.rs"]),
];
