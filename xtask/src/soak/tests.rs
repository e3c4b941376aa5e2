//! Rounds of small programs: their end, their seeds, and the command that repeats a failure.

use std::cell::RefCell;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn proof() -> Proof {
    let programs = vec![Program::test("a", "crash", Seed::Variable("SEED"))];
    Proof { command: "crash".into(), programs, size: "--plays 8".into(), failure: "it did harm" }
}

fn shell(script: &str, seed: u64, output: &Path, stop: &AtomicBool) -> io::Result<RoundEnd> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("SEED", seed.to_string());
    run_watched(command, output, stop)
}

fn output() -> PathBuf {
    let name = format!("soak-test-{}-{:?}", std::process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
    drop(File::create(&path).unwrap());
    path
}

#[test]
fn the_first_failure_ends_it_with_its_reproduction() {
    let (output, seeds) = (output(), RefCell::new(Vec::new()));
    let run = |seed, path: &Path| {
        seeds.borrow_mut().push(seed);
        let script = if seeds.borrow().len() < 3 { "echo tally: images=20 plays=1" } else { "exit 3" };
        shell(script, seed, path, &AtomicBool::new(false))
    };
    let error = proof().run_rounds(HOUR, 7, &output, run).unwrap_err().to_string();
    let seeds = seeds.into_inner();
    assert_eq!(seeds, [0, 1, 2].map(|round| round_seed(7, round)));
    let again = format!(
        "it did harm in round 3, after 40 images, 2 plays; again: cargo xtask crash --seed {} --plays 8",
        seeds[2]
    );
    assert_eq!(error, again);
    fs::remove_file(output).unwrap();
}

#[test]
fn the_time_limit_ends_it_between_rounds() {
    let (output, rounds) = (output(), RefCell::new(0));
    let run = |seed, path: &Path| {
        *rounds.borrow_mut() += 1;
        shell("sleep 0.05; echo tally: x=1", seed, path, &AtomicBool::new(false))
    };
    proof().run_rounds(Duration::from_millis(1), 7, &output, run).unwrap();
    assert_eq!(*rounds.borrow(), 1);
    fs::remove_file(output).unwrap();
}

/// Ctrl-C also ends children that ignore the signal.
#[test]
fn a_stopped_round_leaves_nothing_running() {
    let (output, stop) = (output(), AtomicBool::new(false));
    let script = "trap '' INT TERM; sh -c 'trap \"\" INT TERM; echo $$; while :; do sleep 1; done' & wait";
    let printed = || fs::read_to_string(&output).unwrap();
    let end = thread::scope(|scope| {
        let round = scope.spawn(|| shell(script, 1, &output, &stop).unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !printed().ends_with('\n') {
            assert!(Instant::now() < deadline, "the round did not start");
            thread::sleep(POLL_INTERVAL);
        }
        stop.store(true, Ordering::Relaxed);
        round.join().unwrap()
    });
    assert!(matches!(end, RoundEnd::Stopped), "{end:?}");
    let stat = format!("/proc/{}/stat", printed().trim());
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "a child survived");
        thread::sleep(POLL_INTERVAL);
    }
    fs::remove_file(output).unwrap();
}

#[test]
fn seeds_of_rounds_and_of_masters_are_distinct() {
    let mut seeds: Vec<u64> =
        (0..50).flat_map(|master| (0..50).map(move |round| round_seed(master, round))).collect();
    assert!(seeds.iter().all(|seed| *seed < 1 << 32));
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 2500);
}

#[test]
fn minutes_must_be_positive() {
    let minutes = |text: &str| minutes(&mut Args::new(text.split(' ').map(str::to_owned)));
    assert_eq!(minutes("--minutes 0.5").unwrap(), Some(Duration::from_secs(30)));
    assert_eq!(minutes("--seed 1").unwrap(), None);
    for wrong in ["--minutes 0", "--minutes -1", "--minutes x", "--minutes nan"] {
        assert!(minutes(wrong).unwrap_err().is::<Usage>(), "{wrong}");
    }
}
