//! Rounds of small programs: when they end, what they count, and that a failure can be had again.

use std::cell::RefCell;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn proof() -> Proof {
    Proof { name: "crash", programs: Vec::new(), size: "--plays 8".into(), harm: "it did harm" }
}

fn shell(script: &str, seed: u64, output: &Path, stop: &AtomicBool) -> io::Result<Ended> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("SEED", seed.to_string());
    watched(command, output, stop)
}

fn output() -> PathBuf {
    let name = format!("soak-test-{}-{:?}", std::process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
    drop(File::create(&path).unwrap());
    path
}

#[test]
fn the_first_failure_ends_it_and_says_how_to_have_that_round_again() {
    let (output, seeds) = (output(), RefCell::new(Vec::new()));
    let run = |seed, path: &Path| {
        seeds.borrow_mut().push(seed);
        let script = if seeds.borrow().len() < 3 { "echo tally: images=20 plays=1" } else { "exit 3" };
        shell(script, seed, path, &AtomicBool::new(false))
    };
    let error = proof().run_rounds(HOUR, 7, &output, run).unwrap_err().to_string();
    let seeds = seeds.into_inner();
    assert_eq!(seeds, [0, 1, 2].map(|round| seed_of(7, round)));
    let again = format!(
        "it did harm in round 3, after 40 images, 2 plays; again: cargo xtask crash --seed {} --plays 8",
        seeds[2]
    );
    assert_eq!(error, again);
    fs::remove_file(output).unwrap();
}

#[test]
fn the_time_ends_it_and_no_round_is_cut_off() {
    let (output, rounds) = (output(), RefCell::new(0));
    let run = |seed, path: &Path| {
        *rounds.borrow_mut() += 1;
        shell("sleep 0.05; echo tally: x=1", seed, path, &AtomicBool::new(false))
    };
    proof().run_rounds(Duration::from_millis(1), 7, &output, run).unwrap();
    assert_eq!(*rounds.borrow(), 1);
    fs::remove_file(output).unwrap();
}

/// Ctrl-C ends what a round has started, those included that would rather not end.
#[test]
fn whoever_stops_it_leaves_nothing_running() {
    let (output, stop) = (output(), AtomicBool::new(false));
    let script = "trap '' INT TERM; sh -c 'trap \"\" INT TERM; echo $$; while :; do sleep 1; done' & wait";
    let said = || fs::read_to_string(&output).unwrap();
    let ended = thread::scope(|scope| {
        let round = scope.spawn(|| shell(script, 1, &output, &stop).unwrap());
        let give_up = Instant::now() + Duration::from_secs(20);
        while !said().ends_with('\n') {
            assert!(Instant::now() < give_up, "it never began");
            thread::sleep(POLL_INTERVAL);
        }
        stop.store(true, Ordering::Relaxed);
        round.join().unwrap()
    });
    assert!(matches!(ended, Ended::Stopped), "{ended:?}");
    let stat = format!("/proc/{}/stat", said().trim());
    let give_up = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < give_up, "it lives on");
        thread::sleep(POLL_INTERVAL);
    }
    fs::remove_file(output).unwrap();
}

#[test]
fn each_round_has_a_seed_of_its_own_and_so_has_each_master() {
    let mut seeds: Vec<u64> =
        (0..50).flat_map(|master| (0..50).map(move |round| seed_of(master, round))).collect();
    assert!(seeds.iter().all(|seed| *seed < 1 << 32));
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 2500);
}

#[test]
fn what_tests_counted_is_added_up() {
    let said = "running 1 test\ntest a ... tally: images=7 plays=2\nok\nnoise=9\ntally: images=3\n";
    assert_eq!(Tally::read(said).to_string(), "10 images, 2 plays");
    assert_eq!(Tally::default().to_string(), "nothing");
}

#[test]
fn the_program_is_the_one_that_cargo_names() {
    let messages = r#"{"reason":"compiler-artifact","manifest_path":"/ws/a/Cargo.toml","target":{"kind":["lib"],"name":"crash"},"executable":null}
not json
{"reason":"compiler-artifact","manifest_path":"/ws/a/Cargo.toml","target":{"kind":["test"],"name":"other"},"executable":"/t/other-1"}
{"reason":"compiler-artifact","manifest_path":"/ws/a/Cargo.toml","target":{"kind":["test"],"name":"crash"},"executable":"/t/crash-1"}"#;
    let found = built(messages, "crash").unwrap();
    assert_eq!(found, Built { program: "/t/crash-1".into(), folder: "/ws/a".into() });
    assert_eq!(built(messages, "kill"), None);
}

#[test]
fn a_time_is_more_than_none() {
    let minutes = |text: &str| minutes(&mut Args::new(text.split(' ').map(str::to_owned)));
    assert_eq!(minutes("--minutes 0.5").unwrap(), Some(Duration::from_secs(30)));
    assert_eq!(minutes("--seed 1").unwrap(), None);
    for wrong in ["--minutes 0", "--minutes -1", "--minutes x", "--minutes nan"] {
        assert!(minutes(wrong).unwrap_err().is::<Usage>(), "{wrong}");
    }
}
