//! Rounds of random acts, several at a time: the driver that their tests share.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use session_testkit::random::{Random, seeds};

/// Rounds at the same time: they wait most of the time.
const THREADS: u64 = 4;
/// Attempts of a round in which the machine is too busy to judge it.
const ATTEMPTS: u32 = 20;

/// Runs rounds that are drawn from a seed, and asserts that none is wrong: `rounds`, or the value of
/// `SESSIONCTL_TEST_ROUNDS`. `run` returns `false` where the machine was too
/// busy to judge a round, which is then run again.
pub(crate) fn run_rounds<R: Debug>(
    rounds: u64,
    draw: impl Fn(&mut Random) -> R + Sync,
    run: impl Fn(&R) -> Result<bool, String> + Sync,
) {
    let rounds = std::env::var("SESSIONCTL_TEST_ROUNDS").map_or(rounds, |text| text.parse().unwrap());
    for seed in seeds(1) {
        let next = AtomicU64::new(0);
        let worker = || {
            let mut wrong = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= rounds {
                    return wrong;
                }
                let round = draw(&mut Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number)));
                let judged = (0..ATTEMPTS).map(|_| run(&round)).find(|result| *result != Ok(false));
                if let Err(error) = judged.unwrap_or(Err("the machine was always too busy".to_owned())) {
                    wrong.push(format!("round {number}: {round:?}: {error}"));
                }
            }
        };
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    }
}
