//! Process trees whose owner, supervisor, or both are killed at random points, and thousands of short sessions: no
//! process keeps running, and no file is left behind.
//!
//! `SESSION_TREE_ROUNDS` sets the number of trees, `SESSION_TREE_SEED` the random points, `SESSION_MANY` the number of
//! short sessions. A failure prints the seed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

#[path = "trees/tree.rs"]
mod tree;
#[path = "trees/trees_support.rs"]
mod trees_support;

use std::time::{Duration, Instant};

use serde_json::Value;
use tree::{Tree, wait_until_gone, wait_until_supervised_are_gone};
use trees_support::{Ran, SeededRandom, TreesFixture, number};

/// Number of trees that are killed concurrently.
const BATCH: u64 = 8;

/// Times from the kill of each tree to its end, for the test output.
#[derive(Default)]
struct Durations(Vec<Duration>);

impl Durations {
    fn print(&mut self, what: &str) {
        self.0.sort_unstable();
        let millis =
            |share: usize| self.0.get((self.0.len().max(1) - 1) * share / 100).map_or(0, Duration::as_millis);
        eprintln!(
            "{what}: {trees} trees ended, median {} ms, 99 % {} ms, longest {} ms\ntally: trees={trees}",
            millis(50),
            millis(99),
            millis(100),
            trees = self.0.len()
        );
    }
}

/// `kill -9` of the owner at any time after its start: its supervisor ends the process tree, except for processes in a
/// session of their own.
#[test]
fn killing_the_owner_ends_its_process_tree() {
    let fixture = TreesFixture::new();
    let rounds = number("SESSION_TREE_ROUNDS", 16);
    let mut random = SeededRandom::seeded("SESSION_TREE_SEED");
    let mut durations = Durations::default();
    let mut early = 0;
    for batch in 0..rounds.div_ceil(BATCH) {
        let case = format!("SESSION_TREE_SEED={} batch {batch}", random.seed);
        let trees: Vec<Tree> = (0..BATCH.min(rounds - batch * BATCH))
            .map(|at| {
                let moment = match random.below(4) {
                    0 => Moment::After(Duration::from_micros(random.below(15_000))),
                    1 => Moment::After(Duration::from_micros(random.below(150_000))),
                    2 => Moment::Ready(Duration::from_micros(random.below(1_000))),
                    _ => Moment::Ready(Duration::from_micros(random.below(50_000))),
                };
                (format!("tree-{batch}-{at}"), moment)
            })
            .map(|(name, moment)| {
                let mut tree = Tree::start(&fixture, &name, tree::Members::All);
                tree.kill_owner_at(moment);
                tree
            })
            .collect();
        let trees: Vec<Tree> = trees.into_iter().map(Tree::wait_killed).collect();
        durations.0.extend(wait_until_supervised_are_gone(&trees, &case));
        TreesFixture::reap_orphans();
        TreesFixture::assert_only_supervisors_orphaned(&case);
        let list = fixture.list();
        for tree in &trees {
            match find(&list, &tree.name) {
                Some(session) => assert_eq!(session["status"], "crashed", "{case}: {session}"),
                None => early += 1,
            }
        }
        fixture
            .ctl(&["recover", "--policy", ["pause", "fail"][usize::try_from(random.below(2)).unwrap()]])
            .exits(0);
        for session in fixture.json(&["ls"]).as_array().unwrap() {
            let paused = ["crashed", "interrupted"].contains(&session["status"].as_str().unwrap_or_default());
            // The owner died before the start, so there is nothing to pause.
            let unbegun = session["state"] == "created" && session["status"] == "crashed";
            assert!(paused || unbegun, "{case}: {session}");
            fixture.ctl(&["cancel", session["id"].as_str().unwrap()]).exits(0);
        }
    }
    durations.print("owner killed");
    eprintln!("owner killed: {early} before the session existed");
    fixture.assert_empty_after_gc(random.seed);
}

/// After `kill -9` of the supervisor, the owner finds and ends the processes of the tree, and records that the outcome
/// of the program is unknown.
#[test]
fn the_owner_ends_the_tree_of_a_killed_supervisor() {
    let fixture = TreesFixture::new();
    let rounds = number("SESSION_TREE_ROUNDS", 16).div_ceil(4);
    let mut random = SeededRandom::seeded("SESSION_TREE_SEED");
    let mut durations = Durations::default();
    for batch in 0..rounds.div_ceil(BATCH) {
        let case = format!("SESSION_TREE_SEED={} batch {batch}", random.seed);
        let trees: Vec<Tree> = (0..BATCH.min(rounds - batch * BATCH))
            .map(|at| Tree::start(&fixture, &format!("tree-{batch}-{at}"), tree::Members::Marked))
            .collect();
        let mut killed = Vec::new();
        for mut tree in trees {
            tree.wait_until_ready();
            std::thread::sleep(Duration::from_micros(random.below(2_000)));
            tree.kill_supervisor();
            killed.push(tree);
        }
        durations.0.extend(wait_until_gone(&killed, &case));
        for tree in killed {
            let name = tree.name.clone();
            let Ran { code, stderr, .. } = tree.wait_ended();
            assert_eq!(code, Some(1), "{case}: {stderr}");
            let shown = fixture.show(&name);
            assert_eq!(
                (&shown["state"], &shown["error"]["cause"]),
                (&"failed".into(), &"crash".into()),
                "{case}: {shown}"
            );
        }
        TreesFixture::wait_for_orphans(&case);
    }
    durations.print("supervisor killed");
    fixture.assert_empty_after_gc(random.seed);
}

/// With owner and supervisor both killed, no process was left that knew the tree: it used to keep running, and `resume`
/// ran the command a second time next to it. Now the next command that ends or resumes the session ends the leftovers
/// first, and unrelated processes that resemble them are not signalled.
#[test]
fn the_next_command_ends_leftovers_of_a_double_kill() {
    let fixture = TreesFixture::new();
    let rounds = number("SESSION_TREE_ROUNDS", 16).div_ceil(8).max(6);
    let mut random = SeededRandom::seeded("SESSION_TREE_SEED");
    let mut durations = Durations::default();
    for round in 0..rounds {
        let case = format!("SESSION_TREE_SEED={} round {round}", random.seed);
        let name = format!("tree-{round}");
        let mut tree = Tree::start(&fixture, &name, tree::Members::Marked);
        tree.wait_until_ready();
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
        let socket = tree.socket();
        tree.kill_both();
        let tree = tree.wait_killed();
        let left = tree.live_processes();
        assert!(left.len() > 4, "{case}: the tree ended without a supervisor: {left:?}");
        let id = fixture.show(&name)["id"].as_str().unwrap().to_owned();
        assert_eq!(fixture.show(&name)["status"], "crashed", "{case}");
        let unrelated = [
            // A user's shell with the id of the session in its environment.
            TreesFixture::unrelated_process(&[("SESSIONCTL_SESSION", &id)]),
            // A process of another session whose owner is dead, too.
            TreesFixture::unrelated_process(&[
                ("SESSIONCTL_SESSION", "4b1f6a34-96a0-4c8e-a4f2-6f2f1f6a3c11"),
                ("SESSIONCTL_SOCKET", &socket),
            ]),
            // A process of the same session with a live owner.
            TreesFixture::unrelated_process(&[
                ("SESSIONCTL_SESSION", &id),
                ("SESSIONCTL_SOCKET", &fixture.own_socket()),
            ]),
        ];
        let before = Instant::now();
        match round % 6 {
            0 => drop(fixture.ctl(&["recover", "--policy", "fail"]).exits(0)),
            1 => drop(fixture.ctl(&["recover", "--policy", "pause"]).exits(0)),
            2 => drop(fixture.ctl(&["cancel", &id]).exits(0)),
            3 => drop(fixture.ctl(&["rm", &id]).exits(0)),
            4 => drop(fixture.ctl(&["gc", "--older-than", "0s"]).exits(0)),
            _ => {
                let mut again = Tree::resume(&fixture, &tree);
                again.wait_until_ready();
                let both = again.live_processes();
                assert!(
                    left.iter().all(|process| !both.contains(process)),
                    "{case}: it runs twice: {left:?} {both:?}"
                );
                fixture.ctl(&["cancel", &id, "--force"]).exits(0);
                again.wait_ended();
            }
        }
        assert_eq!(tree.live_processes(), [], "{case}: after {:?}", before.elapsed());
        durations.0.push(before.elapsed());
        for unrelated_process in unrelated {
            assert!(unrelated_process.survived(), "{case}: an unrelated process was signalled");
        }
        TreesFixture::reap_orphans();
        fixture.ctl(&["recover", "--policy", "fail"]).exits(0);
    }
    durations.print("owner and supervisor killed");
    fixture.assert_empty_after_gc(random.seed);
}

/// The supervisor of a killed owner ends the tree within a second or two. The session's end used to be recorded before
/// that, so that a next attempt could run next to it; and for ever before it, if the supervisor was stopped.
#[test]
fn the_end_of_an_orphan_is_recorded_after_its_tree() {
    let fixture = TreesFixture::new();
    let random = SeededRandom::seeded("SESSION_TREE_SEED");
    let ways: [&[&str]; 4] =
        [&["cancel"], &["rm"], &["recover", "--policy", "fail"], &["gc", "--older-than", "0s"]];
    for (round, way) in ways.iter().enumerate() {
        for stop_supervisor in [false, true] {
            let case = format!("{way:?} stopped {stop_supervisor}");
            let name = format!("tree-{round}-{stop_supervisor}");
            let mut tree = Tree::start(&fixture, &name, tree::Members::All);
            tree.wait_until_ready();
            tree.kill_owner(stop_supervisor);
            let tree = tree.wait_killed();
            let needs_id = ["cancel", "rm"].contains(&way[0]);
            let args: Vec<&str> = way.iter().copied().chain(needs_id.then_some(name.as_str())).collect();
            fixture.ctl(&args).exits(0);
            assert_eq!(tree.supervised_processes(), [], "{case}");
            wait_until_supervised_are_gone(&[tree], &case);
            TreesFixture::wait_for_orphans(&case);
        }
    }
    fixture.assert_empty_after_gc(random.seed);
}

/// Short sessions in sequence, then many concurrently: each has the outcome of its program.
#[test]
fn thousands_of_sessions_leave_nothing_behind() {
    let fixture = TreesFixture::new();
    let many = number("SESSION_MANY", 30);
    let concurrent = (many / 20).max(10);
    let started = Instant::now();
    for number in 0..many {
        let code = i32::from(number % 10 == 9) * 7;
        fixture
            .ctl(&["run", "--name", &format!("row-{number}"), "--", "sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    eprintln!("{many} in sequence: {} ms each", started.elapsed().as_millis() / u128::from(many));
    fixture.assert_clean("in sequence");
    let started = Instant::now();
    let running: Vec<_> = (0..concurrent)
        .map(|number| {
            fixture.spawn(&["run", "--", "sh", "-c", &format!("echo {number}; exit {}", number % 3)])
        })
        .collect();
    for (number, running) in (0..concurrent).zip(running) {
        let ran = running.end().exits(i32::try_from(number % 3).unwrap());
        assert_eq!(ran.stdout, format!("{number}\n"));
    }
    eprintln!(
        "{concurrent} concurrently: {} ms\ntally: sessions={}",
        started.elapsed().as_millis(),
        many + concurrent
    );
    let list = fixture.list();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), usize::try_from(many + concurrent).unwrap());
    for session in list {
        let state = if session["exit_code"] == 0 { "completed" } else { "failed" };
        assert_eq!(session["state"], state, "{session}");
        assert!(session["exit_code"].is_i64() && session["owner"].is_null(), "{session}");
    }
    let names: std::collections::HashSet<_> =
        list.iter().map(|session| session["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), list.len(), "automatic names are unique");
    let failed = list.iter().filter(|session| session["state"] == "failed").count();
    let expected = many / 10 + (0..concurrent).filter(|number| number % 3 != 0).count() as u64;
    assert_eq!(failed as u64, expected);
    assert_eq!(fixture.json(&["ls"]), Value::Array(Vec::new()));
    fixture.ctl(&["verify"]).exits(0);
    fixture.assert_clean("concurrently");
    fixture.assert_empty_after_gc(0);
}

/// The moment at which an owner is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// This long after its start.
    After(Duration),
    /// This long after its tree was complete.
    Ready(Duration),
}

fn find<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array().unwrap().iter().find(|session| session["name"] == name)
}
