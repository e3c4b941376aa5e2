//! Each target on valid inputs, on a fixed number of others, and on none; and that its assertions can fail.

use session_fuzz::{Fate, REPAIR, TARGETS, corpus, mutate};

/// Cases of each target in a test run; `cargo xtask fuzz` runs as many as one likes.
const CASES: u64 = 250;

#[test]
fn what_is_valid_is_accepted() {
    for target in TARGETS {
        for (at, input) in corpus::of(target.name).iter().enumerate() {
            let fate = (target.run)(input);
            assert_eq!(fate, Fate::Accepted, "{} {at}", target.name);
        }
    }
}

/// Putting the sums right changes nothing where they are.
#[test]
fn what_is_repaired_and_was_right_is_accepted() {
    for target in TARGETS {
        for (at, input) in corpus::of(target.name).iter().enumerate() {
            let mut input = input.clone();
            input[0] |= REPAIR;
            assert_eq!((target.run)(&input), Fate::Accepted, "{} {at}", target.name);
        }
    }
}

#[test]
fn nothing_at_all_is_no_harm() {
    for target in TARGETS {
        for input in [&[][..], &[0], &[REPAIR | 3, 1], &[0xff; 9], b"\0\0\0\n\n"] {
            (target.run)(input);
        }
    }
}

macro_rules! cases {
    ($($target:ident)+) => {$(
        #[test]
        fn $target() {
            let fates: Vec<Fate> =
                (1..=CASES).map(|seed| {
                    let input = mutate::input(stringify!($target), seed);
                    let fate = std::panic::catch_unwind(|| session_fuzz::targets::$target(&input));
                    fate.unwrap_or_else(|_| panic!("cargo xtask fuzz {} --seed {seed} --cases 1", stringify!($target)))
                }).collect();
            // Inputs that are all refused, or all accepted, show little.
            for fate in [Fate::Accepted, Fate::Refused] {
                let count = fates.iter().filter(|found| **found == fate).count();
                assert!(count > 0, "{count} of {CASES} are {fate:?}");
            }
        }
    )+};
}

cases!(record_line whole_log slot export_stream names report_socket legacy_store);

#[test]
fn a_seed_means_one_input_and_all_targets_are_tested() {
    assert_eq!(TARGETS.len(), 7);
    for target in TARGETS {
        assert_eq!(mutate::input(target.name, 7), mutate::input(target.name, 7));
        assert_ne!(mutate::input(target.name, 7), mutate::input(target.name, 8));
    }
}
