//! The machine against the oracle: every event in every class of lifecycle, every short sequence, random long ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use session_core::EventKind;
use session_core::backend::Lifecycle;

use crate::oracle::{Model, Random, Refusal, both, number, seed};

/// Maps a lifecycle to its class: lifecycles that the rules cannot distinguish, since only the order of numbers matters.
fn class(model: &Model) -> impl Ord + use<> {
    let Model { state, pause, owner, open, pause_pending, resume_pending, cancel_pending, answered, .. } =
        model.clone();
    (
        (model.program, model.missing, model.refused),
        (state, pause, owner, open),
        (pause_pending, resume_pending, cancel_pending, answered),
        (model.attempt.min(2), model.completed.min(2), model.highest - model.completed),
    )
}

/// Returns the machine in each reachable class, found by trying every step in every class.
fn every_class() -> Vec<(Option<Lifecycle>, Model)> {
    let mut seen = BTreeSet::from([class(&Model::NOTHING)]);
    let mut classes = vec![(None, Model::NOTHING)];
    let mut queue = VecDeque::from([(None, Model::NOTHING)]);
    while let Some((life, model)) = queue.pop_front() {
        for step in model.steps() {
            if let Ok((life, model)) = both(life.as_ref(), &model, step, 7)
                && seen.insert(class(&model))
            {
                classes.push((Some(life.clone()), model.clone()));
                queue.push_back((Some(life), model));
            }
        }
    }
    classes
}

#[test]
fn every_event_in_every_reachable_class_follows_the_design() {
    let classes = every_class();
    let (mut tried, mut accepted, mut kinds) = (0, 0, BTreeMap::<_, [u32; 4]>::new());
    for (life, model) in &classes {
        for step in model.steps() {
            tried += 1;
            let outcome = both(life.as_ref(), model, step, 7);
            accepted += u32::from(outcome.is_ok());
            let counts = kinds.entry(step.kind()).or_default();
            counts[match outcome {
                Ok(_) => 0,
                Err(Refusal::Illegal) => 1,
                Err(Refusal::Fenced) => 2,
                Err(Refusal::Attempt) => 3,
            }] += 1;
        }
    }
    println!("{} classes, {tried} events tried, {accepted} accepted", classes.len());
    for (kind, counts) in &kinds {
        println!("{kind:20} accepted, illegal, fenced, wrong attempt: {counts:?}");
    }
    assert_eq!(kinds.len(), EventKind::ALL.len(), "a kind is missing in the oracle's table");
    // Each kind was seen accepted and refused, so that no row of the table went untried.
    assert!(kinds.values().all(|counts| counts[0] > 0 && counts[1] > 0), "{kinds:?}");
    assert!(classes.len() > 300, "only {} classes were reached", classes.len());
}

#[test]
fn the_list_of_allowed_kinds_is_exact() {
    for (life, model) in every_class() {
        let allowed: BTreeSet<&str> =
            Lifecycle::allowed(life.as_ref()).into_iter().map(EventKind::name).collect();
        let mut accepted: BTreeSet<&str> = model
            .steps()
            .into_iter()
            .filter(|step| model.step(*step).is_ok())
            .map(crate::oracle::Step::kind)
            .collect();
        if model.state == "Paused" && model.owner.is_none() {
            // Unowned: the table allows what only the owner may append, and fencing refuses it to every caller.
            assert!(accepted.iter().all(|kind| allowed.contains(kind)), "{model:?}");
            accepted.clone_from(&allowed);
        }
        assert_eq!(allowed, accepted, "{model:?}");
    }
}

#[test]
fn every_sequence_of_up_to_six_events_follows_the_design() {
    /// A refused event changes nothing: only accepted ones lead on.
    fn walk(life: Option<&Lifecycle>, model: &Model, seq: u64, counts: &mut [u64; 2]) {
        for step in model.steps() {
            match both(life, model, step, seq) {
                Err(_) => counts[1] += 1,
                Ok((life, model)) => {
                    counts[0] += 1;
                    if seq < 6 {
                        walk(Some(&life), &model, seq + 1, counts);
                    }
                }
            }
        }
    }
    let mut counts = [0, 0];
    walk(None, &Model::NOTHING, 1, &mut counts);
    println!("{} sequences accepted, {} refused at their last event", counts[0], counts[1]);
    assert!(counts[0] > 100_000, "{counts:?}");
}

/// `SESSION_MACHINE_SEQUENCES` sets the number, `SESSION_SEED` the seed; `cargo xtask proofs` runs 10 million.
#[test]
fn random_sequences_follow_the_design() {
    const LENGTH: u64 = 20;
    let sequences = number("SESSION_MACHINE_SEQUENCES").unwrap_or(100_000);
    let first = seed();
    let start = std::time::Instant::now();
    let (mut accepted, mut refused, mut ended) = (0u64, 0u64, 0u64);
    for sequence in 0..sequences {
        let seed = first.wrapping_add(sequence);
        let outcome = std::panic::catch_unwind(|| {
            let mut random = Random(seed);
            let (mut accepted, mut refused) = (0, 0);
            let (mut life, mut model) = (None, Model::NOTHING);
            for seq in 1..=LENGTH {
                // The first two events of most sequences are the ones that every session begins with.
                let begin = seq <= 2 && random.below(8) != 0;
                let step = if begin { model.beginning() } else { model.random_step(&mut random) };
                match both(life.as_ref(), &model, step, seq) {
                    Ok((next, judged)) => {
                        (life, model) = (Some(next), judged);
                        accepted += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            (accepted, refused, u64::from(model.is_final()))
        });
        match outcome {
            Ok((more, less, end)) => {
                (accepted, refused, ended) = (accepted + more, refused + less, ended + end);
            }
            Err(panic) => {
                eprintln!("SESSION_SEED={seed} SESSION_MACHINE_SEQUENCES=1 shows this again");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{sequences} sequences of {LENGTH} events in {:.1?}, seed {first}: {accepted} accepted, {refused} refused, \
         {ended} sequences reached an end; 0 illegal accepted, 0 legal refused",
        start.elapsed()
    );
    assert!(accepted > sequences && refused > sequences, "the sequences try nothing");
}
