//! Copying a store into another one: `migrate`.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use session_testkit::random::Random;
use sessionkit::SessionConfig;

use crate::support::{self, Fixture};

/// The log and the output of each session, byte for byte.
fn contents(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for session in std::fs::read_dir(store.join("sessions")).into_iter().flatten() {
        let session = session.unwrap().path();
        for (name, bytes) in support::log_and_output(&session) {
            all.push((Path::new(session.file_name().unwrap()).join(name), bytes));
        }
    }
    all.sort();
    all
}

/// The counts of a migration, without the sessions that were not copied.
fn numbers(report: &Value) -> [u64; 3] {
    ["copied", "already_there", "records"].map(|name| report[name].as_u64().unwrap())
}

/// Deletes a store of any backend, if it exists.
fn delete_store(store: &Path) {
    for suffix in ["", "-wal", "-shm", "-files"] {
        let mut path = store.as_os_str().to_owned();
        path.push(suffix);
        let path = Path::new(&path);
        let gone = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        assert!(gone.is_ok() || !path.exists(), "{} stays: {gone:?}", path.display());
    }
}

fn migrate(from: &Fixture, to: &Fixture) -> Value {
    from.json(["migrate", "--to", &to.url()])
}

#[test]
fn migrated_sessions_are_byte_identical() {
    let (here, there) = (Fixture::new(), Fixture::new());
    for n in 0..5 {
        let script = format!("printf 'out {n}\\0\\033\\n'; echo err {n} >&2; exit {}", n % 3);
        here.ctl(["run", "--name", &format!("program-{n}"), "--", "sh", "-c", &script]).exits(n % 3);
    }
    for n in 0..20 {
        here.completed(SessionConfig::new("import").name(format!("work-{n}")));
    }
    here.crashed(SessionConfig::new("import").name("crashed"));
    let before = here.snapshot();
    let report = migrate(&here, &there);
    assert_eq!(
        (&report["copied"], &report["already_there"], &report["left"]),
        (&json!(26), &json!(0), &json!([]))
    );
    assert!(report["output_bytes"].as_u64().unwrap() >= 5 * 14, "{report}");
    assert!(contents(here.store().as_path()) == contents(there.store().as_path()), "the stores differ");
    assert!(here.snapshot() == before, "the source was changed");
    there.ctl(["verify"]).exits(0);
    assert_eq!(here.ctl(["logs", "program-4"]).stdout, there.ctl(["logs", "program-4"]).stdout);
    // A second migration compares all sessions and changes none.
    let copied = there.snapshot();
    let again = migrate(&here, &there);
    assert_eq!(numbers(&again), [0, 26, numbers(&report)[2]]);
    assert!(there.snapshot() == copied, "something was written");
}

/// Kills migrations at random moments until `times` of them did not finish, and calls `inspect` after each.
///
/// The first migration runs to its end, to measure the time that one takes here. After one that finished before its
/// kill, the next starts with an empty target. If it had started with an empty target itself, later kills come earlier,
/// so that this loop ends on any machine.
fn kill_repeatedly(
    times: u32,
    random: &mut Random,
    migrate: impl Fn() -> Command,
    delete_store: impl Fn(),
    mut inspect: impl FnMut(),
) {
    let begin = Instant::now();
    crate::support::run(migrate()).exits(0);
    let mut longest = begin.elapsed();
    delete_store();
    let (mut left, mut empty) = (times, true);
    while left > 0 {
        let mut child = migrate().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A random delay before the kill; nothing depends on its length.
        std::thread::sleep(longest * u32::try_from(random.below(1_000)).unwrap() / 1_000);
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        inspect();
        if ended.signal() == Some(rustix::process::Signal::KILL.as_raw()) {
            left -= 1;
        } else {
            assert!(ended.success(), "{ended}");
            longest = longest.mul_f64(if empty { 0.9 } else { 1.0 });
        }
        empty = ended.success() || random.one_in(8);
        if empty {
            delete_store();
        }
    }
}

/// Killed at any point, it is completed by the next migration with the same result.
#[test]
fn a_killed_migration_is_completed_by_the_next() {
    let here = Fixture::new();
    for n in 0..40 {
        here.completed(SessionConfig::new("import").name(format!("work-{n}")));
    }
    here.ctl(["run", "--", "sh", "-c", "yes | head -c 300000"]).exits(0);
    let expected = contents(&here.store());
    let there = Fixture::new();
    let inspect = || {
        for (path, bytes) in contents(&there.store()) {
            let complete = &expected.iter().find(|(known, _)| *known == path).expect("no other files").1;
            let output = path.components().any(|part| part.as_os_str() == "output");
            assert!(output || bytes == *complete, "{path:?}");
        }
    };
    let migration = || here.command(["migrate", "--to", &there.url()]);
    kill_repeatedly(50, &mut Random::new(11), migration, || delete_store(&there.store()), inspect);
    let report = migrate(&here, &there);
    assert_eq!(report["copied"].as_u64().unwrap() + report["already_there"].as_u64().unwrap(), 41);
    assert!(contents(&there.store()) == expected, "the stores differ");
    there.ctl(["verify"]).exits(0);
}

/// Sessions migrated from backend to backend, each time after many killed migrations: the last export equals the first.
#[test]
fn killed_migrations_between_backends_lose_nothing() {
    let here = Fixture::new();
    for n in 0..30 {
        here.completed(SessionConfig::new("import").name(format!("work-{n}")));
    }
    here.ctl(["run", "--", "sh", "-c", "yes | head -c 200000"]).exits(0);
    let path = |name: &str| here.dir.path().join(name);
    let at = |scheme: &str, name: &str| (format!("{scheme}:{}", path(name).display()), path(name));
    let stores = [(here.url(), here.store()), at("sqlite", "sqlite"), at("sled", "sled"), at("file", "last")];
    let mut random = Random::new(5);
    for hop in stores.windows(2) {
        let [(from, _), (to, path)] = hop else { unreachable!("windows of two") };
        let migrate = || here.command(["--store", from, "migrate", "--to", to]);
        kill_repeatedly(17, &mut random, migrate, || delete_store(path), || ());
        crate::support::run(migrate()).exits(0);
        crate::support::run(here.command(["--store", to, "verify"])).exits(0);
    }
    let export = |url: &str| crate::support::run(here.command(["--store", url, "export"])).exits(0).stdout;
    let first = export(&stores[0].0);
    for (url, _) in &stores[1..] {
        assert!(export(url) == first, "{url} differs");
    }
    assert!(contents(&here.store()) == contents(&path("last")), "the stores differ");
}

#[test]
fn migrate_reports_sessions_with_live_owners() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let ended = here.completed(SessionConfig::new("import")).to_string();
    let live = here.owner(SessionConfig::new("import"));
    let ran = here.ctl(["migrate", "--to", &there.url()]).exits(4);
    assert!(ran.stderr.contains("[CONFLICT]") && ran.stderr.contains(&live.id.to_string()), "{ran:#?}");
    let list = there.json(["ls", "--all"]);
    assert_eq!(list.as_array().unwrap().iter().map(|one| &one["id"]).collect::<Vec<_>>(), [&json!(ended)]);
}

#[test]
fn one_conflicting_or_damaged_session_does_not_block_the_others() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let diverged = here.crashed(SessionConfig::new("import").name("went-on")).to_string();
    assert_eq!(numbers(&migrate(&here, &there))[0], 1);
    there.ctl(["cancel", &diverged]).exits(0);
    let bad = here.completed(SessionConfig::new("import")).to_string();
    let good = here.completed(SessionConfig::new("import")).to_string();
    let log = here.store().join("sessions").join(&bad).join("events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("\"started\"", "\"startEd\"", 1)).unwrap();
    let ran = here.ctl(["migrate", "--to", &there.url(), "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut left: Vec<_> = report["left"].as_array().unwrap().iter().collect();
    left.sort_by_key(|one| one["code"].as_str().unwrap().to_owned());
    assert_eq!(
        left.iter().map(|one| (&one["id"], &one["code"])).collect::<Vec<_>>(),
        [(&json!(diverged), &json!("CONFLICT")), (&json!(bad), &json!("CORRUPT"))]
    );
    assert!(matches!(ran.code, Some(4 | 7)), "{ran:#?}");
    assert_eq!(there.show(&good)["state"], "completed");
}

#[test]
fn migrate_rejects_an_invalid_target() {
    let here = Fixture::new();
    here.completed(SessionConfig::new("import"));
    here.ctl(["migrate", "--to", &here.url()]).fails(2, "INVALID_ARGUMENT");
    here.ctl(["migrate", "--to", "memory:"]).fails(2, "INVALID_ARGUMENT");
    here.ctl(["migrate", "--to", "nowhere"]).fails(2, "INVALID_ARGUMENT");
    here.ctl(["migrate"]).exits(2);
}
