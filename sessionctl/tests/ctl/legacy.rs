//! `import --format`: the stores of older tools.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::support::{self, Fixture};

fn fixture_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-legacy/tests/fixtures").join(path)
}

const STORES: &[(&str, &str, usize, usize)] =
    &[("msw", "msw", 16, 10), ("container", "container/all", 8, 6), ("prodigy", "prodigy", 11, 2)];

/// Paths, modification times and contents of an older tool's store.
fn files(path: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| {
            (path.clone(), path.metadata().unwrap().modified().unwrap(), std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn import(fixture: &Fixture, format: &str, path: &Path, more: &[&str]) -> (Value, Option<i32>) {
    let words = ["import", "--json", "--format", format, path.to_str().unwrap()];
    let ran = fixture.ctl(words.iter().chain(more));
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    (report, ran.code)
}

#[test]
fn a_second_legacy_import_skips_every_session() {
    let fixture = Fixture::new();
    for (format, folder, sessions, unreadable) in STORES {
        let path = fixture_path(folder);
        let before = files(&path);
        let counts = |report: &Value| {
            let count = |name: &str| report[name].as_u64().unwrap();
            (
                count("imported"),
                count("skipped"),
                count("conflicts"),
                report["unreadable"].as_array().unwrap().len(),
            )
        };
        let all = *sessions as u64;
        // A dry run changes nothing.
        let store = fixture.snapshot();
        let (report, code) = import(&fixture, format, &path, &["--dry-run"]);
        assert_eq!((counts(&report), code), ((all, 0, 0, *unreadable), Some(7)), "{report:#}");
        assert!(fixture.snapshot() == store, "a dry run wrote something");
        // Readable entries are imported, unreadable ones are listed with a reason.
        let (report, code) = import(&fixture, format, &path, &[]);
        assert_eq!((counts(&report), code), ((all, 0, 0, *unreadable), Some(7)), "{report:#}");
        for entry in report["unreadable"].as_array().unwrap() {
            assert!(
                !entry["source"].as_str().unwrap().is_empty()
                    && !entry["reason"].as_str().unwrap().is_empty()
            );
        }
        for session in report["sessions"].as_array().unwrap() {
            let shown = fixture.show(session["id"].as_str().unwrap());
            assert_eq!(shown["state"], session["state"]);
            assert_eq!(shown["labels"]["imported-from"], *format);
            assert_eq!((&shown["owner"], &shown["exit_code"]), (&json!(null), &json!(null)));
        }
        // A second import skips everything and changes nothing.
        let store = fixture.snapshot();
        let (report, code) = import(&fixture, format, &path, &[]);
        assert_eq!((counts(&report), code), ((0, all, 0, *unreadable), Some(7)), "{report:#}");
        assert!(fixture.snapshot() == store, "something was written the second time");
        assert_eq!(files(&path), before, "the old store was changed");
    }
    fixture.ctl(["verify"]).exits(0);
    // No owner died, so there is nothing to recover.
    let before = fixture.snapshot();
    fixture.ctl(["recover"]).exits(0);
    assert!(fixture.snapshot() == before, "recovery touched what was imported");
}

#[test]
fn a_legacy_store_without_errors_exits_with_0() {
    let fixture = Fixture::new();
    let path = fixture_path("container/other-version");
    let ran = fixture.ctl(["import", "--format", "container", path.to_str().unwrap()]).exits(0);
    assert!(ran.stdout.contains("1 imported, 0 already there"), "{ran:#?}");
    assert!(ran.stderr.contains("version"), "{ran:#?}");
}

#[test]
fn a_session_changed_since_its_legacy_import_is_a_conflict() {
    let fixture = Fixture::new();
    let path = fixture_path("container/other-version");
    fixture.ctl(["import", "--format", "container", path.to_str().unwrap()]).exits(0);
    fixture.ctl(["cancel", "feature-2025-03-01-001"]).exits(0);
    let before = fixture.snapshot();
    let (report, code) = import(&fixture, "container", &path, &[]);
    assert_eq!((&report["conflicts"], code), (&json!(1), Some(4)));
    assert_eq!(report["sessions"][0]["outcome"], "conflict");
    assert!(fixture.snapshot() == before);
    let ran = fixture.ctl(["import", "--format", "container", path.to_str().unwrap()]).exits(4);
    assert!(ran.stderr.contains("[CONFLICT]"), "{ran:#?}");
}

#[test]
fn legacy_import_prints_the_outcome_of_each_entry() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["import", "--format", "msw", fixture_path("msw").to_str().unwrap()]).exits(7);
    for text in [
        "imported, failed: msw-10000000 from 10000000-0000-4000-8000-000000000005.json",
        "  mapped: its outer status `completed` is ignored: the inner one, `failed`, is used",
        "  kept\n",
        "cut-off.json\n  unreadable: is not JSON: ",
        "16 imported, 0 already there, 0 in conflict; 2 kept, 14 mapped, 10 unreadable",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {ran:#?}");
    }
    assert!(ran.stderr.contains("[CORRUPT]"), "{ran:#?}");
    let terminal = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!ran.stdout.contains(terminal) && !ran.stderr.contains(terminal), "{ran:#?}");
}

/// A session that the old tool was running has no owner here. It can be shown and cancelled like any other.
#[test]
fn running_legacy_sessions_become_paused_and_unowned() {
    let fixture = Fixture::new();
    import(&fixture, "msw", &fixture_path("msw"), &[]);
    let id = "10000000-0000-4000-8000-000000000002";
    let shown = fixture.show(id);
    assert_eq!(
        (&shown["state"], &shown["progress"]["percent"]),
        (&json!("paused"), &json!(40.0)),
        "{shown:#}"
    );
    assert!(shown["reason"].as_str().unwrap().contains("without proof"), "{shown:#}");
    assert_eq!(shown["metadata"]["imported"]["record"]["context"]["cursor"], "page-4");
    fixture.ctl(["why", id]).exits(0);
    fixture.ctl(["cancel", id]).exits(0);
    assert_eq!(fixture.show(id)["state"], "cancelled");
    // A session that never started can be cancelled, too.
    fixture.ctl(["cancel", "10000000-0000-4000-8000-000000000001"]).exits(0);
}

#[test]
fn a_missing_legacy_store_is_rejected_before_any_write() {
    let fixture = Fixture::new();
    for format in ["msw", "container", "prodigy"] {
        fixture.ctl(["import", "--format", format, "no/such/store"]).fails(2, "INVALID_ARGUMENT");
    }
    fixture.ctl(["import", "--format", "zip", "x"]).exits(2);
    fixture.ctl(["import", "--dry-run", "x"]).exits(2);
    assert!(!fixture.store().exists());
}

/// Worktrees are read through git. Without it, each is listed as unreadable and the import continues.
#[test]
fn worktrees_are_listed_as_unreadable_without_git() {
    let fixture = Fixture::new();
    let project = fixture.dir.path().join("project");
    for id in ["40000000-0000-4000-8000-000000000001", "40000000-0000-4000-8000-000000000002"] {
        let worktree = project.join(".worktrees").join(id);
        std::fs::create_dir_all(&worktree).unwrap();
        std::fs::write(worktree.join(".git"), "gitdir: elsewhere\n").unwrap();
    }
    let words = ["import", "--json", "--format", "container", project.to_str().unwrap()];
    let ran = support::run({
        let mut command = fixture.command(words);
        command.env("PATH", fixture.dir.path());
        command
    })
    .exits(7);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["unreadable"].as_array().unwrap().len(), 2, "{report:#}");
    for entry in report["unreadable"].as_array().unwrap() {
        assert!(
            entry["reason"].as_str().unwrap().starts_with("cannot be read: git was not found"),
            "{report:#}"
        );
    }
    assert!(report["warnings"][0].as_str().unwrap().contains("reading the git worktrees"), "{report:#}");
    // An error of git is part of the reason.
    std::fs::write(fixture.dir.path().join("git"), "#!/bin/sh\necho no >&2; exit 3\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(fixture.dir.path().join("git"), mode).unwrap();
    let ran = support::run({
        let mut command = fixture.command(words);
        command.env("PATH", fixture.dir.path());
        command
    })
    .exits(7);
    assert!(ran.stdout.contains("cannot be read: git cannot read the worktree: no"), "{ran:#?}");
}
