//! Kills of the owner of an `each`: no recorded item runs again, and none is missing.

use std::process::{Child, Stdio};
use std::time::Duration;

use session_testkit::random::Random;

use crate::fixture::{Fixture, eventually, kill};

const ITEMS: usize = 400;
const JOBS: usize = 4;
const KILLS: u32 = 8;

/// Each command writes what it does before and after.
const SCRIPT: &str = "seq 400 | sessionctl each work --jobs 4 --keep-going -- sh -c '
    echo $1 >>began; sleep 0.0$(($1 % 10)); echo $1 >>ended' x";

fn resume(fixture: &Fixture) -> Child {
    let mut command = fixture.command(&["resume", "--quiet", "it"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn recorded_items_of_killed_owners_are_not_run_again() {
    for scheme in ["file", "sqlite"] {
        let mut random = Random::new(11);
        let fixture = Fixture::on(scheme);
        let mut owner = fixture.spawn(SCRIPT);
        let mut kills = 0;
        while kills < KILLS {
            let began = fixture.read("began").lines().count();
            eventually("further items", || {
                fixture.read("began").lines().count() > began || owner.try_wait().unwrap().is_some()
            });
            std::thread::sleep(Duration::from_millis(50 + random.below(200) as u64));
            if owner.try_wait().unwrap().is_some() {
                break;
            }
            kill(owner);
            kills += 1;
            let each = fixture.json(&["steps", "it"])["eaches"][0].clone();
            let open = each["running"].as_u64().unwrap() + each["unknown"].as_u64().unwrap();
            assert!(open <= JOBS as u64, "{scheme}: {each}");
            owner = resume(&fixture);
        }
        assert!(owner.wait().unwrap().success(), "{scheme}");
        assert!(kills > 2, "{scheme}: it has ended after {kills} kills");
        let each = fixture.json(&["steps", "it"])["eaches"][0].clone();
        assert_eq!((&each["done"], &each["total"]), (&ITEMS.into(), &ITEMS.into()), "{scheme}: {each}");
        // An item that has ended, and was not recorded, runs again: at most one for each job and kill.
        let text = fixture.read("ended");
        let mut ended: Vec<&str> = text.lines().collect();
        ended.sort_unstable();
        let runs = ended.len();
        ended.dedup();
        assert_eq!(ended.len(), ITEMS, "{scheme}");
        assert!(runs <= ITEMS + JOBS * kills as usize, "{scheme}: {runs} runs, {kills} kills");
    }
}
