//! Each target on valid, mutated and trivial inputs.

use session_fuzz::{InputOutcome, REPAIR, TARGETS, corpus, mutate};

/// Mutated inputs of each target. `cargo xtask fuzz` runs more.
const CASES: u64 = 250;

#[test]
fn valid_inputs_are_accepted() {
    for target in TARGETS {
        for (at, input) in corpus::of(target.name).iter().enumerate() {
            let outcome = (target.run)(input);
            assert_eq!(outcome, InputOutcome::Accepted, "{} {at}", target.name);
        }
    }
}

/// Correcting checksums does not change correct ones.
#[test]
fn repairing_a_valid_input_keeps_it_valid() {
    for target in TARGETS {
        for (at, input) in corpus::of(target.name).iter().enumerate() {
            let mut input = input.clone();
            input[0] |= REPAIR;
            assert_eq!((target.run)(&input), InputOutcome::Accepted, "{} {at}", target.name);
        }
    }
}

#[test]
fn trivial_inputs_do_not_panic() {
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
            let outcomes: Vec<InputOutcome> =
                (1..=CASES).map(|seed| {
                    let input = mutate::input(stringify!($target), seed);
                    let outcome = std::panic::catch_unwind(|| session_fuzz::targets::$target(&input));
                    outcome.unwrap_or_else(|_| panic!("cargo xtask fuzz {} --seed {seed} --cases 1", stringify!($target)))
                }).collect();
            // The mutation is only useful if it gives both accepted and refused inputs.
            for outcome in [InputOutcome::Accepted, InputOutcome::Refused] {
                let count = outcomes.iter().filter(|found| **found == outcome).count();
                assert!(count > 0, "{count} of {CASES} are {outcome:?}");
            }
        }
    )+};
}

cases!(record_line whole_log slot export_stream names report_socket legacy_store);

#[test]
fn a_seed_determines_the_input() {
    assert_eq!(TARGETS.len(), 7);
    for target in TARGETS {
        assert_eq!(mutate::input(target.name, 7), mutate::input(target.name, 7));
        assert_ne!(mutate::input(target.name, 7), mutate::input(target.name, 8));
    }
}
